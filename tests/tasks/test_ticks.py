"""Due times become ticks. A year of them: test_a_year_of_schedules.py. With processes: test_schedules.py."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from tasks import holding, statements, ticks
from tasks.functions import registry
from tasks.models import Schedule, Task, Tick
from tasks.testing import run_enqueued
from tests.tasks import rows
from tests.tasks.rows import ticks_of
from tests.work import tasks as work

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
JUST_AFTER = NOON + timedelta(seconds=0.2)


def finish_all() -> None:
    run_enqueued()


def in_a_pause(start: datetime, end: datetime | None) -> dict[str, Any]:
    return {"paused_at": start, "paused_until": end, "paused_by": "operator"}


def test_a_due_time_becomes_a_tick_with_its_task():
    schedule = rows.schedule(due_at=NOON)
    assert ticks.fire(JUST_AFTER) is False
    schedule.refresh_from_db()
    assert ticks_of(schedule) == [("06-15 12:00:00", "ran", "")]
    assert schedule.due_at == NOON + HOUR
    task = Task.objects.get()
    assert (task.task_path, task.args, task.schedule, task.held_at) == ("tests.work.tasks.add", [1], schedule, None)
    assert schedule.ticks.get().task == task


def test_before_its_due_time_nothing_happens():
    schedule = rows.schedule(due_at=NOON)
    ticks.fire(NOON - timedelta(seconds=1))
    assert (ticks_of(schedule), Task.objects.count()) == ([], 0)


def test_a_due_time_is_settled_once():
    schedule = rows.schedule(due_at=NOON)
    for _round in range(3):
        ticks.fire(JUST_AFTER)
    assert ticks_of(schedule) == [("06-15 12:00:00", "ran", "")]


def test_the_database_refuses_a_second_tick_for_a_due_time():
    schedule = rows.schedule(due_at=NOON)
    ticks.fire(JUST_AFTER)
    with pytest.raises(IntegrityError), transaction.atomic():
        Tick.objects.create(schedule=schedule, due_at=NOON, outcome="skipped", reason="misfire")


@pytest.mark.parametrize(
    "values",
    [
        {"outcome": "skipped"},
        {"outcome": "ran"},
        {"outcome": "ran", "task_id": 1, "reason": "paused"},
        {"outcome": "coalesced", "task_id": 1},
    ],
)
def test_the_database_refuses_a_tick_that_does_not_say_why(values):
    with pytest.raises(IntegrityError), transaction.atomic():
        Tick.objects.create(schedule=rows.schedule(), due_at=NOON, **values)


def test_the_row_of_the_task_and_the_tick_commit_together():
    schedule = rows.schedule(due_at=NOON)
    with transaction.atomic():
        ticks.fire(JUST_AFTER)
        transaction.set_rollback(True)
    schedule.refresh_from_db()
    assert (ticks_of(schedule), Task.objects.count(), schedule.due_at) == ([], 0, NOON)


# after a downtime ----------------------------------------------------------------------------------------------------


MISSED = [f"06-15 {hour:02}:00:00" for hour in range(8, 13)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"misfire": "once"}, [("coalesced", "")] * 4 + [("ran", "")]),
        ({"misfire": "all", "misfire_limit": 3, "overlap": "allow"}, [("skipped", "misfire")] * 2 + [("ran", "")] * 3),
        ({"misfire": "all", "misfire_limit": 9, "overlap": "allow"}, [("ran", "")] * 5),
        ({"misfire": "none"}, [("skipped", "misfire")] * 5),
    ],
)
@pytest.mark.parametrize("times_of_one_transaction", [1000, 2, 1])
def test_what_piled_up_in_a_downtime_is_treated_as_the_schedule_says(
    values, expected, times_of_one_transaction, monkeypatch
):
    monkeypatch.setattr(ticks, "TIMES", times_of_one_transaction)
    schedule = rows.schedule(due_at=NOON - 4 * HOUR, **values)
    while ticks.fire(NOON + HOUR / 2):
        pass
    assert ticks_of(schedule) == [(at, *what) for at, what in zip(MISSED, expected, strict=True)]
    assert Task.objects.count() == expected.count(("ran", ""))
    schedule.refresh_from_db()
    assert schedule.due_at == NOON + HOUR


def test_a_moment_late_is_no_misfire():
    schedule = rows.schedule(due_at=NOON, misfire="none")
    ticks.fire(NOON + timedelta(seconds=59))
    assert ticks_of(schedule) == [("06-15 12:00:00", "ran", "")]


@pytest.mark.parametrize("times_of_one_transaction", [1000, 2, 1])
def test_the_latest_due_time_outside_of_a_pause_runs_for_all(times_of_one_transaction, monkeypatch):
    monkeypatch.setattr(ticks, "TIMES", times_of_one_transaction)
    paused = in_a_pause(NOON - 2 * HOUR, NOON + HOUR)
    schedule = rows.schedule(due_at=NOON - 4 * HOUR, **paused)
    while ticks.fire(JUST_AFTER):
        pass
    expected = [("coalesced", ""), ("ran", ""), *[("skipped", "paused")] * 3]
    assert ticks_of(schedule) == [(at, *what) for at, what in zip(MISSED, expected, strict=True)]


def test_a_long_downtime_of_a_quick_schedule_is_settled_within_the_budget():
    schedule = rows.schedule(timing="every second", due_at=NOON - timedelta(seconds=7200))
    rounds = 1
    while ticks.fire(NOON):
        rounds += 1
    assert (schedule.ticks.count(), schedule.ticks.filter(outcome="ran").count()) == (7201, 1)
    assert schedule.ticks.latest("due_at").outcome == "ran"


def test_a_transaction_ends_when_its_share_is_over_and_the_call_goes_on(monkeypatch):
    made = [rows.schedule(due_at=NOON, name=f"{number}") for number in range(3)]
    monkeypatch.setattr(ticks, "SHARE", -1.0)
    with CaptureQueriesContext(connection) as heard:
        assert ticks.fire(JUST_AFTER) is False
    assert [len(ticks_of(schedule)) for schedule in made] == [1, 1, 1]
    assert len([query for query in heard if "FOR UPDATE" in query["sql"] or "LIMIT 50" in query["sql"]]) == 3


def test_a_call_ends_when_its_time_is_over_and_the_next_one_goes_on(monkeypatch):
    made = [rows.schedule(due_at=NOON, name=f"{number}") for number in range(3)]
    with monkeypatch.context() as slow:
        slow.setattr(ticks, "SHARE", -1.0)
        slow.setattr(ticks, "BUDGET", 1e-9)
        assert ticks.fire(JUST_AFTER) is True
    assert sum(len(ticks_of(schedule)) for schedule in made) == 1
    assert ticks.fire(JUST_AFTER) is False
    assert [len(ticks_of(schedule)) for schedule in made] == [1, 1, 1]


def test_what_has_piled_up_does_not_make_another_schedule_late(monkeypatch):
    monkeypatch.setattr(ticks, "BUDGET", 1e-9)
    monkeypatch.setattr(ticks, "SHARE", -1.0)
    behind = rows.schedule(timing="every second", due_at=NOON - HOUR, name="behind")
    fresh = rows.schedule(due_at=NOON, name="fresh")
    assert ticks.fire(JUST_AFTER) is True
    assert (len(ticks_of(behind)), len(ticks_of(fresh))) == (0, 1)


# pauses --------------------------------------------------------------------------------------------------------------


def test_due_times_of_a_pause_are_skipped_and_those_around_it_are_not():
    schedule = rows.schedule(due_at=NOON - HOUR, **in_a_pause(NOON, NOON + HOUR))
    for hour in (-1, 0, 1):
        ticks.fire(JUST_AFTER + hour * HOUR)
        finish_all()
    assert [tick[1:] for tick in ticks_of(schedule)] == [("ran", ""), ("skipped", "paused"), ("ran", "")]


# overlap -------------------------------------------------------------------------------------------------------------


def test_while_an_earlier_run_is_not_finished_a_due_time_is_skipped():
    schedule = rows.schedule(due_at=NOON)
    ticks.fire(JUST_AFTER)
    ticks.fire(JUST_AFTER + HOUR)
    finish_all()
    ticks.fire(JUST_AFTER + 2 * HOUR)
    assert [tick[1:] for tick in ticks_of(schedule)] == [("ran", ""), ("skipped", "overlap"), ("ran", "")]


def test_a_run_that_is_to_be_tried_again_is_not_finished():
    schedule = rows.schedule("fail_slowly", due_at=NOON, args=[])
    ticks.fire(JUST_AFTER)
    finish_all()
    assert Task.objects.get().status == "READY"
    ticks.fire(JUST_AFTER + HOUR)
    assert [tick[1:] for tick in ticks_of(schedule)] == [("ran", ""), ("skipped", "overlap")]


def test_runs_may_be_allowed_beside_each_other():
    schedule = rows.schedule(due_at=NOON, overlap="allow")
    ticks.fire(JUST_AFTER)
    ticks.fire(JUST_AFTER + HOUR)
    assert [tick[1:] for tick in ticks_of(schedule)] == [("ran", ""), ("ran", "")]
    assert len(run_enqueued()) == 2


def test_queued_runs_come_one_after_the_other():
    schedule = rows.schedule(due_at=NOON, overlap="queue", misfire="all")
    other = rows.schedule("atomic_effect", due_at=NOON, overlap="queue", args=["other"])
    ticks.fire(JUST_AFTER + 2 * HOUR)
    assert [tick[1:] for tick in ticks_of(schedule)] == [("ran", "")] * 3
    first, second, third = schedule.ticks.order_by("due_at").values_list("task", flat=True)
    assert holding.let_go(registry) == 0
    assert [task.pk for task in run_enqueued()] == [first, other.ticks.get(outcome="ran").task_id]
    assert holding.let_go(registry) == 1
    assert [task.pk for task in run_enqueued()] == [second]
    assert holding.let_go(registry) == 1
    assert [task.pk for task in run_enqueued()] == [third]


def test_held_runs_stay_in_their_order_when_they_are_no_longer_queued():
    schedule = rows.schedule(due_at=NOON, overlap="queue", misfire="all")
    ticks.fire(JUST_AFTER + 3 * HOUR)
    Schedule.objects.filter(pk=schedule.pk).update(overlap="skip", misfire="once")
    assert holding.let_go(registry) == 0
    Schedule.objects.filter(pk=schedule.pk).update(overlap="allow")
    assert holding.let_go(registry) == 3


def test_a_failed_run_that_is_retried_waits_for_its_turn():
    schedule = rows.schedule("fail", due_at=NOON, args=[], overlap="queue", misfire="all")
    ticks.fire(JUST_AFTER)
    finish_all()
    first = Task.objects.get()
    assert first.status == "FAILED"
    ticks.fire(JUST_AFTER + HOUR)
    assert Task.objects.filter(pk=first.pk).retry() == 1
    first.refresh_from_db()
    assert (first.status, first.held_at is not None) == ("READY", True)
    assert holding.let_go(registry) == 0
    finish_all()
    assert holding.let_go(registry) == 1
    assert schedule.ticks.count() == 2


def test_a_run_whose_key_an_unfinished_task_has_is_skipped():
    work.once_for_each_user.enqueue(1)
    by_hand = rows.schedule("once_for_each_user", due_at=NOON)
    ticks.fire(JUST_AFTER)
    assert ticks_of(by_hand) == [("06-15 12:00:00", "skipped", "overlap")]
    allowed = rows.schedule("once_for_each_user", due_at=NOON, args=[2], overlap="allow", misfire="all", name="all")
    ticks.fire(JUST_AFTER + HOUR)
    assert [tick[1:] for tick in ticks_of(allowed)] == [("ran", ""), ("skipped", "overlap")]


# steps of the clock --------------------------------------------------------------------------------------------------


def test_due_times_that_were_settled_by_a_clock_ahead_are_not_settled_again():
    schedule = rows.schedule(due_at=NOON)
    ticks.fire(JUST_AFTER + 2 * HOUR)
    finish_all()
    Schedule.objects.filter(pk=schedule.pk).update(due_at=NOON + HOUR)  # as after a change by an operator
    ticks.fire(JUST_AFTER + 3 * HOUR)
    schedule.refresh_from_db()
    assert (schedule.problem, schedule.due_at) == ("", NOON + 4 * HOUR)
    assert [tick[1] for tick in ticks_of(schedule)] == ["coalesced", "coalesced", "ran", "ran"]


# trouble -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"timing": "61 * * * *"}, "ValueError: "),
        ({"timezone": "Mars/Olympus"}, "ValueError: "),
        ({"args": [1, 2, 3, 4]}, "TypeError: tests.work.tasks.add: too many positional arguments"),
        ({"args": {"a": 1}}, "InvalidTaskError: Its arguments must be a JSON list and a JSON object."),
        ({"kwargs": [1]}, "InvalidTaskError: Its arguments must be a JSON list and a JSON object."),
    ],
)
def test_a_schedule_that_cannot_be_settled_says_why_and_leaves_the_others_alone(broken, says):
    first = rows.schedule(due_at=NOON, name="first")
    schedule = rows.schedule(due_at=NOON, name="broken")
    last = rows.schedule(due_at=NOON, name="last")
    right = {name: getattr(schedule, name) for name in broken}
    Schedule.objects.filter(pk=schedule.pk).update(**broken)
    assert ticks.fire(JUST_AFTER) is False
    schedule.refresh_from_db()
    assert schedule.problem.startswith(says)
    assert [ticks_of(each) for each in (first, schedule, last)] == [
        [("06-15 12:00:00", "ran", "")], [], [("06-15 12:00:00", "ran", "")],
    ]  # fmt: skip
    ticks.mend(JUST_AFTER)
    assert ticks_of(schedule) == []
    Schedule.objects.filter(pk=schedule.pk).update(**right)
    ticks.mend(JUST_AFTER + HOUR)
    schedule.refresh_from_db()
    assert (schedule.problem, ticks_of(schedule)) == (
        "", [("06-15 12:00:00", "coalesced", ""), ("06-15 13:00:00", "ran", "")],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("half \ud800 of it"), "ValueError: half ? of it"),
        (ValueError("a\x00b"), "ValueError: a\N{REPLACEMENT CHARACTER}b"),
        (ValueError("x" * 5000), "ValueError: " + "x" * 988),
        (OperationalError("no such table: keys"), "OperationalError: no such table: keys"),
    ],
    ids=["surrogate", "NUL", "long", "of the database"],
)
def test_whatever_a_schedule_raises_the_others_never_notice(error, says, monkeypatch):
    schedule, other = rows.schedule(due_at=NOON), rows.schedule(due_at=NOON, name="other")
    monkeypatch.setattr(ticks, "run", _raise_for(schedule, ticks.run, error))
    ticks.fire(JUST_AFTER)
    schedule.refresh_from_db()
    assert schedule.problem == says
    assert ticks_of(other) == [("06-15 12:00:00", "ran", "")]


def test_an_idempotency_key_that_raises_is_trouble_of_its_schedule_only(monkeypatch):
    schedule = rows.schedule("once_for_each_user", due_at=NOON, args=[None])
    other = rows.schedule(due_at=NOON)
    monkeypatch.setattr(ticks, "run", _raise_for(schedule, ticks.run, ZeroDivisionError("key")))
    ticks.fire(JUST_AFTER)
    schedule.refresh_from_db()
    assert schedule.problem == "ZeroDivisionError: key"
    assert ticks_of(other) == [("06-15 12:00:00", "ran", "")]


def _raise_for(schedule: Schedule, run: Any, error: Exception) -> Any:
    def raise_or_run(given: Schedule, *args: Any, **kwargs: Any) -> Any:
        if given.pk == schedule.pk:
            raise error
        return run(given, *args, **kwargs)

    return raise_or_run


def test_a_schedule_without_a_due_time_gets_one():
    schedule = rows.schedule(due_at=None)
    ticks.mend(NOON)
    schedule.refresh_from_db()
    assert schedule.due_at == NOON + HOUR


@pytest.mark.django_db(transaction=True)
def test_a_lock_of_somebody_else_is_not_waited_for():
    """A key that somebody is enqueueing, in a transaction that stays open."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time, and locks no keys")
    schedule = rows.schedule("once_for_each_user", due_at=NOON, name="blocked")
    other = rows.schedule(due_at=NOON, name="other")
    begun, over = Event(), Event()

    def enqueue_slowly() -> None:
        with transaction.atomic():
            work.once_for_each_user.enqueue(1)
            begun.set()
            over.wait(30)

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(lambda: (enqueue_slowly(), connection.close()))
        begun.wait(10)
        start = time.monotonic()
        ticks.fire(JUST_AFTER)
        assert time.monotonic() - start < 5
        schedule.refresh_from_db()
        assert (ticks_of(schedule), len(ticks_of(other))) == ([], 1)
        assert schedule.problem == "OperationalError: canceling statement due to lock timeout"
        over.set()
        done.result()
    ticks.mend(JUST_AFTER)
    schedule.refresh_from_db()
    assert (schedule.problem, ticks_of(schedule)) == ("", [("06-15 12:00:00", "skipped", "overlap")])


def test_a_schedule_of_a_function_that_another_release_has_is_left_to_it():
    schedule = rows.schedule("of_another_release", due_at=NOON)
    ticks.fire(JUST_AFTER)
    assert ticks.say_what_nobody_can_run({"tests.work.tasks.of_another_release"}, JUST_AFTER) == 0
    schedule.refresh_from_db()
    assert (ticks_of(schedule), schedule.problem, schedule.due_at) == ([], "", NOON)


def test_a_schedule_of_a_function_that_nobody_has_says_so_and_goes_on_when_somebody_has_it():
    schedule = rows.schedule("gone", due_at=NOON)
    assert ticks.say_what_nobody_can_run({"tests.work.tasks.add"}, JUST_AFTER) == 1
    schedule.refresh_from_db()
    assert schedule.problem == "No running cluster has the task function tests.work.tasks.gone."
    ticks.mend(JUST_AFTER)
    assert ticks_of(schedule) == []
    Schedule.objects.filter(pk=schedule.pk).update(task_path="tests.work.tasks.add")
    ticks.mend(JUST_AFTER)
    assert ticks_of(schedule) == [("06-15 12:00:00", "ran", "")]


# cost ----------------------------------------------------------------------------------------------------------------


def test_a_look_for_what_is_due_uses_the_index_and_is_one_statement():
    Schedule.objects.bulk_create(
        Schedule(name=f"{number}", task_path="tests.work.tasks.add", timing="@daily", due_at=NOON + number * HOUR)
        for number in range(2000)
    )
    with CaptureQueriesContext(connection) as heard:
        due_in, is_held = statements.next_due()
    assert len(heard) == 1
    assert is_held is False
    assert due_in == pytest.approx((NOON - datetime.now(UTC)).total_seconds(), abs=2)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_schedule")
        explain = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
        cursor.execute(explain + heard[0]["sql"])
        plan = "\n".join(map(str, cursor.fetchall()))
    assert "tasks_schedule_due" in plan, plan


def test_without_schedules_nothing_is_due():
    assert statements.next_due() == (None, False)
    rows.schedule(due_at=NOON, retired_at=NOON)
    rows.schedule(timing="1 * * * *", due_at=NOON, problem="wrong")
    assert statements.next_due() == (None, False)
