"""Tasks in the administration: read them, read why they failed, retry them, discard them. Nothing is edited by hand."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any

import django_q.admin  # registers what is unregistered below
import django_q.models
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import JSONObject
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext, pgettext_lazy
from django_tasks import TaskResultStatus

from tasks.functions import registry
from tasks.models import Cluster, FailedTask, Queue, Task, TaskError, TaskQuerySet

HIDDEN = "••••"

# django-tasks marks the names of the states and translates them into no language; here they get into our catalogues.
STATES = (
    pgettext_lazy("Task", "Ready"),
    pgettext_lazy("Task", "Running"),
    pgettext_lazy("Task", "Failed"),
    pgettext_lazy("Task", "Successful"),
)

# django-q2's own tables stay empty here, and its "add schedule" runs any importable function.
for model in (django_q.models.Failure, django_q.models.Success, django_q.models.Schedule):
    admin.site.unregister(model)


class CheckedSelection(admin.ModelAdmin[Any]):
    """Actions on rows that were selected, and on nothing that no row can be."""

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> Any:
        """Refuse ids that are none; Django would fail at them."""
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if all(re.fullmatch("[0-9]{1,18}", pk, re.ASCII) for pk in selected):
            return super().response_action(request, queryset, *args)
        self.message_user(request, _("What was selected does not exist. Select rows of the list."), messages.ERROR)
        return None


class ReadOnly(CheckedSelection):
    """Rows that the engine writes and people read."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        """Nobody adds one by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits one."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows go when their retention is over."""
        return False


@admin.register(Task)
class TaskAdmin(ReadOnly):
    """All tasks."""

    list_display = [
        "name",
        "status_",
        "queue_name",
        "attempts_",
        "age",
        "duration",
        "latest_error",
    ]
    list_filter = ["status", "queue_name", "task_path"]
    search_fields = ("=id", "task_path", "errors__message")
    search_help_text = _("An id, a part of the task's path, or of an error's message")
    ordering = ("-pk",)
    list_per_page = 50
    show_full_result_count = False
    actions = ("retry", "cancel", "discard")
    fieldsets = (
        (None, {"fields": (
            "task_path", "status_", "why", "queue_name", "priority", "attempts_", "errors_", "arguments", "result")}),
        (_("Times"), {"fields": (
            "enqueued_at", "run_after", "started_at", "last_attempted_at", "finished_at", "discarded_at")}),
        (_("Engine"), {"classes": ("collapse",), "fields": (
            "worker_ids", "cluster_", "lease_id", "leased_at", "idempotency_key", "checkpoint", "progress")}),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        """Return the rows with their latest error, as the columns that `describe` shows."""
        columns = JSONObject(**{name: name for name in ("kind", "exception_path", "message", "traceback")})
        latest = TaskError.objects.filter(task=OuterRef("pk")).order_by("-pk").values(columns=columns)
        return super().get_queryset(request).annotate(latest_error_columns=Subquery(latest[:1]))

    @admin.display(description=_("task"), ordering="pk")
    def name(self, task: Task) -> SafeString:
        """Its number, its function and where that is."""
        module, _dot, function = task.task_path.rpartition(".")
        return format_html('#{} {} <span class="task-module">{}</span>', task.pk, function, module)

    @admin.display(description=_("status"), ordering="status")
    def status_(self, task: Task) -> SafeString:
        """The status, with what it means for a task that is READY or FAILED."""
        status = TaskResultStatus(task.status)
        return format_html('<span class="task-status task-{}">{}</span> {}', status.lower(), status, note(task))

    @admin.display(description=_("why it waits"))
    def why(self, task: Task) -> str:
        """What a READY task waits for."""
        if task.status != TaskResultStatus.READY:
            return "–"
        if task.task_path not in registry:
            return str(_("This release has no such task function. It waits for a release that has it; or cancel it."))
        if task.held_at is not None:
            return str(_("No running cluster has its function. Start one of this release: manage.py qcluster"))
        if queue := Queue.objects.paused().filter(pk=task.queue_name).first():
            who = {"who": queue.paused_by or _("somebody"), "why": queue.paused_reason or _("no reason was given")}
            return str(_("Its queue was paused by %(who)s: %(why)s. Resume it: manage.py resumequeue") % who)
        if task.run_after > timezone.now():
            return str(_("It is to run later."))
        serving = [cluster for cluster in Cluster.objects.alive() if task.queue_name in cluster.queues]
        if not serving:
            return str(_("No cluster serves its queue. Start one: manage.py qcluster"))
        return str(_("For a free worker."))

    @admin.display(description=_("attempts"), ordering="attempts")
    def attempts_(self, task: Task) -> str:
        """So many of so many."""
        return f"{task.attempts} / {task.max_attempts}"

    @admin.display(description=_("age"), ordering="enqueued_at")
    def age(self, task: Task) -> str:
        """Time since it was enqueued."""
        return readable(timezone.now() - task.enqueued_at)

    @admin.display(description=_("duration"))
    def duration(self, task: Task) -> str:
        """Length of the latest attempt."""
        if task.last_attempted_at is None or task.status == TaskResultStatus.READY:
            return "–"
        return readable((task.finished_at or timezone.now()) - task.last_attempted_at)

    @admin.display(description=_("latest error"))
    def latest_error(self, task: Any) -> SafeString | str:
        """One line, which opens to the traceback."""
        return describe(TaskError(**task.latest_error_columns)) if task.latest_error_columns else "–"

    @admin.display(description=_("attempts that did not succeed"))
    def errors_(self, task: Task) -> SafeString | str:
        """Each with its traceback, the latest first and open."""
        errors = task.errors.order_by("-pk")
        return (
            format_html_join(
                "",
                '<div class="task-attempt"><p>{} {} · {} · {}</p>{}</div>',
                (
                    (
                        _("Attempt"),
                        error.attempt,
                        error.get_kind_display(),
                        error.worker_id,
                        describe(error, not number),
                    )
                    for number, error in enumerate(errors)
                ),
            )
            or "–"
        )

    @admin.display(description=_("arguments"))
    def arguments(self, task: Any) -> SafeString:
        """As they were given; what the task calls sensitive only for those who may see it. See get_object."""
        return format_html('<pre class="task-text">{}</pre>', task.shown_arguments)

    @admin.display(description=_("return value"))
    def result(self, task: Task) -> SafeString | str:
        """As JSON."""
        if task.status != TaskResultStatus.SUCCESSFUL:
            return "–"
        return format_html(
            '<pre class="task-text">{}</pre>', json.dumps(task.return_value, indent=2, ensure_ascii=False)
        )

    @admin.display(description=_("cluster"))
    def cluster_(self, task: Task) -> str:
        """The holder of the lease."""
        cluster = Cluster.objects.filter(pk=task.cluster_id).first() if task.cluster_id else None
        return str(cluster or task.cluster_id or "–")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the row with the arguments as this user may see them."""
        task = super().get_object(request, object_id, from_field)
        if task is not None:
            task.shown_arguments = call_text(task, everything=request.user.has_perm("tasks.view_task_arguments"))
        return task

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may retry."""
        return request.user.has_perm("tasks.retry_task")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may cancel."""
        return request.user.has_perm("tasks.cancel_task")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may discard."""
        return request.user.has_perm("tasks.discard_task")

    @admin.action(description=_("Retry the selected failed tasks"), permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Make them READY, with one attempt more at least."""
        self._act(request, queryset, _("Retried by hand."), lambda tasks: tasks.retry())

    @admin.action(description=_("Cancel the selected tasks (waiting or running)"), permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Stop them: at once, or as soon as their code lets them."""
        self._act(request, queryset, _("Cancelled by hand."), lambda tasks: tasks.cancel(by=str(request.user)))

    @admin.action(description=_("Discard the selected failed tasks"), permissions=["discard"])
    def discard(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Take them out of the list of failures."""
        self._act(request, queryset, _("Discarded by hand."), lambda tasks: tasks.discard())

    def _act(self, request: HttpRequest, queryset: QuerySet[Task], log: Any, act: Any) -> None:
        """Do it task by task, the latest first; keep who did it; say for how many it was possible."""
        done = 0
        selected = Task.objects.filter(pk__in=list(queryset.values_list("pk", flat=True))).order_by("-pk")
        for task in selected:
            with transaction.atomic():
                if act(TaskQuerySet(Task).filter(pk=task.pk)):
                    done += 1
                    self.log_change(request, task, str(log))
        if done:
            text = ngettext("%(what)s: %(count)d task.", "%(what)s: %(count)d tasks.", done)
            self.message_user(request, text % {"what": str(log).rstrip("."), "count": done}, messages.SUCCESS)
        if left := len(selected) - done:
            text = ngettext(
                "%(count)d task was left alone: its status does not allow it (any more).",
                "%(count)d tasks were left alone: their status does not allow it (any more).",
                left,
            )
            self.message_user(request, text % {"count": left}, messages.WARNING)

    class Media:
        css = {"all": ["tasks/admin.css"]}


@admin.register(FailedTask)
class FailedTaskAdmin(TaskAdmin):
    """The failures that nobody has looked after yet, with why they failed."""

    list_display = ["name", "queue_name", "attempts_", "failed", "latest_error"]
    list_filter = ["queue_name", "task_path"]
    ordering = ("-finished_at",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return FAILED tasks that are not discarded."""
        return super().get_queryset(request).filter(status=TaskResultStatus.FAILED, discarded_at__isnull=True)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As for all tasks."""
        return request.user.has_perm("tasks.view_task")

    def has_module_permission(self, request: HttpRequest) -> bool:
        """As for all tasks."""
        return self.has_view_permission(request)

    @admin.display(description=_("failed"), ordering="finished_at")
    def failed(self, task: Task) -> str:
        """How long ago."""
        if task.finished_at is None:
            return "–"
        return str(_("%(time)s ago") % {"time": readable(timezone.now() - task.finished_at)})


def describe(error: TaskError, is_open: bool = False) -> SafeString:
    """Return an error as one line that opens to its message and traceback, without a script."""
    text = error.traceback or error.message
    if not text:
        return format_html("{}", error)
    return format_html(
        '<details class="task-error"{}><summary>{}</summary><pre class="task-text">{}</pre></details>',
        SafeString(" open") if is_open else "",
        str(error),
        text,
    )


def note(task: Task) -> Any:
    """Return what the status does not say: retrying, scheduled, claimed, cancelled, discarded."""
    if task.status == TaskResultStatus.READY:
        if task.lease_id:
            return _("claimed")
        if task.held_at:
            return _("held")
        if task.attempts:
            return _("retrying")
        if task.run_after > timezone.now():
            return _("scheduled")
    if task.status == TaskResultStatus.RUNNING and task.cancel_requested_at:
        return _("is being cancelled")
    if task.cancel_requested_at and task.discarded_at:
        return _("cancelled")
    if task.discarded_at:
        return _("discarded")
    return ""


def readable(duration: timedelta) -> str:
    """Return a duration as people say it: 12 ms, 3.4 s, 5 min 6 s, 2 h 3 min, 4 d 5 h."""
    seconds = max(0.0, duration.total_seconds())
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    for (size, unit), (smaller, smaller_unit) in pairwise([(86400, "d"), (3600, "h"), (60, "min"), (1, "s")]):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // smaller} {smaller_unit}"
    return ""


def call_text(task: Task, everything: bool) -> str:
    """Return the arguments one to a line, by name where they are known; sensitive ones hidden unless `everything`.

    The names are not known if the function is gone or took others at the enqueue; then any may be a sensitive one.
    """
    if not isinstance(task.args, list) or not isinstance(task.kwargs, dict):  # a row made by hand
        return json.dumps([task.args, task.kwargs], ensure_ascii=False) if everything else HIDDEN
    function = registry.get(task.task_path)
    named = [(str(position), value) for position, value in enumerate(task.args)] + list(task.kwargs.items())
    hidden = [name for name, value in named]
    if function is not None:
        hidden = hidden if function.sensitive else []
        with suppress(TypeError):  # enqueued by a release in which the function took other arguments
            named = list(function.signature.bind(*task.args, **task.kwargs).arguments.items())
            hidden = list(function.sensitive)
    if everything:
        hidden = []
    lines = (f"{name} = {HIDDEN if name in hidden else json.dumps(value, ensure_ascii=False)}" for name, value in named)
    return "\n".join(lines) or str(_("none"))
