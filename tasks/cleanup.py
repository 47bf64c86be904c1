"""Retention: finished rows go once `expires_at` has passed, in small batches, and stay counted in their queue's row.

A batch is one short transaction, so a prune may be stopped anywhere and goes on where it was. What may still be
retried is kept: a FAILED row has the long retention, and leaves nothing behind that could run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from django.db import transaction
from django.db.models import F
from django_tasks import TaskResultStatus

from tasks.models import Queue, Task, TaskError

BATCH = 500
"""Rows of one transaction."""


def prune_tasks(should_stop: Callable[[], bool] = lambda: False) -> int:
    """Delete the tasks whose retention is over, with their errors; return how many there were."""
    pruned = 0
    while not should_stop():
        count = _prune_batch()
        pruned += count
        if count < BATCH:
            break
    return pruned


def _prune_batch() -> int:
    with transaction.atomic():
        expired = Task.objects.expired().select_for_update(skip_locked=True, of=("self",)).order_by("expires_at")
        rows = list(expired.values_list("pk", "queue_name", "status")[:BATCH])
        ids = [pk for pk, _queue, _status in rows]
        for (name, status), count in Counter((queue, status) for _pk, queue, status in rows).items():
            column = "pruned_successful" if status == TaskResultStatus.SUCCESSFUL else "pruned_failed"
            Queue.objects.get_or_create(name=name)
            Queue.objects.filter(name=name).update(**{column: F(column) + count})
        TaskError.objects.filter(task__in=ids).delete()
        Task.objects.filter(pk__in=ids).delete()
    return len(rows)
