"""Two clusters, a year, both changes of clocks, three outages and a paused month: each due time has one right tick.

The clusters are two threads that settle what is due at the same moment, each with a connection of its own. The year
is given to them, since no test can wait for a database's clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from django.db import connection
from django.db.models import Min, Q
from django.db.models.functions import Now

from tasks import holding, statements, ticks
from tasks.functions import registry
from tasks.models import Schedule, Task, Tick
from tests.tasks import rows

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OUTAGES = [
    (datetime(2026, 3, 28, 18, 0, 0, tzinfo=UTC), datetime(2026, 3, 29, 12, 0, 20, tzinfo=UTC)),
    (datetime(2026, 8, 10, 7, 30, 0, tzinfo=UTC), datetime(2026, 8, 13, 9, 45, 0, tzinfo=UTC)),
    (datetime(2026, 10, 24, 23, 0, 0, tzinfo=UTC), datetime(2026, 10, 25, 5, 10, 0, tzinfo=UTC)),
]
PAUSE = (datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
PAUSED = {"paused_at": PAUSE[0], "paused_until": PAUSE[1], "paused_by": "operator"}
ALLOW = {"overlap": "allow"}
LENGTH = 90 * HOUR
"""How long a run of the slow schedules takes."""


class Plan(NamedTuple):
    """A schedule, how many due times it has in the year, and whether its runs are slow."""

    timing: str
    values: dict[str, Any]
    due: int
    is_slow: bool = False


PLANS = {
    "daily, in the hour that is skipped and repeated": Plan("30 2 * * *", {"timezone": "Europe/Berlin"}, 365),
    "daily, none after an outage": Plan("0 3 * * *", {"timezone": "Europe/Berlin", "misfire": "none"}, 365),
    "twice a day in the week": Plan("0 6,18 * * 1-5", {"timezone": "America/New_York"}, 522),
    "on the 31st": Plan("0 9 31 * *", {"timezone": "Asia/Tokyo"}, 12),
    "weekly": Plan("0 12 * * MON", {}, 52),
    "on working days": Plan("15 8 * * 1-5", {"timezone": "Europe/London"}, 261),
    "monthly, where clocks move by half an hour": Plan("@monthly", {"timezone": "Australia/Lord_Howe"}, 12),
    "every some hours": Plan("every 26 hours", {}, 337),
    "every some hours, some of all": Plan("every 23 hours", {"misfire": "all", "misfire_limit": 3, **ALLOW}, 381),
    "one after the other": Plan("every 40 hours", {"misfire": "all", "overlap": "queue"}, 219, is_slow=True),
    "paused for a month": Plan("30 18 * * *", {"timezone": "Asia/Kolkata", **PAUSED}, 365),
    "slower than its times": Plan("every 50 hours", {}, 176, is_slow=True),
}  # fmt: skip


def due_times(schedule: Schedule) -> Iterator[datetime]:
    at = schedule.recurrence.after(START)
    while at <= END:
        yield at
        at = schedule.recurrence.after(at)


def settled_at(at: datetime) -> datetime:
    """When somebody is there for a due time."""
    return next((end for start, end in OUTAGES if start <= at < end), at)


def expected(schedule: Schedule, plan: Plan) -> dict[datetime, tuple[str, str]]:
    """What the rules of the schedule say of each due time, by going through the year once."""
    outcomes: dict[datetime, tuple[str, str]] = {}
    groups: dict[datetime, list[datetime]] = {}
    for at in due_times(schedule):
        if "paused_at" in plan.values and PAUSE[0] <= at < PAUSE[1]:
            outcomes[at] = ("skipped", "paused")
        else:
            groups.setdefault(settled_at(at), []).append(at)
    busy_until = START
    for moment, group in sorted(groups.items()):
        most = plan.values.get("misfire_limit", 10) if plan.values.get("misfire") == "all" else 1
        for at in group[:-most]:
            outcomes[at] = ("coalesced", "") if plan.values.get("misfire", "once") == "once" else ("skipped", "misfire")
        for at in group[-most:]:
            outcomes[at] = ("ran", "")
            if plan.values.get("misfire") == "none" and moment - at >= timedelta(minutes=1):
                outcomes[at] = ("skipped", "misfire")
            elif plan.is_slow and "overlap" not in plan.values:
                if moment < busy_until:
                    outcomes[at] = ("skipped", "overlap")
                else:
                    busy_until = moment + LENGTH
    return outcomes


def finish_what_is_done(now: datetime, slow: set[int], begun: dict[int, datetime]) -> None:
    """End quick tasks at once, slow ones after their time; it counts from when they could start."""
    _due_in, is_any_held = statements.next_due()
    if is_any_held:
        holding.let_go(registry)
    unfinished = Task.objects.filter(finished_at__isnull=True)
    for pk in unfinished.filter(schedule__in=slow, held_at__isnull=True).values_list("pk", flat=True):
        begun.setdefault(pk, now)
    done = [pk for pk, start in begun.items() if now - start >= LENGTH - timedelta(minutes=1)]
    unfinished.filter(~Q(schedule__in=slow) | Q(pk__in=done)).update(status="SUCCESSFUL", finished_at=Now())
    for pk in done:
        del begun[pk]


def do_not_wait_for_the_disk() -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")


@pytest.mark.timeout(300)  # thousands of transactions
def test_each_due_time_of_a_year_has_exactly_one_tick_and_the_right_one(transactional_db):
    schedules = {name: rows.schedule(timing=plan.timing, name=name, **plan.values) for name, plan in PLANS.items()}
    for schedule in schedules.values():
        Schedule.objects.filter(pk=schedule.pk).update(due_at=schedule.recurrence.after(START))
    slow = {schedules[name].pk for name, plan in PLANS.items() if plan.is_slow}
    begun: dict[int, datetime] = {}
    do_not_wait_for_the_disk()

    def fire(now: datetime) -> int:
        do_not_wait_for_the_disk()
        rounds = 1
        while ticks.fire(now):
            rounds += 1
        return rounds

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        while (due := Schedule.objects.aggregate(at=Min("due_at"))["at"]) <= END:
            now = settled_at(due) + timedelta(milliseconds=200)
            finish_what_is_done(now, slow, begun)
            assert [rounds.result() for rounds in [one.submit(fire, now), other.submit(fire, now)]] == [1, 1]
        for cluster in (one, other):
            cluster.submit(lambda: connection.close()).result()

    for name, plan in PLANS.items():
        found = Tick.objects.filter(schedule=schedules[name]).order_by("due_at")
        assert [tick.due_at for tick in found] == list(due_times(schedules[name])), name
        assert len(found) == plan.due, name
        assert {tick.due_at: (tick.outcome, tick.reason) for tick in found} == expected(schedules[name], plan), name
    ran = Tick.objects.filter(outcome="ran")
    assert sorted(ran.values_list("task", flat=True)) == list(Task.objects.order_by("pk").values_list("pk", flat=True))
    outcomes = set(Tick.objects.values_list("outcome", "reason"))
    assert outcomes == {("ran", ""), ("coalesced", "")} | {("skipped", why) for why in ("paused", "misfire", "overlap")}
    changes = Tick.objects.filter(schedule=schedules["daily, in the hour that is skipped and repeated"])
    assert changes.filter(due_at=datetime(2026, 3, 29, 1, 0, tzinfo=UTC)).exists()
    assert changes.filter(due_at__date="2026-10-25").get().due_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
