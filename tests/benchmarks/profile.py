"""Where the time of a drain goes, by process: py-spy looks at every process of a cluster a hundred times a second."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import stage
from tests.benchmarks.options import Figures, Options
from tests.benchmarks.page import page
from tests.benchmarks.report import DIRECTORY

SECONDS, TOP = 5, 12
OURS = re.compile(r"\((tasks|tests/benchmarks)/")


def profile(options: Options) -> Iterator[Figures]:
    """Wall-clock shares of each role: `in` a function itself, `below` one of ours (with all that it calls).

    The samples stay in var/bench/profile.raw, in the format that flame graphs are drawn from.
    """
    beside = Path(sys.executable).with_name("py-spy")
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        raise FileNotFoundError("py-spy is not installed: make .venv/development")
    samples = DIRECTORY / "profile.raw"
    stage.fresh()
    count = options.tasks if options.quick else max(options.tasks, 100_000)
    stage.fill(count)
    stage.settle()
    with stage.Clusters(workers=options.workers) as clusters:
        assert page().wait_for_the_first(100, 60), "no task starts"
        command = [program, "record", "--pid", str(clusters.processes[0].pid), "--subprocesses", "--idle", "--function"]
        command += ["--rate", "100", "--duration", str(1 if options.quick else SECONDS), "--format", "raw"]
        subprocess.run([*command, "--output", str(samples)], check=True, stdout=sys.stderr)
        roles = clusters.roles()
    yield shares(samples.read_text(), roles)


def shares(samples: str, roles: dict[int, str]) -> Figures:
    """Return the percent of the samples of each role that were in, and below, its most frequent functions."""
    totals: Counter[str] = Counter()
    inside: dict[str, Counter[str]] = {}
    for line in samples.splitlines():
        stack, _space, count = line.rpartition(" ")
        pids = re.findall(r"process (\d+)", stack)
        role = roles.get(int(pids[-1]), "other") if pids else "parent"
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";") if not frame.startswith("process ")]
        if not frames:
            continue
        totals[role] += int(count)
        here = inside.setdefault(role, Counter())
        here[f"in {frames[-1]}"] += int(count)
        for frame in {frame for frame in frames if OURS.search(frame)}:
            here[f"below {frame}"] += int(count)
    figures: Figures = {}
    for role, counter in inside.items():
        for kind in ("in", "below"):
            ranked = [(what, count) for what, count in counter.most_common() if what.startswith(f"{kind} ")]
            if kind == "below":  # what everything is below says nothing
                ranked = [(what, count) for what, count in ranked if count < 0.995 * totals[role]]
            figures |= {f"% of {role} {what}": 100 * count / totals[role] for what, count in ranked[:TOP]}
    return figures
