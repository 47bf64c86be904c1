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

Transactions are short and wait for nobody's lock for long: the process that calls this has a heartbeat to keep.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.db import Error, InterfaceError, OperationalError, connection, transaction
from django.db.models import Q, Value
from django.db.models.functions import Concat, Now
from django_tasks.exceptions import InvalidTaskError

from tasks import statements
from tasks.functions import registry, stored_arguments
from tasks.models import Schedule, Task, Tick
from tasks.recurrence import Recurrence

logger = logging.getLogger(__name__)

SCHEDULES = 50
"""Schedules of one transaction, at most."""

TIMES = 200
"""Due times of one schedule in one transaction, at most."""

SHARE = 0.2
"""Seconds of one transaction: on SQLite nobody else writes meanwhile."""

BUDGET = 0.5
"""Seconds after which a call leaves what is left for the next one."""

PATIENCE = 200
"""Milliseconds that a transaction waits for a lock on PostgreSQL, for instance of a key that somebody is enqueueing."""

LATE = timedelta(minutes=1)
"""A due time that nobody settled for so long came while no cluster ran. A busy cluster is a moment late as well."""

LONGEST = 1000
"""Characters of a problem that are kept."""

Outcome, Reason = Tick.Outcome, Tick.Reason


def fire(now: datetime | None = None) -> bool:
    """Settle what is due, by the database's clock or as if it was `now`; return whether more is left to settle.

    The latest first: what has piled up for one schedule does not make another one late.
    """
    deadline = time.monotonic() + BUDGET
    while True:
        with short_transaction():
            upto = now or statements.now()
            due = Schedule.objects.going().filter(task_path__in=registry, due_at__lte=upto)
            more = _settle_some(due.order_by("-due_at", "pk"), upto)
        if not more or time.monotonic() > deadline:
            return more


def mend(now: datetime | None = None) -> None:
    """Try again to settle some of those that could not be."""
    is_troubled = ~Q(problem="") | Q(due_at__isnull=True)
    troubled = Schedule.objects.in_service().filter(is_troubled, task_path__in=registry)
    if troubled.exists():
        with short_transaction():
            _settle_some(troubled.order_by("?"), now or statements.now())


def say_what_nobody_can_run(known: Collection[str], now: datetime | None = None) -> int:
    """Say of schedules that are due that no living cluster has their function; return how many."""
    if not known:
        return 0
    due = Schedule.objects.going().filter(due_at__lte=now or Now()).exclude(task_path__in=known)
    if not due.exists():
        return 0
    with transaction.atomic():
        ids = list(due.select_for_update(skip_locked=True).values_list("pk", flat=True))
        says = Concat(Value("No running cluster has the task function "), "task_path", Value("."))
        return Schedule.objects.filter(pk__in=ids).update(problem=says) if ids else 0


def settle(schedule: Schedule, now: datetime, is_wanted: bool = True) -> bool:
    """Give each due time up to `now` its tick, TIMES of them at most; return whether more are left.

    Nothing runs unless it `is_wanted`. In a transaction that holds the lock of the schedule's row. Raises ValueError,
    TypeError or InvalidTaskError if it cannot be.
    """
    if is_wanted:
        _check(schedule)
    rule = schedule.recurrence
    due_at = schedule.due_at or rule.after(now)
    times = list(islice(_upto(now, rule, due_at), TIMES))
    following = rule.after(times[-1]) if times else due_at
    if times:
        most = schedule.misfire_limit if schedule.misfire == Schedule.Misfire.ALL else 1
        most -= len(list(islice(_not_paused(schedule, now, rule, following), most)))
        # some have their tick already if the clock was ahead
        settled = set(schedule.ticks.filter(due_at__range=(times[0], times[-1])).values_list("due_at", flat=True))
        times = [at for at in times if at not in settled]
        candidates = [at for at in times if not schedule.is_paused(at)]
        wanted = set(candidates[-most:]) if most > 0 and is_wanted else set()
        if schedule.misfire == Schedule.Misfire.NONE:
            wanted = {at for at in wanted if now - at < LATE}
        Tick.objects.bulk_create([_tick(schedule, at, at in wanted, is_misfire=not is_wanted) for at in times])
    Schedule.objects.filter(pk=schedule.pk).update(due_at=following)
    return following <= now


def run(schedule: Schedule, due_at: datetime, requested_by: str = "") -> Tick:
    """Return the tick, not saved, of a run at this time: its task is enqueued unless an earlier one is in its way."""
    function = _check(schedule)
    skipped = Tick(schedule=schedule, due_at=due_at, outcome=Outcome.SKIPPED, reason=Reason.OVERLAP)
    runs: set[int] = set()
    if schedule.overlap != Schedule.Overlap.ALLOW or function.idempotency_key is not None:
        runs |= set(Task.objects.filter(schedule=schedule, finished_at__isnull=True).values_list("pk", flat=True))
    if runs and schedule.overlap == Schedule.Overlap.SKIP:
        return skipped
    is_held = bool(runs) and schedule.overlap == Schedule.Overlap.QUEUE
    result = function.get_backend().enqueue(
        function, schedule.args, schedule.kwargs, schedule_id=schedule.pk, is_held=is_held
    )
    task_id = int(result.id)
    if function.idempotency_key is not None and (
        task_id in runs or not Task.objects.filter(pk=task_id, schedule=schedule).exists()
    ):  # enqueue answered with one that was there
        return skipped
    return Tick(schedule=schedule, due_at=due_at, outcome=Outcome.RAN, task_id=task_id, requested_by=requested_by)


@contextmanager
def short_transaction() -> Iterator[None]:
    """Begin a transaction that does not wait long for the locks of others."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{PATIENCE}ms"])
        yield


def is_outage(error: BaseException) -> bool:
    """Return whether the database is away, not just unable to do this; in a transaction whose savepoint is over."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return True
    return False


def _settle_some(schedules: Any, now: datetime) -> bool:
    """Settle the first of these, for SHARE seconds; return whether more are left."""
    rows = list(schedules.select_for_update(skip_locked=True)[:SCHEDULES])
    ends, more = time.monotonic() + SHARE, len(rows) == SCHEDULES
    for number, row in enumerate(rows, 1):
        more |= _settle_or_say_why(row, now)
        if time.monotonic() > ends:
            return more or number < len(rows)
    return more


def _settle_or_say_why(schedule: Schedule, now: datetime) -> bool:
    problem = ""
    try:
        with transaction.atomic():
            is_left = settle(schedule, now)
    except Exception as error:  # a schedule must not keep the others from their due times
        if is_outage(error):
            raise
        is_left, problem = False, _storable(f"{type(error).__name__}: {str(error).strip()}")
    if problem != schedule.problem:
        if problem:
            logger.warning("the schedule %s cannot be settled: %s", schedule, problem)
        Schedule.objects.filter(pk=schedule.pk).update(problem=problem)
    return is_left


def _storable(text: str) -> str:
    """Return the first line of a text, as every database takes it."""
    whole = text.split("\n")[0][:LONGEST].encode("utf-8", "replace").decode()
    return whole.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _check(schedule: Schedule) -> Any:
    """Return its function; raise InvalidTaskError, TypeError or ValueError if it could not be given its arguments."""
    function = registry.get(schedule.task_path)
    if function is None:
        raise InvalidTaskError(f"There is no task function {schedule.task_path} (any more).")
    if not isinstance(schedule.args, list) or not isinstance(schedule.kwargs, dict):
        raise InvalidTaskError("Its arguments must be a JSON list and a JSON object.")
    stored_arguments(function, schedule.args, schedule.kwargs)
    return function


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
