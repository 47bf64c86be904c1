"""How long a task waits for an idle worker: from the commit of its enqueue to the first line of its code."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

from tests.benchmarks import stage
from tests.benchmarks.options import Figures, Options
from tests.benchmarks.page import page
from tests.benchmarks.report import percentile
from tests.benchmarks.tasks import noop

RATES = {10: 100, 100: 500, 300: 1500}
"""Tasks a second, and how many of them."""


def pickup(options: Options) -> Iterator[Figures]:
    """Single enqueues at a steady rate. At 10 a second every worker is idle when the task comes."""
    for _repeat in range(options.repeats or 1):
        stage.fresh()
        figures: Figures = {}
        with stage.Clusters(workers=options.workers) as clusters:
            clusters.wait_until_ready()
            first = 0
            for rate, count in RATES.items():
                count = 10 if options.quick else count
                began = time.time()
                delays = pickups(noop, count, rate, first)
                figures |= {
                    f"{rate}/s: p{share:.0%}"[:-1] + " ms": percentile(delays, share) for share in (0.5, 0.95, 0.99)
                }
                figures[f"{rate}/s: enqueued a second"] = count / (max(page().starts(count, first)) - began)
                first += count
        yield figures


def pickups(function: Any, count: int, rate: float, first: int) -> list[float]:
    """Enqueue one by one, with gaps of half to one and a half of the mean; return what each waited, in ms."""
    gaps = random.Random(7)
    committed = []
    due = time.monotonic()
    for number in range(first, first + count):
        time.sleep(max(0.0, due - time.monotonic()))  # the pace of the load
        function.enqueue(number)
        committed.append(time.time())
        due += gaps.uniform(0.5, 1.5) / rate
    stage.wait(count, first)
    starts = page().starts(count, first)
    return [1000 * (start - commit) for start, commit in zip(starts, committed, strict=True)]
