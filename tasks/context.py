"""What a task function with `takes_context=True` is given: Django's TaskContext, progress, checkpoint, should_stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django_tasks import base

from tasks.exceptions import LeaseLost
from tasks.functions import to_json
from tasks.leases import Attempt
from tasks.models import Task


class TaskContext(base.TaskContext):
    """The attempt that is running. Its writes raise LeaseLost once the row was given to another worker."""

    __setattr__ = object.__setattr__  # Django's class is frozen; `checkpoint` is for writing

    def __init__(
        self, task_result: base.TaskResult[Any], attempt: Attempt, checkpoint: Any, should_stop: Callable[[], bool]
    ) -> None:
        super().__init__(task_result=task_result)
        self._attempt = attempt
        self._checkpoint = checkpoint
        self._should_stop = should_stop

    @property
    def attempt(self) -> int:
        """The number of this attempt, 1 for the first."""
        return self._attempt.number

    @property
    def should_stop(self) -> bool:
        """True once the cluster drains. A long task looks at it between its steps, sets `checkpoint` and returns
        early by raising `Snooze`.
        """
        return self._should_stop()

    @property
    def checkpoint(self) -> Any:
        """A JSON value of the task's own, None at first. It is stored when it is set, and outlives the attempt."""
        return self._checkpoint

    @checkpoint.setter
    def checkpoint(self, value: Any) -> None:
        _check_size("checkpoint", to_json(value))
        self._write(checkpoint=value)
        self._checkpoint = value

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Show how far the task is: `done` of `total`, in units of its own, with a short text."""
        _check_size("progress", to_json([done, total, message]))
        self._write(progress={"done": done, "total": total, "message": message})

    def _write(self, **values: Any) -> None:
        mine = Task.objects.filter(pk=self._attempt.task_id, lease_id=self._attempt.lease_id)
        if not mine.update(**values):
            raise LeaseLost(f"task {self._attempt.task_id}: this attempt is over")


def _check_size(name: str, text: str) -> None:
    if len(text) > settings.TASKS_MAX_PAYLOAD:
        raise ValueError(
            f"{name} has {len(text)} characters; allowed are {settings.TASKS_MAX_PAYLOAD} (TASKS_MAX_PAYLOAD)."
        )
