"""How many tasks a second: of a backlog, beside rows that are in the way, by more clusters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from statistics import median

from django.db.models.functions import Now
from django.utils import timezone

from tasks.models import Queue, Task
from tests.benchmarks import stage
from tests.benchmarks.latency import pickups
from tests.benchmarks.options import Figures, Options
from tests.benchmarks.page import PLACES, page
from tests.benchmarks.report import percentile, steady_rate
from tests.benchmarks.tasks import noop
from tests.processes import until

FEW, MANY, VERY_MANY, FINISHED = 20_000, 100_000, 1_000_000, 5_000_000
"""Rows; the fewest that last while the pickup beside those that wait is measured."""
OF_ANOTHER_RELEASE = "tests.benchmarks.tasks.of_another_release"


def drain(options: Options) -> Iterator[Figures]:
    """A backlog, then a cluster: from the first start to the last outcome."""
    for _repeat in range(options.repeats or 3):
        stage.fresh()
        yield _drain(options.tasks, stage.Clusters(workers=options.workers))


def _drain(count: int, clusters: stage.Clusters) -> Figures:
    stage.fill(count)
    stage.settle()
    with clusters:
        assert page().wait_for_the_first(min(count, 100), 60), "no task starts"
        before = clusters.cpu()
        stage.wait(count)
        last = stage.until_finished(count)
        used = clusters.cpu_since(before)
    starts = page().starts(count)
    figures = {
        "tasks/s": count / (last.timestamp() - min(starts)),
        "steady tasks/s": steady_rate(starts),
    }
    return figures | {f"CPU ms a task: {role}": 1000 * seconds / count for role, seconds in used.items()}


def _drain_when_ready(count: int, clusters: stage.Clusters) -> float:
    """Return the rate, from the commit, of tasks that running clusters hear of: one that starts would slow others."""
    with clusters:
        clusters.wait_until_ready()
        Task.objects.all().delete()
        stage.settle()
        stage.fill(count)
        began = time.time()
        stage.wait(count)
        last = stage.until_finished(count)
    return count / (last.timestamp() - began)


def scaling(options: Options) -> Iterator[Figures]:
    """Two clusters of two workers beside one of four, in turns."""
    for _repeat in range(options.repeats or 2):
        rates = {}
        for name, count, workers in (("one cluster of four", 1, 4), ("two clusters of two", 2, 2)):
            stage.fresh()
            troubles = stage.Troubles()
            rates[name] = _drain_when_ready(2 * options.tasks, stage.Clusters(count, workers))
            lines = troubles.lines()
            rates[f"{name}, errors"] = len(lines)
            rates[f"{name}, deadlocks"] = sum("deadlock" in line for line in lines)
        ratio = rates["two clusters of two"] / rates["one cluster of four"]
        yield {f"{name}, tasks/s" if "," not in name else name: rate for name, rate in rates.items()} | {"ratio": ratio}


def flat(options: Options) -> Iterator[Figures]:
    """The steady rate over the first tasks, and the pickup, beside rows that should make no difference."""
    count = options.tasks // 4
    many = 1000 if options.quick else MANY
    may_not_be_taken: dict[str, Callable[[int], None]] = {
        "of another queue": lambda rows: _copies(rows, queue_name="elsewhere"),
        "scheduled": lambda rows: _copies(rows, run_after=timezone.now() + timedelta(days=1)),
        "of another release": lambda rows: _copies(rows, task_path=OF_ANOTHER_RELEASE),
        "of a paused queue": _paused,
    }
    cases: dict[str, Callable[[], object]] = {
        "nothing else": lambda: None,
        f"{many:,} more waiting": lambda: _waiting(many, count),
        f"{many:,} finished": lambda: _finished(many),
        f"{many:,} that may not be taken": lambda: [add(many // 4) for add in may_not_be_taken.values()],
    }
    if options.large:
        cases |= {f"{FEW:,} more waiting": lambda: _waiting(FEW, count)}
        cases |= {f"{many:,} {name}": partial(add, many) for name, add in may_not_be_taken.items()}
        cases |= {
            f"{VERY_MANY:,} more waiting": lambda: _waiting(VERY_MANY, count),
            f"{FINISHED:,} finished": lambda: _finished(FINISHED),
        }
    for _repeat in range(options.repeats or 1):
        figures: Figures = {}
        for name, add in cases.items():
            stage.fresh()
            stage.fill(count)
            add()
            stage.settle()
            with stage.Clusters(workers=options.workers):
                stage.wait(count, seconds=300)
                figures[f"{name}: tasks/s"] = steady_rate(page().starts(count))
                in_line = Task.objects.filter(task_path=OF_ANOTHER_RELEASE, held_at__isnull=True)
                until(lambda: not in_line.exists(), 60, "what no release has is held")  # noqa: B023 - called at once
                delays = pickups(noop.using(priority=100), 10 if options.quick else 40, 20, first=PLACES - 1000)
                figures[f"{name}: pickup p50 ms"] = median(delays)
                figures[f"{name}: pickup p95 ms"] = percentile(delays, 0.95)
        yield figures


def _row(**values: object) -> Task:
    now = timezone.now()
    given = {"queue_name": "default", "max_attempts": 5, "args": [0], "run_after": now, "enqueued_at": now} | values
    return Task(**{"task_path": noop.module_path, **given})


def _copies(count: int, **values: object) -> None:
    stage.copies(_row(**values), count)


def _waiting(count: int, after: int) -> None:
    """Add tasks that wait behind those that are measured."""
    stage.copies(_row(), count, first=after)


def _finished(count: int) -> None:
    now = timezone.now()
    times = {"started_at": now, "last_attempted_at": now, "finished_at": now, "expires_at": now + timedelta(days=7)}
    _copies(count, status="SUCCESSFUL", attempts=1, worker_ids=["host:1:2"], return_value=1, **times)


def _paused(count: int) -> None:
    Queue.objects.create(name="maintenance", paused_at=Now(), paused_by="the benchmark")
    _copies(count, queue_name="maintenance")
