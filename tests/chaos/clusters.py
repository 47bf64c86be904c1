"""The clusters of a scenario, the service manager that starts them again, and the processes that enqueue."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from tasks.models import Cluster
from tests.chaos.measures import patiently
from tests.chaos.stage import GRACE
from tests.processes import Process, group_members, until

WORKERS = 2
"""Workers of each cluster."""

PROCESSES = WORKERS + 4
"""Processes of each cluster: the parent, the sentinel, the pusher and the housekeeper too."""


class Clusters:
    """A context that starts clusters, and ends with each of them stopped."""

    def __init__(self, home: Path, count: int = 2) -> None:
        self.home = home
        self.running: list[Process] = []
        self.started: list[Process] = []
        self.count = count

    def __enter__(self) -> Clusters:
        for _number in range(self.count):
            self.start()
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.started:
            process.stop(GRACE + 3)

    def start(self, *arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> Process:
        """Start one, by a command of its own if a prefix is given."""
        log = self.home / f"cluster-{len(self.started)}.log"
        command = [*prefix, sys.executable, "manage.py", "qcluster", "--workers", str(WORKERS), *arguments]
        process = Process(log, *command, **environment).start()
        self.started.append(process)
        self.running.append(process)
        return process

    def revive(self) -> None:
        """Start a cluster for each that is gone."""
        for process in [process for process in self.running if process.child.poll() is not None]:
            self.running.remove(process)
            self.start()

    def processes(self) -> list[int]:
        """Return the ids of all processes of all trees."""
        return [pid for process in self.running for pid in group_members(process.pid)]

    def wait_until_they_work(self, seconds: float = 60) -> None:
        """Wait until each has all its workers."""

        def all_registered() -> bool:
            rows = dict(Cluster.objects.values_list("pid", "workers"))
            return all(len(rows.get(process.pid, [])) == WORKERS for process in self.running)

        until(lambda: patiently(all_registered), seconds, "all clusters work")

    def lines(self) -> list[int]:
        """Return how many lines each has logged."""
        return [process.log().count("\n") for process in self.started]

    def stop(self, group: bool = False) -> list[str]:
        """Stop them with SIGTERM; return what was wrong with their ends."""
        return drain(self.running, group)


def drain(processes: list[Process], group: bool = False) -> list[str]:
    """Send SIGTERM to all; return what was wrong: too slow, an exit code, orphans, or dead before."""
    problems = [
        f"cluster {process.pid} had ended by itself, exit code {process.child.returncode}"
        for process in processes
        if process.child.poll() is not None
    ]
    alive = [process for process in processes if process.child.poll() is None]
    began = time.monotonic()
    for process in alive:
        process.send(signal.SIGTERM, group)
    for process in alive:
        try:
            process.wait(max(0.0, began + GRACE + 3 - time.monotonic()))
        except subprocess.TimeoutExpired:
            problems.append(f"cluster {process.pid} had not ended {GRACE + 3} s after SIGTERM")
            continue
        if process.child.returncode:
            problems.append(f"cluster {process.pid} ended with exit code {process.child.returncode}")
        if orphans := group_members(process.pid):
            problems.append(f"cluster {process.pid} left orphans: {orphans}")
    return problems


class Producers:
    """A context with processes that enqueue `total` tasks in so many seconds; some of their transactions roll back."""

    COUNT = 2

    def __init__(self, home: Path, total: int, seconds: float) -> None:
        arguments = (str(total // self.COUNT), str(seconds))
        self.processes = [
            Process(
                home / f"producer-{number}.log", sys.executable, "-m", "tests.chaos.producer", str(number), *arguments
            )
            for number in range(self.COUNT)
        ]

    def __enter__(self) -> Producers:
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.stop()

    def are_running(self) -> bool:
        return any(process.child.poll() is None for process in self.processes)

    def committed(self) -> int:
        """Return how many tasks they enqueued, once they have ended."""
        for process in self.processes:
            assert process.wait() == 0, f"a producer failed: {process.log()[-500:]}"
        return sum(int(process.log().split()[-1]) for process in self.processes)
