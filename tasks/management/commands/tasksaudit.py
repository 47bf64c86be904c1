"""`manage.py tasksaudit`: check the laws that every task obeys."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand

from tasks.audit import audit


class Command(BaseCommand):
    """Prints `tasks.audit.audit`; exits with 1 if a law is broken."""

    help = "Check that no task is lost, doubled or stuck. Exits with 1 and names the rows if one is."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --json."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check and print."""
        found = audit()
        if options["json"]:
            self.stdout.write(json.dumps(found))
        else:
            self.stdout.write(
                "accepted {accepted} = waiting {waiting} + leased {leased} + ended {ended} + pruned {pruned}".format(
                    **found
                )
            )
            for name, law in found["laws"].items():
                verdict = (
                    f"BROKEN by {law['broken']} tasks: {', '.join(map(str, law['tasks']))}" if law["broken"] else "ok"
                )
                self.stdout.write(f"{name + ':':<24}{verdict}   ({law['text']})")
        if not found["ok"]:
            sys.exit(1)
