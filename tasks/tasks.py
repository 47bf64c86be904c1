"""What the engine does in the background itself, and the tables of its own that grow.

Each table that is pruned by itself has a schedule, see `schedule_prunes`.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _
from django_tasks import TaskContext, task

from tasks import cleanup
from tasks.exceptions import Discard, Snooze
from tasks.models import Cluster, Task, TaskError, Tick
from tasks.retention import in_words, pruned_tables, retain, tables
from tasks.schedules import schedule

LIMIT = 100_000
"""Rows that are counted to say how far a prune is."""


def _first_enqueued() -> datetime | None:
    return Task.objects.order_by("pk").values_list("enqueued_at", flat=True).first()


def _kept() -> Any:
    kept = {"successful": settings.TASKS_RETENTION_SUCCESSFUL, "failed": settings.TASKS_RETENTION_FAILED}
    words = {status: in_words(timedelta(seconds=seconds)) for status, seconds in kept.items()}
    return _("successful %(successful)s, failed %(failed)s") % words


retain(
    "tasks", _("tasks"), Task.objects.all, "expires_at",
    weight="attempts", delete=cleanup.delete_tasks,
    oldest=_first_enqueued, words=_kept, groups=("queue_name", "status"),
)  # fmt: skip
retain(
    "task-errors", _("task errors"), TaskError.objects.all, "created_at",
    order="pk", goes_with="tasks", words=lambda: _("as long as the task"),
)  # fmt: skip
# Other clusters delete the row of one that died; one that was the last stays. Nothing is lost with it: whoever finds a
# lease without a cluster rescues the task.
retain(
    "ticks", _("ticks"), Tick.objects.all, "created_at", lambda: timedelta(seconds=settings.TASKS_RETENTION_TICKS)
)  # fmt: skip
retain("clusters", _("clusters"), Cluster.objects.all, "heartbeat_at", lambda: timedelta(days=1))


@task(
    queue_name="maintenance",
    takes_context=True,
    timeout=2 * cleanup.BUDGET,
    idempotency_key=lambda table: table,  # never two at once on one table
)
def prune(context: TaskContext, table: str) -> dict[str, Any]:
    """Delete the rows of a table whose retention is over; what is not done in time is for the next run."""
    declared = tables.get(table)
    if declared is None or declared.goes_with:
        raise Discard(f"There is no table {table!r} to prune (any more).")
    ctx: Any = context
    due = declared.next(LIMIT).count()
    told_at = 0.0

    def tell(run: cleanup.Run) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= 1:
            told_at = time.monotonic()
            ctx.checkpoint = {"pruned": run.pruned, "after": _plain(run.after)}
            ctx.progress(run.pruned, max(run.pruned, due), table)

    run = cleanup.prune(declared, **(ctx.checkpoint or {}), should_stop=lambda: ctx.should_stop, tell=tell)
    if run.more and ctx.should_stop:
        ctx.checkpoint = {"pruned": run.pruned, "after": _plain(run.after)}
        raise Snooze(timedelta())
    return {"pruned": run.pruned, "more": run.more}


def schedule_prunes() -> None:
    """Have each declared table pruned hourly, at a minute of its own. Called once all apps have declared theirs."""
    for number, table in enumerate(pruned_tables()):
        schedule(f"{(7 + 11 * number) % 60} * * * *", name=table.name, args=[table.name])(prune)


def _plain(after: Any) -> Any:
    return after.isoformat() if isinstance(after, datetime) else after
