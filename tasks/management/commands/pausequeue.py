"""`manage.py pausequeue`: let clusters claim no more from a queue."""

import getpass
from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django_tasks import default_task_backend

from tasks.models import Queue


def known_queue(name: str) -> str:
    """Return the name; raise CommandError if no task can be in this queue."""
    known = default_task_backend.queues
    if name not in known and not Queue.objects.filter(name=name).exists():
        raise CommandError(f"There is no queue {name!r}. Known: {', '.join(sorted(known))}.")
    return name


class Command(BaseCommand):
    """The inverse of resumequeue."""

    help = "Pause a queue: what runs goes on, what waits waits, until resumequeue or until a time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the queue, --reason, --by, --for and --until."""
        parser.add_argument("queue")
        parser.add_argument("--reason", default="", help="why; shown to everybody who asks why a task waits")
        parser.add_argument("--by", default=getpass.getuser(), help="who; default: the user of this shell")
        end = parser.add_mutually_exclusive_group()
        end.add_argument("--for", type=float, dest="minutes", metavar="MINUTES", help="resume by itself after so long")
        end.add_argument("--until", metavar="TIME", help="resume by itself then: 2030-12-31T08:00+01:00")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check and pause."""
        name = known_queue(options["queue"])
        for field in ("by", "reason"):
            if len(options[field]) > 255:
                raise CommandError(f"--{field} has {len(options[field])} characters. Allowed: at most 255.")
        until = _until(options["minutes"], options["until"])
        Queue.objects.pause(name, options["by"], options["reason"], until)
        self.stdout.write(
            f"Queue {name} is paused {f'until {until:%Y-%m-%d %H:%M %Z}' if until else 'until resumequeue'}."
        )


def _until(minutes: float | None, given: str | None) -> datetime | None:
    if minutes is not None:
        if not 0 < minutes <= 60 * 24 * 365:
            raise CommandError(f"--for is {minutes:g}. Allowed: minutes, more than 0 and at most a year.")
        return timezone.now() + timedelta(minutes=minutes)
    if given is None:
        return None
    try:
        until = parse_datetime(given)
    except ValueError:
        until = None
    if until is None:
        raise CommandError(f"--until is {given!r}. Allowed: a time such as 2030-12-31T08:00+01:00.")
    if timezone.is_naive(until):
        until = timezone.make_aware(until)
    if until <= timezone.now():
        raise CommandError(f"--until is {given!r}, which is over.")
    return until
