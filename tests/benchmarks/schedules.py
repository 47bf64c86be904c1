"""How late due times are settled, and what many schedules cost that are not due."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from statistics import median

from tasks import statements
from tasks.models import Schedule, Tick
from tests.benchmarks import stage
from tests.benchmarks.options import Figures, Options
from tests.benchmarks.report import percentile
from tests.benchmarks.tasks import noop

SECONDS = 30
EACH_SECOND = 20
"""Schedules that are due each second."""

MANY = 10_000
"""Schedules that are due once a day."""


def schedules(options: Options) -> Iterator[Figures]:
    """The lag of 20 schedules that are due each second; then the CPU time of half a minute beside 10,000 others."""
    seconds = 2 if options.quick else SECONDS
    for _repeat in range(options.repeats or 1):
        stage.fresh()
        with stage.Clusters(workers=options.workers) as clusters:
            clusters.wait_until_ready()
            start = statements.now().replace(microsecond=0) + timedelta(seconds=2)
            _make(EACH_SECOND, timing="every second", due_at=start)
            time.sleep(seconds + 2)  # this is the measure
            lags = [tick.lag.total_seconds() * 1000 for tick in Tick.objects.filter(schedule__name__startswith="bench")]
            assert len(lags) >= EACH_SECOND * seconds, f"{len(lags)} ticks"
            Schedule.objects.filter(name__startswith="bench").delete()
            _make(MANY, timing="0 3 * * *", due_at=start + timedelta(days=1))
            time.sleep(1)  # what the ticks set going comes to rest; nothing shows when
            before = clusters.cpu()
            time.sleep(seconds)  # this is the measure
            used = clusters.cpu_since(before)
            used.pop("PostgreSQL", None)
        yield {
            "lag p50 ms": median(lags),
            "lag p99 ms": percentile(lags, 0.99),
            "lag max ms": max(lags),
            f"CPU s in {seconds} s beside {MANY:,}": sum(used.values()),
        }


def _make(count: int, **columns: object) -> None:
    given = {"task_path": noop.module_path, "overlap": Schedule.Overlap.ALLOW, **columns}
    Schedule.objects.bulk_create(Schedule(name=f"bench {number}", args=[number], **given) for number in range(count))
