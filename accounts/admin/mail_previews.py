"""The pages /admin/accounts/user/mails/: every mail of `accounts.mail_list`, as a sample, in text and in HTML."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.core.mail import EmailMultiAlternatives
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts import emails
from accounts.mail_list import MAILS
from accounts.models import User


class MailPreviews:
    """The pages, for staff who may see users."""

    def __init__(self, site: AdminSite) -> None:
        self.site = site

    def get_urls(self) -> list[URLPattern]:
        """Return their addresses, below that of the users."""
        return [
            path("mails/", self.site.admin_view(require_safe(self.mails)), name="accounts_mails"),
            path(
                "mails/<slug:mail>/<slug:language>/",
                self.site.admin_view(require_safe(self.mail)),
                name="accounts_mail",
            ),
            path(
                "mails/<slug:mail>/<slug:language>/html/",
                self.site.admin_view(require_safe(self.html)),
                name="accounts_mail_html",
            ),
        ]

    def mails(self, request: HttpRequest) -> HttpResponse:
        """List the mails, with their subjects in each language."""
        self._check(request)
        languages = [code for code, _name in settings.LANGUAGES]
        lines = [
            {
                "name": name,
                "title": listed.title,
                "subjects": [(code, emails.preview(name, code).subject) for code in languages],
            }
            for name, listed in MAILS.items()
        ]
        return TemplateResponse(request, "admin/accounts/mails.html", self._context(request, _("Mails"), lines=lines))

    def mail(self, request: HttpRequest, mail: str, language: str) -> HttpResponse:
        """Show a mail: its subject, its text, and its HTML in a frame that may run nothing."""
        self._check(request)
        sample = _sample(mail, language)
        context = self._context(request, str(sample.subject), mail=sample, name=mail, title_of=MAILS[mail].title)
        return TemplateResponse(request, "admin/accounts/mail.html", context | {"language": language})

    def html(self, request: HttpRequest, mail: str, language: str) -> HttpResponse:
        """Send the HTML part alone. Its <style> is known by its hash; nothing else of it may run, load or send."""
        self._check(request)
        html = str(_sample(mail, language).alternatives[0][0])
        hashes = [
            f"'sha256-{b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
            for style in re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
        ]
        styles = " ".join(hashes) or "'none'"
        return HttpResponse(
            html,
            headers={
                "Content-Security-Policy": f"default-src 'none'; style-src {styles}; base-uri 'none'; "
                "form-action 'none'; frame-ancestors 'self'; sandbox",
                "X-Frame-Options": "SAMEORIGIN",
            },
        )

    def _check(self, request: HttpRequest) -> None:
        if not request.user.has_perm("accounts.view_user"):
            raise PermissionDenied

    def _context(self, request: HttpRequest, title: str, **more: Any) -> dict[str, Any]:
        return self.site.each_context(request) | {"title": title, "opts": User._meta} | more


def _sample(name: str, language: str) -> EmailMultiAlternatives:
    if name not in MAILS or language not in dict(settings.LANGUAGES):
        raise Http404
    return emails.preview(name, language)
