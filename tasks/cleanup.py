"""Prune: rows of a table of `tasks.retention` go once their retention is over, in small batches.

A batch is one short transaction. Its size follows from how long the last one took, so that no statement is long and
others get their turn; it may be stopped after any. What is left is for the next run. A task is counted in its queue's
row in the transaction that deletes it. What may still be retried is kept: a FAILED row has the long retention.

On SQLite the pages that became free are given back to the file system, some at a time, if the file allows
it: `migrate` sees to that in a new file, and `manage.py prune --vacuum` in one that was made by an older release.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from django.db import connection, transaction
from django.db.models import F, ProtectedError, QuerySet, RestrictedError
from django_tasks import TaskResultStatus

from tasks.models import Queue, Task, TaskError
from tasks.retention import Table, tables

BUDGET = 300.0
"""Seconds of one run."""

FIRST, LARGEST = 100, 5000
"""Rows of the first batch and of any: a statement names as many ids."""

AIM = 0.02
"""Seconds that a batch should take: a tenth of what is noticed, since a busy machine takes several times as long."""

PAGES = 100
"""Pages of an SQLite file that are given back in the first step."""

MANY_PAGES = 2000
"""Free pages that a prune lets gather: to give one back, SQLite searches the list of all."""

INCREMENTAL = 2
"""What `PRAGMA auto_vacuum` answers where a file can give pages back."""


@dataclass
class Run:
    """One prune of a table: what it has done, and where it is."""

    table: Table
    size: int
    pruned: int = 0
    after: Any = None
    """The value of the table's order up to which all is done: an index is full of deleted rows before it."""
    more: bool = False
    """Whether it ended before everything was done."""
    held: list[Any] = field(default_factory=list)
    """Keys of rows that did not go, most likely since others refer to them in a way that forbids it."""

    def batch(self) -> int:
        """Delete the next rows; return how many were looked at: 0 at the end."""
        order, weight = self.table.order or self.table.column, self.table.weight or "pk"
        with transaction.atomic():
            began = time.monotonic()  # not before: on SQLite a transaction waits for its turn at the start
            if connection.vendor == "postgresql":  # if the server forgets the batch in a crash, it is done again
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL synchronous_commit = off")
            rows = self.table.next(self.size, self.after, self.held)
            found = list(rows.select_for_update(skip_locked=True, of=("self",)).values_list("pk", order, weight))
            if self.table.weight:
                rows_with_others = accumulate(max(1, weight) for _pk, _order, weight in found)
                found = found[: max(1, sum(total <= self.size for total in rows_with_others))]
            if found:
                self.pruned += self._delete([pk for pk, _order, _weight in found])
                self.after = found[-1][1]
        took = time.monotonic() - began
        self.size = max(1, min(LARGEST, 2 * self.size, int(self.size * AIM / took)))
        if found:
            _let_others(took)
        return len(found)

    def _delete(self, ids: list[Any]) -> int:
        try:
            gone = self.table.delete(self.table.expired().filter(pk__in=ids))
        except (ProtectedError, RestrictedError):
            if len(ids) > 1:
                return sum(self._delete([pk]) for pk in ids)
            gone = 0
        if gone < len(ids):
            self.held += ids  # so that the next batch does not find them again
        return gone


def prune(
    table: Table,
    pruned: int = 0,
    after: Any = None,
    seconds: float = BUDGET,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[Run], object] = lambda run: None,
) -> Run:
    """Delete the rows of the table whose retention is over; return what was done.

    `pruned` and `after` are those of an earlier run that this one goes on. `tell` is called after each batch.
    """
    run = Run(table, FIRST, pruned, after)
    deadline = time.monotonic() + seconds

    def is_over() -> bool:
        return time.monotonic() > deadline or should_stop()

    while not (over := is_over()) and run.batch():
        tell(run)
        give_back_space(is_over, MANY_PAGES)
    run.more = over
    give_back_space(is_over)
    return run


def prune_tasks() -> int:
    """Delete the tasks whose retention is over, with their errors; return how many there were."""
    return prune(tables["tasks"], seconds=float("inf")).pruned


def delete_tasks(tasks: QuerySet[Task]) -> int:
    """Delete tasks with their errors, and count them in their queues' rows; return how many there were."""
    rows = list(tasks.order_by().values_list("pk", "queue_name", "status"))
    for (name, status), count in sorted(Counter((queue, status) for _pk, queue, status in rows).items()):
        column = "pruned_successful" if status == TaskResultStatus.SUCCESSFUL else "pruned_failed"
        Queue.objects.get_or_create(name=name)
        Queue.objects.filter(name=name).update(**{column: F(column) + count})
    TaskError.objects.filter(task__in=[pk for pk, _queue, _status in rows]).delete()
    tasks._raw_delete(tasks.db)  # without Django's look at each row, with all its arguments
    return len(rows)


def gives_space_back() -> bool:
    """Return whether the database can use the space of pruned rows again for something else."""
    return connection.vendor != "sqlite" or _pragma("auto_vacuum") == INCREMENTAL


def rewrite(database: Any = connection) -> None:
    """Write an SQLite file anew, without free pages, and so that it can give back those to come.

    This is no part of `init_command`: the PRAGMA takes the write lock of an existing file, for each connection.
    """
    with database.cursor() as cursor:
        cursor.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        cursor.execute("VACUUM")


def give_back_space(is_over: Callable[[], bool] = lambda: False, but: int = 0) -> None:
    """Let an SQLite file shrink by all its free pages but so many, in steps as short as a batch."""
    if connection.vendor != "sqlite" or connection.in_atomic_block or not gives_space_back():
        return  # in a transaction, `executescript` would commit it
    pages, free = PAGES, _pragma("freelist_count")
    while free > but and not is_over():
        began = time.monotonic()
        with connection.cursor() as cursor:
            cursor.executescript(f"PRAGMA incremental_vacuum({pages})")  # `execute` would end after the first page
        took = time.monotonic() - began
        free, before = _pragma("freelist_count"), free
        if free >= before:  # others free more; the next run goes on
            break
        pages = max(1, min(2 * pages, int(pages * AIM / took)))
        _let_others(took)


def _let_others(took: float) -> None:
    """Wait on SQLite, which has one writer at a time and no line: whoever asks again at once would always win."""
    if connection.vendor == "sqlite":
        time.sleep(took)


def _pragma(name: str) -> Any:
    with connection.cursor() as cursor:
        return cursor.execute(f"PRAGMA {name}").fetchone()[0]
