"""Rows of the engine, built in the state that a test starts from."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from threading import Barrier
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from tasks.leases import Attempt
from tasks.models import Cluster, Schedule, Task, TaskError

WORKER = "host-a:4711:0a1b2c3d"


def cluster_row(heartbeat_age: float = 0, **values: Any) -> Any:
    """A cluster whose latest heartbeat was so many seconds ago."""
    row = Cluster.objects.create(**{"host": "host-a", "pid": 4711, "queues": ["default"]} | values)
    Cluster.objects.filter(pk=row.pk).update(heartbeat_at=Now() - timedelta(seconds=heartbeat_age))
    return _read(row)


def ready(function: str = "add", due_in: float = 0, **values: Any) -> Any:
    """A task that waits, due so many seconds from now."""
    values = {"queue_name": "default", "max_attempts": 5, "args": [1]} | values
    task = Task.objects.create(task_path=f"tests.work.tasks.{function}", **values)
    # a sum of times has more digits on SQLite than its clock, so 0 s from now would be due a millisecond late
    due: Any = Now() + timedelta(seconds=due_in) if due_in else Now()
    Task.objects.filter(pk=task.pk).update(run_after=due)
    return _read(task)


def claimed(function: str = "add", holder: Cluster | None = None, age: float = 0, **values: Any) -> Any:
    """A task that a cluster has leased, so many seconds ago, and not started."""
    holder = holder or cluster_row()
    task = ready(function, lease_id=uuid.uuid4(), leased_at=Now(), cluster=holder, **values)
    Task.objects.filter(pk=task.pk).update(leased_at=Now() - timedelta(seconds=age))
    return _read(task)


def running(function: str = "add", holder: Cluster | None = None, **values: Any) -> Any:
    """A task in its first attempt."""
    first: dict[str, Any] = {"attempts": 1, "worker_ids": [WORKER], "started_at": Now(), "last_attempted_at": Now()}
    return claimed(function, holder, status="RUNNING", **first | values)


def successful(function: str = "add", **values: Any) -> Any:
    """A task that has returned 1."""
    only: dict[str, Any] = {"attempts": 1, "worker_ids": [WORKER], "return_value": 1}
    return ready(function, status="SUCCESSFUL", finished_at=Now(), **only | values)


def failed(function: str = "fail", errors: int = 1, **values: Any) -> Any:
    """A task that has raised ValueError in each attempt, and has none left."""
    all_: dict[str, Any] = {"attempts": errors, "max_attempts": max(errors, 1), "worker_ids": [WORKER] * errors}
    task = ready(function, status="FAILED", finished_at=Now(), **all_ | values)
    for number in range(1, errors + 1):
        error(task, number)
    return task


def error(task: Task, attempt: int = 1, kind: str = "exception", **values: Any) -> Any:
    """What is kept of an attempt of the task."""
    values = {
        "exception_path": "builtins.ValueError",
        "message": f"no luck {attempt}",
        "traceback": f"Traceback (most recent call last):\nValueError: no luck {attempt}\n",
    } | values
    return TaskError.objects.create(task=task, attempt=attempt, kind=kind, worker_id=WORKER, **values)


def lease(result: Any) -> str:
    """Lease a waiting task to a new cluster; return the lease's id as a package carries it."""
    lease_id = uuid.uuid4()
    assert Task.objects.waiting().filter(pk=result.id).update(lease_id=lease_id, leased_at=Now(), cluster=cluster_row())
    return lease_id.hex


def schedule(function: str = "add", timing: str = "0 * * * *", due_at: Any = None, **values: Any) -> Any:
    """A schedule made by hand, with its earliest due time that has no tick."""
    values = {"name": f"{function} {timing}", "args": [1], "due_at": due_at} | values
    return _read(Schedule.objects.create(task_path=f"tests.work.tasks.{function}", timing=timing, **values))


def ticks_of(schedule: Schedule) -> list[tuple[str, str, str]]:
    """Due time in UTC, outcome and reason of its ticks, the earliest first."""
    ticks = schedule.ticks.order_by("due_at").values_list("due_at", "outcome", "reason")
    return [(f"{at.astimezone(UTC):%m-%d %H:%M:%S}", outcome, reason) for at, outcome, reason in ticks]


def attempt_of(task: Task) -> Attempt:
    """The attempt that a running row is in, as its worker knows it."""
    assert task.lease_id
    return Attempt(
        task.pk, task.lease_id, WORKER, task.task_path, task.args, task.kwargs, task.attempts, task.max_attempts
    )


def behind_quick_ones(quick: Any, *enqueues: Callable[[], Any], count: int = 500) -> list[Any]:
    """Enqueue these after so many quick tasks that a cluster claims ahead, so some of these while the first runs."""
    with transaction.atomic():
        quick.enqueue_many([(1,)] * count)
        return [enqueue() for enqueue in enqueues]


def errors_of(task: Task) -> list[tuple[int, str, str]]:
    """Attempt, kind and message of what is kept of its attempts, the earliest first."""
    return list(TaskError.objects.filter(task=task.pk).order_by("pk").values_list("attempt", "kind", "message"))


def finished(*results: Any) -> bool:
    """Whether the tasks of all these results are SUCCESSFUL or FAILED."""
    ids = [result.id for result in results]
    return Task.objects.filter(pk__in=ids, finished_at__isnull=False).count() == len(ids)


def row(result: Any) -> Any:
    """The task of a result as it is now."""
    return Task.objects.get(pk=result.id)


def seconds_from_now(task: Task) -> float:
    """In how many seconds the task is due."""
    return (task.run_after - timezone.now()).total_seconds()


def kinds(result: Any) -> list[str]:
    """How the attempts of the task of a result ended that did not succeed, the earliest first."""
    return [kind for attempt, kind, message in errors_of(row(result))]


def state(task: Task) -> Any:
    """All columns of the row as it is now."""
    return Task.objects.filter(pk=task.pk).values().get()


def at_the_same_time(count: int, act: Callable[[], Any]) -> list[Any]:
    """What `act` returns to each of so many threads that start together, each with a connection of its own."""
    together = Barrier(count)

    def begin(_number: int) -> Any:
        try:
            connection.ensure_connection()
            together.wait(10)
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))


def in_another_thread(act: Callable[[], Any]) -> Any:
    """What `act` returns to a thread with a connection of its own."""
    return at_the_same_time(1, act)[0]


def _read(row: Any) -> Any:
    row.refresh_from_db()
    return row
