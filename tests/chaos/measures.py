"""How a scenario is judged: questions to a database that may be away, the backlog, rates, and the row of the table."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import connections
from django.db.models import Count
from django.db.utils import DatabaseError

from tasks.audit import audit
from tasks.models import Task, TaskError
from tests.chaos.stage import Stage
from tests.work import tasks as work
from tests.work.models import Effect

T = TypeVar("T")


def patiently(ask: Callable[[], T], seconds: float = 60) -> T:
    """Return the answer of a query, whatever happens to the database meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except DatabaseError:
            connections.close_all()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # between two questions


def left() -> int:
    """Return how many tasks are not finished."""
    return patiently(Task.objects.filter(finished_at__isnull=True).count)


def finished(since: datetime, seconds: float) -> int:
    """Return how many tasks finished in the seconds that began then."""
    until = since + timedelta(seconds=seconds)
    return patiently(Task.objects.filter(finished_at__gte=since, finished_at__lt=until).count)


class Backlog:
    """Tasks of a small constant cost: always enough of them, and all alike, so that rates can be compared."""

    def __init__(self, workers: int) -> None:
        self.rate = workers / work.PACE
        """Tasks a second if the engine cost nothing: more than that cannot finish."""
        self.accepted = 0

    def keep(self, seconds: float) -> None:
        """Enqueue so many that the workers cannot finish all within the seconds."""
        missing = int(self.rate * seconds) - left()
        if missing > 0:
            self.add(missing)

    def add(self, count: int) -> None:
        """Enqueue so many. The database must be there."""
        work.pace.enqueue_many([(f"pace-{self.accepted + number}",) for number in range(count)])
        self.accepted += count


def judge(stage: Stage, accepted: int, note: str = "", **more: Any) -> dict[str, Any]:
    """Return the row: nothing lost, laws kept, one effect for each atomic task that succeeded, no problem noted."""
    counts = dict(Task.objects.values_list("status").annotate(Count("pk")).order_by())
    errors = dict(TaskError.objects.values_list("kind").annotate(Count("pk")).order_by())
    ended = counts.get("SUCCESSFUL", 0) + counts.get("FAILED", 0)
    lost = accepted - ended
    stage.check(lost == 0, f"{lost} of {accepted} lost: {counts}")
    for name, law in audit()["laws"].items():
        ids = law["tasks"][:3]
        rows = list(Task.objects.filter(pk__in=ids).values_list("pk", "task_path", "status", "attempts"))
        stage.check(not law["broken"], f"law broken by {law['broken']} tasks: {name}: {rows}")
    repeated = judge_effects(stage)
    return {
        "accepted": accepted, "successful": counts.get("SUCCESSFUL", 0), "failed": counts.get("FAILED", 0),
        "lost": lost, "repeated": repeated, "superseded": errors.get("superseded", 0), "errors": errors, **more,
        "passed": not stage.problems, "verdict": "; ".join(stage.problems) or ", ".join(filter(None, ["ok", note])),
    }  # fmt: skip


def judge_effects(stage: Stage) -> int:
    """Check the effects of each task; return how many of tasks that are not atomic happened again."""
    effects = dict(Effect.objects.values_list("name").annotate(Count("pk")).order_by())
    atomic = {work.atomic_effect.module_path}
    plain = {work.effect.module_path, work.pace.module_path}
    repeated = 0
    wrong: list[str] = []
    rows = Task.objects.filter(task_path__in=atomic | plain).values_list("pk", "task_path", "args", "status")
    for pk, path, args, status in rows:
        count = effects.get(args[0], 0)
        succeeded = status == "SUCCESSFUL"
        if path in plain:
            repeated += max(0, count - 1)
        if (count != succeeded) if path in atomic else (succeeded and not count):
            wrong.append(f"#{pk} {path.rpartition('.')[2]} {status} has {count}")
    stage.check(not wrong, f"{len(wrong)} tasks with the wrong number of effects: {list(itertools.islice(wrong, 3))}")
    return repeated
