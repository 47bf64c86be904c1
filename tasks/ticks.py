"""Due times become ticks: each gets exactly one, in the transaction that enqueues its task.

`fire` is called by the housekeeper of every cluster. It locks the rows of schedules that are due, and the database has
at most one tick for a schedule and a time, so any number of clusters settle each due time once. Of each schedule:

    due times so far -> those in a pause: skipped (paused)
                     -> those that piled up while no cluster ran, see Schedule.Misfire: coalesced, or skipped (misfire)
                     -> the rest: ran; or, while an earlier run is not finished, see Schedule.Overlap: skipped
                        (overlap), or ran with a task that is held (`tasks.holding`) until it is its turn

A schedule that cannot be settled keeps its due time, says why in `problem`, and is tried again now and then; the others
never notice. All times are the database's. If its clock steps forward, the due times in between are misfires; if it
steps back, nothing is due until it has caught up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Value
from django.db.models.functions import Concat, Now
from django_tasks.exceptions import InvalidTaskError

from tasks import statements
from tasks.functions import registry
from tasks.models import Schedule, Task, Tick
from tasks.recurrence import Recurrence

logger = logging.getLogger(__name__)

SCHEDULES = 50
"""Schedules of one transaction."""

TIMES = 1000
"""Due times of one schedule in one transaction."""

BUDGET = 0.5
"""Seconds after which `fire` leaves what is left for the next call."""

LATE = timedelta(minutes=1)
"""A due time that nobody settled for so long came while no cluster ran. A busy cluster is a moment late as well."""

Outcome, Reason = Tick.Outcome, Tick.Reason


def fire(now: datetime | None = None) -> bool:
    """Settle what is due, by the database's clock or as if it was `now`; return whether more is left to settle."""
    deadline = time.monotonic() + BUDGET
    more = True
    while more and time.monotonic() < deadline:
        with transaction.atomic():
            upto = now or statements.now()
            due = Schedule.objects.going().filter(task_path__in=registry, due_at__lte=upto)
            schedules = list(due.select_for_update(skip_locked=True).order_by("due_at", "pk")[:SCHEDULES])
            more = len(schedules) == SCHEDULES
            for schedule in schedules:
                if time.monotonic() > deadline:  # on SQLite nobody else writes meanwhile
                    return True
                more |= _settle_or_say_why(schedule, upto)
    return more


def settle(schedule: Schedule, now: datetime, is_wanted: bool = True) -> bool:
    """Give each due time up to `now` its tick, TIMES of them at most; return whether more are left.

    Nothing runs unless it `is_wanted`. In a transaction that holds the lock of the schedule's row. Raises ValueError,
    TypeError or InvalidTaskError if it cannot be.
    """
    rule = schedule.recurrence
    due_at = schedule.due_at or rule.after(now)
    if due_at > now:
        Schedule.objects.filter(pk=schedule.pk).update(due_at=due_at)
        return False
    times = list(islice(_upto(now, rule, due_at), TIMES))
    following = rule.after(times[-1])
    most = schedule.misfire_limit if schedule.misfire == Schedule.Misfire.ALL else 1
    most -= len(list(islice(_not_paused(schedule, now, rule, following), most)))
    candidates = [at for at in times if not schedule.is_paused(at)]
    wanted = set(candidates[-most:]) if most > 0 and is_wanted else set()
    if schedule.misfire == Schedule.Misfire.NONE:
        wanted = {at for at in wanted if now - at < LATE}
    ticks = [_tick(schedule, at, at in wanted, is_misfire=not is_wanted) for at in times]
    Tick.objects.bulk_create(ticks)
    Schedule.objects.filter(pk=schedule.pk).update(due_at=following)
    schedule.due_at = following
    return following <= now


def run(schedule: Schedule, due_at: datetime, requested_by: str = "") -> Tick:
    """Return the tick, not saved, of a run at this time: its task is enqueued unless an earlier one is in its way."""
    function = registry.get(schedule.task_path)
    if function is None:
        raise InvalidTaskError(f"There is no task function {schedule.task_path} (any more).")
    is_held = False
    if schedule.overlap != Schedule.Overlap.ALLOW:
        is_busy = Task.objects.filter(schedule=schedule, finished_at__isnull=True).exists()
        if is_busy and schedule.overlap == Schedule.Overlap.SKIP:
            return Tick(schedule=schedule, due_at=due_at, outcome=Outcome.SKIPPED, reason=Reason.OVERLAP)
        is_held = is_busy
    backend: Any = function.get_backend()
    if not isinstance(schedule.args, list) or not isinstance(schedule.kwargs, dict):
        raise InvalidTaskError("Its arguments must be a JSON list and a JSON object.")
    result = backend.enqueue(function, schedule.args, schedule.kwargs, schedule_id=schedule.pk, is_held=is_held)
    return Tick(
        schedule=schedule, due_at=due_at, outcome=Outcome.RAN, task_id=int(result.id), requested_by=requested_by
    )


def next_due() -> tuple[float | None, bool]:
    """Return in how many seconds the next schedule is due, None if there is none, and whether any task is held."""
    return statements.next_due()


def mend(now: datetime | None = None) -> int:
    """Try again to settle some of those that could not be; return how many of them are well."""
    troubled = Schedule.objects.in_service().filter(task_path__in=registry).exclude(problem="")
    if not troubled.exists():
        return 0
    with transaction.atomic():
        upto = now or statements.now()
        schedules = list(troubled.select_for_update(skip_locked=True).order_by("?")[:SCHEDULES])
        for schedule in schedules:
            _settle_or_say_why(schedule, upto)
    return sum(not schedule.problem for schedule in schedules)


def say_what_nobody_can_run(known: Collection[str], now: datetime | None = None) -> int:
    """Say of schedules that are due that no living cluster has their function; return how many."""
    if not known:
        return 0
    due = Schedule.objects.going().filter(due_at__lte=now or Now()).exclude(task_path__in=known)
    return due.update(problem=Concat(Value("No running cluster has the task function "), "task_path", Value(".")))


def _settle_or_say_why(schedule: Schedule, now: datetime) -> bool:
    try:
        with transaction.atomic():
            is_left = settle(schedule, now)
        problem = ""
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # a schedule must not keep the others from their due times
        is_left, problem = False, f"{type(error).__name__}: {error}"
    if problem != schedule.problem:
        if problem:
            logger.warning("the schedule %s cannot be settled: %s", schedule, problem)
        schedule.problem = problem
        schedule.save(update_fields=["problem"])
    return is_left


def _tick(schedule: Schedule, at: datetime, is_wanted: bool, is_misfire: bool) -> Tick:
    if schedule.is_paused(at):
        return Tick(schedule=schedule, due_at=at, outcome=Outcome.SKIPPED, reason=Reason.PAUSED)
    if is_wanted:
        return run(schedule, at)
    if schedule.misfire == Schedule.Misfire.ONCE and not is_misfire:
        return Tick(schedule=schedule, due_at=at, outcome=Outcome.COALESCED)
    return Tick(schedule=schedule, due_at=at, outcome=Outcome.SKIPPED, reason=Reason.MISFIRE)


def _upto(now: datetime, rule: Recurrence, at: datetime) -> Iterator[datetime]:
    while at <= now:
        yield at
        at = rule.after(at)


def _not_paused(schedule: Schedule, now: datetime, rule: Recurrence, at: datetime) -> Iterator[datetime]:
    """Yield the due times from `at` to `now` that are in no pause; what is in one is stepped over, not counted."""
    while at <= now:
        if not schedule.is_paused(at):
            yield at
            at = rule.after(at)
        elif schedule.paused_until is None:
            return
        else:
            at = rule.after(schedule.paused_until - timedelta(microseconds=1))
