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
        signal.alarm(0)  # the deadline of the scenario; let it not come in between
        for process in self.started:
            process.stop(GRACE + 3)

    def start(
        self, *arguments: str, prefix: tuple[str, ...] = (), environment: dict[str, str] | None = None
    ) -> Process:
        """Start one, by a command of its own if a prefix is given."""
        log = self.home / f"cluster-{len(self.started)}.log"
        command = [*prefix, sys.executable, "manage.py", "qcluster", "--workers", str(WORKERS), *arguments]
        process = Process(log, *command, **environment or {}).start()
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

    def stop(self) -> list[str]:
        """Stop them with SIGTERM; return what was wrong with their ends."""
        ends = [Drain(process) for process in self.running]
        return [problem for end in ends for problem in end.problems()]


class Drain:
    """The end of a cluster after SIGTERM, to its parent or to its whole group."""

    def __init__(self, process: Process, group: bool = False) -> None:
        self.process = process
        self.was_dead = process.child.poll() is not None
        self.began = time.monotonic()
        if not self.was_dead:
            process.send(signal.SIGTERM, group)

    def problems(self) -> list[str]:
        """Wait until it has ended; return what was wrong: dead before, too slow, an exit code, orphans."""
        pid = self.process.pid
        if self.was_dead:
            return [f"cluster {pid} had ended by itself, exit code {self.process.child.returncode}"]
        try:
            code = self.process.wait(max(0.0, self.began + GRACE + 3 - time.monotonic()))
        except subprocess.TimeoutExpired:
            return [f"cluster {pid} had not ended {GRACE + 3} s after SIGTERM"]
        problems = [f"cluster {pid} ended with exit code {code}"] if code else []
        if orphans := group_members(pid):
            problems.append(f"cluster {pid} left orphans: {orphans}")
        return problems


class Producers:
    """A context with processes that enqueue `total` tasks in so many seconds; some of their transactions roll back."""

    COUNT = 2

    def __init__(self, home: Path, total: int, seconds: float, **environment: str) -> None:
        command = (sys.executable, "-m", "tests.chaos.producer", str(total // self.COUNT), str(seconds))
        names = [f"producer-{len(list(home.glob('producer-*.log')))}{letter}" for letter in "ab"]
        self.processes = [Process(home / f"{name}.log", *command, name, **environment) for name in names]

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
