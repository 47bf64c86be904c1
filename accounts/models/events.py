"""What happened to the security of accounts: rows that are added and never changed."""

from __future__ import annotations

from typing import Any, NoReturn

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from accounts.models.sessions import USER_AGENT_LENGTH
from accounts.models.users import User

WITH_ORIGIN = models.Q(address__isnull=False) | models.Q(user_agent__gt="")
"""A network address or a browser: one can be there without the other, as behind a Unix socket."""


class AppendOnly(models.QuerySet["SecurityEvent"]):
    """Rows that cannot be changed or deleted by mistake; retention has its own way, `tasks.retention.delete`."""

    def update(self, **fields: Any) -> NoReturn:
        """Refuse."""
        raise TypeError("Security events are never changed.")

    def delete(self) -> NoReturn:
        """Refuse."""
        raise TypeError("Security events are never deleted before their retention is over.")

    def bulk_create(self, *args: Any, update_conflicts: bool = False, **kwargs: Any) -> list[SecurityEvent]:
        """Add rows. Raises TypeError where they would take the place of others."""
        if update_conflicts:
            raise TypeError("Security events are never changed.")
        return super().bulk_create(*args, **kwargs)

    def with_origin(self) -> AppendOnly:
        """Return those that say from where they came, see WITH_ORIGIN."""
        return self.filter(WITH_ORIGIN)

    def cut_addresses(self) -> int:
        """Forget the network addresses and browsers of these rows; return how many had one."""
        return _change(self.with_origin(), address=None, user_agent="")

    def forget(self, user: User) -> int:
        """Take a user out of these rows, with all that tells of them: what remains is that something happened."""
        blank: dict[str, Any] = {"address": None, "user_agent": ""}
        acted = _change(self.filter(actor=user), actor=None, **blank)
        return acted + _change(self.filter(user=user), user=None, details={}, **blank)


def _change(rows: AppendOnly, **fields: Any) -> int:
    return models.QuerySet.update(rows, **fields)


class SecurityEvent(models.Model):
    """Who did what to which account, when, from where, and what came of it. See `accounts.events`.

    `user` is the account that it is about, None for an address without one; `actor` is who did it, None for somebody
    who was not logged in. Both are None once that account is erased.
    """

    class Outcome(models.TextChoices):
        """What came of it."""

        SUCCEEDED = "succeeded", _("succeeded")
        FAILED = "failed", _("failed")
        REFUSED = "refused", _("refused")

    kind = models.CharField(_("what"), max_length=40)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome.choices)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        db_index=False,  # accounts_event_of_user begins with it
        related_name="security_events",
        verbose_name=_("account"),
    )
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("who")
    )
    at = models.DateTimeField(_("when"), db_default=Now(), editable=False)
    address = models.GenericIPAddressField(_("network address"), null=True)
    user_agent = models.CharField(_("browser"), max_length=USER_AGENT_LENGTH, blank=True)
    details = models.JSONField(_("details"), default=dict, help_text=_("Never a password, a code or a link."))

    objects = AppendOnly.as_manager()

    class Meta:
        verbose_name = _("security event")
        verbose_name_plural = _("security events")
        indexes = [
            models.Index(fields=["user", "-at"], name="accounts_event_of_user"),
            models.Index(fields=["at"], name="accounts_event_at"),
            models.Index(fields=["at"], name="accounts_event_with_origin", condition=WITH_ORIGIN),
        ]

    def __str__(self) -> str:
        return f"#{self.pk}"  # a name for people is in `accounts.events`

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Add the row. Raises TypeError for one that is there already."""
        if not self._state.adding:
            raise TypeError("Security events are never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse."""
        raise TypeError("Security events are never deleted before their retention is over.")
