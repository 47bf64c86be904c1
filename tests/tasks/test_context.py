"""What a task function with takes_context=True is given."""

from __future__ import annotations

import uuid

import pytest
from django_tasks import base

from tasks.backend import DatabaseBackend
from tasks.context import TaskContext
from tasks.exceptions import LeaseLost
from tasks.models import Task
from tests.tasks import rows

pytestmark = pytest.mark.django_db


def context_of(task: Task, should_stop=lambda: False) -> TaskContext:
    backend = DatabaseBackend("default", {"QUEUES": ["default"]})
    return TaskContext(backend.result(task), rows.attempt_of(task), task.checkpoint, should_stop)


def test_it_is_django_s_context_and_knows_its_attempt():
    task = rows.running("who_am_i", attempts=3, worker_ids=["a", "b", rows.WORKER])
    context = context_of(task)
    assert isinstance(context, base.TaskContext)
    assert (context.attempt, context.task_result.id) == (3, str(task.pk))


def test_should_stop_is_asked_each_time():
    answers = iter([False, True])
    context = context_of(rows.running(), lambda: next(answers))
    assert [context.should_stop, context.should_stop] == [False, True]


def test_the_checkpoint_is_none_at_first_and_what_was_stored_later():
    assert context_of(rows.running()).checkpoint is None
    assert context_of(rows.running(checkpoint={"page": 7})).checkpoint == {"page": 7}


def test_a_checkpoint_is_stored_at_once():
    task = rows.running()
    context = context_of(task)
    context.checkpoint = {"page": 2}
    assert context.checkpoint == {"page": 2}
    assert rows.state(task)["checkpoint"] == {"page": 2}


def test_progress_is_stored_at_once():
    task = rows.running()
    context_of(task).progress(3, 10, "three of ten")
    assert rows.state(task)["progress"] == {"done": 3, "total": 10, "message": "three of ten"}


@pytest.mark.parametrize(
    ("value", "kind"), [(object(), TypeError), (b"x", TypeError), (float("nan"), ValueError), ("\x00", ValueError)]
)
def test_what_cannot_be_stored_is_refused_and_changes_nothing(value, kind):
    task = rows.running(checkpoint="before")
    context = context_of(task)
    with pytest.raises(kind):
        context.checkpoint = value
    with pytest.raises(kind):
        context.progress(1, 2, value)
    assert context.checkpoint == "before"
    assert (rows.state(task)["checkpoint"], rows.state(task)["progress"]) == ("before", None)


def test_an_attempt_that_lost_its_lease_writes_nothing():
    task = rows.running(checkpoint="before")
    context = context_of(task)
    Task.objects.filter(pk=task.pk).update(lease_id=uuid.uuid4())
    with pytest.raises(LeaseLost) as lost:
        context.checkpoint = "after"
    assert str(lost.value) == f"task {task.pk}: this attempt is over"
    with pytest.raises(LeaseLost):
        context.progress(1, 2)
    assert context.checkpoint == "before"
    assert (rows.state(task)["checkpoint"], rows.state(task)["progress"]) == ("before", None)
