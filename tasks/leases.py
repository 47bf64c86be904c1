"""Claim, start, release, finish: with `tasks.rescue` the only code that moves a lease.

A lease is the right to run one row. It belongs to a cluster, is named by a UUID that is new with each claim, and lives
while that cluster's heartbeat is fresh. Every move is one compare-and-set on id and lease_id, so whoever lost the lease
changes nothing; every time is the database's own, so clocks of hosts do not matter.

claim, start and succeed run for each task: `tasks.statements` has their SQL. What is rare is left to the ORM.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django_tasks import TaskResultStatus

from tasks import signals, statements
from tasks.driver import Row
from tasks.exceptions import Cancelled, LeaseLost, path_of
from tasks.functions import retention_of
from tasks.models import NOT_LEASED, Task, TaskError, given_up

CLAIM_LIFETIME = timedelta(seconds=5)
"""A claimed row that has not started by then goes back: it waits behind long tasks, or its package is lost."""


class Lease(NamedTuple):
    """A claimed row, not started."""

    task_id: int
    lease_id: uuid.UUID
    task_path: str


class Attempt(NamedTuple):
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
    exception: BaseException | None = None
    """What was raised; only the error hook sees it."""


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
    return release_claimed(Task.objects.filter(cluster=cluster_id, leased_at__lte=Now() - older_than))


def release_claimed(tasks: QuerySet[Task]) -> int:
    """Give back those of the tasks that have not started; return how many rows.

    It takes no row whose lock somebody has, as he moves it at this moment. A worker that ends one task and starts the
    next has the locks of two: one that waited here, with the locks of others, and a worker could wait for each other.
    """
    with transaction.atomic():
        claimed = tasks.filter(status=TaskResultStatus.READY).select_for_update(skip_locked=True)
        return Task.objects.filter(pk__in=claimed.values("pk")).update(**NOT_LEASED)


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
    if failure is not None:
        signals.tell(
            attempt.worker_id, task_path=attempt.task_path, task_id=attempt.task_id, attempt=attempt.number,
            kind=str(failure.kind), exception=failure.exception, is_last=outcome is not Outcome.AGAIN,
        )  # fmt: skip
    return outcome


def _from_now(delay: timedelta) -> Any:
    """Return when that is. A sum of times has more digits on SQLite than its clock: due a millisecond too late."""
    return Now() + delay if delay else Now()


def _cancelled(by: str, failure: Failure | None) -> Failure:
    message = f"Cancelled by {by}."
    if failure is None:
        return Failure(TaskError.Kind.CANCELLED, path_of(Cancelled), message)
    how = "" if failure.kind is TaskError.Kind.CANCELLED else f"It ended so: {failure.kind.label}. "
    ended = f"{message} {how}{failure.message}".rstrip()
    return Failure(TaskError.Kind.CANCELLED, failure.exception_path, ended, failure.traceback, failure.exception)


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
