"""Limits: what a counter allows, and what requests are counted."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.db.models.functions import Now
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Throttle
from accounts.throttle import Counter, Limit, look
from tasks.cleanup import prune
from tasks.retention import tables

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND


def wait(counter: Counter, now_us: int | None = None) -> int:
    """Return for how many microseconds there is no room."""
    return counter.wait_us(look([counter.digest], now_us))


def test_a_counter_allows_its_count_at_once_and_then_one_in_each_step(db):
    counter, other = Counter(Limit(5, timedelta(minutes=5)), "a"), Counter(Limit(5, timedelta(minutes=5)), "b")
    assert [counter.take(NOW) for _number in range(6)] == [True] * 5 + [False]
    assert wait(counter, NOW) == 60 * SECOND
    assert not counter.take(NOW + 59 * SECOND)
    assert wait(counter, NOW + 59 * SECOND) == SECOND
    assert [counter.take(NOW + 60 * SECOND) for _number in range(2)] == [True, False]
    assert other.take(NOW)
    assert Throttle.objects.count() == 2


LIMITS = st.builds(Limit, st.integers(1, 9), st.integers(1, 10_000_000).map(lambda us: timedelta(microseconds=us)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIMITS, st.lists(st.integers(0, 3_000_000), min_size=1, max_size=40))
def test_no_stretch_of_time_has_more_than_it_may_and_the_announced_wait_is_exact(db, limit, gaps):
    Throttle.objects.all().delete()
    counter, now, taken = Counter(limit, "a"), NOW, list[int]()
    taken += [now for _number in range(limit.count + 1) if counter.take(now)]
    assert len(taken) == limit.count
    for gap in gaps:
        now += gap
        announced = wait(counter, now)
        if counter.take(now):
            assert announced == 0
            taken.append(now)
        else:
            assert 0 < announced <= limit.step_us
            assert not counter.take(now + announced - 1)
            now += announced
            assert counter.take(now)
            taken.append(now)
    for first, began in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= limit.count + (taken[last] - began) // limit.step_us


def test_an_attempt_that_is_given_back_does_not_count(db):
    counter = Counter(Limit(1, timedelta(hours=1)), "a")
    assert counter.take(NOW)
    counter.give_back()
    assert [counter.take(NOW) for _number in range(2)] == [True, False]


def test_the_time_is_the_databases(db):
    counter = Counter(Limit(2, timedelta(hours=1)), "a")
    with time_machine.travel("2001-01-01"):  # a host whose clock is wrong
        assert [counter.take() for _number in range(3)] == [True, True, False]
    assert 0 <= 1800 * SECOND - wait(counter) < 60 * SECOND
    assert abs(Throttle.objects.get().free_at_us - 3600 * SECOND - time.time() * SECOND) < 60 * SECOND


def test_a_counter_is_kept_until_it_is_free(db):
    Counter(Limit(5, timedelta(hours=1)), "a").take()
    row = Throttle.objects.get()
    assert row.expires_at.timestamp() * SECOND >= row.free_at_us
    assert prune(tables["throttle-counters"]).pruned == 0
    Throttle.objects.update(expires_at=Now() - timedelta(seconds=1))
    assert prune(tables["throttle-counters"]).pruned == 1


@pytest.mark.parametrize("known", [False, True])
def test_a_race_never_exceeds_the_limit(transactional_db, known):
    """Eight at once, several times each, on a counter that is new or not."""
    counter = Counter(Limit(10, timedelta(hours=1)), "a")
    if known:
        counter.take()
    barrier = threading.Barrier(8, timeout=30)

    def takes() -> int:
        try:
            connection.ensure_connection()
            barrier.wait()
            return sum(counter.take() for _number in range(5))
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        taken = [future.result() for future in [pool.submit(takes) for _thread in range(8)]]
    assert sum(taken) == (9 if known else 10)
