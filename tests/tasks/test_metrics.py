"""The figures, and the command that prints them."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models.functions import Now

from tasks.metrics import stats
from tasks.models import Queue
from tests.tasks import rows

pytestmark = pytest.mark.django_db

EMPTY = {"size": 0, "scheduled": 0, "running": 0, "latency": 0.0, "paused": False}
NOTHING = {
    "tasks": {"READY": 0, "RUNNING": 0, "SUCCESSFUL": 0, "FAILED": 0},
    "queues": {"default": EMPTY, "mail": EMPTY, "maintenance": EMPTY},
    "clusters": [],
}


def printed(*options: str) -> str:
    out = StringIO()
    call_command("taskstats", *options, stdout=out)
    return out.getvalue()


def test_without_tasks_every_queue_of_the_settings_is_there_with_zeros():
    assert stats() == NOTHING
    assert json.loads(printed("--json")) == NOTHING


def test_the_json_has_exactly_the_documented_shape():
    cluster = rows.cluster_row(heartbeat_age=4, workers=[11, 12])
    rows.ready(due_in=-60)
    rows.ready(due_in=60)
    rows.running(holder=cluster)
    figures = json.loads(printed("--json"))

    latency = figures["queues"]["default"].pop("latency")
    age = figures["clusters"][0].pop("heartbeat_age")
    assert 60 <= latency < 65
    assert 4 <= age < 9
    assert figures == {
        "tasks": {"READY": 2, "RUNNING": 1, "SUCCESSFUL": 0, "FAILED": 0},
        "queues": {
            "default": {"size": 1, "scheduled": 1, "running": 1, "paused": False},
            "mail": EMPTY,
            "maintenance": EMPTY,
        },
        "clusters": [{"id": str(cluster.pk), "host": "host-a", "pid": 4711, "workers": 2}],
    }


def test_the_json_is_one_line():
    assert printed("--json").count("\n") == 1


def test_tasks_are_counted_by_status():
    builds: list[tuple[Any, int]] = [
        (rows.ready, 4), (rows.claimed, 1), (rows.running, 3), (rows.successful, 2), (rows.failed, 1)
    ]  # fmt: skip
    for build, count in builds:
        for _ in range(count):
            build()
    rows.failed(discarded_at=Now())
    assert stats()["tasks"] == {"READY": 5, "RUNNING": 3, "SUCCESSFUL": 2, "FAILED": 2}


def test_pruned_rows_are_counted_too():
    rows.successful()
    rows.failed()
    Queue.objects.create(name="default", pruned_successful=10, pruned_failed=20)
    Queue.objects.create(name="mail", pruned_successful=100)
    assert stats()["tasks"] == {"READY": 0, "RUNNING": 0, "SUCCESSFUL": 111, "FAILED": 21}


def test_size_counts_what_is_due_claimed_rows_included():
    rows.ready()
    rows.claimed()
    rows.ready(due_in=60)
    rows.successful()
    assert stats()["queues"]["default"] | {"latency": 0} == EMPTY | {"size": 2, "scheduled": 1, "latency": 0}


def test_latency_is_the_age_of_the_oldest_due_task_that_nobody_claimed():
    rows.claimed(due_in=-3600)
    rows.running(due_in=-7200)
    rows.ready(due_in=-100)
    rows.ready(due_in=-30)
    rows.ready(due_in=60)
    assert 100 <= stats()["queues"]["default"]["latency"] < 105


def test_latency_counts_from_run_after_not_from_the_enqueue():
    rows.ready(due_in=3600)
    assert stats()["queues"]["default"]["latency"] == 0.0


def test_queues_are_counted_apart_and_one_that_the_settings_no_longer_name_is_shown():
    rows.ready(queue_name="mail")
    rows.running(queue_name="letters")
    queues = stats()["queues"]
    assert list(queues) == ["default", "mail", "maintenance", "letters"]
    assert queues["mail"] | {"latency": 0} == EMPTY | {"size": 1, "latency": 0}
    assert queues["letters"] == EMPTY | {"running": 1}
    assert queues["default"] == EMPTY


def test_a_paused_queue_is_shown_as_paused():
    Queue.objects.create(name="mail", paused_at=Now())
    Queue.objects.create(name="letters", paused_at=Now())
    Queue.objects.create(name="default", paused_at=Now(), paused_until=Now())
    paused = {name: queue["paused"] for name, queue in stats()["queues"].items()}
    assert paused == {"default": False, "mail": True, "maintenance": False, "letters": True}


def test_the_number_of_queries_does_not_grow(django_assert_num_queries):
    for name in ("default", "mail", "letters", "parcels"):
        rows.ready(queue_name=name)
        rows.cluster_row(host=name)
        Queue.objects.create(name=name, paused_at=Now())
    with django_assert_num_queries(5):
        stats()


def test_the_table_shows_the_counts_the_queues_and_the_clusters():
    rows.running(holder=rows.cluster_row(workers=[1, 2], heartbeat_age=1))
    Queue.objects.create(name="mail", paused_at=Now())
    lines = printed().splitlines()
    assert lines[0] == "READY 0  RUNNING 1  SUCCESSFUL 0  FAILED 0"
    assert lines[2].split() == ["queue", "size", "scheduled", "running", "latency"]
    assert lines[3].split() == ["default", "0", "0", "1", "0.0", "s"]
    assert lines[4].split() == ["mail", "0", "0", "0", "0.0", "s", "paused"]
    assert lines[5].split() == ["maintenance", "0", "0", "0", "0.0", "s"]
    assert lines[7].split() == ["cluster", "pid", "workers", "heartbeat"]
    assert lines[8].split()[:3] == ["host-a", "4711", "2"]
    assert lines[8].endswith(" s ago")
    assert len(lines) == 9


def test_the_table_says_how_to_start_a_cluster_if_none_runs():
    assert printed().splitlines()[-1] == "No cluster is running. Start one: manage.py qcluster"
