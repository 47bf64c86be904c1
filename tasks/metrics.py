"""Figures about tasks, queues and clusters, by the database's clock."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.db import models
from django.db.models import Count, F, Min, Q, Sum
from django.db.models.functions import Now
from django_tasks import TaskResultStatus, default_task_backend

from tasks import statements
from tasks.models import Cluster, Queue, Schedule, Task, Tick

NEXT = 5
"""Due times of a schedule that are told in advance."""

_AGE = models.ExpressionWrapper(Now() - F("since"), output_field=models.DurationField())


def stats() -> dict[str, Any]:
    """Return what `taskstats --json` prints.

    `tasks`: how many in each status; SUCCESSFUL and FAILED count all that ever finished, pruned rows too. `queues`:
    by name, `size` (READY and due), `scheduled` (READY, later), `running`, `latency` (age in seconds of the oldest due
    task that no cluster has claimed), `paused`. `clusters`: those with a row, `heartbeat_age` in seconds.
    """
    return {"tasks": _tasks(), "queues": _queues(), "clusters": _clusters()}


def schedules() -> list[dict[str, Any]]:
    """Return what `schedules --json` prints, schedule by schedule, by name; times in UTC.

    `name`, `task`, `timing`, `timezone`, `health` (ok, paused, overdue, trouble, retired), `problem`, `is_overridden`,
    `next` (the next five due times), `last` (its latest tick: `due_at`, `outcome`, `reason`, `lag` in seconds, `task`;
    None: it has none).
    """
    now = statements.now()
    rows: list[Any] = list(Schedule.objects.with_latest_tick().order_by("name"))
    latest = Tick.objects.in_bulk([row.latest_tick_id for row in rows])
    return [
        {
            "name": row.name,
            "task": row.task_path,
            "timing": row.timing,
            "timezone": row.timezone,
            "health": row.health(now),
            "problem": row.problem,
            "is_overridden": row.is_overridden,
            "next": [at.isoformat() for at in row.next_times(now, NEXT)],
            "last": _tick(latest[row.latest_tick_id]) if row.latest_tick_id else None,
        }
        for row in rows
    ]


def _tick(tick: Tick) -> dict[str, Any]:
    return {
        "due_at": tick.due_at.astimezone(UTC).isoformat(),
        "outcome": tick.outcome,
        "reason": tick.reason,
        "lag": round(tick.lag.total_seconds(), 3),
        "task": tick.task_id,
    }


def _tasks() -> dict[str, int]:
    counts = {status.value: 0 for status in TaskResultStatus}
    counts |= dict(Task.objects.values_list("status").annotate(Count("pk")).order_by())
    pruned = Queue.objects.aggregate(successful=Sum("pruned_successful"), failed=Sum("pruned_failed"))
    counts["SUCCESSFUL"] += pruned["successful"] or 0
    counts["FAILED"] += pruned["failed"] or 0
    return {status: counts[status] for status in ("READY", "RUNNING", "SUCCESSFUL", "FAILED")}


def _queues() -> dict[str, dict[str, Any]]:
    empty = {"size": 0, "scheduled": 0, "running": 0, "latency": 0.0, "paused": False}
    queues: dict[str, dict[str, Any]] = {name: dict(empty) for name in sorted(default_task_backend.queues)}
    in_turn = Q(held_at__isnull=False, schedule__isnull=False)  # it is to run after an earlier one of its schedule
    ready, due = Q(status=TaskResultStatus.READY), Q(run_after__lte=Now())
    rows = (
        Task.objects.filter(status__in=[TaskResultStatus.READY, TaskResultStatus.RUNNING])
        .values("queue_name")
        .annotate(
            size=Count("pk", filter=ready & due),
            scheduled=Count("pk", filter=ready & ~due),
            running=Count("pk", filter=Q(status=TaskResultStatus.RUNNING)),
            since=Min("run_after", filter=ready & due & Q(lease_id__isnull=True) & ~in_turn),
        )
        .annotate(age=_AGE)
        .order_by("queue_name")
    )
    for row in rows:
        latency = row["age"].total_seconds() if row["age"] is not None else 0.0
        queue = queues.setdefault(row["queue_name"], dict(empty))
        queue |= {key: row[key] for key in ("size", "scheduled", "running")} | {"latency": round(max(0.0, latency), 3)}
        queues[row["queue_name"]] = queue
    for name in Queue.objects.paused().values_list("name", flat=True):
        queues.setdefault(name, dict(empty))["paused"] = True
    return queues


def _clusters() -> list[dict[str, Any]]:
    rows: Any = Cluster.objects.annotate(since=F("heartbeat_at")).annotate(age=_AGE).order_by("host", "pid")
    return [
        {
            "id": str(row.pk),
            "host": row.host,
            "pid": row.pid,
            "heartbeat_age": round(max(0.0, row.age.total_seconds()), 3),
            "workers": len(row.workers),
        }
        for row in rows
    ]
