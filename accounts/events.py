"""The log of security events: one call writes one row, in the transaction of whatever it tells."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_out
from django.db import models
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.models import SecurityEvent, User
from accounts.network import Client, client_of

Outcome = SecurityEvent.Outcome


class Kind(models.TextChoices):
    """What can happen. The value is stored, so it stays; the label is for people."""

    SIGNUP = "signup", _("signup")
    LOGIN = "login", _("login")
    LOGOUT = "logout", _("logout")
    REAUTHENTICATION = "reauthentication", _("password typed again")
    EMAIL_VERIFIED = "email-verified", _("email address verified")
    EMAIL_DISOWNED = "email-disowned", _("“this was not me”")
    EMAIL_CHANGE_ASKED = "email-change-asked", _("change of address asked for")
    EMAIL_CHANGED = "email-changed", _("email address changed")
    EMAIL_CHANGE_UNDONE = "email-change-undone", _("change of address undone")
    RESEND_ASKED = "resend-asked", _("another mail to verify the address asked for")
    RESET_ASKED = "reset-asked", _("password reset asked for")
    PASSWORD_RESET = "password-reset", _("password reset")
    PASSWORD_CHANGED = "password-changed", _("password changed")
    SECOND_FACTOR = "second-factor", _("second factor")
    PASSWORD_WARNING = "password-warning", _("warning by mail: right password, no second factor")
    FACTOR_ADDED = "factor-added", _("second factor added")
    FACTOR_REMOVED = "factor-removed", _("second factor removed")
    RECOVERY_CODES_MADE = "recovery-codes-made", _("recovery codes made")
    SESSION_ENDED = "session-ended", _("session ended")
    EXPORT_ASKED = "export-asked", _("export asked for")
    EXPORT_DOWNLOADED = "export-downloaded", _("export downloaded")
    DELETION_ASKED = "deletion-asked", _("deletion asked for")
    DELETION_CANCELLED = "deletion-cancelled", _("deletion cancelled")
    ACCOUNT_DELETED = "account-deleted", _("account deleted")
    CHANGED_BY_ADMINISTRATOR = "changed-by-administrator", _("changed by an administrator")


def record(
    kind: Kind,
    request: HttpRequest | None = None,
    user: User | int | None = None,
    outcome: SecurityEvent.Outcome = Outcome.SUCCEEDED,
    **details: Any,
) -> SecurityEvent:
    """Add an event about an account, by whoever sends the request. `details` are JSON, without any secret."""
    actor = getattr(request, "user", None)
    client = client_of(request) if request is not None else Client()
    return SecurityEvent.objects.create(
        kind=kind,
        outcome=outcome,
        user_id=user.pk if isinstance(user, User) else user,
        actor_id=actor.pk if isinstance(actor, User) else None,
        details=details,
        **client._asdict(),
    )


@receiver(user_logged_out)
def _record_logout(sender: object, request: HttpRequest, user: User | None, **others: Any) -> None:
    if user is not None:
        record(Kind.LOGOUT, request, user)
