"""The laws that every row obeys, as queries for the rows that break them. Read-only; safe at any time.

A law is judged on one look at the tables: a row that moves meanwhile is never reported for moving, since each query is
one statement. The tests that kill processes use the same queries as their oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Count, Exists, F, Func, OuterRef, Q, Sum
from django.db.models.functions import Coalesce, Now
from django_tasks import TaskResultStatus

from tasks.models import FINISHED, UNFINISHED, Cluster, Queue, Task, TaskError

COUNTED = [TaskError.Kind.EXCEPTION, TaskError.Kind.TIMEOUT, TaskError.Kind.LOST]
"""Kinds of errors that used an attempt. DISCARDED and CANCELLED did if the function ran: then they have a worker."""

SHOWN = 20
"""Rows of a broken law that are listed; all are counted."""


@dataclass(frozen=True, slots=True)
class Law:
    """A law, and the query for the rows that break it."""

    name: str
    text: str
    breakers: Callable[[], models.QuerySet[Task]]


class _Length(Func):
    output_field = models.IntegerField()

    def as_sql(self, compiler: Any, connection: Any, *args: Any, **context: Any) -> Any:
        function = "jsonb_array_length" if connection.vendor == "postgresql" else "json_array_length"
        return super().as_sql(compiler, connection, function, *args[1:], **context)


def _nowhere() -> models.QuerySet[Task]:
    waiting = Q(status=TaskResultStatus.READY, lease_id__isnull=True)
    leased = Q(status__in=UNFINISHED, lease_id__isnull=False)
    ended = Q(status__in=FINISHED, lease_id__isnull=True)
    return Task.objects.exclude(waiting | leased | ended)


def _abandoned() -> models.QuerySet[Task]:
    recent = Now() - timedelta(seconds=3 * settings.TASKS_LEASE)
    known = Cluster.objects.filter(pk=OuterRef("cluster_id"), heartbeat_at__gt=recent)
    return Task.objects.leased().filter(~Exists(known))


def _running_without_lease() -> models.QuerySet[Task]:
    return Task.objects.filter(status=TaskResultStatus.RUNNING, lease_id__isnull=True)


def _counted(task: OuterRef) -> models.QuerySet[TaskError]:
    ran = Q(kind__in=[TaskError.Kind.DISCARDED, TaskError.Kind.CANCELLED]) & ~Q(worker_id="")
    return TaskError.objects.filter(Q(kind__in=COUNTED) | ran, task=task)


def _not_contiguous() -> models.QuerySet[Task]:
    errors = _counted(OuterRef("pk")).order_by().values("task")
    total = Coalesce(models.Subquery(errors.annotate(n=Count("pk")).values("n")), 0)
    different = Coalesce(models.Subquery(errors.annotate(n=Count("attempt", distinct=True)).values("n")), 0)
    expected = models.Case(
        models.When(status__in=[TaskResultStatus.SUCCESSFUL, TaskResultStatus.RUNNING], then=F("attempts") - 1),
        default=F("attempts"),
        output_field=models.IntegerField(),
    )
    return Task.objects.annotate(
        workers=_Length("worker_ids"), total=total, different=different, expected=expected
    ).exclude(workers=F("attempts"), total=F("expected"), different=F("expected"))


def _too_many_attempts() -> models.QuerySet[Task]:
    return Task.objects.filter(attempts__gt=F("max_attempts"))


def _changed_after_success() -> models.QuerySet[Task]:
    # by the numbers of the attempts, not by times: a clock may step back
    harmless = [TaskError.Kind.SUPERSEDED, TaskError.Kind.INTERRUPTED]
    later = TaskError.objects.filter(task=OuterRef("pk"), attempt__gte=OuterRef("attempts"))
    return Task.objects.filter(Exists(later.exclude(kind__in=harmless)), status=TaskResultStatus.SUCCESSFUL)


def _key_taken_twice() -> models.QuerySet[Task]:
    unfinished = Task.objects.filter(status__in=UNFINISHED, idempotency_key__isnull=False)
    twin = unfinished.filter(task_path=OuterRef("task_path"), idempotency_key=OuterRef("idempotency_key")).exclude(
        pk=OuterRef("pk")
    )
    return unfinished.filter(Exists(twin))


LAWS = [
    Law("conserved", "each accepted task is waiting, leased, ended or pruned, and only one of these", _nowhere),
    Law("leased by the living", "no lease without a cluster that lives or died a moment ago", _abandoned),
    Law("running under a lease", "no RUNNING task without a lease", _running_without_lease),
    Law("attempts contiguous", "each attempt has a worker and, if it is over and failed, one error", _not_contiguous),
    Law("attempts limited", "no more attempts than max_attempts", _too_many_attempts),
    Law("success is final", "nothing happens to a SUCCESSFUL task", _changed_after_success),
    Law("one for each key", "no two unfinished tasks of a function with one idempotency_key", _key_taken_twice),
]  # fmt: skip


def audit() -> dict[str, Any]:
    """Return what `tasksaudit --json` prints.

    `accepted` and its parts `waiting`, `leased`, `ended`, `pruned` as counts; `laws`: by name, `text`, `broken` (how
    many rows) and `tasks` (ids of the first of them); `ok`: no law is broken.
    """
    laws = {}
    for law in LAWS:
        broken = law.breakers().order_by("pk").values_list("pk", flat=True)
        ids = list(broken[:SHOWN])
        laws[law.name] = {"text": law.text, "broken": broken.count() if ids else 0, "tasks": ids}
    parts = Task.objects.aggregate(
        waiting=Count("pk", filter=Q(status=TaskResultStatus.READY, lease_id__isnull=True)),
        leased=Count("pk", filter=Q(lease_id__isnull=False)),
        ended=Count("pk", filter=Q(status__in=FINISHED)),
    )
    pruned = Queue.objects.aggregate(n=Sum(F("pruned_successful") + F("pruned_failed")))["n"] or 0
    parts["pruned"] = pruned
    ok = not any(law["broken"] for law in laws.values())
    return {"ok": ok, "accepted": sum(parts.values()), **parts, "laws": laws}
