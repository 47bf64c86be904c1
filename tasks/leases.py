"""Claim, start, release, finish, rescue: the only code that moves a lease.

A lease is the right to run one row. It belongs to a cluster, is named by a UUID that is new with each claim, and lives
while that cluster's heartbeat is fresh. Every move is one compare-and-set on id and lease_id, so whoever lost the lease
changes nothing; every time is the database's own, so clocks of hosts do not matter.

claim, start and succeed run for each task: `tasks.statements` has their SQL. What is rare is left to the ORM.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from django.db import IntegrityError, InterfaceError, OperationalError, models, transaction
from django.db.models import F
from django.db.models.functions import Now
from django_tasks import TaskResultStatus

from tasks import statements
from tasks.driver import Row
from tasks.exceptions import Cancelled, LeaseLost, TaskTimeout, WorkerLost
from tasks.functions import retention_of
from tasks.models import NOT_LEASED, Cluster, Task, TaskError, given_up

logger = logging.getLogger(__name__)

LOST_IN_A_ROW = 3
"""So many lost attempts one after the other, and the task is FAILED: it may be what kills its workers."""

CLAIM_LIFETIME = timedelta(seconds=5)
"""A claimed row that has not started by then goes back: it waits behind long tasks, or its package is lost."""


_ATTEMPT = ("lease_id", "worker_ids", "task_path", "attempts", "max_attempts")
"""Columns that make an Attempt of a row; its arguments may be large."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed row, not started."""

    task_id: int
    lease_id: uuid.UUID
    task_path: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A started row: what the runner needs of it."""

    task_id: int
    lease_id: uuid.UUID
    worker_id: str
    task_path: str
    args: list[Any]
    kwargs: dict[str, Any]
    number: int
    max_attempts: int
    unreadable: str = ""
    """Why the arguments in the row cannot be used; then they are empty."""


class Outcome(Enum):
    """What became of a row whose attempt ended without success."""

    AGAIN = "READY again"
    FAILED = "FAILED"
    CANCELLED = "FAILED, since it was cancelled"


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt ended without success: what its TaskError says."""

    kind: TaskError.Kind
    exception_path: str = ""
    message: str = ""
    traceback: str = ""


def claim(cluster_id: uuid.UUID, limit: int, queues: Iterable[str], task_paths: Iterable[str]) -> list[Lease]:
    """Lease the next `limit` rows that are due: by priority, then run_after, then id. What runs stays to be started.

    Only rows whose function is in `task_paths` are taken: a task of a later release waits for a cluster that has it.
    """
    lease_id = uuid.uuid4()
    rows = statements.claim(cluster_id, lease_id, limit, queues, task_paths)
    return [Lease(row[0], lease_id, row[1]) for row in sorted(rows, key=lambda row: (-row[2], row[3], row[0]))]


def start(task_id: int, lease_id: uuid.UUID, worker_id: str) -> Attempt | None:
    """Make a claimed row RUNNING and count the attempt. None: the lease is gone, and nothing was changed."""
    return _attempt(task_id, lease_id, worker_id, statements.start(task_id, lease_id, worker_id))


def started(task_id: int, lease_id: uuid.UUID, worker_id: str) -> Attempt | None:
    """Return the attempt if this worker's `start` was committed although the database did not say so."""
    running = Task.objects.filter(pk=task_id, lease_id=lease_id, status=TaskResultStatus.RUNNING).first()
    if running is None or running.worker_ids[-1] != worker_id:
        return None
    return Attempt(
        task_id, lease_id, worker_id, running.task_path, running.args, running.kwargs, running.attempts,
        running.max_attempts,
    )  # fmt: skip


def is_concluded(attempt: Attempt) -> bool:
    """Return whether this worker's outcome of the attempt was committed although the database did not say so."""
    mine = {"task": attempt.task_id, "attempt": attempt.number, "worker_id": attempt.worker_id}
    if TaskError.objects.filter(**mine).exclude(kind__in=[TaskError.Kind.LOST, TaskError.Kind.SUPERSEDED]).exists():
        return True
    row = Task.objects.filter(pk=attempt.task_id, status=TaskResultStatus.SUCCESSFUL, attempts=attempt.number).first()
    return row is not None and row.worker_ids[-1] == attempt.worker_id


def succeed(attempt: Attempt, value: str) -> None:
    """Make the row SUCCESSFUL with the return value, given as JSON text; raise LeaseLost if it is no longer ours."""
    if not statements.succeed(*_ended(attempt, value)):
        raise _lost(attempt)


def succeed_and_start(
    attempt: Attempt, value: str, task_id: int, lease_id: uuid.UUID, *, is_durable: bool
) -> tuple[bool, Attempt | None]:
    """Do `succeed`, and `start` with another row, in one transaction; False in place of LeaseLost.

    Without `is_durable` the outcome is on the disk of a PostgreSQL server only with its next commit that waits for the
    disk, after 0.6 s at the latest: https://www.postgresql.org/docs/current/wal-async-commit.html
    """
    following = (task_id, lease_id, attempt.worker_id)
    is_ours, row = statements.succeed_and_start(_ended(attempt, value), following, is_durable=is_durable)
    return is_ours, _attempt(*following, row)


def fail(
    attempt: Attempt,
    failure: Failure,
    delay: timedelta | None,
    *,
    on_purpose: bool = False,
    skip_locked: bool = False,
) -> Outcome:
    """Keep the failure; make the row READY after `delay`, or FAILED if there is none or no attempt is left.

    Raises LeaseLost, with nothing changed, if the row is no longer ours; with `skip_locked` also if a transaction, for
    instance of a task on a host that was cut off, holds its lock.
    """
    if attempt.number >= attempt.max_attempts:
        delay = None
    return _end(attempt, failure, delay, on_purpose=on_purpose, skip_locked=skip_locked)


def give_back(attempt: Attempt, delay: timedelta, failure: Failure | None = None) -> Outcome:
    """Make the row READY after `delay` as if the attempt had not been: snoozed; or interrupted, with a failure.

    Raises LeaseLost, with nothing changed, if the row is no longer ours.
    """
    return _end(attempt, failure, delay, uses_attempt=False)


def refuse(attempt: Attempt, message: str) -> None:
    """Keep the outcome of an attempt that came too late, as a TaskError of kind superseded; the row stays as it is."""
    with suppress(IntegrityError), transaction.atomic():  # the row may have been deleted meanwhile
        _keep(attempt, Failure(TaskError.Kind.SUPERSEDED, message=message))


def push_forward(task_id: int, lease_id: uuid.UUID, delay: timedelta) -> None:
    """Give back a claimed row that cannot be started, so that it is in nobody's way for a while."""
    claimed = Task.objects.filter(pk=task_id, lease_id=lease_id, status=TaskResultStatus.READY)
    claimed.update(**NOT_LEASED, run_after=_from_now(delay))


def release(cluster_id: uuid.UUID, older_than: timedelta = timedelta()) -> int:
    """Give back what the cluster claimed and did not start, `older_than` ago or earlier; return how many rows."""
    claimed = Task.objects.filter(cluster=cluster_id, lease_id__isnull=False, status=TaskResultStatus.READY)
    return claimed.filter(leased_at__lte=Now() - older_than).update(**NOT_LEASED)


def heartbeat(cluster: Cluster) -> None:
    """Say that the cluster lives, by the database's clock; put its row back if another cluster took it for dead."""
    changed = Cluster.objects.filter(pk=cluster.pk).update(heartbeat_at=Now(), workers=cluster.workers)
    if not changed:
        cluster.heartbeat_at = Now()
        cluster.save(force_insert=True)


def database_time() -> datetime:
    """Return the time by the database's clock."""
    return statements.now()


def notice_clock_step(step: timedelta) -> int:
    """Mend what a step of the database's clock would leave behind; return how many tasks were due and are again.

    After a step back no heartbeat is in the future, so a cluster that died is noticed within the lease, and what had
    been due stays due. What was to run later runs at its own time by the new clock.
    """
    if step >= timedelta():
        return 0
    Cluster.objects.filter(heartbeat_at__gt=Now()).update(heartbeat_at=Now())
    had_been_due = Task.objects.waiting().filter(run_after__gt=Now(), run_after__lte=Now() - step)
    return had_been_due.update(run_after=Now())


def cancel_requests(cluster_id: uuid.UUID) -> list[tuple[int, str, float]]:
    """Return id, worker and seconds since the request, of this cluster's running tasks that somebody cancelled."""
    running = Task.objects.filter(cluster=cluster_id, lease_id__isnull=False, status=TaskResultStatus.RUNNING)
    age = models.ExpressionWrapper(Now() - F("cancel_requested_at"), output_field=models.DurationField())
    requested = running.filter(cancel_requested_at__isnull=False).values_list("pk", "worker_ids", age)
    return [
        (task_id, worker_ids[-1] if worker_ids else "", waited.total_seconds())
        for task_id, worker_ids, waited in requested
    ]


def rescue_lost_workers(
    cluster_id: uuid.UUID,
    is_alive: Callable[[str], bool],
    timed_out: frozenset[str] = frozenset(),
    is_forgotten: Callable[[Task], bool] = lambda task: False,
) -> int:
    """End the attempts of this cluster that nobody makes any more; return how many there were.

    `is_alive` tells of a worker id whether its process lives. Those in `timed_out` were killed because their task had
    run out of time, which is what is recorded then. `is_forgotten` tells of a row whose worker lives whether it has
    long done with it: a server that crashes may forget an outcome.
    """
    running = Task.objects.filter(cluster=cluster_id, lease_id__isnull=False, status=TaskResultStatus.RUNNING)
    count = 0
    for task in running.only(*_ATTEMPT):
        worker_id = _worker_of(task)
        if not is_alive(worker_id):
            count += _rescue(task, timed_out=worker_id in timed_out)
        elif is_forgotten(task):
            count += _rescue(task, message="The outcome is gone: the database's server crashed before its disk had it.")
    return count


def rescue_dead_clusters() -> int:
    """Take the leases of every cluster whose heartbeat is older than TASKS_LEASE; return how many rows there were."""
    alive = Cluster.objects.alive()
    orphans = Task.objects.filter(lease_id__isnull=False).exclude(cluster__in=alive)
    rescued = 0
    if orphans.exists():
        rescued += orphans.filter(status=TaskResultStatus.READY).update(**NOT_LEASED)
        rescued += sum(_rescue(task) for task in orphans.filter(status=TaskResultStatus.RUNNING).only(*_ATTEMPT))
    dead = Cluster.objects.exclude(pk__in=alive.values("pk"))
    if dead.exists():
        dead.filter(~models.Exists(Task.objects.filter(lease_id__isnull=False, cluster=models.OuterRef("pk")))).delete()
    return rescued


def sign_off(cluster_id: uuid.UUID) -> None:
    """End a cluster whose workers are all gone: what still ran was interrupted, and used no attempt."""
    running = Task.objects.filter(cluster=cluster_id, lease_id__isnull=False, status=TaskResultStatus.RUNNING)
    for task in running.only(*_ATTEMPT):
        message = "Its cluster stopped, and its code did not end within the grace, so its worker was killed."
        try:
            give_back(_attempt_of(task), timedelta(), Failure(TaskError.Kind.INTERRUPTED, message=message))
        except LeaseLost:
            continue
    release(cluster_id)
    Cluster.objects.filter(pk=cluster_id).delete()


def _attempt(task_id: int, lease_id: uuid.UUID, worker_id: str, row: Row | None) -> Attempt | None:
    if row is None:
        return None
    path, args, kwargs, number, max_attempts = row
    unreadable = ""
    try:
        given = json.loads(args), json.loads(kwargs)
        if not isinstance(given[0], list) or not isinstance(given[1], dict):
            raise ValueError("they must be a list and an object")
    except (ValueError, RecursionError) as error:
        given, unreadable = ([], {}), str(error)
    return Attempt(task_id, lease_id, worker_id, path, *given, number, max_attempts, unreadable)


def _ended(attempt: Attempt, value: str) -> tuple[int, uuid.UUID, str, float]:
    kept = retention_of(attempt.task_path, TaskResultStatus.SUCCESSFUL)
    return attempt.task_id, attempt.lease_id, value, kept.total_seconds()


def _lost(attempt: Attempt) -> LeaseLost:
    return LeaseLost(f"task {attempt.task_id}: attempt {attempt.number} was given to another worker")


def _attempt_of(task: Task) -> Attempt:
    if task.lease_id is None:
        raise LeaseLost(f"task {task.pk} is not running")
    return Attempt(task.pk, task.lease_id, _worker_of(task), task.task_path, [], {}, task.attempts, task.max_attempts)


def _worker_of(task: Task) -> str:
    """Return the worker of the latest attempt; a row made by hand may have none."""
    workers = task.worker_ids
    return str(workers[-1]) if isinstance(workers, list) and workers else ""


def _rescue(task: Task, timed_out: bool = False, message: str = "") -> int:
    attempt = _attempt_of(task)
    if timed_out:
        failure = Failure(
            TaskError.Kind.TIMEOUT,
            _path_of(TaskTimeout),
            "The code did not stop when its time was up, so its worker was killed.",
        )
    else:
        failure = Failure(
            TaskError.Kind.LOST,
            _path_of(WorkerLost),
            message
            or f"The worker {attempt.worker_id} ended without a word: killed, out of memory, or its machine went away.",
        )
    latest = TaskError.objects.filter(task=task).order_by("-pk").values_list("kind", flat=True)
    poison = not timed_out and list(latest[: LOST_IN_A_ROW - 1]) == [TaskError.Kind.LOST] * (LOST_IN_A_ROW - 1)
    try:
        fail(attempt, failure, None if poison else timedelta(), skip_locked=True)
    except LeaseLost:
        return 0
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # a row that cannot be rescued must not keep the others from it
        logger.exception("task %s cannot be rescued", task.pk)
        return 0
    return 1


def _end(
    attempt: Attempt,
    failure: Failure | None,
    delay: timedelta | None,
    *,
    on_purpose: bool = False,
    uses_attempt: bool = True,
    skip_locked: bool = False,
) -> Outcome:
    """Walk the arrow to READY after `delay`, or to FAILED if there is none or somebody has cancelled the task."""
    running = Task.objects.filter(pk=attempt.task_id, lease_id=attempt.lease_id, status=TaskResultStatus.RUNNING)
    with transaction.atomic():
        locked = running.select_for_update(skip_locked=skip_locked)
        task = locked.only("cancel_requested_at", "cancel_requested_by", "worker_ids").first()
        if task is None:
            raise _lost(attempt)
        if task.cancel_requested_at is not None:
            outcome, failure = Outcome.CANCELLED, _cancelled(task.cancel_requested_by, failure)
        else:
            outcome = Outcome.FAILED if delay is None else Outcome.AGAIN
        if outcome is Outcome.AGAIN and delay is not None:
            changes = {"status": TaskResultStatus.READY, "run_after": _from_now(delay)}
            if not uses_attempt:
                changes |= {"attempts": F("attempts") - 1, "worker_ids": task.worker_ids[:-1]}
        else:
            out_of_sight = on_purpose or outcome is Outcome.CANCELLED
            changes = given_up(attempt.task_path) | {"discarded_at": Now() if out_of_sight else None}
        running.update(**NOT_LEASED, **changes)
        if failure is not None:
            _keep(attempt, failure)
    return outcome


def _from_now(delay: timedelta) -> Any:
    """Return when that is. A sum of times has more digits on SQLite than its clock: due a millisecond too late."""
    return Now() + delay if delay else Now()


def _path_of(exception: type[BaseException]) -> str:
    return f"{exception.__module__}.{exception.__qualname__}"


def _cancelled(by: str, failure: Failure | None) -> Failure:
    message = f"Cancelled by {by}."
    if failure is None:
        return Failure(TaskError.Kind.CANCELLED, _path_of(Cancelled), message)
    how = "" if failure.kind is TaskError.Kind.CANCELLED else f"It ended so: {failure.kind.label}. "
    ended = f"{message} {how}{failure.message}".rstrip()
    return Failure(TaskError.Kind.CANCELLED, failure.exception_path, ended, failure.traceback)


def _keep(attempt: Attempt, failure: Failure) -> None:
    TaskError.objects.create(
        task_id=attempt.task_id,
        attempt=attempt.number,
        kind=failure.kind,
        exception_path=failure.exception_path[:255],
        message=failure.message.replace("\x00", "\N{REPLACEMENT CHARACTER}"),
        traceback=failure.traceback.replace("\x00", "\N{REPLACEMENT CHARACTER}"),
        worker_id=attempt.worker_id[:128],
    )
