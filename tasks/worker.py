"""A worker process towards its cluster and its database: what it announces, how it is interrupted, how it waits.

`tasks.cluster` sets the attributes of `Worker` after the fork; `tasks.runner` uses what is here around each attempt.
"""

from __future__ import annotations

import os
import signal
import socket
import time
import uuid
from _signal import pthread_sigmask  # type: ignore[import-not-found]  # what `signal` wraps: its enums take 8 µs a task
from _signal import signal as set_handler
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.db import DataError, Error, IntegrityError, InterfaceError, InternalError, OperationalError, connections

from tasks.exceptions import Cancelled, Interrupted, TaskTimeout
from tasks.outage import Outage

R = TypeVar("R")

REPEAT_AFTER = 1.0
"""Seconds until TaskTimeout is raised again in code that caught it and went on."""

KILL_AFTER = 5.0
"""Seconds past its timeout, or its cancellation, after which a worker whose code did not stop is killed."""

DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)
"""What a write of the engine's own meets while the server restarts, is full, or has become read-only."""


class Worker:
    """This process as its cluster sees it. The defaults are for a test, which has no cluster."""

    id = f"{socket.gethostname()}:{os.getpid()}"
    is_draining: Callable[[], bool] = staticmethod(lambda: False)
    is_cancelled: Callable[[int], bool] = staticmethod(lambda task_id: False)
    """Whether somebody cancelled the task with this id while it runs here."""
    announce_busy: Callable[[bool], None] = staticmethod(lambda busy: None)
    """Tells the sentinel that a task is on its way through this process, so that a drain waits for it."""
    announce_task: Callable[[int], None] = staticmethod(lambda task_id: None)
    """Tells the cluster which task this process is at, from its start to its outcome; 0: none."""
    announce: Callable[[float], None] = staticmethod(lambda deadline: None)
    """Tells the sentinel until when (`time.monotonic()`) the code may run; 0: there is no limit."""
    take: Callable[[], tuple[int, uuid.UUID, str] | None] = staticmethod(lambda: None)
    """Returns the id, lease and path of another claimed task, if one waits for a worker."""
    give_up: Callable[[], None] = staticmethod(lambda: None)
    """Ends this process, so that its task is rescued."""
    outage = Outage("a worker")


def persist(write: Callable[[], R], again: Callable[[], R] | None = None) -> R:
    """Return what `write` returns; while the database is away, ask again, with `again` if that is given.

    It may go on for as long as it takes: nobody can rescue the row meanwhile, and once the database is back the
    compare-and-set decides whether it is still ours. A try that failed may have been committed without an answer.
    """
    is_first_surprise = True
    while True:
        try:
            value = write()
        except (DataError, IntegrityError):
            raise
        except Error as error:
            if not isinstance(error, DATABASE_AWAY):
                if not is_first_surprise:
                    raise
                is_first_surprise = False  # the function may have spoiled the connection
            wait_for_the_database(error)
            write = again or write
        else:
            Worker.outage.is_over()
            return value


def wait_for_the_database(error: Exception) -> None:
    """Let go of the connection and wait a little; say so once."""
    connections.close_all()
    time.sleep(Worker.outage.wait_after(error))


_armed = False


@contextmanager
def time_limit(task_id: int, seconds: float) -> Iterator[None]:
    """Raise TaskTimeout in the body after `seconds`, again and again until it ends; on SIGUSR1 why it is to stop."""
    global _armed

    def out_of_time(signum: int, frame: object) -> None:
        if _armed:
            raise TaskTimeout(f"It ran longer than its timeout of {seconds:g} s.")

    def interrupt(signum: int, frame: object) -> None:
        if _armed and Worker.is_cancelled(task_id):
            raise Cancelled("It did not end within the grace and was interrupted.")
        if _armed and Worker.is_draining():
            raise Interrupted("Its cluster stopped, and it did not end within the grace.")

    pid = os.getpid()
    set_handler(signal.SIGALRM, out_of_time)
    set_handler(signal.SIGUSR1, interrupt)
    pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM, signal.SIGUSR1))  # an earlier function may have blocked them
    Worker.announce(time.monotonic() + seconds + KILL_AFTER)
    _armed = True
    signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT_AFTER)
    try:
        yield
    finally:
        if os.getpid() != pid:
            os._exit(1)  # a child that the function forked must not go on as a second worker
        disarm()


def disarm() -> None:
    """Let the engine's own code run undisturbed. Called twice: a signal may hit the first call."""
    global _armed
    _armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    Worker.announce(0)
