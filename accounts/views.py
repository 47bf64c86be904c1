"""The pages of an account."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout, update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView as DjangoLoginView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from accounts import browsers, tokens
from accounts.door import next_url, prove
from accounts.events import Kind, Outcome, record
from accounts.export import state_of
from accounts.factors import has_factor, passkeys
from accounts.factors.second_step import enter
from accounts.forms import (
    AddressForm,
    LoginForm,
    NewPasswordForm,
    PasswordChangeForm,
    PasswordResetForm,
    ReauthenticationForm,
    ResendForm,
    SignupForm,
)
from accounts.json_bodies import errors, texts_of
from accounts.models import User
from accounts.throttle import REAUTHENTICATION, take
from accounts.tokens import without_referrer
from accounts.verification import remember_signup

Form = SignupForm | AddressForm


@login_not_required
@csrf_exempt  # for JSON only, which no form of another site can send; `_page` checks it again
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def signup(request: HttpRequest) -> HttpResponse:
    """Take a signup, as a form or as JSON. A known address is answered like a new one."""
    if request.content_type == "application/json":
        detail = _("We have sent you an email. Open the link in it.")
        return _json(request, SignupForm, detail, _("Send the signup with POST."))
    if request.user.is_authenticated:
        return redirect("accounts:account")
    return _page(request, SignupForm, "accounts/signup.html", "accounts:check_inbox")


@login_not_required
@csrf_exempt  # as above
@require_http_methods(["GET", "HEAD", "POST"])
def password_reset(request: HttpRequest) -> HttpResponse:
    """Take an address that a link to a new password goes to, as a form or as JSON. All are answered alike."""
    if request.content_type == "application/json":
        detail = _("If this address has an account, we have sent an email to it.")
        return _json(request, PasswordResetForm, detail, _("Send the address with POST."))
    return _page(request, PasswordResetForm, "accounts/password_reset.html", "accounts:password_reset_sent")


@login_not_required
@csrf_exempt  # as above
@require_http_methods(["GET", "HEAD", "POST"])
def resend(request: HttpRequest) -> HttpResponse:
    """Take an address that the link which verifies it goes to once more, as `password_reset` does."""
    if request.content_type == "application/json":
        detail = _("If this address has an account that is not verified yet, we have sent an email to it.")
        return _json(request, ResendForm, detail, _("Send the address with POST."))
    return _page(request, ResendForm, "accounts/resend.html", "accounts:resend_sent")


@never_cache
@csrf_protect
def _page(request: HttpRequest, form_class: type[Form], template: str, then: str) -> HttpResponse:
    form = form_class(request.POST or None, initial={"email": getattr(request.user, "email", "")})
    if request.method == "POST" and form.is_valid():
        take(form.policy, request, form.cleaned_data["email"])
        return remember_signup(redirect(then), form.save(request=request))
    return render(request, template, {"form": form})


def _json(request: HttpRequest, form_class: type[Form], detail: str, hint: str) -> HttpResponse:
    if request.method != "POST":
        return errors({"__all__": [hint]}, 405, {"Allow": "POST"})
    data = texts_of(request, form_class.base_fields)
    if isinstance(data, JsonResponse):
        return data
    form = form_class(data)
    if not form.is_valid():
        return errors(form.errors)
    take(form.policy, request, form.cleaned_data["email"])
    user = form.save(request=request)
    return remember_signup(JsonResponse({"status": "accepted", "detail": detail}, status=202), user)


@login_not_required
@require_safe
def check_inbox(request: HttpRequest, about: str = "signup") -> HttpResponse:
    """Say that a mail is on its way, to everyone alike."""
    return render(request, "accounts/check_inbox.html", {"about": about})


@login_not_required
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def new_password(request: HttpRequest, token: str) -> HttpResponse:
    """Let whoever has the link choose a password; the POST uses it up. Nobody is logged in by it."""
    user = tokens.user_of_reset(token)
    form = user and NewPasswordForm(user, request.POST or None)
    if user and form and request.method == "POST" and form.is_valid():
        if form.save(request):
            browsers.forget(user)
            browsers.remember(request, user)  # strangers may have used up what the login allows to unknown ones
            logout(request)
            messages.success(request, _("Your password is changed. Log in with the new one."))
            return without_referrer(redirect("accounts:login"))
        form = None
    return without_referrer(render(request, "accounts/new_password.html", {"form": form}, status=200 if form else 404))


@require_safe
@never_cache
def account(request: HttpRequest) -> HttpResponse:
    """Show people their account."""
    assert isinstance(request.user, User)
    context = {"export": state_of(request.user), "has_factor": has_factor(request.user)}
    return render(request, "accounts/account.html", context)


@never_cache
@sensitive_post_parameters("old_password", "password")
@require_http_methods(["GET", "HEAD", "POST"])
def password_change(request: HttpRequest) -> HttpResponse:
    """Let somebody who knows the present password choose another. This session stays, the others end."""
    assert isinstance(request.user, User)
    attempt = take(REAUTHENTICATION, request, request.user) if request.POST.get("old_password") else None
    form = PasswordChangeForm(request.user, request.POST or None)
    is_valid = form.is_valid()
    if attempt and "old_password" not in form.errors:
        attempt.give_back()
    if is_valid:
        if form.save(request):
            browsers.forget(request.user, request)
            update_session_auth_hash(request, form.user)
            messages.success(request, _("Your password is changed. Your other sessions have ended."))
        return redirect("accounts:account")  # which asks for a login if another was faster
    return render(request, "accounts/password_change.html", {"form": form})


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def reauthenticate(request: HttpRequest) -> HttpResponse:
    """Ask for the password again, see `accounts.door.sensitive`, and send people on to where they wanted to go."""
    assert isinstance(request.user, User)
    form = ReauthenticationForm(request.user, request.POST or None)
    if request.POST.get("password"):
        attempt = take(REAUTHENTICATION, request, request.user)
        is_valid = form.is_valid()
        record(Kind.REAUTHENTICATION, request, request.user, Outcome.SUCCEEDED if is_valid else Outcome.FAILED)
        if is_valid:
            attempt.give_back()
            update_session_auth_hash(request, request.user)  # a new key, and the hash may be of a newer kind now
            prove(request)
            return HttpResponseRedirect(next_url(request))
    return render(request, "accounts/reauthenticate.html", {"form": form, "next": next_url(request)})


@method_decorator(login_not_required, name="dispatch")
class LoginView(DjangoLoginView):
    """Django's, with our form. Somebody who is logged in is sent on."""

    authentication_form = LoginForm
    template_name = "accounts/login.html"
    redirect_authenticated_user = True
    extra_context = {
        "site_name": settings.SITE_NAME,  # Django's view would put the request's host there
        "passkeys_are_possible": passkeys.are_possible,
    }

    def get_redirect_url(self) -> str:  # type: ignore[override]  # the stubs are of another version
        """Return where to go on to, if anywhere: the login itself leads nowhere, and Django's view breaks on it."""
        url = super().get_redirect_url()
        return url if url != self.request.path else ""

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Let them in, or on to the second step."""
        user = form.get_user()
        assert isinstance(user, User)
        return HttpResponseRedirect(enter(self.request, user, self.get_success_url()))
