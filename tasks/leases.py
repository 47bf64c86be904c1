"""Claim, start, release, finish, rescue: the only code that moves a lease.

A lease is the right to run one row. It belongs to a cluster, is named by a UUID that is new with each claim, and lives
while that cluster's heartbeat is fresh. Every move is one compare-and-set on id and lease_id, so whoever lost the lease
changes nothing; every time is the database's own, so clocks of hosts do not matter.

claim, start and succeed run for each task and are written as SQL; what is rare is left to the ORM.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django_tasks import TaskResultStatus

from tasks.exceptions import LeaseLost, WorkerLost
from tasks.models import Cluster, Task, TaskError

LOST_IN_A_ROW = 3
"""So many lost attempts one after the other, and the task is FAILED: it may be what kills its workers."""

CLAIM_LIFETIME = timedelta(seconds=5)
"""A claimed row that has not started by then goes back: it waits behind long tasks, or its package is lost."""

_NOW = {"postgresql": "statement_timestamp()", "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"}
_AMONG = {"postgresql": "= ANY(%s)", "sqlite": "IN (SELECT value FROM json_each(%s))"}
_APPEND = {
    "postgresql": "worker_ids || to_jsonb(%s::text)",
    "sqlite": "json_insert(worker_ids, '$[#]', %s)",
}
_SKIP_LOCKED = {"postgresql": "FOR UPDATE SKIP LOCKED", "sqlite": ""}

_CLAIM = """
    WITH due AS MATERIALIZED (
        SELECT id FROM tasks_task
        WHERE status = 'READY' AND lease_id IS NULL AND run_after <= {now}
          AND queue_name {among} AND task_path {among}
          AND queue_name NOT IN (
              SELECT name FROM tasks_queue
              WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > {now}))
        ORDER BY priority DESC, run_after, id LIMIT %s {skip_locked})
    UPDATE tasks_task SET lease_id = %s, cluster_id = %s, leased_at = {now}
    WHERE id IN (SELECT id FROM due) AND lease_id IS NULL AND status = 'READY'
    RETURNING id, task_path, priority, run_after"""

_START = """
    UPDATE tasks_task
    SET status = 'RUNNING', attempts = attempts + 1, worker_ids = {append},
        last_attempted_at = {now}, started_at = COALESCE(started_at, {now})
    WHERE id = %s AND lease_id = %s AND status = 'READY'
    RETURNING task_path, args, kwargs, attempts, max_attempts"""

_SUCCEED = """
    UPDATE tasks_task
    SET status = 'SUCCESSFUL', finished_at = {now}, return_value = %s,
        lease_id = NULL, leased_at = NULL, cluster_id = NULL
    WHERE id = %s AND lease_id = %s AND status = 'RUNNING'"""


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
    listed = [_listed(queues), _listed(task_paths)]
    with connection.cursor() as cursor:
        cursor.execute(_sql(_CLAIM), [*listed, limit, _uuid(lease_id), _uuid(cluster_id)])
        rows = cursor.fetchall()
    rows.sort(key=lambda row: (-row[2], row[3], row[0]))  # RETURNING has no order
    return [Lease(row[0], lease_id, row[1]) for row in rows]


def start(task_id: int, lease_id: uuid.UUID, worker_id: str) -> Attempt | None:
    """Make a claimed row RUNNING and count the attempt. None: the lease is gone, and nothing was changed."""
    with connection.cursor() as cursor:
        cursor.execute(_sql(_START), [worker_id, task_id, _uuid(lease_id)])
        row = cursor.fetchone()
    if row is None:
        return None
    path, args, kwargs, number, max_attempts = row
    return Attempt(task_id, lease_id, worker_id, path, json.loads(args), json.loads(kwargs), number, max_attempts)


def succeed(attempt: Attempt, value: str) -> None:
    """Make the row SUCCESSFUL with the return value, given as JSON text; raise LeaseLost if it is no longer ours."""
    with connection.cursor() as cursor:
        cursor.execute(_sql(_SUCCEED), [value, attempt.task_id, _uuid(attempt.lease_id)])
        if cursor.rowcount != 1:
            raise LeaseLost(f"task {attempt.task_id}: attempt {attempt.number} was given to another worker")


def fail(attempt: Attempt, failure: Failure, delay: timedelta | None, *, on_purpose: bool = False) -> bool:
    """Keep the failure; make the row READY after `delay`, or FAILED if there is none. True: it will run again.

    Raises LeaseLost, with nothing changed, if the row is no longer ours.
    """
    again = delay is not None and attempt.number < attempt.max_attempts
    changes = _again(delay) if again and delay is not None else _over(on_purpose)
    with transaction.atomic():
        _move(attempt, **changes)
        _keep(attempt, failure)
    return again


def give_back(attempt: Attempt, delay: timedelta, failure: Failure | None = None) -> None:
    """Make the row READY after `delay` as if the attempt had not been: snoozed; or interrupted, with a failure."""
    worker_ids = Task.objects.values_list("worker_ids", flat=True).filter(pk=attempt.task_id).first() or []
    with transaction.atomic():
        _move(attempt, **_again(delay), attempts=F("attempts") - 1, worker_ids=worker_ids[:-1])
        if failure:
            _keep(attempt, failure)


def refuse(attempt: Attempt, message: str) -> None:
    """Keep the outcome of an attempt that came too late, as a TaskError of kind superseded; the row stays as it is."""
    _keep(attempt, Failure(TaskError.Kind.SUPERSEDED, message=message))


def release(cluster_id: uuid.UUID, older_than: timedelta = timedelta()) -> int:
    """Give back what the cluster claimed and did not start, `older_than` ago or earlier; return how many rows."""
    claimed = Task.objects.filter(cluster=cluster_id, lease_id__isnull=False, status=TaskResultStatus.READY)
    return claimed.filter(leased_at__lte=Now() - older_than).update(lease_id=None, leased_at=None, cluster=None)


def heartbeat(cluster: Cluster) -> None:
    """Say that the cluster lives, by the database's clock; put its row back if another cluster took it for dead."""
    changed = Cluster.objects.filter(pk=cluster.pk).update(heartbeat_at=Now(), workers=cluster.workers)
    if not changed:
        cluster.heartbeat_at = Now()
        cluster.save(force_insert=True)


def rescue_lost_workers(cluster_id: uuid.UUID, is_alive: Any, timed_out: frozenset[str] = frozenset()) -> int:
    """End the attempts of this cluster's workers that are gone; return how many there were.

    `is_alive` tells of a worker id whether its process lives. Those in `timed_out` were killed because their task had
    run out of time, which is what is recorded then.
    """
    running = Task.objects.filter(cluster=cluster_id, lease_id__isnull=False, status=TaskResultStatus.RUNNING)
    count = 0
    for task in running:
        worker_id = task.worker_ids[-1]
        if not is_alive(worker_id):
            count += _rescue(task, timed_out=worker_id in timed_out)
    return count


def rescue_dead_clusters() -> int:
    """Take the leases of every cluster whose heartbeat is older than TASKS_LEASE; return how many rows there were."""
    fresh = Cluster.objects.alive()
    orphans = Task.objects.filter(lease_id__isnull=False).exclude(cluster__in=fresh)
    rescued = orphans.filter(status=TaskResultStatus.READY).update(lease_id=None, leased_at=None, cluster=None)
    for task in orphans.filter(status=TaskResultStatus.RUNNING):
        rescued += _rescue(task)
    Cluster.objects.exclude(pk__in=fresh.values("pk")).filter(
        ~models.Exists(Task.objects.filter(lease_id__isnull=False, cluster=models.OuterRef("pk")))
    ).delete()
    return rescued


def sign_off(cluster_id: uuid.UUID) -> None:
    """End a cluster whose workers are all gone: what still ran was interrupted, and used no attempt."""
    for task in Task.objects.filter(cluster=cluster_id, lease_id__isnull=False, status=TaskResultStatus.RUNNING):
        message = "Its cluster stopped, and its code did not end within the grace, so its worker was killed."
        try:
            give_back(_attempt_of(task), timedelta(), Failure(TaskError.Kind.INTERRUPTED, message=message))
        except LeaseLost:
            continue
    release(cluster_id)
    Cluster.objects.filter(pk=cluster_id).delete()


def _attempt_of(task: Task) -> Attempt:
    if task.lease_id is None:
        raise LeaseLost(f"task {task.pk} is not running")
    return Attempt(
        task.pk, task.lease_id, task.worker_ids[-1], task.task_path, [], {}, task.attempts, task.max_attempts
    )


def _rescue(task: Task, timed_out: bool = False) -> int:
    attempt = _attempt_of(task)
    if timed_out:
        failure = Failure(
            TaskError.Kind.TIMEOUT,
            message="The code did not stop when its time was up, so its worker was killed.",
        )
    else:
        failure = Failure(
            TaskError.Kind.LOST,
            f"{WorkerLost.__module__}.{WorkerLost.__qualname__}",
            f"The worker {attempt.worker_id} ended without a word: killed, out of memory, or its machine went away.",
        )
    latest = TaskError.objects.filter(task=task).order_by("-pk").values_list("kind", flat=True)
    poison = not timed_out and list(latest[: LOST_IN_A_ROW - 1]) == [TaskError.Kind.LOST] * (LOST_IN_A_ROW - 1)
    try:
        fail(attempt, failure, None if poison else timedelta())
    except LeaseLost:
        return 0
    return 1


def _again(delay: timedelta) -> dict[str, Any]:
    return {"status": TaskResultStatus.READY, "run_after": Now() + delay}


def _over(on_purpose: bool) -> dict[str, Any]:
    return {
        "status": TaskResultStatus.FAILED,
        "finished_at": Now(),
        "discarded_at": Now() if on_purpose else None,
    }


def _move(attempt: Attempt, **changes: Any) -> None:
    changes |= {"lease_id": None, "leased_at": None, "cluster": None}
    running = Q(pk=attempt.task_id, lease_id=attempt.lease_id, status=TaskResultStatus.RUNNING)
    if not Task.objects.filter(running).update(**changes):
        raise LeaseLost(f"task {attempt.task_id}: attempt {attempt.number} was given to another worker")


def _keep(attempt: Attempt, failure: Failure) -> None:
    TaskError.objects.create(
        task_id=attempt.task_id,
        attempt=attempt.number,
        kind=failure.kind,
        exception_path=failure.exception_path[:255],
        message=failure.message.replace("\x00", "\N{REPLACEMENT CHARACTER}"),
        traceback=failure.traceback.replace("\x00", "\N{REPLACEMENT CHARACTER}"),
        worker_id=attempt.worker_id,
    )


def _sql(statement: str) -> str:
    vendor = connection.vendor
    return statement.format(
        now=_NOW[vendor], among=_AMONG[vendor], append=_APPEND[vendor], skip_locked=_SKIP_LOCKED[vendor]
    )


def _uuid(value: uuid.UUID) -> Any:
    return value if connection.features.has_native_uuid_field else value.hex


def _listed(names: Iterable[str]) -> Any:
    return list(names) if connection.vendor == "postgresql" else json.dumps(list(names))
