"""How a cluster learns that there may be work before its next look: LISTEN/NOTIFY on PostgreSQL, the file on SQLite.

On PostgreSQL each INSERT of tasks notifies at its commit. Of the clusters that serve the same queues one hears it, the
first that got a lock for that, so a single task does not rouse them all. Once that one is busy it lets another hear;
whoever has claimed all that it can, and there may be more, passes the word on.

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
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from django.db import connection

CHANNEL = "tasks"
"""Each INSERT into tasks_task notifies it at its commit, by a trigger: migration 0002."""

MORE = "tasks_more"
"""What a cluster tells the others when there is too much for it alone."""

PASS_ON_EVERY = 0.1
"""Seconds between two such words."""

SLICE = 0.1
"""Seconds after which a wait looks whether it should end."""

ASK_AFTER = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.005)
"""Seconds after a write to SQLite's log until it may be a commit that others see; a long transaction writes earlier."""

MORE_WRITES = 5
"""Writes after which that begins anew; a transaction that goes on writing is asked about less often."""


class Wakeup(ABC):
    """The wake-ups of one process that serves these queues."""

    def __init__(self, queues: list[str]) -> None:
        self.queues = queues

    def wait(self, seconds: float, is_over: Callable[[], bool]) -> None:
        """Return after `seconds`, or earlier if there may be work, or `is_over`. Raises django.db.Error."""
        deadline = time.monotonic() + seconds
        self.prepare()
        while not is_over():
            left = deadline - time.monotonic()
            if left <= 0 or self.changed(min(SLICE, left)):
                return

    def prepare(self) -> None:
        """Get ready to hear."""
        connection.ensure_connection()

    @abstractmethod
    def changed(self, seconds: float) -> bool:
        """Return whether there may be work that was not there before; wait for it at most so long."""

    def pass_on(self) -> None:  # noqa: B027 - where each cluster hears for itself there is nothing to do
        """Rouse other clusters: there is more than this one can claim."""

    def step_down(self) -> None:  # noqa: B027 - likewise
        """Let another cluster hear of new tasks: this one is busy."""


class PostgreSQLWakeup(Wakeup):
    """LISTEN, and a lock for the right to hear of every new task."""

    def __init__(self, queues: list[str]) -> None:
        super().__init__(queues)
        self._connection: Any = None
        self._hears_all = False
        self._passed_on_at = 0.0
        self._missed = False
        self._is_first_look = True

    def prepare(self) -> None:
        """Listen, on a new connection; try to become the one that hears of every new task."""
        super().prepare()
        self._is_first_look = True
        raw: Any = connection.connection
        if raw is not self._connection:
            self._execute(f"LISTEN {MORE}")
            self._connection, self._hears_all = raw, False
            self._missed = True  # what was said before is not notified
        if not self._hears_all:
            ((self._hears_all,),) = self._execute(f"SELECT pg_try_advisory_lock({self._lock})")
            if self._hears_all:
                self._execute(f"LISTEN {CHANNEL}")
                self._missed = True

    def changed(self, seconds: float) -> bool:
        """Wait for a notification."""
        if self._missed:
            self._missed = False
            return True
        # what came with the answer to a claim was read from the socket then; psycopg's own wait costs ten times more
        if not self._is_first_look and not select.select([self._connection], [], [], seconds)[0]:
            return False
        self._is_first_look = False
        return self._heard()

    def pass_on(self) -> None:
        """Notify the clusters that did not hear, and forget what this one heard: it is about to look again anyway."""
        if time.monotonic() - self._passed_on_at > PASS_ON_EVERY:
            self._execute(f"NOTIFY {MORE}")
            self._passed_on_at = time.monotonic()
            if self._is_listening:  # else psycopg keeps a notification of each commit until the work is done
                self._heard()

    def step_down(self) -> None:
        """Give the lock back; listen to nothing until the next wait, since nobody would read it."""
        if self._is_listening:
            self._execute("UNLISTEN *")
            if self._hears_all:
                self._execute(f"SELECT pg_advisory_unlock({self._lock})")
        self._connection, self._hears_all = None, False

    def _heard(self) -> bool:
        """Return whether there was a notification, and forget it."""
        with connection.wrap_database_errors:
            count = len(list(self._connection.notifies(timeout=0)))
        while self._connection.pgconn.notifies():  # read by a statement that `tasks.driver` ran, so unknown to psycopg
            count += 1
        return count > 0

    @property
    def _is_listening(self) -> bool:
        return self._connection is not None and self._connection is connection.connection

    @property
    def _lock(self) -> str:
        group = ",".join(sorted(self.queues))
        return f"{zlib.crc32(CHANNEL.encode()) - 2**31}, {zlib.crc32(group.encode()) - 2**31}"

    def _execute(self, statement: str) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


class SQLiteWakeup(Wakeup):
    """The write-ahead log, and `PRAGMA data_version`."""

    def __init__(self, queues: list[str]) -> None:
        super().__init__(queues)
        self._seen: tuple[object, int] = (None, 0)

    def changed(self, seconds: float) -> bool:
        """Wait for a commit of another connection."""
        deadline = time.monotonic() + seconds
        path = Path(connection.settings_dict["NAME"])
        while not self._is_data_new():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if (log := _log_of(path)) is None:
                time.sleep(min(left, ASK_AFTER[-1]))
            elif log.is_written(left) and self._is_committed(log):
                return True
        return True

    def _is_committed(self, log: _Log) -> bool:
        """Return whether what was written becomes a commit that others see; each further write may be another one."""
        asked, more_writes = 0, 0
        while asked < len(ASK_AFTER):
            if more_writes < MORE_WRITES:
                is_written_again = log.is_written(ASK_AFTER[asked])
            else:
                time.sleep(ASK_AFTER[asked])
                is_written_again = False
            if self._is_data_new():
                return True
            more_writes += is_written_again
            asked = 1 if is_written_again else asked + 1
        return False

    def _is_data_new(self) -> bool:
        """Return whether another connection has committed since the last call; True also on a new connection."""
        raw: Any = connection.connection
        with connection.wrap_database_errors:
            version = raw.execute("PRAGMA data_version").fetchone()[0]
        is_new = (raw, version) != self._seen
        self._seen = (raw, version)
        return is_new


def wakeup_for(queues: list[str]) -> Wakeup:
    """Return the wake-ups of the database in use."""
    return (PostgreSQLWakeup if connection.vendor == "postgresql" else SQLiteWakeup)(queues)


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
