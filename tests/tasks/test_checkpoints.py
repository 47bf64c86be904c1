"""SQLite's write-ahead log: the pusher copies it and lets it start anew, workers leave it alone."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest
from django.db import DatabaseError, connection, connections

from tasks.checkpoints import AGAIN_AFTER, EVERY, LATE, Checkpoints
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
def due() -> Checkpoints:
    """A log that holds the pages of many rows, of enough that were claimed."""
    checkpoints = Checkpoints()
    checkpoints.note(EVERY)
    for _ in range(MANY):
        rows.ready()
    return checkpoints


def pages_after_another_row() -> int:
    """How many pages the log holds once one more row was written. Asking copies them, so it can be asked once."""
    rows.ready()
    _is_busy, pages, _copied = connection.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return pages


def patience() -> int:
    return connection.connection.execute("PRAGMA busy_timeout").fetchone()[0]


def test_the_log_starts_anew_once_enough_was_claimed(due):
    before = patience()
    due.make()
    assert pages_after_another_row() < MANY
    assert patience() == before > 0


def test_it_goes_on_until_then():
    checkpoints = Checkpoints()
    checkpoints.note(EVERY - 1)
    for _ in range(MANY):
        rows.ready()
    checkpoints.make()
    assert pages_after_another_row() > MANY


def test_what_a_reader_prevents_is_done_later_and_keeps_writers_away_but_once(due, monkeypatch):
    before = patience()
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM tasks_task").fetchone()
        rows.ready()
        due.make()
        assert patience() == before
        began = time.monotonic()
        for _claim in range(100):
            due.make()
        assert time.monotonic() - began < AGAIN_AFTER / 2
        reader.execute("ROLLBACK")
    monkeypatch.setattr("tasks.checkpoints.AGAIN_AFTER", 0)
    until(lambda: due.make() or due._claimed == 0)
    assert pages_after_another_row() < MANY


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
