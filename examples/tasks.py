"""The task functions of the examples, in the order of docs/background-work.md."""

import time
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen
from zoneinfo import available_timezones

from django.core.cache import caches
from django.core.mail import EmailMessage
from django.db.models import F, Sum
from django.utils import timezone
from django_tasks import TaskContext, task

from examples.models import Page
from tasks.backoff import exponential
from tasks.exceptions import Discard, Retry, Snooze
from tasks.schedules import schedule


@task(atomic=True)
def count_visit(name: str) -> None:
    """Count a visit of a page."""
    page, _is_new = Page.objects.get_or_create(name=name)
    Page.objects.filter(pk=page.pk).update(visits=F("visits") + 1)


@schedule("*/5 * * * *")
@task(queue_name="maintenance")
def sum_visits() -> int:
    """Return how many visits all pages have; the page of each task in the admin has the number of its time."""
    total: int | None = Page.objects.aggregate(total=Sum("visits"))["total"]
    return total or 0


@task
def price_in_euros(dollars: float) -> float:
    """Return what so many dollars are in euros."""
    rate: Any = caches["shared"].get_or_set("euros-for-a-dollar", fetch_rate, timeout=60)
    return round(dollars * rate, 2)


def fetch_rate() -> float:
    """Return the rate of the day, slowly, as a bank would."""
    time.sleep(1)
    return 0.875


@task
def count_time_zones(region: str) -> int:
    """Return how many time zones a region has."""
    return sum(name.startswith(f"{region}/") for name in time_zones())


@cache
def time_zones() -> frozenset[str]:
    """Return the names of all time zones; reading them takes many files."""
    return frozenset(available_timezones())


@task(takes_context=True, queue_name="mail", max_attempts=12, timeout=60)
def send_note(context: TaskContext, address: str, number: int) -> None:
    """Send one of many mails. A repeated attempt sends the same Message-ID."""
    message_id = f"<task-{context.task_result.id}@example.com>"
    EmailMessage(f"Note {number}", "Hello.\n", to=[address], headers={"Message-ID": message_id}).send()


@task(max_attempts=4, backoff=exponential(base=1, cap=60), timeout=30)
def fetch_page(url: str) -> int:
    """Return the length of a page."""
    try:
        with urlopen(url, timeout=10) as answer:  # noqa: S310 - the caller is our own code
            return len(answer.read())
    except HTTPError as error:
        if error.code == 404:
            raise Discard(f"{url} does not exist.") from error
        if error.code == 429:
            pause = timedelta(seconds=int(error.headers.get("Retry-After", 60)))
            raise Retry("The other side asks for a pause.", after=pause) from error
        raise


@task(takes_context=True, timeout=3600)
def write_report(context: Any, lines: int, seconds_per_line: float = 0.1) -> str:
    """Write a long report line by line; return when it was done."""
    done = context.checkpoint or 0
    while done < lines:
        time.sleep(seconds_per_line)  # the work
        done += 1
        context.checkpoint = done
        context.progress(done, lines, f"line {done} of {lines}")
        if context.should_stop and done < lines:
            raise Snooze(timedelta())
    return timezone.now().isoformat()
