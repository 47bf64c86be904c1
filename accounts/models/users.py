"""The user. The email address is the login; there is no username."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce, Lower, Now
from django.utils.translation import gettext_lazy as _


class LowercaseEmailField(models.EmailField[str, str]):
    """An address in lower case, wherever it comes from: a form, a lookup, `User(email=...)`.

    Local parts may differ by case on paper (RFC 5321, 2.4) and nowhere in practice; two accounts that do are a trap.
    """

    def to_python(self, value: Any) -> Any:
        """Return the address in lower case, without space around it."""
        value = super().to_python(value)
        return value.strip().lower() if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        """Return what the database is asked for or given."""
        return super().get_prep_value(self.to_python(value))

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Let the instance have what the row gets."""
        value = self.to_python(getattr(model_instance, self.attname))
        setattr(model_instance, self.attname, value)
        return value


UNVERIFIED = Q(
    email_verified_at__isnull=True, last_login__isnull=True, is_staff=False, is_superuser=False, is_active=True
)
"""Nobody has shown that the address is theirs or has ever used the account, and no administrator has touched it."""


GIVEN = Q(email_changes__confirmed_at__isnull=False)
"""Nobody has signed up with the address: it is another one. If it is not verified, an administrator has typed it.

Retention forgets that after some weeks.
"""

YOUNG = timedelta(days=7)
"""Age up to which an account may be disowned although somebody has used it."""


class UserManager(BaseUserManager["User"]):
    """Makes users."""

    def unverified(self) -> models.QuerySet[User]:
        """Return those whose account goes after a while, see UNVERIFIED and GIVEN."""
        return self.filter(UNVERIFIED, ~GIVEN)

    def disowned(self) -> models.QuerySet[User]:
        """Return those that go if the owner of the address asks for it: unverified, and not in use for long."""
        unused = Q(last_login=None) | Q(created_at__gt=Now() - YOUNG)
        return self.filter(unused, ~GIVEN, email_verified_at=None, is_staff=False, is_superuser=False, is_active=True)

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        """Store a user; without a password nobody can log in as them. Raises ValueError without an address."""
        if not email:
            raise ValueError("A user needs an email address.")
        user = self.model(email=email, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        """Store an administrator, whose address counts as verified."""
        fields = {"is_staff": True, "is_superuser": True, "email_verified_at": Now()} | fields
        return self.create_user(email, password, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person with an account."""

    email = LowercaseEmailField(
        _("email address"), unique=True, error_messages={"unique": _("A user with this email address exists already.")}
    )
    display_name = models.CharField(_("name"), max_length=100, blank=True)
    language = models.CharField(
        _("language"), max_length=10, choices=settings.LANGUAGES, default=settings.LANGUAGE_CODE
    )
    email_verified_at = models.DateTimeField(_("email address verified at"), null=True, blank=True, editable=False)
    is_active = models.BooleanField(_("active"), default=True, help_text=_("Off: cannot log in. Better than deleting."))
    is_staff = models.BooleanField(_("staff"), default=False, help_text=_("May open the administration."))
    created_at = models.DateTimeField(_("signed up at"), db_default=Now(), editable=False)
    delete_after = models.DateTimeField(_("will be deleted after"), null=True, blank=True, editable=False)

    objects = UserManager()

    USERNAME_FIELD = EMAIL_FIELD = "email"

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        indexes = [models.Index(fields=["created_at"], name="accounts_user_unverified", condition=UNVERIFIED)]
        constraints = [
            models.CheckConstraint(name="accounts_user_email_is_lower_case", condition=Q(email=Lower("email"))),
        ]

    def get_full_name(self) -> str:
        """Return the name to greet the person by."""
        return self.display_name or self.email

    def get_short_name(self) -> str:
        """Return the same."""
        return self.get_full_name()

    def check_password(self, raw_password: str | None) -> bool:
        """Return whether this is the password. A hash of an older kind becomes one of today's.

        Django's would write that over a password that was changed meanwhile, and so bring the old one back.
        """
        return check_password(
            raw_password, self.password, lambda password: self.replace_password(make_password(password))
        )

    async def acheck_password(self, raw_password: str | None) -> bool:
        """Do the same for coroutines."""
        return await sync_to_async(self.check_password)(raw_password)

    def is_unverified(self) -> bool:
        """Return whether UNVERIFIED is true of the user: then nobody can log in."""
        is_used = self.email_verified_at is not None or self.last_login is not None
        return not is_used and not self.is_staff and not self.is_superuser and self.is_active

    def verify_email(self) -> bool:
        """Mark the address as verified; False if it was already. Two at once: one is told True.

        It is for the password that was read: whoever chose another meanwhile did not show that the address is theirs.
        """
        unverified = User.objects.filter(
            pk=self.pk, email=self.email, password=self.password, is_active=True, email_verified_at=None
        )
        return bool(unverified.update(email_verified_at=Now()))

    def replace_password(self, password_hash: str, proves_email: bool = False) -> bool:
        """Store a new hash in place of the one that was read; False if that is gone. Two at once: one is told True.

        `proves_email`: whoever asks has shown that the address is theirs, so it counts as verified. Sessions end by
        themselves: each holds a digest of the hash that it began with.
        """
        unchanged = User.objects.filter(pk=self.pk, email=self.email, password=self.password, is_active=True)
        verified = {"email_verified_at": Coalesce("email_verified_at", Now())} if proves_email else {}
        if not unchanged.update(password=password_hash, **verified):
            return False
        self.password = password_hash
        return True
