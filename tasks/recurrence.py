"""When a schedule is due: pure reckoning from a text to due times, whole seconds in UTC.

Cron. Five fields: minute, hour, day of the month, month, day of the week. Each is a list of numbers, names (JAN, MON),
ranges, `*`, and steps of these (`*/15`, `8-18/2`; `5/20` goes on to the end of the field). 0 and 7 are Sunday. If both
day fields restrict, either suffices; one that begins with `*` does not, so `*/2` and a weekday must both match, as in
cron. `@hourly` and its like stand for five fields. A 29, 30 or 31 written as a number of its own means the last day in
shorter months; in a range or a step it does not. `L`, `W` and `#` are not known.

Cron speaks of the wall clock of its time zone, and a due time is the first moment at which that clock reaches or passes
the time that matches. It follows that:

- a time the clock jumps over is due right after the jump, and all times in one jump are one due time, together with a
  regular one at that moment;
- a time that the clock shows twice is due once, the first time. When clocks go back, `* * * * *` pauses for the hour
  that is repeated. What must not pause is written with `every`.

"every N seconds", minutes, hours or days counts from an anchor on the line of time: no time zone, no change of clocks.
The anchor is the first due time.

The fields are matched by cronsim, which is given naive times only: its own rules for changes of clocks differ.
Not promised: the same answer from two hosts whose time zone databases differ.
"""

import re
from abc import ABC, abstractmethod
from bisect import bisect
from calendar import monthrange
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from cronsim.cronsim import RANGES, Field
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST = timedelta(days=3650)
MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = {
    Field.MINUTE: (gettext_lazy("minute"), gettext_lazy("0 to 59")),
    Field.HOUR: (gettext_lazy("hour"), gettext_lazy("0 to 23")),
    Field.DAY: (gettext_lazy("day of the month"), gettext_lazy("1 to 31")),
    Field.MONTH: (gettext_lazy("month"), gettext_lazy("1 to 12, JAN to DEC")),
    Field.DOW: (gettext_lazy("day of the week"), gettext_lazy("0 to 7, SUN to SAT")),
}
REFUSALS: dict[str, Promise] = {
    "boot": gettext_lazy("%(text)r names no time: a schedule is due by the clock, not when a machine starts."),
    "six": gettext_lazy("%(text)r has six fields: cron has five here, and knows no seconds."),
    "unknown": gettext_lazy("%(text)r is not a recurrence."),
}
EVERY = re.compile(r"every (?:([0-9]{1,9}) (second|minute|hour|day)s?|(second|minute|hour|day))")
TERM = re.compile(r"(\*|(?:[0-9]{1,2}|[a-z]{3})(?:-(?:[0-9]{1,2}|[a-z]{3}))?)(?:/([0-9]{1,2}))?", re.IGNORECASE)


class Recurrence(ABC):
    """A rule that says when something is due. It never changes, and equals another of the same rule."""

    @abstractmethod
    def after(self, moment: datetime) -> datetime:
        """Return the first due time later than the aware `moment`, in UTC; ValueError beyond the years 2 to 8999."""


def recurrence(text: str, timezone: str = "UTC", anchor: datetime | None = None) -> Recurrence:
    """Return the recurrence that `text` describes: cron on the clock of `timezone`, or `every` from `anchor` on.

    The anchor is 1970-01-01 00:00 UTC unless it is given; its microseconds are dropped. Raises ValueError, with a
    message for people, if an argument is not understood or the text is never due.
    """
    zone = _zone(timezone)
    words = " ".join(text.lower().split())
    if words.startswith("every"):
        return _every(text, words, EPOCH if anchor is None else _in_utc("anchor", anchor))
    if anchor is not None:
        raise ValueError(_('An anchor is allowed with "every" only, not with %(text)r.') % {"text": text})
    if words == "@reboot":
        raise _refusal(text, "boot")
    fields = MACROS.get(words, text).split()
    if len(fields) == 6:
        raise _refusal(text, "six")
    if len(fields) != 5:
        raise _refusal(text, "unknown")
    return Cron(" ".join(fields).lower(), zone, _matcher(text, fields))


@dataclass(frozen=True)
class Every(Recurrence):
    """Due at the anchor, and again after each step."""

    step: timedelta
    anchor: datetime

    def after(self, moment: datetime) -> datetime:
        """Return the first due time later than the aware `moment`, in UTC."""
        now = _in_utc("moment", moment)
        return self.anchor if now < self.anchor else self.anchor + ((now - self.anchor) // self.step + 1) * self.step


@dataclass(frozen=True)
class Cron(Recurrence):
    """Due when the wall clock of a zone matches five fields."""

    expression: str
    zone: ZoneInfo
    matcher: "_Matcher" = field(repr=False, compare=False)

    def after(self, moment: datetime) -> datetime:
        """Return the first due time later than the aware `moment`, in UTC."""
        now = due = _in_utc("moment", moment)
        local_times = copy(self.matcher)
        local_times.dt = self._wall(now)
        while due <= now:  # the times of a repeated hour were due already
            due = self._first_moment(next(local_times))
        return due

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone).replace(tzinfo=None, fold=0)

    def _first_moment(self, local: datetime) -> datetime:
        """Return when the wall clock first reaches or passes `local`."""
        moment = local.replace(tzinfo=self.zone).astimezone(UTC)
        if self._wall(moment) == local:
            return moment
        before = local.replace(tzinfo=self.zone, fold=1).astimezone(UTC)  # in a gap, fold=1 is the earlier moment
        seconds = range((moment - before) // timedelta(seconds=1))
        jump = bisect(seconds, False, key=lambda passed: self._wall(before + timedelta(seconds=passed)) > local)
        return before + timedelta(seconds=jump)


class _Matcher(CronSim):
    """The naive times that match five fields; `dt` is where it stands, each copy has its own."""

    def __init__(self, minute: str, hour: str, day: str, month: str, weekday: str) -> None:
        self.alone = max((int(term) for term in day.split(",") if term in ("29", "30", "31")), default=0)
        if self.alone:
            day += ",L"  # without it, CronSim refuses "30 2", which is the end of February here
        super().__init__(f"{minute} {hour} {day} {month} {weekday}", EPOCH.replace(tzinfo=None))

    def match_dom(self, d: date) -> bool:
        return d.day in self.days or (28 <= d.day < self.alone and d.day == monthrange(d.year, d.month)[1])


def _every(text: str, words: str, anchor: datetime) -> Every:
    if match := EVERY.fullmatch(words):
        number, plural, single = match.groups()
        step = timedelta(**{f"{plural or single}s": int(number or 1)})
        if timedelta() < step <= LONGEST:
            return Every(step, anchor)
    raise _refusal(text, "unknown")


def _matcher(text: str, fields: list[str]) -> _Matcher:
    terms = ([_term(text, term, kind) for term in value.split(",")] for value, kind in zip(fields, FIELDS, strict=True))
    try:
        return _Matcher(*map(",".join, terms))
    except CronSimError:
        said = _("%(text)r is never due: no month it names has such a day.") % {"text": text}
        raise ValueError(said) from None


def _term(text: str, term: str, kind: Field) -> str:
    """Return one term of a field as cronsim understands it."""
    name, values = FIELDS[kind]
    longest = max(RANGES[kind])
    match = TERM.fullmatch(term)
    try:
        if match and int(match[2] or 1) <= longest and kind.parse(term.upper()):
            # cronsim reads 5-5/2 as 5/2, which goes on to the end of the field
            return match[1] if "-" in term and len(kind.parse(match[1].upper())) == 1 else term
    except CronSimError:
        pass
    said = _(
        "%(text)r: %(term)r is no value for the field “%(name)s”. Allowed are %(values)s, *, ranges upwards (1-5), "
        "steps up to %(longest)d (*/5, 2-9/3), and lists of these (1,3)."
    )
    raise ValueError(said % {"text": text, "term": term, "name": name, "values": values, "longest": longest})


@cache
def _zone(name: str) -> ZoneInfo:
    # ZoneInfo alone raises all kinds of errors, and knows more: `localtime`, which differs from host to host, and
    # `right/...`, which counts leap seconds.
    if name not in available_timezones() - {"localtime"}:
        said = _("%(name)r is not a time zone. Allowed are the names of the IANA database, such as 'Europe/Berlin'.")
        raise ValueError(said % {"name": name})
    return ZoneInfo(name)


def _in_utc(name: str, moment: datetime) -> datetime:
    if moment.utcoffset() is None or not 2 <= moment.year < 9000:
        said = _("The %(name)s is %(moment)s. Allowed is a time with its UTC offset, in the years 2 to 8999.")
        raise ValueError(said % {"name": _(name), "moment": moment})
    return moment.astimezone(UTC).replace(microsecond=0)


def _refusal(text: str, reason: str) -> ValueError:
    allowed = _(
        "Allowed are five fields of cron (%(fields)s), %(macros)s, and "
        '"every N seconds", minutes, hours or days: N is a whole number from 1, and the whole at most 3650 days.'
    ) % {"fields": ", ".join(str(name) for name, _values in FIELDS.values()), "macros": ", ".join(MACROS)}
    return ValueError(f"{REFUSALS[reason] % {'text': text}} {allowed}")
