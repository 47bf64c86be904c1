"""For tests of code that enqueues: see what was enqueued, and run it here and now, without a cluster.

    order = place_order(...)
    assert [task.args for task in enqueued(send_receipt)] == [[order.pk]]
    run_enqueued()
    assert len(mail.outbox) == 1

Works in any test that may use the database; nothing of the engine is replaced.
"""

from __future__ import annotations

from typing import Any

from django_tasks import default_task_backend

from tasks import leases, runner
from tasks.functions import TaskFunction, registry
from tasks.models import Cluster, Task


def enqueued(task: TaskFunction[Any, Any] | None = None) -> list[Task]:
    """Return the rows that are not finished, of one task function or of all, oldest first."""
    rows = Task.objects.filter(finished_at__isnull=True).order_by("pk")
    return list(rows if task is None else rows.filter(task_path=task.module_path))


def run_enqueued(limit: int = 1000) -> list[Task]:
    """Run what is due, and what that enqueues, until nothing is due; return the rows that ran, as they are now.

    A task that failed and is to run again later is not due. Raises AssertionError after `limit` attempts.
    """
    cluster = Cluster.objects.create(host="tests", pid=0)
    ran: dict[int, None] = {}
    try:
        for _attempt in range(limit):
            lease = next(iter(leases.claim(cluster.pk, 1, default_task_backend.queues, registry)), None)
            if lease is None:
                return [Task.objects.get(pk=pk) for pk in ran]
            ran[lease.task_id] = None
            runner.run(lease.task_id, lease.lease_id.hex)
    finally:
        cluster.delete()
    raise AssertionError(f"{limit} attempts were made and tasks are still due: does one enqueue itself?")
