"""How a cluster learns that there may be work before its next look: LISTEN/NOTIFY on PostgreSQL, the file on SQLite.

SQLite tells nobody of a commit, but on Linux the kernel tells of each write to its log (inotify), and then
`PRAGMA data_version` says whether another connection has committed; elsewhere that is asked every few milliseconds.
A wake-up is a hint and may be lost; what correctness rests on is the look itself, every TASKS_POLL seconds.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from django.db import connection

CHANNEL = "tasks"
"""Each INSERT into tasks_task notifies it at its commit, by a trigger: migration 0002."""

SLICE = 0.1
"""Seconds after which a wait looks whether it should end."""

ASK_AFTER = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.005)
"""Seconds after a write to SQLite's log until it may be a commit that others see; a long transaction writes earlier."""


def wait(seconds: float, is_over: Callable[[], bool]) -> None:
    """Return after `seconds`, or earlier if another connection committed, or `is_over`. Raises django.db.Error."""
    deadline = time.monotonic() + seconds
    changed = _listen if connection.vendor == "postgresql" else _watch
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


def _watch(seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    path = Path(connection.settings_dict["NAME"])
    while not _is_data_new():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        if (log := _log_of(path)) is None:
            time.sleep(min(left, ASK_AFTER[-1]))
        elif log.is_written(left):
            for pause in ASK_AFTER:
                time.sleep(pause)
                if _is_data_new():
                    return True
    return True


def _is_data_new() -> bool:
    """Return whether another connection has committed since the last call; True also on a new connection."""
    global _data_version
    connection.ensure_connection()
    raw: Any = connection.connection
    with connection.wrap_database_errors:
        version = raw.execute("PRAGMA data_version").fetchone()[0]
    is_new = (raw, version) != _data_version
    _data_version = (raw, version)
    return is_new


class _Log:
    """The write-ahead log of a database, watched through its directory, since SQLite may make the file anew."""

    _MODIFY_OR_CREATE = 0x2 | 0x100
    _NONBLOCK = 0x800
    _EVENT = struct.Struct("iIII")

    def __init__(self, database: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.name = os.fsencode(f"{database.name}-wal")
        self.inotify = libc.inotify_init1(self._NONBLOCK)
        directory = os.fsencode(database.absolute().parent)
        if self.inotify < 0 or libc.inotify_add_watch(self.inotify, directory, self._MODIFY_OR_CREATE) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def is_written(self, seconds: float) -> bool:
        """Return whether something was written; wait for it at most so long."""
        deadline = time.monotonic() + seconds
        while True:
            if not select.select([self.inotify], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return False
            if any(name == self.name for name in self._names()):
                return True

    def _names(self) -> list[bytes]:
        names, at = [], 0
        events = b""
        with suppress(BlockingIOError):
            while True:  # all that have come
                events += os.read(self.inotify, 65536)
        while at < len(events):
            _watch, _mask, _cookie, length = self._EVENT.unpack_from(events, at)
            at += self._EVENT.size + length
            names.append(events[at - length : at].rstrip(b"\0"))
        return names


@cache
def _log_of(database: Path) -> _Log | None:
    """Return the log of the database; None where the kernel does not tell: asking often takes its place."""
    if sys.platform != "linux":
        return None
    try:
        return _Log(database)
    except OSError:  # for instance, too many watches on this machine
        return None
