"""Late outcomes: a task finishes while the database is away. Its outcome is written as soon as that is back."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from tasks.models import Task, TaskError
from tests.chaos.clusters import WORKERS, Clusters
from tests.chaos.measures import judge, patiently
from tests.chaos.stage import LEASE, Stage
from tests.processes import until
from tests.work import tasks as work

SOON = 2.5
"""Seconds within which an outcome must be there: a worker asks again at least every two."""


def all_are(rows: QuerySet[Task], status: str) -> bool:
    return not patiently(rows.exclude(status=status).count)


def late(stage: Stage) -> dict[str, Any]:
    """The database is away for less than a lease, then for more; tasks finish meanwhile."""
    accepted = 0
    silence = 0.0
    with Clusters(stage.home) as clusters:
        clusters.wait_until_they_work()
        for away in (LEASE - 2, LEASE + 3):
            gate = stage.home / f"gate-{away}"
            gate.touch()
            results = [work.hold.enqueue(str(gate)) for _worker in range(WORKERS)]
            accepted += len(results)
            rows = Task.objects.filter(pk__in=[result.id for result in results])
            until(partial(all_are, rows, "RUNNING"), 20, "all tasks run")
            with stage.database.away():
                gate.unlink()
                time.sleep(away)  # the outage
            back = timezone.now()
            until(partial(all_are, rows, "SUCCESSFUL"), 30, "all outcomes are there")
            after = max((row.finished_at or back) - back for row in rows).total_seconds()
            silence = max(silence, after)
            stage.check(after <= SOON, f"after {away} s away an outcome was written {after:.1f} s after the return")
            again = [(row.pk, row.attempts) for row in rows if row.attempts != 1]
            stage.check(not again, f"after {away} s away tasks with other than one attempt (id, attempts): {again}")
        kinds = list(TaskError.objects.values_list("task", "kind", "message"))
        stage.check(not kinds, f"there are errors: {kinds[:3]}")
        stage.problems += clusters.stop()
    return judge(stage, accepted, silence=round(silence, 1))
