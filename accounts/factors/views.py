"""The pages on which people look after their second factors."""

from __future__ import annotations

import io
from functools import wraps
from typing import Any

import segno
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from accounts import factors
from accounts.door import MFA, View, note_second_factor, sensitive
from accounts.factors import encryption, passkeys, recovery, totp
from accounts.factors.forms import AppCodeForm
from accounts.models import Passkey, Totp, User

IN_SET_UP = "totp_setup"
"""Key of the session: the encrypted secret of an app that is being set up."""


def changes_factors(view: View) -> View:
    """Decorate a view that only its user may open, just identified, and by the second factor if there is one."""

    @never_cache
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if MFA not in request.session and factors.has_factor(_user(request)):
            return redirect_to_login(request.get_full_path(), reverse("accounts:second_step"))
        return sensitive(view)(request, *args, **kwargs)

    return guarded


@never_cache
@require_safe
def second_factors(request: HttpRequest) -> HttpResponse:
    """Show what there is."""
    user = _user(request)
    app = Totp.objects.filter(user=user, confirmed_at__isnull=False).first()
    keys = list(Passkey.objects.filter(user=user).order_by("pk"))
    context: dict[str, Any] = {"app": app, "passkeys": keys, "has_factor": app is not None or bool(keys)}
    context |= {"passkeys_are_possible": passkeys.are_possible()}
    context |= {"codes_left": recovery.left(user), "is_required": factors.is_required(user)}
    return render(request, "accounts/second_factors.html", context)


@changes_factors
@sensitive_post_parameters("code")
@require_http_methods(["GET", "HEAD", "POST"])
def app(request: HttpRequest) -> HttpResponse:
    """Show the secret of a new authenticator app; a code from it makes it the user's, in place of an older one."""
    user = _user(request)
    secret = _new_secret(request)
    if secret is None:
        if request.method == "POST":  # sent once more: it is done
            return redirect("accounts:second_factors")
        secret = totp.new_secret()
        request.session[IN_SET_UP] = encryption.encrypt(secret, _purpose(user))
    form = AppCodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        step = totp.step_of(secret, form.cleaned_data["code"])
        if step is not None:
            del request.session[IN_SET_UP]
            note_second_factor(request, factors.APP)
            codes = factors.add_app(request, user, secret, step)
            messages.success(request, _("Your authenticator app is set up."))
            return with_codes(request, codes)
        form.add_error("code", _("This is not the code of this secret now. Check the clock of the device, try again."))
    groups = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
    return render(request, "accounts/app.html", {"form": form, "secret": groups, "uri": totp.uri(user, secret)})


@changes_factors
@require_safe
def app_qr(request: HttpRequest) -> HttpResponse:
    """Draw the secret of the app that this session sets up."""
    secret = _new_secret(request)
    if secret is None:
        raise Http404
    drawing = io.BytesIO()
    segno.make(totp.uri(_user(request), secret), error="m").save(drawing, kind="svg", scale=5, light="#fff")
    return HttpResponse(drawing.getvalue(), content_type="image/svg+xml")


@changes_factors
@require_http_methods(["GET", "HEAD", "POST"])
def app_remove(request: HttpRequest) -> HttpResponse:
    """Ask, and remove the authenticator app."""
    return remove_factor(request, get_object_or_404(Totp, user=_user(request)), _("Remove the authenticator app?"))


def remove_factor(request: HttpRequest, factor: Totp | Passkey, question: str) -> HttpResponse:
    """Ask, and remove one factor; where it is the last one and needed, say so."""
    if request.method != "POST":
        return render(request, "accounts/factor_remove.html", {"question": question})
    try:
        factors.remove(request, factor)
    except factors.LastFactorError:
        messages.error(request, _("Your account needs a second factor. Set up another one first."))
    else:
        messages.success(request, _("It is removed. Your other sessions have ended."))
    return redirect("accounts:second_factors")


@changes_factors
@require_http_methods(["GET", "HEAD", "POST"])
def recovery_codes(request: HttpRequest) -> HttpResponse:
    """Show how many are left; the POST makes new ones and shows them, once."""
    user = _user(request)
    if not factors.has_factor(user):
        return redirect("accounts:second_factors")
    if request.method == "POST":
        return with_codes(request, factors.make_codes(request, user))
    return render(request, "accounts/recovery_codes.html", {"codes_left": recovery.left(user)})


def with_codes(request: HttpRequest, codes: list[str]) -> HttpResponse:
    """Show new recovery codes, this once; without any, what second factors there are."""
    if not codes:
        return redirect("accounts:second_factors")
    return render(request, "accounts/recovery_codes.html", {"codes": codes})


def _new_secret(request: HttpRequest) -> str | None:
    try:
        return encryption.decrypt(request.session[IN_SET_UP], _purpose(_user(request)))
    except (KeyError, encryption.UndecipherableError):
        return None


def _purpose(user: User) -> str:
    return f"totp set-up {user.pk}"


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
