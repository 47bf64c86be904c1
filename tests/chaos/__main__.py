"""Run scenarios and print their table: `python -m tests.chaos [SCENARIO ...] [--tasks N] [--database NAME]`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

from tests.chaos.databases import PostgreSQL, SQLite
from tests.processes import ROOT

SCENARIOS: dict[str, list[type[SQLite | PostgreSQL]]] = {
    "conservation": [SQLite, PostgreSQL],
    "restart": [PostgreSQL],
    "backends": [PostgreSQL],
    "connections": [PostgreSQL],
    "locked": [SQLite],
    "cluster": [SQLite, PostgreSQL],
    "kills": [SQLite, PostgreSQL],
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], help="default: all")
    parser.add_argument("--tasks", type=int, default=10_000, help="how many tasks a scenario enqueues")
    parser.add_argument("--database", choices=["SQLite", "PostgreSQL"], help="default: both")
    options = parser.parse_args()
    rows = []
    for name in options.scenarios or list(SCENARIOS):
        for kind in SCENARIOS[name]:
            if options.database in (None, kind.name):
                rows.append(run(name, kind, options.tasks))
                print(json.dumps(rows[-1]), flush=True)
    columns = [
        "scenario",
        "database",
        "accepted",
        "successful",
        "failed",
        "lost",
        "repeated",
        "kills",
        "recovery",
        "verdict",
    ]
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row.get(column, "")) for column in columns) + " |")
    bad = [row for row in rows if row["verdict"] != "ok"]
    print(f"\n{len(rows) - len(bad)} passed, {len(bad)} failed")
    return 1 if bad else 0


def run(name: str, kind: type[SQLite | PostgreSQL], tasks: int) -> dict:
    """Run one scenario in a process of its own, since Django reads its settings once; return its row of the table."""
    database = kind()
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database.url,
        "CHAOS_DATA": str(getattr(database, "data", "")),
        "CHAOS_PORT": str(getattr(database, "port", "")),
        "PYTHONWARNINGS": "ignore",
        "LOG_LEVEL": "WARNING",
        "TASKS_LEASE": "5",
        "TASKS_SHUTDOWN_GRACE": "5",
    }
    log = database.directory / "scenario.log"
    try:
        with log.open("wb") as errors:
            done = subprocess.run(
                [sys.executable, "-m", "tests.chaos.scenarios", name, str(tasks)],
                cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, timeout=1500,
            )  # fmt: skip
        row = json.loads(done.stdout.decode().strip().splitlines()[-1]) if done.stdout else {"verdict": "no answer"}
        if row["verdict"] != "ok":
            print(log.read_text()[-6000:], file=sys.stderr)
    finally:
        if os.environ.get("CHAOS_KEEP"):
            print(f"kept: {database.directory}", file=sys.stderr)
        else:
            database.remove()
    return {"scenario": name, "database": kind.name, **row}


sys.exit(main())
