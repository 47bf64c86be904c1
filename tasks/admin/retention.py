"""The page /admin/tasks/retention/: every table that grows, its oldest row, what is due to go, a button to prune."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from tasks.models import Retention, Task
from tasks.retention import Table, tables
from tasks.tasks import prune

COUNTED = 100_000
"""Rows up to which a table is counted: counting takes as long as there are rows."""


@dataclass(frozen=True, slots=True)
class Line:
    """A table on the page."""

    table: Table
    rows: str
    oldest: datetime | None
    due: str
    last: Task | None


@admin.register(Retention)
class RetentionAdmin(admin.ModelAdmin[Any]):
    """A page in place of a list of rows."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As for all tasks."""
        return request.user.has_perm("tasks.view_task")

    def has_module_permission(self, request: HttpRequest) -> bool:
        """As for all tasks."""
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """There are no rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """There are no rows."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """There are no rows."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Return the address of the page, and none of rows."""
        view = require_http_methods(["GET", "HEAD", "POST"])(self.admin_site.admin_view(self.page))
        return [path("", view, name="tasks_retention_changelist")]

    def page(self, request: HttpRequest) -> HttpResponse:
        """Show the tables, or enqueue a prune of the one whose button was pressed."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        can_prune = request.user.has_perm("tasks.prune_retention")
        if request.method == "POST":
            if not can_prune:
                raise PermissionDenied
            self.prune(request, request.POST.get("table", ""))
            return redirect("admin:tasks_retention_changelist")
        context = self.admin_site.each_context(request) | {
            "title": _("Retention"),
            "opts": self.opts,
            "can_prune": can_prune,
            "lines": [line_of(table) for table in tables.values()],
        }
        return TemplateResponse(request, "admin/tasks/retention.html", context)

    def prune(self, request: HttpRequest, name: str) -> None:
        """Enqueue a prune; while one is unfinished it is that one."""
        table = tables.get(name)
        if table is None or table.goes_with:
            raise Http404
        task_id = prune.enqueue(name).id
        self.log_change(request, Task.objects.get(pk=task_id), _("Enqueued by hand."))
        link = format_html('<a href="{}">#{}</a>', reverse("admin:tasks_task_change", args=[task_id]), task_id)
        text = format_html(_("Task {task} prunes this table: {table}."), task=link, table=table.title)
        self.message_user(request, text, messages.SUCCESS)


def line_of(table: Table) -> Line:
    """Return what the page shows of a table."""
    last = Task.objects.filter(task_path=prune.module_path, idempotency_key=table.name).order_by("-pk")
    return Line(
        table,
        rows=how_many(table.rows()),
        oldest=table.oldest_row(),
        due="–" if table.goes_with else how_many(table.next(COUNTED + 1), is_whole=False),
        last=None if table.goes_with else last.first(),
    )


def how_many(rows: QuerySet[Any], is_whole: bool = True) -> str:
    """Return how many rows there are: exactly, or what PostgreSQL takes a whole table for, or that they are many."""
    count = rows.count() if not is_whole else rows.order_by()[: COUNTED + 1].count()
    if count <= COUNTED:
        return number(count)
    if is_whole and not rows.query.where and connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT reltuples FROM pg_class WHERE oid = %s::regclass", [rows.model._meta.db_table])
            estimate = int(cursor.fetchone()[0])
        if estimate > COUNTED:
            return _("about %(count)s") % {"count": number(estimate)}
    return _("more than %(count)s") % {"count": number(COUNTED)}


def number(count: int) -> str:
    """Return a number as the language writes it."""
    return number_format(count, force_grouping=True)
