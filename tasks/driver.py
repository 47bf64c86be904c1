"""Runs a compiled statement with the database's driver itself where that is safe, otherwise with Django's cursor.

Around a statement that takes 0.05 ms, Django's cursor and psycopg's take 0.2 ms. On SQLite the driver's connection is
used as it is, on PostgreSQL libpq (`tasks.libpq`), unless Django is about to begin a transaction.
Where somebody listens (`execute_wrapper`, the log of queries with DEBUG), each statement goes through Django's cursor.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections

if TYPE_CHECKING:
    from tasks.libpq import Prepared

R = TypeVar("R")
Row = tuple[Any, ...]

IDLE = 0
"""psycopg.pq.TransactionStatus.IDLE: no transaction has begun."""

AWAKE = 0.0005
"""Seconds for which a writer on SQLite stays awake while it waits for its turn: some writes of others."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.0001, 0.002
"""Seconds until it asks again after that."""


class Statement:
    """SQL, with %s for a parameter and %% for a percent sign. On PostgreSQL each parameter needs a cast or a column."""

    def __init__(self, sql: str) -> None:
        self.sql = " ".join(sql.split())
        self._writes = self.sql.startswith(("INSERT", "UPDATE"))
        self._for_sqlite = self.sql.replace("%s", "?").replace("%%", "%")

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
            return self._prepared.run(database.connection, params)

    def on_sqlite(self, connection: Any, params: Sequence[Any]) -> list[Row]:
        """Return the rows, from a connection of the module sqlite3."""
        return connection.execute(self._for_sqlite, params).fetchall()

    def _run_with_django(self, database: Any, params: Sequence[Any]) -> list[Row]:
        with database.cursor() as cursor:
            cursor.execute(self.sql, params)
            return cursor.fetchall()

    @cached_property
    def _prepared(self) -> Prepared:
        from tasks.libpq import Prepared  # only where there is PostgreSQL: an idle cluster on SQLite is smaller

        return Prepared(self.sql)


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
