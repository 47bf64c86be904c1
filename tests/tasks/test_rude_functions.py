"""Functions and rows that spoil what the engine relies on, and what it does about that."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from typing import Any

import pytest
from django.db import connection
from django_tasks import default_task_backend
from django_tasks.signals import task_finished

from tasks import leases, rescue, worker
from tasks.models import Task
from tasks.testing import run_enqueued
from tests.processes import group_members
from tests.rude import tasks as rude
from tests.tasks import rows
from tests.tasks.test_bad_input import finish, insert, kinds, later_release  # noqa: F401 - a fixture among them
from tests.work import tasks as work

on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL only")


def status(result: Any) -> str:
    return Task.objects.get(pk=getattr(result, "id", result)).status


# In this process -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_lease_lost_that_the_task_raised_itself_is_a_failed_attempt():
    result = rude.raise_what_only_the_engine_raises.enqueue("LeaseLost")
    run_enqueued()
    assert (status(result), kinds(result.id)) == ("FAILED", ["exception"])


@pytest.mark.django_db(transaction=True)
def test_an_interruption_that_nobody_asked_for_is_a_failed_attempt():
    result = rude.raise_what_only_the_engine_raises.enqueue("Interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.testing.runner.Worker.is_draining", staticmethod(lambda: False))
        with suppress(AssertionError):
            run_enqueued(limit=5)
    assert (status(result), kinds(result.id)) == ("FAILED", ["exception"])


@pytest.mark.django_db(transaction=True)
def test_an_atomic_task_that_deletes_its_row_is_a_failed_attempt():
    result = rude.delete_its_own_row_in_its_transaction.enqueue()
    run_enqueued()
    assert (status(result), kinds(result.id)) == ("FAILED", ["exception"])


@pytest.mark.django_db(transaction=True)
def test_what_a_hook_after_the_commit_raised_is_in_the_log(caplog):
    result = rude.fail_after_the_commit.enqueue()
    run_enqueued()
    assert (status(result), kinds(result.id)) == ("SUCCESSFUL", [])
    assert "from the hook" in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("and_raise", [False, True])
def test_a_transaction_begun_with_sql_is_rolled_back_and_the_outcome_committed(and_raise):
    result = rude.begin_with_sql.enqueue(and_raise)
    run_enqueued()
    connection.close()  # what was not committed is gone with it
    assert (status(result), kinds(result.id)) == ("FAILED", ["exception"])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("leave", [rude.close_what_the_driver_has, rude.look_elsewhere_for_tables])
def test_an_outcome_is_written_on_another_connection_if_the_task_spoiled_this_one(leave, monkeypatch):
    gave_up: list[bool] = []
    monkeypatch.setattr(worker.Worker, "give_up", staticmethod(lambda: gave_up.append(True)))
    result = leave.enqueue()
    try:
        run_enqueued()
    finally:
        connection.close()
    assert (status(result), gave_up) == ("SUCCESSFUL", [])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["LeavingError", "SubclassError", "NulError"])
def test_an_exception_whose_text_or_name_is_broken_is_kept(name, monkeypatch):
    gave_up: list[bool] = []
    monkeypatch.setattr(worker.Worker, "give_up", staticmethod(lambda: gave_up.append(True)))
    result = rude.raise_by_name.enqueue(name)
    run_enqueued()
    assert (status(result), kinds(result.id), gave_up) == ("FAILED", ["exception"], [])


@pytest.mark.django_db(transaction=True)
def test_task_finished_is_sent_once_the_task_has_finished():
    heard = []

    def hear(sender, task_result, **kwargs) -> None:
        heard.append((str(task_result.status), task_result.is_finished))

    task_finished.connect(hear)
    try:
        work.fail.enqueue()  # two attempts
        run_enqueued()
    finally:
        task_finished.disconnect(hear)
    assert heard == [("FAILED", True)]


@pytest.mark.django_db
def test_a_task_that_was_cancelled_has_an_error_in_its_result():
    row = rows.ready()
    Task.objects.filter(pk=row.pk).cancel(by="the operator")
    result = default_task_backend.get_result(str(row.pk))
    assert [error.exception_class.__name__ for error in result.errors] == ["Cancelled"]


@pytest.mark.django_db
def test_a_task_whose_worker_was_killed_after_its_timeout_has_an_error_in_its_result():
    row = rows.running(max_attempts=1)
    rescue.rescue_lost_workers(row.cluster_id, lambda name: False, frozenset([rows.WORKER]))
    result = default_task_backend.get_result(str(row.pk))
    assert [error.exception_class.__name__ for error in result.errors] == ["TaskTimeout"]


@pytest.mark.django_db(transaction=True)
def test_a_checkpoint_obeys_the_limit_of_a_payload():
    result = rude.set_a_checkpoint_of_10_mb.enqueue()
    run_enqueued()
    assert (status(result), kinds(result.id)) == ("FAILED", ["exception"])


# Rows by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_arguments_that_are_no_list_run_nothing():
    wrong = insert(args='"ab"', max_attempts=1)
    run_enqueued()
    assert (status(wrong), kinds(wrong)) == ("FAILED", ["exception"])


@pytest.mark.django_db
@pytest.mark.parametrize("values", [{"args": "5"}, {"args": "null"}, {"kwargs": "[1]"}, {"kwargs": "null"}], ids=str)
def test_a_task_with_arguments_of_the_wrong_shape_has_a_page(values, operator_client):
    assert operator_client.get(f"/admin/tasks/task/{insert(**values)}/change/").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_arguments_that_python_cannot_read_are_a_failed_attempt(monkeypatch, operator_client):
    gave_up: list[bool] = []
    monkeypatch.setattr(worker.Worker, "give_up", staticmethod(lambda: gave_up.append(True)))
    wrong = insert(args="[1" + "0" * 5000 + "]", max_attempts=1)
    run_enqueued_or_not()
    found = Task.objects.filter(pk=wrong).values_list("status", flat=True).get()
    assert (found, kinds(wrong), gave_up) == ("FAILED", ["exception"], [])


def run_enqueued_or_not() -> None:
    with suppress(ValueError):  # it reads the whole row at its end
        run_enqueued()


@pytest.mark.django_db
@pytest.mark.parametrize("worker_ids", ["[]", '{"a": 1}', "5"])
def test_a_row_without_its_worker_does_not_stop_the_rescue_of_others(worker_ids):
    other = rows.running(holder=rows.cluster_row(heartbeat_age=100))
    lease = {"lease_id": "1" * 32, "cluster_id": "2" * 32, "leased_at": "2026-01-01 00:00:00+00:00"}
    insert(status="RUNNING", attempts=1, worker_ids=worker_ids, **lease)
    rescue.rescue_dead_clusters()
    assert status(other.pk) == "READY"


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_a_count_of_attempts_at_its_end_does_not_stop_other_tasks(later_release):  # noqa: F811 - the fixture
    later_release("--workers", "1")
    insert(attempts=32767, max_attempts=32767)
    other = work.add.using(priority=-1).enqueue(1)
    finish(other)


@on_postgresql
@pytest.mark.django_db
@pytest.mark.parametrize("time", ["-infinity", "0044-03-15 00:00:00+00 BC"])
def test_a_time_that_python_does_not_know_does_not_stop_a_claim(time):
    insert(run_after=time)
    assert len(leases.claim(rows.cluster_row().pk, 5, ["default"], ["tests.work.tasks.add"])) == 1


# Real clusters -------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_worker(later_release):  # noqa: F811 - the fixture
    return later_release("--workers", "1")


def test_trouble_after_stderr_was_closed_ends_the_worker_and_not_the_task(one_worker):
    finish(rude.close_stderr.enqueue())
    finish(rude.raise_by_name.enqueue("LeavingError"))


@pytest.mark.parametrize("and_raise", [False, True])
def test_a_transaction_begun_with_sql_locks_nobody_out(one_worker, and_raise):
    result = rude.begin_with_sql.enqueue(and_raise)
    finish(result)
    finish(work.effect.enqueue("after"))
    assert kinds(result.id) == ["exception"]


def test_an_exception_whose_text_takes_for_ever_is_ended(one_worker):
    finish(rude.raise_by_name.enqueue("HangingError"))


def test_a_child_process_of_a_task_obeys_sigterm(one_worker):
    result = rude.terminate_a_child_process.enqueue()
    finish(result)
    assert Task.objects.get(pk=result.id).return_value == -signal.SIGTERM


def test_a_forked_child_that_comes_back_is_no_second_worker(one_worker):
    result = rude.fork_a_child_that_returns.enqueue()
    finish(result)
    assert Task.objects.get(pk=result.id).return_value == "parent"
    one_worker.send(signal.SIGTERM)
    assert one_worker.wait() == 0
    assert group_members(one_worker.pid) == []


def test_a_task_that_blocked_signals_leaves_the_timeout_of_the_next_one_in_force(one_worker):
    finish(rude.block_all_signals.enqueue())
    began = time.monotonic()
    finish(work.sleep_too_long.enqueue())
    assert time.monotonic() - began < 3


@on_postgresql
def test_coroutines_use_the_database_again_after_its_server_was_away(one_worker):
    finish(rude.use_the_database_from_a_coroutine.enqueue())
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finish(rude.use_the_database_from_a_coroutine.enqueue())
    later = rude.use_the_database_from_a_coroutine.enqueue()
    finish(later)
    assert (status(later), kinds(later.id)) == ("SUCCESSFUL", [])
