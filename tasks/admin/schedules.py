"""Schedules in the administration: read what became of their due times, make some, override, pause and run them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import JSONObject
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django_tasks.exceptions import InvalidTaskError

from tasks import timetable
from tasks.admin.schedule_form import MADE_BY_HAND, POLICY, TIMES, PauseForm, ScheduleForm
from tasks.admin.tasks import CheckedSelection, call_text
from tasks.admin.ticks import local_time, outcome_of, task_of, with_their_tasks
from tasks.functions import registry
from tasks.models import Schedule, Tick

TICKS = 20
"""Ticks on the page of a schedule."""

AT_ONCE = 500
"""Schedules that one request runs or pauses; Django takes at most 1,000 fields of a form."""

HEADINGS = (_("due"), _("outcome"), _("task"))


class StateFilter(admin.SimpleListFilter):
    """What an operator looks for."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Name the states."""
        return [
            ("service", _("in service")),
            ("trouble", _("trouble")),
            ("paused", _("paused")),
            ("retired", _("retired")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> QuerySet[Schedule]:
        """Return those in the state."""
        match self.value():
            case "service":
                return queryset.filter(retired_at__isnull=True)
            case "trouble":
                return queryset.filter(retired_at__isnull=True).exclude(problem="")
            case "paused":
                return queryset.filter(pk__in=Schedule.objects.paused())
            case "retired":
                return queryset.filter(retired_at__isnull=False)
        return queryset


@admin.register(Schedule)
class ScheduleAdmin(CheckedSelection):
    """All schedules."""

    form = ScheduleForm
    list_display = ("name_", "times_", "due_", "latest_tick", "state")
    list_filter = (StateFilter,)
    search_fields = ("name", "task_path")
    ordering = ("name",)
    actions = ("run", "pause", "resume", "follow_the_code", "retire", "take_back")
    change_form_template = "admin/tasks/schedule/change_form.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        """Return the rows with their latest tick."""
        columns = JSONObject(**{name: name for name in ("due_at", "outcome", "reason", "requested_by")})
        latest = Tick.objects.filter(schedule=OuterRef("pk")).order_by("-due_at").values(columns=columns)
        return super().get_queryset(request).annotate(latest_columns=Subquery(latest[:1]))

    def get_fieldsets(self, request: HttpRequest, obj: Schedule | None = None) -> Any:
        """What a person may set, and below it what became of it."""
        if obj is None:
            return [(None, {"fields": MADE_BY_HAND}), (_("When"), {"fields": TIMES}), (_("How"), {"fields": POLICY})]
        by_hand = obj.declared is None and self.has_change_permission(request, obj) and may_see_arguments(request, obj)
        what = MADE_BY_HAND if by_hand else ("name", "task_path", "arguments")
        times = TIMES if obj.declared is None else (*TIMES, "code_says")
        return [
            (None, {"fields": ("state", "next_times", "ticks_")}),
            (_("What"), {"fields": what}),
            (_("When"), {"fields": times}),
            (_("How"), {"fields": POLICY}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Schedule | None = None) -> Any:
        """Of what the code declares only the times can be overridden."""
        shown = ("state", "next_times", "ticks_", "arguments", "code_says")
        if obj is None or (obj.declared is None and may_see_arguments(request, obj)):
            return shown
        return (*shown, "name", "task_path", "args", "kwargs", *(POLICY if obj.declared is not None else ()))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the row with the arguments as this user may see them."""
        schedule: Any = super().get_object(request, object_id, from_field)
        if schedule is not None:
            schedule.shown_arguments = call_text(schedule, request.user.has_perm("tasks.view_task_arguments"))
        return schedule

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """Offer on the page what the list offers for several."""
        schedule = None if object_id is None else self.get_object(request, object_id)
        context = {"page_actions": [] if schedule is None else self.actions_for(request, schedule)}
        return super().changeform_view(request, object_id, form_url, {**(extra_context or {}), **context})

    def actions_for(self, request: HttpRequest, schedule: Schedule) -> list[tuple[str, Any]]:
        """Return name and label of what this user can do with this one now."""
        is_retired, is_paused = schedule.retired_at is not None, schedule.is_paused(timezone.now())
        is_possible = {
            "run": not is_retired,
            "pause": not is_retired and not is_paused,
            "resume": is_paused,
            "follow_the_code": schedule.is_overridden,
            "retire": schedule.declared is None and not is_retired,
            "take_back": schedule.declared is None and is_retired,
        }
        labels = {
            "run": _("Run it now"),
            "pause": _("Pause it"),
            "resume": _("Resume it"),
            "follow_the_code": _("Follow the code again"),
            "retire": _("Take it out of service"),
            "take_back": _("Put it into service again"),
        }
        return [(name, labels[name]) for name in self.get_actions(request) if is_possible.get(name)]

    def save_model(self, request: HttpRequest, obj: Schedule, form: Any, change: bool) -> None:
        """Settle what has passed by the old times before there are new ones."""
        if change:
            timetable.change(obj, **{name: form.cleaned_data[name] for name in form.changed_data})
        else:
            timetable.add(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """It is retired instead: its ticks say what happened."""
        return False

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may run one now."""
        return request.user.has_perm("tasks.run_schedule")

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may pause and resume."""
        return request.user.has_perm("tasks.pause_schedule")

    @admin.display(description=_("name"), ordering="name")
    def name_(self, schedule: Schedule) -> SafeString:
        """Its name, and its function if that is another."""
        path = "" if schedule.name == schedule.task_path else schedule.task_path
        return format_html('{} <span class="task-module">{}</span>', schedule.name, path)

    @admin.display(description=_("times"), ordering="timing")
    def times_(self, schedule: Schedule) -> SafeString:
        """When it is due, and whether the code says so."""
        note = _("overridden") if schedule.is_overridden else ""
        return format_html(
            '<code>{}</code> {} <span class="task-module">{}</span>', schedule.timing, _zone(schedule), note
        )

    @admin.display(description=_("next"), ordering="due_at")
    def due_(self, schedule: Schedule) -> str:
        """Its next due time, on the clock of its zone."""
        times = [] if schedule.problem else schedule.next_times(timezone.now(), 1)
        return local_time(schedule, times[0]) if times else "–"

    @admin.display(description=_("latest tick"))
    def latest_tick(self, schedule: Any) -> str:
        """What became of its latest due time."""
        if not schedule.latest_columns:
            return "–"
        columns = schedule.latest_columns
        tick = Tick(**columns | {"due_at": _time(columns["due_at"])})
        return f"{local_time(schedule, tick.due_at)}: {outcome_of(tick)}"

    @admin.display(description=_("state"))
    def state(self, schedule: Schedule) -> SafeString | str:
        """Whether it is in service, and why not."""
        health = schedule.health(timezone.now())
        if health == "retired":
            return str(_("Retired: the code does not declare it, or somebody took it out of service."))
        if health == "trouble":
            return format_html('<span class="task-status task-failed">{}</span> {}', _("trouble"), schedule.problem)
        if health == "overdue":
            return str(_("Overdue: no cluster settles it. Start one (TASKS_SCHEDULES=1): manage.py qcluster"))
        if health == "paused":
            said = {"who": schedule.paused_by, "why": schedule.paused_reason or "–"}
            if schedule.paused_until is None:
                return str(_("Paused by %(who)s: %(why)s") % said)
            said["until"] = local_time(schedule, schedule.paused_until)
            return str(_("Paused by %(who)s until %(until)s: %(why)s") % said)
        return str(_("in service"))

    @admin.display(description=_("next times"))
    def next_times(self, schedule: Schedule) -> SafeString | str:
        """The next five, each in a line."""
        times = schedule.next_times(timezone.now())
        return format_html_join("", "{}<br>", ((local_time(schedule, at),) for at in times)) or "–"

    @admin.display(description=_("latest ticks"))
    def ticks_(self, schedule: Schedule) -> SafeString | str:
        """A table of the latest, and the way to all."""
        ticks = list(with_their_tasks(schedule.ticks.order_by("-due_at"))[:TICKS])
        if not ticks:
            return str(_("None yet."))
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            ((local_time(schedule, tick.due_at), outcome_of(tick), task_of(tick)) for tick in ticks),
        )
        everything = f"{reverse('admin:tasks_tick_changelist')}?schedule__id__exact={schedule.pk}&o=-1"
        head = format_html('<tr><th scope="col">{}</th><th scope="col">{}</th><th scope="col">{}</th></tr>', *HEADINGS)
        return format_html('<table>{}{}</table><a href="{}">{}</a>', head, rows, everything, _("All ticks"))

    @admin.display(description=_("arguments"))
    def arguments(self, schedule: Any) -> SafeString:
        """As they were declared; what the task calls sensitive only for those who may see it."""
        return format_html('<pre class="task-text">{}</pre>', schedule.shown_arguments)

    @admin.display(description=_("the code says"))
    def code_says(self, schedule: Schedule) -> str:
        """The declared times, and whether they are in force."""
        if schedule.declared is None:
            return "–"
        says = " · ".join(str(part) for part in schedule.declared.values() if part)
        if not schedule.is_overridden:
            return says
        return str(_("%(times)s. It was overridden; the button above follows the code again.") % {"times": says})

    @admin.action(description=_("Run the selected schedules now"), permissions=["run"])
    def run(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Enqueue the task of each once."""
        if self.are_too_many(request, queryset):
            return
        for schedule in queryset:
            try:
                tick = timetable.run_now(schedule, by=str(request.user))
            except (TypeError, ValueError, InvalidTaskError) as error:
                self.message_user(request, f"{schedule}: {error}", messages.ERROR)
                continue
            if tick.task_id is None:
                text = _("%(name)s was not run: an earlier run is not finished.") % {"name": schedule}
                self.message_user(request, text, messages.WARNING)
                continue
            self.log_change(request, schedule, str(_("Run by hand.")))
            said = format_html("{}: {}", schedule, task_of(tick))
            self.message_user(request, said, messages.SUCCESS)

    @admin.action(description=_("Pause the selected schedules"), permissions=["pause"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> HttpResponse | None:
        """Ask why and until when, then skip their due times."""
        if self.are_too_many(request, queryset):
            return None
        form = PauseForm(request.POST if "apply" in request.POST else None)
        if not form.is_valid():
            context = {
                **self.admin_site.each_context(request),
                "title": _("Pause schedules"),
                "opts": self.opts,
                "form": form,
                "schedules": queryset,
                "from_page": "page" in request.POST,
            }
            return TemplateResponse(request, "admin/tasks/schedule/pause.html", context)
        reason, until = form.cleaned_data["reason"], form.cleaned_data["until"]
        self._each(
            request, queryset.filter(retired_at__isnull=True), _("Paused: %s") % reason,
            lambda schedule: timetable.pause(schedule, str(request.user), reason, until),
        )  # fmt: skip
        return None

    @admin.action(description=_("Resume the selected schedules"), permissions=["pause"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Let their due times count again."""
        self._each(request, queryset.filter(paused_at__isnull=False), _("Resumed."), timetable.resume)

    @admin.action(description=_("Follow the code again, where times are overridden"), permissions=["change"])
    def follow_the_code(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Give them the times that the code says."""
        overridden = [schedule for schedule in queryset if schedule.is_overridden]
        self._each(request, overridden, _("Follows the code again."), timetable.follow_the_code)

    @admin.action(description=_("Take the selected schedules out of service"), permissions=["change"])
    def retire(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Retire those that were made by hand."""
        by_hand = queryset.filter(declared__isnull=True, retired_at__isnull=True)
        self._each(request, by_hand, _("Taken out of service."), timetable.retire)

    @admin.action(description=_("Put the selected schedules into service again"), permissions=["change"])
    def take_back(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Undo it."""
        by_hand = queryset.filter(declared__isnull=True, retired_at__isnull=False)
        self._each(request, by_hand, _("Put into service again."), timetable.take_back)

    def are_too_many(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> bool:
        """Say so if more are selected than one request should do."""
        if queryset.count() <= AT_ONCE:
            return False
        said = {"count": AT_ONCE}
        self.message_user(request, _("Select at most %(count)d schedules at a time.") % said, messages.ERROR)
        return True

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> Any:
        """Go back to the page of the schedule, if that is where the button was."""
        response = super().response_action(request, queryset, *args)
        if "page" in request.POST and not isinstance(response, TemplateResponse):
            return redirect("admin:tasks_schedule_change", request.POST[ACTION_CHECKBOX_NAME])
        return response

    def _each(self, request: HttpRequest, schedules: Any, log: Any, act: Callable[[Schedule], None]) -> None:
        """Do it to each; keep who did it; say for how many it was possible."""
        done = 0
        for schedule in schedules:
            try:
                act(schedule)
            except (TypeError, ValueError, InvalidTaskError) as error:
                self.message_user(request, f"{schedule}: {error}", messages.ERROR)
                continue
            self.log_change(request, schedule, str(log))
            done += 1
        if done:
            text = ngettext("%(what)s: %(count)d schedule.", "%(what)s: %(count)d schedules.", done)
            self.message_user(request, text % {"what": str(log).rstrip("."), "count": done}, messages.SUCCESS)
        else:
            self.message_user(request, _("Nothing to do: it is not possible for the selected ones."), messages.WARNING)

    class Media:
        css = {"all": ["tasks/admin.css"]}


def may_see_arguments(request: HttpRequest, schedule: Schedule) -> bool:
    """Return whether the user may see its arguments, if some are sensitive; of a function that is gone, any may be."""
    function = registry.get(schedule.task_path)
    has_secrets = function is None or bool(function.sensitive)
    return not has_secrets or request.user.has_perm("tasks.view_task_arguments")


def _zone(schedule: Schedule) -> str:
    return "" if schedule.timing.lower().startswith("every") else schedule.timezone


def _time(value: Any) -> datetime:
    """Return a time that came out of JSON; SQLite's has no zone and is in UTC."""
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return time if timezone.is_aware(time) else timezone.make_aware(time, ZoneInfo("UTC"))
