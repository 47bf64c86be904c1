"""Retention: which tables grow, and for how long their rows are kept.

A table that grows is declared once, in the `tasks` module of the app that knows it best:

    retain("ticks", _("ticks"), Tick.objects.all, "created_at", lambda: timedelta(days=30))

With that `tasks.tasks.prune` can prune it, `manage.py prune ticks` too, and it has a line in the administration
(`tasks.admin.retention`). What prunes is `tasks.cleanup`. A table that is not declared, since it does not grow, is
listed with its reason in tests/tasks/test_retention.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models.deletion import Collector
from django.db.models.functions import Now
from django.utils.formats import number_format
from django.utils.translation import ngettext

tables: dict[str, Table] = {}


def delete(rows: models.QuerySet[Any]) -> int:
    """Delete rows with all their conditions in the DELETE, and by Django's rules what refers to them; return how many.

    Raises ProtectedError or RestrictedError where these rules forbid it.
    """
    collector = Collector(using=rows.db, origin=rows)
    if not collector.can_fast_delete(rows):
        collector.collect(rows)
        collector.data.pop(rows.model, None)  # Django would delete them by their keys alone
        collector.delete()
    return rows._raw_delete(rows.db)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that grows. Made by `retain`."""

    name: str
    """The argument of `manage.py prune`."""

    title: Any
    """The same for people, translated."""

    rows: Callable[[], models.QuerySet[Any]]
    """All rows that this retention is about."""

    column: str
    """The time from which on a row is kept for `kept`. It has an index, unless `order` says otherwise."""

    kept: Callable[[], timedelta] = timedelta
    """How long. 0, the default: `column` is the end of it already."""

    order: str = ""
    """The indexed column in which old rows come first: `column`, or "pk" where that has no index and ids grow."""

    weight: str = ""
    """A column that tells how many rows of other tables go with a row."""

    delete: Callable[[models.QuerySet[Any]], int] = delete
    """Deletes the rows of a batch, which are locked, in the transaction that it is called in; returns how many."""

    oldest: Callable[[], datetime | None] | None = None
    """When the oldest row was made; None: `column` of the first row in `order`."""

    words: Callable[[], Any] | None = None
    """The retention for people; None: `kept` in words."""

    groups: tuple[str, ...] = ()
    """Columns by which a dry run counts."""

    goes_with: str = ""
    """Name of the table with whose rows these go. Then nothing prunes them by themselves."""

    def expired(self) -> models.QuerySet[Any]:
        """Return the rows whose retention is over, by the database's clock."""
        kept = self.kept()
        end: Any = Now() - kept if kept else Now()
        return self.rows().filter(**{f"{self.column}__lte": end})

    def next(self, count: int, after: Any = None, without: list[Any] | None = None) -> models.QuerySet[Any]:
        """Return at most so many expired rows, in `order`, from the value `after` on."""
        order = self.order or self.column
        expired = self.expired().exclude(pk__in=without) if without else self.expired()
        if order == "pk":
            # not the first that have expired: a search for them by a column without an index ends at the last row
            first = self.rows().order_by("pk").filter(**({} if after is None else {"pk__gt": after}))
            return expired.filter(pk__in=first.values("pk")[:count]).order_by("pk")
        return expired.filter(**({} if after is None else {f"{order}__gte": after})).order_by(order)[:count]

    def oldest_row(self) -> datetime | None:
        """Return when the oldest row was made."""
        if self.oldest:
            return self.oldest()
        return self.rows().order_by(self.order or self.column).values_list(self.column, flat=True).first()

    def kept_in_words(self) -> str:
        """Return how long rows are kept, for people."""
        return str(self.words() if self.words else in_words(self.kept()))


def retain(
    name: str,
    title: Any,
    rows: Callable[[], models.QuerySet[Any]],
    column: str,
    kept: Callable[[], timedelta] = timedelta,
    **options: Any,
) -> Table:
    """Declare a table that grows, see Table; return it. Raises ValueError if the name is taken."""
    if name in tables:
        raise ValueError(f"There is a table {name!r} already.")
    tables[name] = Table(name=name, title=title, rows=rows, column=column, kept=kept, **options)
    return tables[name]


def pruned_tables() -> list[Table]:
    """Return the tables that are pruned by themselves."""
    return [table for table in tables.values() if not table.goes_with]


def in_words(duration: timedelta) -> str:
    """Return a duration in days, if these are whole, in hours, or in minutes below one."""
    if duration < timedelta(hours=1):
        minutes = round(duration / timedelta(minutes=1))
        return ngettext("%(count)d minute", "%(count)d minutes", minutes) % {"count": minutes}
    if duration >= timedelta(days=10) or not duration % timedelta(days=1):
        days = round(duration / timedelta(days=1))
        return ngettext("%(count)d day", "%(count)d days", days) % {"count": days}
    hours = round(duration / timedelta(hours=1), 1)
    count = number_format(int(hours) if hours == int(hours) else hours)
    return ngettext("%(count)s hour", "%(count)s hours", 1 if hours == 1 else 2) % {"count": count}
