"""Tasks about somebody: found by an argument, told of, scrubbed."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tasks.audit import audit
from tasks.models import Queue, Schedule, Task, TaskError, Tick
from tasks.subjects import BATCH, MARK, scrub, scrub_name, tasks_about
from tasks.testing import run_enqueued
from tests.tasks import rows
from tests.work import tasks as work

pytestmark = pytest.mark.django_db
APP = "tests.work"
ABOUT: dict[str, list[Any]] = {"user_id": [7], "email": ["alice@example.org"]}


def found() -> list[int]:
    return [told["task"] for told in tasks_about(APP, ABOUT)]


def test_a_task_is_found_by_the_name_of_its_argument_however_that_was_passed():
    ids = [
        int(result.id)
        for result in [
            work.work_for.enqueue(7),
            work.work_for.enqueue(user_id=7, done=3),
            work.work_for.enqueue(8, 0, "alice@example.org"),
            work.work_for.enqueue(8, email="alice@example.org"),
            work.be_refused.enqueue(1, "alice@example.org"),
        ]
    ]
    work.work_for.enqueue(8)
    work.work_for.enqueue(8, 7)
    work.work_for.enqueue(77)
    work.work_for.enqueue(8, 0, "alice@example.orga")
    work.be_refused.enqueue(7, "bob@example.org")
    work.add.enqueue(7)
    assert found() == ids
    assert list(tasks_about("other", ABOUT)) == []
    assert list(tasks_about(APP, {"user_id": [], "unknown": [7]})) == []


def test_what_is_told_of_a_task_is_what_it_does_when_and_with_what():
    result = work.work_for.enqueue(7, done=3)
    run_enqueued()
    [told] = tasks_about(APP, ABOUT)
    row = rows.row(result)
    assert told == {
        "task": row.pk, "task_path": "tests.work.tasks.work_for", "status": "SUCCESSFUL", "args": [7],
        "kwargs": {"done": 3}, "enqueued_at": row.enqueued_at, "run_after": row.run_after,
        "finished_at": row.finished_at,
    }  # fmt: skip


def test_scrubbing_takes_out_what_tells_of_the_person_and_leaves_what_is_counted():
    good = work.work_for.enqueue(7, 3, email="alice@example.org")
    bad = work.be_refused.enqueue(1, "alice@example.org")
    other = work.work_for.enqueue(8, 3, email="bob@example.org")
    run_enqueued()
    before = {result.id: rows.state(rows.row(result)) for result in (good, bad, other)}
    assert scrub(APP, ABOUT, "the end") == 0
    emptied = {"return_value": None, "checkpoint": None, "progress": None}
    after = rows.state(rows.row(good))
    assert after == before[good.id] | emptied | {"args": [MARK, MARK], "kwargs": {"email": MARK}}
    after = rows.state(rows.row(bad))
    assert after.pop("discarded_at") is not None
    assert after == {name: value for name, value in before[bad.id].items() if name != "discarded_at"} | {
        "args": [MARK, MARK]
    }
    assert list(TaskError.objects.values_list("kind", "exception_path", "message", "traceback")) == [
        ("exception", "smtplib.SMTPRecipientsRefused", MARK, "")
    ]
    assert rows.state(rows.row(other)) == before[other.id]
    assert audit()["ok"]


def test_what_waits_is_cancelled_and_scrubbed_and_what_runs_is_told_to_stop():
    waits = rows.ready("work_for", args=[7])
    held = rows.ready("work_for", args=[7], held_at=timezone.now())
    claimed = rows.claimed("work_for", args=[7])
    runs = rows.running("work_for", args=[7])
    assert scrub(APP, ABOUT, "the end") == 1
    for task in (waits, held, claimed):
        state = rows.state(task)
        assert (state["status"], state["args"], state["lease_id"], state["cancel_requested_by"]) == (
            "FAILED", [MARK], None, "the end",
        )  # fmt: skip
        assert rows.errors_of(task) == [(0, "cancelled", MARK)]
    state = rows.state(runs)
    assert (state["status"], state["args"], state["cancel_requested_by"]) == ("RUNNING", [7], "the end")
    assert audit()["ok"]
    Task.objects.filter(pk=runs.pk).update(
        status="SUCCESSFUL", finished_at=timezone.now(), lease_id=None, leased_at=None, cluster=None
    )
    assert scrub(APP, ABOUT, "the end") == 0
    assert rows.state(runs)["args"] == [MARK]
    assert found() == []


def test_tasks_of_functions_that_are_named_are_left_alone():
    mine, other = rows.running("work_for", args=[7]), rows.successful("be_refused", args=[1, "alice@example.org"])
    assert scrub(APP, ABOUT, "the end", but=["tests.work.tasks.work_for"]) == 0
    assert (rows.state(mine)["cancel_requested_at"], rows.state(mine)["args"]) == (None, [7])
    assert rows.state(other)["args"] == [MARK, MARK]


def test_scrubbing_twice_changes_nothing_more():
    rows.failed("work_for", args=[7], kwargs={"email": "alice@example.org"})
    scrub(APP, ABOUT, "the end")
    before = list(Task.objects.values())
    scrub(APP, ABOUT, "the end")
    assert list(Task.objects.values()) == before


def test_many_tasks_are_scrubbed_in_batches():
    work.work_for.enqueue_many([(7,)] * (2 * BATCH + 1))
    scrub(APP, ABOUT, "the end")
    assert Task.objects.exclude(args=[MARK]).count() == 0
    assert audit()["ok"]


def test_the_name_of_an_operator_is_taken_out_of_what_they_did():
    names = ["ann@example.org", "joann@example.org", "ann@example.org.au"]
    for name in names:
        task = rows.ready("work_for")
        Task.objects.filter(pk=task.pk).cancel(by=name)
        rows.error(task, 1, "cancelled", message=f"Cancelled by {name}. It ended so: no luck")
        Queue.objects.create(name=name, paused_by=name)
        schedule = Schedule.objects.create(name=name, task_path="x", timing="@daily", paused_by=name)
        Tick.objects.create(schedule=schedule, due_at=timezone.now(), outcome="coalesced", requested_by=name)
    for _again in range(2):
        scrub_name("ann@example.org")
        for values in (
            Task.objects.values_list("cancel_requested_by", flat=True),
            Queue.objects.values_list("paused_by", flat=True),
            Schedule.objects.values_list("paused_by", flat=True),
            Tick.objects.values_list("requested_by", flat=True),
        ):
            assert sorted(values) == sorted([MARK, *names[1:]])
        assert list(TaskError.objects.order_by("pk").values_list("message", flat=True)) == [
            text
            for name in [MARK, *names[1:]]
            for text in (f"Cancelled by {name} before it ran.", f"Cancelled by {name}. It ended so: no luck")
        ]


def test_a_task_that_an_operator_retries_meanwhile_keeps_its_arguments():
    task = rows.failed("work_for", args=[7])

    def retry(execute, sql, params, many, context):
        if sql.startswith('UPDATE "tasks_task"'):
            with connection.cursor() as cursor:
                cursor.cursor.execute("UPDATE tasks_task SET status = 'READY', finished_at = NULL")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(retry):
        assert scrub(APP, ABOUT, "the end") == 1
    assert rows.state(task)["args"] == [7]
    scrub(APP, ABOUT, "the end")
    assert rows.state(task)["args"] == [MARK]


# What an error says of a sensitive argument ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "email", ["alice@example.org", "alice@exämple.org", "alice+(x)@example.org", "a'b@example.org"]
)
def test_what_a_mail_server_says_is_kept_without_the_address_that_it_names(email):
    work.be_refused.enqueue(1, email)
    work.be_refused.enqueue(number=1, email=email)
    run_enqueued()
    for error in TaskError.objects.all():
        kept = (error.message + error.traceback).lower()
        assert email.partition("@")[0] not in kept.replace("tasks", "")
        assert "550" in error.message
        assert "[email]" in error.message
        assert "be_refused" in error.traceback
    assert TaskError.objects.count() == 2


def test_arguments_that_are_not_in_the_text_of_an_exception_are_not_in_its_traceback():
    work.fail.enqueue(text="x")
    result = work.fail_without_a_word.enqueue("a secret word")
    run_enqueued()
    [error] = TaskError.objects.filter(task=result.id)
    assert "fail_without_a_word" in error.traceback
    assert "a secret word" not in error.traceback + error.message
