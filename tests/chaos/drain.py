"""Drain: SIGTERM to clusters with all sorts of tasks. Each case has a queue and a cluster of its own; all at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from django.db import transaction

from tasks.models import Cluster, Task, TaskError
from tests.chaos.clusters import WORKERS, Clusters, Drain
from tests.chaos.measures import judge, left
from tests.chaos.scenarios import DRAIN_QUEUES
from tests.chaos.stage import GRACE, Stage
from tests.processes import Process, until
from tests.work import tasks as work

SHORTER = GRACE / 2
"""Seconds of a task that ends within the grace."""

QUICK, WAITING = 1000, 20
"""Tasks before those that sleep, so that the cluster claims ahead, and after them."""


@dataclass
class Case:
    """One cluster and its tasks: as many as it has workers, then perhaps some that wait."""

    tasks: str
    to: str
    queue: str
    gate: Path
    process: Process
    accepted: int = 0

    def __str__(self) -> str:
        return f"{self.tasks}, SIGTERM to the {self.to}"

    def enqueue(self, function: Any, *calls: tuple[Any, ...]) -> None:
        function.using(queue_name=self.queue).enqueue_many(calls)
        self.accepted += len(calls)

    def prepare(self) -> None:
        """Let the workers be busy."""
        gate = str(self.gate)
        self.gate.touch()
        match self.tasks:
            case "full claim":
                with transaction.atomic():
                    self.enqueue(work.add, *[(number,) for number in range(QUICK)])
                    self.enqueue(work.sleep, *[(SHORTER,)] * WORKERS)
                    self.enqueue(work.add, *[(number,) for number in range(WAITING)])
            case "shorter":
                self.enqueue(work.sleep, *[(SHORTER,)] * WORKERS)
            case "longer":
                self.enqueue(work.hold, *[(gate,)] * WORKERS)
            case "stubborn":
                self.enqueue(work.hold_stubbornly, *[(gate,)] * WORKERS)
            case "checkpoints":
                self.enqueue(work.count_while_held, (gate, True), (gate, False))
        long = self.rows.filter(status="RUNNING").exclude(task_path=work.add.module_path)
        until(lambda: long.count() == WORKERS, 20, f"{self}: all workers are busy")
        if self.tasks == "checkpoints":
            until(lambda: not self.rows.filter(checkpoint=None).exists(), 20, f"{self}: checkpoints are kept")
        if self.tasks == "full claim":
            claimed = self.rows.filter(status="READY", lease_id__isnull=False)
            until(lambda: claimed.count() >= WORKERS, 20, f"{self}: tasks are claimed")

    @property
    def rows(self) -> Any:
        return Task.objects.filter(queue_name=self.queue).order_by("pk")

    def problems(self) -> list[str]:
        """Return what is wrong with the rows once the cluster has ended."""
        again = ("READY", 0, 0, ["interrupted"])
        cases: dict[str, list[Any]] = {
            "shorter": [("SUCCESSFUL", 1, 1, [])] * WORKERS,
            "longer": [again] * WORKERS,
            "stubborn": [again] * WORKERS,
            "checkpoints": [("READY", 0, 0, []), again],
            "full claim": [("SUCCESSFUL", 1, 1, [])] * (QUICK + WORKERS) + [("READY", 0, 0, [])] * WAITING,
        }
        expected, found = cases[self.tasks], []
        for row in self.rows:
            kinds = list(TaskError.objects.filter(task=row).values_list("kind", flat=True))
            found.append((row.status, row.attempts, len(row.worker_ids), kinds))
        problems = []
        different = [(got, want) for got, want in zip_longest(found, expected) if got != want]
        if different:
            counted = f"{len(different)} of {len(expected)} rows are wrong"
            problems.append(f"{counted}: (status, attempts, workers, errors) is, should be: {different[:3]}")
        if leased := self.rows.filter(lease_id__isnull=False).count():
            problems.append(f"{leased} tasks are still leased")
        if Cluster.objects.filter(pid=self.process.pid).exists():
            problems.append("the cluster did not sign off")
        return [f"{self}: {problem}" for problem in problems]


def drain(stage: Stage) -> dict[str, Any]:
    """Each sort of tasks, and SIGTERM to the parent or to the whole group; then the database away meanwhile."""
    queues = DRAIN_QUEUES.split(",")
    sorts = [
        (tasks, to)
        for tasks in ("shorter", "longer", "stubborn", "checkpoints", "full claim")
        for to in ("parent", "group")
    ]
    with Clusters(stage.home, 0) as clusters:
        cases = [
            Case(tasks, to, queue, stage.home / f"gate-{queue}", clusters.start("--queues", queue))
            for (tasks, to), queue in zip(sorts, queues, strict=False)
        ]
        clusters.wait_until_they_work()
        drains = []
        for case in cases:
            case.prepare()
            drains.append(Drain(case.process, case.to == "group"))
        for case, end in zip(cases, drains, strict=True):
            stage.problems += [f"{case}: {problem}" for problem in end.problems()]
        for case in cases:
            stage.problems += case.problems()
            case.gate.unlink()
        kept = dict(Task.objects.filter(checkpoint__isnull=False).values_list("pk", "checkpoint"))
        clusters.running.clear()
        clusters.start("--queues", ",".join(queues))
        until(lambda: left() == 0, 60, "another cluster finishes all")
        returned: list[tuple[int, Any]] = list(Task.objects.filter(pk__in=kept).values_list("pk", "return_value"))
        began = {pk: value[0] for pk, value in returned}
        stage.check(began == kept, f"checkpoints were {kept}, the next attempts began at {began}")
        if not stage.is_short:
            cases.append(while_the_database_is_away(stage, clusters, queues))
        stage.problems += clusters.stop()
    return judge(stage, sum(case.accepted for case in cases))


def while_the_database_is_away(stage: Stage, clusters: Clusters, queues: list[str]) -> Case:
    """A cluster that runs tasks is told to end while it cannot write: it does, in time; another finishes them."""
    case = Case("longer", "parent", queues[-1], stage.home / "gate-away", clusters.running.pop())
    case.prepare()
    with stage.database.away():
        problems = Drain(case.process).problems()
    stage.problems += [f"{case}, the database away: {problem}" for problem in problems]
    case.gate.unlink()
    clusters.start("--queues", ",".join(queues))
    until(lambda: left() == 0, 60, "another cluster finishes what was left")
    return case
