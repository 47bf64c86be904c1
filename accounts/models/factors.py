"""Second factors: an authenticator app, its recovery codes, passkeys."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from accounts.models.users import User


class Totp(models.Model):
    """The secret that the user's authenticator app shares with us, encrypted. Counts once it is confirmed."""

    user = models.OneToOneField(User, models.CASCADE, related_name="totp", verbose_name=_("user"))
    secret = models.TextField(_("encrypted secret"))
    created_at = models.DateTimeField(_("made at"), db_default=Now(), editable=False)
    confirmed_at = models.DateTimeField(_("confirmed at"), null=True)
    last_step = models.BigIntegerField(
        _("last step"), default=0, help_text=_("Number of the 30 seconds whose code was used last; none works again.")
    )

    class Meta:
        verbose_name = _("authenticator app")
        verbose_name_plural = _("authenticator apps")

    def __str__(self) -> str:
        return f"authenticator app of {self.user_id}"


class RecoveryCode(models.Model):
    """A code that stands in for a lost device, once. Only its digest is kept."""

    user = models.ForeignKey(User, models.CASCADE, related_name="recovery_codes", verbose_name=_("user"))
    digest = models.CharField(_("digest"), max_length=64)
    created_at = models.DateTimeField(_("made at"), db_default=Now(), editable=False)
    used_at = models.DateTimeField(_("used at"), null=True)

    class Meta:
        verbose_name = _("recovery code")
        verbose_name_plural = _("recovery codes")
        constraints = [models.UniqueConstraint(fields=["user", "digest"], name="accounts_recoverycode_once")]

    def __str__(self) -> str:
        return f"recovery code of {self.user_id}"


class Passkey(models.Model):
    """A key pair that lives in the user's device; here is the public half. As in WebAuthn, Level 3."""

    user = models.ForeignKey(User, models.CASCADE, related_name="passkeys", verbose_name=_("user"))
    name = models.CharField(_("name"), max_length=60)
    credential_id = models.CharField(_("credential id"), max_length=1400, unique=True, help_text=_("In base64url."))
    public_key = models.BinaryField(_("public key"), help_text=_("In COSE."))
    sign_count = models.BigIntegerField(_("signature counter"), default=0)
    transports = models.JSONField(_("transports"), default=list)
    is_backed_up = models.BooleanField(_("backed up"), default=False)
    created_at = models.DateTimeField(_("made at"), db_default=Now(), editable=False)
    last_used_at = models.DateTimeField(_("last used at"), null=True)

    class Meta:
        verbose_name = _("passkey")
        verbose_name_plural = _("passkeys")

    def __str__(self) -> str:
        return self.name
