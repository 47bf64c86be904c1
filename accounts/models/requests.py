"""What a user has asked for and what takes its time: another address, a copy of all data."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from accounts.models.users import LowercaseEmailField, User

UNDO_LIFETIME = timedelta(days=7)
"""How long after its confirmation a change of address can be undone."""


class EmailChanges(models.QuerySet["EmailChange"]):
    """Changes of address."""

    def undoable(self) -> EmailChanges:
        """Return those that are confirmed, not for too long, and not undone."""
        return self.filter(undone_at=None, confirmed_at__gt=Now() - UNDO_LIFETIME)


class EmailChange(models.Model):
    """Another address for an account: asked for, confirmed by a link to the new one, undone by one to the old.

    One that an administrator makes is confirmed at once.
    """

    user = models.ForeignKey(User, models.CASCADE, related_name="email_changes", verbose_name=_("user"))
    old_email = LowercaseEmailField(_("old email address"), max_length=254)
    new_email = LowercaseEmailField(_("new email address"), max_length=254)
    requested_at = models.DateTimeField(_("asked for at"), db_default=Now(), editable=False)
    confirmed_at = models.DateTimeField(_("confirmed at"), null=True)
    undone_at = models.DateTimeField(_("undone at"), null=True)

    objects = EmailChanges.as_manager()

    class Meta:
        verbose_name = _("change of address")
        verbose_name_plural = _("changes of address")
        indexes = [models.Index(fields=["requested_at"], name="accounts_emailchange_age")]

    def __str__(self) -> str:
        return f"change of address of {self.user_id}"


class Export(models.Model):
    """A copy of all that is stored about a user. The file is in the row: any host can write it and hand it out."""

    user = models.ForeignKey(User, models.CASCADE, related_name="exports", verbose_name=_("user"))
    task_id = models.CharField(_("task"), max_length=64, blank=True, help_text=_("Of the task that gathers it."))
    requested_at = models.DateTimeField(_("asked for at"), db_default=Now(), editable=False)
    finished_at = models.DateTimeField(_("finished at"), null=True)
    downloaded_at = models.DateTimeField(_("downloaded at"), null=True)
    expires_at = models.DateTimeField(_("expires at"))
    content = models.BinaryField(_("zip file"), null=True)

    class Meta:
        verbose_name = _("export")
        verbose_name_plural = _("exports")
        indexes = [models.Index(fields=["expires_at"], name="accounts_export_age")]

    def __str__(self) -> str:
        return f"export of {self.user_id}"
