"""What a person may say of a schedule, checked as what the code declares is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django import forms
from django.forms.fields import InvalidJSONInput
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tasks.functions import registry, stored_arguments
from tasks.models import Schedule
from tasks.recurrence import recurrence
from tasks.schedules import MOST, check_address, check_name, check_policy

MADE_BY_HAND = ("name", "task_path", "args", "kwargs")
POLICY = ("misfire", "misfire_limit", "overlap", "ping_url")
TIMES = ("timing", "timezone", "anchor")
FIELDS = (*MADE_BY_HAND, *TIMES, *POLICY)
CONTRADICTION = _(
    "To run all that were missed does not go with skipping a run while an earlier one is not finished: the first would "
    "skip the others. Let them run beside each other or one after the other."
)


class ArgumentsField(forms.JSONField):
    """JSON that may be anything at all: Django's field does not expect long numbers and deep nesting."""

    def to_python(self, value: Any) -> Any:
        """Return the value, or refuse what cannot be read."""
        try:
            return super().to_python(value)
        except (ValueError, RecursionError):
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid") from None

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Return what the form shows again."""
        try:
            return super().bound_data(data, initial)
        except (ValueError, RecursionError):
            return InvalidJSONInput(data)


class ScheduleForm(forms.ModelForm[Schedule]):
    """What can be said of a schedule, checked as the code's own declarations are."""

    class Meta:
        model = Schedule
        fields = FIELDS
        field_classes = dict.fromkeys(("args", "kwargs"), ArgumentsField)
        widgets = {name: forms.Textarea(attrs={"rows": 2, "cols": 60}) for name in ("args", "kwargs")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "task_path" in self.fields:
            choices = [("", "---------"), *((path, path) for path in sorted(registry))]
            if self.instance.task_path and self.instance.task_path not in registry:
                choices.append((self.instance.task_path, self.instance.task_path))
            self.fields["task_path"] = forms.ChoiceField(choices=choices, label=_("Task"))
        anchor = self.fields.get("anchor")
        if anchor and isinstance(anchor.widget, forms.MultiWidget):  # its two halves have a label for the eye only
            for widget, half in zip(anchor.widget.widgets, (_("Date:"), _("Time:")), strict=True):
                widget.attrs["aria-label"] = f"{anchor.label}, {half}"

    def clean(self) -> dict[str, Any]:
        """Refuse what the schedule could not do."""
        given: dict[str, Any] = {name: getattr(self.instance, name) for name in FIELDS}
        given |= super().clean() or {}
        self._check("name", lambda: check_name(given["name"]), _("Use printable characters only, in one line."))
        self._check("timezone", lambda: recurrence("@daily", given["timezone"]))
        if "timezone" not in self.errors:
            self._check("timing", lambda: recurrence(given["timing"], given["timezone"]))
        if not {"timezone", "timing"} & set(self.errors):
            self._check("anchor", lambda: recurrence(given["timing"], given["timezone"], given["anchor"]))
        limit = _("Enter a whole number from 1 to %(most)d.") % {"most": MOST}
        self._check("misfire_limit", lambda: check_policy("once", given["misfire_limit"], "skip"), limit)
        if "misfire_limit" not in self.errors:
            policy = (given["misfire"], given["misfire_limit"], given["overlap"])
            self._check("misfire", lambda: check_policy(*policy), CONTRADICTION)
        self._check("args", lambda: _check_arguments(given["task_path"], given["args"], given["kwargs"]))
        if given["ping_url"]:
            address = _("Enter an address that begins with http:// or https://, with a host and without a user.")
            self._check("ping_url", lambda: check_address(given["ping_url"]), address)
        return given

    def _check(self, field: str, check: Callable[[], object], said: Any = None) -> None:
        """Run one of the engine's checks; `said` stands for its message where that speaks to developers."""
        if field not in self.fields or field in self.errors:
            return
        try:
            check()
        except (TypeError, ValueError) as error:
            self.add_error(field, said or str(error))


def _check_arguments(path: str, args: Any, kwargs: Any) -> None:
    if path not in registry:
        return  # said elsewhere
    if not isinstance(args, list):
        raise ValueError(_('This must be a JSON list, such as [1, "two"].'))
    if not isinstance(kwargs, dict):
        raise ValueError(_('The named arguments must be a JSON object, such as {"name": "value"}.'))
    try:
        stored_arguments(registry[path], args, kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(_("The task does not take these arguments: %(error)s") % {"error": error}) from None


class PauseForm(forms.Form):
    """Why a schedule is paused, and until when."""

    reason = forms.CharField(label=_("Why"), max_length=255)
    until = forms.DateTimeField(
        label=_("Until"),
        required=False,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        said = _("Such as 2030-12-31 08:00, time zone %(zone)s. Empty: until somebody resumes it.")
        self.fields["until"].help_text = said % {"zone": timezone.get_current_timezone_name()}

    def clean_reason(self) -> str:
        """Refuse characters that would disturb a list."""
        reason: str = self.cleaned_data["reason"]
        if not reason.isprintable():
            raise forms.ValidationError(_("Use printable characters only, in one line."))
        return reason

    def clean_until(self) -> datetime | None:
        """Refuse a time that is over."""
        until: datetime | None = self.cleaned_data["until"]
        if until is not None and until <= timezone.now():
            raise forms.ValidationError(_("This time is over."))
        return until
