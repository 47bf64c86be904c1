"""Schedules and ticks in the administration."""

from __future__ import annotations

from datetime import UTC, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from tasks import timetable
from tasks.models import Schedule, Task, Tick
from tests.tasks import rows
from tests.tasks.test_timetable import declare

pytestmark = pytest.mark.django_db

URL, TICKS = "/admin/tasks/schedule/", "/admin/tasks/tick/"
ADD = "tests.work.tasks.add"
HOUR = timedelta(hours=1)
FORM = {
    "name": "nightly", "task_path": ADD, "args": "[1]", "kwargs": '{"b": 2}', "timing": "0 3 * * *",
    "timezone": "Europe/Berlin", "anchor_0": "", "anchor_1": "", "misfire": "once", "misfire_limit": "10",
    "overlap": "skip", "ping_url": "",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_is_declared(monkeypatch):
    empty: dict[str, Any] = {}
    monkeypatch.setattr("tasks.schedules.declared", empty)
    monkeypatch.setattr("tasks.timetable.declared", empty)


def page(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return " ".join(unescape(response.content.decode()).split())


def page_of(client: Client, schedule: Schedule) -> str:
    return page(client, f"{URL}{schedule.pk}/change/")


def act(client: Client, action: str, *schedules: Schedule, **more: str) -> Any:
    data = {"action": action, "_selected_action": [schedule.pk for schedule in schedules], "index": 0, **more}
    return client.post(URL, data, follow=True)


def said(response: Any) -> list[tuple[str, str]]:
    return [(message.level_tag, str(message.message)) for message in response.context["messages"]]


def errors(response: Any) -> dict[str, list[str]]:
    assert response.status_code == 200
    return dict(response.context["adminform"].form.errors)


def clerk(*permissions: str) -> Client:
    user, _is_new = User.objects.get_or_create(
        email="clerk@example.org", defaults={"is_staff": True, "email_verified_at": timezone.now()}
    )
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="tasks", codename__in=permissions))
    assert user.user_permissions.count() == len(permissions)
    client = Client()
    client.force_login(user)
    return client


def test_a_schedule_can_be_made_for_a_registered_function(operator_client):
    assert operator_client.post(f"{URL}add/", FORM).status_code == 302
    made = Schedule.objects.get()
    assert (made.name, made.task_path, made.args, made.kwargs) == ("nightly", ADD, [1], {"b": 2})
    assert (made.timing, made.timezone, made.declared) == ("0 3 * * *", "Europe/Berlin", None)
    assert timezone.now() < made.due_at < timezone.now() + 25 * HOUR


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        ({"task_path": "os.system"}, "task_path", "os.system is not one of the available choices."),
        ({"args": "[1, 2, 3]", "kwargs": "{}"}, "args", f"{ADD}: too many positional arguments"),
        ({"args": "[]", "kwargs": "{}"}, "args", f"{ADD}: missing a required argument: 'a'"),
        ({"args": "{}"}, "args", 'This must be a JSON list, such as [1, "two"].'),
        ({"args": "[1"}, "args", "Enter a valid JSON."),
        ({"args": f"[{'9' * 5000}]"}, "args", "Enter a valid JSON."),
        ({"args": "[" * 100_000}, "args", "Enter a valid JSON."),
        ({"kwargs": "[1]"}, "args", 'The named arguments must be a JSON object, such as {"name": "value"}.'),
        ({"timezone": "Mars/Olympus"}, "timezone", "Mars/Olympus"),
        ({"timing": "61 * * * *"}, "timing", "61"),
        ({"timing": "often"}, "timing", "often"),
        ({"anchor_0": "2026-01-01", "anchor_1": "00:00:00"}, "anchor", "anchor"),
        ({"misfire": "all"}, "misfire", "the first would skip the others"),
        ({"misfire_limit": "0"}, "misfire_limit", "Enter a whole number from 1 to 1000."),
        ({"ping_url": "ftp://example.org/"}, "ping_url", "Enter an address that begins with http:// or https://"),
        ({"name": ""}, "name", "This field is required."),
    ],
)
def test_what_could_not_run_is_refused_with_a_reason_and_nothing_is_lost(wrong, field, says, operator_client):
    response = operator_client.post(f"{URL}add/", FORM | wrong)
    found = errors(response)
    assert list(found) == [field]
    assert says in str(found[field][0])
    assert response.context["adminform"].form["name"].value() == (FORM | wrong)["name"]
    assert not Schedule.objects.exists()


def test_a_refusal_is_in_the_language_of_the_reader(operator_client):
    wrong = {"timing": "often", "misfire_limit": "0", "ping_url": "ftp://example.org/"}
    said = errors(operator_client.post(f"{URL}add/", FORM | wrong, headers={"Accept-Language": "de"}))
    assert said["timing"][0].startswith("'often' ist keine Wiederholungsregel. Erlaubt sind ")
    assert "Minute, Stunde, Tag des Monats" in said["timing"][0]
    assert said["misfire_limit"] == ["Geben Sie eine ganze Zahl von 1 bis 1000 ein."]
    assert said["ping_url"][0].startswith("Geben Sie eine Adresse ein, die mit http:// oder https:// beginnt")


def test_a_name_is_taken_once(operator_client):
    rows.schedule(name="nightly")
    assert list(errors(operator_client.post(f"{URL}add/", FORM))) == ["name"]


def test_new_times_settle_what_has_passed_and_count_from_now_on(operator_client):
    due_at = (timezone.now() - HOUR / 2).replace(microsecond=0)
    schedule = rows.schedule(timing="every hour", anchor=due_at, due_at=due_at, name="nightly")
    assert operator_client.post(f"{URL}{schedule.pk}/change/", FORM).status_code == 302
    schedule.refresh_from_db()
    assert (schedule.timing, schedule.due_at > timezone.now()) == ("0 3 * * *", True)
    assert [tick.outcome for tick in schedule.ticks.all()] == ["ran"]


def test_of_a_declared_schedule_only_the_times_can_be_changed_and_the_page_says_so(operator_client):
    schedule = declare("0 3 * * *")
    assert "0 3 * * * · UTC" in page_of(operator_client, schedule)
    assert "differ from the code" not in page_of(operator_client, schedule)
    changed = FORM | {"timing": "every 5 minutes", "timezone": "UTC", "name": "mine", "args": "[5]"}
    assert operator_client.post(f"{URL}{schedule.pk}/change/", changed).status_code == 302
    schedule.refresh_from_db()
    assert (schedule.timing, schedule.name, schedule.args) == ("every 5 minutes", ADD, [1])
    text = page_of(operator_client, schedule)
    assert "Its times were changed by hand and differ from the code." in text
    assert "0 3 * * * · UTC. It was overridden" in text
    assert "overridden" in page(operator_client, URL)
    assert said(act(operator_client, "follow_the_code", schedule)) == [
        ("success", "Follows the code again: 1 schedule.")
    ]
    schedule.refresh_from_db()
    assert (schedule.timing, schedule.is_overridden) == ("0 3 * * *", False)


def test_a_schedule_can_be_run_now(operator_client):
    schedule = rows.schedule(name="nightly")
    ((level, text),) = said(act(operator_client, "run", schedule))
    task = Task.objects.get()
    assert (level, f"#{task.pk}</a>" in text, task.schedule) == ("success", True, schedule)
    assert Tick.objects.get().requested_by == "operator@example.org"
    assert "asked for by operator@example.org" in page_of(operator_client, schedule)
    assert said(act(operator_client, "run", schedule)) == [
        ("warning", "nightly was not run: an earlier run is not finished.")
    ]
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Run by hand."]


def test_a_schedule_of_a_function_that_is_gone_cannot_be_run_and_says_so(operator_client):
    schedule = rows.schedule("gone", name="nightly")
    says = "nightly: There is no task function tests.work.tasks.gone (any more)."
    assert said(act(operator_client, "run", schedule)) == [("error", says)]


def test_a_pause_asks_why_and_until_when(operator_client):
    schedule = rows.schedule(name="nightly")
    asked = act(operator_client, "pause", schedule)
    assert "Their due times are skipped" in asked.content.decode()
    for wrong in ({"reason": ""}, {"reason": "x", "until": "2020-01-01 00:00"}, {"reason": "x", "until": "soon"}):
        act(operator_client, "pause", schedule, apply="1", **wrong)
        schedule.refresh_from_db()
        assert schedule.paused_at is None
    done = act(operator_client, "pause", schedule, apply="1", reason="an audit", until="2099-12-31 08:00")
    assert said(done) == [("success", "Paused: an audit: 1 schedule.")]
    schedule.refresh_from_db()
    assert (schedule.paused_by, schedule.paused_reason) == ("operator@example.org", "an audit")
    assert "Paused by operator@example.org until 2099-12-31 08:00:00 UTC: an audit" in page(operator_client, URL)
    assert said(act(operator_client, "resume", schedule)) == [("success", "Resumed: 1 schedule.")]
    assert "in service" in page(operator_client, URL)
    assert said(act(operator_client, "resume", schedule))[0][0] == "warning"


def test_a_schedule_made_by_hand_can_be_taken_out_of_service_and_back(operator_client):
    by_hand, declared = rows.schedule(name="nightly"), declare()
    act(operator_client, "retire", by_hand, declared)
    by_hand.refresh_from_db()
    declared.refresh_from_db()
    assert (by_hand.retired_at is None, declared.retired_at) == (False, None)
    act(operator_client, "take_back", by_hand)
    by_hand.refresh_from_db()
    assert by_hand.retired_at is None


def test_trouble_is_shown_in_the_list_and_on_the_page(operator_client):
    schedule = rows.schedule(timing="61 * * * *", problem="ValueError: <b>61</b>", due_at=timezone.now())
    for text in (page(operator_client, URL), page_of(operator_client, schedule)):
        assert "ValueError: <b>61</b>" in text
    assert "<b>61</b>" not in operator_client.get(URL).content.decode()


def test_a_schedule_that_nobody_settles_is_overdue(operator_client):
    rows.schedule(due_at=timezone.now() - HOUR)
    assert "Overdue: no cluster settles it. Start one (TASKS_SCHEDULES=1): manage.py qcluster" in page(
        operator_client, URL
    )


def test_the_page_shows_the_next_times_on_the_clock_of_the_schedule(operator_client):
    text = page_of(operator_client, rows.schedule(timing="0 3 * * *", timezone="Asia/Tokyo"))
    assert text.count("03:00:00 JST") == 5


def test_the_page_shows_the_latest_ticks_and_the_way_to_all(operator_client):
    schedule = rows.schedule(due_at=timezone.now())
    at = timezone.now().replace(minute=0, second=0, microsecond=0)
    Tick.objects.create(schedule=schedule, due_at=at - HOUR, outcome="skipped", reason="overlap")
    Tick.objects.create(schedule=schedule, due_at=at, outcome="ran", task_id=rows.successful().pk)
    Tick.objects.create(schedule=rows.schedule(name="other"), due_at=at, outcome="coalesced")
    text = page_of(operator_client, schedule)
    assert "skipped, an earlier run was not finished" in text
    link = f"{TICKS}?schedule__id__exact={schedule.pk}"
    assert link in text
    assert "coalesced" not in page(operator_client, link).partition("<tbody>")[2].partition("</tbody>")[0]
    assert f"{at:%Y-%m-%d %H:%M:%S} UTC: ran" in page(operator_client, URL)


def test_a_person_without_permissions_sees_and_changes_nothing():
    schedule = rows.schedule("with_a_secret", args=[1], kwargs={"secret": "xyzzy"}, name="nightly")
    viewer = clerk("view_schedule")
    text = page_of(viewer, schedule)
    assert "xyzzy" not in text
    assert 'name="action"' not in text
    for action in ("run", "pause", "resume", "retire"):
        act(viewer, action, schedule)
    assert viewer.post(f"{URL}{schedule.pk}/change/", FORM).status_code == 403
    assert viewer.post(f"{URL}add/", FORM).status_code == 403
    schedule.refresh_from_db()
    assert (Task.objects.count(), schedule.paused_at, schedule.timing) == (0, None, "0 * * * *")


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ("service", ["paused", "right", "wrong"]),
        ("trouble", ["wrong"]),
        ("paused", ["paused"]),
        ("retired", ["retired"]),
        ("nonsense", ["paused", "retired", "right", "wrong"]),
    ],
)
def test_the_list_can_be_narrowed_to_a_state(state, names, operator_client):
    now = timezone.now()
    rows.schedule(name="right")
    rows.schedule(name="wrong", problem="ValueError")
    rows.schedule(name="paused", paused_at=now)
    rows.schedule(name="retired", retired_at=now)
    response = operator_client.get(URL, {"state": state})
    assert [schedule.name for schedule in response.context["cl"].result_list] == names


def test_the_page_reads_no_more_ticks_than_it_shows(operator_client):
    schedule, at = rows.schedule(), timezone.now()
    Tick.objects.bulk_create(
        Tick(schedule=schedule, due_at=at - number * HOUR, outcome="coalesced") for number in range(50)
    )
    with CaptureQueriesContext(connection) as heard:
        assert page_of(operator_client, schedule).count("coalesced") == 20
    assert [query["sql"] for query in heard if '"tasks_tick"' in query["sql"] and "LIMIT" not in query["sql"]] == []


def test_the_task_of_a_tick_that_was_pruned_is_no_link(operator_client):
    schedule, at = rows.schedule(), timezone.now()
    there = rows.successful().pk
    for number, task_id in enumerate([there, there + 1000]):
        Tick.objects.create(schedule=schedule, due_at=at - number * HOUR, outcome="ran", task_id=task_id)
    for text in (page_of(operator_client, schedule), page(operator_client, TICKS)):
        assert f"/admin/tasks/task/{there}/change/" in text
        assert f"#{there + 1000}, pruned" in text
        assert f"/admin/tasks/task/{there + 1000}/change/" not in text


def test_sensitive_arguments_are_hidden_from_who_may_change_but_not_see_them():
    secret = {"secret": "xyzzy"}
    schedule = rows.schedule("with_a_secret", args=[1], kwargs=secret, name="nightly")
    client = clerk("view_schedule", "change_schedule")
    text = page_of(client, schedule)
    assert ("xyzzy" in text, 'name="kwargs"' in text, 'name="timing"' in text) == (False, False, True)
    assert client.post(f"{URL}{schedule.pk}/change/", FORM | {"kwargs": "{}"}).status_code == 302
    schedule.refresh_from_db()
    assert (schedule.kwargs, schedule.timing, schedule.task_path) == (
        secret, "0 3 * * *", "tests.work.tasks.with_a_secret",
    )  # fmt: skip
    client = clerk("view_schedule", "change_schedule", "view_task_arguments")
    assert "xyzzy" in page_of(client, schedule)


def test_a_retired_schedule_is_neither_run_nor_paused_and_has_no_next_time(operator_client):
    schedule = rows.schedule(name="nightly", retired_at=timezone.now())
    says = "nightly: It is out of service. Put it into service first."
    assert said(act(operator_client, "run", schedule)) == [("error", says)]
    act(operator_client, "pause", schedule, apply="1", reason="x")
    operator_client.post(f"{URL}{schedule.pk}/change/", FORM)
    schedule.refresh_from_db()
    assert (schedule.paused_at, schedule.due_at, schedule.timing) == (None, None, "0 3 * * *")


def test_a_paused_schedule_shows_the_times_after_its_pause(operator_client):
    now = timezone.now()
    until = (now + 100 * HOUR).replace(microsecond=0)
    schedule = rows.schedule(timing="every second", anchor=until, paused_at=now, paused_until=until, due_at=now)
    assert f"{until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC<br>" in page_of(operator_client, schedule)
    for_ever = rows.schedule(name="for ever", paused_at=now, due_at=now)
    assert for_ever.next_times(now) == []
    over = rows.schedule(name="over", paused_at=now - 2 * HOUR, paused_until=now - HOUR)
    text = page_of(operator_client, over)
    assert ("Pause it" in text, "Resume it" in text) == (True, False)
    listed = operator_client.get(URL, {"state": "paused"}).context["cl"].result_list
    assert sorted(listed, key=lambda row: row.pk) == [schedule, for_ever]


def test_an_action_of_the_page_comes_back_to_it(operator_client):
    schedule = rows.schedule(name="nightly")
    response = act(operator_client, "run", schedule, page="1")
    assert response.redirect_chain == [(f"{URL}{schedule.pk}/change/", 302)]
    asked = act(operator_client, "pause", schedule, page="1").content.decode()
    assert '<input type="hidden" name="page" value="1">' in asked
    response = act(operator_client, "pause", schedule, page="1", apply="1", reason="x")
    assert response.redirect_chain == [(f"{URL}{schedule.pk}/change/", 302)]


def test_more_than_a_request_can_do_are_refused(operator_client, monkeypatch):
    monkeypatch.setattr("tasks.admin.schedules.AT_ONCE", 1)
    two = rows.schedule(name="a"), rows.schedule(name="b")
    for action in ("run", "pause"):
        assert said(act(operator_client, action, *two)) == [("error", "Select at most 1 schedules at a time.")]
    assert not Task.objects.exists()


@pytest.mark.parametrize("reason", ["two\nlines", "\u202eturned"])
def test_a_reason_that_would_disturb_a_list_is_refused(reason, operator_client):
    schedule = rows.schedule()
    response = act(operator_client, "pause", schedule, apply="1", reason=reason)
    assert "Use printable characters only, in one line." in response.content.decode()
    schedule.refresh_from_db()
    assert schedule.paused_at is None


def test_nobody_deletes_one(operator_client):
    schedule = rows.schedule()
    assert operator_client.post(f"{URL}{schedule.pk}/delete/", {"post": "yes"}).status_code == 403
    act(operator_client, "delete_selected", schedule, post="yes")
    assert Schedule.objects.count() == 1


def test_a_schedule_can_be_paused_by_somebody_who_may_only_pause():
    schedule = rows.schedule(name="nightly")
    client = clerk("view_schedule", "pause_schedule")
    text = page_of(client, schedule)
    assert ("Pause it" in text, "Run it now" in text) == (True, False)
    act(client, "pause", schedule, apply="1", reason="an audit")
    schedule.refresh_from_db()
    assert schedule.paused_by == "clerk@example.org"
    timetable.resume(schedule)
