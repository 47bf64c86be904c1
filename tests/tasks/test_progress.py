"""How far a task is, for the page that waits for it."""

from __future__ import annotations

import pytest

from tasks.progress import Progress, progress_of
from tasks.testing import run_enqueued
from tests.tasks import rows
from tests.work import tasks as work

pytestmark = pytest.mark.django_db


def test_a_task_that_has_told_nothing_is_at_its_start():
    progress = progress_of(work.work_for.enqueue(7).id)
    assert progress == Progress("READY", 0, 0, "", "")
    assert not progress.is_finished


def test_what_a_task_told_last_is_there_while_it_runs_and_after():
    told = {"done": 3, "total": 10, "message": "ten steps"}
    assert progress_of(str(rows.running("work_for", progress=told).pk)) == Progress("RUNNING", 3, 10, "ten steps", "")
    result = work.work_for.enqueue(7, 4)
    run_enqueued()
    progress = progress_of(result.id)
    assert progress == Progress("SUCCESSFUL", 4, 10, "ten steps", "")
    assert progress.is_finished


def test_a_task_that_gave_up_on_purpose_says_why_and_one_that_broke_does_not():
    given_up, broken = work.work_for.enqueue(7, 10), work.fail_without_a_word.enqueue("secret")
    run_enqueued()
    assert progress_of(given_up.id) == Progress("FAILED", 10, 10, "ten steps", "There is too much.")
    assert progress_of(broken.id) == Progress("FAILED", 0, 0, "", "")


@pytest.mark.parametrize("task_id", ["", "0", "-1", "x", "1" * 30, "١"])
def test_there_is_no_progress_of_no_task(task_id):
    assert progress_of(task_id) is None
