"""What changes a schedule: the code, by what it declares, and an operator.

Each move first settles the due times that have passed, block by block, so none is lost or judged by a rule, or by a
pause, that came after it; then it locks the row and changes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django_tasks.exceptions import InvalidTaskError

from tasks import statements, ticks
from tasks.models import Schedule, Tick
from tasks.schedules import Declaration, declared

logger = logging.getLogger(__name__)

NO_PAUSE: dict[str, Any] = {"paused_at": None, "paused_until": None, "paused_by": "", "paused_reason": ""}


def declare() -> None:
    """Make the rows of declared schedules what the code says, but for times that somebody has overridden.

    Those that the code no longer declares are retired. Does nothing more the second time. One that cannot be what the
    code says is logged, and does not keep the others from it.
    """
    for name, declaration in sorted(declared.items()):
        with _isolated(name):
            _declare(declaration)
    for schedule in Schedule.objects.in_service().filter(declared__isnull=False).exclude(name__in=declared):
        with _isolated(schedule.name):
            retire(schedule)
            logger.info("the schedule %s is retired: the code does not declare it any more", schedule)


def pause(schedule: Schedule, by: str, reason: str = "", until: datetime | None = None) -> None:
    """Skip its due times from now on, for good or until then; say who did it and why."""
    with _locked(schedule) as (row, now):
        _change(row, now, paused_at=now, paused_until=until, paused_by=by[:255], paused_reason=reason[:255])


def resume(schedule: Schedule) -> None:
    """Let its due times count again from now on."""
    with _locked(schedule) as (row, now):
        _change(row, now, **NO_PAUSE)


def run_now(schedule: Schedule, by: str) -> Tick:
    """Enqueue its task once, whatever its times say; return the tick.

    Its outcome is `skipped`, and the tick is not kept, while an earlier run is not finished and overlap is `skip`.
    Raises ValueError, TypeError or InvalidTaskError if its task cannot be enqueued.
    """
    with _locked(schedule) as (row, now):
        if row.retired_at is not None:
            raise InvalidTaskError(_("It is out of service. Put it into service first."))
        at = now
        while not at.microsecond or row.ticks.filter(due_at=at).exists():  # due times are whole seconds
            at += timedelta(milliseconds=1)
        tick = ticks.run(row, at, requested_by=by[:255])
        if tick.outcome == Tick.Outcome.RAN:
            tick.save()
        return tick


def add(schedule: Schedule) -> None:
    """Save a new one that was made by hand; raise ValueError if its times are none."""
    with transaction.atomic():
        schedule.due_at = schedule.recurrence.after(statements.now())
        schedule.save()


def change(schedule: Schedule, **columns: Any) -> None:
    """Give it other columns from now on, its times for instance; raise ValueError, with nothing changed, for none."""
    with _locked(schedule) as (row, now):
        _change(row, now, **columns)


def follow_the_code(schedule: Schedule) -> None:
    """Give it the times that the code says."""
    with _locked(schedule) as (row, now):
        if row.declared is None:
            said = _("%(name)s was made by hand: the code says nothing of it.") % {"name": row}
            raise InvalidTaskError(said)
        _change(row, now, **_times(row.declared))


def retire(schedule: Schedule) -> None:
    """Take it out of service. It stays visible, with its ticks."""
    with _locked(schedule) as (row, now):
        Schedule.objects.filter(pk=row.pk).update(retired_at=now, due_at=None, problem="")


def take_back(schedule: Schedule) -> None:
    """Put a retired one into service again."""
    with _locked(schedule) as (row, now):
        _change(row, now, retired_at=None)


@contextmanager
def _locked(schedule: Schedule) -> Iterator[tuple[Schedule, datetime]]:
    """Settle what has passed; then give the row as it is now, locked, and the time. What the caller has follows."""
    while _settle(schedule):
        pass
    with transaction.atomic():
        row, now = _lock(schedule)
        _settle_or_skip(row, now)
        yield row, now
        schedule.refresh_from_db()


def _lock(schedule: Schedule) -> tuple[Schedule, datetime]:
    return Schedule.objects.select_for_update().get(pk=schedule.pk), statements.now()


def _settle(schedule: Schedule) -> bool:
    """Settle some of what has passed, in a transaction of its own; return whether more is left."""
    with transaction.atomic():
        return _settle_or_skip(*_lock(schedule))


def _settle_or_skip(row: Schedule, now: datetime) -> bool:
    """Settle some of what has passed; if its task cannot be enqueued, none of it ran. Return whether more is left."""
    if row.retired_at is not None:
        return False
    for is_wanted in (True, False):
        try:
            with transaction.atomic():
                return ticks.settle(row, now, is_wanted=is_wanted)
        except Exception as error:  # whatever it is, an operator has to be able to pause or change it
            if ticks.is_outage(error):
                raise
    return False


@contextmanager
def _isolated(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if ticks.is_outage(error):
            raise
        logger.exception("the schedule %s cannot be what the code says", name)


def _declare(declaration: Declaration) -> None:
    row = Schedule.objects.filter(name=declaration.name).first()
    if row is None:
        _add(declaration)
    elif row.declared is None:
        logger.error("a schedule made by hand is called %s, as one in the code: give it another name", row)
    elif _changes(row, declaration):
        with _locked(row) as (locked, now):
            _change(locked, now, **_changes(locked, declaration))


def _add(declaration: Declaration) -> None:
    """Make its row, unless another process was faster."""
    now = statements.now()
    row = Schedule(
        name=declaration.name, task_path=declaration.task_path, declared=declaration.times, created_at=now,
        args=declaration.args, kwargs=declaration.kwargs, **declaration.policy, **_times(declaration.times),
    )  # fmt: skip
    row.due_at = row.recurrence.after(now)
    Schedule.objects.bulk_create([row], ignore_conflicts=True)


def _changes(row: Schedule, declaration: Declaration) -> dict[str, Any]:
    """Return the columns to change."""
    says: dict[str, Any] = {
        "task_path": declaration.task_path, "args": declaration.args, "kwargs": declaration.kwargs,
        "declared": declaration.times, "retired_at": None, **declaration.policy,
    }  # fmt: skip
    if not row.is_overridden:
        says |= _times(declaration.times)
    return {name: value for name, value in says.items() if getattr(row, name) != value}


def _change(row: Schedule, now: datetime, **changes: Any) -> None:
    """Follow other columns from now on; raise ValueError for times that are none, if they are new."""
    for name, value in changes.items():
        setattr(row, name, value)
    row.problem, row.due_at = "", None
    if row.retired_at is None:
        try:
            row.due_at = row.recurrence.after(now)
        except ValueError as error:
            if row.times.keys() & changes.keys():
                raise
            row.problem = f"ValueError: {error}"
    row.save()


def _times(says: dict[str, Any]) -> dict[str, Any]:
    anchor = says["anchor"]
    return {**says, "anchor": None if anchor is None else parse_datetime(anchor)}
