"""The periodic task of the examples."""

from __future__ import annotations

from examples.models import Page
from tasks.models import Schedule, Task, Tick
from tests.processes import until
from tests.tasks.test_schedules import ON, in_seconds


def test_a_cluster_runs_it_when_it_is_due(cluster):
    Page.objects.create(name="home", visits=2)
    Page.objects.create(name="away", visits=3)
    cluster("--workers", "1", **ON)
    schedule = Schedule.objects.get(name="examples.tasks.sum_visits")
    assert (schedule.timing, schedule.health(in_seconds(0))) == ("*/5 * * * *", "ok")
    due_at = in_seconds(2)
    Schedule.objects.filter(pk=schedule.pk).update(due_at=due_at)
    tick = until(lambda: Tick.objects.filter(schedule=schedule, due_at=due_at).first(), 15)
    until(lambda: Task.objects.filter(pk=tick.task_id, status="SUCCESSFUL").exists(), 15)
    assert Task.objects.get(pk=tick.task_id or 0).return_value == 5
