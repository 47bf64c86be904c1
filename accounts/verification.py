"""The pages behind the links of the welcome mail: "verify my address" and "this was not me".

The link shows that whoever opens it reads the mails of the address. It does not show that they chose the password:
somebody else may have signed up with the address before. So it verifies in the browser that signed up, which has a
cookie, in one that is logged in, or once the password is typed.
"""

from __future__ import annotations

from typing import TypeVar

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core import signing
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts import tokens
from accounts.events import Kind, Outcome, record
from accounts.forms import ReauthenticationForm
from accounts.models import User
from accounts.throttle import REAUTHENTICATION, take
from tasks.retention import delete

Response = TypeVar("Response", bound=HttpResponse)


def remember_signup(response: Response, user: User | None) -> Response:
    """Give the browser the mark of its signup; None: it was none. Known address or new, the mark looks the same."""
    if user is not None:
        response.set_cookie(
            settings.SIGNUP_COOKIE_NAME,
            _signer(user).sign("1"),
            max_age=tokens.VERIFY_LIFETIME,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
    return response


def knows_password(request: HttpRequest, user: User) -> bool:
    """Return whether the browser has signed up with the user's present password, or has logged in as the user."""
    if request.user.pk == user.pk:
        return True
    try:
        _signer(user).unsign(request.COOKIES.get(settings.SIGNUP_COOKIE_NAME, ""), max_age=tokens.VERIFY_LIFETIME)
    except signing.BadSignature:
        return False
    return True


@login_not_required
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def verify(request: HttpRequest, token: str) -> HttpResponse:
    """Show a button, and a field for the password where it is needed; the POST verifies the address.

    Programs that open links in mails only ever GET.
    """
    user = tokens.user_of_verification(token)
    form = None
    if user is not None and user.email_verified_at is None:
        attempt = None
        if not knows_password(request, user):
            if request.POST.get("password"):
                attempt = take(REAUTHENTICATION, request, user)
            form = ReauthenticationForm(user, request.POST if request.method == "POST" else None)
        if request.method == "POST":
            if form is None or form.is_valid():
                if attempt:
                    attempt.give_back()
                if _verified(request, user):
                    messages.success(request, _("Your email address is verified."))
                    response: HttpResponse = redirect("accounts:account")  # which may ask for a login first
                    response.delete_cookie(settings.SIGNUP_COOKIE_NAME)
                    return tokens.without_referrer(response)
                user, form = tokens.user_of_verification(token), None  # another was faster
            else:
                record(Kind.EMAIL_VERIFIED, request, user, Outcome.FAILED)
    context = {"account": user, "form": form, "token": token}
    return tokens.without_referrer(render(request, "accounts/verify.html", context, status=200 if user else 404))


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def disown(request: HttpRequest, token: str) -> HttpResponse:
    """Let the owner of an address remove the account that somebody else has made with it; by POST only."""
    user = tokens.user_of_verification(token)
    is_removed = user is not None and request.method == "POST" and _removed(request, user)
    is_removable = user is not None and not is_removed and User.objects.disowned().filter(pk=user.pk).exists()
    context = {"account": user, "is_removed": is_removed, "is_removable": is_removable, "token": token}
    return tokens.without_referrer(render(request, "accounts/disown.html", context, status=200 if user else 404))


def _verified(request: HttpRequest, user: User) -> bool:
    with transaction.atomic():
        is_verified = user.verify_email()
        if is_verified:
            record(Kind.EMAIL_VERIFIED, request, user)
    return is_verified


def _removed(request: HttpRequest, user: User) -> bool:
    with transaction.atomic():
        rows = User.objects.disowned().filter(pk=user.pk, email=user.email)
        if not rows.select_for_update().first():  # locked: what goes with the row goes only if the row does
            return False
        delete(rows)
        record(Kind.EMAIL_DISOWNED, request, account=user.pk)
    return True


def _signer(user: User) -> signing.TimestampSigner:
    """Return a signer whose key depends on the hash, so that it shows nothing of it; its salt is of one signup only."""
    return signing.TimestampSigner(salt=f"accounts.signup {user.password}")
