"""Links that prove an address: signed, not stored.

A token holds the user's id and address under a signature of SECRET_KEY (older ones in SECRET_KEY_FALLBACKS still
count) and the time it was made. It works once because what it does can only be done once.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.core import signing
from django.urls import reverse

from accounts.models import User

VERIFY_LIFETIME = timedelta(days=3)

_SALT = "accounts.verify"


def verification_url(user: User) -> str:
    """Return the absolute link that verifies the user's present address, made from SITE_URL."""
    token = signing.dumps([user.pk, user.email], salt=_SALT)
    return settings.SITE_URL + reverse("accounts:verify", args=[token])


def user_of_verification(token: str) -> User | None:
    """Return whose address the token proves; None: forged, older than VERIFY_LIFETIME, or the address has changed."""
    try:
        pk, email = signing.loads(token, salt=_SALT, max_age=VERIFY_LIFETIME)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    return User.objects.filter(pk=pk, email=email, is_active=True).first()
