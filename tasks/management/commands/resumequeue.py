"""`manage.py resumequeue`: let clusters claim from a paused queue again."""

from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand

from tasks.management.commands.pausequeue import known_queue
from tasks.models import Queue


class Command(BaseCommand):
    """The inverse of pausequeue."""

    help = "Resume a paused queue."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the queue."""
        parser.add_argument("queue")

    def handle(self, *args: Any, **options: Any) -> None:
        """Resume."""
        name = known_queue(options["queue"])
        was_paused = Queue.objects.resume(name)
        self.stdout.write(f"Queue {name} is resumed." if was_paused else f"Queue {name} was not paused.")
