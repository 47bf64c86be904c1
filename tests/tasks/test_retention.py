"""The declarations: every table that grows has one, and rows are found by an index."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone, translation

from accounts.models import Export, Session, Throttle
from tasks.cleanup import prune
from tasks.models import Cluster, TaskError
from tasks.retention import in_words, pruned_tables, retain, tables
from tasks.schedules import declared
from tests.tasks import rows

pytestmark = pytest.mark.django_db

DO_NOT_GROW = {
    "auth.Group": "made by an administrator",
    "auth.Permission": "one for each thing that can be permitted",
    "auth.Group_permissions": "no more than groups times permissions",
    "accounts.Passkey": "a few for each user",
    "accounts.RecoveryCode": "ten for each user",
    "accounts.Totp": "one for each user",
    "accounts.User_groups": "goes with its user",
    "accounts.User_user_permissions": "goes with its user",
    "contenttypes.ContentType": "one for each model",
    "examples.Page": "one for each name of a page",
    "tasks.Schedule": "declared in the code, or made by an administrator",
    "tasks.Queue": "one for each name of a queue, and it holds the counts of what was pruned",
    "django_q.Schedule": "stays empty: nothing of this project writes it",
    "django_q.Task": "stays empty: nothing of this project writes it",
    "django_q.OrmQ": "stays empty: nothing of this project writes it",
}


def test_every_table_is_declared_or_listed_with_a_reason_why_it_does_not_grow():
    declared = {table.rows().model._meta.label for table in tables.values()}
    models = {
        model._meta.label
        for model in apps.get_models(include_auto_created=True)
        if not model._meta.proxy and not model.__module__.startswith("tests.")
    }
    assert sorted(models - declared - DO_NOT_GROW.keys()) == []
    assert sorted(DO_NOT_GROW.keys() & declared) == []
    assert sorted(DO_NOT_GROW.keys() - models) == []


def test_a_table_that_goes_with_another_names_one_that_is_pruned():
    names = {table.name for table in pruned_tables()}
    assert {table.name for table in tables.values()} - names == {"task-errors"}
    assert {table.goes_with for table in tables.values()} - {""} <= names


def test_each_pruned_table_has_its_own_schedule_and_minute():
    of_prune = {name: given for name, given in declared.items() if given.task_path == "tasks.tasks.prune"}
    assert {given.args[0] for given in of_prune.values()} == {table.name for table in pruned_tables()}
    assert all(name == f"tasks.tasks.prune:{given.args[0]}" for name, given in of_prune.items())
    assert len({given.times["timing"] for given in of_prune.values()}) == len(of_prune)


def test_a_name_is_given_once():
    with pytest.raises(ValueError) as error:
        retain("tasks", "tasks", Session.objects.all, "expire_date")
    assert str(error.value) == "There is a table 'tasks' already."


def plan(queryset) -> str:
    """How the database would find the rows if there were many of them."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    return queryset.explain()


INDEX = {
    "tasks": "tasks_task_expires",
    "clusters": "tasks_cluster_heartbeat_at",
    "ticks": "tasks_tick_created_at",
    "sessions": "accounts_session_expire_date",
    "throttle-counters": "accounts_throttle_expires_at",
    "security-events": "accounts_event_at",
    "known-browsers": "accounts_knownbrowser_age",
    "email-changes": "accounts_emailchange_age",
    "exports": "accounts_export_age",
    "unverified-accounts": "accounts_user_unverified",
    "admin-log": {"sqlite": "USING INTEGER PRIMARY KEY", "postgresql": "django_admin_log_pkey"},
}


@pytest.mark.parametrize("name", sorted(INDEX))
@pytest.mark.parametrize("is_first", [True, False])
def test_the_next_rows_are_found_by_an_index_in_its_order(name, is_first):
    index = INDEX[name]
    after = None if is_first else 1 if name == "admin-log" else timezone.now()
    found = plan(tables[name].next(10, after))
    assert (index if isinstance(index, str) else index[connection.vendor]) in found
    for slow in ("SCAN django", "SCAN acc", "SCAN tasks_task\n", "Seq Scan", "TEMP B-TREE", "Sort"):
        assert slow not in found


def test_every_pruned_table_names_its_index_here():
    assert {table.name for table in pruned_tables()} == {*INDEX}


def test_a_session_goes_when_it_has_ended():
    now = timezone.now()
    began = now - timedelta(days=3)
    Session.objects.create(session_key="a", session_data="", expire_date=now - timedelta(seconds=1), created_at=began)
    Session.objects.create(session_key="b", session_data="", expire_date=now + timedelta(seconds=60))
    assert tables["sessions"].oldest_row() == began
    assert prune(tables["sessions"]).pruned == 1
    assert Session.objects.get().session_key == "b"


def entry(user, age: timedelta) -> LogEntry:
    return LogEntry.objects.create(user=user, action_flag=2, object_repr="x", action_time=timezone.now() - age)


def test_the_log_of_the_administration_is_kept_for_a_year(operator, settings):
    old, young = entry(operator, timedelta(days=366)), entry(operator, timedelta(days=364))
    assert tables["admin-log"].oldest_row() == old.action_time
    assert prune(tables["admin-log"]).pruned == 1
    assert list(LogEntry.objects.all()) == [young]
    settings.RETENTION_ADMIN_LOG = 86_400
    assert prune(tables["admin-log"]).pruned == 1


def test_a_log_in_which_old_rows_come_first_is_not_read_beyond_the_first_that_stay(operator):
    for days in [400] * 3 + [1] * 5 + [400]:
        entry(operator, timedelta(days=days))
    first = tables["admin-log"].next(4)
    assert first.count() == 3
    assert tables["admin-log"].next(4, after=first.last().pk).count() == 0


def test_the_row_of_a_cluster_that_died_as_the_last_one_goes_after_a_day():
    dead, silent = rows.cluster_row(heartbeat_age=86_500), rows.cluster_row(heartbeat_age=86_000)
    lost = rows.running(holder=dead)
    assert prune(tables["clusters"]).pruned == 1
    assert list(Cluster.objects.all()) == [silent]
    assert rows.state(lost)["cluster_id"] == dead.pk


def test_the_oldest_row_of_tasks_and_of_their_errors_is_the_first():
    assert tables["tasks"].oldest_row() is None
    first = rows.failed(expires_at=Now() + timedelta(days=9))
    rows.successful(expires_at=Now())
    assert tables["tasks"].oldest_row() == first.enqueued_at
    assert tables["task-errors"].oldest_row() == TaskError.objects.get().created_at


def test_no_table_has_an_oldest_row_in_the_future(operator):
    later = timezone.now() + timedelta(days=7)
    Export.objects.create(user=operator, expires_at=later)
    Throttle.objects.create(digest="a", free_at_us=0, expires_at=later)
    assert tables["exports"].oldest_row() == Export.objects.get().requested_at
    assert tables["throttle-counters"].oldest_row() is None


@pytest.mark.parametrize(
    ("days", "english", "german", "french"),
    [
        (1, "1 day", "1 Tag", "1 jour"),
        (7, "7 days", "7 Tage", "7 jours"),
        (1 / 24, "1 hour", "1 Stunde", "1 heure"),
        (0.0625, "1.5 hours", "1,5 Stunden", "1,5 heures"),
        (1.5, "36 hours", "36 Stunden", "36 heures"),
        (1 / 1440, "1 minute", "1 Minute", "1 minute"),
        (10.4, "10 days", "10 Tage", "10 jours"),
    ],
)
def test_a_retention_is_told_in_days_or_hours(days, english, german, french):
    for language, words in [("en", english), ("de", german), ("fr", french)]:
        with translation.override(language):
            assert in_words(timedelta(days=days)) == words


def test_each_table_says_how_long_its_rows_are_kept():
    assert {name: table.kept_in_words() for name, table in tables.items()} == {
        "tasks": "successful 7 days, failed 90 days",
        "task-errors": "as long as the task",
        "clusters": "1 day",
        "ticks": "90 days",
        "sessions": "14 days after their last use",
        "throttle-counters": "as long as they count",
        "security-events": "365 days",
        "known-browsers": "365 days",
        "email-changes": "30 days",
        "exports": "7 days",
        "unverified-accounts": "7 days",
        "admin-log": "365 days",
    }
