"""Statements on PostgreSQL through libpq itself: prepared once for each connection, sent, their rows read.

psycopg's cursor, and Django's around it, take longer than a short statement. What libpq offers is psycopg's public
interface too: https://www.psycopg.org/psycopg3/docs/api/pq.html. `tasks.driver` decides where it may be used.
"""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from psycopg import OperationalError, pq
from psycopg.errors import error_from_result

PREPARE_AGAIN = (b"26000", b"0A000")
"""SQLSTATE of a statement that somebody deallocated, or whose columns a migration has changed."""

PLAN_KEPT = 2.0
"""Seconds. PostgreSQL keeps the plan of a prepared statement until the table is analysed again, in up to a minute: made
while a table was small, it reads all of it from end to end, also when it has grown since."""

_numbers = itertools.count()

_planned_at: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
"""Since when the plans of a connection may be kept, by `time.monotonic()`."""


class Prepared:
    """SQL with %s for each parameter, which needs a cast or a column, and %% for a percent sign."""

    def __init__(self, sql: str) -> None:
        self._finds_a_row = sql.startswith("UPDATE")  # a claim looks for many, see `tasks.cluster.FOR_CLAIMS`
        parts = sql.split("%s")
        numbered = [f"{part}${number}" for number, part in enumerate(parts[:-1], 1)]
        self._sql = "".join([*numbered, parts[-1]]).replace("%%", "%").encode()
        self._known: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()
        """What is known of it in each connection that has it; each thread has a connection of its own."""

    def run(self, connection: Any, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows from a psycopg connection, JSON as text. Raises psycopg.Error."""
        given = [_text(param) for param in params]
        result = self._execute(connection, given)
        if result.status == pq.ExecStatus.TUPLES_OK:
            return self._known[connection].rows(result)
        if result.error_field(pq.DiagnosticField.SQLSTATE) in PREPARE_AGAIN:
            self._known.pop(connection, None)
            result = self._execute(connection, given)
        if result.status == pq.ExecStatus.TUPLES_OK:
            return self._known[connection].rows(result)
        if connection.pgconn.status != pq.ConnStatus.OK:
            raise OperationalError(connection.pgconn.error_message.decode(errors="replace"))
        raise error_from_result(result)

    def _execute(self, connection: Any, params: list[bytes | None]) -> Any:
        known = self._known.get(connection)
        if known is None:
            known = _Known(f"steward_{next(_numbers)}".encode())
            result = connection.pgconn.prepare(known.name, self._sql)
            if result.status != pq.ExecStatus.COMMAND_OK:
                return result
            self._known[connection] = known
        if self._finds_a_row:
            _discard_old_plans(connection)
        return connection.pgconn.exec_prepared(known.name, params)


class _Known:
    """A statement that a connection has prepared: its name there and, from its first rows on, how they are read."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self._columns: list[tuple[int, Callable[[bytes], Any]]] | None = None

    def rows(self, result: Any) -> list[tuple[Any, ...]]:
        if self._columns is None:
            self._columns = [
                (column, _READERS.get(result.ftype(column), bytes.decode)) for column in range(result.nfields)
            ]
        value = result.get_value
        return [
            tuple([None if (raw := value(row, column)) is None else read(raw) for column, read in self._columns])
            for row in range(result.ntuples)
        ]


def _discard_old_plans(connection: Any) -> None:
    """Have PostgreSQL make its plans anew if it has kept those of this connection for PLAN_KEPT."""
    now = time.monotonic()
    if now - _planned_at.setdefault(connection, now) > PLAN_KEPT:
        connection.pgconn.exec_(b"DISCARD PLANS")
        _planned_at[connection] = now


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


def _read_time(value: bytes) -> datetime:
    return datetime.fromisoformat(value.decode())


_READERS: dict[int, Callable[[bytes], Any]] = {
    16: b"t".__eq__, 20: int, 21: int, 23: int, 701: float, 1184: _read_time,
}  # fmt: skip
"""From a type's number (bool, int8, int2, int4, float8, timestamptz) to what reads its text; others stay text."""
