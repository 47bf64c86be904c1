"""`manage.py qcluster`: run a cluster of workers until it is told to stop."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError
from django_tasks import default_task_backend

from tasks.cluster import Cluster


class Command(BaseCommand):
    """Takes the place of django-q2's command of the same name."""

    help = "Run background tasks until SIGTERM or SIGINT, then finish what runs and exit."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --queues and --workers."""
        parser.add_argument("--queues", help="names, separated by commas; default: all in TASKS_QUEUES")
        parser.add_argument("--workers", type=int, help="worker processes; default: TASKS_WORKERS")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check the options, then run."""
        known = sorted(default_task_backend.queues)
        queues = known if options["queues"] is None else [name.strip() for name in options["queues"].split(",")]
        if unknown := sorted(set(queues) - set(known)):
            raise CommandError(
                f"--queues: there is no queue {', '.join(map(repr, unknown))}. Known: {', '.join(known)}."
            )
        workers = settings.TASKS_WORKERS if options["workers"] is None else options["workers"]
        if not 1 <= workers <= 256:
            raise CommandError(f"--workers is {workers}. Allowed: 1 to 256.")
        Cluster(queues, workers).run()
