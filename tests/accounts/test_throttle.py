"""Limits: what a counter allows, and what requests are counted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Throttle
from accounts.throttle import Limit, take_one

SECOND = 1_000_000


@pytest.mark.django_db
def test_a_counter_allows_its_count_at_once_and_then_one_in_each_step():
    limit = Limit(5, timedelta(minutes=5))
    now = 1_800_000_000 * SECOND
    assert [take_one(limit, "a", now) for _number in range(5)] == [0] * 5
    assert take_one(limit, "a", now) == 60 * SECOND
    assert take_one(limit, "a", now + 59 * SECOND) == SECOND
    assert take_one(limit, "a", now + 60 * SECOND) == 0
    assert take_one(limit, "a", now + 60 * SECOND) == 60 * SECOND
    assert take_one(limit, "b", now) == 0
    assert Throttle.objects.count() == 2


LIMITS = st.builds(Limit, st.integers(1, 9), st.integers(1, 10_000_000).map(lambda us: timedelta(microseconds=us)))


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIMITS, st.lists(st.integers(0, 3_000_000), max_size=40))
def test_no_stretch_of_time_has_more_than_it_may_have(limit, gaps):
    Throttle.objects.all().delete()
    now, taken = 1_800_000_000 * SECOND, []
    for gap in gaps:
        now += gap
        wait = take_one(limit, "a", now)
        if not wait:
            taken.append(now)
            if len(taken) == 1:  # all that is possible at once is
                taken += [now for _number in range(limit.count - 1) if not take_one(limit, "a", now)]
                assert len(taken) == limit.count
        else:
            assert 0 < wait <= limit.step_us
            assert take_one(limit, "a", now + wait - 1) == 1
    for first, began in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= limit.count + (taken[last] - began) // limit.step_us
