"""Fire and forget from a request, and state that tasks share in the database."""

from __future__ import annotations

import json

import pytest
from django.db import IntegrityError, connection

from examples.models import Page
from examples.tasks import count_visit
from tasks.models import Task
from tasks.testing import enqueued, run_enqueued
from tests.e2e.conftest import free_port
from tests.processes import until
from tests.tasks.rows import finished

VISITS = "/examples/visits/home/"


def test_a_request_is_answered_at_once_and_its_task_runs_in_the_background(make_site):
    site = make_site(free_port(), with_cluster=False)
    status, body = site.request("POST", VISITS)
    task = Task.objects.get()
    assert (status, json.loads(body)) == (202, {"task": str(task.pk)})
    assert (task.status, json.loads(site.request("GET", VISITS)[1])) == ("READY", {"visits": 0})
    site.cluster.start()
    try:
        until(lambda: json.loads(site.request("GET", VISITS)[1]) == {"visits": 1})
    finally:
        site.cluster.stop()


def test_a_request_that_fails_leaves_no_task(client, db):
    def refuse(execute, sql, params, many, context):
        if "tasks_task" in sql:
            execute(sql, params, many, context)
            raise IntegrityError("the request fails after its task was enqueued")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse), pytest.raises(IntegrityError):
        client.post(VISITS)
    assert Task.objects.count() == 0


def test_a_visit_counts_for_its_page_alone(client, db):
    for name in ("home", "home", "news"):
        assert client.post(f"/examples/visits/{name}/").status_code == 202
    assert [task.args for task in enqueued(count_visit)] == [["home"], ["home"], ["news"]]
    run_enqueued()
    assert client.get(VISITS).json() == {"visits": 2}


def test_visits_that_are_counted_at_the_same_time_are_all_counted(cluster):
    cluster("--workers", "4")
    results = count_visit.enqueue_many([("home",)] * 200)
    until(lambda: finished(*results), 60)
    assert Page.objects.get().visits == 200
