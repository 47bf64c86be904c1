"""SQLite's write-ahead log is copied into the database by the pusher, so that no worker does it between two tasks.

Whoever commits copies the log once it holds `wal_autocheckpoint` pages, and waits twice for the disk. After that the
log may start anew, but only at a moment when nobody reads it. Workers that ask for their turn to write are such
readers, one of them nearly always: so the log grew, and each further commit copied and waited again.
`wal_checkpoint(RESTART)` makes that moment: it keeps writers away, for some milliseconds.
https://www.sqlite.org/wal.html#ckpt
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from typing import Any

from django.db import connection

logger = logging.getLogger(__name__)

EVERY = 1500
"""Claimed tasks between two of the pusher's; what is written of them fills some 30 MB of the log."""

FEW, SECONDS = 200, 1.0
"""So many claimed tasks are enough after so long: with all that is written of them, from the enqueue on, the log comes
near the length from which on each enqueue would copy it."""

LONG = 48 << 20
"""Bytes of the log from which on it is due before that: a task writes a lot. Then it is cut off, too."""

PATIENCE = 5
"""Milliseconds for which it keeps writers away while it waits for those who read the log."""

AGAIN_AFTER = 0.5
"""Seconds until it tries again if somebody reads for longer, say a backup."""

LATE = 40_000
"""Pages of the log from which on a worker copies it after all: the pusher could not."""


class Checkpoints:
    """The pusher's, on SQLite; nothing on PostgreSQL, whose server has a process for that."""

    def __init__(self) -> None:
        self._claimed = 0
        self._made_at = self._not_before = 0.0

    def note(self, claimed: int) -> None:
        """Count what was claimed."""
        self._claimed += claimed

    def make(self) -> None:
        """Copy the log and let it start anew, if that is due. Raises django.db.Error."""
        now = time.monotonic()
        if connection.vendor != "sqlite" or now < self._not_before:
            return
        is_long = _bytes_of_the_log() >= LONG
        if self._claimed < (FEW if now - self._made_at > SECONDS else EVERY) and not is_long:
            return
        connection.ensure_connection()
        with connection.wrap_database_errors:
            if _starts_anew(connection.connection, "TRUNCATE" if is_long else "RESTART"):
                self._claimed, self._made_at = 0, now
            else:
                self._not_before = now + AGAIN_AFTER


def _bytes_of_the_log() -> int:
    try:
        return os.stat(f"{connection.settings_dict['NAME']}-wal").st_size
    except OSError:  # nobody has written yet
        return 0


def _starts_anew(raw: Any, how: str) -> bool:
    """Copy the log through a connection of the module sqlite3; return whether the next write begins a new one."""
    (patience,) = raw.execute("PRAGMA busy_timeout").fetchone()
    try:
        raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()  # most of the work, and nobody waits for it
        raw.execute(f"PRAGMA busy_timeout = {PATIENCE}")
        is_busy, _pages, _copied = raw.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
    except sqlite3.OperationalError as error:  # a full disk, say: what claims and writes will tell more of it
        logger.warning("SQLite's log could not be copied into the database: %s", error)
        return False
    finally:
        raw.execute(f"PRAGMA busy_timeout = {patience}")
    return not is_busy
