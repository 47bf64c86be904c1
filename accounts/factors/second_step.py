"""The second step of a login: after the right password, and before anybody is logged in.

In between, the session holds a pending login. It is good for PENDING_LIFETIME, for the second step only, and ends
when the password changes. Where the step fails, its user is told that somebody has the password: `warn`. A session that
was made without a second factor, of somebody who needs one, goes nowhere but here (or to where one is set up):
`SecondFactorMiddleware`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.deprecation import MiddlewareMixin
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts import browsers
from accounts.door import MFA, log_in, next_url, note_second_factor
from accounts.events import Kind, record
from accounts.factors import RECOVERY_CODE, has_factor, is_required, record_attempt, recovery, use_code
from accounts.factors.forms import CodeForm
from accounts.models import User
from accounts.tasks import send_password_warning_email
from accounts.throttle import DAY, SECOND_FACTOR, Attempt, Counter, Limit, Throttled, digest_of, look, take

PENDING = "pending_login"
PENDING_LIFETIME = timedelta(minutes=10)

ONE_WARNING = Limit(1, DAY)

_SET_UP = "second_factors app app_qr passkey_add passkey_add_options recovery_codes reauthenticate"
SET_UP = frozenset(f"accounts:{name}" for name in _SET_UP.split())
"""What somebody may open who needs a second factor and has none."""
SECOND_STEP = frozenset(
    f"accounts:{name}" for name in ("second_step", "second_step_options", "second_step_with_passkey")
)
"""What somebody may open whose session lacks the second factor that there is."""
ALWAYS = frozenset({"accounts:logout", "set_language"})


class Waiting(NamedTuple):
    """Whose second step it is, and where it leads."""

    user: User
    next_url: str


def enter(request: HttpRequest, user: User, next_url: str) -> str:
    """Log in whoever has typed the right password, or let the login wait for its second step; return where to go."""
    if not has_factor(user):
        log_in(request, user)
        return next_url
    logout(request)  # whoever gave the browser its session must not share what comes now; clients may log in twice
    request.session[PENDING] = {
        "user": user.pk,
        "hash": user.get_session_auth_hash(),
        "began_at": int(time.time()),
        "next": next_url,
    }
    return reverse("accounts:second_step")


def waiting(request: HttpRequest) -> Waiting | None:
    """Return whose second step this request may take; None if there is none to take."""
    if request.user.is_authenticated:
        assert isinstance(request.user, User)
        is_done = MFA in request.session or not has_factor(request.user)
        return None if is_done else Waiting(request.user, next_url(request))
    pending = request.session.get(PENDING)
    if pending is None or not 0 <= time.time() - pending["began_at"] < PENDING_LIFETIME.total_seconds():
        return None
    user = User.objects.filter(pk=pending["user"], is_active=True).first()
    if user is None or not constant_time_compare(user.get_session_auth_hash(), pending["hash"]):
        return None
    return Waiting(user, pending["next"])


def finish(request: HttpRequest, step: Waiting, method: str) -> HttpResponse:
    """Log in whoever has taken the second step; for a session that was there already, note it."""
    request.session.pop(PENDING, None)
    if request.user.is_authenticated:
        note_second_factor(request, method)
    else:
        log_in(request, step.user, second_factor=method)
    if method == RECOVERY_CODE:
        count = recovery.left(step.user)
        text = ngettext("You have %(count)s recovery code left.", "You have %(count)s recovery codes left.", count)
        messages.warning(request, text % {"count": count})
    return HttpResponseRedirect(step.next_url)


def check_code(request: HttpRequest, step: Waiting, code: str) -> str:
    """Return which factor the code is of, which it uses up; "" for none. Raises Throttled."""
    attempt = begin_attempt(request, step)
    method = use_code(step.user, code)
    record_attempt(request, step.user, method)
    if method:
        attempt.give_back()
    else:
        warn(request, step.user)
    return method


def begin_attempt(request: HttpRequest, step: Waiting) -> Attempt:
    """Count an attempt at the second step. Raises Throttled."""
    try:
        return take(SECOND_FACTOR, request, step.user)
    except Throttled:
        warn(request, step.user)
        raise


def warn(request: HttpRequest, user: User) -> None:
    """Tell a user by mail that somebody has the password and not the second factor.

    Once a day for each account, and not of a browser that is known to the user. To be called outside of a transaction.
    """
    counter = Counter(ONE_WARNING, digest_of(SECOND_FACTOR, "warning", f"user {user.pk}"))
    if browsers.known_to(request, user) or counter.wait_us(look([counter.digest])):
        return
    with transaction.atomic():
        if counter.take():  # else another was faster
            event = record(Kind.PASSWORD_WARNING, request, user)
            send_password_warning_email.enqueue(event.pk)


@login_not_required
@never_cache
@sensitive_post_parameters("code")
@require_http_methods(["GET", "HEAD", "POST"])
def second_step(request: HttpRequest) -> HttpResponse:
    """Ask for a code of the authenticator app or a recovery code, and log in whoever has one."""
    step = waiting(request)
    if step is None:
        return nothing_to_take(request)
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if method := check_code(request, step, form.cleaned_data["code"]):
            return finish(request, step, method)
        form.add_error("code", _("This code is wrong, too old or was used before. Try again with the next one."))
    return render(request, "accounts/second_step.html", {"form": form, "next": step.next_url, "owner": step.user})


def nothing_to_take(request: HttpRequest) -> HttpResponse:
    """Send whoever is done on, and whoever was too slow back."""
    if request.user.is_authenticated:
        return HttpResponseRedirect(next_url(request))
    if request.session.pop(PENDING, None):
        messages.error(request, _("That took too long, or your password has changed meanwhile. Please log in again."))
    return redirect("accounts:login")


class SecondFactorMiddleware(MiddlewareMixin):
    """Keeps whoever needs a second factor away from every page until the session was made with one."""

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        """Send them to the second step, or to where a factor is set up."""
        user = request.user
        if not isinstance(user, User) or not is_required(user) or MFA in request.session:
            return None
        assert request.resolver_match is not None
        has_one = has_factor(user)
        if request.resolver_match.view_name in ALWAYS | (SECOND_STEP if has_one else SET_UP):
            return None
        if has_one:
            return redirect_to_login(request.get_full_path(), reverse("accounts:second_step"))
        return redirect("accounts:second_factors")
