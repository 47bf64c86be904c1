"""One scenario in a process of its own, since Django reads its settings once: `python -m tests.chaos.run`.

Prints the row of the table as JSON; what went wrong, and what the clusters logged then, goes to stderr. Whatever
happens to the scenario, its deadline and SIGTERM included, everything that it started is stopped and removed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import django

from tests.chaos.databases import KINDS
from tests.chaos.scenarios import IN_MEMORY, SCENARIOS, Scenario
from tests.chaos.stage import GRACE, LEASE, Stage

SHOWN = 15
"""Last lines of each log that are shown of a scenario that failed."""


def perform(scenario: Scenario, stage: Stage) -> dict[str, Any]:
    """Create the database, set Django up, run the scenario; return its row."""
    try:
        stage.database.create()
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": stage.database.url,
            "PYTHONWARNINGS": "ignore",
            "LOG_LEVEL": "WARNING",
            "TASKS_LEASE": str(LEASE),
            "TASKS_SHUTDOWN_GRACE": str(GRACE),
            **scenario.environment,
        }
        django.setup()
        from django.core.management import call_command  # here, since it wants a Django that is set up

        call_command("migrate", run_syncdb=True, verbosity=0)
        module = importlib.import_module(f"tests.chaos.{scenario.module}")
        return getattr(module, scenario.name)(stage)
    finally:
        signal.alarm(0)
        stage.database.remove()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("database", choices=KINDS)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    scenario = SCENARIOS[options.scenario]

    def out_of_time(signum: int, frame: object) -> None:
        raise TimeoutError(f"it did not end within {scenario.deadline} s")

    def stop(signum: int, frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)  # nothing shall interrupt the clean-up
        sys.exit("stopped")

    signal.signal(signal.SIGALRM, out_of_time)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    signal.alarm(scenario.deadline)
    home = Path(tempfile.mkdtemp(prefix=f"chaos-{scenario.name}-"))
    home.chmod(0o755)  # PostgreSQL's user goes through it
    can_do_without = os.geteuid() != 0 and scenario.disk == IN_MEMORY
    database = KINDS[options.database](home, 0 if can_do_without else scenario.disk)
    stage = Stage(scenario.name, database, home, options.short)
    began = time.monotonic()
    try:
        row = perform(scenario, stage)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        row = {"verdict": "; ".join([*stage.problems, reason]), "passed": False}
    finally:
        logs = {log.name: log.read_text().splitlines()[-SHOWN:] for log in sorted(home.glob("[cps]*[0-9r].log"))}
        if not options.keep:
            shutil.rmtree(home, ignore_errors=True)
    for name, lines in logs.items():
        print(f"--- {name}", *lines, sep="\n", file=sys.stderr)
    if options.keep:
        print(f"kept: {home}", file=sys.stderr)
    print(json.dumps(row | {"seconds": round(time.monotonic() - began)}))


if __name__ == "__main__":
    main()
