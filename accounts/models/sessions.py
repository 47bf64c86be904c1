"""Sessions as rows that their user can look at and end, and the browsers that somebody has logged in with."""

from __future__ import annotations

from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models.users import User

USER_AGENT_LENGTH = 300


class Session(AbstractBaseSession):
    """What the site keeps for one browser between requests; written by `accounts.sessions.SessionStore`.

    `expire_date` is the end of it, whichever limit is reached first: too long without a request, or too old.
    """

    session_key = models.CharField(_("digest of the key"), max_length=64, primary_key=True)
    user = models.ForeignKey(User, models.CASCADE, null=True, related_name="sessions", verbose_name=_("user"))
    created_at = models.DateTimeField(_("began at"), default=timezone.now, editable=False)
    last_seen_at = models.DateTimeField(_("last seen at"), default=timezone.now)
    address = models.GenericIPAddressField(_("network address"), null=True)
    user_agent = models.CharField(_("browser"), max_length=USER_AGENT_LENGTH, blank=True)

    class Meta(AbstractBaseSession.Meta):
        abstract = False

    def __str__(self) -> str:
        return f"session of {self.user_id}"

    @classmethod
    def get_session_store_class(cls) -> type:
        """Return the engine that writes these rows."""
        from accounts.sessions import SessionStore

        return SessionStore


class KnownBrowser(models.Model):
    """A browser that the user has logged in with, recognised by a cookie of which the row has the digest only."""

    user = models.ForeignKey(User, models.CASCADE, related_name="known_browsers", verbose_name=_("user"))
    digest = models.CharField(_("digest of the cookie"), max_length=64)
    user_agent = models.CharField(_("browser"), max_length=USER_AGENT_LENGTH, blank=True)
    created_at = models.DateTimeField(_("first login at"), db_default=Now(), editable=False)
    last_login_at = models.DateTimeField(_("last login at"), db_default=Now())

    class Meta:
        verbose_name = _("known browser")
        verbose_name_plural = _("known browsers")
        constraints = [models.UniqueConstraint(fields=["digest", "user"], name="accounts_knownbrowser_once")]
        indexes = [models.Index(fields=["last_login_at"], name="accounts_knownbrowser_age")]

    def __str__(self) -> str:
        return f"browser of {self.user_id}"
