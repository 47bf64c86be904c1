"""The pages of an account."""

from __future__ import annotations

import json

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView as DjangoLoginView
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from accounts import tokens
from accounts.forms import LoginForm, SignupForm


@login_not_required
@csrf_exempt  # for JSON only, which no form of another site can send; `_signup_page` checks it again
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def signup(request: HttpRequest) -> HttpResponse:
    """Take a signup, as a form or as JSON. A known address is answered like a new one."""
    if request.content_type == "application/json":
        return _signup_json(request)
    return _signup_page(request)


@never_cache
@csrf_protect
def _signup_page(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect("accounts:account")
    form = SignupForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        return redirect("accounts:check_inbox")
    return render(request, "accounts/signup.html", {"form": form})


def _signup_json(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return JsonResponse(
            {"errors": {"__all__": [_("Send the signup with POST.")]}}, status=405, headers={"Allow": "POST"}
        )
    try:
        data = json.loads(request.body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        return JsonResponse({"errors": {"__all__": [_("The body is not a JSON object.")]}}, status=400)
    if wrong := {name: [_("Enter a string.")] for name in SignupForm.base_fields if not _is_text(data.get(name, ""))}:
        return JsonResponse({"errors": wrong}, status=400)
    form = SignupForm(data)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    form.save()
    return JsonResponse(
        {"status": "accepted", "detail": _("We have sent you an email. Open the link in it.")}, status=202
    )


def _is_text(value: object) -> bool:
    """Return whether it is a string of characters: JSON can also spell half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


@login_not_required
@require_safe
def check_inbox(request: HttpRequest) -> HttpResponse:
    """Say that a mail is on its way, to everyone alike."""
    return render(request, "accounts/check_inbox.html")


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def verify(request: HttpRequest, token: str) -> HttpResponse:
    """Show a button; its POST verifies the address. Programs that open links in mails only ever GET."""
    user = tokens.user_of_verification(token)
    if user is not None and request.method == "POST" and user.verify_email():
        messages.success(request, _("Your email address is verified."))
        response: HttpResponse = redirect("accounts:account")  # which asks for a login first
    else:
        # a POST that gets here was not the first
        usable = user is not None and user.email_verified_at is None and request.method != "POST"
        context = {"usable": usable, "already": user is not None and not usable, "token": token}
        response = render(request, "accounts/verify.html", context, status=200 if user else 404)
    # The address of this page is the key: other sites must not see it. "no-referrer" would be stricter, but makes
    # browsers send "Origin: null" with the form, which the CSRF check refuses.
    response["Referrer-Policy"] = "same-origin"
    return response


@require_safe
@never_cache
def account(request: HttpRequest) -> HttpResponse:
    """Show people their account."""
    return render(request, "accounts/account.html")


@method_decorator(login_not_required, name="dispatch")
class LoginView(DjangoLoginView):
    """Django's, with our form. Somebody who is logged in is sent on."""

    authentication_form = LoginForm
    template_name = "accounts/login.html"
    redirect_authenticated_user = True
    extra_context = {"site_name": settings.SITE_NAME}  # Django's view would put the request's host there
