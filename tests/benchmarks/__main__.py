"""`python -m tests.benchmarks [MEASURE ...]`: run measures on each database, print one table. `--help` lists them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks import machine, report
from tests.benchmarks.options import DATABASES, parse
from tests.chaos.databases import PostgreSQL, SQLite, path_of
from tests.processes import ROOT


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    report.DIRECTORY.mkdir(parents=True, exist_ok=True)
    names = [options.database] if options.database else list(DATABASES)
    directories = {"SQLite": report.DIRECTORY, "PostgreSQL": Path("/var/tmp")}  # of which neither is in memory
    for name in names:
        if machine.file_system(directories[name]) == "tmpfs":
            sys.exit(f"error: {directories[name]} is in memory (tmpfs); figures of {name} would mean nothing.")
    facts = machine.facts() | {name: version(name) for name in ("Django", "django-q2", "django-tasks", "psycopg")}
    facts |= {"SQLite": sqlite3.sqlite_version, "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}
    results = report.Results("own", facts)
    for name in names:
        with database(name, directories[name]) as environment:
            results.facts[f"{name} on"] = machine.file_system(directories[name])
            results.facts |= {"PostgreSQL": environment["BENCH_SERVER"]} if name == "PostgreSQL" else {}
            for row in rows(name, arguments, environment):
                results.add(row)
    results.print([name for name in DATABASES if name in names])
    return 1 if any("error" in row or "troubles" in row for row in results.rows) else 0


class Server(PostgreSQL):
    """The server of the chaos scenarios, with the write-ahead log that it comes with in place of a small one."""

    def _run(self, program: str, *arguments: object, check: bool = True) -> int:
        as_it_comes = [argument for argument in arguments if not str(argument).startswith("--wal-segsize")]
        return super()._run(program, *as_it_comes, check=check)

    def configure(self, **settings: object) -> None:
        super().configure(**{name: value for name, value in settings.items() if not name.endswith("_wal_size")})

    def environment_of_a_run(self) -> dict[str, str]:
        version = subprocess.run([path_of("postgres"), "--version"], capture_output=True, text=True, check=True)
        return {
            "BENCH_POSTMASTER": (self.data / "postmaster.pid").read_text().split()[0],
            "BENCH_SERVER_LOG": str(self.logs / "server.log"),
            "BENCH_SERVER": version.stdout.split()[2],
        }


@contextmanager
def database(name: str, directory: Path) -> Iterator[dict[str, str]]:
    """Make a database of its own there; yield the environment of those that use it; remove it."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as home:
        made = SQLite(Path(home)) if name == "SQLite" else Server(Path(home))
        try:
            made.create()
            yield {"DATABASE_URL": made.url} | (made.environment_of_a_run() if isinstance(made, Server) else {})
        finally:
            made.remove()


def rows(name: str, arguments: list[str], environment: dict[str, str]) -> Iterator[dict]:
    """Run the measures in a process of their own; yield what each repeat found."""
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else str(report.DIRECTORY)
    with tempfile.NamedTemporaryFile(prefix="bench-", dir=shared) as page:
        settings = {"DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings", "BENCH_PAGE": page.name}
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.run", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **settings, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout
        with child:
            for line in child.stdout:
                row = {"database": name} | json.loads(line)
                print(f"{name}: {line.strip()}", file=sys.stderr, flush=True)
                yield row
        if child.returncode:
            yield {"database": name, "measure": "all", "error": f"exit code {child.returncode}"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
