"""List and show the mails of the development mailbox."""

from __future__ import annotations

import email
import email.policy
import hashlib
import re
from base64 import b64encode
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import parsedate_to_datetime

from csp.decorators import csp_replace
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_safe

from devmail.backend import box


@login_not_required
@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    """List the mails, the newest first."""
    mails = [(key, _read(key)) for key in box().keys()]  # noqa: SIM118 - a Maildir is no dict
    mails.sort(key=lambda pair: (_date(pair[1]), pair[0]), reverse=True)
    return render(request, "devmail/inbox.html", {"mails": [(key, mail, _date(mail)) for key, mail in mails]})


@login_not_required
@require_safe
@csp_replace({"frame-src": ["'self'"]})  # type: ignore[arg-type]  # it passes arguments on, its types do not
def mail(request: HttpRequest, key: str) -> HttpResponse:
    """Show a mail: headers, text, HTML in a frame that may run nothing."""
    message = _read(key)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    context = {
        "key": key,
        "mail": message,
        "date": _date(message),
        "message_id": message["Message-ID"],
        "text": text.get_content() if text else "",
        "has_html": html is not None,
    }
    return render(request, "devmail/mail.html", context)


@login_not_required
@require_safe
@xframe_options_sameorigin
def html_part(request: HttpRequest, key: str) -> HttpResponse:
    """Send the HTML part alone: its <style> elements count, its scripts do not, its links open outside of the frame."""
    part = _read(key).get_body(("html",))
    if part is None:
        raise Http404("This mail has no HTML part.")
    html = part.get_content()
    styles = re.findall(r"<style[^>]*>(.*?)</style>", html, re.DOTALL | re.IGNORECASE)
    allowed = (
        " ".join(f"'sha256-{b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" for style in styles)
        or "'none'"
    )
    html = re.sub(r"<head[^>]*>", lambda head: f'{head[0]}<base target="_top">', html, count=1, flags=re.IGNORECASE)
    response = HttpResponse(html)
    response["Content-Security-Policy"] = (
        f"default-src 'none'; img-src 'self' data:; style-src {allowed}; frame-ancestors 'self'"
    )
    return response


def _read(key: str) -> EmailMessage:
    try:
        raw = box().get_bytes(key)
    except (KeyError, OSError, ValueError):
        raise Http404("There is no such mail.") from None
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def _date(message: EmailMessage) -> datetime:
    try:
        date = parsedate_to_datetime(str(message["Date"]))
        if timezone.is_naive(date):  # "-0000": UTC, sent from no known zone
            date = date.replace(tzinfo=UTC)
        return timezone.localtime(date)
    except (ValueError, OverflowError):
        return timezone.now()
