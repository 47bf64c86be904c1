"""The laws: each is seen to be broken by a row that breaks it, and by no other."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from tasks.audit import LAWS, SHOWN, audit
from tasks.models import Cluster, Queue, Task, TaskError

pytestmark = pytest.mark.django_db

ALIVE = {"host": "vm", "pid": 1}
NOW = timezone.now()


def make(**values) -> Task:
    return Task.objects.create(
        **{"task_path": "tests.work.tasks.add", "queue_name": "default", "max_attempts": 3} | values
    )


def leased(cluster: Cluster | None = None, **values) -> Task:
    cluster = cluster or Cluster.objects.create(**ALIVE)
    return make(lease_id=uuid.uuid4(), leased_at=NOW, cluster=cluster, **values)


def error(task: Task, attempt: int, kind: str = "exception", **values) -> None:
    TaskError.objects.create(task=task, attempt=attempt, kind=kind, worker_id="vm:1", **values)


def broken() -> dict[str, list[int]]:
    return {name: law["tasks"] for name, law in audit()["laws"].items() if law["broken"]}


@pytest.fixture
def no_constraints():
    """Let rows break what the database itself forbids; the transaction of the test takes it back."""
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX tasks_task_one_unfinished_per_key")
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints = ON")
        else:
            for constraint in Task._meta.constraints:
                if constraint.name != "tasks_task_one_unfinished_per_key":
                    cursor.execute(f"ALTER TABLE tasks_task DROP CONSTRAINT {constraint.name}")
    yield
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA ignore_check_constraints = OFF")


def test_rows_of_every_lawful_kind_break_no_law():
    make()
    leased()
    leased(status="RUNNING", attempts=1, worker_ids=["vm:1"])
    make(status="SUCCESSFUL", finished_at=NOW, attempts=1, worker_ids=["vm:1"])
    failed = make(status="FAILED", finished_at=NOW, attempts=2, worker_ids=["vm:1", "vm:2"])
    error(failed, 1)
    error(failed, 1, "interrupted")
    error(failed, 2, "lost")
    given_up = make(status="FAILED", finished_at=NOW, attempts=1, worker_ids=["vm:1"])
    error(given_up, 1, "discarded")
    never_ran = make(status="FAILED", finished_at=NOW, discarded_at=NOW)
    TaskError.objects.create(task=never_ran, attempt=0, kind="discarded")
    late = make(status="SUCCESSFUL", finished_at=NOW, attempts=1, worker_ids=["vm:1"])
    error(late, 1, "superseded", created_at=NOW + timedelta(seconds=5))
    Queue.objects.create(name="default", pruned_successful=4, pruned_failed=1)
    found = audit()
    assert broken() == {}
    assert {key: value for key, value in found.items() if key != "laws"} == {
        "ok": True, "accepted": 13, "waiting": 1, "leased": 2, "ended": 5, "pruned": 5,
    }  # fmt: skip


def test_a_lease_of_a_cluster_that_is_long_dead_or_unknown_is_found():
    dead = Cluster.objects.create(**ALIVE, heartbeat_at=NOW - timedelta(minutes=10))
    of_the_dead, of_nobody = leased(dead), leased(Cluster(**ALIVE, id=uuid.uuid4()))
    leased()
    assert broken() == {"leased by the living": [of_the_dead.pk, of_nobody.pk]}


def test_an_attempt_without_a_worker_an_error_or_with_two_errors_is_found():
    no_worker = make(attempts=1)
    error(no_worker, 1)
    no_error = make(attempts=1, worker_ids=["vm:1"])
    two_errors = make(attempts=2, worker_ids=["vm:1", "vm:1"])
    error(two_errors, 1)
    error(two_errors, 1)
    assert broken() == {"attempts contiguous": [no_worker.pk, no_error.pk, two_errors.pk]}


def test_more_attempts_than_allowed_are_found():
    task = make(attempts=4, worker_ids=["vm:1"] * 4)
    for attempt in range(1, 5):
        error(task, attempt)
    assert broken() == {"attempts limited": [task.pk]}


def test_an_error_after_the_success_is_found():
    task = make(status="SUCCESSFUL", finished_at=NOW, attempts=2, worker_ids=["vm:1", "vm:1"])
    error(task, 2)
    assert broken() == {"success is final": [task.pk]}


def test_what_the_database_forbids_would_be_found_too(no_constraints):
    running = make(status="RUNNING", attempts=1, worker_ids=["vm:1"])
    unknown = make(status="ASLEEP")
    twins = [make(idempotency_key="one"), make(idempotency_key="one")]
    make(idempotency_key="one", task_path="tests.work.tasks.fail")
    assert broken() == {
        "conserved": [running.pk, unknown.pk],
        "running under a lease": [running.pk],
        "one for each key": [twin.pk for twin in twins],
    }


def test_the_command_exits_with_1_and_names_the_rows(capsys):
    tasks = [make(attempts=1) for _number in range(SHOWN + 1)]
    with pytest.raises(SystemExit) as stop:
        call_command("tasksaudit", "--json")
    law = json.loads(capsys.readouterr().out)["laws"]["attempts contiguous"]
    assert stop.value.code == 1
    assert (law["broken"], law["tasks"]) == (SHOWN + 1, [task.pk for task in tasks[:SHOWN]])
    with pytest.raises(SystemExit):
        call_command("tasksaudit")
    assert f"BROKEN by {SHOWN + 1} tasks: {tasks[0].pk}, " in capsys.readouterr().out


def test_the_command_returns_when_all_is_well(capsys):
    make()
    call_command("tasksaudit")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "accepted 1 = waiting 1 + leased 0 + ended 0 + pruned 0"
    assert len(lines) == 1 + len(LAWS)
