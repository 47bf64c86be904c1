"""Django's Tasks API on one side, rows of `tasks.Task` on the other.

`enqueue` inserts the row in the caller's transaction: the task is accepted if and only if that commits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django_tasks import base
from django_tasks.backends.base import BaseTaskBackend
from django_tasks.exceptions import InvalidTaskError, TaskResultDoesNotExist
from django_tasks.signals import task_enqueued

from tasks.functions import MAX_KEY_LENGTH, TaskFunction, registry, stored_arguments, validate_options

# tasks.models is imported inside the methods: `@task` makes this backend before Django's models are ready.


BATCH = 1000
"""Rows of one INSERT of `enqueue_many`."""


class DatabaseBackend(BaseTaskBackend):
    """Keeps tasks in the default database. Options of its own: none; QUEUES as Django documents them."""

    task_class = TaskFunction
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        for name in self.queues:
            if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 64:
                raise ImproperlyConfigured(f"TASKS names the queue {name!r}. Allowed: 1 to 64 printable characters.")

    def validate_task(self, task: base.Task[Any, Any]) -> None:
        """Raise InvalidTaskError if the function or one of its options cannot be right."""
        _check_priority(task.priority)
        _check_run_after(task.run_after)
        super().validate_task(task)
        validate_options(task)

    def enqueue(
        self, task: Any, args: Any, kwargs: Any, *, schedule_id: int | None = None, is_held: bool = False
    ) -> base.TaskResult[Any]:
        """Insert the row in the caller's transaction; raise TypeError or ValueError for arguments that do not fit.

        `schedule_id`: the schedule that asks for it. `is_held`: not to be claimed yet, see `tasks.holding`.
        """
        self.validate_task(task)
        stored = stored_arguments(task, args, kwargs)
        key = _key(task, args, kwargs)
        while not (results := self._insert(task, [stored], key, schedule_id, is_held)):
            existing = self._unfinished(task, key)
            if existing is not None:
                return existing
            # it finished between the two statements: its key is free again
        return results[0]

    def enqueue_many(self, task: TaskFunction[Any, Any], calls: Iterable[Any]) -> list[base.TaskResult[Any]]:
        """Insert a row for each call, see TaskFunction.enqueue_many."""
        self.validate_task(task)
        both = [((), call) if isinstance(call, Mapping) else (tuple(call), {}) for call in calls]
        stored = []
        for number, (args, kwargs) in enumerate(both):
            try:
                stored.append(stored_arguments(task, args, kwargs))
            except (TypeError, ValueError) as error:
                raise type(error)(f"call {number}: {error}") from None
        with transaction.atomic(savepoint=False):
            if task.idempotency_key is not None:  # each may be answered with a task that exists
                return [self.enqueue(task, args, kwargs) for args, kwargs in both]
            batches = [stored[first : first + BATCH] for first in range(0, len(stored), BATCH)]
            return [result for batch in batches for result in self._insert(task, batch)]

    def _insert(
        self,
        task: TaskFunction[Any, Any],
        stored: list[tuple[str, str]],
        key: str | None = None,
        schedule_id: int | None = None,
        is_held: bool = False,
    ) -> list[base.TaskResult[Any]]:
        from tasks import statements

        values = [task.module_path, task.queue_name, task.priority, task.max_attempts, task.run_after, key]
        values += [schedule_id, is_held]
        results = [
            self._new_result(task, task_id, enqueued_at, args, kwargs)
            for (task_id, enqueued_at), (args, kwargs) in zip(statements.insert(values, stored), stored, strict=False)
        ]
        if task_enqueued.has_listeners(type(self)):
            for result in results:
                task_enqueued.send(type(self), task_result=result)
        return results

    def _unfinished(self, task: TaskFunction[Any, Any], key: str | None) -> base.TaskResult[Any] | None:
        from tasks.models import UNFINISHED, Task

        row = Task.objects.filter(task_path=task.module_path, idempotency_key=key, status__in=UNFINISHED).first()
        return None if row is None else self.result(row, task)

    def get_result(self, result_id: str) -> base.TaskResult[Any]:
        """Return the result with this id; raise TaskResultDoesNotExist, also for an id that none can have."""
        from tasks.models import Task

        text = str(result_id)
        # int() would take " 7", "1_0" and other digits for numbers too; no id has more than 19 digits
        row = Task.objects.filter(pk=int(text)).first() if re.fullmatch("[0-9]{1,19}", text) else None
        if row is None:
            raise TaskResultDoesNotExist(result_id)
        return self.result(row)

    def _new_result(
        self, task: TaskFunction[Any, Any], task_id: int, enqueued_at: datetime, args: str, kwargs: str
    ) -> base.TaskResult[Any]:
        return base.TaskResult(
            task=task,
            id=str(task_id),
            status=base.TaskResultStatus.READY,
            enqueued_at=enqueued_at,
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=json.loads(args),
            kwargs=json.loads(kwargs),
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )

    def result(self, row: Any, task: TaskFunction[Any, Any] | None = None) -> base.TaskResult[Any]:
        """Return Django's TaskResult for a row of `tasks.Task`."""
        function = task or registry.get(row.task_path)
        if function is None:
            raise InvalidTaskError(f"{row.task_path}: there is no task function of this name (any more).")
        result: base.TaskResult[Any] = base.TaskResult(
            task=_as_enqueued(function, row),
            id=str(row.pk),
            status=base.TaskResultStatus(row.status),
            enqueued_at=row.enqueued_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            last_attempted_at=row.last_attempted_at,
            args=row.args,
            kwargs=row.kwargs,
            backend=self.alias,
            errors=_errors(row) if row.attempts or row.finished_at else [],
            worker_ids=row.worker_ids,
        )
        object.__setattr__(result, "_return_value", row.return_value)
        return result


def _check_priority(priority: Any) -> None:
    """Refuse what Django would compare and fail at; what is out of range it refuses itself, with these words."""
    is_whole = priority.is_integer() if isinstance(priority, float) else isinstance(priority, int)
    if not is_whole or isinstance(priority, bool):
        raise InvalidTaskError(
            f"priority must be a whole number between {base.TASK_MIN_PRIORITY} and {base.TASK_MAX_PRIORITY}."
        )


def _check_run_after(run_after: Any) -> None:
    """Refuse what is no time, and times that are none in another time zone, where a database or a page has them."""
    if run_after is None:
        return
    if not isinstance(run_after, datetime):
        raise InvalidTaskError("run_after must be an aware datetime.")
    if not MINYEAR < run_after.year < MAXYEAR:
        raise InvalidTaskError(f"run_after is {run_after}; allowed: the years {MINYEAR + 1} to {MAXYEAR - 1}.")


def _key(task: TaskFunction[Any, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    if task.idempotency_key is None:
        return None
    key = task.idempotency_key(*args, **kwargs)
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_LENGTH or not key.isprintable():
        raise ValueError(
            f"{task.module_path}: idempotency_key returned {key!r}; "
            f"allowed: 1 to {MAX_KEY_LENGTH} printable characters."
        )
    return key


def _as_enqueued(function: TaskFunction[Any, Any], row: Any) -> TaskFunction[Any, Any]:
    """Return the function with the options of this row; its `run_after` is known until the first attempt."""
    run_after = None if row.attempts or row.run_after == row.enqueued_at else row.run_after
    options = {"priority": row.priority, "queue_name": row.queue_name, "run_after": run_after}
    if all(getattr(function, name) == value for name, value in options.items()):
        return function
    try:
        return replace(function, **options)
    except InvalidTaskError:  # the settings no longer have its queue
        return function


def _errors(row: Any) -> list[base.TaskError]:
    return [
        base.TaskError(exception_class_path=error.exception_path, traceback=error.traceback or error.message)
        for error in row.errors.exclude(exception_path="").order_by("pk")
    ]
