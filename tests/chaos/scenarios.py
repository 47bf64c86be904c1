"""The scenarios. Each prints one JSON object; what the clusters and producers log goes to stderr.

`recovery` is the rate at which tasks finish once the fault is over, against the undisturbed rate of the same run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import django

django.setup()

from django.core.management import call_command  # noqa: E402 - after django.setup()
from django.db import connection, connections  # noqa: E402
from django.db.models import Count  # noqa: E402
from django.db.utils import DatabaseError  # noqa: E402

from tasks.audit import audit  # noqa: E402
from tasks.models import Cluster, Task, TaskError  # noqa: E402
from tests.processes import ROOT, group_members, until  # noqa: E402
from tests.work import tasks as work  # noqa: E402
from tests.work.models import Effect  # noqa: E402

PRODUCERS = 2

TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"""


class Clusters:
    """Two clusters, and the service manager that starts them again."""

    def __init__(self, count: int = 2) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self.started = 0
        for _number in range(count):
            self.start()

    def start(self) -> None:
        command = [sys.executable, "manage.py", "qcluster", "--workers", "2"]
        self.children.append(subprocess.Popen(command, cwd=ROOT, start_new_session=True))
        self.started += 1

    def revive(self) -> None:
        """Start a cluster for each that is gone."""
        for child in [child for child in self.children if child.poll() is not None]:
            self.children.remove(child)
            self.start()

    def processes(self) -> list[int]:
        return [pid for child in self.children for pid in group_members(child.pid)]

    def stop(self) -> None:
        for child in self.children:
            child.terminate()
        for child in self.children:
            assert child.wait(30) == 0, "a cluster did not stop cleanly"
            assert group_members(child.pid) == [], "a cluster left orphans"


def patiently(ask: Callable[[], object], seconds: float = 60) -> object:
    """Return the answer of a query, whatever happens to the database meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except DatabaseError:
            connections.close_all()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def left() -> int:
    return Task.objects.filter(finished_at__isnull=True).count()


def produce(total: int) -> list[subprocess.Popen[bytes]]:
    """Start producers; each prints how many tasks it committed."""
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.producer", str(number), str(total // PRODUCERS)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        for number in range(PRODUCERS)
    ]


def conservation(total: int) -> dict:
    """Producers enqueue, some roll back, while SIGKILL hits a random process of both trees about every second."""
    clusters, kills = Clusters(), 0
    producers = produce(total)
    random.seed(total)
    deadline = time.monotonic() + 120 + total / 20
    while any(producer.poll() is None for producer in producers) or patiently(left):
        assert time.monotonic() < deadline, f"{left()} tasks are not finished in time"
        time.sleep(random.uniform(0.5, 1.2))
        clusters.revive()
        if victims := clusters.processes():
            os.kill(random.choice(victims), signal.SIGKILL)
            kills += 1
    accepted = sum(int(producer.communicate()[0]) for producer in producers)
    time.sleep(1)
    clusters.revive()
    time.sleep(6)  # longer than the lease: what a dead cluster left is rescued
    clusters.stop()
    return verdict(accepted, kills=kills)


def verdict(accepted: int, **more: object) -> dict:
    """Judge the tables: nothing lost, laws kept, one effect for each atomic task that succeeded."""
    counts = dict(Task.objects.values_list("status").annotate(Count("pk")).order_by())
    effects = dict(Effect.objects.values_list("name").annotate(Count("pk")).order_by())
    problems = []
    wrong = 0
    repeated = 0
    for path, args, status in Task.objects.values_list("task_path", "args", "status"):
        if path.endswith(".atomic_effect"):
            wrong += effects.get(args[0], 0) != (status == "SUCCESSFUL")
        elif path.endswith(".effect"):
            repeated += max(0, effects.get(args[0], 0) - 1)
            wrong += status == "SUCCESSFUL" and not effects.get(args[0])
    ended = counts.get("SUCCESSFUL", 0) + counts.get("FAILED", 0)
    lost = accepted - ended
    audited = audit()
    if lost:
        problems.append(f"{lost} lost: {counts}")
    if wrong:
        problems.append(f"{wrong} tasks with the wrong number of effects")
    problems += [f"{name}: {law}" for name, law in audited["laws"].items() if law["broken"]]
    errors = dict(TaskError.objects.values_list("kind").annotate(Count("pk")).order_by())
    return {
        "accepted": accepted, "successful": counts.get("SUCCESSFUL", 0), "failed": counts.get("FAILED", 0),
        "lost": lost, "repeated": repeated, "errors": errors, **more, "verdict": "; ".join(problems) or "ok",
    }  # fmt: skip


def recovery(fault: Callable[[Clusters], None], total: int) -> dict:
    """Measure the undisturbed rate, then the rate once the fault is over, on one backlog."""
    fill(total)
    clusters = Clusters()
    until(lambda: left() < total - 50, 60, "the clusters work")
    before = rate(total // 4)
    fault(clusters)
    began = time.monotonic()
    reached = patiently(left)
    until(lambda: patiently(left) < reached, 60, "tasks finish again")  # type: ignore[operator]
    silence = time.monotonic() - began
    after = rate(total // 4)
    until(lambda: patiently(left) == 0, 300, "all finish")
    time.sleep(6)
    clusters.stop()
    return verdict(total, recovery=f"{after / before:.0%}", silence=round(silence, 1), rate=round(before))


def fill(total: int) -> None:
    Task.objects.bulk_create(
        (
            Task(task_path=work.effect.module_path, args=[f"fill-{number}"], queue_name="default", max_attempts=100)
            for number in range(total)
        ),
        batch_size=1000,
    )


def rate(count: int) -> float:
    """Return how many tasks finish in a second, over the next `count`."""
    began, first = time.monotonic(), patiently(left)
    until(lambda: first - patiently(left) >= count or patiently(left) == 0, 300, "the next tasks")  # type: ignore[operator]
    return (first - patiently(left)) / (time.monotonic() - began)  # type: ignore[operator]


def pg_ctl(*arguments: str) -> None:
    data = Path(os.environ["CHAOS_DATA"])
    program = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))[-1]
    command = [str(program), "-w", "-D", str(data), "-l", str(data / "server.log"), *arguments]
    if os.getuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd="/")


def restart(clusters: Clusters) -> None:
    connections.close_all()
    pg_ctl("-m", "fast", "stop")
    time.sleep(3)
    pg_ctl("start")


def backends(clusters: Clusters) -> None:
    for _round in range(5):
        with connection.cursor() as cursor:
            cursor.execute(TERMINATE)
        time.sleep(0.5)


def exhaust(clusters: Clusters) -> None:
    """Take every connection that is left, end those of the clusters, hold all for three seconds."""
    import psycopg

    taken = []
    for _round in range(2):
        try:
            while True:
                taken.append(psycopg.connect(f"host=127.0.0.1 port={os.environ['CHAOS_PORT']} user=postgres"))
        except psycopg.OperationalError:
            pass
        with connection.cursor() as cursor:
            cursor.execute(TERMINATE + " AND pid <> ALL(%s)", [[one.info.backend_pid for one in taken]])
    time.sleep(3)
    for connection_ in taken:
        connection_.close()


def locked(clusters: Clusters) -> None:
    """Hold SQLite's write lock for thirty seconds."""
    holder = sqlite3.connect(connection.settings_dict["NAME"], timeout=60, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    time.sleep(30)
    holder.execute("ROLLBACK")
    holder.close()


def kill_a_cluster(clusters: Clusters) -> None:
    victim = clusters.children[0]
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    clusters.revive()
    started = clusters.children[-1].pid
    until(lambda: Cluster.objects.filter(pid=started).exclude(workers=[]).exists(), 30, "the new cluster works")


def kill_again_and_again(clusters: Clusters) -> None:
    for _round in range(6):
        os.kill(random.choice(clusters.processes()), signal.SIGKILL)
        time.sleep(0.5)
        clusters.revive()


FAULTS = {
    "restart": restart,
    "backends": backends,
    "connections": exhaust,
    "locked": locked,
    "cluster": kill_a_cluster,
    "kills": kill_again_and_again,
}


def main(name: str, total: int) -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    row = conservation(total) if name == "conservation" else recovery(FAULTS[name], total)
    print(json.dumps(row))


if __name__ == "__main__":
    threading.current_thread().name = "scenario"
    main(sys.argv[1], int(sys.argv[2]))
