"""The mails about an account: each a text and an HTML part, in the language of its user.

A mail's Message-ID comes from its task, so an attempt that is repeated sends the same mail again, not another one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.functional import lazy
from django.utils.translation import gettext_lazy as _

from accounts import mail_list, tokens
from accounts.models import EmailChange, SecurityEvent, User
from accounts.models.requests import UNDO_LIFETIME
from accounts.names import looks_like_address
from accounts.user_agents import name_of
from tasks.retention import in_words

SECOND_FACTOR_CHANGES = {
    "app-added": _("An authenticator app was added to your account."),
    "app-replaced": _("The authenticator app of your account was replaced by another one."),
    "app-removed": _("The authenticator app was removed from your account."),
    "passkey-added": _("A passkey was added to your account."),
    "passkey-removed": _("A passkey was removed from your account."),
    "codes-made": _("New recovery codes were made for your account. The old ones no longer work."),
    "code-used": _("A recovery code was used to log in to your account. It does not work again."),
    "all-removed": _(
        "An administrator removed all second factors and recovery codes from your account, and ended its sessions. "
        "You now log in with your password alone, and can then set up a second factor again."
    ),
}


def welcome(user: User, task_id: str) -> EmailMultiAlternatives:
    """Return the mail that welcomes a user and carries the links that verify the address and that disown it."""
    links = {"url": tokens.verification_url(user), "disown_url": tokens.disown_url(user)}
    return _mail("welcome", user, task_id, **links, days=tokens.VERIFY_LIFETIME.days)


def already_registered(user: User, task_id: str) -> EmailMultiAlternatives:
    """Return the mail that tells a user of a second signup with the same address."""
    return _mail("already_registered", user, task_id, url=settings.SITE_URL + reverse("accounts:login"))


def password_reset(user: User, task_id: str) -> EmailMultiAlternatives:
    """Return the mail with the link to a new password."""
    lifetime = lazy(in_words, str)(timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT))  # in the language of the mail
    return _mail("password_reset", user, task_id, url=tokens.reset_url(user), lifetime=lifetime)


def password_changed(user: User, task_id: str) -> EmailMultiAlternatives:
    """Return the mail that tells a user of a new password, and what to do if it was somebody else."""
    return _mail("password_changed", user, task_id, url=settings.SITE_URL + reverse("accounts:password_reset"))


def new_login(user: User, event: SecurityEvent, task_id: str) -> EmailMultiAlternatives:
    """Return the mail that tells a user of a login from a new browser, and what to do if it was somebody else."""
    return _mail("new_login", user, task_id, **_where(event))


def password_warning(user: User, event: SecurityEvent, task_id: str) -> EmailMultiAlternatives:
    """Return the mail that tells a user of the right password without a second factor, and what to do about it."""
    return _mail("password_warning", user, task_id, **_where(event))


def email_change_link(change: EmailChange, task_id: str) -> EmailMultiAlternatives:
    """Return the mail to the new address, with the link that makes it the user's."""
    context = {"url": tokens.confirm_change_url(change), "days": tokens.VERIFY_LIFETIME.days}
    return _mail("email_change_link", change.user, task_id, to=change.new_email, **context)


def email_change_asked(change: EmailChange, task_id: str) -> EmailMultiAlternatives:
    """Return the mail that tells the old address what was asked for, and what to do if it was somebody else."""
    url = settings.SITE_URL + reverse("accounts:password_reset")
    return _mail("email_change_asked", change.user, task_id, to=change.old_email, new_email=change.new_email, url=url)


def email_changed(change: EmailChange, task_id: str) -> EmailMultiAlternatives:
    """Return the mail that tells the old address of the new one, with the link that undoes it."""
    context = {"url": tokens.undo_change_url(change), "days": UNDO_LIFETIME.days, "new_email": change.new_email}
    return _mail("email_changed", change.user, task_id, to=change.old_email, **context)


def email_changed_by_administrator(change: EmailChange, task_id: str, is_undoable: bool) -> EmailMultiAlternatives:
    """Return the mail that tells the old address of a change by an administrator.

    If it can be undone, with the link and the new address: else the old one may be somebody else's.
    """
    context: dict[str, Any] = {"url": "", "days": UNDO_LIFETIME.days, "new_email": ""}
    if is_undoable:
        context |= {"url": tokens.undo_change_url(change), "new_email": change.new_email}
    return _mail("email_changed_by_administrator", change.user, task_id, to=change.old_email, **context)


def email_set_by_administrator(user: User, task_id: str) -> EmailMultiAlternatives:
    """Return the mail to an address that an administrator has typed, with the link that verifies it."""
    context: dict[str, Any] = {"url": tokens.verification_url(user), "days": tokens.VERIFY_LIFETIME.days}
    return _mail("email_set_by_administrator", user, task_id, **context)


def address_wanted(user: User, task_id: str) -> EmailMultiAlternatives:
    """Return the mail that tells a user of somebody who wanted their address for another account."""
    return _mail("address_wanted", user, task_id, url=settings.SITE_URL + reverse("accounts:login"))


def second_factor_changed(user: User, task_id: str, change: str) -> EmailMultiAlternatives:
    """Return the mail that tells a user of a change, which is a key of SECOND_FACTOR_CHANGES."""
    url = settings.SITE_URL + reverse("accounts:password_reset")
    return _mail("second_factor_changed", user, task_id, change=SECOND_FACTOR_CHANGES[change], url=url)


def export_ready(user: User, task_id: str, expires_at: datetime) -> EmailMultiAlternatives:
    """Return the mail that says where a copy of all data is ready. It is no key: the page asks for a login."""
    url = settings.SITE_URL + reverse("accounts:export")
    return _mail("export_ready", user, task_id, url=url, expires_at=expires_at)


def deletion_asked(user: User, task_id: str) -> EmailMultiAlternatives:
    """Return the mail that says when an account will be deleted, and how to keep it."""
    url = settings.SITE_URL + reverse("accounts:account")
    return _mail("deletion_asked", user, task_id, url=url, delete_after=user.delete_after)


def account_deleted(user: User, task_id: str) -> EmailMultiAlternatives:
    """Return the last mail to a user: the account is deleted."""
    return _mail("account_deleted", user, task_id)


def preview(name: str, language: str) -> EmailMultiAlternatives:
    """Return a mail of the list as a sample, to nobody. It holds no link that does anything."""
    user = User(email="name@example.org", display_name="Sample", language=language)
    return _mail(name, user, "0", **mail_list.MAILS[name].sample())


def _where(event: SecurityEvent) -> dict[str, Any]:
    browser = lazy(name_of, str)(event.user_agent)  # in the language of the mail
    url = settings.SITE_URL + reverse("accounts:password_reset")
    return {"url": url, "at": event.at, "address": event.address, "browser": browser}


def _mail(name: str, user: User, task_id: str, to: str = "", **context: Any) -> EmailMultiAlternatives:
    mail_list.check(name, context)
    name_shown = "" if looks_like_address(user.display_name) else user.display_name  # it may be older than that rule
    context |= {"name": name_shown, "site_name": settings.SITE_NAME, "site_url": settings.SITE_URL}
    with translation.override(user.language):
        subject, text, html = (
            render_to_string(f"accounts/emails/{name}{part}", context) for part in (".subject.txt", ".txt", ".html")
        )
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    mail = EmailMultiAlternatives(
        " ".join(subject.split()),
        text.strip() + "\n",
        to=[to or user.email],
        headers={"Message-ID": f"<task-{task_id}@{domain}>", "Auto-Submitted": "auto-generated"},
    )
    mail.attach_alternative(html, "text/html")
    return mail
