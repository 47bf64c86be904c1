"""The helpers for tests of code that enqueues."""

from __future__ import annotations

import pytest

from tasks.models import Cluster, Task
from tasks.testing import enqueued, run_enqueued
from tests.work import tasks as work
from tests.work.models import Effect

pytestmark = pytest.mark.django_db


def test_what_was_enqueued_can_be_seen_for_one_function_or_for_all():
    work.effect.enqueue("one")
    work.add.enqueue(1, b=2)
    assert [task.args for task in enqueued(work.effect)] == [["one"]]
    assert [(task.task_path, task.kwargs) for task in enqueued()] == [
        ("tests.work.tasks.effect", {}),
        ("tests.work.tasks.add", {"b": 2}),
    ]


def test_what_is_due_runs_here_and_now_and_leaves_no_cluster():
    work.effect.enqueue("one")
    ran = run_enqueued()
    assert [(task.status, task.attempts) for task in ran] == [("SUCCESSFUL", 1)]
    assert Effect.objects.get().name == "one"
    assert enqueued() == []
    assert not Cluster.objects.exists()


def test_a_failure_is_a_row_and_not_an_exception_and_what_runs_later_stays():
    work.fail.enqueue()
    work.fail_slowly.enqueue()
    ran = run_enqueued()
    assert [(task.status, task.attempts) for task in ran] == [("FAILED", 2), ("READY", 1)]


def test_a_task_that_is_due_for_ever_is_reported():
    Task.objects.all().delete()
    work.fail.enqueue()
    with pytest.raises(AssertionError, match="1 attempts were made and tasks are still due"):
        run_enqueued(limit=1)
