"""Run scenarios and print their table: `python -m tests.chaos [SCENARIO ...] [--short] [--database NAME] [--keep]`."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from typing import Any

from tests.chaos.databases import KINDS
from tests.chaos.scenarios import SCENARIOS
from tests.processes import ROOT

COLUMNS = [
    *("scenario", "database", "accepted", "successful", "failed", "lost", "repeated", "superseded", "kills"),
    *("recovery", "silence", "ready", "lines", "seconds", "verdict"),
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"default: all of {', '.join(SCENARIOS)}")
    parser.add_argument("--short", action="store_true", help="less of each; by default what is quick, within 4 minutes")
    parser.add_argument("--database", choices=KINDS, help="default: both")
    parser.add_argument("--keep", action="store_true", help="keep the directories of databases and logs")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit("terminated"))
    rows = []
    for scenario in map(SCENARIOS.__getitem__, options.scenarios or SCENARIOS):
        kinds = scenario.short if options.short and not options.scenarios else scenario.databases
        for kind in kinds:
            if options.database in (None, kind):
                rows.append({"scenario": scenario.name, "database": kind, **run(scenario.name, kind, options)})
                print(json.dumps(rows[-1]), flush=True)
    print_table(rows)
    failed = sum(not row["passed"] for row in rows)
    print(f"\n{len(rows) - failed} passed, {failed} failed")
    return 1 if failed or not rows else 0


def run(name: str, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one scenario; return its row. What it says on stderr is shown if it failed."""
    flags = [f"--{flag}" for flag in ("short", "keep") if getattr(options, flag)]
    command = [sys.executable, "-m", "tests.chaos.run", name, kind, *flags]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said, errors = child.communicate(timeout=SCENARIOS[name].deadline + 60)  # its own deadline comes first
    except BaseException as error:
        child.terminate()  # it stops and removes what it has started
        said, errors = child.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
    try:
        row = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        row = {"passed": False, "verdict": f"no answer, exit code {child.returncode}"}
    if not row["passed"] or options.keep:
        print(errors, file=sys.stderr, flush=True)
    return row


def print_table(rows: list[dict[str, Any]]) -> None:
    cells = [COLUMNS, *([str(row.get(column, "")) for column in COLUMNS] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(COLUMNS) - 1)]
    print()
    for number, line in enumerate(cells):
        padded = [cell.ljust(width) for cell, width in zip(line, [*widths, 0], strict=True)]
        print("| " + " | ".join(padded) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|---|")


if __name__ == "__main__":
    sys.exit(main())
