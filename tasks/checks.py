"""System checks, run by `manage.py migrate` and `manage.py check --database default`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.db import connections
from django_q.models import Schedule as DjangoQSchedule


@checks.register(checks.Tags.database)
def check_other_schedules(databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Warn of rows in django-q2's own table of schedules: nobody runs them here."""
    table = DjangoQSchedule._meta.db_table
    if "default" not in (databases or ()) or table not in connections["default"].introspection.table_names():
        return []
    functions = sorted(DjangoQSchedule.objects.values_list("func", flat=True).order_by().distinct())
    if not functions:
        return []
    return [
        checks.Warning(
            f"The table {table} has schedules that do not run: of {', '.join(functions)}.",
            hint="Make each function a task and put @schedule(...) above it, or make the schedule in the "
            "administration, /admin/tasks/schedule/. Then delete these rows.",
            id="tasks.W001",
        )
    ]
