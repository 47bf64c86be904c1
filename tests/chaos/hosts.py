"""Several hosts: clusters in network namespaces of their own, one of which is cut off from the database."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from typing import Any

from tasks.models import Cluster, Task, TaskError
from tests.chaos.clusters import Clusters
from tests.chaos.databases import need, need_root
from tests.chaos.measures import Backlog, judge, left
from tests.chaos.stage import LEASE, Stage
from tests.processes import until
from tests.work import tasks as work

NOBODY = "02:00:00:00:00:01"
"""A link address that no interface has: frames to it vanish, without a word to the sender."""


class Host:
    """A network namespace with a cable to this machine. A context: it ends with both removed.

    Names and addresses come from the process id, so that two runs do not meet; 198.18.0.0/15 is for tests of networks.
    """

    def __init__(self, number: int) -> None:
        self.name = f"chaos{os.getpid()}-{number}"
        self.here, self.there = f"c{os.getpid()}h{number}", f"c{os.getpid()}n{number}"
        first = 4 * (2 * os.getpid() % 32_000 + number)
        self.database_address, self.address = (
            f"198.{18 + first // 65536}.{first // 256 % 256}.{first % 256 + n}" for n in (1, 2)
        )
        self.prefix = (need("ip", "iproute2"), "netns", "exec", self.name)

    def __enter__(self) -> Host:
        need_root("a network namespace")
        self.remove()
        try:
            ip("netns", "add", self.name)
            ip("link", "add", self.here, "type", "veth", "peer", "name", self.there, "netns", self.name)
            ip("address", "add", f"{self.database_address}/30", "dev", self.here)
            ip("link", "set", self.here, "up")
            ip("-n", self.name, "address", "add", f"{self.address}/30", "dev", self.there)
            ip("-n", self.name, "link", "set", self.there, "up")
            ip("-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove what there is of it."""
        for arguments in (("link", "delete", self.here), ("netns", "delete", self.name)):
            subprocess.run([need("ip", "iproute2"), *arguments], capture_output=True)

    def cut(self) -> None:
        """Let all frames between the host and the database vanish; no connection is reset."""
        ip("neighbour", "replace", self.address, "lladdr", NOBODY, "nud", "permanent", "dev", self.here)
        ip(
            "-n",
            self.name,
            "neighbour",
            "replace",
            self.database_address,
            "lladdr",
            NOBODY,
            "nud",
            "permanent",
            "dev",
            self.there,
        )

    def reconnect(self) -> None:
        ip("neighbour", "delete", self.address, "dev", self.here)
        ip("-n", self.name, "neighbour", "delete", self.database_address, "dev", self.there)


def ip(*arguments: str) -> None:
    done = subprocess.run([need("ip", "iproute2"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"


def hosts(stage: Stage) -> dict[str, Any]:
    """A host is cut off for longer than its lease, with tasks running; they finish there and on the other host."""
    gate = str(stage.home / "gate")
    return cut_off(stage, [(work.hold, (gate,)), (work.hold, (gate,))])


def hosts_atomic(stage: Stage) -> dict[str, Any]:
    """The same, and one of the tasks is in a transaction that holds the lock of its own row."""
    gate = str(stage.home / "gate")
    return cut_off(stage, [(work.hold, (gate,)), (work.hold_in_a_transaction, (gate, "held"))])


def cut_off(stage: Stage, tasks: list[tuple[Any, tuple[str, ...]]]) -> dict[str, Any]:
    """Cut a host off from the database while it runs these tasks; connect it again when another has finished them."""
    backlog = Backlog(2)
    gate = stage.home / "gate"
    gate.touch()
    with ExitStack() as stack:
        first, second = (stack.enter_context(Host(number)) for number in (0, 1))
        stage.postgres.listen([first.database_address, second.database_address])
        clusters = stack.enter_context(Clusters(stage.home, 0))

        def start(host: Host) -> str:
            url = stage.postgres.url.replace("127.0.0.1", host.database_address)
            pid = clusters.start(prefix=host.prefix, environment={"DATABASE_URL": url}).pid
            clusters.wait_until_they_work()
            return str(Cluster.objects.get(pid=pid).pk.hex[:8])

        one = start(first)
        held = [function.enqueue(*arguments) for function, arguments in tasks]
        rows = Task.objects.filter(pk__in=[result.id for result in held])

        def all_in(**state: Any) -> bool:
            return rows.filter(**state).count() == len(held)

        until(lambda: all_in(status="RUNNING", attempts=1), 20, "the tasks run on the first host")
        other = start(second)
        first.cut()
        began = time.monotonic()
        backlog.add(200)
        until(lambda: all_in(status="RUNNING", attempts=2), 6 * LEASE, "the tasks run on the second host")
        gate.unlink()
        until(lambda: all_in(status="SUCCESSFUL"), 20, "the second host has finished the tasks")
        until(lambda: left() == 0, 20, "the second host has finished all")
        stood = list(rows.order_by("pk").values())
        until(lambda: time.monotonic() > began + LEASE + 1, LEASE + 2, "the lease of the first host is over")
        away = time.monotonic() - began
        first.reconnect()
        backlog.add(400)
        superseded = TaskError.objects.filter(kind="superseded", task__in=rows, worker_id__endswith=one)
        until(lambda: superseded.count() == len(held), 30, "the late outcomes are refused")
        until(lambda: left() == 0, 30, "all tasks finish")
        seen = {
            ids[-1].rpartition(":")[2]
            for ids in Task.objects.order_by("-pk").values_list("worker_ids", flat=True)[:400]
        }
        stage.check(seen == {one, other}, f"after the reconnection tasks finished in {seen}, not in both {one, other}")
        now = list(rows.order_by("pk").values())
        stage.check(now == stood, f"a late outcome changed a row: {stood} became {now}")
        stage.problems += clusters.stop()
    return judge(stage, backlog.accepted + len(held), away=round(away, 1))
