"""Steps of the clock: of a host, and of the host whose clock the database goes by. Needs Debian's package faketime."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from tasks.models import Cluster, Task, TaskError
from tests.chaos.clusters import WORKERS, Clusters, Producers
from tests.chaos.measures import Backlog, judge, left
from tests.chaos.stage import LEASE, Stage
from tests.processes import until
from tests.work import tasks as work

QUEUES = ("mail", "maintenance")
"""Each cluster serves one of these, so that both run a task of which one can take the other for dead."""

PRODUCED = 100
SOON = 10.0
"""Seconds in which all tasks that were due before a step must have finished after it."""


class Clock:
    """The wall clock of the processes that have its environment. The monotonic clock, and sleep, go on as they are."""

    def __init__(self, path: Path) -> None:
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        if not found:
            raise RuntimeError("libfaketime is missing; Debian's package faketime has it")
        self.path = path
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": str(Path(__file__).parent / "faketime"),
        }

    def set(self, hours: int) -> None:
        """Let it differ from the machine's by so many hours from now on."""
        new = self.path.with_suffix(".new")
        new.write_text(f"{hours:+d}h\n")
        new.rename(self.path)


def clock(stage: Stage) -> dict[str, Any]:
    """PostgreSQL: one host steps by an hour while it works; then the server. SQLite: all processes step together."""
    database = Clock(stage.home / "clock-of-the-database")
    if stage.database.name == "SQLite":
        with Clusters(stage.home, 0) as clusters:
            for queue in QUEUES:
                clusters.start("--queues", f"default,{queue}", environment=database.environment)
            accepted = step_the_database(stage, clusters, database, database.environment)
            stage.problems += clusters.stop()
        return judge(stage, accepted)
    host = Clock(stage.home / "clock-of-a-host")
    stage.postgres.environment |= database.environment
    stage.postgres.restart()
    with Clusters(stage.home, 0) as clusters:
        for queue, environment in zip(QUEUES, ({}, host.environment), strict=True):
            clusters.start("--queues", f"default,{queue}", environment=environment)
        accepted = step_a_host(stage, clusters, host)
        accepted += step_the_database(stage, clusters, database, {})
        stage.problems += clusters.stop()
    return judge(stage, accepted)


def step_a_host(stage: Stage, clusters: Clusters, host: Clock) -> int:
    """Step the clock of the latest cluster forward, and back by two hours, and back to what it was."""
    clusters.wait_until_they_work()
    backlog = Backlog(len(clusters.running) * WORKERS)
    name = Cluster.objects.get(pid=clusters.running[-1].pid).pk.hex[:8]

    def finishes_tasks() -> bool:
        backlog.keep(1)
        second_ago = timezone.now() - timedelta(seconds=1)
        done = Task.objects.filter(finished_at__gt=max(stepped, second_ago)).values_list("worker_ids", flat=True)
        return any(ids[-1].endswith(name) for ids in done)

    for hours in (1, -1, 0):
        host.set(hours)
        stepped = timezone.now()
        until(finishes_tasks, 10, f"the host finishes tasks, its clock at {hours:+d} h")
    until(lambda: left() == 0, 30, "all tasks finish")
    errors = list(TaskError.objects.values_list("task", "kind", "message")[:3])
    stage.check(not errors, f"a step of a host's clock led to errors of tasks: {errors}")
    return backlog.accepted


def step_the_database(stage: Stage, clusters: Clusters, clock: Clock, environment: dict[str, str]) -> int:
    """Step the clock forward and back while all workers run tasks and others wait; return how many were accepted."""
    clusters.wait_until_they_work()
    workers = len(QUEUES) * WORKERS
    accepted = 0
    for hours in (1, 0):
        gate = stage.home / f"gate-{hours}"
        gate.touch()
        holds = [work.hold.using(queue_name=queue) for queue in QUEUES for _worker in range(WORKERS)]
        held = Task.objects.filter(pk__in=[hold.enqueue(str(gate)).id for hold in holds])
        running = held.filter(status="RUNNING")
        until(partial(has, running, workers), 20, "all workers run a task")
        with Producers(stage.home, PRODUCED, 0, **environment) as producers:
            accepted += producers.committed() + workers
        clock.set(hours)
        until(all_beat(clusters, hours), 3 * LEASE, f"all clusters say that they live, the clock at {hours:+d} h")
        time.sleep(LEASE + 1)  # a cluster that took another for dead would have rescued its tasks by then
        states = list(held.values_list("pk", "status", "attempts"))
        wrong = [state for state in states if state[1:] != ("RUNNING", 1)]
        stage.check(not wrong, f"a step to {hours:+d} h disturbed running tasks (id, status, attempts): {wrong}")
        gate.unlink()
        opened = time.monotonic()
        until(lambda: left() == 0, 60, "all tasks finish")
        took = time.monotonic() - opened
        stage.check(took <= SOON, f"after a step to {hours:+d} h the tasks that were due took {took:.1f} s")
    return accepted


def has(rows: QuerySet[Task], count: int) -> bool:
    return rows.count() == count


def all_beat(clusters: Clusters, hours: int) -> Callable[[], bool]:
    """Return a function that tells whether each cluster has said that it lives since the clock differs so much."""
    expected = timezone.now() + timedelta(hours=hours)

    def all_have() -> bool:
        rows = Cluster.objects.filter(heartbeat_at__gte=expected, heartbeat_at__lt=expected + timedelta(minutes=5))
        return {process.pid for process in clusters.running} <= set(rows.values_list("pid", flat=True))

    return all_have
