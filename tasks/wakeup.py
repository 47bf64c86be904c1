"""How a cluster learns that there may be work before its next look: LISTEN/NOTIFY, `PRAGMA data_version`.

A wake-up is a hint and may be lost; what correctness rests on is the look itself, every TASKS_POLL seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.db import connection

CHANNEL = "tasks"
"""Each INSERT into tasks_task notifies it at its commit, by a trigger: migration 0002."""

SLICE = 0.1
"""Seconds after which a wait looks whether it should end."""

DATA_VERSION_EVERY = 0.005
"""Seconds between two questions to SQLite, each of which costs some microseconds and touches no table."""


def wait(seconds: float, is_over: Callable[[], bool]) -> None:
    """Return after `seconds`, or earlier if another connection committed, or `is_over`. Raises django.db.Error."""
    deadline = time.monotonic() + seconds
    changed = _listen if connection.vendor == "postgresql" else _watch_data_version
    while not is_over():
        left = deadline - time.monotonic()
        if left <= 0 or changed(min(SLICE, left)):
            return


_listening_on: Any = None


def _listen(seconds: float) -> bool:
    global _listening_on
    connection.ensure_connection()
    raw: Any = connection.connection
    with connection.wrap_database_errors:
        if raw is not _listening_on:
            raw.execute(f"LISTEN {CHANNEL}")
            _listening_on = raw
            return True  # what was committed before is not notified
        return bool(list(raw.notifies(timeout=seconds, stop_after=1)))  # all that have come, not one at a time


_data_version: tuple[object, int] = (None, 0)


def _watch_data_version(seconds: float) -> bool:
    global _data_version
    connection.ensure_connection()
    raw: Any = connection.connection
    deadline = time.monotonic() + seconds
    while True:
        with connection.wrap_database_errors:
            version = raw.execute("PRAGMA data_version").fetchone()[0]
        if (raw, version) != _data_version:
            _data_version = (raw, version)
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(DATA_VERSION_EVERY)
