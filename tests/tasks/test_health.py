"""The probes, the check of another table of schedules, and the command that lists schedules."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from django_q.models import Schedule as DjangoQSchedule

from tasks.models import Tick
from tests.processes import no_database
from tests.tasks import rows

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def answer(client, address: str) -> tuple[int, Any]:
    response = client.get(address)
    assert response["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"
    return response.status_code, response.json()


def test_a_process_that_runs_is_live(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert answer(client, "/health/live") == (200, {"live": True})


def test_a_site_whose_database_answers_is_ready(client):
    rows.cluster_row()
    expected = {"ready": True, "database": True, "clusters": 1, "overdue_schedules": 0}
    assert answer(client, "/health/ready") == (200, expected)


def test_an_overdue_schedule_is_told_and_the_site_stays_ready(client):
    rows.schedule(due_at=timezone.now() - HOUR)
    rows.schedule(name="fresh", due_at=timezone.now() - HOUR / 120)
    rows.schedule(name="retired", due_at=timezone.now() - HOUR, retired_at=timezone.now())
    status, told = answer(client, "/health/ready")
    assert (status, told["overdue_schedules"], told["clusters"]) == (200, 1, 0)


@pytest.mark.django_db(transaction=True)
def test_without_its_database_the_site_is_not_ready(client):
    if connection.vendor == "sqlite":
        pytest.skip("a reader of SQLite's log needs nobody's leave; PostgreSQL refuses connections")
    with no_database():
        assert answer(client, "/health/ready") == (503, {"ready": False, "database": False})


def away(execute, sql, params, many, context):
    raise OperationalError("the server is gone")


def test_a_probe_that_hears_no_fills_no_log(client, caplog, settings):
    is_logged = settings.LOGGING["filters"]["no_probes"]["callback"]
    with connection.execute_wrapper(away):
        assert answer(client, "/health/ready")[0] == 503
    assert [(record.name, record.levelname) for record in caplog.records] == [("django.request", "ERROR")]
    assert not any(map(is_logged, caplog.records))
    client.get("/nothing/")
    assert is_logged(caplog.records[-1])


def warnings() -> list[Any]:
    return [found for found in run_checks(databases=["default"]) if found.id == "tasks.W001"]


def test_a_probe_with_another_method_is_told_so():
    client = Client(enforce_csrf_checks=True)
    assert {client.post(address).status_code for address in ("/health/live", "/health/ready")} == {405}
    assert client.head("/health/ready").status_code == 200


def test_schedules_of_django_q2_are_warned_of():
    assert warnings() == []
    for _number in range(2):
        DjangoQSchedule.objects.create(func="shop.tasks.report", schedule_type=DjangoQSchedule.DAILY)
    (warning,) = warnings()
    assert warning.msg == "The table django_q_schedule has schedules that do not run: of shop.tasks.report."
    assert "@schedule" in warning.hint


def printed(*options: str) -> str:
    out = StringIO()
    call_command("schedules", *options, stdout=out)
    return out.getvalue()


def test_without_a_schedule_the_command_says_how_to_make_one():
    assert printed() == "There is no schedule. Declare one with @schedule, or make one in the administration.\n"
    assert json.loads(printed("--json")) == []


def test_the_command_shows_the_next_times_the_latest_tick_and_the_health():
    now = timezone.now()
    due_at = now.replace(minute=0, second=0, microsecond=0)
    right = rows.schedule(name="b right", due_at=due_at + HOUR)
    Tick.objects.create(schedule=right, due_at=due_at - HOUR, outcome="ran", task_id=7)
    late = Tick.objects.create(schedule=right, due_at=due_at, outcome="skipped", reason="overlap")
    rows.schedule(name="a wrong", timing="61 * * * *", problem="ValueError: 61")
    rows.schedule(name="c paused", paused_at=now - HOUR, paused_by="operator")
    rows.schedule(name="d overdue", due_at=now - HOUR)
    rows.schedule(name="e retired", retired_at=now)
    told = {row["name"]: row for row in json.loads(printed("--json"))}
    assert [(name, row["health"]) for name, row in told.items()] == [
        ("a wrong", "trouble"), ("b right", "ok"), ("c paused", "paused"), ("d overdue", "overdue"),
        ("e retired", "retired"),
    ]  # fmt: skip
    assert told["b right"]["next"] == [(due_at + number * HOUR).isoformat() for number in range(1, 6)]
    assert told["b right"]["last"] == {
        "due_at": due_at.isoformat(), "outcome": "skipped", "reason": "overlap",
        "lag": round(late.lag.total_seconds(), 3), "task": None,
    }  # fmt: skip
    assert (told["a wrong"]["next"], told["e retired"]["next"], told["a wrong"]["last"]) == ([], [], None)
    text = printed()
    assert "a wrong\n  61 * * * *  UTC  TROUBLE\n  problem: ValueError: 61\n  next: -\n  last: -\n" in text
    assert f"  last: {due_at:%Y-%m-%d %H:%M:%S} skipped (overlap), {late.lag.total_seconds():.1f} s late\n" in text
