"""What a worker process executes for one attempt.

`run` is the function in every package that the broker hands to django-q2. It takes the row from claimed to its outcome
and always returns None, whatever the task's code does: an exception, `sys.exit()`, a return value that is no JSON, a
timeout. The steps: start, look up, call, finish; one clause per outcome.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import socket
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, connections, transaction
from django.dispatch import Signal
from django_tasks import task_backends
from django_tasks.signals import task_finished, task_started

from tasks import leases
from tasks.context import TaskContext
from tasks.exceptions import Discard, Interrupted, LeaseLost, Retry, Snooze, TaskTimeout
from tasks.functions import DEFAULT_BACKOFF, TaskFunction, registry, to_json
from tasks.leases import Attempt, Failure
from tasks.models import Task, TaskError

logger = logging.getLogger(__name__)

Kind = TaskError.Kind
R = TypeVar("R")

REPEAT_AFTER = 1.0
"""Seconds until TaskTimeout is raised again in code that caught it and went on."""

KILL_AFTER = 5.0
"""Seconds past its timeout after which a worker whose code did not stop is killed."""

LONGEST_TEXT = 64 * 1024
"""Characters kept of a message, and of the end of a traceback."""


class Worker:
    """This process as its cluster sees it. `tasks.cluster` sets these after the fork; the defaults are for a test."""

    id = f"{socket.gethostname()}:{os.getpid()}"
    is_draining: Callable[[], bool] = staticmethod(lambda: False)
    announce_busy: Callable[[bool], None] = staticmethod(lambda busy: None)
    """Tells the sentinel that a task is on its way through this process, so that a drain waits for it."""
    announce: Callable[[float], None] = staticmethod(lambda deadline: None)
    """Tells the sentinel until when (`time.monotonic()`) this process may run its task; 0: there is no limit."""
    give_up: Callable[[], None] = staticmethod(lambda: None)
    """Ends this process, so that its task is rescued."""


def run(task_id: int, lease_id: str) -> None:
    """Make one attempt at a claimed task. Never raises, never returns anything."""
    Worker.announce_busy(True)
    try:
        if not Worker.is_draining():
            _attempt(task_id, uuid.UUID(lease_id))
    except BaseException:
        logger.critical("task %s: its outcome could not be written; this worker ends", task_id, exc_info=True)
        Worker.give_up()
    finally:
        Worker.announce_busy(False)


def _attempt(task_id: int, lease_id: uuid.UUID) -> None:
    attempt = _persist(lambda: leases.start(task_id, lease_id, Worker.id))
    if attempt is None:
        return
    began = time.monotonic()
    task = registry.get(attempt.task_path)
    try:
        if task is None:
            said = _persist(lambda: _unknown(attempt))
        else:
            _tell(task_started, task, attempt)
            said = _make_atomic(task, attempt) if task.atomic else _make(task, attempt)
            _tell(task_finished, task, attempt)
    except LeaseLost:
        said = "came too late: the task was given to another worker. Its outcome was refused"
        _persist(lambda: leases.refuse(attempt, f"Attempt {attempt.number} {said}."))
    logger.log(
        logging.INFO if said == SUCCEEDED else logging.WARNING,
        "%s #%s: attempt %s of %s %s (%.0f ms)",
        attempt.task_path, attempt.task_id, attempt.number, attempt.max_attempts, said,
        (time.monotonic() - began) * 1000,
    )  # fmt: skip


SUCCEEDED = "succeeded"


def _make(task: TaskFunction[Any, Any], attempt: Attempt) -> str:
    """Call the function, then write its outcome; say what it was."""
    in_atomic_block = connection.in_atomic_block
    try:
        value = _call(task, attempt)
        if _is_transaction_open() and not in_atomic_block:
            raise RuntimeError("The function returned and left a transaction open.")
    except LeaseLost:
        _clean_up(in_atomic_block)
        raise
    except BaseException as error:
        _clean_up(in_atomic_block)
        failed = error
        return _persist(lambda: _conclude(task, attempt, failed))
    _persist(lambda: leases.succeed(attempt, value))
    return SUCCEEDED


def _make_atomic(task: TaskFunction[Any, Any], attempt: Attempt) -> str:
    """Call the function and write its outcome in one transaction: both are committed, or neither."""
    in_atomic_block = connection.in_atomic_block
    try:
        with transaction.atomic():
            leases.succeed(attempt, _call(task, attempt))
    except LeaseLost:
        raise
    except BaseException as error:
        _clean_up(in_atomic_block)
        failed = error
        return _persist(lambda: _conclude(task, attempt, failed))
    return SUCCEEDED


def _call(task: TaskFunction[Any, Any], attempt: Attempt) -> str:
    """Return the function's value as JSON text. Whatever it raises, SystemExit included, is raised."""
    args = list(attempt.args)
    if task.takes_context:

        def read() -> tuple[Any, Any]:
            row = Task.objects.get(pk=attempt.task_id)
            return row, task.get_backend().result(row, task)  # type: ignore[attr-defined]  # ours, see TaskFunction

        row, result = read() if task.atomic else _persist(read)
        args.insert(0, TaskContext(result, attempt, row.checkpoint, Worker.is_draining))
    with _time_limit(task.timeout):
        value = task.func(*args, **attempt.kwargs)
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
    try:
        text = to_json(value)
        if len(text) <= settings.TASKS_MAX_PAYLOAD:
            return text
        raise ValueError(f"it has {len(text)} characters, allowed are {settings.TASKS_MAX_PAYLOAD} (TASKS_MAX_PAYLOAD)")
    except (TypeError, ValueError) as error:
        logger.warning("%s #%s: its return value was dropped: %s", attempt.task_path, attempt.task_id, error)
        return "null"


def _conclude(task: TaskFunction[Any, Any], attempt: Attempt, error: BaseException) -> str:
    """Write the end of an attempt that raised; say what comes next."""
    match error:
        case Snooze():
            leases.give_back(attempt, error.for_)
            return f"snoozed for {error.for_}"
        case Interrupted():
            leases.give_back(attempt, timedelta(), _described(Kind.INTERRUPTED, error))
            return "was interrupted and goes back; it used no attempt"
        case Discard():
            leases.fail(attempt, _described(Kind.DISCARDED, error), None, on_purpose=True)
            return f"gave up on purpose: {error.reason}"
        case TaskTimeout():
            failure = _described(Kind.TIMEOUT, error)
        case _:
            failure = _described(Kind.EXCEPTION, error)
    delay = error.after if isinstance(error, Retry) and error.after is not None else _backoff(task, attempt)
    again = leases.fail(attempt, failure, delay)
    what = f"{failure.kind.label}: {failure.exception_path.rpartition('.')[2]}"
    return f"{what}; again in {delay.total_seconds():.1f} s" if again else f"{what}; FAILED"


def _clean_up(in_atomic_block: bool) -> None:
    """After code that raised: no more signals, and no transaction that it, or a timeout in Django, left open."""
    _disarm()
    if _is_transaction_open() and not in_atomic_block:
        connection.close()
        del connections[connection.alias]


def _is_transaction_open() -> bool:
    return connection.in_atomic_block or (connection.connection is not None and not connection.autocommit)


def _unknown(attempt: Attempt) -> str:
    leases.give_back(attempt, timedelta(minutes=1))
    return "found no task function of this name in this release and goes back"


def _described(kind: TaskError.Kind, error: BaseException) -> Failure:
    """Return what is kept of an exception: its path, its text and its traceback below this module."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    try:
        message = str(error)
        text = "".join(traceback.format_exception(type(error), error, frames))
    except Exception as broken:  # an exception's own __str__ may fail
        message = f"(its text could not be made: {type(broken).__qualname__})"
        text = "".join(traceback.format_tb(frames))
    path = f"{type(error).__module__}.{type(error).__qualname__}"
    return Failure(kind, path, _storable(message[:LONGEST_TEXT]), _storable(text[-LONGEST_TEXT:]))


def _storable(text: str) -> str:
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _backoff(task: TaskFunction[Any, Any], attempt: Attempt) -> timedelta:
    try:
        delay = task.backoff(attempt.number)
        if isinstance(delay, timedelta) and timedelta() <= delay <= timedelta(days=365):
            return delay
        reason = f"returned {delay!r}, which is no timedelta from 0 to 365 days"
    except Exception as error:
        reason = f"raised {error!r}"
    logger.error("%s: its backoff %s; the default is used", attempt.task_path, reason)
    return DEFAULT_BACKOFF(attempt.number)


def _persist(write: Callable[[], R]) -> R:
    """Return what `write` returns; while the database is away, ask again.

    It may go on for as long as it takes: nobody can rescue the row meanwhile, and once the database is back the
    compare-and-set decides whether it is still ours.
    """
    wait = 0.1
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError) as error:
            reason = str(error).strip().split("\n")[0]
            logger.error("the database does not answer, the worker asks again in %.1f s: %s", wait, reason)
            connections.close_all()
            if Worker.is_draining() and wait >= 2:
                raise
            time.sleep(wait)
            wait = min(2.0, wait * 2)


def _tell(signal_: Signal, task: TaskFunction[Any, Any], attempt: Attempt) -> None:
    """Send one of Django's signals for tasks. A receiver that fails is logged by Django; it changes no outcome."""
    backend = type(task_backends[task.backend])
    if signal_.has_listeners(backend):
        result = _persist(lambda: task.get_backend().get_result(str(attempt.task_id)))
        signal_.send_robust(backend, task_result=result)


_armed = False


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TaskTimeout in the body after `seconds`, and Interrupted on SIGUSR1, again and again until it ends."""
    global _armed

    def out_of_time(signum: int, frame: object) -> None:
        if _armed:
            raise TaskTimeout(f"It ran longer than its timeout of {seconds:g} s.")

    def interrupt(signum: int, frame: object) -> None:
        if _armed:
            raise Interrupted("Its cluster stopped, and it did not end within the grace.")

    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGUSR1, interrupt)
    Worker.announce(time.monotonic() + seconds + KILL_AFTER)
    _armed = True
    signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT_AFTER)
    try:
        yield
    finally:
        _disarm()


def _disarm() -> None:
    """Let the engine's own code run undisturbed. Called twice: a signal may hit the first call."""
    global _armed
    _armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    Worker.announce(0)
