"""`manage.py prunetasks`: delete finished tasks whose retention is over."""

from argparse import ArgumentParser
from typing import Any

from tasks.management.commands import prune


class Command(prune.Command):
    """The same as `prune tasks`."""

    help = "Delete finished tasks whose retention is over. They stay counted in taskstats and tasksaudit."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --dry-run."""
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Say or do."""
        super().handle(table="tasks", dry_run=options["dry_run"], vacuum=False)
