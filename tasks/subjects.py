"""Tasks about somebody: whose arguments name that person, whatever the function.

    about = {"user_id": [user.pk], "email": [user.email]}
    export = list(tasks_about("accounts", about))
    left = scrub("accounts", about, by=_("the erasure of the account"))

An argument counts by its name in the function's signature, however it was passed, of every function below a dotted
path. Tasks of functions that are gone are not found: nobody knows what their arguments mean; retention ends them.

`scrub` is for whoever is gone or asked to be forgotten. It takes what may tell of the person out of the rows and leaves
what the engine counts: the function, the status, the times, the attempts, the kinds of the errors.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce, Now

from tasks.functions import registry
from tasks.models import FINISHED, UNFINISHED, Queue, Schedule, Task, TaskError, Tick

MARK = "[scrubbed]"
"""What stands for each argument, and for what an error said."""

BATCH = 200
"""Rows of one transaction."""

About = Mapping[str, Collection[Any]]
"""From the name of an argument to its values that mean the person."""


def tasks_about(app: str, about: About) -> Iterator[dict[str, Any]]:
    """Yield what the person may know of each task, the oldest first: what it does, when, and what came of it."""
    shown = ("task_path", "status", "enqueued_at", "run_after", "finished_at", "args", "kwargs")
    for row in _rows(app, about).order_by("pk").values("pk", *shown).iterator(BATCH):
        yield {"task": row.pop("pk"), **row}


def scrub(app: str, about: About, by: str, but: Collection[str] = ()) -> int:
    """Cancel what has not finished, in the name of `by`, and scrub what has; return how many tasks still run.

    Those see `should_stop` and end in a while: call it again then. It may be called any number of times. `but`: dotted
    paths of functions whose tasks are left alone, as the caller's own: two that run at once must not stop each other.
    """
    rows = _rows(app, about).exclude(task_path__in=but)
    unfinished = list(rows.filter(status__in=UNFINISHED).values_list("pk", flat=True))
    for first in range(0, len(unfinished), BATCH):
        Task.objects.filter(pk__in=unfinished[first : first + BATCH]).cancel(by)
    last = 0
    while True:
        # looked for outside of a transaction: on SQLite a search of the table would keep all others from writing
        batch = rows.filter(status__in=FINISHED, pk__gt=last).order_by("pk").values_list("pk", "args", "kwargs")[:BATCH]
        if not (found := list(batch)):
            break
        last = found[-1][0]
        with transaction.atomic():
            for pk, args, kwargs in found:
                _scrub(pk, [MARK] * len(args), dict.fromkeys(kwargs, MARK))
    return rows.filter(status__in=UNFINISHED).count()


def scrub_name(name: str) -> None:
    """Take an address, which is also the name of an operator, out of what somebody did and of what errors say.

    An error of a task that is about somebody else may name it: a mail server's, say. It may be called any number of
    times.
    """
    by = {Task: "cancel_requested_by", Queue: "paused_by", Schedule: "paused_by", Tick: "requested_by"}
    for model, column in by.items():
        rows = model._default_manager.filter(**{column: name})
        while keys := list(rows.values_list("pk", flat=True)[:BATCH]):  # no search in a transaction, as above
            rows.filter(pk__in=keys).update(**{column: MARK})
    said = TaskError.objects.filter(Q(message__contains=name) | Q(traceback__contains=name)).order_by("pk")
    whole = re.compile(rf"(?<![\w.+-]){re.escape(name)}(?![\w-]|\.\w)")  # not the end of a longer address
    last = 0
    while found := list(said.filter(pk__gt=last).values_list("pk", "message", "traceback")[:BATCH]):
        last = found[-1][0]
        with transaction.atomic():
            for pk, message, traceback in found:
                scrubbed = {"message": whole.sub(MARK, message), "traceback": whole.sub(MARK, traceback)}
                TaskError.objects.filter(pk=pk).update(**scrubbed)


def _scrub(pk: int, args: list[str], kwargs: dict[str, str]) -> None:
    finished = Task.objects.filter(pk=pk, status__in=FINISHED)  # not if an operator has just made it READY again
    emptied = {"return_value": None, "checkpoint": None, "progress": None, "idempotency_key": None}
    if finished.update(args=args, kwargs=kwargs, **emptied):
        finished.filter(status=Task.Status.FAILED).update(discarded_at=Coalesce("discarded_at", Now()))
        TaskError.objects.filter(task=pk).update(message=MARK, traceback="")


def _rows(app: str, about: About) -> QuerySet[Task]:
    found = Q(pk__in=[])
    for path, function in registry.items():
        if not path.startswith(f"{app}."):
            continue
        means = Q(pk__in=[])
        for position, name in enumerate(function.signature.parameters):
            if values := list(about.get(name, ())):
                means |= Q(**{f"args__{position}__in": values}) | Q(**{f"kwargs__{name}__in": values})
        if means != Q(pk__in=[]):
            found |= Q(task_path=path) & means
    return Task.objects.filter(found)
