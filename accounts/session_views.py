"""The page on which users see where they are logged in, and end sessions: one, all others, or all."""

from __future__ import annotations

import re

from django.contrib import messages
from django.contrib.auth import logout
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.door import sensitive
from accounts.events import Kind, record
from accounts.models import Session, User
from accounts.sessions import digest_of, end_sessions, sessions_of
from accounts.user_agents import in_words

ALL, OTHERS = "all", "others"


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sessions(request: HttpRequest) -> HttpResponse:
    """List the sessions of whoever asks; a POST with `end` ends the one of this digest, all OTHERS, or ALL."""
    if request.method == "POST":
        return _end(request)
    assert isinstance(request.user, User)
    here = digest_of(request.session.session_key)
    rows = [
        {
            "session": row,
            "browser": in_words(row.user_agent),
            "is_here": row.pk == here,
        }
        for row in sessions_of(request.user.pk)
    ]
    rows.sort(key=lambda row: not row["is_here"])
    return render(request, "accounts/sessions.html", {"rows": rows, "has_others": len(rows) > 1})


@sensitive
def _end(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)
    end = request.POST.get("end", "")
    with transaction.atomic():
        if end == ALL:
            ended = end_sessions(request.user.pk)
        elif end == OTHERS:
            ended = end_sessions(request.user.pk, except_key=request.session.session_key)
        elif not re.fullmatch("[0-9a-f]{64}", end):
            ended = 0
        else:
            ended = Session.objects.filter(user=request.user, session_key=end).delete()[0]
        if ended:
            record(Kind.SESSION_ENDED, request, request.user, count=ended)
    if end in (ALL, digest_of(request.session.session_key)):
        logout(request)
        messages.success(request, _("You are logged out everywhere.") if end == ALL else _("You are logged out."))
        return redirect("accounts:login")
    if ended:
        text = ngettext("%(count)d session has ended.", "%(count)d sessions have ended.", ended)
        messages.success(request, text % {"count": ended})
    else:
        messages.info(request, _("There was no such session any more."))
    return redirect("accounts:sessions")
