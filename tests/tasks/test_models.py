"""The tables: constraints, querysets, and what an operator does with tasks."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.models import Cluster, FailedTask, Queue, Task, TaskError
from tests.processes import until
from tests.tasks import rows

pytestmark = pytest.mark.django_db

LEASE = {"lease_id": uuid.UUID(int=1), "leased_at": Now(), "cluster_id": uuid.UUID(int=2)}


@pytest.mark.parametrize(
    ("constraint", "build", "values"),
    [
        ("tasks_task_status_fits_times_and_lease", rows.ready, {"status": "PENDING"}),
        ("tasks_task_status_fits_times_and_lease", rows.ready, {"status": "RUNNING"}),
        ("tasks_task_status_fits_times_and_lease", rows.successful, {"held_at": Now()}),
        ("tasks_task_status_fits_times_and_lease", rows.ready, {"finished_at": Now()}),
        ("tasks_task_status_fits_times_and_lease", rows.running, {"finished_at": Now()}),
        ("tasks_task_status_fits_times_and_lease", rows.successful, {"finished_at": None}),
        ("tasks_task_status_fits_times_and_lease", rows.failed, {"finished_at": None}),
        ("tasks_task_status_fits_times_and_lease", rows.successful, LEASE),
        ("tasks_task_status_fits_times_and_lease", rows.failed, LEASE),
        ("tasks_task_lease_is_whole_and_not_held", rows.ready, LEASE | {"cluster_id": None}),
        ("tasks_task_lease_is_whole_and_not_held", rows.ready, LEASE | {"leased_at": None}),
        ("tasks_task_lease_is_whole_and_not_held", rows.ready, LEASE | {"lease_id": None}),
        ("tasks_task_lease_is_whole_and_not_held", rows.ready, {"leased_at": Now()}),
        ("tasks_task_lease_is_whole_and_not_held", rows.ready, {"cluster_id": uuid.UUID(int=2)}),
        ("tasks_task_lease_is_whole_and_not_held", rows.claimed, {"held_at": Now()}),
        ("tasks_task_lease_is_whole_and_not_held", rows.running, {"held_at": Now()}),
        ("tasks_task_priority", rows.ready, {"priority": 101}),
        ("tasks_task_priority", rows.ready, {"priority": -101}),
    ],
)
def test_the_database_refuses_a_task_in_a_state_that_cannot_be(constraint, build, values):
    task = build()
    before = rows.state(task)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Task.objects.filter(pk=task.pk).update(**values)
    assert rows.state(task) == before


def test_the_database_refuses_an_end_of_a_pause_for_a_queue_that_is_not_paused():
    with pytest.raises(IntegrityError, match="tasks_queue_until_only_when_paused"), transaction.atomic():
        Queue.objects.create(name="mail", paused_until=Now())
    Queue.objects.create(name="mail", paused_at=Now(), paused_until=Now())


def test_the_database_refuses_two_unfinished_tasks_with_one_key():
    first = rows.ready(idempotency_key="once")
    with pytest.raises(IntegrityError), transaction.atomic():
        rows.ready(idempotency_key="once")
    assert list(Task.objects.all()) == [first]


def test_the_bounds_of_the_priority_are_allowed():
    assert [rows.ready(priority=priority).priority for priority in (-100, 100)] == [-100, 100]


def test_a_queue_is_paused_until_its_time_is_over():
    Queue.objects.create(name="for good", paused_at=Now())
    Queue.objects.create(name="for an hour", paused_at=Now(), paused_until=timezone.now() + timedelta(hours=1))
    Queue.objects.create(name="no longer", paused_at=Now(), paused_until=timezone.now() - timedelta(seconds=1))
    Queue.objects.create(name="never", pruned_failed=3)
    assert sorted(Queue.objects.paused().values_list("name", flat=True)) == ["for an hour", "for good"]


def test_waiting_due_and_failed_are_what_their_names_say():
    waits, later, claimed = rows.ready(), rows.ready(due_in=60), rows.claimed()
    rows.running()
    rows.successful()
    failed = rows.failed()
    rows.failed(discarded_at=Now())
    assert set(Task.objects.waiting()) == {waits, later, claimed} - {claimed}
    assert set(Task.objects.due()) == {waits, claimed}
    assert set(Task.objects.failed()) == {failed}


def test_rows_name_themselves():
    task = rows.ready(pk=17)
    assert str(task) == "tests.work.tasks.add #17"
    assert str(FailedTask(pk=17, task_path="a.b")) == "a.b #17"
    assert str(Cluster(host="host-a", pid=4711)) == "host-a:4711"
    assert str(Queue(name="mail")) == "mail"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"exception_path": "builtins.ValueError", "message": "no luck\nmore"}, "ValueError: no luck"),
        ({"exception_path": "builtins.ValueError"}, "ValueError"),
        ({"message": "Discarded by Olga before it ran."}, "Discarded by Olga before it ran."),
        ({}, "ran out of time"),
    ],
)
def test_an_error_is_named_in_one_line(values, text):
    assert str(TaskError(kind="timeout", **values)) == text


# retry ---------------------------------------------------------------------------------------------------------------


def test_retry_makes_a_failed_task_due_at_once_with_one_attempt_more():
    task = rows.failed(errors=3, max_attempts=3, due_in=3600)
    assert Task.objects.filter(pk=task.pk).retry() == 1

    task.refresh_from_db()
    assert (task.status, task.attempts, task.max_attempts) == ("READY", 3, 4)
    assert (task.finished_at, task.discarded_at, task.lease_id) == (None, None, None)
    assert list(Task.objects.due()) == [task]
    assert len(rows.errors_of(task)) == 3


def test_retry_gives_as_many_attempts_as_asked_and_takes_none_away():
    few, many = rows.failed(errors=2, max_attempts=2), rows.failed(errors=1, max_attempts=9)
    assert Task.objects.retry(extra_attempts=3) == 2
    few.refresh_from_db()
    many.refresh_from_db()
    assert (few.max_attempts, many.max_attempts) == (5, 9)


def test_retry_brings_a_discarded_task_back():
    task = rows.failed(discarded_at=Now())
    assert Task.objects.retry() == 1
    task.refresh_from_db()
    assert (task.status, task.discarded_at) == ("READY", None)


@pytest.mark.parametrize("build", [rows.ready, rows.claimed, rows.running, rows.successful])
def test_retry_leaves_a_task_alone_that_has_not_failed(build):
    task = build()
    before = rows.state(task)
    assert Task.objects.retry() == 0
    assert rows.state(task) == before


def test_retry_leaves_a_failed_task_alone_whose_key_is_taken():
    failed = rows.failed("add", idempotency_key="once")
    rows.ready("add", idempotency_key="once")
    free = rows.failed("fail", idempotency_key="once")
    assert Task.objects.retry() == 1
    failed.refresh_from_db()
    free.refresh_from_db()
    assert (failed.status, free.status) == ("FAILED", "READY")


def test_of_failed_tasks_with_one_key_retry_takes_the_latest():
    older, latest = [rows.failed("add", idempotency_key="once") for _ in range(2)]
    other = rows.failed("add", idempotency_key="twice")
    assert Task.objects.retry() == 2
    for task in (older, latest, other):
        task.refresh_from_db()
    assert (older.status, latest.status, other.status) == ("FAILED", "READY", "READY")

    Task.objects.filter(pk=latest.pk).update(status="FAILED", finished_at=Now())
    assert Task.objects.filter(pk=older.pk).retry() == 1


# what an error says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message", "said"),
    [
        ("builtins.ValueError", "no luck\nand more", "ValueError: no luck"),
        ("builtins.ValueError", "", "ValueError"),
        ("tasks.exceptions.Cancelled", "Cancelled by alice before it ran.", "Cancelled by alice before it ran."),
        ("", "too late", "too late"),
    ],
)
def test_an_error_is_one_line_that_says_nothing_twice(path, message, said):
    assert str(TaskError(kind="exception", exception_path=path, message=message)) == said


# discard -------------------------------------------------------------------------------------------------------------


def test_discard_takes_a_failed_task_out_of_the_list_of_failures():
    task, other = rows.failed(), rows.failed()
    assert Task.objects.filter(pk=task.pk).discard() == 1
    assert list(Task.objects.failed()) == [other]
    assert rows.errors_of(task) == [(1, "exception", "no luck 1")]
    assert Task.objects.filter(pk=task.pk).discard() == 0


@pytest.mark.parametrize("build", [rows.ready, rows.claimed, rows.running, rows.successful])
def test_discard_leaves_a_task_alone_that_has_not_failed(build):
    task = build()
    before = rows.state(task)
    assert Task.objects.all().discard() == 0
    assert rows.state(task) == before


# cancel --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [rows.ready, rows.claimed])
def test_cancel_ends_a_task_that_has_not_started_and_says_who_did_it(build):
    task = build(attempts=2, worker_ids=["a", "b"])
    assert Task.objects.filter(pk=task.pk).cancel(by="alice") == 1
    task.refresh_from_db()
    assert (task.status, task.lease_id, task.cluster_id, task.cancel_requested_by) == ("FAILED", None, None, "alice")
    assert None not in (task.finished_at, task.discarded_at, task.expires_at)
    assert rows.errors_of(task) == [(2, "cancelled", "Cancelled by alice before it ran.")]


def test_cancel_asks_a_running_task_to_stop_once():
    task = rows.running()
    assert Task.objects.filter(pk=task.pk).cancel(by="alice") == 1
    assert Task.objects.filter(pk=task.pk).cancel(by="bob") == 0
    task.refresh_from_db()
    assert (task.status, task.cancel_requested_by, rows.errors_of(task)) == ("RUNNING", "alice", [])
    assert task.lease_id is not None


@pytest.mark.parametrize("build", [rows.successful, rows.failed])
def test_cancel_leaves_finished_tasks_alone(build):
    task = build()
    before = rows.state(task)
    assert Task.objects.all().cancel(by="alice") == 0
    assert rows.state(task) == before


def test_a_cancelled_task_frees_its_key_and_may_be_retried():
    task = rows.ready("once_for_each_user", idempotency_key="user-1")
    Task.objects.all().cancel(by="alice")
    rows.ready("once_for_each_user", idempotency_key="user-1").delete()
    assert Task.objects.all().retry() == 1
    task.refresh_from_db()
    assert (task.status, task.cancel_requested_at, task.cancel_requested_by, task.expires_at) == (
        "READY", None, "", None,
    )  # fmt: skip


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one lock for all")
def test_cancel_locks_tasks_in_the_order_of_their_ids():
    """A worker that ends one task and starts the next locks both so; it and a cancel of many must not wait in turn."""
    running, following = rows.running(), rows.claimed()
    unlocked = Task.objects.filter(pk=following.pk).select_for_update(skip_locked=True)

    def cancel() -> int:
        try:
            return Task.objects.all().cancel(by="alice")
        finally:
            connection.close()

    def is_waiting() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees the same activity twice
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(cursor.fetchone()[0])

    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            Task.objects.select_for_update().get(pk=running.pk)
            cancelled = threads.submit(cancel)
            until(is_waiting, 10, "the cancel waits for the first task")
            found = list(unlocked)
        assert (found, cancelled.result(10)) == ([following], 2)


def test_cancel_takes_the_same_number_of_statements_for_many():
    def statements(count: int) -> int:
        for _ in range(count):
            rows.ready()
            rows.running()
        with CaptureQueriesContext(connection) as queries:
            Task.objects.all().cancel(by="alice")
        return len(queries)

    assert statements(1) == statements(10)
