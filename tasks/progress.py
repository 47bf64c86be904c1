"""How far a task is, for the page that waits for it."""

from __future__ import annotations

import re
from typing import NamedTuple

from tasks.models import FINISHED, Task, TaskError


class Progress(NamedTuple):
    """What a task last told with `context.progress`, and what has become of it."""

    status: str
    """READY, RUNNING, SUCCESSFUL or FAILED."""

    done: float
    total: float
    message: str
    reason: str
    """Of a task that gave up on purpose: what it said, see `tasks.exceptions.Discard`. Written for people."""

    @property
    def is_finished(self) -> bool:
        """Return whether it will not run any more."""
        return self.status in FINISHED


def progress_of(task_id: str) -> Progress | None:
    """Return how far the task of this id is, as `enqueue` returned it; None: it is gone, or never was."""
    row = Task.objects.filter(pk=int(task_id)).first() if re.fullmatch("[0-9]{1,18}", task_id) else None
    if row is None:
        return None
    told = row.progress or {}
    reason = ""
    if row.status == Task.Status.FAILED:
        given_up = TaskError.objects.filter(
            task=row, kind=TaskError.Kind.DISCARDED, exception_path__endswith=".Discard"
        )
        reason = given_up.order_by("-pk").values_list("message", flat=True).first() or ""
    return Progress(row.status, told.get("done", 0), told.get("total", 0), told.get("message", ""), reason)
