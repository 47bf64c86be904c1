"""Addresses that are called after a success of a schedule, on a real web server."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from tasks import pings, ticks
from tasks.models import Task, TaskError
from tasks.testing import enqueued, run_enqueued
from tests.processes import until
from tests.tasks import rows
from tests.tasks.test_schedules import ON, in_seconds

pytestmark = pytest.mark.django_db


@pytest.fixture
def server() -> Iterator[Any]:
    """A web server that keeps what it was asked for, and answers with its `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listening.asked.append(self.path)
            self.send_response(listening.status)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    listening: Any = HTTPServer(("127.0.0.1", 0), Handler)
    listening.asked, listening.status = [], 200
    listening.address = f"http://127.0.0.1:{listening.server_port}/ping/0a1b2c"
    thread = Thread(target=listening.serve_forever)
    thread.start()
    yield listening
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_the_address_is_called_once_after_a_success(server):
    schedule = rows.schedule(due_at=in_seconds(-5), ping_url=server.address)
    assert pings.enqueue_calls() == 0
    ticks.fire()
    run_enqueued()
    assert [pings.enqueue_calls(), pings.enqueue_calls()] == [1, 0]
    (call,) = enqueued(pings.call)
    assert (call.args, call.kwargs) == ([schedule.pk], {})
    run_enqueued()
    assert server.asked == ["/ping/0a1b2c"]
    assert pings.enqueue_calls() == 0


def test_each_later_success_is_called(server):
    schedule = rows.schedule(ping_url=server.address)
    for _number in range(2):
        rows.successful(schedule=schedule)
        assert pings.enqueue_calls() == 1
    rows.failed(schedule=schedule)
    rows.successful()
    assert pings.enqueue_calls() == 0


def test_a_schedule_without_an_address_or_out_of_service_is_not_called(server):
    for values in ({"ping_url": ""}, {"ping_url": server.address, "retired_at": Now()}):
        rows.successful(schedule=rows.schedule(name=str(values), **values))
    assert pings.enqueue_calls() == 0


def test_a_call_that_fails_is_tried_again_and_says_no_address(server):
    server.status = 503
    rows.successful(schedule=rows.schedule(ping_url=server.address))
    pings.enqueue_calls()
    run_enqueued()
    call = Task.objects.get(task_path=pings.call.module_path)
    assert (call.status, call.attempts) == ("READY", 1)
    error = TaskError.objects.get()
    assert error.message == "HTTP Error 503: Service Unavailable"
    assert "0a1b2c" not in error.message + error.traceback


def test_an_address_that_cannot_be_called_is_given_up_and_not_told():
    pings.call.enqueue(rows.schedule(ping_url="http://user:0a1b2c@127.0.0.1/").pk)
    (call,) = run_enqueued()
    assert (call.status, call.discarded_at is not None) == ("FAILED", True)
    error = TaskError.objects.get()
    assert "0a1b2c" not in error.message + error.traceback


def test_a_call_whose_address_was_taken_away_is_given_up():
    pings.call.enqueue(rows.schedule().pk)
    (call,) = run_enqueued()
    assert (call.status, call.discarded_at is not None) == ("FAILED", True)


def test_a_cluster_calls_the_address(server, cluster):
    cluster("--workers", "1", **ON)
    rows.schedule("effect", timing="@yearly", due_at=in_seconds(1), args=["a"], ping_url=server.address)
    until(lambda: server.asked == ["/ping/0a1b2c"], 15)


def test_a_success_at_a_whole_second_is_called_once(server):
    rows.successful(schedule=rows.schedule(ping_url=server.address))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tasks_task SET finished_at = %s", [f"{in_seconds(-5):%Y-%m-%d %H:%M:%S}.000"])
    assert [pings.enqueue_calls(), pings.enqueue_calls()] == [1, 0]


def test_several_clusters_call_it_once(server, transactional_db):
    rows.successful(schedule=rows.schedule(ping_url=server.address))
    assert sorted(rows.at_the_same_time(3, pings.enqueue_calls)) == [0, 0, 1]
    assert len(enqueued(pings.call)) == 1
