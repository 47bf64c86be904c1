"""The error hook for Sentry: the real SDK, a real worker, and a server that keeps what it is sent."""

from __future__ import annotations

import gzip
import http.server
import json
import subprocess
import sys
import threading
from typing import Any

import pytest

from tests.processes import ROOT, Process, database_url, until
from tests.tasks.rows import finished
from tests.work import tasks as work

KEY = "sentry-key-0815"
SECRET = "geheim-4711"


class Sentry(http.server.ThreadingHTTPServer):
    """Keeps the body of each request, and the header that says who sent it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.bodies: list[str] = []
        self.senders: list[str] = []

    @property
    def dsn(self) -> str:
        return f"http://{KEY}@127.0.0.1:{self.server_address[1]}/1"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of all envelopes: a line of headers, then a line of headers before each item."""
        return [json.loads(body.splitlines()[2]) for body in self.bodies]


class Receiver(http.server.BaseHTTPRequestHandler):
    server: Sentry

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        self.server.bodies.append(body.decode())
        self.server.senders.append(str(self.headers["X-Sentry-Auth"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def sentry():
    with Sentry() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def exceptions(event: dict[str, Any]) -> list[str]:
    return [error["type"] for error in event.get("exception", {}).get("values", [])]


def test_sentry_is_told_of_each_attempt_that_failed(cluster, sentry):
    cluster(SENTRY_DSN=sentry.dsn)
    result = work.fail.enqueue()
    until(lambda: len(sentry.bodies) == 2)
    first, last = sorted(sentry.events, key=lambda event: event["tags"]["attempt"])
    page = f"http://testserver/admin/tasks/task/{result.id}/change/"
    tags = {"task": "tests.work.tasks.fail", "task_id": result.id, "kind": "exception", "page": page}
    assert (first["tags"], first["level"]) == (tags | {"attempt": "1"}, "warning")
    assert (last["tags"], last["level"]) == (tags | {"attempt": "2"}, "error")
    frames = first["exception"]["values"][0]["stacktrace"]["frames"]
    assert (exceptions(first), frames[-1]["function"]) == (["ValueError"], "fail")
    assert frames[-1]["context_line"].strip() == "raise ValueError(text)"
    assert f"sentry_key={KEY}" in sentry.senders[0]


def test_no_argument_no_value_and_no_text_of_an_exception_leaves(cluster, sentry):
    cluster(SENTRY_DSN=sentry.dsn, EMAIL_URL=f"smtp://me:{SECRET}-smtp@127.0.0.1:9")
    work.with_a_secret.using(priority=1).enqueue(1, secret=SECRET)
    work.fail.enqueue(f"no luck with {SECRET}")
    work.raise_from_another.enqueue()
    until(lambda: len(sentry.bodies) >= 4)
    assert "RuntimeError" in {name for event in sentry.events for name in exceptions(event)}
    sent = "\n".join(sentry.bodies)
    assert "with_a_secret" in sent
    for secret in (SECRET, "no luck with", "for tests only", database_url()):
        assert secret not in sent
    values = {error["value"] for event in sentry.events for error in event.get("exception", {}).get("values", [])}
    assert values == {"(its text is kept in the admin)"}
    assert not {"extra", "breadcrumbs", "request", "user", "modules"} & {
        key for event in sentry.events for key in event
    }


def test_a_worker_that_was_killed_is_told_by_its_cluster(cluster, sentry):
    cluster(SENTRY_DSN=sentry.dsn)
    work.kill_worker.enqueue()
    until(lambda: len(sentry.bodies) == 2)
    assert {event["tags"]["kind"] for event in sentry.events} == {"lost"}
    assert sorted(event["level"] for event in sentry.events) == ["error", "warning"]


def test_what_was_given_up_on_purpose_is_no_error(cluster, sentry):
    cluster("--workers", "1", SENTRY_DSN=sentry.dsn)
    given_up, snoozed = work.discard.enqueue(), work.snooze.enqueue()
    failed = work.fail.enqueue()
    until(lambda: finished(given_up, failed) and len(sentry.bodies) == 2)
    assert {event["tags"]["task_id"] for event in sentry.events} == {failed.id}
    assert not finished(snoozed)


def test_an_event_is_away_before_its_worker_is_ended(cluster, sentry):
    process = cluster("--workers", "1", SENTRY_DSN=sentry.dsn)
    result = work.raise_without_text.enqueue()
    until(lambda: finished(result))
    process.stop()
    assert [exceptions(event) for event in sentry.events] == [["BrokenError"]]


def test_a_sentry_that_is_away_changes_nothing(cluster):
    cluster("--workers", "1", SENTRY_DSN="http://key@127.0.0.1:9/1")
    results = [work.fail.enqueue() for _ in range(5)]
    until(lambda: finished(*results), 30)


def test_the_sdk_is_not_imported_without_a_dsn_and_with_one_not_before_something_fails():
    code = "import sys, django; django.setup(); print('sentry_sdk' in sys.modules, 'tasks.sentry' in sys.modules)"

    def printed(dsn: str) -> str:
        process = Process(ROOT / "unused", SENTRY_DSN=dsn)
        return subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=process.environment, capture_output=True, text=True, check=True
        ).stdout

    assert printed("") == "False False\n"
    assert printed("https://key@sentry.example.org/1") == "False True\n"
