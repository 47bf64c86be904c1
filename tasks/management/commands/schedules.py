"""`manage.py schedules`: when each schedule is due, and what became of its latest due time."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand

from tasks.metrics import schedules


class Command(BaseCommand):
    """Prints `tasks.metrics.schedules`, as text or as JSON."""

    help = "Show schedules: health, the next five due times, the latest tick."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --json."""
        parser.add_argument("--json", action="store_true", help="print one JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print."""
        rows = schedules()
        if options["json"]:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            times = f"{row['timing']}  {row['timezone']}{'  (overridden)' if row['is_overridden'] else ''}"
            self.stdout.write(f"{row['name']}\n  {times}  {row['health'].upper()}")
            if row["problem"]:
                self.stdout.write(f"  problem: {row['problem']}")
            self.stdout.write(f"  next: {', '.join(map(_short, row['next'])) or '-'}")
            last = row["last"]
            if last is None:
                self.stdout.write("  last: -")
                continue
            outcome = " ".join(filter(None, [last["outcome"], f"({last['reason']})" if last["reason"] else ""]))
            task = f", task {last['task']}" if last["task"] else ""
            self.stdout.write(f"  last: {_short(last['due_at'])} {outcome}, {last['lag']:.1f} s late{task}")
        if not rows:
            self.stdout.write("There is no schedule. Declare one with @schedule, or make one in the administration.")


def _short(time: str) -> str:
    """Return an ISO time without its T and its zone, which is UTC."""
    return time[:19].replace("T", " ")
