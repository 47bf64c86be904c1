"""Heartbeat and rescue: what a cluster's housekeeper does to the rows, of its own cluster and of those that died.

A lease lives while its cluster's heartbeat is fresh, by the database's own clock. What is rescued goes through the same
compare-and-set as every other end of an attempt, see `tasks.leases`, so of several rescuers one succeeds.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError, models
from django.db.models import F
from django.db.models.functions import Now
from django_tasks import TaskResultStatus

from tasks import leases, statements
from tasks.exceptions import LeaseLost, TaskTimeout, WorkerLost, path_of
from tasks.leases import Attempt, Failure
from tasks.models import Cluster, Task, TaskError

logger = logging.getLogger(__name__)

LOST_IN_A_ROW = 3
"""So many lost attempts one after the other, and the task is FAILED: it may be what kills its workers."""

_ATTEMPT = ("lease_id", "worker_ids", "task_path", "attempts", "max_attempts")
"""Columns that make an Attempt of a row; its arguments may be large."""


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
    age = models.ExpressionWrapper(Now() - F("cancel_requested_at"), output_field=models.DurationField())
    requested = _running(cluster_id).filter(cancel_requested_at__isnull=False).values_list("pk", "worker_ids", age)
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
    count = 0
    for task in _running(cluster_id).only(*_ATTEMPT):
        worker_id = _worker_of(task)
        if not is_alive(worker_id):
            count += _rescue(task, timed_out=worker_id in timed_out)
        elif is_forgotten(task):
            count += _rescue(task, message="The outcome is gone: the database's server crashed before its disk had it.")
    return count


def rescue_dead_clusters() -> int:
    """Take the leases of every cluster whose heartbeat is older than TASKS_LEASE; return how many rows there were."""
    alive = Cluster.objects.alive()
    orphans = Task.objects.leased().exclude(cluster__in=alive)
    rescued = 0
    if orphans.exists():
        rescued += leases.release_claimed(orphans)
        rescued += sum(_rescue(task) for task in orphans.filter(status=TaskResultStatus.RUNNING).only(*_ATTEMPT))
    dead = Cluster.objects.exclude(pk__in=alive.values("pk"))
    if dead.exists():
        dead.filter(~models.Exists(Task.objects.filter(cluster=models.OuterRef("pk")))).delete()
    return rescued


def sign_off(cluster_id: uuid.UUID) -> None:
    """End a cluster whose workers are all gone: what still ran was interrupted, and used no attempt."""
    for task in _running(cluster_id).only(*_ATTEMPT):
        message = "Its cluster stopped, and its code did not end within the grace, so its worker was killed."
        try:
            leases.give_back(_attempt_of(task), timedelta(), Failure(TaskError.Kind.INTERRUPTED, message=message))
        except LeaseLost:
            continue
    leases.release(cluster_id)
    Cluster.objects.filter(pk=cluster_id).delete()


def _running(cluster_id: uuid.UUID) -> models.QuerySet[Task]:
    return Task.objects.filter(cluster=cluster_id, status=TaskResultStatus.RUNNING)


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
            path_of(TaskTimeout),
            "The code did not stop when its time was up, so its worker was killed.",
        )
    else:
        failure = Failure(
            TaskError.Kind.LOST,
            path_of(WorkerLost),
            message
            or f"The worker {attempt.worker_id} ended without a word: killed, out of memory, or its machine went away.",
        )
    latest = TaskError.objects.filter(task=task).order_by("-pk").values_list("kind", flat=True)
    poison = not timed_out and list(latest[: LOST_IN_A_ROW - 1]) == [TaskError.Kind.LOST] * (LOST_IN_A_ROW - 1)
    try:
        leases.fail(attempt, failure, None if poison else timedelta(), skip_locked=True)
    except LeaseLost:
        return 0
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # a row that cannot be rescued must not keep the others from it
        logger.exception("task %s cannot be rescued", task.pk)
        return 0
    return 1
