"""Tasks that are READY and held: out of the line, so that no claim takes them or has to read past them.

A task of a schedule is held while an earlier one of it is not finished, if its overlap says so.

A task whose function no living cluster has, since its release is gone or not there yet, would else be read by every
claim, and 100,000 of them make each claim slow. Clusters of several releases may live at once, so what counts is what
any of them has, and no cluster holds what another would take. Nothing is lost: a held task can be cancelled, and is in
line again once a cluster has its function.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django_tasks import TaskResultStatus

from tasks import statements
from tasks.models import Cluster, Schedule, Task

OVERDUE = 10.0
"""Seconds for which a task stays in the line although nobody has its function: a deploy takes a moment."""

BATCH = 1000
"""Rows of one statement; and how far into a line a look goes."""

BUDGET = 1.0
"""Seconds that one call may take; what is left is for the next round."""


def known_functions() -> set[str]:
    """Return the paths of the task functions that a living cluster has; nothing if one does not say what it has."""
    clusters = list(Cluster.objects.alive().values_list("task_paths", flat=True))
    return {path for paths in clusters for path in paths} if all(clusters) else set()


def hold_unknown(queues: Iterable[str], known: set[str]) -> int:
    """Hold tasks of these queues, at the heads of their lines, that are none of the known; return how many."""
    if not known:
        return 0
    waiting = Task.objects.waiting().filter(held_at__isnull=True)
    return _update(waiting, lambda: statements.unknown(BATCH, OVERDUE, queues, known)[:BATCH], Now())


def let_go(known: Collection[str]) -> int:
    """Put held tasks of these functions, whose turn it is, into their lines, the oldest first; return how many."""
    unfinished = Task.objects.filter(schedule=OuterRef("schedule"), finished_at__isnull=True).exclude(pk=OuterRef("pk"))
    earlier = unfinished.filter(Q(held_at__isnull=True) | Q(pk__lt=OuterRef("pk")))
    one_by_one = Schedule.objects.filter(pk=OuterRef("schedule")).exclude(overlap=Schedule.Overlap.ALLOW)
    held = Task.objects.filter(held_at__isnull=False, task_path__in=known, status=TaskResultStatus.READY)
    in_turn = held.exclude(Exists(earlier) & Exists(one_by_one))
    return _update(in_turn, lambda: list(in_turn.order_by("pk").values_list("pk", flat=True)[:BATCH]), None)


def _update(rows: QuerySet[Task], look: Callable[[], list[int]], held_at: Any) -> int:
    """Give those of the rows that a look finds this `held_at`, for BUDGET seconds, and wait for nobody's lock."""
    count, deadline = 0, time.monotonic() + BUDGET
    while ids := look():
        with transaction.atomic():
            locked = rows.filter(pk__in=ids).select_for_update(skip_locked=True, of=("self",))
            found = list(locked.values_list("pk", flat=True))
            count += Task.objects.filter(pk__in=found).update(held_at=held_at) if found else 0
        if not found or time.monotonic() > deadline:
            break
    return count
