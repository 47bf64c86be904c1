"""What Linux tells in /proc: CPU time by process, memory, what else runs; and what machine this is."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

from tests.processes import children

TICK = 1 / os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def cpu_seconds(pid: int, ended_children: bool = False) -> float:
    """Return the CPU time of a process, if asked with that of its children that ended; 0 if it is gone itself."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()  # from the third on
    except OSError:
        return 0.0
    return sum(map(int, fields[11 : 15 if ended_children else 13])) * TICK


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    return [pid, *(member for child in children(pid) for member in tree(child))]


def server_cpu_seconds(postmaster: int) -> float:
    """Return the CPU time of a PostgreSQL server: its own, of those that serve, and of those that have ended."""
    return cpu_seconds(postmaster, ended_children=True) + sum(map(cpu_seconds, children(postmaster)))


def pss_megabytes(pids: Iterable[int]) -> float:
    """Return the memory of processes, where what several share counts once."""
    total = 0
    for pid in pids:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def others_percent(seconds: float = 0.3) -> float:
    """Return how busy the machine is while this run does nothing: figures from a busy machine are noise."""

    def busy() -> int:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(
            int, (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
        )
        return user + nice + system + irq + softirq + steal

    before, began = busy(), time.monotonic()
    time.sleep(seconds)  # this is the measure
    return 100 * (busy() - before) * TICK / (time.monotonic() - began) / (os.cpu_count() or 1)


def file_system(path: Path) -> str:
    """Return the type of the file system that a path is on."""
    mounts = [line.split()[1:3] for line in (PROC / "self/mounts").read_text().splitlines()]
    holders = [(len(where), kind) for where, kind in mounts if path.resolve().is_relative_to(where)]
    return max(holders)[1]


def facts() -> dict[str, str]:
    """Return what a figure depends on."""
    models = [line for line in (PROC / "cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = int((PROC / "meminfo").read_text().split()[1]) / 2**20
    return {
        "cores": str(os.cpu_count()),
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }
