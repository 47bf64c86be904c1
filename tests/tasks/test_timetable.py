"""Schedules that the code declares, and what an operator does with them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_tasks.exceptions import InvalidTaskError

from tasks import statements, timetable
from tasks.models import Schedule, Task
from tasks.schedules import declared, schedule
from tests.tasks import rows
from tests.tasks.rows import ticks_of
from tests.work import tasks as work

pytestmark = pytest.mark.django_db

ADD = "tests.work.tasks.add"
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def code(monkeypatch) -> dict[str, Any]:
    """What the code declares: nothing at first."""
    empty: dict[str, Any] = {}
    monkeypatch.setattr("tasks.schedules.declared", empty)
    monkeypatch.setattr("tasks.timetable.declared", empty)
    return empty


def hours_ago(hours: float) -> datetime:
    """A whole second in the past, by the database's clock."""
    return (statements.now() - hours * HOUR).replace(microsecond=0)


def declare(timing: str = "0 3 * * *", function: Any = work.add, **options: Any) -> Schedule:
    """Declare it, in place of what was declared under its name, and return its row."""
    options = {"args": [1]} | options
    name = f"{function.module_path}:{options['name']}" if options.get("name") else function.module_path
    from tasks import schedules

    schedules.declared.pop(name, None)
    schedule(timing, **options)(function)
    timetable.declare()
    return Schedule.objects.get(name=name)


# in code -------------------------------------------------------------------------------------------------------------


def test_the_decorator_returns_the_function_and_keeps_what_it_says(code):
    assert schedule("0 3 * * *", timezone="Europe/Berlin", args=[1], kwargs={"b": 2})(work.add) is work.add
    (found,) = code.values()
    assert (found.name, found.task_path, found.args, found.kwargs) == (ADD, ADD, [1], {"b": 2})
    assert found.times == {"timing": "0 3 * * *", "timezone": "Europe/Berlin", "anchor": None}
    assert found.policy == {"misfire": "once", "misfire_limit": 10, "overlap": "skip", "ping_url": ""}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timing": "often"}, f"The schedule of {ADD} cannot be: "),
        ({"timezone": "Mars/Olympus"}, f"The schedule of {ADD} cannot be: "),
        ({"anchor": datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)}, f"The schedule of {ADD} cannot be: "),
        ({"misfire": "twice"}, f"The schedule of {ADD} cannot be: misfire is 'twice'; allowed: once, all, none."),
        ({"overlap": "maybe"}, f"The schedule of {ADD} cannot be: overlap is 'maybe'; allowed: skip, allow, queue."),
        ({"misfire_limit": 0}, "misfire_limit is 0; allowed: a whole number from 1 to 1000."),
        ({"misfire_limit": True}, "misfire_limit is True; allowed: a whole number from 1 to 1000."),
        ({"misfire": "all"}, "with misfire 'all' and overlap 'skip' the first run would skip the others"),
        ({"args": []}, f"The schedule of {ADD} cannot be: {ADD}: missing a required argument: 'a'"),
        ({"args": [object()]}, "argument 'a' cannot be stored"),
        ({"name": "a\nb"}, "allowed: 1 to 255 printable characters."),
        ({"ping_url": "http://user:secret@example.org/"}, "allowed: http:// or https:// with a host and no user."),
        ({"ping_url": "http://example.org/secret\x7f"}, "allowed: http:// or https:// with a host and no user."),
        ({"ping_url": "ftp://user:secret@example.org/"}, "its ping_url is no address; allowed: http:// or https://"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(options, says, code):
    options = {"timing": "@daily", "args": [1]} | options
    with pytest.raises(InvalidTaskError) as refusal:
        schedule(options.pop("timing"), **options)(work.add)
    assert says in str(refusal.value)
    assert "secret" not in str(refusal.value)
    assert code == {}


def test_a_plain_function_cannot_be_scheduled():
    with pytest.raises(InvalidTaskError, match=r"is no task function\. Put @schedule above @task\."):
        schedule("@daily")(work.not_a_task)


def test_two_schedules_of_a_function_need_names():
    schedule("@daily", args=[1])(work.add)
    with pytest.raises(InvalidTaskError, match="Give them names"):
        schedule("@hourly", args=[2])(work.add)
    schedule("@hourly", args=[2], name="often")(work.add)


# as rows -------------------------------------------------------------------------------------------------------------


def test_a_declared_schedule_becomes_a_row():
    row = declare(timezone="Europe/Berlin", misfire="none", overlap="queue", kwargs={"b": 2})
    assert (row.task_path, row.args, row.kwargs, row.misfire, row.overlap) == (ADD, [1], {"b": 2}, "none", "queue")
    assert (row.timing, row.timezone, row.is_overridden) == ("0 3 * * *", "Europe/Berlin", False)
    assert timezone.now() < row.due_at <= timezone.now() + 25 * HOUR


def test_the_second_time_nothing_changes():
    anchor = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
    row = declare("every 3 hours", anchor=anchor)
    Schedule.objects.filter(pk=row.pk).update(due_at=hours_ago(9))
    before = Schedule.objects.filter(pk=row.pk).values().get()
    with CaptureQueriesContext(connection) as heard:
        timetable.declare()
    assert not [query["sql"] for query in heard if query["sql"].startswith(("INSERT", "UPDATE"))]
    assert Schedule.objects.filter(pk=row.pk).values().get() == before


def test_migrate_declares(settings, monkeypatch):
    settings.TASKS_SCHEDULES = True
    schedule("@daily", args=[1])(work.add)
    call_command("migrate", verbosity=0)
    assert Schedule.objects.get().name == ADD


def test_new_times_in_the_code_count_from_now_on_and_what_was_due_before_is_settled():
    due_at = hours_ago(1)
    row = declare("every 4 hours", anchor=due_at)
    Schedule.objects.filter(pk=row.pk).update(due_at=due_at)
    row = declare("every 5 hours")
    assert (row.timing, [tick[1:] for tick in ticks_of(row)]) == ("every 5 hours", [("ran", "")])
    assert row.due_at > timezone.now()


def test_what_the_code_no_longer_declares_is_retired_and_stays_visible(code):
    row = declare()
    code.clear()
    timetable.declare()
    row.refresh_from_db()
    assert (row.retired_at is not None, row.due_at) == (True, None)
    row = declare()
    assert (row.retired_at, row.due_at > timezone.now()) == (None, True)


def test_due_times_of_a_function_that_is_gone_are_not_forgotten_when_it_is_retired(code):
    due_at = hours_ago(1)
    row = declare("every 4 hours", anchor=due_at)
    Schedule.objects.filter(pk=row.pk).update(due_at=due_at, task_path="tests.work.tasks.gone")
    code.clear()
    timetable.declare()
    assert [tick[1:] for tick in ticks_of(row)] == [("skipped", "misfire")]


def test_what_was_made_by_hand_is_left_alone():
    by_hand = rows.schedule()
    timetable.declare()
    by_hand.refresh_from_db()
    assert by_hand.retired_at is None


def test_a_schedule_that_cannot_be_declared_keeps_no_other_from_it(code):
    lost_zone = declare("0 3 * * *", function=work.add)
    Schedule.objects.filter(pk=lost_zone.pk).update(timezone="US/Gone", timing="0 4 * * *")
    code.clear()
    schedule("0 3 * * *", args=[5])(work.add)
    schedule("@hourly", args=["a"])(work.effect)
    timetable.declare()
    lost_zone.refresh_from_db()
    assert (lost_zone.args, lost_zone.due_at, lost_zone.problem[:35]) == (
        [5],
        None,
        "ValueError: 'US/Gone' is not a time",
    )
    assert Schedule.objects.filter(name=work.effect.module_path).exists()


def test_a_schedule_made_by_hand_is_not_taken_over_by_the_code(code, caplog):
    by_hand = rows.schedule(name=ADD, timing="@yearly")
    schedule("@daily", args=[7])(work.add)
    schedule("@hourly", args=["a"])(work.effect)
    timetable.declare()
    by_hand.refresh_from_db()
    assert (by_hand.timing, by_hand.args, by_hand.declared) == ("@yearly", [1], None)
    assert f"a schedule made by hand is called {ADD}, as one in the code: give it another name" in caplog.messages
    assert Schedule.objects.filter(name=work.effect.module_path).exists()


def test_several_processes_may_declare_at_the_same_time(transactional_db):
    schedule("@daily", args=[1])(work.add)
    schedule("@hourly", args=[1], name="often")(work.add)
    rows.at_the_same_time(4, timetable.declare)
    assert sorted(Schedule.objects.values_list("name", flat=True)) == [ADD, f"{ADD}:often"]


# an operator ---------------------------------------------------------------------------------------------------------


def test_a_pause_says_who_and_why_and_until_when():
    row, until = rows.schedule(due_at=hours_ago(-1)), timezone.now() + HOUR
    timetable.pause(row, "operator@example.org", "an audit", until)
    assert (row.paused_by, row.paused_reason, row.paused_until) == ("operator@example.org", "an audit", until)
    assert row.is_paused(timezone.now())
    timetable.resume(row)
    assert (row.paused_at, row.paused_until, row.paused_by, row.paused_reason) == (None, None, "", "")


def test_due_times_before_and_in_a_pause_are_judged_by_it_whenever_they_are_settled():
    first = hours_ago(5.5)
    row = rows.schedule(timing="every hour", anchor=first, due_at=first)
    timetable.pause(row, "operator")
    assert [tick[1] for tick in ticks_of(row)] == ["coalesced"] * 5 + ["ran"]
    other = rows.schedule(timing="every hour", name="other", anchor=first, due_at=first)
    Schedule.objects.filter(pk=other.pk).update(paused_at=first + 2 * HOUR, paused_by="operator")
    timetable.resume(other)
    expected = [("coalesced", ""), ("ran", ""), *[("skipped", "paused")] * 4]
    assert [tick[1:] for tick in ticks_of(other)] == expected


@pytest.mark.parametrize("broken", [{"function": "gone"}, {"args": [1, 2, 3]}])
@pytest.mark.parametrize("move", ["pause", "retire", "change"])
def test_no_due_time_is_lost_when_what_has_piled_up_cannot_run(broken, move, monkeypatch):
    monkeypatch.setattr("tasks.ticks.TIMES", 10)
    first = hours_ago(0.01)
    row = rows.schedule(timing="every second", anchor=first, due_at=first, **broken)
    moves = {
        "pause": lambda: timetable.pause(row, "operator"),
        "retire": lambda: timetable.retire(row),
        "change": lambda: timetable.change(row, args=[1]),
    }
    moves[move]()
    due = list(row.ticks.order_by("due_at").values_list("due_at", flat=True))
    assert len(due) >= 36
    assert due == [first + timedelta(seconds=number) for number in range(len(due))]
    assert set(row.ticks.values_list("outcome", "reason")) == {("skipped", "misfire")}


def test_whatever_its_task_raises_a_schedule_can_be_paused_and_retired():
    row = rows.schedule("with_a_key_of_some", due_at=hours_ago(1))
    timetable.pause(row, "operator")
    assert row.paused_by == "operator"
    timetable.retire(row)
    assert row.retired_at is not None


def test_several_runs_by_hand_at_the_same_moment_are_ticks_of_their_own(monkeypatch):
    row, now = rows.schedule(overlap="allow"), statements.now()
    monkeypatch.setattr("tasks.timetable.statements.now", lambda: now)
    assert {timetable.run_now(row, "operator").outcome for _number in range(3)} == {"ran"}
    assert row.ticks.count() == 3


def test_a_run_by_hand_is_a_tick_of_its_own_and_leaves_the_due_time_alone():
    row = rows.schedule(due_at=(due_at := hours_ago(-1)))
    tick = timetable.run_now(row, "operator")
    assert (tick.outcome, tick.requested_by, tick.due_at.microsecond > 0) == ("ran", "operator", True)
    assert (Task.objects.get().schedule, row.due_at) == (row, due_at)
    assert timetable.run_now(row, "operator").outcome == "skipped"
    assert row.ticks.count() == Task.objects.count() == 1


def test_a_run_by_hand_of_a_function_that_is_gone_says_so():
    with pytest.raises(InvalidTaskError, match=r"There is no task function tests\.work\.tasks\.gone"):
        timetable.run_now(rows.schedule("gone"), "operator")


def test_times_can_be_overridden_and_the_code_followed_again():
    row = declare("0 3 * * *")
    timetable.change(row, timing="every 5 minutes")
    assert (row.is_overridden, row.due_at - timezone.now() <= timedelta(minutes=5)) == (True, True)
    row = declare("0 4 * * *")
    assert (row.timing, row.declared["timing"]) == ("every 5 minutes", "0 4 * * *")
    timetable.follow_the_code(row)
    assert (row.timing, row.is_overridden) == ("0 4 * * *", False)


def test_times_that_are_none_are_refused_and_nothing_changes():
    row = declare()
    before = Schedule.objects.filter(pk=row.pk).values().get()
    with pytest.raises(ValueError, match="often"):
        timetable.change(row, timing="often")
    assert Schedule.objects.filter(pk=row.pk).values().get() == before


def test_a_schedule_made_by_hand_has_no_code_to_follow():
    with pytest.raises(InvalidTaskError, match="was made by hand"):
        timetable.follow_the_code(rows.schedule())


def test_one_that_is_mended_goes_on():
    row = rows.schedule(due_at=hours_ago(1), timing="61 * * * *", problem="ValueError: wrong")
    timetable.change(row, timing="every hour")
    assert (row.problem, row.due_at > timezone.now()) == ("", True)


def test_a_retired_one_can_be_taken_back():
    row = rows.schedule(due_at=hours_ago(-1))
    timetable.retire(row)
    assert row.due_at is None
    timetable.take_back(row)
    assert (row.retired_at, row.due_at > timezone.now()) == (None, True)


def test_what_the_product_declares_can_be_declared(code):
    code |= declared
    timetable.declare()
    assert set(Schedule.objects.values_list("name", flat=True)) == set(declared)
