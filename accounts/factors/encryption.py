"""What has to be read again and must not lie in the database in the clear. Follows SECRET_KEY when that is rotated.

Each purpose has a key of its own, derived from SECRET_KEY, so a value cannot be moved to another row. Older keys in
SECRET_KEY_FALLBACKS still open; `renew` puts a value under the present one. Once a key is gone, so is what it closed.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class UndecipherableError(ValueError):
    """Not made by `encrypt` for this purpose, or under a key that is gone."""


def encrypt(text: str, purpose: str) -> str:
    """Return the text so that only `decrypt` with the same purpose can read it."""
    return _ciphers(purpose)[0].encrypt(text.encode()).decode()


def decrypt(token: str, purpose: str) -> str:
    """Return the text. Raises UndecipherableError."""
    try:
        return MultiFernet(_ciphers(purpose)).decrypt(token.encode()).decode()
    except InvalidToken:
        raise UndecipherableError("No key of ours opens this.") from None


def renew(token: str, purpose: str) -> str:
    """Return the token itself if the present key opens it, else its text under that key. Raises UndecipherableError."""
    try:
        _ciphers(purpose)[0].decrypt(token.encode())
    except InvalidToken:
        return encrypt(decrypt(token, purpose), purpose)
    return token


def _ciphers(purpose: str) -> list[Fernet]:
    """Return one for each key, the present first."""
    info = f"accounts.factors.encryption {purpose}".encode()
    return [
        Fernet(urlsafe_b64encode(HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key.encode())))
        for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    ]
