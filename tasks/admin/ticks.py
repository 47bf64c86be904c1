"""Ticks in the administration, and how one is told."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from tasks.admin.tasks import ReadOnly, readable
from tasks.models import Schedule, Task, Tick


@admin.register(Tick)
class TickAdmin(ReadOnly):
    """What became of all due times, the latest first."""

    list_display = ("schedule", "due_", "outcome_", "lag_", "task_", "requested_by")
    fields = ("schedule", "due_", "outcome_", "lag_", "task_", "requested_by")
    list_filter = ("outcome", "reason")
    list_select_related = ("schedule",)
    ordering = ("-pk",)
    show_full_result_count = False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Let the page of a schedule link to its ticks."""
        return lookup == "schedule__id__exact" or super().lookup_allowed(lookup, value, request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tick]:
        """Return the rows with what `task_of` shows."""
        return with_their_tasks(super().get_queryset(request))

    @admin.display(description=_("due"), ordering="due_at")
    def due_(self, tick: Tick) -> str:
        """On the clock of the schedule."""
        return local_time(tick.schedule, tick.due_at)

    @admin.display(description=_("outcome"))
    def outcome_(self, tick: Tick) -> str:
        """With its reason."""
        return outcome_of(tick)

    @admin.display(description=_("lag"))
    def lag_(self, tick: Tick) -> str:
        """How long after its due time it was settled."""
        return readable(tick.lag)

    @admin.display(description=_("task"))
    def task_(self, tick: Tick) -> SafeString | str:
        """The task that it enqueued."""
        return task_of(tick)


def local_time(schedule: Schedule, at: datetime) -> str:
    """Return a time on the clock of the schedule's zone; of one that is wrong, in UTC."""
    try:
        zone = ZoneInfo(schedule.timezone)
    except (OSError, ValueError, KeyError):
        zone = ZoneInfo("UTC")
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"


def outcome_of(tick: Tick) -> str:
    """Return what became of a due time, and why."""
    parts = [str(tick.get_outcome_display())]
    if tick.reason:
        parts.append(str(tick.get_reason_display()))
    if tick.requested_by:
        parts.append(str(_("asked for by %s") % tick.requested_by))
    return ", ".join(parts)


def with_their_tasks(ticks: QuerySet[Tick]) -> QuerySet[Tick]:
    """Return ticks that know whether their task is still there: `has_task`."""
    return ticks.annotate(has_task=Exists(Task.objects.filter(pk=OuterRef("task"))))


def task_of(tick: Tick) -> SafeString | str:
    """Return a link to its task, if that was not pruned."""
    if tick.task_id is None:
        return "–"
    if not getattr(tick, "has_task", True):
        return str(_("#%(id)s, pruned") % {"id": tick.task_id})
    return format_html('<a href="{}">#{}</a>', reverse("admin:tasks_task_change", args=[tick.task_id]), tick.task_id)
