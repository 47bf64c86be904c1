"""A copy of all that is stored about a user, as they see it: asked for, waited for, downloaded once.

What makes it is `accounts.archive`.
"""

from __future__ import annotations

from typing import NamedTuple

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts import throttle
from accounts.archive import KEPT
from accounts.door import sensitive
from accounts.events import Kind, record
from accounts.models import Export, User
from accounts.tasks import gather_export
from tasks.progress import Progress, progress_of


class State(NamedTuple):
    """The latest export of a user."""

    export: Export
    progress: Progress | None
    """Of the task that gathers it, while that is not finished or has failed."""

    @property
    def is_ready(self) -> bool:
        """Return whether it can be downloaded."""
        export = self.export
        is_finished = export.finished_at is not None and export.downloaded_at is None
        return is_finished and export.expires_at > timezone.now()

    @property
    def is_running(self) -> bool:
        """Return whether it is being gathered, or waits for that."""
        return self.export.finished_at is None and self.progress is not None and not self.progress.is_finished

    @property
    def has_failed(self) -> bool:
        """Return whether nothing comes of it."""
        return self.export.finished_at is None and not self.is_running


def state_of(user: User) -> State | None:
    """Return what there is to tell of the user's latest export; None: there is none."""
    export = Export.objects.filter(user=user).defer("content").order_by("-pk").first()
    if export is None:
        return None
    return State(export, progress_of(export.task_id) if export.finished_at is None else None)


def ask(user: User, request: HttpRequest) -> bool:
    """Let a copy be made; False if one is being made or waits to be downloaded. Two at once: one is told True."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)  # SQLite has one writer anyway
        state = state_of(user)
        if state is not None and (state.is_running or state.is_ready):
            return False
        Export.objects.filter(user=user, finished_at=None).delete()
        export = Export.objects.create(user=user, expires_at=timezone.now() + KEPT)
        export.task_id = gather_export.enqueue(export.pk).id
        export.save(update_fields=["task_id"])
        record(Kind.EXPORT_ASKED, request, user)
    return True


def take(user: User, request: HttpRequest) -> bytes | None:
    """Return the zip and forget it; None if there is none. Two at once: one gets it."""
    ready = Export.objects.filter(user=user, downloaded_at=None, expires_at__gt=Now()).exclude(finished_at=None)
    with transaction.atomic():
        export = ready.order_by("-pk").first()
        if export is None or not ready.filter(pk=export.pk).update(downloaded_at=Now(), content=None):
            return None
        record(Kind.EXPORT_DOWNLOADED, request, user)
    return bytes(export.content or b"")


@sensitive
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def export(request: HttpRequest) -> HttpResponse:
    """Show what has become of the export; its POST asks for one, or downloads it."""
    user = request.user
    assert isinstance(user, User)
    if request.method == "POST" and "download" in request.POST:
        content = take(user, request)
        if content is not None:
            return _file(content)
        messages.error(request, _("This copy was downloaded before, or its time is over. You can ask for another."))
        return redirect("accounts:export")
    if request.method == "POST":
        attempt = throttle.take(throttle.EXPORT, request, user)
        if not ask(user, request):
            attempt.give_back()
            messages.info(request, _("There is a copy already, or one is being made."))
        return redirect("accounts:export")
    return render(request, "accounts/export.html", {"export": state_of(user), "days": KEPT.days})


@never_cache
@require_safe
def export_progress(request: HttpRequest) -> JsonResponse:
    """Tell static/progress.js how far the export is."""
    assert isinstance(request.user, User)
    state = state_of(request.user)
    if state is None or not state.is_running or state.progress is None:
        return JsonResponse({"is_running": False})
    told = state.progress
    return JsonResponse({"is_running": True, "done": told.done, "total": told.total, "message": told.message})


def _file(content: bytes) -> HttpResponse:
    response = HttpResponse(content, content_type="application/zip")
    name = f"{slugify(settings.SITE_NAME) or 'export'}-{timezone.localdate():%Y-%m-%d}.zip"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response
