"""One attempt, in this process: every way it can end, and that `run` always returns None."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django_tasks import TaskResultStatus
from django_tasks.signals import task_finished, task_started

from tasks import failures, runner, statements
from tasks.backend import DatabaseBackend
from tasks.models import Task, TaskError
from tasks.worker import Worker
from tests.tasks import rows
from tests.work import tasks as work
from tests.work.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)


def attempt(result) -> Any:
    """Lease the task, make one attempt, return the row as it is then."""
    lease_id = rows.lease(result)
    assert runner.run(int(result.id), lease_id) is None  # type: ignore[func-returns-value]  # the claim
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    return Task.objects.get(pk=result.id)


def kinds(task: Task) -> list[str]:
    return [kind for attempt, kind, message in rows.errors_of(task)]


def seconds_from_now(task: Task) -> float:
    return (task.run_after - timezone.now()).total_seconds()


@pytest.fixture(autouse=True)
def _quiet_log(monkeypatch):
    """No success has been logged in this second."""
    monkeypatch.setattr(runner, "_successes", runner._Successes())


@pytest.fixture
def worker(monkeypatch) -> type[Worker]:
    """This process as its cluster sees it; what a test sets is undone."""
    for name in ("is_draining", "announce_busy", "announce", "give_up", "take"):
        monkeypatch.setattr(Worker, name, getattr(Worker, name))
    return Worker


@pytest.fixture
def at_start():
    """A function that has something done after the start of an attempt and before its code."""
    connected = []

    def connect(act) -> None:
        def receive(sender, task_result, **kwargs) -> None:
            act(task_result)

        task_started.connect(receive)
        connected.append(receive)

    yield connect
    for receive in connected:
        task_started.disconnect(receive)


def take_over(task_result) -> None:
    """Do what a rescue and another cluster's claim and start do to a running row."""
    Task.objects.filter(pk=task_result.id).update(
        lease_id=uuid.uuid4(), cluster=rows.cluster_row(pid=2), attempts=2, worker_ids=["host-a:1", "host-b:2"]
    )


# Success -------------------------------------------------------------------------------------------------------------


def test_a_function_that_returns_is_successful():
    task = attempt(work.add.enqueue(2, b=3))
    assert (task.status, task.return_value, task.attempts, task.worker_ids) == ("SUCCESSFUL", 5, 1, [Worker.id])
    assert (task.lease_id, task.cluster_id, task.leased_at) == (None, None, None)
    assert task.enqueued_at <= task.started_at <= task.finished_at
    assert rows.errors_of(task) == []


def test_a_coroutine_function_is_run_to_its_end():
    task = attempt(work.add_async.enqueue(2, 3))
    assert (task.status, task.return_value) == ("SUCCESSFUL", 5)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (lambda: work.return_an_object.enqueue(), "a object is not JSON. Pass an id, a string or a number instead"),
        (lambda: work.return_nested.enqueue(500), "it contains itself, or is nested too deeply"),
    ],
)
def test_a_return_value_that_is_no_json_is_dropped_and_the_task_successful(result, reason, caplog):
    task = attempt(result())
    assert (task.status, task.return_value) == ("SUCCESSFUL", None)
    assert f"{task}: its return value was dropped: {reason}" in caplog.messages


def test_the_context_is_given_to_a_function_that_takes_it(worker):
    worker.is_draining = staticmethod(lambda: False)
    task = attempt(work.who_am_i.enqueue())
    assert task.return_value == {"id": str(task.pk), "attempt": 1, "should_stop": False}


def test_a_checkpoint_survives_a_failed_attempt_and_starts_the_next():
    result = work.count_with_checkpoint.enqueue(5, stop_at=3)
    task = attempt(result)
    assert (task.status, task.checkpoint) == ("READY", 3)
    assert task.progress == {"done": 3, "total": 5, "message": "3 of 5"}
    task = attempt(result)
    assert (task.status, task.return_value, task.attempts) == ("SUCCESSFUL", 5, 2)


def test_a_checkpoint_that_is_no_json_fails_the_attempt():
    task = attempt(work.set_checkpoint_to_an_object.enqueue())
    assert rows.errors_of(task) == [(1, "exception", "a object is not JSON. Pass an id, a string or a number instead")]


# Failure -------------------------------------------------------------------------------------------------------------


def test_an_exception_is_kept_with_the_traceback_of_the_function_only():
    task = attempt(work.fail.enqueue("no luck"))
    error = TaskError.objects.get(task=task)
    assert (error.attempt, error.kind, error.exception_path) == (1, "exception", "builtins.ValueError")
    assert (error.message, error.worker_id) == ("no luck", Worker.id)
    lines = error.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert 'tests/work/tasks.py", line' in lines[1]
    assert lines[-1] == "ValueError: no luck"
    assert "runner.py" not in error.traceback


def test_a_failed_attempt_is_followed_by_another_until_none_is_left():
    result = work.fail.enqueue()
    task = attempt(result)
    assert (task.status, task.attempts, task.finished_at) == ("READY", 1, None)
    task = attempt(result)
    assert (task.status, task.attempts, kinds(task)) == ("FAILED", 2, ["exception", "exception"])
    assert task.finished_at is not None
    assert task.discarded_at is None


def test_the_next_attempt_waits_for_the_backoff():
    task = attempt(work.fail_slowly.enqueue())
    assert task.status == "READY"
    assert 3590 < seconds_from_now(task) < 3610


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (lambda: work.broken_backoff.enqueue(), "returned 'soon', which is no timedelta from 0 to 365 days"),
        (lambda: work.raising_backoff.enqueue(),
         "raised ZeroDivisionError('integer division or modulo by zero')"),
    ],
)  # fmt: skip
def test_a_backoff_that_does_not_work_is_replaced_by_the_default(result, complaint, caplog):
    task = attempt(result())
    assert (task.status, task.attempts) == ("READY", 1)
    assert -1 < seconds_from_now(task) <= 5
    assert f"{task.task_path}: its backoff {complaint}; the default is used" in caplog.messages


@pytest.mark.parametrize("wrong", [timedelta(-1), timedelta(366), None, 5])
def test_a_backoff_out_of_range_is_replaced_by_the_default(wrong, monkeypatch, caplog):
    held = work.fail.backoff
    object.__setattr__(work.fail, "backoff", lambda attempt: wrong)
    try:
        task = attempt(work.fail.enqueue())
    finally:
        object.__setattr__(work.fail, "backoff", held)
    assert -1 < seconds_from_now(task) <= 5
    assert f"returned {wrong!r}, which is no timedelta" in caplog.text


def test_the_backoff_is_asked_with_the_number_of_the_attempt():
    asked = []

    def backoff(attempt: int) -> timedelta:
        asked.append(attempt)
        return timedelta()

    held = work.fail_slowly.backoff
    object.__setattr__(work.fail_slowly, "backoff", backoff)
    try:
        result = work.fail_slowly.enqueue()
        attempt(result)
        attempt(result)
    finally:
        object.__setattr__(work.fail_slowly, "backoff", held)
    assert asked == [1, 2]


@pytest.mark.parametrize(
    ("result", "path", "message"),
    [
        (lambda: work.exit_python.enqueue(), "builtins.SystemExit", "3"),
        (lambda: work.interrupt_keyboard.enqueue(), "builtins.KeyboardInterrupt", ""),
    ],
)
def test_leaving_python_is_a_failed_attempt_like_any_other(result, path, message):
    task = attempt(result())
    assert (task.status, task.attempts) == ("READY", 1)
    assert rows.errors_of(task) == [(1, "exception", message)]
    assert TaskError.objects.get().exception_path == path


def test_a_cause_is_kept_too():
    attempt(work.raise_from_another.enqueue())
    text = TaskError.objects.get().traceback
    assert "ValueError: invalid literal for int() with base 10: 'key'" in text
    assert "The above exception was the direct cause" in text


def test_an_exception_whose_text_cannot_be_made_is_kept_without_it():
    task = attempt(work.raise_without_text.enqueue())
    error = TaskError.objects.get(task=task)
    assert (task.status, error.exception_path) == ("FAILED", "tests.work.tasks.BrokenError")
    assert error.message == "(its text could not be made: RuntimeError)"
    assert "raise_without_text" in error.traceback


def test_a_text_that_no_database_stores_is_kept_with_replacements():
    task = attempt(work.raise_what_no_database_stores.enqueue())
    error = TaskError.objects.get(task=task)
    assert (task.status, error.message) == ("FAILED", "a\ufffdb?c")


def test_a_long_text_is_cut():
    attempt(work.raise_at_length.enqueue(failures.LONGEST_TEXT + 5))
    error = TaskError.objects.get()
    assert (len(error.message), len(error.traceback)) == (failures.LONGEST_TEXT, failures.LONGEST_TEXT)


def test_a_call_that_no_longer_fits_the_function_is_a_failed_attempt():
    task = rows.ready("add", args=[], kwargs={"colour": "red"})
    task = attempt(backend_result(task))
    assert task.status == "READY"
    assert rows.errors_of(task) == [(1, "exception", "add() got an unexpected keyword argument 'colour'")]


def backend_result(task: Task):
    return DatabaseBackend("default", {}).get_result(str(task.pk))


# What the function asks for ------------------------------------------------------------------------------------------


def test_retry_with_a_delay_of_its_own_wins_over_the_backoff():
    task = attempt(work.ask_for_a_retry.enqueue(600))
    assert (task.status, task.attempts) == ("READY", 1)
    assert 590 < seconds_from_now(task) < 610
    assert rows.errors_of(task) == [(1, "exception", "the other side is busy")]
    assert TaskError.objects.get().exception_path == "tasks.exceptions.Retry"


def test_retry_uses_attempts_and_the_last_is_final():
    result = work.ask_for_a_retry.enqueue(0)
    for _ in range(3):
        task = attempt(result)
    assert (task.status, task.attempts, len(rows.errors_of(task))) == ("FAILED", 3, 3)


def test_snooze_uses_no_attempt_and_is_no_error():
    task = attempt(work.snooze.enqueue())
    assert (task.status, task.attempts, task.worker_ids, task.lease_id) == ("READY", 0, [], None)
    assert 290 < seconds_from_now(task) < 310
    assert rows.errors_of(task) == []


def test_discard_is_final_and_out_of_the_list_of_failures():
    task = attempt(work.discard.enqueue())
    assert (task.status, task.attempts) == ("FAILED", 1)
    assert task.discarded_at is not None
    assert list(Task.objects.failed()) == []
    assert rows.errors_of(task) == [(1, "discarded", "there is nothing to do")]


@pytest.mark.parametrize("what", ["retry", "snooze"])
@pytest.mark.parametrize("seconds", [-1, 366 * 86400, -1e10], ids=["negative", "over a year", "the longest there is"])
def test_a_delay_out_of_range_is_a_failed_attempt(what, seconds, worker):
    ended = []
    worker.give_up = staticmethod(lambda: ended.append(True))
    task = attempt(work.steer.enqueue(what, seconds))
    assert (task.status, task.attempts, kinds(task), ended) == ("READY", 1, ["exception"], [])
    error = TaskError.objects.get()
    assert error.exception_path == "builtins.ValueError"
    assert error.message.endswith("it must be a timedelta from 0 to 365 days.")


# Time ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [lambda: work.sleep_too_long.enqueue(), lambda: work.sleep_too_long_async.enqueue()],
    ids=["function", "coroutine"],
)
def test_a_function_that_runs_too_long_is_ended_and_recorded_as_a_timeout(result):
    began = time.monotonic()
    task = attempt(result())
    assert time.monotonic() - began < 5
    assert (task.status, task.attempts) == ("FAILED", 1)
    assert rows.errors_of(task) == [(1, "timeout", "It ran longer than its timeout of 0.2 s.")]
    assert TaskError.objects.get().exception_path == "tasks.exceptions.TaskTimeout"


def test_code_that_swallows_the_timeout_meets_it_again():
    task = attempt(work.ignore_the_timeout_once.enqueue())
    assert (task.status, kinds(task)) == ("FAILED", ["timeout"])


def test_a_timeout_inside_a_transaction_rolls_it_back():
    task = attempt(work.sleep_too_long_in_a_transaction.enqueue("never"))
    assert (task.status, kinds(task)) == ("FAILED", ["timeout"])
    assert not Effect.objects.exists()
    assert not connection.in_atomic_block


def test_a_signal_after_the_function_s_end_disturbs_nothing():
    attempt(work.sleep_too_long.enqueue())
    for signum in (signal.SIGALRM, signal.SIGUSR1):
        signal.raise_signal(signum)


def test_the_deadline_is_announced_while_the_function_runs_and_withdrawn_after(worker):
    announced: list[float] = []
    worker.announce = staticmethod(announced.append)
    before = time.monotonic()
    attempt(work.add.enqueue(1))
    assert before + 305 <= announced[0] <= time.monotonic() + 305
    assert set(announced[1:]) == {0}


def test_the_task_is_announced_from_its_start_to_its_outcome(worker):
    heard: list[Any] = []
    worker.announce_task = staticmethod(heard.append)
    worker.announce = staticmethod(lambda deadline: heard.append("runs" if deadline else "ends"))
    task = attempt(work.fail.enqueue())
    assert heard[0] == task.pk
    assert "runs" in heard[1:-1]
    assert heard[-1] == 0


def test_the_worker_is_busy_from_the_package_to_the_outcome(worker, at_start):
    heard: list[Any] = []
    worker.announce_busy = staticmethod(heard.append)
    at_start(lambda task_result: heard.append("start"))
    attempt(work.fail.enqueue())
    assert heard == [True, "start", False]


# The cluster stops ---------------------------------------------------------------------------------------------------


def test_a_draining_worker_starts_nothing(worker):
    worker.is_draining = staticmethod(lambda: True)
    task = rows.claimed("effect", args=["never"])
    before = rows.state(task)
    runner.run(task.pk, task.lease_id.hex)
    assert rows.state(task) == before
    assert not Effect.objects.exists()


def test_an_interrupted_function_goes_back_and_uses_no_attempt(worker, at_start):
    def drain() -> None:
        worker.is_draining = staticmethod(lambda: True)
        os.kill(os.getpid(), signal.SIGUSR1)

    sentinel = threading.Timer(0.3, drain)
    at_start(lambda task_result: sentinel.start())
    task = attempt(work.sleep.enqueue(30))
    sentinel.join()
    assert (task.status, task.attempts, task.worker_ids, task.lease_id) == ("READY", 0, [], None)
    assert rows.errors_of(task) == [(1, "interrupted", "Its cluster stopped, and it did not end within the grace.")]
    assert list(Task.objects.due()) == [task]


# Transactions --------------------------------------------------------------------------------------------------------


def test_an_atomic_task_commits_its_effect_and_its_status():
    task = attempt(work.atomic_effect.enqueue("once"))
    assert (task.status, Effect.objects.get().name) == ("SUCCESSFUL", "once")


def test_an_atomic_task_that_fails_leaves_no_effect():
    task = attempt(work.atomic_effect.enqueue("never", fail=True))
    assert (task.status, task.attempts) == ("READY", 1)
    assert rows.errors_of(task) == [(1, "exception", "after the effect")]
    assert not Effect.objects.exists()


def test_an_atomic_task_that_came_too_late_leaves_no_effect(at_start):
    at_start(take_over)
    task = attempt(work.atomic_effect.enqueue("never"))
    assert (task.status, task.attempts, kinds(task)) == ("RUNNING", 2, ["superseded"])
    assert not Effect.objects.exists()


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize(
    "leave", [work.leave_a_transaction_open, work.leave_autocommit_off], ids=lambda task: task.name
)
def test_a_transaction_that_the_function_left_open_is_rolled_back_and_the_outcome_committed(leave, fail):
    result = leave.enqueue("never", fail=fail)
    task = attempt(result)
    assert not connection.in_atomic_block
    assert transaction.get_autocommit()
    connection.close()  # what was not committed is gone with it
    task.refresh_from_db()
    assert (task.status, kinds(task)) == ("FAILED", ["exception"])
    assert not Effect.objects.exists()
    if not fail:
        assert rows.errors_of(task)[0][2] == "The function returned and left a transaction open."


# Fencing -------------------------------------------------------------------------------------------------------------


def test_a_package_whose_lease_is_gone_does_nothing():
    result = work.effect.enqueue("never")
    rows.lease(result)
    before = rows.state(Task.objects.get(pk=result.id))
    runner.run(int(result.id), uuid.uuid4().hex)
    assert rows.state(Task.objects.get(pk=result.id)) == before
    assert not Effect.objects.exists()


def test_a_package_runs_once_however_often_it_is_delivered():
    result = work.effect.enqueue("once")
    lease_id = rows.lease(result)
    for _ in range(3):
        runner.run(int(result.id), lease_id)
    assert Effect.objects.count() == 1
    assert Task.objects.get(pk=result.id).attempts == 1


@pytest.mark.parametrize(
    "result",
    [
        lambda: work.add.enqueue(1),
        lambda: work.fail.enqueue(),
        lambda: work.discard.enqueue(),
        lambda: work.snooze.enqueue(),
        lambda: work.set_checkpoint.enqueue("late"),
    ],
    ids=["returns", "raises", "discards", "snoozes", "sets a checkpoint"],
)
def test_a_late_finisher_changes_nothing_and_its_outcome_is_kept_as_superseded(result, at_start, caplog):
    states = []

    def take(task_result) -> None:
        take_over(task_result)
        states.append(rows.state(Task.objects.get(pk=task_result.id)))

    at_start(take)
    task = attempt(result())
    assert [rows.state(task)] == states
    assert rows.errors_of(task) == [
        (1, "superseded",
         "Attempt 1 came too late: the task was given to another worker. Its outcome was refused."),
    ]  # fmt: skip


# Functions that are not there ----------------------------------------------------------------------------------------


def test_a_function_that_this_release_does_not_know_waits_for_one_that_does():
    task = rows.claimed("gone")
    runner.run(task.pk, task.lease_id.hex)
    task.refresh_from_db()
    assert (task.status, task.attempts, task.worker_ids, task.lease_id) == ("READY", 0, [], None)
    assert 50 < seconds_from_now(task) < 70


def test_a_path_that_is_not_registered_is_never_imported():
    task: Any = Task.objects.create(
        task_path="antigravity.geohash", queue_name="default", max_attempts=1, lease_id=uuid.uuid4(),
        leased_at=Now(), cluster=rows.cluster_row(),
    )  # fmt: skip
    runner.run(task.pk, task.lease_id.hex)
    assert "antigravity" not in sys.modules


# The database --------------------------------------------------------------------------------------------------------


def the_database_swallows_the_answer(once_for: str):
    """Let the first statement with this text be committed and its answer get lost."""
    lost: list[str] = []

    def wrapper(execute, sql, params, many, context):
        answer = execute(sql, params, many, context)
        if once_for in sql and not lost:
            lost.append(sql)
            raise OperationalError("server closed the connection unexpectedly")
        return answer

    return connection.execute_wrapper(wrapper)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("statement", ["SET status = 'RUNNING'", "SET status = 'SUCCESSFUL'"])
def test_a_write_that_was_committed_without_an_answer_counts(statement):
    result = work.effect.enqueue("once")
    with the_database_swallows_the_answer(statement):
        task = attempt(result)
    assert (task.status, task.attempts, rows.errors_of(task)) == ("SUCCESSFUL", 1, [])
    assert Effect.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_failure_that_was_committed_without_an_answer_is_kept_once():
    result = work.fail.enqueue()
    with the_database_swallows_the_answer('INSERT INTO "tasks_taskerror"'):
        task = attempt(result)
    assert kinds(task) == ["exception"]


# One after the other -------------------------------------------------------------------------------------------------


def take_from(tasks: list[Task]):
    """What a channel in which these claimed tasks wait gives a worker."""
    waiting = [(task.pk, task.lease_id, task.task_path) for task in tasks]
    return staticmethod(lambda: waiting.pop(0) if waiting else None)


def test_a_worker_goes_on_with_the_tasks_that_wait_in_their_order(worker):
    holder = rows.cluster_row()
    tasks = [rows.claimed("effect", holder, args=[f"effect {number}"]) for number in range(4)]
    worker.take = take_from(tasks[1:])
    runner.run(tasks[0].pk, tasks[0].lease_id.hex)
    assert [effect.name for effect in Effect.objects.order_by("pk")] == [f"effect {number}" for number in range(4)]
    assert {rows.state(task)["status"] for task in tasks} == {"SUCCESSFUL"}


def test_a_stale_package_between_two_tasks_is_passed_over(worker):
    first, stale, last = (rows.claimed("effect", args=[name]) for name in ("first", "stale", "last"))
    worker.take = take_from([stale, last])
    Task.objects.filter(pk=stale.pk).update(lease_id=None, leased_at=None, cluster=None)
    runner.run(first.pk, first.lease_id.hex)
    assert [effect.name for effect in Effect.objects.order_by("pk")] == ["first", "last"]
    assert rows.state(stale)["status"] == "READY"


def test_a_task_whose_outcome_is_refused_does_not_stop_the_one_behind_it(worker, at_start):
    first, second = rows.claimed("effect", args=["first"]), rows.claimed("effect", args=["second"])
    worker.take = take_from([second])
    stolen = []

    def steal(task_result):
        if not stolen:
            stolen.append(Task.objects.filter(pk=first.pk).update(lease_id=uuid.uuid4()))

    at_start(steal)
    runner.run(first.pk, first.lease_id.hex)
    assert rows.state(first)["status"] == "RUNNING"
    assert [kind for _number, kind, _message in rows.errors_of(first)] == ["superseded"]
    assert rows.state(second)["status"] == "SUCCESSFUL"


@pytest.mark.parametrize("function", ["fail", "atomic_effect", "gone"])
def test_a_task_that_does_not_simply_succeed_does_not_stop_the_one_behind_it(worker, function):
    first, second = rows.claimed(function, args=["x"]), rows.claimed("effect", args=["second"])
    worker.take = take_from([second])
    runner.run(first.pk, first.lease_id.hex)
    assert rows.state(second)["status"] == "SUCCESSFUL"


def test_the_end_of_one_task_and_the_start_of_the_next_that_were_committed_without_an_answer_count(worker):
    first, second = rows.claimed("effect", args=["first"]), rows.claimed("effect", args=["second"])
    worker.take = take_from([second])
    with the_database_swallows_the_answer("SET status = CASE"):
        runner.run(first.pk, first.lease_id.hex)
    assert [rows.state(task)["status"] for task in (first, second)] == ["SUCCESSFUL"] * 2
    assert [rows.state(task)["attempts"] for task in (first, second)] == [1, 1]
    assert [effect.name for effect in Effect.objects.order_by("pk")] == ["first", "second"]
    assert not TaskError.objects.exists()


def test_nothing_starts_behind_a_task_whose_outcome_the_database_does_not_take(worker, monkeypatch):
    """Its cluster would take the second one for lost: it runs, and its worker is at the first."""
    first, second = rows.claimed("effect", args=["first"]), rows.claimed("effect", args=["second"])
    worker.take = take_from([second])
    seen, refusals = [], 3

    def refuse(*args, **kwargs):
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            seen.append(rows.state(second)["status"])
            raise OperationalError("database or disk is full")
        return unharmed(*args, **kwargs)

    unharmed = statements.succeed
    monkeypatch.setattr(statements, "succeed", refuse)
    monkeypatch.setattr(statements, "succeed_and_start", refuse)
    runner.run(first.pk, first.lease_id.hex)
    assert seen == ["READY"] * 3
    assert [rows.state(task)["attempts"] for task in (first, second)] == [1, 1]
    assert [rows.state(task)["status"] for task in (first, second)] == ["SUCCESSFUL"] * 2


def test_a_worker_that_drains_goes_on_with_nothing(worker, at_start):
    first, second = rows.claimed("effect", args=["first"]), rows.claimed("effect", args=["second"])
    worker.take = take_from([second])
    at_start(lambda task_result: setattr(worker, "is_draining", staticmethod(lambda: True)))
    runner.run(first.pk, first.lease_id.hex)
    assert (rows.state(first)["status"], rows.state(second)["status"]) == ("SUCCESSFUL", "READY")


def test_many_quick_successes_are_summed_up_in_the_log(worker, caplog):
    tasks = [rows.claimed("add") for _number in range(30)]
    worker.take = take_from(tasks[1:])
    with caplog.at_level("INFO", "tasks.runner"):
        runner.run(tasks[0].pk, tasks[0].lease_id.hex)
    single = [message for message in caplog.messages if "attempt 1 of 5 succeeded" in message]
    more = [int(message.split()[1]) for message in caplog.messages if "more attempts succeeded" in message]
    assert len(single) + sum(more) == 30
    assert len(single) <= 20  # ten for each second that the chain was in
    assert more


# Cancel --------------------------------------------------------------------------------------------------------------


def test_a_cancelled_function_is_interrupted_and_its_task_is_failed(worker, at_start):
    worker.is_cancelled = staticmethod(lambda task_id: True)
    housekeeper = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGUSR1))

    def cancel(task_result):
        Task.objects.filter(pk=task_result.id).cancel(by="alice")
        housekeeper.start()

    at_start(cancel)
    task = attempt(work.sleep.enqueue(30))
    housekeeper.join()
    assert (task.status, task.attempts) == ("FAILED", 1)
    assert rows.errors_of(task) == [
        (1, "cancelled", "Cancelled by alice. It did not end within the grace and was interrupted.")
    ]


def test_a_cancelled_task_sees_that_it_should_stop(worker):
    worker.is_cancelled = staticmethod(lambda task_id: True)
    assert attempt(work.who_am_i.enqueue()).return_value["should_stop"] is True


def test_an_attempt_that_cannot_write_its_outcome_ends_its_worker_and_nothing_is_raised(worker, caplog):
    ended: list[bool] = []
    busy: list[bool] = []
    worker.give_up = staticmethod(lambda: ended.append(True))
    worker.announce_busy = staticmethod(busy.append)
    runner.run(1, "no lease")
    assert (ended, busy) == ([True], [True, False])
    assert "task 1: its outcome could not be written; this worker ends" in caplog.messages


# Signals and the log -------------------------------------------------------------------------------------------------


def test_the_signals_tell_the_start_and_the_finish():
    heard = []

    def hear_start(sender, task_result, **kwargs) -> None:
        heard.append(("started", sender, task_result.id, task_result.status))

    def hear_finish(sender, task_result, **kwargs) -> None:
        heard.append(("finished", sender, task_result.id, task_result.status))

    task_started.connect(hear_start)
    task_finished.connect(hear_finish)
    try:
        task = attempt(work.add.enqueue(1))
    finally:
        task_started.disconnect(hear_start)
        task_finished.disconnect(hear_finish)
    assert heard == [
        ("started", DatabaseBackend, str(task.pk), TaskResultStatus.RUNNING),
        ("finished", DatabaseBackend, str(task.pk), TaskResultStatus.SUCCESSFUL),
    ]


def test_a_receiver_that_fails_is_logged_and_changes_nothing(at_start, caplog):
    def refuse(task_result) -> None:
        raise ValueError("a receiver's own trouble")

    at_start(refuse)
    task = attempt(work.add.enqueue(1))
    assert (task.status, task.return_value) == ("SUCCESSFUL", 1)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a receiver's own trouble"


def test_each_attempt_is_one_line_of_the_log_without_its_arguments(caplog):
    caplog.set_level(logging.INFO, logger="tasks.runner")
    result = work.fail.enqueue("a secret text")
    attempt(result)
    attempt(result)
    good = attempt(work.add.enqueue(1))
    lines = [(record.levelname, record.message.rpartition(" (")[0]) for record in caplog.records]
    fail = f"tests.work.tasks.fail #{result.id}"
    assert lines == [
        ("WARNING", f"{fail}: attempt 1 of 2 raised an exception: ValueError; again in 0.0 s"),
        ("WARNING", f"{fail}: attempt 2 of 2 raised an exception: ValueError; FAILED"),
        ("INFO", f"tests.work.tasks.add #{good.pk}: attempt 1 of 5 succeeded"),
    ]


def test_sensitive_arguments_are_not_in_the_log(caplog):
    caplog.set_level(logging.DEBUG)
    attempt(work.with_a_secret.enqueue(1, secret="s3cret"))
    assert "with_a_secret" in caplog.text
    assert "s3cret" not in caplog.text


def test_what_was_returned_is_stored_as_json():
    task = attempt(work.who_am_i.enqueue())
    assert json.loads(json.dumps(task.return_value)) == task.return_value
