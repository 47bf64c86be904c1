"""`manage.py taskstats`: how many tasks there are, queue by queue, and which clusters live."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand

from tasks.metrics import stats


class Command(BaseCommand):
    """Prints `tasks.metrics.stats`, as tables or as JSON."""

    help = "Show counts of tasks, the latency of queues, and clusters."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --json."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print."""
        figures = stats()
        if options["json"]:
            self.stdout.write(json.dumps(figures))
            return
        self.stdout.write("  ".join(f"{status} {count}" for status, count in figures["tasks"].items()))
        self.stdout.write(f"\n{'queue':<16}{'size':>8}{'scheduled':>11}{'running':>9}{'latency':>11}")
        for name, queue in figures["queues"].items():
            paused = "  paused" if queue["paused"] else ""
            self.stdout.write(
                f"{name:<16}{queue['size']:>8}{queue['scheduled']:>11}{queue['running']:>9}"
                f"{queue['latency']:>9.1f} s{paused}"
            )
        if not figures["clusters"]:
            self.stdout.write("\nNo cluster is running. Start one: manage.py qcluster")
            return
        self.stdout.write(f"\n{'cluster':<32}{'pid':>8}{'workers':>9}{'heartbeat':>12}")
        for cluster in figures["clusters"]:
            self.stdout.write(
                f"{cluster['host']:<32}{cluster['pid']:>8}{cluster['workers']:>9}{cluster['heartbeat_age']:>8.1f} s ago"
            )
