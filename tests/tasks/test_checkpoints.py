"""SQLite's write-ahead log: the pusher copies it and lets it start anew, workers leave it alone."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from django.db import DatabaseError, connection, connections

from tasks.checkpoints import AGAIN_AFTER, EVERY, FEW, LATE, SECONDS, Checkpoints
from tasks.models import Task
from tests.processes import until
from tests.tasks import rows
from tests.tasks.rows import finished, row
from tests.work import tasks as work

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has a process of its own for that"),
]


MANY = 50
"""Rows, each in a transaction of its own that writes several pages."""


@pytest.fixture
def due(monkeypatch) -> Checkpoints:
    """A log that is as long as it may be."""
    rows.ready()
    monkeypatch.setattr("tasks.checkpoints.LONG", length())
    return Checkpoints()


def length() -> int:
    return Path(f"{connection.settings_dict['NAME']}-wal").stat().st_size


def patience() -> int:
    return connection.connection.execute("PRAGMA busy_timeout").fetchone()[0]


def test_a_long_log_starts_anew(due):
    before = patience()
    due.make()
    assert length() == 0
    assert patience() == before > 0
    assert Task.objects.count() == 1


@pytest.mark.parametrize(
    ("claimed", "seconds", "starts_anew"),
    [(EVERY, 0, True), (EVERY - 1, 0, False), (FEW, SECONDS + 1, True), (FEW - 1, SECONDS + 1, False)],
)
def test_a_short_one_starts_anew_once_enough_was_claimed(claimed, seconds, starts_anew):
    checkpoints = Checkpoints()
    checkpoints._made_at = time.monotonic() - seconds
    checkpoints.note(claimed)
    for _ in range(MANY):
        rows.ready()
    before = length()
    checkpoints.make()
    assert length() == before > 0, "it is written over, which is faster than to make it longer"
    rows.ready()
    _is_busy, pages, _copied = connection.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert (pages < MANY) is starts_anew


def test_what_a_reader_prevents_is_done_later_and_keeps_writers_away_but_once(due, monkeypatch):
    before = patience()
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM tasks_task").fetchone()
        rows.ready()
        due.make()
        assert length() > 0
        assert patience() == before
        began = time.monotonic()
        for _claim in range(100):
            due.make()
        assert time.monotonic() - began < AGAIN_AFTER / 2
        reader.execute("ROLLBACK")
    until(lambda: due.make() or length() == 0)


def test_an_error_is_said_and_keeps_nobody_from_claiming(due, monkeypatch, caplog):
    class Full:
        def __init__(self, raw: sqlite3.Connection) -> None:
            self.raw = raw

        def __getattr__(self, name: str) -> object:
            return getattr(self.raw, name)

        def execute(self, sql: str) -> sqlite3.Cursor:
            if "checkpoint" in sql:
                raise sqlite3.OperationalError("database or disk is full")
            return self.raw.execute(sql)

    before = patience()
    monkeypatch.setattr(connections["default"], "connection", Full(connection.connection))
    due.make()
    monkeypatch.undo()
    assert caplog.messages == ["SQLite's log could not be copied into the database: database or disk is full"]
    assert patience() == before


def test_a_file_that_is_no_database_is_an_outage(due, monkeypatch, tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(b"no database" * 1000)
    with closing(sqlite3.connect(broken)) as raw:
        monkeypatch.setattr(connections["default"], "connection", raw)
        with pytest.raises(DatabaseError):
            due.make()
        monkeypatch.undo()


def test_a_worker_copies_no_log_that_is_not_far_too_long(cluster):
    cluster()
    result = work.pages_until_the_log_is_copied.enqueue()
    until(lambda: finished(result))
    assert row(result).return_value == LATE
