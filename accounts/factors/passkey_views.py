"""The pages on which passkeys are added, named and removed, and the answers to a browser that shows one.

`static/accounts/passkeys.js` sends the browser's answer as a field of a form, so what follows is a page like any other.
"""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import factors
from accounts.door import log_in, next_url, note_second_factor, prove
from accounts.events import Kind, Outcome, record
from accounts.factors import passkeys
from accounts.factors.forms import PasskeyForm
from accounts.factors.passkeys import PasskeyError
from accounts.factors.second_step import PENDING, begin_attempt, finish, nothing_to_take, waiting, warn
from accounts.factors.views import changes_factors, remove_factor, with_codes
from accounts.models import Passkey, User
from accounts.network import client_of
from accounts.throttle import FIVE_MINUTES, REAUTHENTICATION, Limit, Policy, take
from accounts.user_agents import name_of

# No secret can be guessed here; the limit is for the rows that each try writes. It is one with that of the passwords.
PASSKEY_LOGIN = Policy(Kind.LOGIN, network=Limit(50, FIVE_MINUTES))


@changes_factors
@require_POST
def add_options(request: HttpRequest) -> HttpResponse:
    """Return what the browser needs to make a passkey."""
    return _json(passkeys.registration_options(request, _user(request)))


@changes_factors
@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """Take a new passkey under the name that its user gives it."""
    user = _user(request)
    if not passkeys.are_possible():
        raise Http404
    if Passkey.objects.filter(user=user).count() >= passkeys.MOST:
        messages.error(request, _("You have as many passkeys as there can be. Remove one first."))
        return redirect("accounts:second_factors")
    form = PasskeyForm(request.POST or None, initial={"name": name_of(client_of(request).user_agent)})
    if request.method == "POST" and form.is_valid():
        try:
            passkey = passkeys.register(request, user, form.cleaned_data["name"], request.POST.get("credential", ""))
            codes = factors.add_passkey(request, user, passkey)
        except (PasskeyError, IntegrityError):  # the second: sent twice at once
            form.add_error(None, _("This passkey could not be added. Try again."))
        else:
            note_second_factor(request, factors.PASSKEY)
            messages.success(request, _("Your passkey is added."))
            return with_codes(request, codes)
    return render(request, "accounts/passkeys/add.html", {"form": form})


@changes_factors
@require_http_methods(["GET", "HEAD", "POST"])
def rename(request: HttpRequest, passkey_id: int) -> HttpResponse:
    """Give a passkey another name."""
    passkey = get_object_or_404(Passkey, pk=passkey_id, user=_user(request))
    form = PasskeyForm(request.POST or None, instance=passkey)
    if request.method == "POST" and form.is_valid():
        Passkey.objects.filter(pk=passkey.pk).update(name=form.cleaned_data["name"])
        return redirect("accounts:second_factors")
    return render(request, "accounts/passkeys/rename.html", {"form": form})


@changes_factors
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, passkey_id: int) -> HttpResponse:
    """Ask, and remove a passkey."""
    passkey = get_object_or_404(Passkey, pk=passkey_id, user=_user(request))
    return remove_factor(request, passkey, _("Remove the passkey “%(name)s”?") % {"name": passkey.name})


@login_not_required
@never_cache
@require_POST
def log_in_options(request: HttpRequest) -> HttpResponse:
    """Return what the browser needs to show any passkey that it has for this site."""
    take(PASSKEY_LOGIN, request, "")
    return _json(passkeys.authentication_options(request, passkeys.LOG_IN))


@login_not_required
@never_cache
@require_POST
def log_in_with_passkey(request: HttpRequest) -> HttpResponse:
    """Log in whoever's passkey this is. It stands for the password and the second step."""
    if request.user.is_authenticated:
        return HttpResponseRedirect(next_url(request))
    attempt = take(PASSKEY_LOGIN, request, "")
    try:
        user = passkeys.authenticate(request, passkeys.LOG_IN, request.POST.get("credential", ""))
    except PasskeyError:
        record(Kind.LOGIN, request, None, Outcome.FAILED, method=factors.PASSKEY)
        messages.error(request, _("This passkey does not log you in. Try another one, or log in with your password."))
        return redirect_to_login(next_url(request))
    attempt.give_back()
    request.session.pop(PENDING, None)
    log_in(request, user, second_factor=factors.PASSKEY, method=factors.PASSKEY)
    return HttpResponseRedirect(next_url(request))


@login_not_required
@never_cache
@require_POST
def second_step_options(request: HttpRequest) -> HttpResponse:
    """Return what the browser needs to show one of the passkeys of whoever has typed the password."""
    step = waiting(request)
    if step is None:
        return nothing_to_take(request)
    return _json(passkeys.authentication_options(request, passkeys.SECOND_STEP, step.user))


@login_not_required
@never_cache
@require_POST
def second_step_with_passkey(request: HttpRequest) -> HttpResponse:
    """Take a passkey as the second step of a login."""
    step = waiting(request)
    if step is None:
        return nothing_to_take(request)
    attempt = begin_attempt(request, step)
    try:
        passkeys.authenticate(request, passkeys.SECOND_STEP, request.POST.get("credential", ""), step.user)
    except PasskeyError:
        factors.record_attempt(request, step.user, "")
        warn(request, step.user)
        messages.error(request, _("This passkey is none of your account. Try another one, or a code."))
        return redirect_to_login(step.next_url, reverse("accounts:second_step"))
    factors.record_attempt(request, step.user, factors.PASSKEY)
    attempt.give_back()
    return finish(request, step, factors.PASSKEY)


@never_cache
@require_POST
def reauthenticate_options(request: HttpRequest) -> HttpResponse:
    """Return what the browser needs to show one of the passkeys of whoever is logged in."""
    return _json(passkeys.authentication_options(request, passkeys.REAUTHENTICATE, _user(request)))


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def reauthenticate_with_passkey(request: HttpRequest) -> HttpResponse:
    """Take a passkey where the password is asked for again. Who had to log in first comes with a GET."""
    user = _user(request)
    if request.method != "POST":
        return HttpResponseRedirect(next_url(request))
    attempt = take(REAUTHENTICATION, request, user)
    try:
        passkeys.authenticate(request, passkeys.REAUTHENTICATE, request.POST.get("credential", ""), user)
    except PasskeyError:
        record(Kind.REAUTHENTICATION, request, user, Outcome.FAILED, method=factors.PASSKEY)
        messages.error(request, _("This passkey is none of your account. Try another one, or your password."))
        return redirect_to_login(next_url(request), reverse("accounts:reauthenticate"))
    record(Kind.REAUTHENTICATION, request, user, method=factors.PASSKEY)
    attempt.give_back()
    prove(request)
    return HttpResponseRedirect(next_url(request))


def _json(text: str) -> HttpResponse:
    return HttpResponse(text, content_type="application/json")


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
