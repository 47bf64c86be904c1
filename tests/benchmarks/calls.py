"""What the caller of `enqueue` waits for, beside the same without the engine, in turns in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from statistics import median
from types import SimpleNamespace
from unittest import mock

from django.test import Client
from django.urls import reverse

from accounts import forms
from accounts.models import User
from tasks.models import Task
from tests.benchmarks import stage
from tests.benchmarks.models import PlainRow
from tests.benchmarks.options import Figures, Options
from tests.benchmarks.tasks import noop

ROWS = 10_000


def enqueue(options: Options) -> Iterator[Figures]:
    """One `.enqueue()` in a transaction of its own; one INSERT of the same columns into a table without an engine."""
    stage.fresh()
    path = noop.module_path
    acts: dict[str, Callable[[int], object]] = {
        "enqueue p50 ms": noop.enqueue,
        "plain INSERT p50 ms": lambda number: PlainRow.objects.create(
            task_path=path, args=[number], kwargs={}, queue_name="default", max_attempts=5
        ),
    }
    in_turns(acts, 20)
    for _repeat in range(options.repeats or 3):
        spent = in_turns(acts, 20 if options.quick else 600)
        figures = {name: 1000 * median(seconds) for name, seconds in spent.items()}
        yield figures | {"ratio": figures["enqueue p50 ms"] / figures["plain INSERT p50 ms"]}


def bulk(options: Options) -> Iterator[Figures]:
    """`enqueue_many`, and `bulk_create` of the same columns into the other table."""
    count = 100 if options.quick else ROWS
    plain = {"task_path": noop.module_path, "kwargs": {}, "queue_name": "default", "max_attempts": 5}
    acts: dict[str, Callable[[int], object]] = {
        "enqueue_many rows/s": lambda _number: stage.fill(count),
        "plain bulk_create rows/s": lambda _number: PlainRow.objects.bulk_create(
            [PlainRow(args=[number], **plain) for number in range(count)], batch_size=1000
        ),
    }
    for _repeat in range(options.repeats or 3):
        stage.fresh()
        in_turns(acts, 1)
        figures = {name: count / seconds[0] for name, seconds in in_turns(acts, 1).items()}
        yield figures | {"ratio": figures["enqueue_many rows/s"] / figures["plain bulk_create rows/s"]}


def signup(options: Options) -> Iterator[Figures]:
    """The view as a browser's POST finds it, and the same with task functions that enqueue nothing."""
    stage.fresh()
    client, address = Client(), reverse("accounts:signup")
    nothing = SimpleNamespace(enqueue=lambda *_args: None)

    def post(number: int) -> None:
        now = time.monotonic_ns()
        network = str(IPv4Address("10.0.0.0") + now % 2**24)  # of its own, or there would be too many of one
        data = {
            "display_name": "Somebody",
            "email": f"{now}-{number}@example.org",
            "password": "an old lamp by the sea",
        }
        assert client.post(address, data, REMOTE_ADDR=network).status_code == 302

    def post_without_task(number: int) -> None:
        with ExitStack() as stack:  # outside of the product, which has no switch for this
            for name in ("send_welcome_email", "send_already_registered_email"):
                stack.enter_context(mock.patch.object(forms, name, nothing))
            post(number)

    acts: dict[str, Callable[[int], object]] = {"with its task p50 ms": post, "without p50 ms": post_without_task}
    in_turns(acts, 3)
    for _repeat in range(options.repeats or 3):
        spent = in_turns(acts, 3 if options.quick else 20)
        figures = {name: 1000 * median(seconds) for name, seconds in spent.items()}
        yield figures | {"ratio": figures["with its task p50 ms"] / figures["without p50 ms"]}
    assert 2 * Task.objects.count() == User.objects.count(), "the variants are not what they should be"


def in_turns(acts: dict[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Call each once in each round; return the seconds that each call took."""
    spent: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(rounds):
        for name, act in acts.items():
            began = time.perf_counter()
            act(number)
            spent[name].append(time.perf_counter() - began)
    return spent
