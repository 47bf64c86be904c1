"""The error hook: `attempt_failed` tells of every attempt that did not succeed, once that is committed.

    @receiver(attempt_failed)
    def tell_somebody(sender, *, task_path, task_id, attempt, kind, exception, is_last, **kwargs): ...

`sender` is the task function, so that one may listen to it alone; None if this release does not have it. `kind` is that
of the TaskError: exception, timeout, lost, interrupted, discarded or cancelled. `exception` is what was raised, with
its traceback, and None where no exception reached the engine: the worker was killed. `is_last` is true if the task is
FAILED, false if it runs again.

A receiver is called by the worker that made the attempt, and gets TOLD_WITHIN seconds there; for a worker that is gone,
by a thread of the process that rescued its task. What it raises is logged and changes nothing. It is told at most once:
of an attempt whose teller dies in between it is not told, while the TaskError stays.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from functools import cache
from typing import Any

from django.db import connections
from django.dispatch import Signal

from tasks.functions import registry
from tasks.worker import Worker

logger = logging.getLogger(__name__)

attempt_failed = Signal()

TOLD_WITHIN = 10.0
"""Seconds that the receivers get in a worker; then it is killed, and its next task goes to another."""


def tell(worker_id: str, **told: Any) -> None:
    """Call the receivers, at once for an attempt of this worker, soon for that of another. Never raises."""
    if not attempt_failed.has_listeners(registry.get(told["task_path"])):
        return
    if worker_id != Worker.id:
        _others().put(told)
        return
    Worker.announce(time.monotonic() + TOLD_WITHIN)
    try:
        _send(told)
    finally:
        Worker.announce(0)


def _send(told: dict[str, Any]) -> None:
    try:
        attempt_failed.send_robust(registry.get(told["task_path"]), **told)
    except BaseException:  # such as SystemExit, which Django lets through
        logger.exception("a receiver of attempt_failed ended task %s's report", told["task_id"])


@cache
def _others() -> queue.SimpleQueue[dict[str, Any]]:
    """Return a queue whose entries a thread sends: a slow receiver must not keep a housekeeper from its heartbeat."""
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def send_for_ever() -> None:
        while True:
            _send(waiting.get())
            if waiting.empty():
                connections.close_all()

    threading.Thread(target=send_for_ever, name="attempt_failed", daemon=True).start()
    return waiting
