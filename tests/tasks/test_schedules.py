"""Schedules with real clusters: on time, once, whoever is killed."""

from __future__ import annotations

import os
import signal
from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from tasks import statements, timetable
from tasks.audit import audit
from tasks.models import Cluster, Schedule, Task, Tick
from tests.processes import tree, until
from tests.tasks import rows
from tests.work.models import Effect

SECOND = timedelta(seconds=1)
ON = {"TASKS_SCHEDULES": "1", "TASKS_LEASE": "3"}


def in_seconds(seconds: int) -> datetime:
    """A whole second, by the database's clock."""
    return (statements.now() + seconds * SECOND).replace(microsecond=0)


def every_second(function: str = "effect", **values: Any) -> Schedule:
    """A schedule that is due each second, from two seconds from now on."""
    values = {"args": ["tick"], "overlap": "allow", "name": "every second"} | values
    made: Schedule = rows.schedule(function, timing="every second", due_at=in_seconds(2), **values)
    return made


def due(schedule: Schedule) -> list[datetime]:
    return list(schedule.ticks.filter(requested_by="").order_by("due_at").values_list("due_at", flat=True))


def runs_of(schedule: Schedule) -> Any:
    return Task.objects.filter(schedule=schedule)


def seconds_between(schedule: Schedule) -> set[float]:
    times = due(schedule)
    return {(later - earlier).total_seconds() for earlier, later in pairwise(times)}


def test_an_idle_cluster_settles_a_due_time_within_a_second_and_runs_its_task(cluster):
    cluster("--workers", "1", **ON)
    schedule = rows.schedule("effect", timing="@yearly", due_at=in_seconds(3), args=["once"])
    tick = until(lambda: Tick.objects.filter(schedule=schedule).first(), 10)
    assert timedelta() <= tick.lag < SECOND
    until(lambda: row_of(tick).finished_at, 10)
    assert (row_of(tick).status, Effect.objects.get().name) == ("SUCCESSFUL", "once")
    assert row_of(tick).started_at - tick.due_at < 1.5 * SECOND


def row_of(tick: Tick) -> Task:
    return Task.objects.get(pk=tick.task_id or 0)


def test_two_clusters_settle_each_second_once(cluster):
    schedule = every_second()
    for _number in range(2):
        cluster("--workers", "1", **ON)
    until(lambda: len(due(schedule)) >= 6, 20)
    assert seconds_between(schedule) == {1.0}
    until(lambda: runs_of(schedule).filter(status="SUCCESSFUL").count() >= 6, 10)
    effects = Effect.objects.count()
    assert Tick.objects.filter(schedule=schedule, outcome="ran").count() - effects in (0, 1)


def test_whoever_is_killed_no_due_time_is_lost_or_settled_twice(cluster):
    schedule = every_second(misfire="all", misfire_limit=1000)
    clusters = [cluster("--workers", "1", **ON) for _number in range(2)]
    for killed, process in enumerate([*clusters, clusters[0]], 1):
        until(lambda: len(due(schedule)) >= 2 * killed, 20)  # noqa: B023 - called within the round
        housekeeper = until(partial(tree, process, workers=1), 20)[-1]
        os.kill(housekeeper, signal.SIGKILL)
    clusters[1].send(signal.SIGKILL)
    seen = len(due(schedule))
    until(lambda: len(due(schedule)) >= seen + 3, 20)
    Schedule.objects.filter(pk=schedule.pk).update(retired_at=statements.now())
    assert seconds_between(schedule) == {1.0}
    ran = Tick.objects.filter(schedule=schedule, outcome="ran")
    assert ran.count() == len(due(schedule)) == runs_of(schedule).count()
    until(lambda: runs_of(schedule).filter(status="SUCCESSFUL").count() == ran.count(), 30)
    assert audit()["ok"]


def test_after_a_downtime_the_latest_due_time_runs_for_all(cluster):
    first = in_seconds(-3600)
    schedule = rows.schedule("effect", timing="every 10 minutes", anchor=first, due_at=first, args=["a"])
    cluster("--workers", "1", **ON)
    until(lambda: len(due(schedule)) == 7, 10)
    assert Counter(schedule.ticks.values_list("outcome", flat=True)) == {"coalesced": 6, "ran": 1}
    until(lambda: Effect.objects.count() == 1, 10)


def test_queued_runs_come_one_after_the_other(cluster, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    schedule = every_second("hold", args=[str(gate)], overlap="queue")
    cluster("--workers", "2", **ON)
    until(lambda: len(due(schedule)) >= 3, 20)
    timetable.pause(schedule, "operator")
    assert runs_of(schedule).filter(held_at__isnull=False).count() == runs_of(schedule).count() - 1 > 1
    gate.unlink()
    until(lambda: not runs_of(schedule).filter(finished_at__isnull=True).exists(), 20)
    runs = list(runs_of(schedule).order_by("pk").values_list("started_at", "finished_at"))
    assert all(ended <= begun for (_, ended), (begun, _) in pairwise(runs))


def test_a_cluster_declares_what_the_code_has(cluster):
    assert not Schedule.objects.exists()
    cluster("--workers", "1", **ON)
    assert Schedule.objects.get(name="tests.work.tasks.celebrate").timezone == "Europe/Berlin"
    cluster("--workers", "1", **ON)
    assert Schedule.objects.filter(name="tests.work.tasks.celebrate").count() == 1


def test_a_cluster_that_is_told_to_leaves_schedules_alone(cluster):
    every_second()
    cluster("--workers", "1", TASKS_SCHEDULES="0")
    other = rows.ready("effect", args=["a"])
    until(lambda: Task.objects.filter(pk=other.pk, status="SUCCESSFUL").exists(), 10)
    until(lambda: statements.now() > Schedule.objects.get().due_at + 2 * SECOND, 10)
    assert not Tick.objects.exists()


@pytest.mark.parametrize("broken", [{"timing": "61 * * * *"}, {"args": []}, {"task_path": "tests.work.tasks.gone"}])
def test_a_broken_schedule_says_why_and_goes_on_when_it_is_mended(broken, cluster):
    right = every_second()
    wrong = every_second(name="wrong")
    before = {name: getattr(wrong, name) for name in broken}
    Schedule.objects.filter(pk=wrong.pk).update(**broken)
    cluster("--workers", "1", **ON)
    until(lambda: Schedule.objects.exclude(problem="").filter(pk=wrong.pk).exists(), 15)
    seen = len(due(right))
    until(lambda: len(due(right)) >= seen + 3, 10)
    assert due(wrong) == []
    Schedule.objects.filter(pk=wrong.pk).update(**before)
    until(lambda: len(due(wrong)) >= 3, 15)
    assert Schedule.objects.get(pk=wrong.pk).problem == ""
    assert seconds_between(right) == seconds_between(wrong) == {1.0}


def test_a_cluster_stops_as_quickly_with_schedules_as_without(cluster):
    every_second()
    process = cluster("--workers", "1", **ON)
    until(lambda: Tick.objects.exists(), 10)
    process.send(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not Cluster.objects.exists()
