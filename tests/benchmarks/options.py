"""What can be asked of a run, in both of its processes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

Figures = dict[str, float]
"""What one repeat of a measure found: the name of each figure, its unit included, and its value."""

MEASURES = {
    "drain": "a backlog of no-op tasks",
    "pickup": "from the commit of an enqueue to the first line of the task, at 10, 100 and 300 tasks/s",
    "idle": "CPU and memory of a cluster without work",
    "enqueue": "one enqueue beside one plain INSERT",
    "bulk": "enqueue_many of 10,000 tasks",
    "signup": "a signup with and without its task",
    "flat": "rate and pickup beside 100,000 rows in the way; with --large also beside millions, and by kind",
    "schedules": "how late due times are settled, what 10,000 cost that are not due; only if it is named",
    "scaling": "two clusters of two workers beside one of four; PostgreSQL only",
    "prune": "expired tasks, with signups going on beside it; --rows, with --large 5,000,000; only if it is named",
    "accounts": "an attack of 50 logins/s on one account, beside others; --large: and 1,000,000 users; only if named",
    "profile": "where the time of a drain goes, by process, with py-spy; only if it is named",
}
DATABASES = ("SQLite", "PostgreSQL")


@dataclass
class Options:
    """The arguments."""

    measures: list[str]
    database: str | None
    tasks: int
    rows: int
    workers: int
    repeats: int | None
    large: bool
    quick: bool


def parse(arguments: list[str]) -> Options:
    """Return the options, or leave with a usage."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="measures:\n" + "\n".join(f"  {name:<9} {what}" for name, what in MEASURES.items()),
    )
    parser.add_argument(
        "measures", nargs="*", metavar="MEASURE", help="default: all but schedules, prune, accounts and profile"
    )
    parser.add_argument("--database", choices=DATABASES, help="default: both")
    parser.add_argument("--tasks", type=int, help="tasks of a drain; default: 20000")
    parser.add_argument("--rows", type=int, help="expired rows of a prune; default: 200000")
    parser.add_argument("--workers", type=int, default=2, help="worker processes; default: 2")
    parser.add_argument("--repeats", type=int, help="default: 3 where a repeat is short, otherwise 1")
    parser.add_argument(
        "--large",
        action="store_true",
        help="flat: also what takes minutes to fill, and each kind of rows by itself; prune: 5,000,000 rows; accounts: "
        "also beside 1,000,000 users",
    )
    parser.add_argument("--quick", action="store_true", help="small numbers: shows only that everything works")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.measures if name not in MEASURES]:
        parser.error(f"there is no measure {', '.join(unknown)}. Known: {', '.join(MEASURES)}.")
    given.measures = given.measures or [
        name for name in MEASURES if name not in ("schedules", "prune", "accounts", "profile")
    ]
    given.tasks = given.tasks or (200 if given.quick else 20_000)
    given.rows = given.rows or (2_000 if given.quick else 5_000_000 if given.large else 200_000)
    given.repeats = given.repeats or (1 if given.quick else None)
    return Options(**vars(given))
