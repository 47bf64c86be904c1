"""The log of security events, for the user whose account they are about; and for how long it says from where."""

from __future__ import annotations

from datetime import timedelta

from django.core.paginator import Paginator
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.events import Kind
from accounts.models import SecurityEvent, User
from accounts.user_agents import name_of

ADDRESSES_KEPT = timedelta(days=90)
"""After that an event no longer says from where, and with which browser."""

PAGE = 50
BATCH = 1000


@require_safe
@never_cache
def security_log(request: HttpRequest) -> HttpResponse:
    """List what happened to the account of whoever asks, the latest first."""
    assert isinstance(request.user, User)
    events = SecurityEvent.objects.filter(user=request.user).select_related("actor").order_by("-at", "-pk")
    page = Paginator(events, PAGE).get_page(request.GET.get("page"))
    rows = [
        {
            "event": event,
            "kind": kind_in_words(event.kind),
            "who": who_in_words(event, request.user),
            "browser": name_of(event.user_agent) or event.user_agent,
        }
        for event in page
    ]
    context = {"page": page, "rows": rows, "days": ADDRESSES_KEPT.days}
    return render(request, "accounts/security_log.html", context)


def kind_in_words(kind: str) -> str:
    """Return what happened; for a kind of another release, its value."""
    return str(Kind(kind).label) if kind in Kind.values else kind


def who_in_words(event: SecurityEvent, user: User) -> str:
    """Return who it was, as far as the owner of the account may know it."""
    if event.actor is None:
        return _("not logged in")
    if event.actor == user:
        return _("you")
    return _("an administrator") if event.actor.is_staff else _("another user")


def cut_addresses() -> int:
    """Forget from where the events came that are older than ADDRESSES_KEPT, in batches; return how many."""
    cut = 0
    while True:
        old = SecurityEvent.objects.with_origin().filter(at__lte=Now() - ADDRESSES_KEPT).order_by("at")
        keys = list(old.values_list("pk", flat=True)[:BATCH])
        cut += SecurityEvent.objects.filter(pk__in=keys).cut_addresses()
        if len(keys) < BATCH:
            return cut
