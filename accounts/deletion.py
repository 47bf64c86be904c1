"""The deletion of an account: asked for and taken back by its user, or asked for by an administrator.

What follows is in `accounts.erasure`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib import messages
from django.db import transaction
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.door import sensitive
from accounts.erasure import is_last_superuser
from accounts.events import Kind, Outcome, record
from accounts.models import User
from accounts.tasks import erase_account, send_deletion_asked_email

GRACE = timedelta(days=14)
"""For how long a deletion can be taken back."""


class LastSuperuser(Exception):  # noqa: N818 - a refusal, not an error
    """Nobody could administer the site any more."""


def ask(user: User, request: HttpRequest) -> datetime | None:
    """Let the account be erased after GRACE; return when, None if that is so already. Raises LastSuperuser.

    The date, the task that erases and the mail are stored together, or not at all.
    """
    after = timezone.now() + GRACE
    with transaction.atomic():
        if is_last_superuser(user.pk):
            raise LastSuperuser
        if not User.objects.filter(pk=user.pk, is_active=True, delete_after=None).update(delete_after=after):
            return None
        erase_account.using(run_after=after).enqueue(user.pk)
        send_deletion_asked_email.enqueue(user.pk)
        record(Kind.DELETION_ASKED, request, user)
    return after


def ask_by_administrator(user: User, request: HttpRequest) -> None:
    """Close the account, and let it be erased without GRACE. Raises LastSuperuser.

    Nobody can log in to it or take it back any more. What follows is the same as at the end of GRACE, the last mail
    included. It may be asked for again, while there still is a row.
    """
    with transaction.atomic():
        if is_last_superuser(user.pk):
            raise LastSuperuser
        if User.objects.filter(pk=user.pk).update(is_active=False, delete_after=Now()):
            erase_account.enqueue(user.pk)
            record(Kind.DELETION_ASKED, request, user)


def take_back(user: User, request: HttpRequest | None) -> bool:
    """Keep the account; False if nobody asked for its deletion, or the erasure has begun."""
    with transaction.atomic():
        is_kept = User.objects.filter(pk=user.pk, is_active=True).exclude(delete_after=None).update(delete_after=None)
        if is_kept:  # the task that waits finds nothing to do
            record(Kind.DELETION_CANCELLED, request, user)
    return bool(is_kept)


@sensitive
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def delete_account(request: HttpRequest) -> HttpResponse:
    """Say what a deletion does; its POST asks for it."""
    user = request.user
    assert isinstance(user, User)
    is_refused = False
    if request.method == "POST":
        try:
            ask(user, request)
        except LastSuperuser:
            record(Kind.DELETION_ASKED, request, user, Outcome.REFUSED)
            is_refused = True
        else:
            return redirect("accounts:account")  # where a banner says it
    context = {"days": GRACE.days, "is_refused": is_refused}
    return render(request, "accounts/delete.html", context, status=409 if is_refused else 200)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def keep_account(request: HttpRequest) -> HttpResponse:
    """Take a deletion back with a POST. Who had to log in first comes with a GET, and finds the button once more."""
    assert isinstance(request.user, User)
    if request.method == "POST" and take_back(request.user, request):
        messages.success(request, _("Your account stays."))
    return redirect("accounts:account")
