"""Schedules, and a tick for each of their due times.

`tasks.schedules` declares them, `tasks.timetable` changes them, `tasks.ticks` settles their due times.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import OuterRef, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from tasks.recurrence import Recurrence, recurrence
from tasks.schedules import MOST, anchor_text

OVERDUE = timedelta(minutes=1)
"""Time after which a due time that nobody has settled is a sign of trouble."""


class ScheduleQuerySet(models.QuerySet["Schedule"]):
    """Schedules."""

    def in_service(self) -> ScheduleQuerySet:
        """Return those that are not retired."""
        return self.filter(retired_at__isnull=True)

    def going(self) -> ScheduleQuerySet:
        """Return those in service whose due times are settled: nothing is wrong with them."""
        return self.filter(retired_at__isnull=True, problem="")

    def paused(self) -> ScheduleQuerySet:
        """Return those that are paused now."""
        return self.filter(Q(paused_until__isnull=True) | Q(paused_until__gt=Now()), paused_at__isnull=False)

    def with_latest_tick(self) -> ScheduleQuerySet:
        """Return them with `latest_tick_id`, the id of the tick of their latest due time; None: there is none."""
        latest = Tick.objects.filter(schedule=OuterRef("pk")).order_by("-due_at").values("pk")[:1]
        return self.annotate(latest_tick_id=models.Subquery(latest))

    def overdue(self) -> ScheduleQuerySet:
        """Return those in service with a due time that nobody has settled for OVERDUE."""
        return self.in_service().filter(due_at__lt=Now() - OVERDUE)


class Schedule(models.Model):
    """A task that is to be enqueued at its due times: declared beside its function, or made in the administration."""

    class Misfire(models.TextChoices):
        """What becomes of due times that passed while no cluster ran."""

        ONCE = "once", _("run once for all of them")
        ALL = "all", _("run for each of them, up to the limit")
        NONE = "none", _("skip them")

    class Overlap(models.TextChoices):
        """What becomes of a due time while the task of an earlier one is not finished."""

        SKIP = "skip", _("skip it")
        ALLOW = "allow", _("run beside it")
        QUEUE = "queue", _("run after it")

    name = models.CharField(_("name"), max_length=255, unique=True)
    task_path = models.CharField(_("task"), max_length=255, help_text=_("Dotted path of the task function."))
    args = models.JSONField(_("arguments"), default=list, blank=True, help_text=_("A JSON list, by position."))
    kwargs = models.JSONField(_("named arguments"), default=dict, blank=True, help_text=_("A JSON object, by name."))
    timing = models.CharField(
        _("times"),
        max_length=255,
        help_text=_('Five fields of cron, such as "0 3 * * *"; @daily; or "every 5 minutes".'),
    )
    timezone = models.CharField(
        _("time zone"), max_length=64, default="UTC", help_text=_("Whose clock cron's fields are read on.")
    )
    anchor = models.DateTimeField(
        _("anchor"), null=True, blank=True, help_text=_('From when "every ..." counts; empty: 1970-01-01 00:00 UTC.')
    )
    misfire = models.CharField(_("after a downtime"), max_length=8, choices=Misfire.choices, default=Misfire.ONCE)
    misfire_limit = models.PositiveSmallIntegerField(
        _("limit"),
        default=10,
        help_text=_("How many of the latest are run after a downtime, if each is."),
    )
    overlap = models.CharField(
        _("while an earlier one is not finished"), max_length=8, choices=Overlap.choices, default=Overlap.SKIP
    )
    ping_url = models.CharField(
        _("address to call"), max_length=500, blank=True,
        help_text=_("Called after a success: a dead man's switch, which raises the alarm when the calls stop."),
    )  # fmt: skip
    pinged_at = models.DateTimeField(null=True, help_text=_("Up to which success the address was called."))

    declared = models.JSONField(null=True, help_text=_("Times that the code says; none: made by hand."))
    retired_at = models.DateTimeField(_("retired"), null=True, help_text=_("When it was taken out of service."))
    paused_at = models.DateTimeField(null=True)
    paused_until = models.DateTimeField(null=True)
    paused_by = models.CharField(max_length=255, blank=True)
    paused_reason = models.CharField(max_length=255, blank=True)
    due_at = models.DateTimeField(_("due"), null=True, help_text=_("The earliest due time that has no tick yet."))
    problem = models.TextField(blank=True, help_text=_("Why its due times cannot be settled."))
    created_at = models.DateTimeField(db_default=Now())

    objects = ScheduleQuerySet.as_manager()

    class Meta:
        verbose_name, verbose_name_plural = _("schedule"), _("schedules")
        permissions = [
            ("run_schedule", "Can run a schedule now"),
            ("pause_schedule", "Can pause and resume a schedule"),
        ]
        indexes = [
            models.Index(
                fields=["due_at"], name="tasks_schedule_due", condition=Q(retired_at__isnull=True, problem="")
            ),
            models.Index(fields=["id"], name="tasks_schedule_with_address", condition=~Q(ping_url="")),
            models.Index(
                fields=["id"],
                name="tasks_schedule_troubled",
                condition=Q(retired_at__isnull=True) & (~Q(problem="") | Q(due_at__isnull=True)),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="tasks_schedule_until_only_when_paused",
                condition=Q(paused_until__isnull=True) | Q(paused_at__isnull=False),
            ),
            models.CheckConstraint(name="tasks_schedule_limit", condition=Q(misfire_limit__range=(1, MOST))),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def recurrence(self) -> Recurrence:
        """When it is due; raises ValueError if its columns do not say."""
        return recurrence(self.timing, self.timezone, self.anchor)

    def is_paused(self, at: datetime) -> bool:
        """Return whether a time falls into its pause."""
        return (
            self.paused_at is not None
            and self.paused_at <= at
            and (self.paused_until is None or at < self.paused_until)
        )

    def health(self, now: datetime) -> str:
        """Return `retired`, `trouble`, `overdue`, `paused` or `ok`."""
        if self.retired_at is not None:
            return "retired"
        if self.problem:
            return "trouble"
        if self.due_at is not None and now - self.due_at > OVERDUE:
            return "overdue"
        return "paused" if self.is_paused(now) else "ok"

    def next_times(self, now: datetime, count: int = 5) -> list[datetime]:
        """Return the next due times outside of its pause; [] if it is retired or its times are wrong."""
        times = list[datetime]()
        if self.is_paused(now):
            now = self.paused_until - timedelta(microseconds=1) if self.paused_until else now
        if self.retired_at is None and not self.is_paused(now + timedelta(microseconds=1)):
            with suppress(ValueError):
                rule = self.recurrence
                while len(times) < count:
                    times.append(rule.after(times[-1] if times else now))
        return times

    @property
    def times(self) -> dict[str, Any]:
        """When it is due, as `declared` keeps it."""
        return {"timing": self.timing, "timezone": self.timezone, "anchor": anchor_text(self.anchor)}

    @property
    def is_overridden(self) -> bool:
        """Whether its times differ from what the code says."""
        return self.declared is not None and self.declared != self.times


class Tick(models.Model):
    """What became of one due time of a schedule, or of a run that somebody asked for."""

    class Outcome(models.TextChoices):
        """Whether a task was enqueued for it."""

        RAN = "ran", _("ran")
        COALESCED = "coalesced", _("coalesced with a later one")
        SKIPPED = "skipped", _("skipped")

    class Reason(models.TextChoices):
        """Why not."""

        PAUSED = "paused", _("the schedule was paused")
        OVERLAP = "overlap", _("an earlier run was not finished")
        MISFIRE = "misfire", _("no cluster ran in time")

    schedule = models.ForeignKey(
        Schedule, on_delete=models.CASCADE, db_index=False, related_name="ticks", verbose_name=_("schedule")
    )
    due_at = models.DateTimeField(_("due"))
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome.choices)
    reason = models.CharField(_("reason"), max_length=8, choices=Reason.choices, blank=True)
    task = models.ForeignKey(
        "tasks.Task", null=True, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    requested_by = models.CharField(_("asked for by"), max_length=255, blank=True, help_text=_("Empty: it was due."))
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        verbose_name, verbose_name_plural = _("tick"), _("ticks")
        constraints = [
            models.UniqueConstraint(fields=["schedule", "due_at"], name="tasks_tick_one_for_each_due_time"),
            models.CheckConstraint(
                name="tasks_tick_reason_if_and_only_if_skipped",
                condition=Q(outcome="skipped") & ~Q(reason="") | ~Q(outcome="skipped") & Q(reason=""),
            ),
            models.CheckConstraint(
                name="tasks_tick_task_if_and_only_if_it_ran",
                condition=Q(outcome="ran", task__isnull=False) | ~Q(outcome="ran") & Q(task__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.schedule} {self.due_at:%Y-%m-%d %H:%M:%S %Z}"

    @property
    def lag(self) -> timedelta:
        """How long after its due time it was settled."""
        return self.created_at - self.due_at
