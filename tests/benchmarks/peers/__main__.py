"""`python -m tests.benchmarks.peers [MEASURE ...]`: the systems in turns, one table with ratios. `--help` says more."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from tests.benchmarks import machine, report
from tests.benchmarks.options import Figures
from tests.benchmarks.page import page
from tests.benchmarks.peers import systems
from tests.benchmarks.peers.systems import SYSTEMS, System
from tests.benchmarks.report import number, percentile, steady_rate
from tests.processes import Process, until

WARM = 10
IDLE = 30
RATES = {10: 100, 100: 500, 300: 900}
"""Tasks a second, and how many of them. At 10 a second every worker is idle when the task comes."""


def drain(system: System, options: argparse.Namespace) -> Figures:
    """A backlog, then the workers: from the first start until nothing is left."""
    count = options.tasks or system.tasks
    system.produce("fill", count)
    with running(system):
        assert page().wait_for_the_first(count), "no task starts"
        assert page().wait(count, seconds=120), "the tasks do not all start"
        until(lambda: system.count_left() == 0, 60, "nothing is left")
        ended = time.time()
    starts = page().starts(count)
    return {"drain tasks/s": count / (ended - min(starts)), "steady tasks/s": steady_rate(starts)}


def pickup(system: System, options: argparse.Namespace) -> Figures:
    """Single enqueues at a steady rate: from the return of the enqueue to the start."""
    figures: Figures = {}
    with running(system):
        warm_up(system)
        first = WARM
        for rate, count in RATES.items():
            count = 10 if options.quick else count
            committed = system.produce("pace", first, count, rate)
            assert page().wait(count, first), "the tasks do not all start"
            delays = [1000 * (start - at) for start, at in zip(page().starts(count, first), committed, strict=True)]
            figures |= {f"{rate}/s: p{share} ms": percentile(delays, share / 100) for share in (50, 95, 99)}
            first += count
    return figures


def enqueue(system: System, options: argparse.Namespace) -> Figures:
    """One enqueue after the other, in a process that does nothing else."""
    spent = system.produce("time", 20 if options.quick else 1000)
    return {"enqueue p50 ms": 1000 * statistics.median(spent)}


MEASURES: dict[str, Callable[[System, argparse.Namespace], Figures]] = {
    "drain": drain,
    "pickup": pickup,
    "enqueue": enqueue,
}


def idle(chosen: list[System], options: argparse.Namespace) -> Iterator[tuple[System, Figures]]:
    """All at once, since what is idle is in nobody's way: CPU time and memory of all processes of each."""
    seconds = 2 if options.quick else IDLE
    workers: dict[str, list[Process]] = {}
    try:
        for system in chosen:
            system.reset()
            workers[system.name] = [worker.start() for worker in system.workers()]
        time.sleep(5 if options.quick else 15)  # not all of them tell when they are ready
        trees = {name: [pid for one in of for pid in machine.tree(one.pid)] for name, of in workers.items()}
        before = {name: sum(map(machine.cpu_seconds, pids)) for name, pids in trees.items()}
        time.sleep(seconds)  # this is the measure
        for system in chosen:
            pids = trees[system.name]
            used = sum(map(machine.cpu_seconds, pids)) - before[system.name]
            yield system, {f"idle CPU s in {seconds} s": used, "memory MB (PSS)": machine.pss_megabytes(pids)}
    finally:
        stop([worker for of in workers.values() for worker in of])


@contextmanager
def running(system: System) -> Iterator[None]:
    """Have its workers run."""
    workers = [worker.start() for worker in system.workers()]
    try:
        yield
    finally:
        stop(workers)


def stop(workers: list[Process]) -> None:
    for worker in workers:
        worker.stop(10)


def warm_up(system: System) -> None:
    system.produce("fill", WARM)
    assert page().wait(WARM), "no task starts"
    time.sleep(1)  # not all of them tell when they are at rest again


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers")
    known = [*MEASURES, "idle"]
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"{', '.join(known)}; default: all")
    parser.add_argument("--systems", help=f"a part of the name: {', '.join(system.name for system in SYSTEMS)}")
    parser.add_argument("--tasks", type=int, help="tasks of a drain; default: some seconds of work for each system")
    parser.add_argument("--repeats", type=int, default=3, help="of each but idle; default: 3")
    parser.add_argument("--quick", action="store_true", help="small numbers: shows only that everything works")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.measures if name not in known]:
        parser.error(f"there is no measure {', '.join(unknown)}. Known: {', '.join(known)}.")
    options.measures = options.measures or known
    if options.quick:
        options.repeats, options.tasks = 1, options.tasks or 100
    parts = options.systems.split(",") if options.systems else [""]
    options.chosen = [
        system for system in SYSTEMS if system.kind == "steward" or any(part in system.name for part in parts)
    ]
    return options


def check_services() -> None:
    """Leave with one line if what this needs is not there."""
    if not systems.PEERS.exists():
        sys.exit("error: the other systems are not installed. Run: make bench-peers")
    try:
        with psycopg.connect(systems.POSTGRES_URL, connect_timeout=5):
            pass
    except psycopg.Error as error:
        reason = str(error).strip().split("\n")[0]
        sys.exit(f"error: PostgreSQL does not answer: {reason}. Set POSTGRES_URL, of a user who may make databases.")
    try:
        keys = systems.redis("DBSIZE")
    except OSError as error:
        sys.exit(f"error: Redis does not answer: {error}. Set REDIS_URL, for instance redis://127.0.0.1:6379/15.")
    if keys:
        sys.exit(f"error: database {systems.REDIS_URL.rpartition('/')[2]} of Redis holds {keys} keys. "
                 "It would be emptied: name an empty one in REDIS_URL.")  # fmt: skip


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    check_services()
    facts = machine.facts() | {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}
    results = report.Results("peers", facts)
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else str(report.DIRECTORY)
    with tempfile.NamedTemporaryFile(prefix="bench-", dir=shared) as file:
        os.environ["BENCH_PAGE"] = file.name
        try:
            for system in options.chosen:
                system.prepare()
                results.facts[system.package] = system.version()
            for row in measure(options):
                print(row, file=sys.stderr, flush=True)
                results.add(row)
        finally:
            for system in options.chosen:
                system.remove()
    for name in options.measures:
        print(f"\n{name}:\n\n{table([row for row in results.rows if row['measure'] == name], options.chosen)}\n")
    print(" · ".join(f"{name}: {value}" for name, value in results.facts.items()))
    print("\n".join(report.notes(results.rows, "system")))
    return 1 if any("error" in row for row in results.rows) else 0


def measure(options: argparse.Namespace) -> Iterator[dict]:
    """Go round the systems, repeat by repeat; yield what each measure found."""
    for name in [name for name in MEASURES if name in options.measures]:
        for repeat in range(1, options.repeats + 1):
            for system in options.chosen:
                row = {"measure": name, "system": system.name, "repeat": repeat}
                row["others_percent"] = machine.others_percent()
                system.reset()
                page().clear()
                try:
                    yield row | {"figures": MEASURES[name](system, options)}
                except Exception as error:
                    yield row | {"error": f"{type(error).__name__}: {error}"}
    if "idle" in options.measures:
        for system, figures in idle(options.chosen, options):
            yield {"measure": "idle", "system": system.name, "repeat": 1, "figures": figures}


def table(rows: list[dict], chosen: list[System]) -> str:
    """Return a line for each system: medians, and how many times this project's on the same store that is."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for figure, value in row.get("figures", {}).items():
            values.setdefault(figure, {}).setdefault(row["system"], []).append(value)
    lines = [f"| system | {' | '.join(values)} |", "|---|" + "---:|" * len(values)]
    for system in chosen:
        cells = [cell(of, system) for of in values.values()]
        lines.append(f"| {system.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(of: dict[str, list[float]], system: System) -> str:
    if system.name not in of:
        return ""
    text = report.summary(of[system.name])
    if system.kind == "steward" or not of.get(system.like) or not statistics.median(of[system.like]):
        return text
    return f"{text} · ×{number(statistics.median(of[system.name]) / statistics.median(of[system.like]))}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
