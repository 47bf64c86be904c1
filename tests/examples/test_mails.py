"""A connection that is kept in each worker process: what a real mail server sees of a hundred mails."""

from __future__ import annotations

from typing import Any

import pytest

from examples.tasks import send_note
from tasks.models import Task
from tests.mail.test_backend import CountingServer
from tests.processes import until
from tests.tasks.rows import finished


@pytest.fixture
def server():
    server = CountingServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def one_worker(cluster, server):
    """A cluster of one worker that sends to the server."""
    return cluster("--workers", "1", EMAIL_URL=f"smtp://127.0.0.1:{server.port}")


def send(count: int) -> list:
    notes: Any = send_note
    return notes.enqueue_many([("reader@example.org", number) for number in range(count)])


def message_ids(server: CountingServer) -> list[str]:
    return sorted(str(mail["Message-ID"]) for mail in server.mails)


def expected(results: list) -> list[str]:
    return sorted(f"<task-{result.id}@example.com>" for result in results)


def test_a_hundred_mails_of_a_worker_take_one_connection(one_worker, server):
    results = send(100)
    until(lambda: finished(*results), 60)
    assert (server.connections, message_ids(server)) == (1, expected(results))


def test_a_server_that_restarts_in_the_middle_loses_no_mail_and_gets_none_twice(one_worker, server):
    results = send(100)
    for number in (20, 50, 80):
        until(lambda number=number: len(server.mails) >= number)
        server.stop()
        server.start()
    until(lambda: finished(*results), 60)
    assert message_ids(server) == expected(results)
    assert Task.objects.exclude(status="SUCCESSFUL").count() == 0


def test_a_server_that_hangs_up_between_two_mails_costs_no_attempt(one_worker, server):
    server.hang_up_at["MAIL"] = [10, 20, 30]
    results = send(40)
    until(lambda: finished(*results), 60)
    assert (server.connections, message_ids(server)) == (4, expected(results))
    assert set(Task.objects.values_list("status", "attempts")) == {("SUCCESSFUL", 1)}


def test_a_mail_server_that_was_away_gets_the_mail_from_a_later_attempt(cluster, server):
    server.stop()
    cluster("--workers", "1", EMAIL_URL=f"smtp://127.0.0.1:{server.port}")
    [result] = send(1)
    until(lambda: Task.objects.filter(status="READY", attempts__gte=1).exists(), what="an attempt has failed")
    server.start()
    until(lambda: finished(result), 60)
    task = Task.objects.get()
    assert (task.status, task.attempts > 1, message_ids(server)) == ("SUCCESSFUL", True, expected([result]))
    assert {error.exception_path for error in task.errors.all()} == {"builtins.ConnectionRefusedError"}


def test_each_worker_has_a_connection_of_its_own(cluster, server):
    cluster("--workers", "2", EMAIL_URL=f"smtp://127.0.0.1:{server.port}")
    results = send(100)
    until(lambda: finished(*results), 60)
    workers = {worker for ids in Task.objects.values_list("worker_ids", flat=True) for worker in ids}
    assert (server.connections, message_ids(server)) == (len(workers), expected(results))
