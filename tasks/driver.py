"""Runs a compiled statement with the database's driver itself where that is safe, otherwise with Django's cursor.

Around a statement that takes 0.05 ms, Django's cursor and psycopg's take 0.2 ms. On SQLite the driver's connection is
used as it is. On PostgreSQL the statement is prepared once for each connection and run through libpq
(https://www.psycopg.org/psycopg3/docs/api/pq.html), unless Django is about to begin a transaction.
Where somebody listens (`execute_wrapper`, the log of queries with DEBUG), each statement goes through Django's cursor.
"""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections

R = TypeVar("R")
Row = tuple[Any, ...]

PREPARE_AGAIN = (b"26000", b"0A000")
"""SQLSTATE of a statement that somebody deallocated, or whose columns a migration has changed."""

PLAN_KEPT = 2.0
"""Seconds. PostgreSQL keeps the plan of a prepared statement until the table is analysed again, in up to a minute: made
while a table was small, it reads all of it from end to end, also when it has grown since."""

IDLE = 0
"""psycopg.pq.TransactionStatus.IDLE: no transaction has begun."""

AWAKE = 0.0005
"""Seconds for which a writer on SQLite stays awake while it waits for its turn: some writes of others."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.0001, 0.002
"""Seconds until it asks again after that."""

_numbers = itertools.count()

_planned_at: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
"""Since when the plans of a connection may be kept, by `time.monotonic()`."""


class Statement:
    """SQL, with %s for a parameter and %% for a percent sign. On PostgreSQL each parameter needs a cast or a column."""

    def __init__(self, sql: str) -> None:
        self.sql = " ".join(sql.split())
        self._writes = self.sql.startswith(("INSERT", "UPDATE"))
        self._finds_a_row = self.sql.startswith("UPDATE")  # a claim looks for many, see `tasks.cluster.FOR_CLAIMS`
        self._for_sqlite = self.sql.replace("%s", "?").replace("%%", "%")
        parts = self.sql.split("%s")
        numbered = [f"{part}${number}" for number, part in enumerate(parts[:-1], 1)]
        self._for_libpq = "".join([*numbered, parts[-1]]).replace("%%", "%").encode()
        self._names: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()
        """What it is called in each connection that has it; each thread has a connection of its own."""

    def run(self, params: Sequence[Any]) -> list[Row]:
        """Return the rows, JSON as text. Raises django.db.Error."""
        database, is_heard = _database()
        if is_heard:
            return self._run_with_django(database, params)
        if database.vendor == "sqlite":
            with database.wrap_database_errors:
                if self._writes and not database.in_atomic_block:
                    return _write(database.connection, lambda: self.on_sqlite(database.connection, params))
                return self.on_sqlite(database.connection, params)
        if database.in_atomic_block and database.connection.pgconn.transaction_status == IDLE:
            return self._run_with_django(database, params)  # which begins the transaction first
        with database.wrap_database_errors:
            return self._run_with_libpq(database.connection, params)

    def on_sqlite(self, connection: Any, params: Sequence[Any]) -> list[Row]:
        """Return the rows, from a connection of the module sqlite3."""
        return connection.execute(self._for_sqlite, params).fetchall()

    def _run_with_django(self, database: Any, params: Sequence[Any]) -> list[Row]:
        with database.cursor() as cursor:
            cursor.execute(self.sql, params)
            return cursor.fetchall()

    def _run_with_libpq(self, connection: Any, params: Sequence[Any]) -> list[Row]:
        from psycopg import OperationalError, pq
        from psycopg.errors import error_from_result

        libpq, given = connection.pgconn, [_text(param) for param in params]
        result = self._run_prepared(connection, given)
        if result.error_field(pq.DiagnosticField.SQLSTATE) in PREPARE_AGAIN:
            del self._names[connection]
            result = self._run_prepared(connection, given)
        if result.status == pq.ExecStatus.TUPLES_OK:
            readers = [_READERS.get(result.ftype(column), bytes.decode) for column in range(result.nfields)]
            return [
                tuple(_read(result.get_value(row, column), reader) for column, reader in enumerate(readers))
                for row in range(result.ntuples)
            ]
        if libpq.status != pq.ConnStatus.OK:
            raise OperationalError(libpq.error_message.decode(errors="replace"))
        raise error_from_result(result)

    def _run_prepared(self, connection: Any, params: list[bytes | None]) -> Any:
        from psycopg import pq

        name = self._names.get(connection)
        if name is None:
            name = f"steward_{next(_numbers)}".encode()
            result = connection.pgconn.prepare(name, self._for_libpq)
            if result.status != pq.ExecStatus.COMMAND_OK:
                return result
            self._names[connection] = name
        if self._finds_a_row:
            _discard_old_plans(connection)
        return connection.pgconn.exec_prepared(name, params)


def _discard_old_plans(connection: Any) -> None:
    """Have PostgreSQL make its plans anew if it has kept those of this connection for PLAN_KEPT."""
    now = time.monotonic()
    if now - _planned_at.setdefault(connection, now) > PLAN_KEPT:
        connection.pgconn.exec_(b"DISCARD PLANS")
        _planned_at[connection] = now


def _write(connection: Any, act: Callable[[], R]) -> R:
    """Return what `act` returns in a transaction of its own, on SQLite. A signal may raise anywhere in here."""
    is_somebody_elses = connection.in_transaction  # then BEGIN is refused
    try:
        _begin(connection)
        value = act()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction and not is_somebody_elses:  # some errors, for instance a full disk, end it
            connection.execute("ROLLBACK")
        raise
    return value


def _begin(connection: Any) -> None:
    """Wait for the turn of this writer.

    SQLite lets a writer that finds another one at work sleep for a millisecond, soon for a tenth of a second. The
    writes of workers last some 0.1 ms, hardly more than it takes to fall asleep and be woken: this one asks again at
    once for a while, and lets whoever else wants the processor go first.
    """
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    began, pause = time.monotonic(), SHORTEST_PAUSE
    try:
        connection.execute("PRAGMA busy_timeout = 0")
        while True:
            waited = time.monotonic() - began
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # the other bits say with what
                if not is_busy or waited > patience / 1000:
                    raise
            if waited < AWAKE:
                os.sched_yield()
            else:
                time.sleep(random.uniform(pause / 2, pause))
                pause = min(LONGEST_PAUSE, 1.5 * pause)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}")


def has_open_transaction(connection: Any) -> bool:
    """Return whether a driver's connection is in a transaction, whoever began it."""
    if connection is None:
        return False
    if isinstance(connection, sqlite3.Connection):
        try:
            return connection.in_transaction
        except sqlite3.ProgrammingError:  # somebody has closed it
            return False
    return bool(not connection.closed and connection.pgconn.transaction_status != IDLE)


def roll_back(connection: Any) -> None:
    """Undo what a driver's connection has not committed; cursors that somebody keeps would keep the transaction."""
    with suppress(Exception):
        connection.rollback()


def _database() -> tuple[Any, bool]:
    """Return Django's connection, connected, and whether somebody listens to its statements."""
    database: Any = connections[DEFAULT_DB_ALIAS]
    if database.connection is None:
        database.ensure_connection()
    return database, bool(database.execute_wrappers or database.queries_logged)


def _text(value: Any) -> bytes | None:
    """Return a parameter as PostgreSQL reads it: https://www.postgresql.org/docs/current/arrays.html for lists."""
    match value:
        case None:
            return None
        case str():
            return value.encode()
        case list():
            quoted = (part.replace("\\", "\\\\").replace('"', '\\"') for part in value)
            return ("{" + ",".join(f'"{part}"' for part in quoted) + "}").encode()
        case _:
            return str(value).encode()


def _read(value: bytes | None, reader: Callable[[bytes], Any]) -> Any:
    return None if value is None else reader(value)


def _read_time(value: bytes) -> datetime:
    return datetime.fromisoformat(value.decode())


_READERS: dict[int, Callable[[bytes], Any]] = {
    16: b"t".__eq__, 20: int, 21: int, 23: int, 701: float, 1184: _read_time,
}  # fmt: skip
"""From a type's number (bool, int8, int2, int4, float8, timestamptz) to what reads its text; others stay text."""
