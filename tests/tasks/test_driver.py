"""Statements through the driver, and through Django where that matters."""

from __future__ import annotations

import json
import sqlite3
from contextlib import nullcontext

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from tasks import cluster, driver, leases, statements
from tasks.driver import Statement
from tasks.exceptions import TaskTimeout
from tasks.functions import registry
from tasks.models import Queue, Task
from tests.tasks import rows

pytestmark = pytest.mark.django_db(transaction=True)

only_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has many writers at a time")
only_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite plans without statistics")

ADD = Statement(
    "INSERT INTO tasks_queue (name, paused_by, paused_reason, pruned_successful, pruned_failed) "
    "VALUES (%s, '100 %%', '', 0, 0) RETURNING name, paused_by, paused_at"
)
ROW = ("mail", "100 %", None)


def names() -> list[str]:
    return list(Queue.objects.order_by("name").values_list("name", flat=True))


def test_a_statement_runs_with_the_driver_and_with_django_alike():
    assert ADD.run(["mail"]) == [ROW]
    Queue.objects.all().delete()
    with CaptureQueriesContext(connection) as heard:
        assert ADD.run(["mail"]) == [ROW]
    assert len(heard) == 1
    assert names() == ["mail"]


def test_a_statement_belongs_to_the_transaction_that_is_open():
    with transaction.atomic():
        ADD.run(["mail"])
        transaction.set_rollback(True)
    assert names() == []


def test_any_text_survives_the_way_through_a_list():
    texts = ['"', "\\", '\\"', "{a,b}", "", "ü\n", "NULL", "%s %% $1"]
    calls = [(f"[{json.dumps(text)}]", "{}") for text in texts]
    for surroundings in (nullcontext(), transaction.atomic()):
        with surroundings:
            Queue.objects.count()  # the transaction, if there is one, has begun
            statements.insert(["shop.tasks.ship", 'o\'clock "5"', 0, 5, None, None, None, False], calls)
    assert [task.args for task in Task.objects.order_by("pk")] == [[text] for text in texts] * 2
    assert {task.queue_name for task in Task.objects.all()} == {'o\'clock "5"'}


def test_an_error_is_one_of_django_and_the_connection_works_on():
    ADD.run(["mail"])
    with pytest.raises(IntegrityError):
        ADD.run(["mail"])
    with pytest.raises(DatabaseError):
        Statement("SELECT nothing FROM nowhere").run([])
    ADD.run(["default"])
    assert names() == ["default", "mail"]


def test_a_new_connection_is_prepared_anew():
    ADD.run(["one"])
    connection.close()
    ADD.run(["two"])
    assert names() == ["one", "two"]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no server and no prepared statements")
def test_what_a_server_forgets_is_noticed():
    ADD.run(["one"])
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    ADD.run(["two"])
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        ((pid,),) = cursor.fetchall()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    other.close()
    with pytest.raises(OperationalError):
        ADD.run(["three"])
    connection.close()
    assert names() == ["one", "two"]


class Interrupted:
    """A connection of sqlite3 on which a signal arrives during the call with this number, and raises after it."""

    def __init__(self, call: int) -> None:
        connection.ensure_connection()
        self.raw = connection.connection
        self.calls_left = call

    def __getattr__(self, name):
        return getattr(self.raw, name)

    def execute(self, sql):
        result = self.raw.execute(sql)
        self.calls_left -= 1
        if self.calls_left == 0:
            raise TaskTimeout
        return result


@only_sqlite
@pytest.mark.parametrize("call", range(1, 7))
def test_a_write_that_a_signal_ends_leaves_the_connection_as_it_was(call):
    writer = Interrupted(call)
    patience = writer.raw.execute("PRAGMA busy_timeout").fetchone()
    with pytest.raises(TaskTimeout):
        driver._write(writer, lambda: writer.execute("DELETE FROM tasks_queue"))
    assert writer.raw.execute("PRAGMA busy_timeout").fetchone() == patience
    assert not writer.raw.in_transaction


@only_sqlite
def test_a_write_waits_while_the_log_is_mended():
    """After the death of a writer the next one reads the log again, and SQLite has a code of its own for the others."""

    class Mended(Interrupted):
        def execute(self, sql):
            if sql == "BEGIN IMMEDIATE" and self.calls_left:
                self.calls_left -= 1
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
                raise error
            return self.raw.execute(sql)

    assert driver._write(Mended(3), lambda: "written") == "written"


TOUCH = Statement("UPDATE tasks_task SET priority = priority WHERE id = %s RETURNING id")


def plan_of(start: str, *params: str) -> str:
    """How PostgreSQL would run a statement of this connection that it has prepared."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_prepared_statements WHERE statement LIKE %s", [f"{start}%"])
        ((name,),) = cursor.fetchall()
        given = f"({', '.join(params)})" if params else ""
        cursor.execute(f"EXPLAIN EXECUTE {name}{given}")
        return "\n".join(line for (line,) in cursor.fetchall())


@pytest.fixture
def small_table():
    """A table that PostgreSQL knows to be small, on a connection that has prepared nothing yet."""
    connection.close()
    rows.ready()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE tasks_task")
    yield
    connection.close()


def grow() -> None:
    new = {"task_path": "tests.work.tasks.add", "queue_name": "elsewhere", "max_attempts": 1}
    Task.objects.bulk_create([Task(**new) for _ in range(5000)])


@only_postgresql
def test_a_plan_that_was_made_for_a_small_table_is_not_kept(small_table, monkeypatch):
    for _run in range(6):  # after five PostgreSQL makes a plan to keep
        TOUCH.run([0])
    grow()
    assert "Seq Scan on tasks_task" in plan_of("UPDATE", "0")
    monkeypatch.setattr("tasks.libpq.PLAN_KEPT", 0)
    TOUCH.run([0])
    assert "Index Scan using tasks_task_pkey" in plan_of("UPDATE", "0")


@only_postgresql
def test_a_claim_reads_no_table_from_end_to_end_however_small_it_was(small_table):
    cluster._for_claims(connection)
    leases.claim(rows.cluster_row().pk, 10, ["default"], registry)
    grow()
    assert "Seq Scan on tasks_task" not in plan_of("WITH RECURSIVE", "'{default}'", "'{}'", *"11", *["NULL"] * 2)


@only_postgresql
def test_a_claim_walks_its_index_in_order_also_when_the_plan_is_made_while_all_rows_are_dead(small_table):
    """Otherwise each claim sorts all that waits, until PostgreSQL analyses the table again."""
    cluster._for_claims(connection)
    grow()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE tasks_task")
        Task.objects.all().delete()
        cursor.execute("ANALYZE tasks_task")
    leases.claim(rows.cluster_row().pk, 10, ["default"], registry)
    plan = plan_of("WITH RECURSIVE", "'{default}'", "'{}'", *"11", *["NULL"] * 2)
    assert "Index Scan using tasks_task_to_claim" in plan
    assert "Bitmap Index Scan on tasks_task_to_claim" not in plan


@only_postgresql
def test_the_look_for_what_is_due_reads_no_table_from_end_to_end(small_table):
    cluster._for_looks(connection)
    statements.next_due()
    grow()
    plan = plan_of("SELECT (SELECT CAST(EXTRACT(EPOCH")
    assert "Seq Scan on tasks_task" not in plan
    assert "JIT" not in plan
