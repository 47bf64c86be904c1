"""Codes from an authenticator app: RFC 6238 as all such apps know it, SHA-1, 6 digits, 30 seconds.

A code of the present 30 seconds or the ones beside counts, since clocks differ and people type slowly; none counts
twice, nor one that is older than a code that was used.
"""

from __future__ import annotations

import base64
import hmac
import logging
import re
import secrets
import time
from urllib.parse import quote, urlencode

from django.conf import settings
from django.utils import timezone

from accounts.factors import encryption
from accounts.models import Totp, User

PERIOD = 30
DIGITS = 6
DRIFT = 1
"""Steps that the app's clock may be ahead or behind."""

logger = logging.getLogger(__name__)


def new_secret() -> str:
    """Return a secret for an app, as people type it: 160 bits in base32."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def uri(user: User, secret: str) -> str:
    """Return what the QR code says: the address of the secret, which an app opens."""
    label = quote(f"{settings.SITE_NAME}:{user.email}")
    query = {"secret": secret, "issuer": settings.SITE_NAME, "algorithm": "SHA1", "digits": DIGITS, "period": PERIOD}
    return f"otpauth://totp/{label}?{urlencode(query, quote_via=quote)}"


def code_at(secret: str, step: int, digits: int = DIGITS) -> str:
    """Return the code of one step, which is a number of 30 seconds since 1970."""
    digest = hmac.digest(base64.b32decode(secret), step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 15
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return str(number % 10**digits).zfill(digits)


def step_of(secret: str, code: str) -> int | None:
    """Return the step whose code this is, the latest if there are two; None if it is of none that counts now."""
    if not re.fullmatch(f"[0-9]{{{DIGITS}}}", code):
        return None
    now = int(time.time()) // PERIOD
    steps = [step for step in range(now - DRIFT, now + DRIFT + 1) if hmac.compare_digest(code_at(secret, step), code)]
    return max(steps, default=None)


def store(user: User, secret: str, step: int) -> bool:
    """Let the app with this secret be the user's, in place of another one; `step` is of the code that confirmed it.

    Return whether there was another one.
    """
    fields = {"secret": encryption.encrypt(secret, _purpose(user.pk)), "confirmed_at": timezone.now()}
    _app, is_new = Totp.objects.update_or_create(user=user, defaults=fields | {"last_step": step})
    return not is_new


def use(user: User, code: str) -> bool:
    """Use up a code; False if it does not count. The same code twice at once: one is told True."""
    app = Totp.objects.filter(user=user, confirmed_at__isnull=False).first()
    if app is None:
        return False
    purpose = _purpose(user.pk)
    try:
        step = step_of(encryption.decrypt(app.secret, purpose), code)
        secret = encryption.renew(app.secret, purpose)
    except encryption.UndecipherableError:
        logger.error("The authenticator app of user %s cannot be read: which key is missing?", user.pk)
        return False
    if step is None:
        return False
    unused = Totp.objects.filter(pk=app.pk, secret=app.secret, last_step__lt=step)
    return bool(unused.update(last_step=step, secret=secret))


def _purpose(user_id: int) -> str:
    return f"totp {user_id}"
