"""Counters that slow down whoever asks too often."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Throttle(models.Model):
    """One limit for one subject, as the generic cell rate algorithm keeps it: a single time, moved by each request.

    `digest` is of the limit's name and its subject (an account, a network), so the table tells nobody who asked.
    """

    digest = models.CharField(_("digest of limit and subject"), max_length=64, primary_key=True)
    free_at_us = models.BigIntegerField(_("free at"), help_text=_("Microseconds since 1970, UTC."))
    expires_at = models.DateTimeField(_("expires at"), db_index=True)

    class Meta:
        verbose_name = _("throttle counter")
        verbose_name_plural = _("throttle counters")

    def __str__(self) -> str:
        return self.digest
