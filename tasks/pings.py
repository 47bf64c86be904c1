"""Dead man's switches: an address is called after a success of a schedule, and its owner is alarmed if no call comes.

The housekeeper looks for successes every few seconds, so several within that time share a call. The call is a task of
its own: it is tried again, and a call that fails changes nothing for the schedule. The address may hold a secret; it
stays in the schedule's row.
"""

from __future__ import annotations

import time
from datetime import timedelta
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from django.db import transaction
from django.db.models import F, OuterRef, Q, Subquery
from django_tasks import TaskResultStatus, task

from tasks.backoff import exponential
from tasks.exceptions import Discard
from tasks.models import Schedule, Task

BUDGET = 0.5
"""Seconds that one look may take."""

PATIENCE = 10
"""Seconds that the other side has to answer."""


@task(queue_name="maintenance", backoff=exponential(base=5, cap=300), timeout=3 * PATIENCE, retention=timedelta(days=1))
def call(schedule_id: int) -> int:
    """Call the address of a schedule; return the status of the answer."""
    schedule = Schedule.objects.filter(pk=schedule_id).exclude(ping_url="").first()
    if schedule is None:
        raise Discard("The schedule has no address to call any more.")
    request = Request(schedule.ping_url, headers={"User-Agent": "Steward"})  # noqa: S310 - http(s), see check_address
    try:
        with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - likewise
            status: int = answer.status
    except HTTPError as error:
        error.close()
        raise
    except (ValueError, HTTPException):  # whose texts repeat parts of it
        raise Discard("The address of the schedule cannot be called.") from None
    return status


def enqueue_calls() -> int:
    """Enqueue a call for each schedule with an address and a success since the latest one; return how many."""
    success = Task.objects.filter(schedule=OuterRef("pk"), status=TaskResultStatus.SUCCESSFUL)
    latest = Subquery(success.order_by("-finished_at").values("finished_at")[:1])
    with_address = Schedule.objects.in_service().exclude(ping_url="").annotate(success_at=latest)
    is_new = Q(pinged_at__isnull=True) | Q(success_at__gt=F("pinged_at"))
    found = with_address.filter(is_new, success_at__isnull=False).values_list("pk", "pinged_at", "success_at")
    count, deadline = 0, time.monotonic() + BUDGET
    for pk, before, success_at in found:
        if before is not None and success_at <= before:  # to SQLite, a time with zeros is later than one without
            continue
        with transaction.atomic():
            if Schedule.objects.select_for_update(skip_locked=True).filter(pk=pk, pinged_at=before).exists():
                Schedule.objects.filter(pk=pk).update(pinged_at=success_at)
                call.enqueue(pk)
                count += 1
        if time.monotonic() > deadline:  # the rest is for the next round
            break
    return count
