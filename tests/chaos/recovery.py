"""Recovery: the rate after a fault against the rate before it. What the words mean is in the package's docstring."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.utils import timezone

from tasks.models import Task
from tests.chaos.clusters import PROCESSES, WORKERS, Clusters
from tests.chaos.measures import Backlog, finished, judge, left, patiently
from tests.chaos.stage import Stage
from tests.processes import until

AIM = 0.95
LINES = 3
"""Lines that a process may log in one outage: it fails, it is back, and the attempt that it cost."""


def measure(stage: Stage, fault: Callable[[Clusters], int], outages: int = 0) -> dict[str, Any]:
    """Measure the rate, let the fault happen, measure again, let all finish.

    `fault` returns how much it killed. If it is an outage of the database, in which no process dies, `outages` is how
    many: no attempt may be lost then, and each process may log `LINES` lines for each.
    """
    window = 5 if stage.is_short else 7
    with Clusters(stage.home) as clusters:
        workers = clusters.count * WORKERS
        backlog = Backlog(workers)
        backlog.keep(1)
        until(lambda: all_work(workers, backlog), 60, "all workers finish tasks")
        before = rate(backlog, window)
        backlog.rate = 1.5 * before / window
        logged = clusters.lines()
        backlog.keep(5)
        kills = fault(clusters)
        over = timezone.now()
        until(lambda: latest(over, 1), 60, "tasks finish again")
        silence = (timezone.now() - over).total_seconds()
        until(lambda: all_work(workers, backlog, over), 60, "as many workers as before finish tasks")
        ready = (timezone.now() - over).total_seconds()
        lines = max(now - then for now, then in zip(clusters.lines(), [*logged, *[0] * 99], strict=False))
        after = rate(backlog, window)
        until(lambda: left() == 0, 60, "all tasks finish")
        stage.problems += clusters.stop()
    recovery = after / before
    note = ""
    if recovery < AIM:
        note = f"{recovery:.1%} recovered, the aim is {AIM:.0%}"
        stage.check(stage.is_short or recovery >= 0.8, note)
    if outages:
        allowed = outages * PROCESSES * LINES
        stage.check(lines <= allowed, f"a cluster logged {lines} lines, allowed are {allowed} for {outages} outages")
    row = judge(
        stage, backlog.accepted, note, kills=kills, recovery=f"{recovery:.0%}", silence=round(silence, 1),
        ready=round(ready, 1), lines=lines, rate=round(before / window),
    )  # fmt: skip
    if outages and (gone := row["errors"].get("lost", 0)):
        row |= {"passed": False, "verdict": f"{row['verdict']}; {gone} attempts lost although no process died"}
    return row


def rate(backlog: Backlog, window: float) -> int:
    """Return how many tasks finish in a window that opens now."""
    backlog.keep(window + 1)
    began = timezone.now()
    time.sleep(window)  # the window
    count = finished(began, window)
    assert left(), f"the backlog ran out in a window of {window} s with {count} finished: the measure is void"
    return count


def latest(since: datetime, count: int) -> list[list[str]]:
    """Return the workers of the latest so many tasks that finished since then."""
    done = Task.objects.filter(finished_at__gt=since).order_by("-finished_at")
    return patiently(lambda: list(done.values_list("worker_ids", flat=True)[:count]))


def all_work(workers: int, backlog: Backlog, since: datetime | None = None) -> bool:
    """Return whether so many workers have finished tasks in the last second, and not before the given time."""
    patiently(lambda: backlog.keep(1))
    second_ago = timezone.now() - timedelta(seconds=1)
    seen = {ids[-1] for ids in latest(max(since or second_ago, second_ago), 500)}
    return len(seen) >= workers


def restart(stage: Stage) -> dict[str, Any]:
    """PostgreSQL is stopped and, three seconds later, started."""

    def fault(clusters: Clusters) -> int:
        with stage.database.away():
            time.sleep(3)  # the outage
        return 0

    return measure(stage, fault, outages=1)


def terminate(admin: psycopg.Connection, spare: list[int]) -> int:
    """End all backends but `spare`; return how many there were."""
    return admin.execute(TERMINATE, [spare]).rowcount


TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND pid <> ALL(%s)"""


def backends(stage: Stage) -> dict[str, Any]:
    """All backends of PostgreSQL are terminated, five times."""

    def fault(clusters: Clusters) -> int:
        kills = 0
        with stage.postgres.connect() as admin:
            for _round in range(5):
                kills += terminate(admin, [])
                time.sleep(0.5)  # some of them come back
        return kills

    return measure(stage, fault, outages=5)


def connections(stage: Stage) -> dict[str, Any]:
    """Every connection of PostgreSQL is taken, those of the clusters too, and kept for five seconds."""

    def fault(clusters: Clusters) -> int:
        kills = 0
        with ExitStack() as taken:
            admin = taken.enter_context(stage.postgres.connect())
            mine = [admin.info.backend_pid]
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with suppress(psycopg.OperationalError):  # too many: that is the aim
                    while True:
                        one = taken.enter_context(stage.postgres.connect())
                        mine.append(one.info.backend_pid)
                if not (killed := terminate(admin, mine)):
                    break
                kills += killed
            time.sleep(5)  # the outage
            theirs = terminate(admin, mine)
            stage.check(not theirs, f"{theirs} connections of others, though all were taken")
        return kills

    return measure(stage, fault, outages=1)


def locked(stage: Stage) -> dict[str, Any]:
    """SQLite's write lock is held for thirty seconds."""

    def fault(clusters: Clusters) -> int:
        with stage.database.away():
            time.sleep(30)  # the outage
        return 0

    return measure(stage, fault, outages=1)


def disk(stage: Stage) -> dict[str, Any]:
    """The disk of the database is full for five seconds."""

    def fault(clusters: Clusters) -> int:
        assert stage.database.disk, "the database has no disk of its own"
        stage.database.disk.fill(5)
        stage.database.ensure_running()
        return 0

    return measure(stage, fault, outages=3)  # PostgreSQL may go down, come back and go down again meanwhile


def cluster(stage: Stage) -> dict[str, Any]:
    """One of two clusters is killed, all of its processes at once, and another started."""

    def fault(clusters: Clusters) -> int:
        victim = clusters.running[0]
        victim.send(signal.SIGKILL, group=True)
        victim.wait()
        clusters.revive()
        return PROCESSES

    return measure(stage, fault)


def kills(stage: Stage) -> dict[str, Any]:
    """Six random processes of both trees are killed, one after the other."""

    def fault(clusters: Clusters) -> int:
        for _round in range(6):
            with suppress(ProcessLookupError):  # it ended by itself
                os.kill(random.choice(clusters.processes()), signal.SIGKILL)
            time.sleep(0.7)  # the pace of the killer
            clusters.revive()
        return 6

    return measure(stage, fault)
