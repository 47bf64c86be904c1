"""Errors: what is tried again, when, what is given up, and who hears of it."""

from __future__ import annotations

import http.server
import threading
from typing import Any

import pytest

from examples.tasks import fetch_page
from tests.processes import until
from tests.tasks.rows import errors_of, finished, row


class Pages(http.server.ThreadingHTTPServer):
    """Answers with what it is told, then with a page."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.answers: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"


class Page(http.server.BaseHTTPRequestHandler):
    server: Pages

    def do_GET(self) -> None:
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def pages():
    with Pages() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_an_answer_that_may_change_is_asked_for_again(cluster, pages):
    pages.answers = [500, 429]
    cluster()
    result = fetch_page.enqueue(pages.url)
    until(lambda: finished(result))
    task = row(result)
    assert (task.status, task.return_value, task.attempts) == ("SUCCESSFUL", 5, 3)
    assert errors_of(task) == [
        (1, "exception", "HTTP Error 500: Internal Server Error"),
        (2, "exception", "The other side asks for a pause."),
    ]


def test_a_page_that_does_not_exist_is_given_up_at_once(cluster, pages):
    pages.answers = [404]
    process = cluster()
    result = fetch_page.enqueue(pages.url)
    until(lambda: finished(result))
    task = row(result)
    assert (task.status, task.attempts) == ("FAILED", 1)
    assert errors_of(task) == [(1, "discarded", f"{pages.url} does not exist.")]
    assert "somebody has to look at it" not in process.log()


def test_what_fails_to_the_end_is_in_the_failure_inbox_and_the_hook_is_told(cluster, pages, operator_client):
    pages.answers = [500] * 4
    process = cluster()
    result = fetch_page.enqueue(pages.url)
    until(lambda: finished(result), 30)
    assert (row(result).status, row(result).attempts) == ("FAILED", 4)
    until(lambda: f"task {result.id} is FAILED after attempt 4: somebody has to look at it" in process.log())
    inbox = operator_client.get("/admin/tasks/failedtask/").content.decode()
    assert f"#{result.id} fetch_page" in inbox
    assert "HTTP Error 500: Internal Server Error" in inbox


def test_a_task_in_the_failure_inbox_can_be_retried(cluster, pages, operator_client):
    pages.answers = [404]
    cluster()
    result = fetch_page.enqueue(pages.url)
    until(lambda: finished(result))
    operator_client.post("/admin/tasks/task/", {"action": "retry", "_selected_action": [result.id]})
    until(lambda: finished(result) and row(result).status == "SUCCESSFUL")
    assert row(result).return_value == 5
