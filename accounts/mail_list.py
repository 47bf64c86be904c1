"""All mails that accounts sends, in one place, each with what its template is given, for previews.

A mail that is not listed, or whose template is given something else than its sample, cannot be made: see `check`.
The links of samples are the addresses of the site with the word "sample" where a token would be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import lazy
from django.utils.translation import gettext_lazy as _

from tasks.retention import in_words


class ListedMail(NamedTuple):
    """A mail: templates/accounts/emails/NAME.subject.txt, NAME.txt and NAME.html."""

    title: Any
    """When it is sent, for people, translated."""

    sample: Callable[[], dict[str, Any]]
    """What its templates are given beside `name`, `site_name` and `site_url`."""


def check(name: str, context: Mapping[str, Any]) -> None:
    """Raise ValueError if the mail is not listed, or its sample is not what the templates are given."""
    if name not in MAILS:
        raise ValueError(f"The mail {name!r} is not in accounts.mail_list.MAILS.")
    if (sample := {*MAILS[name].sample()}) != {*context}:
        raise ValueError(f"The mail {name!r} is given {sorted(context)}; its sample has {sorted(sample)}.")


def _link(view: str, *args: str) -> str:
    return settings.SITE_URL + reverse(f"accounts:{view}", args=args)


def _words(duration: timedelta) -> Any:
    return lazy(in_words, str)(duration)  # in the language of the mail


def _in_days(days: int) -> datetime:
    return timezone.now() + timedelta(days=days)


def _welcome_sample() -> dict[str, Any]:
    return {"url": _link("verify", "sample"), "disown_url": _link("disown", "sample"), "days": 3}


def _new_login_sample() -> dict[str, Any]:
    return {"url": _link("password_reset"), "at": timezone.now(), "address": "192.0.2.1", "browser": "Firefox"}


MAILS: dict[str, ListedMail] = {
    "welcome": ListedMail(_("after a signup"), _welcome_sample),
    "already_registered": ListedMail(_("after a signup with a known address"), lambda: {"url": _link("login")}),
    "password_reset": ListedMail(
        _("after “Forgot your password?”"),
        lambda: {"url": _link("new_password", "sample"), "lifetime": _words(timedelta(hours=1))},
    ),
    "password_changed": ListedMail(_("after a change of the password"), lambda: {"url": _link("password_reset")}),
    "new_login": ListedMail(_("after a login in a new browser"), _new_login_sample),
    "password_warning": ListedMail(_("after the right password without the second factor"), _new_login_sample),
    "second_factor_changed": ListedMail(
        _("after a change of the second factors"),
        lambda: {"url": _link("password_reset"), "change": _("A passkey was added to your account.")},
    ),
    "email_change_link": ListedMail(
        _("to a new address, when a change is asked for"),
        lambda: {"url": _link("confirm_email_change", "sample"), "days": 3},
    ),
    "email_change_asked": ListedMail(
        _("to the old address, when a change is asked for"),
        lambda: {"url": _link("password_reset"), "new_email": "new@example.org"},
    ),
    "email_changed": ListedMail(
        _("to the old address, after the change"),
        lambda: {"url": _link("undo_email_change", "sample"), "days": 7, "new_email": "new@example.org"},
    ),
    "email_changed_by_administrator": ListedMail(
        _("to the old address, after a change by an administrator"),
        lambda: {"url": _link("undo_email_change", "sample"), "days": 7, "new_email": "new@example.org"},
    ),
    "email_set_by_administrator": ListedMail(
        _("to the new address, after a change by an administrator"),
        lambda: {"url": _link("verify", "sample"), "days": 3},
    ),
    "address_wanted": ListedMail(
        _("when somebody else asks for an address that has an account"), lambda: {"url": _link("login")}
    ),
    "export_ready": ListedMail(
        _("once a copy of all data is ready"), lambda: {"url": _link("export"), "expires_at": _in_days(7)}
    ),
    "deletion_asked": ListedMail(
        _("when a deletion was asked for"), lambda: {"url": _link("account"), "delete_after": _in_days(14)}
    ),
    "account_deleted": ListedMail(_("once an account is deleted"), dict),
}
