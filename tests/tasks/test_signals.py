"""The error hook: who is told of what, when, and that nothing it does changes an outcome."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest

from tasks import leases, rescue, runner
from tasks.functions import registry
from tasks.models import Task, TaskError
from tasks.signals import TOLD_WITHIN, attempt_failed
from tasks.worker import Worker
from tests.processes import until
from tests.tasks import rows
from tests.work import tasks as work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def told():
    """What the receiver of this test was told, with the state of the row and the number of its errors at that time."""
    heard: list[dict[str, Any]] = []

    def listen(sender, signal, **told) -> None:
        task = Task.objects.get(pk=told["task_id"])
        heard.append(told | {"sender": sender, "status": task.status, "errors": task.errors.count()})

    attempt_failed.connect(listen)
    yield heard
    attempt_failed.disconnect(listen)


@pytest.fixture
def connect():
    """A function that connects a receiver for this test."""
    connected = []

    def connect(receive, sender=None) -> None:
        attempt_failed.connect(receive, sender=sender)
        connected.append((receive, sender))

    yield connect
    for receive, sender in connected:
        attempt_failed.disconnect(receive, sender=sender)


def attempt(result) -> Task:
    runner.run(int(result.id), rows.lease(result))
    return Task.objects.get(pk=result.id)


def test_a_receiver_is_told_of_each_attempt_that_failed_once_that_is_committed(told):
    result = work.fail.enqueue("no luck")
    attempt(result)
    attempt(result)
    assert [type(one.pop("exception")) for one in told] == [ValueError, ValueError]
    same = {"sender": registry["tests.work.tasks.fail"], "task_path": "tests.work.tasks.fail"}
    same |= {"task_id": int(result.id), "kind": "exception"}
    assert told == [
        same | {"attempt": 1, "is_last": False, "status": "READY", "errors": 1},
        same | {"attempt": 2, "is_last": True, "status": "FAILED", "errors": 2},
    ]


def test_the_exception_comes_with_its_traceback(told):
    attempt(work.fail.enqueue("no luck"))
    exception = told[0]["exception"]
    frames = exception.__traceback__
    while frames.tb_next:
        frames = frames.tb_next
    assert (str(exception), frames.tb_frame.f_code.co_name) == ("no luck", "fail")


@pytest.mark.parametrize(
    ("enqueue", "kind", "exception", "is_last"),
    [
        (lambda: work.exit_python.enqueue(), "exception", "SystemExit", False),
        (lambda: work.sleep_too_long.enqueue(), "timeout", "TaskTimeout", True),
        (lambda: work.discard.enqueue(), "discarded", "Discard", True),
        (lambda: work.ask_for_a_retry.enqueue(1), "exception", "Retry", False),
        (lambda: work.atomic_effect.enqueue("x", fail=True), "exception", "ValueError", False),
    ],
)
def test_the_kind_says_how_the_attempt_ended(told, enqueue, kind, exception, is_last):
    attempt(enqueue())
    assert [(one["kind"], type(one["exception"]).__name__, one["is_last"]) for one in told] == [
        (kind, exception, is_last)
    ]


def test_nobody_is_told_of_success_or_of_a_snooze(told):
    attempt(work.add.enqueue(1))
    attempt(work.snooze.enqueue())
    assert told == []


def test_nobody_is_told_of_an_outcome_that_was_refused(told):
    task = rows.running()
    lost = rows.attempt_of(task)
    Task.objects.filter(pk=task.pk).update(lease_id=uuid.uuid4())
    with pytest.raises(leases.LeaseLost):
        leases.fail(lost, leases.Failure(TaskError.Kind.EXCEPTION), None)
    assert told == []


def test_a_task_that_was_cancelled_while_it_failed_is_told_as_such(told):
    task = rows.running("fail", worker_ids=[Worker.id])
    Task.objects.filter(pk=task.pk).cancel(by="alice")
    error = ValueError("no luck")
    mine = leases.Attempt(task.pk, task.lease_id, Worker.id, task.task_path, [], {}, 1, 5)
    leases.fail(mine, leases.Failure(TaskError.Kind.EXCEPTION, exception=error), timedelta())
    assert [(one["kind"], one["exception"], one["is_last"]) for one in told] == [("cancelled", error, True)]


def test_a_receiver_may_listen_to_one_function_alone(connect):
    heard: list[int] = []

    def listen(sender, task_id, **kwargs) -> None:
        heard.append(task_id)

    connect(listen, sender=work.fail)
    attempt(work.exit_python.enqueue())
    result = work.fail.using(priority=5).enqueue()
    attempt(result)
    assert heard == [int(result.id)]


@pytest.mark.parametrize("error", [ValueError("in the hook"), SystemExit(3), KeyboardInterrupt()])
def test_a_receiver_that_raises_is_logged_and_changes_nothing(connect, caplog, error):
    def broken(sender, **kwargs) -> None:
        raise error

    connect(broken)
    with caplog.at_level(logging.ERROR):
        task = attempt(work.fail.enqueue())
    assert (task.status, rows.errors_of(task)) == ("READY", [(1, "exception", "no luck")])
    assert any(record.exc_info and record.exc_info[1] is error for record in caplog.records)


def test_a_receiver_has_some_seconds_and_then_its_worker_is_killed(connect, monkeypatch):
    announced: list[float] = []
    at_the_time: list[float] = []

    def listen(sender, **kwargs) -> None:
        at_the_time.append(announced[-1] - time.monotonic())

    connect(listen)
    monkeypatch.setattr(Worker, "announce", announced.append)
    attempt(work.fail.enqueue())
    [left] = at_the_time
    assert TOLD_WITHIN - 1 < left <= TOLD_WITHIN
    assert announced[-1] == 0


def test_a_lost_worker_is_told_by_a_thread_of_whoever_rescues_its_task(connect):
    heard = []

    def listen(sender, kind, exception, is_last, **kwargs) -> None:
        heard.append((kind, exception, is_last, threading.current_thread() is threading.main_thread()))

    connect(listen)
    task = rows.running()
    rescue.rescue_lost_workers(task.cluster_id, lambda name: False)
    until(lambda: heard, 10)
    assert heard == [("lost", None, False, False)]


def test_a_slow_receiver_does_not_keep_the_rescue_waiting(connect):
    gate = threading.Event()

    def slow(sender, **kwargs) -> None:
        gate.wait(20)

    connect(slow)
    tasks = [rows.running() for _ in range(3)]
    began = time.monotonic()
    for task in tasks:
        rescue.rescue_lost_workers(task.cluster_id, lambda name: False)
    assert time.monotonic() - began < 5
    gate.set()
