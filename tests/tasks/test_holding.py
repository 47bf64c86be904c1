"""Tasks that no cluster can run, out of the line. A task of a later release, with clusters: test_bad_input.py."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.db.models.functions import Now

from tasks import holding, leases
from tasks.functions import registry
from tasks.holding import hold_unknown, known_functions, let_go
from tasks.models import Task
from tests.processes import until
from tests.tasks import rows
from tests.tasks.rows import row
from tests.work import tasks as work

pytestmark = pytest.mark.django_db

QUEUES = ["default", "mail", "maintenance"]
KNOWN = {"tests.work.tasks.add"}


def held_ids() -> list[int]:
    return list(Task.objects.filter(held_at__isnull=False).order_by("pk").values_list("pk", flat=True))


def held(function: str = "gone", **values: Any) -> Any:
    return rows.ready(function, due_in=-60, held_at=Now(), **values)


def test_what_every_living_cluster_has_is_known():
    rows.cluster_row(task_paths=["a", "b"])
    rows.cluster_row(task_paths=["b", "c"])
    rows.cluster_row(task_paths=["d"], heartbeat_age=3600)
    assert known_functions() == {"a", "b", "c"}


def test_nothing_is_known_beside_a_cluster_that_does_not_say_what_it_has():
    rows.cluster_row(task_paths=["a"])
    rows.cluster_row()
    assert known_functions() == set()


def test_an_overdue_task_of_an_unknown_function_is_held_and_no_other():
    rows.ready("add", due_in=-60)
    rows.ready("gone", due_in=-5)
    rows.ready("gone", due_in=60)
    rows.claimed("gone")
    rows.failed("gone")
    expected = [rows.ready("gone", due_in=-60).pk, rows.ready("gone", due_in=-60, queue_name="mail", priority=5).pk]
    rows.ready("gone", due_in=-60, queue_name="elsewhere")
    assert hold_unknown(QUEUES, KNOWN) == 2
    assert held_ids() == expected


def test_while_nothing_is_known_nothing_is_held():
    rows.ready("gone", due_in=-60)
    assert hold_unknown(QUEUES, set()) == 0


def test_a_held_task_is_not_claimed():
    task = held("add")
    assert leases.claim(rows.cluster_row().pk, 10, QUEUES, registry) == []
    task.refresh_from_db()
    assert task.lease_id is None


def test_a_held_task_is_in_line_again_once_its_function_is_known():
    other, task = held("other"), held("add")
    assert let_go(KNOWN) == 1
    assert held_ids() == [other.pk]
    assert [lease.task_id for lease in leases.claim(rows.cluster_row().pk, 10, QUEUES, registry)] == [task.pk]


def test_many_are_held_and_let_go_in_batches(monkeypatch):
    monkeypatch.setattr(holding, "BATCH", 10)
    for _number in range(25):
        rows.ready("gone", due_in=-60)
    assert hold_unknown(QUEUES, KNOWN) == 25
    assert let_go(KNOWN | {"tests.work.tasks.gone"}) == 25


def test_a_round_without_time_does_one_batch(monkeypatch):
    monkeypatch.setattr(holding, "BATCH", 10)
    monkeypatch.setattr(holding, "BUDGET", -1.0)
    for _number in range(25):
        rows.ready("gone", due_in=-60)
    assert hold_unknown(QUEUES, KNOWN) == 10
    assert let_go({"tests.work.tasks.gone"}) == 10


def test_a_held_task_can_be_cancelled():
    task = held()
    assert Task.objects.filter(pk=task.pk).cancel(by="operator") == 1
    task.refresh_from_db()
    assert (task.status, task.held_at) == ("FAILED", None)


@pytest.mark.parametrize("make", [rows.claimed, rows.running, rows.successful, rows.failed])
def test_only_what_waits_can_be_held(make):
    task = make()
    with pytest.raises(IntegrityError):
        Task.objects.filter(pk=task.pk).update(held_at=Now())


def test_a_claim_does_not_read_what_is_held(transactional_db):
    """The effort of a claim is the same beside no and beside 3,000 held tasks."""

    def effort() -> int:
        if connection.vendor == "sqlite":
            steps = [0]

            def count() -> int:
                steps[0] += 1
                return 0

            connection.ensure_connection()
            connection.connection.set_progress_handler(count, 100)
            try:
                leases.claim(holder.pk, 10, QUEUES, KNOWN)
            finally:
                connection.connection.set_progress_handler(None, 0)
            return steps[0]
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'tasks_task_to_claim'")
            before = cursor.fetchone()[0]
            leases.claim(holder.pk, 10, QUEUES, KNOWN)
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'tasks_task_to_claim'")
            return cursor.fetchone()[0] - before

    holder = rows.cluster_row()
    effort()  # what is done once
    alone = effort()
    work.add.enqueue_many([(1,)] * 3000)
    Task.objects.update(task_path="tests.work.tasks.gone", run_after=Now() - timedelta(minutes=1))
    beside_unknown = effort()
    assert hold_unknown(QUEUES, KNOWN) == 3000
    assert beside_unknown > 100 + alone
    # PostgreSQL reads the old entries of an index until no transaction can need them any more
    until(lambda: effort() <= 20 + alone, 20, "a claim reads no more than without them")


def test_a_cluster_holds_what_it_does_not_know_and_runs_the_rest(cluster):
    strangers = [rows.ready("gone", due_in=-60).pk for _number in range(3)]
    running = cluster("--workers", "1", TASKS_LEASE="3")
    until(lambda: held_ids() == strangers, 10, "the strangers are held")
    result = work.add.enqueue(1)
    until(lambda: rows.finished(result))
    assert row(result).status == "SUCCESSFUL"
    assert "WARNING tasks.housekeeper: 3 tasks are held: no running cluster has their function" in running.log()
    Task.objects.filter(pk__in=strangers).update(task_path="tests.work.tasks.add", args=[1])
    until(lambda: Task.objects.filter(pk__in=strangers, status="SUCCESSFUL").count() == 3, 10, "they ran")
