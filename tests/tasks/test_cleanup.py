"""Retention: what goes, what stays, what is still counted."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db.models.functions import Now

from tasks import cleanup, leases
from tasks.audit import audit
from tasks.cleanup import prune_tasks
from tasks.leases import Failure
from tasks.metrics import stats
from tasks.models import Queue, Task, TaskError
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


def test_a_prune_goes_in_batches_and_stops_between_them(monkeypatch):
    monkeypatch.setattr(cleanup, "BATCH", 2)
    for _number in range(5):
        rows.successful(**EXPIRED)
    stops = iter([False, True])
    assert prune_tasks(should_stop=lambda: next(stops)) == 2
    assert prune_tasks() == 3
    assert Queue.objects.get().pruned_successful == 5


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


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("prunetasks", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_says_what_would_go_and_does_it():
    assert run("--dry-run") == "Nothing to go.\n"
    task = rows.successful(**EXPIRED)
    finished = task.finished_at.strftime("%Y-%m-%d %H:%M UTC")
    assert run("--dry-run") == f"default         SUCCESSFUL         1 to go, the oldest finished {finished}\n"
    assert Task.objects.count() == 1
    assert run() == "1 tasks pruned.\n"
    assert not Task.objects.exists()
