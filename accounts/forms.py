"""Signup, login and passwords, for people and for API clients alike."""

from __future__ import annotations

import unicodedata
from typing import Any, ClassVar

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.validators import EmailValidator
from django.db import transaction
from django.http import HttpRequest
from django.utils.encoding import punycode
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from accounts.events import Kind, Outcome, record
from accounts.factors import take_away
from accounts.models import LowercaseEmailField, User
from accounts.models.users import GIVEN
from accounts.names import looks_like_address
from accounts.sessions import end_sessions
from accounts.tasks import (
    resend_verification_email,
    send_already_registered_email,
    send_password_changed_email,
    send_password_reset_email,
    send_welcome_email,
)
from accounts.throttle import LOGIN, RESEND, RESET, SIGNUP, Policy, take


class AddressField(forms.EmailField):
    """An address as it is stored. Refuses what no mail server could be given."""

    def clean(self, value: Any) -> str:
        """Return it in one spelling of its characters, in lower case."""
        email = unicodedata.normalize("NFKC", super().clean(value)).lower()  # as the login form does
        local, _at, domain = email.rpartition("@")
        try:
            local.encode("ascii")
            punycode(domain)
        except UnicodeError:
            raise forms.ValidationError(EmailValidator.message) from None
        self.run_validators(email)  # it may be longer now
        return email


class NewPasswordField(forms.CharField):
    """A password that is being chosen. The validators of the settings see it in the form, with the user."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            strip=False,
            max_length=1024,
            widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
            help_text=_("At least 12 characters. A few unrelated words make a good one."),
            **kwargs,
        )


class SignupForm(forms.ModelForm[User]):
    """Makes an account. Never tells whether the address is known: `save` answers that by mail."""

    policy: ClassVar[Policy] = SIGNUP

    password = NewPasswordField(label=_("Password"))

    class Meta:
        model = User
        fields = ("display_name", "email")
        field_classes = {"email": AddressField}
        widgets = {
            "display_name": forms.TextInput(attrs={"autocomplete": "name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "username"}),
        }

    def _get_validation_exclusions(self) -> set[str]:
        # Django would look the address up and say "exists already".
        return super()._get_validation_exclusions() | {"email"}  # type: ignore[misc]  # private, but it is the only switch

    def clean_display_name(self) -> str:
        """Refuse what would break a mail's heading or become a link in it."""
        name = " ".join(self.cleaned_data["display_name"].split())
        joiners = dict.fromkeys(map(ord, "\u200c\u200d"))  # Persian names and many emoji have them
        if "://" in name or not name.translate(joiners).isprintable():
            raise forms.ValidationError(_("Enter a name without links or control characters."))
        if looks_like_address(name):
            text = _("Enter a name that does not look like a web or mail address. Leave a space after a full stop.")
            raise forms.ValidationError(text)
        return name

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # private, and the place where Django's own signup form does this
        password = self.cleaned_data.get("password")
        if password:
            try:
                validate_password(password, self.instance)
            except forms.ValidationError as error:
                self.add_error("password", error)

    def save(self, commit: bool = True, request: HttpRequest | None = None) -> User:
        """Store the user and the task that mails them, both or neither; for a known address, only another mail.

        The password is hashed first, since that takes a while and SQLite has one writer at a time. Known or not, the
        same statements run. Returns who would have been stored: its hash is the mark of this signup.
        """
        user = User(
            email=self.cleaned_data["email"],
            display_name=self.cleaned_data["display_name"],
            password=make_password(self.cleaned_data["password"]),
            language=get_language() or "en",
        )
        with transaction.atomic():
            stored = None
            while stored is None:  # the known account may go between the two statements
                User.objects.bulk_create([user], ignore_conflicts=True)
                stored = User.objects.only("pk", "password").filter(email=user.email).first()
            is_new = stored.password == user.password  # the salt makes the hash unique to this signup
            (send_welcome_email if is_new else send_already_registered_email).enqueue(stored.pk)
            record(Kind.SIGNUP, request, stored, Outcome.SUCCEEDED if is_new else Outcome.REFUSED)
        return user


class LoginForm(AuthenticationForm):
    """Django's, with the words of a site where the address is the login."""

    error_messages = {
        "invalid_login": _(
            "This email address and password do not match an account. Try again. If you have just signed up, open the "
            "link in our mail first."
        ),
        "inactive": _("This account is switched off."),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].widget = forms.EmailInput(
            attrs={"autocomplete": "username", "autofocus": True, "maxlength": 254}
        )

    def confirm_login_allowed(self, user: User) -> None:
        """Refuse a new account until its address is verified, with the words of a wrong password.

        Else whoever signs up with the address of another would learn by a login whether it had an account before.
        """
        super().confirm_login_allowed(user)
        if user.is_unverified():
            raise self.get_invalid_login_error()

    def clean(self) -> dict[str, Any]:
        """Compare the password, if there were not too many wrong ones. Raises Throttled.

        Whether there is such an account or not, the same statements run.
        """
        address = LowercaseEmailField().to_python(self.cleaned_data.get("username"))
        if not address or not self.cleaned_data.get("password"):
            return self.cleaned_data
        assert self.request is not None
        attempt = take(LOGIN, self.request, address)
        try:
            super().clean()
        except forms.ValidationError:
            owner = User.objects.filter(email=address).values_list("pk", flat=True).first()
            record(Kind.LOGIN, self.request, owner, Outcome.FAILED)
            raise
        attempt.give_back()
        return self.cleaned_data


class AddressForm(forms.Form):
    """Hands an address to a task. Looks nothing up: the worker does."""

    policy: ClassVar[Policy]
    task: ClassVar[Any]

    email = AddressField(
        label=_("Email address"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "username"})
    )

    def save(self, request: HttpRequest | None = None) -> None:
        """Enqueue the task that knows whom to mail."""
        self.task.enqueue(self.cleaned_data["email"])


class PasswordResetForm(AddressForm):
    """Asks for a link to a new password."""

    policy = RESET
    task = send_password_reset_email


class ResendForm(AddressForm):
    """Asks for the mail that verifies the address once more."""

    policy = RESEND
    task = resend_verification_email


class NewPasswordForm(forms.Form):
    """Gives a user a new password, after a link has shown that the address is theirs."""

    password = NewPasswordField(label=_("New password"))

    proves_email = True
    kind = Kind.PASSWORD_RESET

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_password(self) -> str:
        """Ask the validators of the settings."""
        password: str = self.cleaned_data["password"]
        validate_password(password, self.user)
        return password

    def save(self, request: HttpRequest | None = None) -> bool:
        """Store the password and the task that tells the user, both or neither; False if another was faster.

        It is hashed first, as at a signup. The user's sessions end with it. Where it is the first proof of the address,
        somebody else may have signed up with it: their second factors go too. Not where an administrator has typed it.
        """
        password_hash = make_password(self.cleaned_data["password"])
        is_first_proof = self.proves_email and self.user.email_verified_at is None
        is_first_proof = is_first_proof and not User.objects.filter(GIVEN, pk=self.user.pk).exists()
        with transaction.atomic():
            is_changed = self.user.replace_password(password_hash, proves_email=self.proves_email)
            if is_changed:
                if is_first_proof and not (self.user.is_staff or self.user.is_superuser):  # whom no stranger signs up
                    take_away(self.user.pk, request)
                end_sessions(self.user.pk, except_key=self.session_kept(request))
                record(self.kind, request, self.user)
                send_password_changed_email.enqueue(self.user.pk)
        return is_changed

    def session_kept(self, request: HttpRequest | None) -> str | None:
        """Return the key of the session that stays: none."""
        return None


class ReauthenticationForm(forms.Form):
    """Asks who is logged in for the password again."""

    password = forms.CharField(
        label=_("Password"),
        strip=False,
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_password(self) -> str:
        """Refuse any but the present password."""
        password: str = self.cleaned_data["password"]
        if not self.user.check_password(password):
            raise forms.ValidationError(_("This is not your password. Try again."))
        return password


class PasswordChangeForm(NewPasswordForm):
    """Gives a user a new password, after the present one was typed."""

    old_password = forms.CharField(
        label=_("Present password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    field_order = ["old_password"]
    proves_email = False
    kind = Kind.PASSWORD_CHANGED

    def clean_old_password(self) -> str:
        """Refuse any but the present password."""
        password: str = self.cleaned_data["old_password"]
        if not self.user.check_password(password):
            raise forms.ValidationError(_("This is not your present password."))
        return password

    def session_kept(self, request: HttpRequest | None) -> str | None:
        """Return the key of this session: whoever changes the password stays logged in."""
        return request.session.session_key if request else None
