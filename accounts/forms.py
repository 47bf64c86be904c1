"""Signup and login, for people and for API clients alike."""

from __future__ import annotations

import unicodedata
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.validators import EmailValidator
from django.db import transaction
from django.utils.encoding import punycode
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.tasks import send_already_registered_email, send_welcome_email


class SignupForm(forms.ModelForm[User]):
    """Makes an account. Never tells whether the address is known: `save` answers that by mail."""

    password = forms.CharField(
        label=_("Password"),
        strip=False,
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("At least 12 characters. A few unrelated words make a good one."),
    )

    class Meta:
        model = User
        fields = ("display_name", "email")
        widgets = {
            "display_name": forms.TextInput(attrs={"autocomplete": "name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "username"}),
        }

    def _get_validation_exclusions(self) -> set[str]:
        # Django would look the address up and say "exists already".
        return super()._get_validation_exclusions() | {"email"}  # type: ignore[misc]  # private, but it is the only switch

    def clean_email(self) -> str:
        """Return the address as it is stored; refuse what no mail server could be given."""
        email = unicodedata.normalize("NFKC", self.cleaned_data["email"]).lower()  # as the login form does
        local, _at, domain = email.rpartition("@")
        try:
            local.encode("ascii")
            punycode(domain)
        except UnicodeError:
            raise forms.ValidationError(EmailValidator.message) from None
        self.fields["email"].run_validators(email)  # it may be longer now
        return email

    def clean_display_name(self) -> str:
        """Refuse what would break a mail's heading or look like a link in it."""
        name = " ".join(self.cleaned_data["display_name"].split())
        joiners = dict.fromkeys(map(ord, "\u200c\u200d"))  # Persian names and many emoji have them
        if "://" in name or not name.translate(joiners).isprintable():
            raise forms.ValidationError(_("Enter a name without links or control characters."))
        return name

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # private, and the place where Django's own signup form does this
        password = self.cleaned_data.get("password")
        if password:
            try:
                validate_password(password, self.instance)
            except forms.ValidationError as error:
                self.add_error("password", error)

    def save(self, commit: bool = True) -> Any:
        """Store the user and the task that mails them, both or neither; for a known address, only another mail.

        The password is hashed first, since that takes a while and SQLite has one writer at a time. Known or not, the
        same statements run.
        """
        user = User(
            email=self.cleaned_data["email"],
            display_name=self.cleaned_data["display_name"],
            password=make_password(self.cleaned_data["password"]),
            language=get_language() or "en",
        )
        with transaction.atomic():
            User.objects.bulk_create([user], ignore_conflicts=True)
            stored = User.objects.only("pk", "password").get(email=user.email)
            is_new = stored.password == user.password  # the salt makes the hash unique to this signup
            (send_welcome_email if is_new else send_already_registered_email).enqueue(stored.pk)


class LoginForm(AuthenticationForm):
    """Django's, with the words of a site where the address is the login."""

    error_messages = {
        "invalid_login": _("This email address and password do not match an account. Try again."),
        "inactive": _("This account is switched off."),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].widget = forms.EmailInput(
            attrs={"autocomplete": "username", "autofocus": True, "maxlength": 254}
        )
