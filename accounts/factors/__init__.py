"""The second factors of a user: which there are, who needs one, and what happens when they change.

Each change is one transaction with its security event and the task that mails the user. Below are the kinds: codes of
an app (`totp`, whose secrets `encryption` keeps), `recovery` codes, and `passkeys`; where a login asks for one
(`second_step`); and the pages on which their user looks after them (`views`, `passkey_views`, `forms`).
"""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.door import MFA
from accounts.events import Kind, Outcome, record
from accounts.factors import recovery, totp
from accounts.models import Passkey, RecoveryCode, Totp, User
from accounts.sessions import end_sessions
from accounts.tasks import send_second_factor_changed_email

APP = "app"
PASSKEY = "passkey"
RECOVERY_CODE = "recovery-code"

_OF_USER = {"user": OuterRef("pk")}
_HAS_FACTOR = Q(Exists(Totp.objects.filter(**_OF_USER, confirmed_at__isnull=False))) | Q(
    Exists(Passkey.objects.filter(**_OF_USER))
)


class LastFactorError(Exception):
    """The user needs a second factor, and this is the only one."""


def has_factor(user: User) -> bool:
    """Return whether a login of the user needs a second step. Recovery codes alone are none."""
    return User.objects.filter(_HAS_FACTOR, pk=user.pk).exists()


def is_required(user: User) -> bool:
    """Return whether the user may do nothing without a second factor, see REQUIRE_MFA_FOR."""
    is_staff = user.is_staff or user.is_superuser
    return settings.REQUIRE_MFA_FOR == "all" or (settings.REQUIRE_MFA_FOR == "staff" and is_staff)


def use_code(user: User, code: str) -> str:
    """Use up a code of the user's app or one of the recovery codes. Return which of both it was, "" for neither."""
    plain = "".join(code.split()).replace("-", "")
    if plain.isdecimal() and len(plain) <= totp.DIGITS:
        return APP if totp.use(user, plain) else ""
    with transaction.atomic():
        if not recovery.use(user, code):
            return ""
        send_second_factor_changed_email.enqueue(user.pk, "code-used")
    return RECOVERY_CODE


def add_app(request: HttpRequest, user: User, secret: str, step: int) -> list[str]:
    """Let an app be a second factor of the user who sends the request. Return recovery codes if there are new ones.

    Raises PermissionDenied if the password has changed since the request began.
    """
    with transaction.atomic():
        _lock(user)
        is_first = not has_factor(user)
        is_replaced = totp.store(user, secret, step)
        return added(request, user, APP, "app-replaced" if is_replaced else "app-added", is_first, is_replaced)


def add_passkey(request: HttpRequest, user: User, passkey: Passkey) -> list[str]:
    """Store a passkey of the user who sends the request, as `add_app` does. Raises IntegrityError if it is there."""
    with transaction.atomic():
        _lock(user)
        is_first = not has_factor(user)
        passkey.save(force_insert=True)
        return added(request, user, PASSKEY, "passkey-added", is_first)


def _lock(user: User) -> None:
    """Let nobody take the account back meanwhile: `take_away` would not see what is not committed yet."""
    if not User.objects.select_for_update().filter(pk=user.pk, password=user.password).first():
        raise PermissionDenied


def added(
    request: HttpRequest, user: User, method: str, change: str, is_first: bool, is_replaced: bool = False
) -> list[str]:
    """Log and mail that there is another factor. Return recovery codes if it is the first one.

    With the first one, and where one takes the place of another, the other sessions end: they know nothing of it.
    """
    record(Kind.FACTOR_ADDED, request, user, method=method)
    send_second_factor_changed_email.enqueue(user.pk, change)
    if is_first or is_replaced:
        end_sessions(user.pk, request.session.session_key)
    return make_codes(request, user, is_mailed=False) if is_first else []


def make_codes(request: HttpRequest, user: User, is_mailed: bool = True) -> list[str]:
    """Give the user new recovery codes and return them."""
    with transaction.atomic():
        record(Kind.RECOVERY_CODES_MADE, request, user)
        if is_mailed:
            send_second_factor_changed_email.enqueue(user.pk, "codes-made")
        return recovery.make(user)


def remove(request: HttpRequest, factor: Totp | Passkey) -> None:
    """Remove one of the factors of the user who sends the request. Raises LastFactorError where one is needed.

    The recovery codes go with the last, and the session counts as one without. The other sessions end.
    """
    with transaction.atomic():
        user = User.objects.select_for_update().get(pk=factor.user_id)  # two at once must not both leave the other
        if not type(factor).objects.filter(pk=factor.pk).delete()[0]:
            return
        if not has_factor(user):
            if is_required(user):
                raise LastFactorError
            RecoveryCode.objects.filter(user=user).delete()
            request.session.pop(MFA, None)
        method = APP if isinstance(factor, Totp) else PASSKEY
        record(Kind.FACTOR_REMOVED, request, user, method=method)
        send_second_factor_changed_email.enqueue(user.pk, f"{method}-removed")
        end_sessions(user.pk, request.session.session_key)


def remove_all(user: User, request: HttpRequest | None = None) -> bool:
    """Remove all factors and recovery codes of somebody who lost them, and end their sessions; False if none is there.

    For an operator; `request` is the operator's, None on the command line.
    """
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        removed = [model.objects.filter(user=user).delete()[0] for model in (Totp, Passkey, RecoveryCode)]
        if not any(removed):
            return False
        record(
            Kind.FACTOR_REMOVED, request, user,
            apps=removed[0], passkeys=removed[1], by="administrator" if request else "command",
        )  # fmt: skip
        end_sessions(user.pk)
        if user.is_active:
            send_second_factor_changed_email.enqueue(user.pk, "all-removed")
    return True


def take_away(user_id: int, request: HttpRequest | None = None, since: datetime | None = None) -> None:
    """Remove the factors and recovery codes that were made since then, or all; sessions stay.

    For whoever gets an account by a mail to its address: somebody else may have made them. A passkey lets in without
    the password, so a new password is not enough. To be called in the transaction of what gives them the account.
    """
    apps, made = ({}, {}) if since is None else ({"confirmed_at__gte": since}, {"created_at__gte": since})
    removed = [
        Totp.objects.filter(user=user_id, **apps).delete()[0],  # its row stays where another app takes its place
        Passkey.objects.filter(user=user_id, **made).delete()[0],
        RecoveryCode.objects.filter(user=user_id, **made).delete()[0],
    ]
    if any(removed):
        record(Kind.FACTOR_REMOVED, request, user_id, apps=removed[0], passkeys=removed[1], by="owner of the address")


def in_words(user: User) -> str:
    """Return "authenticator app, 2 passkeys, 8 recovery codes", or "none"."""
    keys, codes = Passkey.objects.filter(user=user).count(), recovery.left(user)
    parts = [
        _("authenticator app") if Totp.objects.filter(user=user, confirmed_at__isnull=False).exists() else "",
        ngettext("%(count)s passkey", "%(count)s passkeys", keys) % {"count": keys} if keys else "",
        ngettext("%(count)s recovery code", "%(count)s recovery codes", codes) % {"count": codes} if codes else "",
    ]
    return ", ".join(filter(None, parts)) or _("none")


def record_attempt(request: HttpRequest, user: User, method: str) -> None:
    """Log a second step: which factor it was, "" for a wrong one."""
    outcome = Outcome.SUCCEEDED if method else Outcome.FAILED
    record(Kind.SECOND_FACTOR, request, user, outcome, **({"method": method} if method else {}))
