"""The forms of second factors."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Passkey


class CodeForm(forms.Form):
    """Takes a code. Whether it is right is for the view to find out, once."""

    code = forms.CharField(
        label=_("Code"),
        max_length=64,
        help_text=_("The six digits that your authenticator app shows, or one of your recovery codes."),
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "autocapitalize": "none", "spellcheck": "false"}
        ),
    )


class AppCodeForm(forms.Form):
    """Takes the first code of a new app."""

    code = forms.CharField(
        label=_("Code"),
        max_length=16,
        help_text=_("The six digits that the app shows now."),
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )

    def clean_code(self) -> str:
        """Return the digits, without the space that some apps show between them."""
        return "".join(self.cleaned_data["code"].split())


class PasskeyForm(forms.ModelForm[Passkey]):
    """Names a passkey."""

    class Meta:
        model = Passkey
        fields = ("name",)
        help_texts = {"name": _("So that you know it again: the device that it is in, for instance.")}
