"""Retention: what goes, what stays, what is still counted."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Session
from tasks import cleanup, leases
from tasks.audit import audit
from tasks.cleanup import Run, prune, prune_tasks
from tasks.leases import Failure
from tasks.metrics import stats
from tasks.models import Queue, Task, TaskError
from tasks.retention import pruned_tables, tables
from tasks.tasks import prune as prune_task
from tasks.testing import run_enqueued
from tests.processes import ROOT, until
from tests.tasks import rows

pytestmark = pytest.mark.django_db

EXPIRED = {"expires_at": Now() - timedelta(seconds=1)}


def test_what_has_expired_goes_with_its_errors_and_stays_counted():
    for _number in range(2):
        rows.successful(**EXPIRED)
    rows.failed(errors=3, queue_name="mail", **EXPIRED)
    kept = [rows.successful(expires_at=Now() + timedelta(hours=1)), rows.failed(), rows.ready(), rows.running()]
    before = stats()["tasks"]

    assert prune_tasks() == 3

    assert list(Task.objects.order_by("pk")) == kept
    assert set(TaskError.objects.values_list("task", flat=True)) == {kept[1].pk}
    assert stats()["tasks"] == before
    assert (Queue.objects.get(name="default").pruned_successful, Queue.objects.get(name="mail").pruned_failed) == (2, 1)
    found = audit()
    assert (found["ok"], found["accepted"], found["pruned"]) == (True, 7, 3)


def sessions(count: int) -> None:
    """Sessions that expired a millisecond after each other, the first of them an hour ago."""
    start = timezone.now() - timedelta(hours=1)
    Session.objects.bulk_create(
        Session(session_key=f"{number:032}", session_data="", expire_date=start + timedelta(milliseconds=number))
        for number in range(count)
    )


def test_a_prune_may_stop_after_any_batch_and_goes_on_where_it_was(monkeypatch):
    monkeypatch.setattr(cleanup, "FIRST", 2)
    monkeypatch.setattr(cleanup, "LARGEST", 2)
    sessions(5)
    ends = list(Session.objects.order_by("expire_date").values_list("expire_date", flat=True))
    stops = iter([False, True, True])
    first = prune(tables["sessions"], should_stop=lambda: next(stops))
    assert (first.pruned, first.more, first.after) == (2, True, ends[1])
    assert list(Session.objects.values_list("session_key", flat=True)) == [f"{number:032}" for number in (2, 3, 4)]
    second = prune(tables["sessions"], first.pruned, first.after.isoformat())
    assert (second.pruned, second.more) == (5, False)
    assert not Session.objects.exists()


def test_a_prune_ends_when_its_time_is_over():
    sessions(5)
    run = prune(tables["sessions"], seconds=-1)
    assert (run.pruned, run.more, Session.objects.count()) == (0, True, 5)


def test_a_batch_grows_while_it_is_quick_and_shrinks_when_it_is_slow(monkeypatch):
    sessions(50)
    run = Run(tables["sessions"], size=10)
    monkeypatch.setattr(cleanup, "AIM", 60)
    assert run.batch() == 10
    assert run.size == 20
    monkeypatch.setattr(cleanup, "AIM", 1e-9)
    assert run.batch() == 20
    assert run.size == 1
    assert run.batch() == 1


def test_a_batch_counts_the_errors_that_go_with_its_tasks():
    for _number in range(3):
        rows.failed(errors=4, **EXPIRED)
    run = Run(tables["tasks"], size=8)
    assert (run.batch(), Task.objects.count(), TaskError.objects.count()) == (2, 1, 4)
    run.size = 1
    assert (run.batch(), Task.objects.count(), TaskError.objects.count()) == (1, 0, 0)
    assert run.batch() == 0


@pytest.mark.skipif(
    "not connection.features.has_select_for_update_skip_locked", reason="SQLite has one writer at a time"
)
@pytest.mark.django_db(transaction=True)
def test_what_somebody_else_holds_is_left_for_the_next_run():
    held, free = rows.failed(**EXPIRED), rows.failed(**EXPIRED)
    with transaction.atomic():
        Task.objects.select_for_update().get(pk=held.pk)
        run = rows.in_another_thread(lambda: prune(tables["tasks"]))
    assert (run.pruned, list(Task.objects.all())) == (1, [held])
    assert free.pk != held.pk
    assert prune_tasks() == 1


def test_a_success_is_kept_for_a_week_and_a_failure_for_three_months_unless_the_function_says_otherwise():
    success, failure, short = rows.running(), rows.running(), rows.running("forget_me_soon")
    leases.succeed(rows.attempt_of(success), "1")
    leases.succeed(rows.attempt_of(short), "1")
    leases.fail(rows.attempt_of(failure), Failure(TaskError.Kind.EXCEPTION, message="no"), None)
    kept = {}
    for task in (success, failure, short):
        task.refresh_from_db()
        kept[task.pk] = round((task.expires_at - task.finished_at).total_seconds())
    assert kept == {success.pk: 7 * 86400, failure.pk: 90 * 86400, short.pk: 60}


def test_a_task_that_is_retried_expires_no_more():
    task = rows.failed(**EXPIRED)
    assert Task.objects.filter(pk=task.pk).retry() == 1
    assert prune_tasks() == 0


# SQLite's file -------------------------------------------------------------------------------------------------------

on_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL's autovacuum sees to it")


def size() -> int:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(connection.settings_dict["NAME"]).stat().st_size


@on_sqlite
@pytest.mark.django_db(transaction=True)
def test_the_file_shrinks_by_what_was_pruned():
    before = size()
    for _number in range(200):
        rows.successful(args=["x" * 20_000], **EXPIRED)
    grown = size()
    assert grown > before + 3_000_000
    assert prune_tasks() == 200
    assert size() < before + 100_000


@on_sqlite
@pytest.mark.django_db(transaction=True)
def test_space_is_given_back_while_a_prune_goes_on(monkeypatch):
    monkeypatch.setattr(cleanup, "FIRST", 20)
    monkeypatch.setattr(cleanup, "LARGEST", 20)
    monkeypatch.setattr(cleanup, "MANY_PAGES", 10)
    empty = size()
    for _number in range(100):
        rows.successful(args=["x" * 20_000], **EXPIRED)
    grown = size() - empty
    assert prune(tables["tasks"], should_stop=lambda: Task.objects.count() <= 20).more
    assert size() - empty < grown / 2


@on_sqlite
@pytest.mark.django_db(transaction=True)
def test_giving_space_back_stops_when_it_is_told_to():
    for _number in range(50):
        rows.successful(args=["x" * 20_000], **EXPIRED)
    Task.objects.all().delete()
    grown = size()
    cleanup.give_back_space(is_over=lambda: True)
    assert size() == grown
    cleanup.give_back_space()
    assert size() < grown


@on_sqlite
def test_a_file_made_by_an_older_release_can_shrink_once_it_was_written_anew(tmp_path):
    path = tmp_path / "old.sqlite3"
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE t (a)")
    environment = {"DATABASE_URL": f"sqlite:///{path}", "DJANGO_SETTINGS_MODULE": "tests.settings"}

    def manage(*arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    manage("migrate")
    assert "run once: manage.py prune --vacuum" in manage("prune", "sessions")
    assert manage("prune", "sessions", "--vacuum") == "sessions: 0 pruned.\n"
    assert manage("prune", "sessions") == "sessions: 0 pruned.\n"


# The task ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_task_prunes_one_table_and_says_how_many():
    sessions(3)
    rows.successful(**EXPIRED)
    result = prune_task.enqueue("sessions")
    assert prune_task.enqueue("sessions").id == result.id
    run_enqueued()
    task = rows.row(result)
    assert (task.status, task.return_value) == ("SUCCESSFUL", {"pruned": 3, "more": False})
    assert task.progress == {"done": 3, "total": 3, "message": "sessions"}
    assert Task.objects.filter(task_path="tests.work.tasks.add").exists()


@pytest.mark.parametrize("name", ["nothing", "task-errors"])
@pytest.mark.django_db(transaction=True)
def test_the_task_gives_up_on_a_table_that_is_not_declared(name):
    result = prune_task.enqueue(name)
    run_enqueued()
    assert rows.row(result).status == "FAILED"
    assert rows.errors_of(rows.row(result)) == [(1, "discarded", f"There is no table '{name}' to prune (any more).")]


def test_a_deploy_in_the_middle_of_a_prune_loses_nothing(cluster):
    sessions(80_000)
    result = prune_task.enqueue("sessions")
    first = cluster()
    until(lambda: Session.objects.count() < 80_000, 20, "the prune has begun")
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    left, task = Session.objects.count(), rows.row(result)
    assert left > 0, "the prune was over before the deploy"
    assert (task.status, task.attempts) == ("READY", 0)
    assert task.checkpoint["pruned"] == 80_000 - left
    cluster()
    until(lambda: rows.finished(result), 60, "the prune ends")
    assert rows.row(result).return_value == {"pruned": 80_000, "more": False}
    assert Session.objects.count() == 0


# The commands --------------------------------------------------------------------------------------------------------


def run(command: str, *arguments: str) -> str:
    out = StringIO()
    call_command(command, *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("command", [("prunetasks",), ("prune", "tasks")])
def test_the_command_says_what_would_go_and_does_it(command):
    assert run(*command, "--dry-run") == "tasks                            0 to go, oldest row of –\n"
    task = rows.successful(**EXPIRED)
    rows.failed(queue_name="mail", **EXPIRED)
    enqueued = task.enqueued_at.strftime("%Y-%m-%d %H:%M UTC")
    assert run(*command, "--dry-run").splitlines() == [
        f"tasks                            2 to go, oldest row of {enqueued}",
        "    default SUCCESSFUL           1",
        "    mail FAILED                  1",
    ]
    assert Task.objects.count() == 2
    assert run(*command) == "tasks: 2 pruned.\n"
    assert not Task.objects.exists()


def test_without_a_table_all_are_pruned():
    sessions(2)
    rows.successful(**EXPIRED)
    names = [table.name for table in pruned_tables()]
    assert [line.split()[:2] for line in run("prune", "--dry-run").splitlines() if line[0] != " "] == [
        [name, {"sessions": "2", "tasks": "1"}.get(name, "0")] for name in names
    ]
    assert run("prune").splitlines() == [
        f"{name}: { {'sessions': 2, 'tasks': 1}.get(name, 0) } pruned." for name in names
    ]


@pytest.mark.parametrize("name", ["users"])
def test_a_table_that_is_not_known_is_named_with_those_that_are(name):
    with pytest.raises(CommandError) as error:
        run("prune", name)
    known = ", ".join(table.name for table in pruned_tables())
    assert str(error.value) == f"There is no table {name!r} to prune. Known: {known}."
