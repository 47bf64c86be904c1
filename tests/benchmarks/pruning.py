"""What it costs to prune many rows, and what those notice who sign up meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing import get_context
from statistics import median
from typing import Any
from unittest import mock

from django.db import connection, connections
from django.test import override_settings
from django.utils import timezone

from accounts.forms import SignupForm
from accounts.models import User
from tasks import cleanup
from tasks.models import Queue, Task
from tasks.retention import tables
from tests.benchmarks import stage
from tests.benchmarks.options import Figures, Options
from tests.benchmarks.report import percentile
from tests.benchmarks.tasks import noop

PAUSE = 0.02
"""Seconds between two signups."""

QUIET = 5.0
"""Seconds of signups before the prune begins."""


def prune(options: Options) -> Iterator[Figures]:
    """Expired tasks by the code that a scheduled prune runs, while another process signs people up."""
    for _repeat in range(options.repeats or 1):
        stage.fresh()
        now = timezone.now()
        times = dict.fromkeys(("enqueued_at", "run_after", "started_at", "last_attempted_at", "finished_at"), now)
        row = Task(
            task_path=noop.module_path, queue_name="default", max_attempts=5, attempts=1, status="SUCCESSFUL",
            worker_ids=["host:1:2"], return_value=1, expires_at=now - timedelta(seconds=1), **times,
        )  # fmt: skip
        stage.copies(row, options.rows, spread="expires_at")
        stage.settle()
        before = stage.size()
        with Signups() as signups, Statements() as statements:
            time.sleep(1 if options.quick else QUIET)  # this is the measure
            signups.go_on_beside()
            began = time.monotonic()
            run = cleanup.prune(tables["tasks"], seconds=float("inf"))
            spent = time.monotonic() - began
        assert run.pruned == options.rows == Queue.objects.get(name="default").pruned_successful
        seconds = signups.found
        assert User.objects.count() == len(seconds["at rest"]) + len(seconds["beside"])
        figures = {
            "rows": options.rows,
            "rows/s": options.rows / spent,
            "longest statement ms": 1000 * max(statements.seconds),
            "p99.9 statement ms": 1000 * percentile(statements.seconds, 0.999),
            "longest transaction ms": 1000 * max(statements.transactions),
            "p50 transaction ms": 1000 * median(statements.transactions),
        }
        for phase, measured in seconds.items():
            figures |= {f"signups {phase}": len(measured)}
            figures |= {f"signup {phase} p{share} ms": 1000 * percentile(measured, share / 100) for share in (50, 99)}
            figures |= {f"signup {phase} max ms": 1000 * max(measured)}
        stage.settle()
        yield figures | {"database MB before": before / 1e6, "database MB after": stage.size() / 1e6}


class Statements:
    """How long each statement of this process took, and each of its transactions until it was committed."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.transactions: list[float] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            if not sql.startswith("BEGIN"):  # which waits for others
                self.seconds.append(time.perf_counter() - began)

    def others(self, took: float) -> None:
        self.transactions.append(took)
        self.wait(took)

    def __enter__(self) -> Statements:
        self.wait = cleanup._let_others  # called with the time of each batch and of each step of the vacuum
        self.patch = mock.patch.object(cleanup, "_let_others", self.others)
        self.patch.start()
        self.wrapper = connection.execute_wrapper(self)
        self.wrapper.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.wrapper.__exit__(*error)
        self.patch.stop()


class Signups:
    """A process that signs people up, as the form does; only the hash of the password is a quick one."""

    def __enter__(self) -> Signups:
        connections.close_all()
        fork = get_context("fork")
        self.is_beside, self.is_over = fork.Value("i", 0), fork.Event()
        self.reader, writer = fork.Pipe(duplex=False)
        self.process = fork.Process(target=self.sign_up, args=(writer,), daemon=True)
        self.process.start()
        return self

    def sign_up(self, writer: Any) -> None:
        seconds: dict[str, list[float]] = {"at rest": [], "beside": []}
        with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
            number = 0
            while not self.is_over.wait(PAUSE):
                number += 1
                data = {"email": f"{os.getpid()}-{number}@example.org", "password": "an old lamp by the sea"}
                form = SignupForm({"display_name": "Somebody", **data})
                assert form.is_valid()
                phase = "beside" if self.is_beside.value else "at rest"
                began = time.perf_counter()
                form.save()
                seconds[phase].append(time.perf_counter() - began)
        writer.send(seconds)

    def go_on_beside(self) -> None:
        self.is_beside.value = 1

    def __exit__(self, *_error: Any) -> None:
        self.is_over.set()
        self.found: dict[str, list[float]] = self.reader.recv()
        self.process.join(10)
