"""What a worker process executes: attempts at claimed tasks, one after the other.

`run` takes a row from claimed to its outcome and always returns None, whatever the task's code does: an exception,
`sys.exit()`, a return value that is no JSON, a timeout. Its steps: start, look up, call, finish. What comes of one
that raised is in `tasks.failures`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import uuid
from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import (
    DEFAULT_DB_ALIAS,
    DataError,
    Error,
    close_old_connections,
    connection,
    connections,
    transaction,
)
from django.dispatch import Signal
from django_tasks import task_backends
from django_tasks.signals import task_finished, task_started

from tasks import leases
from tasks.context import TaskContext
from tasks.driver import has_open_transaction, roll_back
from tasks.exceptions import LeaseLost
from tasks.failures import conclude
from tasks.functions import TaskFunction, registry, to_json
from tasks.leases import Attempt
from tasks.models import Task
from tasks.worker import Worker, disarm, persist, time_limit, wait_for_the_database

logger = logging.getLogger(__name__)

CHAIN = 1.0
"""Seconds after which a worker goes back to django-q2's loop, which replaces it if it has grown too large."""

DURABLE_WITHIN = 0.005
"""Seconds for which an outcome may be committed and not yet waited for, see `Chain`."""

QUICK = 0.001
"""Seconds of a function after which an outcome need not wait."""

LINES = 10
"""Attempts that succeeded and get a line of their own in the log, in a second; the others are summed up."""

SUCCEEDED = "succeeded"
ATTEMPT = "%s #%s: attempt %s of %s %s (%.0f ms)"


def run(task_id: int, lease_id: str) -> None:
    """Make one attempt at a claimed task, and at those that wait behind it. Never raises, never returns anything."""
    Worker.announce_busy(True)
    try:
        if not Worker.is_draining():
            Chain().run(task_id, uuid.UUID(lease_id))
    except BaseException:
        try:
            logger.critical("task %s: its outcome could not be written; this worker ends", task_id, exc_info=True)
        finally:
            Worker.give_up()
    finally:
        Worker.announce_busy(False)


class Chain:
    """Attempts that follow each other at once: the end of one and the start of the next are one commit.

    On PostgreSQL that commit waits for the disk, unless the last one that did so is less than DURABLE_WITHIN ago and
    the next function has been quick lately: then the next commit waits for both. So an outcome is never older than some
    milliseconds before a crash of the server could no longer undo it; a crash of the worker never can.
    """

    def __init__(self) -> None:
        self.began = self.durable_at = time.monotonic()
        self.following: Attempt | None = None
        self.is_in_transaction = connection.in_atomic_block
        """Whether all of it is in a transaction: that of a test."""

    def run(self, task_id: int, lease_id: uuid.UUID) -> None:
        """Run this task, then what waits, until nothing does, the cluster drains or CHAIN is over."""
        self.following = _start(task_id, lease_id)
        while True:
            while self.following is not None:
                attempt, self.following = self.following, None
                self.attempt(attempt)
            Worker.announce_task(0)
            claimed = self.take()
            if claimed is None:
                break
            self.following = _start(*claimed[:2])
        _successes.flush()

    def take(self) -> tuple[int, uuid.UUID, str] | None:
        """Return the next claimed task, if it is to run in this chain."""
        if Worker.is_draining() or time.monotonic() - self.began > CHAIN:
            return None
        return Worker.take()

    def attempt(self, attempt: Attempt) -> None:
        """Look the function up, call it, write its outcome and say what it was."""
        Worker.announce_task(attempt.task_id)
        began = time.monotonic()
        task = registry.get(attempt.task_path)
        try:
            if task is None:
                said = persist(lambda: _unknown(attempt))
            else:
                _tell(task_started, task, attempt)
                said = self.make_atomic(task, attempt) if task.atomic else self.make(task, attempt)
                _tell(task_finished, task, attempt)
        except LeaseLost as error:
            lost = error
            said = persist(lambda: _too_late(task, attempt, lost))
        took = time.monotonic() - began
        _successes.add(attempt, took) if said == SUCCEEDED else _log(logging.WARNING, attempt, said, took)

    def make(self, task: TaskFunction[Any, Any], attempt: Attempt) -> str:
        """Call the function, then write its outcome, with the start of the next one if it succeeded."""
        began = time.monotonic()
        try:
            value = _call(task, attempt)
            _quickness.note(attempt.task_path, time.monotonic() - began)
            if self.has_left_a_transaction():
                raise RuntimeError("The function returned and left a transaction open.")
        except LeaseLost:
            self.clean_up()
            raise
        except BaseException as error:
            self.clean_up()
            failed = error
            return persist(lambda: conclude(task, attempt, failed))
        self.succeed(attempt, value)
        return SUCCEEDED

    def make_atomic(self, task: TaskFunction[Any, Any], attempt: Attempt) -> str:
        """Call the function and write its outcome in one transaction: both are committed, or neither."""
        try:
            with transaction.atomic():
                leases.succeed(attempt, _call(task, attempt))
        except LeaseLost:
            raise
        except BaseException as error:
            self.clean_up()
            failed = error
            if persist(lambda: leases.is_concluded(attempt)):
                logger.error("%s #%s succeeded; after its commit:", attempt.task_path, attempt.task_id, exc_info=True)
                return SUCCEEDED
            return persist(lambda: conclude(task, attempt, failed))
        return SUCCEEDED

    def succeed(self, attempt: Attempt, value: str) -> None:
        """Write the outcome; raise LeaseLost if the row is no longer ours."""
        claimed = self.take()
        if claimed is None:
            persist(lambda: leases.succeed(attempt, value))
            return
        task_id, lease_id, path = claimed
        now = time.monotonic()
        is_durable = now - self.durable_at > DURABLE_WITHIN or not _quickness.expects(path)
        if is_durable:
            self.durable_at = now
        try:
            is_ours, self.following = leases.succeed_and_start(attempt, value, task_id, lease_id, is_durable=is_durable)
        except Error as error:  # of one or of the other: each is written by itself
            wait_for_the_database(error)
            following = partial(_start, task_id, lease_id, is_repeated=True)
            try:  # first: a row that runs while its worker is at another one is taken for lost
                persist(lambda: leases.succeed(attempt, value))
            except LeaseLost:
                self.following = following()
                raise
            self.following = following()
        else:
            if not is_ours:
                raise LeaseLost

    def clean_up(self) -> None:
        """After code that raised: no more signals, and no transaction that it, or a timeout in Django, left open."""
        disarm()
        if self.has_left_a_transaction():
            roll_back(connection.connection)
            connection.close()
            del connections[connection.alias]

    def has_left_a_transaction(self) -> bool:
        """Return whether a function has begun one and not ended it."""
        database: Any = connections[DEFAULT_DB_ALIAS]  # once: a look-up takes as long as the rest of this
        if self.is_in_transaction:
            return False
        if database.connection is None:
            return bool(database.in_atomic_block)
        return database.in_atomic_block or not database.autocommit or has_open_transaction(database.connection)


class _Quickness:
    """Which functions have been quick lately: the longest of their latest calls, which fades with each one."""

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}

    def note(self, path: str, took: float) -> None:
        self.longest[path] = max(took, 0.9 * self.longest.get(path, 0))

    def expects(self, path: str) -> bool:
        return self.longest.get(path, QUICK) < QUICK


_quickness = _Quickness()


class _Successes:
    """Attempts that succeeded, in the log: LINES of them in a second, and how many more there were."""

    def __init__(self) -> None:
        self.second = self.lines = 0
        self.more: dict[str, list[float]] = {}

    def add(self, attempt: Attempt, took: float) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        if self.second != (second := int(time.monotonic())):
            self.flush()
            self.second, self.lines = second, 0
        if self.lines < LINES:
            self.lines += 1
            _log(logging.INFO, attempt, SUCCEEDED, took)
        else:
            self.more.setdefault(attempt.task_path, []).append(took)

    def flush(self) -> None:
        for path, times in self.more.items():
            mean = sum(times) / len(times) * 1000
            logger.info("%s: %s more attempts succeeded (%.1f ms each)", path, len(times), mean)
        self.more.clear()


_successes = _Successes()


def _log(level: int, attempt: Attempt, said: str, took: float) -> None:
    of = (attempt.task_path, attempt.task_id, attempt.number, attempt.max_attempts)
    logger.log(level, ATTEMPT, *of, said, took * 1000)


def _start(task_id: int, lease_id: uuid.UUID, is_repeated: bool = False) -> Attempt | None:
    def start() -> Attempt | None:
        return leases.start(task_id, lease_id, Worker.id)

    def start_again() -> Attempt | None:
        return start() or leases.started(task_id, lease_id, Worker.id)

    try:
        return persist(start_again if is_repeated else start, start_again)
    except DataError:
        logger.exception("task %s cannot be started; the next try is in an hour", task_id)
        persist(lambda: leases.push_forward(task_id, lease_id, timedelta(hours=1)))
        return None


def _too_late(task: TaskFunction[Any, Any] | None, attempt: Attempt, error: LeaseLost) -> str:
    """Return what became of an attempt whose row is no longer ours: refused, unless the write had been committed."""
    if task is not None and leases.started(attempt.task_id, attempt.lease_id, attempt.worker_id):
        return conclude(task, attempt, error)  # it is still ours: the function's own doing
    if leases.is_concluded(attempt):
        return "was concluded before, although the database did not say so"
    said = "came too late: the task was given to another worker. Its outcome was refused"
    leases.refuse(attempt, f"Attempt {attempt.number} {said}.")
    return said


def _call(task: TaskFunction[Any, Any], attempt: Attempt) -> str:
    """Return the function's value as JSON text. Whatever it raises, SystemExit included, is raised."""
    if attempt.unreadable:
        raise TypeError(f"The arguments in the row cannot be used: {attempt.unreadable}")
    args = list(attempt.args)
    if task.takes_context:

        def read() -> tuple[Any, Any]:
            row = Task.objects.get(pk=attempt.task_id)
            return row, task.get_backend().result(row, task)  # type: ignore[attr-defined]  # ours, see TaskFunction

        row, result = read() if task.atomic else persist(read)
        args.insert(0, TaskContext(result, attempt, row.checkpoint, lambda: _should_stop(attempt)))
    with time_limit(attempt.task_id, task.timeout):
        value = task.func(*args, **attempt.kwargs)
        if inspect.iscoroutine(value):
            value = asyncio.run(_with_fresh_connections(value))
        try:
            text = to_json(value)
            if len(text) <= settings.TASKS_MAX_PAYLOAD:
                return text
            raise ValueError(
                f"it has {len(text)} characters, allowed are {settings.TASKS_MAX_PAYLOAD} (TASKS_MAX_PAYLOAD)"
            )
        except (TypeError, ValueError) as error:
            logger.warning("%s #%s: its return value was dropped: %s", attempt.task_path, attempt.task_id, error)
            return "null"


async def _with_fresh_connections(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await it; what it does with the database is done in a thread, whose connection may have died meanwhile."""
    await sync_to_async(close_old_connections)()
    return await coroutine


def _should_stop(attempt: Attempt) -> bool:
    return Worker.is_draining() or Worker.is_cancelled(attempt.task_id)


def _unknown(attempt: Attempt) -> str:
    leases.give_back(attempt, timedelta(minutes=1))
    return "found no task function of this name in this release and goes back"


def _tell(signal_: Signal, task: TaskFunction[Any, Any], attempt: Attempt) -> None:
    """Send one of Django's signals for tasks. A receiver that fails is logged by Django; it changes no outcome."""
    if signal_.receivers and signal_.has_listeners(backend := type(task_backends[task.backend])):
        result = persist(lambda: task.get_backend().get_result(str(attempt.task_id)))
        if signal_ is not task_finished or result.is_finished:  # it may be about to run again
            signal_.send_robust(backend, task_result=result)
