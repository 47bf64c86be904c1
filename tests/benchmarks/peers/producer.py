"""`python -m tests.benchmarks.peers.producer KIND ACT ...`, in the environment of its system; prints JSON.

setup                       make the tables
fill COUNT                  enqueue tasks 0, 1, ..., many at once where the system can
pace FIRST COUNT RATE       enqueue one by one at that rate; print when each enqueue returned
time COUNT                  enqueue one by one; print the seconds that each took
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

One = Callable[[int], object]
Many = Callable[[range], object]
BATCH = 1000


def each(one: One) -> Many:
    return lambda numbers: [one(number) for number in numbers]


def steward() -> tuple[One, Many]:
    from tests.benchmarks.tasks import noop

    function: Any = noop
    return function.enqueue, lambda numbers: function.enqueue_many([(number,) for number in numbers])


def django_q() -> tuple[One, Many]:
    from django_q.tasks import async_task

    def one(number: int) -> None:
        async_task("tests.benchmarks.peers.apps.django_q_app.noop", number)

    return one, each(one)


def django_tasks_db() -> tuple[One, Many]:
    from tests.benchmarks.peers.apps.django_tasks_app import noop

    return noop.enqueue, each(noop.enqueue)


def celery() -> tuple[One, Many]:
    from tests.benchmarks.peers.apps.celery_app import noop

    return noop.delay, each(noop.delay)


def dramatiq() -> tuple[One, Many]:
    from tests.benchmarks.peers.apps.dramatiq_app import noop

    return noop.send, each(noop.send)


def huey() -> tuple[One, Many]:
    from tests.benchmarks.peers.apps.huey_app import noop

    return noop, each(noop)


def procrastinate() -> tuple[One, Many]:
    from tests.benchmarks.peers.apps.procrastinate_app import app, noop

    app.open()
    return (
        lambda number: noop.defer(number=number),
        lambda numbers: noop.batch_defer(*[{"number": number} for number in numbers]),
    )


KINDS = {
    "steward": steward,
    "django_q": django_q,
    "django_tasks_db": django_tasks_db,
    "celery": celery,
    "dramatiq": dramatiq,
    "huey": huey,
    "procrastinate": procrastinate,
}
DJANGO = {"steward", "django_q", "django_tasks_db"}


def setup(kind: str) -> None:
    if kind in DJANGO:
        from django.core.management import call_command

        call_command("migrate", run_syncdb=True, verbosity=0)
    elif kind == "procrastinate":
        from tests.benchmarks.peers.apps.procrastinate_app import app

        with app.open():
            app.schema_manager.apply_schema()


def pace(one: One, first: int, count: int, rate: float) -> list[float]:
    gaps, due, committed = random.Random(7), time.monotonic(), []
    for number in range(first, first + count):
        time.sleep(max(0.0, due - time.monotonic()))  # the pace of the load
        one(number)
        committed.append(time.time())
        due += gaps.uniform(0.5, 1.5) / rate
    return committed


def main(kind: str, act: str, *numbers: str) -> None:
    os.environ["BENCH_PRODUCER"] = "1"
    if kind in DJANGO:
        import django

        django.setup()
    if act == "setup":
        setup(kind)
        return
    one, many = KINDS[kind]()
    answer: list[float] = []
    if act == "fill":
        for first in range(0, int(numbers[0]), BATCH):
            many(range(first, min(first + BATCH, int(numbers[0]))))
    elif act == "pace":
        answer = pace(one, int(numbers[0]), int(numbers[1]), float(numbers[2]))
    elif act == "time":
        for number in range(int(numbers[0]) + 20):
            began = time.perf_counter()
            one(number)
            answer.append(time.perf_counter() - began)
        answer = answer[20:]  # the first connect and import
    print(json.dumps(answer))


main(*sys.argv[1:])
