"""What becomes of an attempt that raised: what is kept of the exception, and what comes next."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tasks import leases
from tasks.exceptions import Cancelled, Discard, Interrupted, Retry, Snooze, TaskTimeout, path_of
from tasks.functions import DEFAULT_BACKOFF, TaskFunction, without_secrets
from tasks.leases import Attempt, Failure, Outcome
from tasks.models import TaskError
from tasks.worker import Worker

logger = logging.getLogger(__name__)

Kind = TaskError.Kind

LONGEST_TEXT = 64 * 1024
"""Characters kept of a message, and of the end of a traceback."""

CALLER = "tasks.runner"
"""The module whose frames are left out of a traceback, since they say nothing of the function."""

DESCRIBED_WITHIN = 10.0
"""Seconds that an exception gets to say what it is; then its worker is killed."""


def conclude(task: TaskFunction[Any, Any], attempt: Attempt, error: BaseException) -> str:
    """Write the end of an attempt that raised; say what comes next."""

    def described(kind: TaskError.Kind) -> Failure:
        return _described(kind, error, lambda text: without_secrets(text, task, attempt.args, attempt.kwargs))

    match error:
        case Snooze():
            outcome = leases.give_back(attempt, error.for_)
            return f"snoozed for {error.for_}" if outcome is Outcome.AGAIN else f"ended: {outcome.value}"
        case Interrupted() if Worker.is_draining():
            outcome = leases.give_back(attempt, timedelta(), described(Kind.INTERRUPTED))
            used = "; it used no attempt" if outcome is Outcome.AGAIN else ""
            return f"was interrupted: {outcome.value}{used}"
        case Cancelled() if Worker.is_cancelled(attempt.task_id):
            leases.fail(attempt, described(Kind.CANCELLED), None)
            return f"was interrupted: {Outcome.CANCELLED.value}"
        case Discard():
            leases.fail(attempt, described(Kind.DISCARDED), None, on_purpose=True)
            return f"gave up on purpose: {error.reason}"
        case TaskTimeout():
            failure = described(Kind.TIMEOUT)
        case _:
            failure = described(Kind.EXCEPTION)
    delay = error.after if isinstance(error, Retry) and error.after is not None else _backoff(task, attempt)
    outcome = leases.fail(attempt, failure, delay)
    what = f"{failure.kind.label}: {failure.exception_path.rpartition('.')[2]}"
    return f"{what}; again in {delay.total_seconds():.1f} s" if outcome is Outcome.AGAIN else f"{what}; {outcome.value}"


def _described(kind: TaskError.Kind, error: BaseException, hide: Callable[[str], str]) -> Failure:
    """Return what is kept of an exception: its path, its text and its traceback from the function on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__") == CALLER:
        frames = frames.tb_next
    Worker.announce(time.monotonic() + DESCRIBED_WITHIN)
    try:
        message = str.__str__(str(error))
        text = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException as broken:  # an exception's own __str__ may do anything
        message = f"(its text could not be made: {type(broken).__qualname__})"
        text = "".join(traceback.format_tb(frames))
    finally:
        Worker.announce(0)
    path, message, text = _storable(path_of(type(error))), hide(message), hide(text)
    return Failure(kind, path, _storable(message[:LONGEST_TEXT]), _storable(text[-LONGEST_TEXT:]), error)


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
