"""The mails about an account: each a text and an HTML part, in the language of its user.

A mail's Message-ID comes from its task, so an attempt that is repeated sends the same mail again, not another one.
"""

from __future__ import annotations

from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation

from accounts import tokens
from accounts.models import User


def welcome(user: User, task_id: str) -> EmailMultiAlternatives:
    """Return the mail that welcomes a user and carries the link that verifies the address."""
    return _mail("welcome", user, task_id, url=tokens.verification_url(user), days=tokens.VERIFY_LIFETIME.days)


def already_registered(user: User, task_id: str) -> EmailMultiAlternatives:
    """Return the mail that tells a user of a second signup with the same address."""
    return _mail("already_registered", user, task_id, url=settings.SITE_URL + reverse("accounts:login"))


def _mail(name: str, user: User, task_id: str, **context: Any) -> EmailMultiAlternatives:
    context |= {"user": user, "site_name": settings.SITE_NAME, "site_url": settings.SITE_URL}
    with translation.override(user.language):
        subject, text, html = (
            render_to_string(f"accounts/emails/{name}{part}", context) for part in (".subject.txt", ".txt", ".html")
        )
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    mail = EmailMultiAlternatives(
        " ".join(subject.split()),
        text.strip() + "\n",
        to=[user.email],
        headers={"Message-ID": f"<task-{task_id}@{domain}>", "Auto-Submitted": "auto-generated"},
    )
    mail.attach_alternative(html, "text/html")
    return mail
