"""What the measures share: an empty database, clusters as they are shipped, rows to work on, the end of a drain.

While tasks run nobody asks the database how far they are: the shared page shows it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connection, connections
from django.db.models import Count, Max, Sum

from tasks.models import Cluster, Task
from tests.benchmarks import machine
from tests.benchmarks.page import page
from tests.benchmarks.report import logs
from tests.benchmarks.tasks import noop
from tests.processes import Process, children, until

POSTMASTER = int(os.environ.get("BENCH_POSTMASTER", "0"))
SERVER_LOG = os.environ.get("BENCH_SERVER_LOG", "")

CHUNK = 500_000
"""Rows of one transaction of `copies`."""


def migrate() -> None:
    """Make the tables, and keep what they are when they are empty."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    if connection.vendor == "sqlite":
        _settle_sqlite()
        connections.close_all()
        shutil.copy(_file(), f"{_file()}.empty")


def fresh() -> None:
    """Empty the database, so that no measure pays for the rows of the one before."""
    page().clear()
    if connection.vendor == "sqlite":
        connections.close_all()
        for suffix in ("-wal", "-shm"):
            Path(f"{_file()}{suffix}").unlink(missing_ok=True)
        shutil.copy(f"{_file()}.empty", _file())
        return
    tables = set(connection.introspection.django_table_names(only_existing=True)) - {"django_migrations"}
    _execute(f"TRUNCATE {', '.join(sorted(tables))} RESTART IDENTITY CASCADE")
    settle()


def settle() -> None:
    """Do what the database would do soon anyway, so that it does not while something is measured."""
    if connection.vendor == "sqlite":
        _settle_sqlite()
    else:
        _execute("VACUUM ANALYZE tasks_task")
        _execute("CHECKPOINT")


def fill(count: int, first: int = 0, **options: Any) -> None:
    """Enqueue so many tasks, numbered from `first`."""
    function = noop.using(**options) if options else noop
    function.enqueue_many([(number,) for number in range(first, first + count)])  # type: ignore[attr-defined]  # ours


def copies(row: Task, count: int, first: int = 0, spread: str = "") -> None:
    """Insert the row so many times by SQL, for numbers at which the public interface would take long.

    `spread`: the name of a time that is a millisecond earlier in each row than in the one before.
    """
    row.save()
    columns = [str(column.column) for column in Task._meta.local_concrete_fields if not column.primary_key]
    if connection.vendor == "sqlite":
        numbers = "WITH RECURSIVE s(n) AS (SELECT %s UNION ALL SELECT n + 1 FROM s WHERE n + 1 < %s)"
        source, argument = "s", "'[' || s.n || ']'"
        earlier = f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', {spread}, '-' || (s.n / 1000.0) || ' seconds')"
    else:
        numbers, source, argument = "", "generate_series(%s, %s - 1) AS s(n)", "jsonb_build_array(s.n)"
        earlier = f"{spread} - s.n * interval '1 millisecond'"
    changed = {"args": argument} | ({spread: earlier} if spread else {})
    values = [changed.get(column, f"tasks_task.{column}") for column in columns]
    for start in range(first, first + count, CHUNK):
        _execute(
            f"{numbers} INSERT INTO tasks_task ({', '.join(columns)}) "
            f"SELECT {', '.join(values)} FROM {source}, tasks_task WHERE tasks_task.id = {row.pk}",
            [start, min(start + CHUNK, first + count)],
        )
    row.delete()


class Clusters:
    """So many `manage.py qcluster` on this database, in the settings that they are shipped with."""

    def __init__(self, count: int = 1, workers: int = 2) -> None:
        self.workers = workers
        command = [sys.executable, "manage.py", "qcluster", "--workers", str(workers)]
        self.processes = [
            Process(logs() / f"qcluster-{number}.log", *command, DJANGO_SETTINGS_MODULE="tests.benchmarks.settings")
            for number in range(count)
        ]

    def __enter__(self) -> Clusters:
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *_error: object) -> None:
        for process in self.processes:
            process.stop(30)

    def wait_until_ready(self) -> None:
        """Wait until each runs and has had a task or two, and leave nothing behind on the page."""
        pids = [process.pid for process in self.processes]
        until(lambda: Cluster.objects.filter(pid__in=pids).exclude(workers=[]).count() == len(pids), 30, "the clusters")
        warm = 4 * len(pids) * self.workers
        fill(warm)
        wait(warm)
        until_finished(warm)
        page().clear(warm)

    def roles(self) -> dict[int, str]:
        """Return what each process is, by the order in which the sentinel starts them."""
        names = {}
        for process in self.processes:
            names[process.pid] = "parent"
            for sentinel in children(process.pid):
                names[sentinel] = "sentinel"
                order = ["workers"] * self.workers + ["pusher", "housekeeper"]
                names |= dict(zip(children(sentinel), order, strict=False))
        return names

    def cpu(self) -> dict[int, float]:
        """Return the CPU time so far of each process, and of the server under 0."""
        server = machine.server_cpu_seconds(POSTMASTER) if POSTMASTER else 0.0
        return {0: server} | {pid: machine.cpu_seconds(pid) for pid in self.roles()}

    def cpu_since(self, before: dict[int, float]) -> dict[str, float]:
        """Return the CPU time since then by role."""
        names = self.roles() | ({0: "PostgreSQL"} if POSTMASTER else {})
        now = self.cpu()
        by_role: dict[str, float] = {}
        for pid, name in names.items():
            by_role[name] = by_role.get(name, 0.0) + now[pid] - before.get(pid, 0.0)
        return by_role


def wait(count: int, first: int = 0, seconds: float = 120) -> None:
    """Wait until so many tasks have started."""
    if not page().wait(count, first, seconds):
        started = sum(1 for start in page().starts(count, first) if start)
        raise AssertionError(f"{started} of {count} tasks have started in {seconds} s")


def until_finished(count: int) -> datetime:
    """Wait until all tasks are finished, which all have started; return when the last one was. Each ran once."""
    ours = Task.objects.filter(task_path=noop.module_path)  # the product prunes its tables meanwhile
    until(lambda: not ours.filter(finished_at__isnull=True).exists(), 60, "all finish")
    rows = ours.filter(status="SUCCESSFUL")
    found = rows.aggregate(count=Count("pk"), attempts=Sum("attempts"), last=Max("finished_at"))
    assert found["count"] == found["attempts"] == count, f"{found} of {count}"
    last: datetime = found["last"]
    return last


TROUBLE = ("ERROR", "CRITICAL", "FATAL:", "PANIC:")
EMPTYING = "canceling autovacuum task"
"""What PostgreSQL says when `fresh` empties a table that it was about to clean."""


class Troubles:
    """Errors in the logs since the last question: of clusters and, on PostgreSQL, of the server."""

    def __init__(self) -> None:
        self.read: dict[str, int] = {}
        self.lines()

    def lines(self) -> list[str]:
        """Return the new lines that tell of an error."""
        found = []
        for name in [*map(str, logs().glob("qcluster-*.log")), *filter(None, [SERVER_LOG])]:
            text = Path(name).read_text(errors="replace")
            new = text[self.read.get(name, 0) :].splitlines()
            self.read[name] = len(text)
            found += [line for line in new if any(word in line for word in TROUBLE) and EMPTYING not in line]
        return found


def size() -> int:
    """Return how many bytes the database takes."""
    if connection.vendor == "sqlite":
        return _file().stat().st_size
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


def _execute(sql: str, params: Sequence[Any] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def _settle_sqlite() -> None:
    _execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _file() -> Path:
    return Path(connection.settings_dict["NAME"])
