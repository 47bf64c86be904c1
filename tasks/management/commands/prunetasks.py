"""`manage.py prunetasks`: delete finished tasks whose retention is over."""

from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand
from django.db.models import Count, Min

from tasks.cleanup import prune_tasks
from tasks.models import Task


class Command(BaseCommand):
    """Deletes what `Task.objects.expired()` returns; the counts of finished tasks stay."""

    help = "Delete finished tasks whose retention is over. They stay counted in taskstats and tasksaudit."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --dry-run."""
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Say or do."""
        if not options["dry_run"]:
            self.stdout.write(f"{prune_tasks()} tasks pruned.")
            return
        rows = Task.objects.expired().values("queue_name", "status").order_by("queue_name", "status")
        for row in rows.annotate(count=Count("pk"), oldest=Min("finished_at")):
            self.stdout.write(
                f"{row['queue_name']:<16}{row['status']:<12}{row['count']:>8} to go, "
                f"the oldest finished {row['oldest']:%Y-%m-%d %H:%M %Z}"
            )
        if not rows:
            self.stdout.write("Nothing to go.")
