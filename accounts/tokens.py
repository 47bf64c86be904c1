"""Links that prove an address: signed, not stored.

A token holds the user's id, and what it proves, under a signature of SECRET_KEY (older ones in SECRET_KEY_FALLBACKS
still count) and the time it was made. It works once because what it does can only be done once: an address is verified
once, a change of address is confirmed and undone once, and a reset changes the hash of the password, on which its
signature depends.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta

from django.conf import settings
from django.core import signing
from django.db.models import F, QuerySet
from django.http import HttpResponse
from django.urls import reverse

from accounts.models import EmailChange, User

VERIFY_LIFETIME = timedelta(days=3)

_SALT = "accounts.verify"
_CONFIRM_SALT = "accounts.email-change.confirm"
_UNDO_SALT = "accounts.email-change.undo"


def verification_url(user: User) -> str:
    """Return the absolute link that verifies the user's present address, made from SITE_URL."""
    token = signing.dumps([user.pk, user.email], salt=_SALT)
    return settings.SITE_URL + reverse("accounts:verify", args=[token])


def disown_url(user: User) -> str:
    """Return the absolute link for somebody who knows nothing of the account that their address is in."""
    token = signing.dumps([user.pk, user.email], salt=_SALT)
    return settings.SITE_URL + reverse("accounts:disown", args=[token])


def user_of_verification(token: str) -> User | None:
    """Return whose address the token proves; None: forged, older than VERIFY_LIFETIME, or the address has changed."""
    try:
        pk, email = signing.loads(token, salt=_SALT, max_age=VERIFY_LIFETIME)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    return User.objects.filter(pk=pk, email=email, is_active=True).first()


def reset_url(user: User) -> str:
    """Return the absolute link to the form for a new password, made from SITE_URL."""
    token = _reset_signer(user).sign(str(user.pk))
    return settings.SITE_URL + reverse("accounts:new_password", args=[token])


def user_of_reset(token: str) -> User | None:
    """Return who may choose a new password; None: forged, older than PASSWORD_RESET_TIMEOUT, used or overtaken.

    A login, another password or another address since the link was made overtake it. The idea is that of Django's
    PasswordResetTokenGenerator.
    """
    pk = token.partition(":")[0]
    user = User.objects.filter(pk=pk, is_active=True).first() if re.fullmatch("[0-9]{1,18}", pk) else None
    if user is None:
        return None
    try:
        _reset_signer(user).unsign(token, max_age=timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT))
    except signing.BadSignature:
        return None
    return user


def confirm_change_url(change: EmailChange) -> str:
    """Return the absolute link that confirms a change of address, for a mail to the new one."""
    token = signing.dumps(change.pk, salt=_CONFIRM_SALT)
    return settings.SITE_URL + reverse("accounts:confirm_email_change", args=[token])


def change_to_confirm(token: str) -> EmailChange | None:
    """Return the change; None: forged, older than VERIFY_LIFETIME, used, or overtaken by another address."""
    waiting = EmailChange.objects.filter(confirmed_at=None, undone_at=None, user__email=F("old_email"))
    return _change(waiting, token, _CONFIRM_SALT, VERIFY_LIFETIME)


def undo_change_url(change: EmailChange) -> str:
    """Return the absolute link that undoes a change of address, for a mail to the old one."""
    token = signing.dumps(change.pk, salt=_UNDO_SALT)
    return settings.SITE_URL + reverse("accounts:undo_email_change", args=[token])


def change_to_undo(token: str) -> EmailChange | None:
    """Return the change; None: forged, used, or confirmed longer ago than UNDO_LIFETIME."""
    return _change(EmailChange.objects.undoable(), token, _UNDO_SALT, None)


def _change(rows: QuerySet[EmailChange], token: str, salt: str, max_age: timedelta | None) -> EmailChange | None:
    try:
        pk = signing.loads(token, salt=salt, max_age=max_age)
    except (signing.BadSignature, ValueError):
        return None
    return rows.filter(pk=pk, user__is_active=True).select_related("user").first()


def without_referrer(response: HttpResponse) -> HttpResponse:
    """Keep the address of a page, which is its key, out of all that the page asks for, and so out of their logs.

    A server's log often has the Referer of each request: with "same-origin" that of a style sheet names the page. With
    "no-referrer" browsers send "Origin: null" with the form, which the CSRF check refuses. This names the site alone.
    """
    response["Referrer-Policy"] = "strict-origin"
    return response


def _reset_signer(user: User) -> signing.TimestampSigner:
    """Return a signer whose key depends on the user's present state, so that a token shows nothing of it."""
    last_login = user.last_login and user.last_login.isoformat()
    state = json.dumps([user.email, user.password, last_login])
    return signing.TimestampSigner(salt=f"accounts.password-reset {state}")
