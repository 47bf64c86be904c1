"""State that tasks share in a cache, and state that each worker process has for itself."""

from __future__ import annotations

import time

from django.core.cache import caches

from examples import tasks
from examples.tasks import count_time_zones, fetch_rate, price_in_euros, time_zones
from tasks.testing import run_enqueued
from tests.processes import until
from tests.tasks.rows import finished, row


def test_the_shared_cache_is_one_for_all_processes(cluster):
    caches["shared"].set("euros-for-a-dollar", 0.5)
    cluster("--workers", "2")
    results = [price_in_euros.enqueue(dollars) for dollars in (10, 20, 30)]
    until(lambda: finished(*results))
    assert [row(result).return_value for result in results] == [5.0, 10.0, 15.0]


def test_the_default_cache_is_not_shared(cluster):
    caches["default"].set("euros-for-a-dollar", 0.5)
    caches["shared"].clear()
    cluster("--workers", "1")
    result = price_in_euros.enqueue(10)
    until(lambda: finished(result))
    assert row(result).return_value == 10 * 0.875
    assert caches["shared"].get("euros-for-a-dollar") == fetch_rate()


def test_the_rate_is_fetched_once(db, monkeypatch):
    fetched = []
    monkeypatch.setattr(tasks, "fetch_rate", lambda: fetched.append(time.monotonic()) or 0.75)
    for _ in range(3):
        price_in_euros.enqueue(4)
    assert [task.return_value for task in run_enqueued()] == [3.0, 3.0, 3.0]
    assert len(fetched) == 1


def test_what_a_process_keeps_is_made_with_its_first_use(db):
    time_zones.cache_clear()
    for region in ("Europe", "Africa"):
        count_time_zones.enqueue(region)
    europe, africa = (task.return_value for task in run_enqueued())
    assert (europe > 30, africa > 30) == (True, True)
    assert (time_zones.cache_info().misses, time_zones.cache_info().hits) == (1, 1)
