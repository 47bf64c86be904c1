"""Statements through the driver, and through Django where that matters."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from tasks import statements
from tasks.driver import Statement
from tasks.models import Queue, Task

pytestmark = pytest.mark.django_db(transaction=True)

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
