"""Login, second step and logout for clients that speak JSON; everything else goes on to the pages.

The same forms, limits and events as those of the pages, see docs/openapi.yaml. No CSRF token is asked for: a form of
another site cannot send this type, and its scripts would have to ask first, which nobody answers. Since a login that
another site begins would be a trap (its victim uses the account of the attacker), a browser that says where the
request comes from is believed in addition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import logout as end_session
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LogoutView
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from accounts.factors.forms import CodeForm
from accounts.factors.second_step import check_code, enter, finish, second_step, waiting
from accounts.forms import LoginForm
from accounts.json_bodies import errors, texts_of
from accounts.models import User
from accounts.views import LoginView

View = Callable[[HttpRequest], HttpResponse]

LOGGED_IN, LOGGED_OUT, SECOND_FACTOR_REQUIRED = "logged-in", "logged-out", "second-factor-required"


def or_page(page: Callable[..., Any]) -> Callable[[View], View]:
    """Decorate a view of JSON requests; others get the page, with its CSRF check."""

    def decorate(view: View) -> View:
        @login_not_required
        @csrf_exempt  # for JSON only
        @never_cache
        @wraps(view)
        def chosen(request: HttpRequest) -> HttpResponse:
            if request.content_type != "application/json":
                return csrf_protect(page)(request)
            if request.method != "POST":
                return errors({"__all__": [_("Send this with POST.")]}, 405, {"Allow": "POST"})
            if _is_from_elsewhere(request):
                return errors({"__all__": [_("Requests from pages of other sites are refused.")]}, 403)
            return view(request)

        return chosen

    return decorate


@or_page(LoginView.as_view())
def login(request: HttpRequest) -> HttpResponse:
    """Log in with address and password. The answer sets the cookie of the session."""
    data = texts_of(request, ("email", "password"))
    if isinstance(data, JsonResponse):
        return data
    form = LoginForm(request, {"username": data.get("email", ""), "password": data.get("password", "")})
    if not form.is_valid():
        messages = {{"username": "email"}.get(name, name): texts for name, texts in form.errors.items()}
        return _unauthorized(messages) if "__all__" in messages else errors(messages)
    user = form.get_user()
    assert isinstance(user, User)
    then = enter(request, user, reverse("accounts:account"))
    return _status(SECOND_FACTOR_REQUIRED if then == reverse("accounts:second_step") else LOGGED_IN)


@or_page(second_step)
def second_factor(request: HttpRequest) -> HttpResponse:
    """Take the second step with a code."""
    step = waiting(request)
    if step is None:
        return _unauthorized({"__all__": [_("Log in with address and password first.")]})
    data = texts_of(request, ("code",))
    if isinstance(data, JsonResponse):
        return data
    form = CodeForm(data)
    if not form.is_valid():
        return errors(form.errors)
    method = check_code(request, step, form.cleaned_data["code"])
    if not method:
        text = _("This code is wrong, too old or was used before. Try again with the next one.")
        return _unauthorized({"code": [text]})
    finish(request, step, method)
    return _status(LOGGED_IN)


@or_page(LogoutView.as_view())
def logout(request: HttpRequest) -> HttpResponse:
    """End the session, if there is one."""
    end_session(request)
    return _status(LOGGED_OUT)


def _status(status: str) -> JsonResponse:
    return JsonResponse({"status": status})


def _unauthorized(messages: Mapping[str, Any]) -> JsonResponse:
    return errors(messages, 401, {"WWW-Authenticate": "Cookie"})  # RFC 9110 wants a scheme; browsers ask nobody for it


def _is_from_elsewhere(request: HttpRequest) -> bool:
    """Return whether a browser says that a page of another site sends this. Other clients say nothing."""
    origin = request.headers.get("Origin")
    ours = {f"{request.scheme}://{request.get_host()}", "{0.scheme}://{0.netloc}".format(urlsplit(settings.SITE_URL))}
    is_foreign = origin is not None and origin not in ours
    return is_foreign or request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
