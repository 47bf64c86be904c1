"""From a text to due times, by example and against a walk along the wall clock, minute by minute.

The long form, with other examples each time: `LAWS_EXAMPLES=5000 pytest tests/tasks/test_recurrence.py -n 0`.
"""

from __future__ import annotations

import os
import pickle
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tasks.recurrence import Recurrence, recurrence

LONG_FORM = int(os.environ.get("LAWS_EXAMPLES", "0"))
many = settings(max_examples=LONG_FORM or 100, derandomize=not LONG_FORM, deadline=None)
pytestmark = pytest.mark.timeout(0 if LONG_FORM else 120)

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def chain(rule: Recurrence, moment: datetime) -> Iterator[datetime]:
    while True:
        moment = rule.after(moment)
        yield moment


def first(count: int, text: str, moment: str, zone: str = "UTC") -> list[str]:
    """Return the first due times after the moment, written as moments of UTC."""
    times = chain(recurrence(text, zone), at(moment))
    return [f"{next(times):%Y-%m-%d %H:%M}" for _ in range(count)]


# Fields --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("* * * * *", "2026-11-25 10:08"),
        ("*/15 * * * *", "2026-11-25 10:15"),
        ("5/20 * * * *", "2026-11-25 10:25"),
        ("59,0,08,7 * * * *", "2026-11-25 10:08"),
        ("0 8-18/5 * * *", "2026-11-25 13:00"),
        ("0 5-5/2 * * *", "2026-11-26 05:00"),
        ("30 2 * * *", "2026-11-26 02:30"),
        ("  30\t2  * * * ", "2026-11-26 02:30"),
        ("0 0 * JAN,dec *", "2026-12-01 00:00"),
        ("0 0 1 jan-Mar/2 *", "2027-01-01 00:00"),
        ("0 9 * * mon-FRI", "2026-11-26 09:00"),
        ("0 0 * * 0", "2026-11-29 00:00"),
        ("0 0 * * 7", "2026-11-29 00:00"),
        ("0 0 * * Sun", "2026-11-29 00:00"),
        ("0 0 * * 6-7", "2026-11-28 00:00"),
        ("0 0 13 * *", "2026-12-13 00:00"),
        ("0 0 13 * FRI", "2026-11-27 00:00"),
        ("0 0 26 * FRI", "2026-11-26 00:00"),
        ("0 0 */2 * THU", "2026-12-03 00:00"),
        ("0 0 26 * */5", "2027-02-26 00:00"),
        ("@hourly", "2026-11-25 11:00"),
        ("@daily", "2026-11-26 00:00"),
        ("@Midnight", "2026-11-26 00:00"),
        ("@weekly", "2026-11-29 00:00"),
        ("@monthly", "2026-12-01 00:00"),
        ("@yearly", "2027-01-01 00:00"),
        (" @annually ", "2027-01-01 00:00"),
    ],
)
def test_cron_is_due_when_its_fields_match(text, due):
    assert first(1, text, "2026-11-25 10:07:30") == [due]


def test_a_due_time_is_later_than_the_moment_and_in_utc():
    nightly = recurrence("30 2 * * *", "Europe/Berlin")
    due = at("2026-11-25 01:30")
    assert nightly.after(due - timedelta(microseconds=1)) == due
    assert nightly.after(due) == nightly.after(due + timedelta(microseconds=1)) == due + DAY
    assert nightly.after(due.astimezone(ZoneInfo("Pacific/Apia"))).tzinfo is UTC


def test_a_question_changes_nothing():
    nightly = recurrence("30 2 * * *", "Europe/Berlin")
    before = pickle.dumps(nightly)
    answers = [nightly.after(NOON + days * DAY) for days in (0, 9, 0)]
    assert answers == [at("2026-11-26 01:30"), at("2026-12-05 01:30"), at("2026-11-26 01:30")]
    assert pickle.dumps(nightly) == before


def test_recurrences_of_the_same_rule_are_equal():
    assert recurrence("@daily") == recurrence(" 0 0 * *  *") != recurrence("@daily", "Europe/Berlin")
    assert recurrence("0 0 * * mon") == recurrence("0 0 * * MON")
    assert len({recurrence("every minute"), recurrence("every 60 seconds"), recurrence("every hour")}) == 2
    assert recurrence("every day") != recurrence("every day", anchor=NOON)
    assert recurrence("every day", anchor=NOON) == recurrence("every day", anchor=NOON.astimezone(timezone(HOUR)))


@pytest.mark.parametrize(
    ("day", "month", "days"),
    [
        ("31", "*", ["01-31", "02-28", "03-31", "04-30", "05-31", "06-30"]),
        ("30", "*", ["01-30", "02-28", "03-30", "04-30", "05-30", "06-30"]),
        ("29", "*", ["01-29", "02-28", "03-29", "04-29", "05-29", "06-29"]),
        ("1,31", "2-4", ["02-01", "02-28", "03-01", "03-31", "04-01", "04-30"]),
        ("29,31", "1-3", ["01-29", "01-31", "02-28", "03-29", "03-31"]),
        ("29,30-31", "1-3", ["01-29", "01-30", "01-31", "02-28", "03-29", "03-30", "03-31"]),
        ("29-31", "1-3", ["01-29", "01-30", "01-31", "03-29", "03-30", "03-31"]),
        ("31-31", "*", ["01-31", "03-31", "05-31", "07-31"]),
        ("31/1", "*", ["01-31", "03-31", "05-31", "07-31"]),
        ("1/30", "1-3", ["01-01", "01-31", "02-01", "03-01", "03-31"]),
    ],
)
def test_a_day_a_month_does_not_have_is_its_last_if_it_is_a_number_on_its_own(day, month, days):
    assert first(len(days), f"0 0 {day} {month} *", "2026-12-31") == [f"2027-{due} 00:00" for due in days]


def test_the_last_day_of_february_follows_the_leap_years():
    ends = ["2027-02-28 00:00", "2028-02-29 00:00", "2029-02-28 00:00"]
    assert first(3, "0 0 31 2 *", "2026-12-31") == first(3, "0 0 30 2 *", "2026-12-31") == ends
    assert first(3, "0 0 29 2 *", "2026-12-31") == ends
    assert first(2, "0 0 29-30 2 *", "2026-12-31") == ["2028-02-29 00:00", "2032-02-29 00:00"]


def test_the_rarest_of_days_is_found():
    assert first(2, "0 0 29-30 2 */7", "2090-01-01") == ["2128-02-29 00:00", "2156-02-29 00:00"]


# Clocks that change --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "text", "moment", "due"),
    [
        # an hour, from 02:00 to 03:00, at 01:00 UTC
        ("Europe/Berlin", "30 2 * * *", "2026-03-28 02:00", ["2026-03-29 01:00", "2026-03-30 00:30"]),
        ("Europe/Berlin", "*/20 2 * * *", "2026-03-28 02:00", ["2026-03-29 01:00", "2026-03-30 00:00"]),
        ("Europe/Berlin", "30 2,3 * * *", "2026-03-28 03:00", ["2026-03-29 01:00", "2026-03-29 01:30"]),
        ("Europe/Berlin", "0 2,3 * * *", "2026-03-28 02:00", ["2026-03-29 01:00", "2026-03-30 00:00"]),
        ("Europe/Berlin", "*/30 * * * *", "2026-03-29 00:00", ["2026-03-29 00:30", "2026-03-29 01:00"]),
        ("Europe/Berlin", "59 1 * * *", "2026-03-28 02:00", ["2026-03-29 00:59", "2026-03-29 23:59"]),
        ("America/New_York", "30 2 8 3 *", "2026-01-01 00:00", ["2026-03-08 07:00", "2027-03-08 07:30"]),
        # half an hour, from 02:00 to 02:30
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03 00:00", ["2026-10-03 15:30", "2026-10-04 15:15"]),
        # two hours, from 01:00 to 03:00
        ("Antarctica/Troll", "0 1,2 * * *", "2026-03-28 12:00", ["2026-03-29 01:00", "2026-03-29 23:00"]),
        # at midnight, to 01:00
        ("America/Sao_Paulo", "0 0 * * *", "2018-11-03 12:00", ["2018-11-04 03:00", "2018-11-05 02:00"]),
        ("Asia/Beirut", "0 0 * * *", "2026-03-28 12:00", ["2026-03-28 22:00", "2026-03-29 21:00"]),
        ("Africa/Cairo", "30 0 * * FRI", "2026-04-23 12:00", ["2026-04-23 22:00", "2026-04-30 21:30"]),
        # after Ramadan
        ("Africa/Casablanca", "30 2 * * *", "2026-03-21 12:00", ["2026-03-22 02:00", "2026-03-23 01:30"]),
        # a whole day
        (
            "Pacific/Apia",
            "0 12 * * *",
            "2011-12-29 00:00",
            ["2011-12-29 22:00", "2011-12-30 10:00", "2011-12-30 22:00"],
        ),
        ("Pacific/Apia", "0 12 30 12 *", "2011-01-01 00:00", ["2011-12-30 10:00", "2012-12-29 22:00"]),
        ("Pacific/Apia", "0 0 30,31 12 *", "2011-01-01 00:00", ["2011-12-30 10:00", "2012-12-29 10:00"]),
        ("Pacific/Kwajalein", "0 12 21 8 *", "1993-01-01 00:00", ["1993-08-21 12:00", "1994-08-21 00:00"]),
    ],
)
def test_a_time_the_clock_jumps_over_is_due_right_after_the_jump(zone, text, moment, due):
    assert first(len(due), text, moment, zone) == due


@pytest.mark.parametrize(
    ("zone", "text", "moment", "due"),
    [
        # an hour, from 03:00 to 02:00, at 01:00 UTC
        ("Europe/Berlin", "30 2 * * *", "2026-10-24 12:00", ["2026-10-25 00:30", "2026-10-26 01:30"]),
        ("Europe/Berlin", "0 * * * *", "2026-10-25 00:00", ["2026-10-25 02:00", "2026-10-25 03:00"]),
        ("Europe/Berlin", "*/30 * * * *", "2026-10-25 00:00", ["2026-10-25 00:30", "2026-10-25 02:00"]),
        ("Europe/Berlin", "* * * * *", "2026-10-25 01:30:30", ["2026-10-25 02:00", "2026-10-25 02:01"]),
        ("Europe/Berlin", "0 3 * * *", "2026-10-24 12:00", ["2026-10-25 02:00", "2026-10-26 02:00"]),
        ("America/New_York", "30 1 1 11 *", "2026-01-01 00:00", ["2026-11-01 05:30", "2027-11-01 05:30"]),
        # half an hour, from 02:00 to 01:30
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04 00:00", ["2026-04-04 14:45", "2026-04-05 15:15"]),
        # two hours, from 03:00 to 01:00
        ("Antarctica/Troll", "0 1-3 * * *", "2026-10-24 23:30", ["2026-10-25 00:00", "2026-10-25 03:00"]),
        # at midnight, to 23:00
        ("America/Sao_Paulo", "30 23 * * *", "2019-02-16 12:00", ["2019-02-17 01:30", "2019-02-18 02:30"]),
        ("America/Sao_Paulo", "0 0 * * *", "2019-02-16 12:00", ["2019-02-17 03:00", "2019-02-18 03:00"]),
        ("Africa/Cairo", "30 23 29 10 *", "2026-01-01 00:00", ["2026-10-29 20:30", "2027-10-29 21:30"]),
        # before Ramadan
        ("Africa/Casablanca", "30 2 * * *", "2026-02-14 12:00", ["2026-02-15 01:30", "2026-02-16 02:30"]),
        # a whole day
        ("Pacific/Kwajalein", "0 12 30 9 *", "1969-01-01 00:00", ["1969-09-30 01:00", "1970-10-01 00:00"]),
    ],
)
def test_a_time_the_clock_shows_twice_is_due_the_first_time(zone, text, moment, due):
    assert first(len(due), text, moment, zone) == due


def test_a_jump_may_end_within_a_minute():
    monrovia = recurrence("0 * * * *", "Africa/Monrovia")
    assert monrovia.after(at("1972-01-06 23:50")) == at("1972-01-07 00:44:30")
    assert monrovia.after(at("1972-01-07 00:44:30")) == at("1972-01-07 01:00")


@dataclass(frozen=True, repr=False)
class Field:
    """A field of cron: its text, what it names, and the numbers in it that stand on their own."""

    text: str
    values: frozenset[int]
    alone: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return self.text


Fields = tuple[Field, Field, Field, Field, Field]
ANY = Field("*", frozenset(range(60)))
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


@st.composite
def terms(draw: st.DrawFn, low: int, high: int, near: tuple[int, ...], names: list[str]) -> Field:
    numbers = st.sampled_from(near) | st.integers(low, high)
    start, end, step = draw(numbers), draw(numbers), draw(st.integers(1, high))
    start, end = sorted((start, end))
    named = dict(enumerate(names, low)) if draw(st.booleans()) else {}
    shown = [named.get(number, str(number)) for number in (start, end)]
    return draw(
        st.sampled_from(
            [
                Field(shown[0], frozenset([start]), frozenset([start])),
                Field("-".join(shown), frozenset(range(start, end + 1))),
                Field(f"{'-'.join(shown)}/{step}", frozenset(range(start, end + 1, step))),
                Field(f"{shown[0]}/{step}", frozenset(range(start, high + 1, step))),
                Field(f"*/{step}", frozenset(range(low, high + 1, step))),
            ]
        )
    )


def lists(low: int, high: int, near: tuple[int, ...] = (), names: list[str] | None = None) -> st.SearchStrategy[Field]:
    def join(parts: list[Field]) -> Field:
        return Field(
            ",".join(part.text for part in parts),
            frozenset().union(*(part.values for part in parts)),
            frozenset().union(*(part.alone for part in parts)),
        )

    return st.lists(terms(low, high, near or (low,), names or []), min_size=1, max_size=3).map(join)


days_of_month = st.just(ANY) | lists(1, 31, near=(28, 29, 30, 31))
months = st.just(ANY) | lists(1, 12, near=(2,), names=MONTHS)
weekdays = st.just(ANY) | lists(0, 7, names=WEEKDAYS)


def matches(fields: Fields, local: datetime) -> bool:
    minute, hour, day, month, weekday = fields
    if local.minute not in minute.values or local.hour not in hour.values or local.month not in month.values:
        return False
    longest = monthrange(local.year, local.month)[1]
    is_day = local.day in day.values | {min(alone, longest) for alone in day.alone}
    is_weekday = local.isoweekday() % 7 in {value % 7 for value in weekday.values}
    restricts = [not field.text.startswith("*") for field in (day, weekday)]
    return is_day or is_weekday if all(restricts) else is_day and is_weekday


@given(days_of_month, months, weekdays, st.integers(1996, 2016))
@many
def test_the_days_are_those_of_a_walk_along_the_calendar(day, month, weekday, year):
    midnight = Field("0", frozenset([0]))
    dates = (datetime(year, 1, 1, tzinfo=UTC) + number * DAY for number in range(28 * 366))
    due = list(islice((date for date in dates if matches((midnight, midnight, day, month, weekday), date)), 100))
    text = f"0 0 {day.text} {month.text} {weekday.text}"
    if not due:
        with pytest.raises(ValueError) as refusal:
            recurrence(text)
        assert str(refusal.value) == f"{text!r} is never due: no month it names has such a day."
        return
    times = chain(recurrence(text), datetime(year, 1, 1, tzinfo=UTC) - SECOND)
    assert [next(times) for _ in due] == due


@cache
def changes(zone: ZoneInfo, year: int) -> list[datetime]:
    """Return the moments of the year at which the clock of the zone changes by more than the passing of time."""
    found = []
    for number in range(366):
        before = datetime(year, 1, 1, tzinfo=UTC) + number * DAY
        after = before + DAY
        if before.astimezone(zone).utcoffset() == after.astimezone(zone).utcoffset():
            continue
        while after - before > SECOND:
            middle = before + (after - before) / 2
            middle = middle.replace(microsecond=0)
            if middle.astimezone(zone).utcoffset() == before.astimezone(zone).utcoffset():
                before = middle
            else:
                after = middle
        found.append(after)
    return found


def walk(fields: Fields, zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the minutes of the window at which the clock reaches or passes, for the first time, a time that matches."""
    moment = start - 2 * DAY  # longer than any change: what the clock had shown before does not matter
    shown = moment.astimezone(zone).replace(tzinfo=None)
    while moment < end:
        moment += MINUTE
        now = moment.astimezone(zone).replace(tzinfo=None)
        is_due = False
        while shown < now:
            shown += MINUTE
            is_due = is_due or matches(fields, shown)
        if is_due and moment >= start:
            yield moment


ODD = [
    ("Africa/Cairo", 2026),
    ("Africa/Casablanca", 2026),
    ("Africa/El_Aaiun", 2031),
    ("America/Caracas", 2016),
    ("America/Nuuk", 2023),
    ("America/Sao_Paulo", 2018),
    ("America/St_Johns", 2010),
    ("Antarctica/Casey", 2011),
    ("Antarctica/Troll", 2026),
    ("Asia/Beirut", 2026),
    ("Asia/Gaza", 2027),
    ("Asia/Pyongyang", 2018),
    ("Australia/Lord_Howe", 2026),
    ("Europe/Dublin", 2026),
    ("Pacific/Apia", 2011),
    ("Pacific/Chatham", 2026),
    ("Pacific/Fakaofo", 2011),
    ("Pacific/Kiritimati", 1994),
    ("Pacific/Kwajalein", 1993),
]
places = st.sampled_from(ODD) | st.tuples(
    st.sampled_from(sorted(available_timezones() - {"localtime"})), st.integers(1995, 2045)
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, datetime, Fields]:
    """Return a zone, a moment at which its clock changes if it does, and fields that match near by."""
    name, year = draw(places)
    zone = ZoneInfo(name)
    moment = draw(st.sampled_from(changes(zone, year) or [datetime(year, 6, 30, tzinfo=UTC)]))
    shown = moment.astimezone(zone).replace(tzinfo=None)  # the hours before it are in the gap, or are repeated
    clock = [shown + minutes * MINUTE for minutes in (-1440, -120, -90, -60, -30, -1, 0, 30, 60, 1440)]
    near = {part: tuple({getattr(time, part) for time in clock}) for part in ("minute", "hour", "day", "month")}
    everyday = draw(st.booleans())
    fields = (
        draw(st.just(ANY) | lists(0, 59, near["minute"])),
        draw(st.just(ANY) | lists(0, 23, near["hour"])),
        ANY if everyday else draw(st.just(ANY) | lists(1, 31, (*near["day"], 31))),
        ANY if everyday else draw(st.just(ANY) | lists(1, 12, near["month"], MONTHS)),
        ANY if everyday else draw(weekdays),
    )
    assume(any(matches((ANY, ANY, *fields[2:]), datetime(2000, 1, 1, tzinfo=UTC) + n * DAY) for n in range(60 * 366)))
    return name, moment, fields


@given(cases(), st.lists(st.integers(-7200, 7200) | st.integers(-30 * 3600, 30 * 3600), min_size=10, max_size=30))
@many
def test_the_due_times_are_those_of_a_walk_along_the_wall_clock(case, seconds):
    zone, middle, fields = case
    start, end = middle - 30 * HOUR, middle + 30 * HOUR
    due = list(walk(fields, ZoneInfo(zone), start, end))
    rule = recurrence(" ".join(field.text for field in fields), zone)
    times = chain(rule, start - SECOND)
    assert [next(times) for _ in due] == due
    assert next(times) > end
    for passed in seconds:
        moment = middle + passed * SECOND
        later = [time for time in due if time > moment]
        assert rule.after(moment) == later[0] if later else rule.after(moment) > end


# Every ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("every second", ["12:00:01", "12:00:02"]),
        ("every 7 seconds", ["12:00:03", "12:00:10"]),
        ("every minute", ["12:01:00", "12:02:00"]),
        ("EVERY  90 Minutes", ["13:30:00", "15:00:00"]),
        ("every hour", ["13:00:00", "14:00:00"]),
        ("every 5 hours", ["17:00:00", "22:00:00"]),
    ],
)
def test_every_counts_from_1970(text, due):
    times = chain(recurrence(text), NOON)
    assert [f"{next(times):%H:%M:%S}" for _ in due] == due


def test_every_counts_from_its_anchor_which_is_the_first_due_time():
    anchor = datetime(2026, 1, 31, 9, 30, 15, 999, tzinfo=ZoneInfo("Europe/Berlin"))
    rule = recurrence("every 1 day", "America/New_York", anchor)
    first_due = at("2026-01-31 08:30:15")
    assert rule.after(at("1999-12-31")) == rule.after(first_due - SECOND) == first_due
    assert rule.after(first_due) == first_due + DAY


def test_every_day_knows_no_change_of_clocks():
    rule = recurrence("every day", "Europe/Berlin", at("2026-03-28 01:30"))
    times = chain(rule, at("2026-03-28 01:30"))
    assert [next(times), next(times)] == [at("2026-03-29 01:30"), at("2026-03-30 01:30")]


moments = st.integers(-(2**31), 2**32).map(lambda second: datetime.fromtimestamp(second, ZoneInfo("America/New_York")))


@given(st.integers(1, 3650 * 24 * 60), moments, moments)
@example(1, NOON.replace(microsecond=1), NOON)
@example(1, NOON, NOON.replace(microsecond=1))
@many
def test_the_next_due_time_of_every_is_the_first_of_its_steps(count, anchor, moment):
    step, first_due = count * MINUTE, anchor.astimezone(UTC).replace(microsecond=0)
    due = recurrence(f"every {count} minutes", anchor=anchor).after(moment)
    assert (due - first_due) % step == timedelta()
    assert due > moment.astimezone(UTC)
    assert due == first_due or (due > first_due and due - step <= moment.astimezone(UTC))


# Bad input -----------------------------------------------------------------------------------------------------------

FORMS = (
    "Allowed are five fields of cron (minute, hour, day of the month, month, day of the week), @yearly, @annually, "
    '@monthly, @weekly, @daily, @midnight, @hourly, and "every N seconds", minutes, hours or days: N is a whole number '
    "from 1, and the whole at most 3650 days."
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a recurrence"),
        ("daily", "is not a recurrence"),
        ("@fortnightly", "is not a recurrence"),
        ("@every 5m", "is not a recurrence"),
        ("* * * *", "is not a recurrence"),
        ("* * * * * * *", "is not a recurrence"),
        ("0 * * * * *", "has six fields: cron has five here, and knows no seconds"),
        ("@Reboot", "names no time: a schedule is due by the clock, not when a machine starts"),
        ("every", "is not a recurrence"),
        ("every5 minutes * * *", "is not a recurrence"),
        ("every minutes", "is not a recurrence"),
        ("every 0 minutes", "is not a recurrence"),
        ("every -1 minutes", "is not a recurrence"),
        ("every 1.5 hours", "is not a recurrence"),
        ("every ٣ hours", "is not a recurrence"),
        ("every 2 weeks", "is not a recurrence"),
        ("every 5 minutes or so", "is not a recurrence"),
        ("every 1 day at 3 o'clock", "is not a recurrence"),
        ("every 3651 days", "is not a recurrence"),
        ("every 315360001 seconds", "is not a recurrence"),
        ("every 999999999 days", "is not a recurrence"),
        ("every " + "9" * 5000 + " days", "is not a recurrence"),
    ],
)
def test_a_text_of_no_known_form_is_refused_with_the_forms_there_are(text, reason):
    with pytest.raises(ValueError) as refusal:
        recurrence(text)
    assert str(refusal.value) == f"{text!r} {reason}. {FORMS}"


ALLOWED = {
    "minute": ("0 to 59", 59),
    "hour": ("0 to 23", 23),
    "day of the month": ("1 to 31", 31),
    "month": ("1 to 12, JAN to DEC", 12),
    "day of the week": ("0 to 7, SUN to SAT", 7),
}


@pytest.mark.parametrize(
    ("text", "term", "field"),
    [
        ("60 * * * *", "60", "minute"),
        ("-1 * * * *", "-1", "minute"),
        ("1,,2 * * * *", "", "minute"),
        ("5-1 * * * *", "5-1", "minute"),
        ("1,*/0 * * * *", "*/0", "minute"),
        ("*/90 * * * *", "*/90", "minute"),
        ("*/5/5 * * * *", "*/5/5", "minute"),
        ("*-5 * * * *", "*-5", "minute"),
        ("000 * * * *", "000", "minute"),
        ("٣ * * * *", "٣", "minute"),
        ("MON * * * *", "MON", "minute"),
        ("* 24 * * *", "24", "hour"),
        ("* 7h * * *", "7h", "hour"),
        ("* * 0 * *", "0", "day of the month"),
        ("* * 32 * *", "32", "day of the month"),
        ("* * L * *", "L", "day of the month"),
        ("* * LW * *", "LW", "day of the month"),
        ("* * 15W * *", "15W", "day of the month"),
        ("* * ? * *", "?", "day of the month"),
        ("* * * 13 *", "13", "month"),
        ("* * * June *", "June", "month"),
        ("* * * * 8", "8", "day of the week"),
        ("* * * * MON#1", "MON#1", "day of the week"),
        ("* * * * 5L", "5L", "day of the week"),
        ("* * * * sat-sun", "sat-sun", "day of the week"),
    ],
)
def test_a_wrong_field_is_refused_with_what_it_may_be(text, term, field):
    with pytest.raises(ValueError) as refusal:
        recurrence(text)
    allowed, most = ALLOWED[field]
    assert str(refusal.value) == (
        f"{text!r}: {term!r} is no value for the field “{field}”. Allowed are {allowed}, *, ranges upwards (1-5), "
        f"steps up to {most} (*/5, 2-9/3), and lists of these (1,3)."
    )


@pytest.mark.parametrize("text", ["0 0 30-31 2 *", "0 0 31/1 2,4,6,9,11 *", "0 0 30-31 2 */2"])
def test_a_text_that_is_never_due_is_refused(text):
    with pytest.raises(ValueError) as refusal:
        recurrence(text)
    assert str(refusal.value) == f"{text!r} is never due: no month it names has such a day."


NO_ZONES = ["", "Mars/Olympus", "europe/berlin", "CEST", "+02:00", "Europe", "localtime", "right/UTC", "zone.tab"]
NO_ZONES += ["/etc/passwd", "../UTC", "UTC\0", "UTC" * 5000]


@pytest.mark.parametrize("name", NO_ZONES, ids=range(len(NO_ZONES)))
@pytest.mark.parametrize("text", ["@daily", "every day"])
def test_a_name_of_no_time_zone_is_refused(text, name):
    with pytest.raises(ValueError) as refusal:
        recurrence(text, name)
    assert str(refusal.value) == (
        f"{name!r} is not a time zone. Allowed are the names of the IANA database, such as 'Europe/Berlin'."
    )


def test_an_anchor_with_cron_is_refused():
    with pytest.raises(ValueError) as refusal:
        recurrence("@daily", anchor=NOON)
    assert str(refusal.value) == "An anchor is allowed with \"every\" only, not with '@daily'."


@pytest.mark.parametrize("wrong", [NOON.replace(tzinfo=None), NOON.replace(year=1), NOON.replace(year=9000)])
@pytest.mark.parametrize("text", ["@daily", "every day"])
def test_a_moment_without_an_offset_or_out_of_reach_is_refused(text, wrong):
    rule = recurrence(text, "America/New_York")
    expected = "is {}. Allowed is a time with its UTC offset, in the years 2 to 8999."
    with pytest.raises(ValueError) as refusal:
        rule.after(wrong)
    assert str(refusal.value) == f"The moment {expected.format(wrong)}"
    with pytest.raises(ValueError) as refusal:
        recurrence("every day", anchor=wrong)
    assert str(refusal.value) == f"The anchor {expected.format(wrong)}"


@pytest.mark.parametrize("text", ["* * * * *", "0 0 29-29 2 */7", "every 3650 days"])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_the_first_and_the_last_moment_have_a_due_time(text, zone):
    for offset in (timezone(-23 * HOUR), timezone(23 * HOUR)):
        for moment in (datetime(2, 1, 1, tzinfo=offset), datetime(8999, 12, 31, 23, 59, 59, tzinfo=offset)):
            assert recurrence(text, zone).after(moment) > moment
