"""`manage.py example NAME`: enqueue one of the examples and say where to look."""

from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand
from django.db import transaction

from examples import tasks

send_note: Any = tasks.send_note  # Any: the type that Django's decorator returns has no enqueue_many

EXAMPLES: dict[str, Callable[[], Iterable[Any]]] = {
    "visits": lambda: [tasks.count_visit.enqueue("home")],
    "cache": lambda: [tasks.price_in_euros.enqueue(dollars) for dollars in (10, 20, 30)],
    "process": lambda: [tasks.count_time_zones.enqueue(region) for region in ("Africa", "America", "Europe")],
    "mails": lambda: send_note.enqueue_many([("reader@example.com", number) for number in range(1, 101)]),
    "retry": lambda: [tasks.fetch_page.enqueue("http://127.0.0.1:9/")],  # where nobody answers
    "discard": lambda: [tasks.fetch_page.enqueue(f"{settings.SITE_URL}/nowhere/")],
    "periodic": lambda: [tasks.sum_visits.enqueue()],
    "progress": lambda: [tasks.write_report.enqueue(600)],
}


class Command(BaseCommand):
    """What it enqueues is run by the cluster, as any task."""

    help = "Enqueue one of the examples of docs/background-work.md."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add NAME."""
        parser.add_argument("name", choices=EXAMPLES)

    def handle(self, *args: Any, **options: Any) -> None:
        """Enqueue it; print each task's address, or that of the list if there are many."""
        with transaction.atomic():
            results = list(EXAMPLES[options["name"]]())
        admin = f"{settings.SITE_URL}/admin/tasks/task/"
        for result in results[:3]:
            self.stdout.write(f"task {result.id}: {admin}{result.id}/change/")
        if len(results) > 3:
            self.stdout.write(f"and {len(results) - 3} more: {admin}")
