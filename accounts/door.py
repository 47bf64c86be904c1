"""The one way in: whoever is logged in came through `log_in`, and sensitive pages ask for the password again."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from accounts import browsers
from accounts.events import Kind, record
from accounts.models import User
from accounts.tasks import send_new_login_email

PROVED_AT = "proved_at"
"""Key of the session: when its user last showed to be who they are, in seconds since 1970."""

MFA = "mfa"
"""Key of the session: with which second factor it was made, see `accounts.factors`; not there without one."""

View = Callable[..., HttpResponse]


def log_in(request: HttpRequest, user: User, second_factor: str = "", **details: Any) -> None:
    """Give the browser a session of this user, who has shown all that is asked for. `details` go into the log.

    The user gets a mail about a browser that is new to them, but not at their very first login, which has no other.
    """
    is_first = user.last_login is None
    with transaction.atomic():
        request.session.begin_anew()  # type: ignore[attr-defined]  # the engine is ours
        login(request, user, backend="django.contrib.auth.backends.ModelBackend")
        prove(request)
        if second_factor:
            request.session[MFA] = details["second_factor"] = second_factor
        event = record(Kind.LOGIN, request, user, **details)
        if not browsers.remember(request, user) and not is_first:
            send_new_login_email.enqueue(event.pk)


def note_second_factor(request: HttpRequest, method: str) -> None:
    """Note that the user of this session has just shown a second factor. The session gets another key."""
    request.session.cycle_key()
    request.session[MFA] = method


def prove(request: HttpRequest) -> None:
    """Note that the user of this session has just shown to be who they are."""
    request.session[PROVED_AT] = int(time.time())


def has_proved(request: HttpRequest) -> bool:
    """Return whether that was less than REAUTHENTICATE_AFTER ago."""
    return 0 <= time.time() - request.session.get(PROVED_AT, 0) < settings.REAUTHENTICATE_AFTER


def sensitive(view: View) -> View:
    """Decorate a view that asks for the password again where that is too long ago. It comes back with a GET."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if has_proved(request):
            return view(request, *args, **kwargs)
        return redirect_to_login(request.get_full_path(), reverse("accounts:reauthenticate"))

    return guarded


def next_url(request: HttpRequest, default: str = "") -> str:
    """Return where the request wants to be sent on to, if that is on this site; else the page of the account."""
    url = request.POST.get("next") or request.GET.get("next") or ""
    hosts = {request.get_host()}
    is_ours = url_has_allowed_host_and_scheme(url, allowed_hosts=hosts, require_https=request.is_secure())
    return url if is_ours else default or reverse("accounts:account")
