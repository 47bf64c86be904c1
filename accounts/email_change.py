"""Another address for an account: asked for, confirmed by a link to the new one, undone by a link to the old one.

An administrator needs no confirmation; the old address is told all the same, see `follow_administrator`.

Whoever asks has typed the password, and never learns whether the new address has an account: the worker knows whom to
mail. The link to the new address works where the user is logged in. The link to the old one works for UNDO_LIFETIME
after the change, for whoever reads the mails of that address: it takes the account back from somebody who knew the
password, so it also ends all sessions, leaves no password that anybody knows, undoes every later change, takes a
deletion back, and removes the second factors that were added since UNDO_LIFETIME before the change was asked for. Older
ones stay: they keep an account from whoever has an address that its user has left behind.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import browsers, tokens
from accounts.deletion import take_back
from accounts.door import sensitive
from accounts.events import Kind, Outcome, record
from accounts.factors import take_away
from accounts.forms import AddressField
from accounts.models import EmailChange, User
from accounts.models.requests import UNDO_LIFETIME
from accounts.sessions import end_sessions
from accounts.tasks import (
    send_email_change_asked_email,
    send_email_change_link,
    send_email_changed_by_administrator_email,
    send_email_changed_email,
    send_email_set_by_administrator_email,
    send_password_reset_email,
)
from tasks.retention import delete

MOST_A_DAY = 5
"""Changes that a user may ask for within a day: each sends a mail to an address of their choice."""


class Result(Enum):
    """What came of a link."""

    DONE = "done"
    TAKEN = "taken"
    """Another account has the address."""
    GONE = "gone"
    """The link was used, is too old, or another change was faster."""


class EmailChangeForm(forms.Form):
    """Asks for another address. Never tells whether it has an account."""

    email = AddressField(
        label=gettext_lazy("New email address"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_email(self) -> str:
        """Refuse the present address."""
        email: str = self.cleaned_data["email"]
        if email == self.user.email:
            raise forms.ValidationError(_("This is your address already."))
        return email

    def clean(self) -> dict[str, Any]:
        """Refuse whoever has asked too often."""
        recent = EmailChange.objects.filter(user=self.user, requested_at__gt=Now() - timedelta(days=1))
        if recent.count() >= MOST_A_DAY:
            raise forms.ValidationError(_("You have asked for several changes today. Try again tomorrow."))
        return self.cleaned_data

    def save(self, request: HttpRequest | None = None) -> EmailChange:
        """Store the change and the tasks that mail both addresses, all or none."""
        with transaction.atomic():
            change = EmailChange.objects.create(
                user=self.user, old_email=self.user.email, new_email=self.cleaned_data["email"]
            )
            record(Kind.EMAIL_CHANGE_ASKED, request, self.user, change=change.pk)
            send_email_change_link.enqueue(change.pk)
            send_email_change_asked_email.enqueue(change.pk)
        return change


def confirm(change: EmailChange, request: HttpRequest | None = None) -> Result:
    """Give the user the new address, and the old one its link. Two at once: one is told DONE.

    An old address that was never verified gets no link: it may be a mistyped one, of somebody else. Nor does one from
    which the user has come back.
    """
    try:
        with transaction.atomic():
            waiting = EmailChange.objects.filter(pk=change.pk, confirmed_at=None, undone_at=None)
            user = User.objects.filter(pk=change.user_id, email=change.old_email, is_active=True)
            is_proven = user.filter(email_verified_at__isnull=False).exists()
            if not waiting.update(confirmed_at=Now()) or not user.update(
                email=change.new_email, email_verified_at=Now()
            ):
                transaction.set_rollback(True)
                return Result.GONE
            record(Kind.EMAIL_CHANGED, request, change.user_id, change=change.pk)
            if is_proven and not _is_way_back(change):
                send_email_changed_email.enqueue(change.pk)
    except IntegrityError:
        record(Kind.EMAIL_CHANGED, request, change.user_id, Outcome.FAILED, change=change.pk)
        return Result.TAKEN
    return Result.DONE


def _is_way_back(change: EmailChange) -> bool:
    """Return whether it leads to where another has led away from, that could still be undone; then none of them can be.

    Whoever takes an account back by changing its address once more would else give the thief's address a link.
    """
    own = EmailChange.objects.undoable().filter(user=change.user_id)
    away = own.filter(old_email=change.new_email).order_by("confirmed_at").first()
    if away is None:
        return False
    return bool(own.filter(Q(pk=away.pk) | Q(confirmed_at__gt=away.confirmed_at)).update(undone_at=Now()))


def follow_administrator(user: User, before: User, request: HttpRequest) -> None:
    """Do what belongs to an address that an administrator has typed, in the transaction that stores it.

    The old address is told, with the link that undoes the change, under the conditions of `confirm`; without a link it
    does not learn the new one. Sessions end, but for that of the administrator, and no browser is known any more.

    The new address can log in and counts as not verified, as in Django whatever an administrator types shows nothing
    of who reads its mails: it gets a link of its own. Typed by mistake, it may be a stranger's, who must not gain by
    that: the link asks for the password, cannot remove the account, and a reset takes no second factors away, see
    `models.users.GIVEN`. Nor does an account that nobody has used yet go as one of a signup that was given up.
    """
    change = EmailChange.objects.create(
        user=user, old_email=before.email, new_email=user.email, confirmed_at=timezone.now()
    )
    record(Kind.EMAIL_CHANGED, request, user, change=change.pk)
    end_sessions(user.pk, except_key=request.session.session_key)
    browsers.forget(user)
    is_way_back = _is_way_back(change)
    if user.is_active:
        send_email_set_by_administrator_email.enqueue(user.pk)
        if not is_way_back:  # else the old one is a thief's
            is_undoable = before.email_verified_at is not None
            send_email_changed_by_administrator_email.enqueue(change.pk, is_undoable)


def undo(change: EmailChange, request: HttpRequest | None = None) -> Result:
    """Give the user the old address again and nobody a way in but by a mail to it. Two at once: one is told DONE.

    An account that somebody has made with the old address meanwhile goes, unless its address is verified.
    """
    password_hash = make_password(get_random_string(40))
    try:
        with transaction.atomic():
            undoable = EmailChange.objects.undoable().filter(pk=change.pk)
            if not undoable.update(undone_at=Now()):
                return Result.GONE
            later = Q(confirmed_at=None) | Q(confirmed_at__gte=change.confirmed_at)
            EmailChange.objects.filter(later, user=change.user_id, undone_at=None).update(undone_at=Now())
            squatters = User.objects.disowned().filter(email=change.old_email).exclude(pk=change.user_id)
            if squatters.select_for_update().first():
                delete(squatters)
            restored = {"email": change.old_email, "email_verified_at": Now(), "password": password_hash}
            if not User.objects.filter(pk=change.user_id, is_active=True).update(**restored):
                transaction.set_rollback(True)
                return Result.GONE
            end_sessions(change.user_id)
            browsers.forget(change.user)
            take_back(change.user, request)  # the mail about a deletion has gone to the address of the thief
            take_away(change.user_id, request, since=change.requested_at - UNDO_LIFETIME)  # a passkey is a way in too
            record(Kind.EMAIL_CHANGE_UNDONE, request, change.user_id, change=change.pk)
            send_password_reset_email.enqueue(change.old_email)
    except IntegrityError:
        record(Kind.EMAIL_CHANGE_UNDONE, request, change.user_id, Outcome.FAILED, change=change.pk)
        return Result.TAKEN
    return Result.DONE


@never_cache
@sensitive
@require_http_methods(["GET", "HEAD", "POST"])
def email_change(request: HttpRequest) -> HttpResponse:
    """Take the new address. A known one is answered like any other."""
    assert isinstance(request.user, User)
    form = EmailChangeForm(request.user, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        change = form.save(request)
        text = _("We have sent an email to %(email)s. Open the link in it, and this is your address.")
        messages.success(request, text % {"email": change.new_email})
        return redirect("accounts:account")
    return render(request, "accounts/email_change.html", {"form": form})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def confirm_page(request: HttpRequest, token: str) -> HttpResponse:
    """Show a button, whose POST changes the address, to the user who has asked for it."""
    change = tokens.change_to_confirm(token)
    is_own = change is not None and change.user_id == request.user.pk
    result = Result.GONE if change is None else None
    if change is not None and is_own and request.method == "POST":
        result = confirm(change, request)
        if result is Result.DONE:
            messages.success(request, _("Your email address is changed."))
            return tokens.without_referrer(redirect("accounts:account"))
    context = {"change": change, "is_own": is_own, "result": result and result.value}
    return _page(request, "accounts/email_change_confirm.html", context)


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def undo_page(request: HttpRequest, token: str) -> HttpResponse:
    """Show a button, whose POST undoes the change, to whoever has the link."""
    change = tokens.change_to_undo(token)
    result = Result.GONE if change is None else None
    if change is not None and request.method == "POST":
        result = undo(change, request)
        if result is Result.DONE:
            logout(request)
    return _page(request, "accounts/email_change_undo.html", {"change": change, "result": result and result.value})


def _page(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    status = {Result.GONE.value: 404, Result.TAKEN.value: 409}.get(context["result"], 200)
    return tokens.without_referrer(render(request, template, context, status=status))
