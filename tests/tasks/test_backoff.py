"""The pure functions from an attempt's number to a delay."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.backoff import constant, exponential, linear

seconds = st.floats(min_value=0, max_value=1e6)
attempts = st.integers(min_value=1, max_value=1000)


@given(seconds, attempts)
def test_constant_is_the_same_for_every_attempt(wait, attempt):
    assert constant(wait)(attempt) == timedelta(seconds=wait)


def test_linear_grows_by_its_step_and_stops_at_its_cap():
    delay = linear(step=10, cap=25)
    assert [delay(attempt).total_seconds() for attempt in (1, 2, 3, 1000)] == [10, 20, 25, 25]


def test_exponential_doubles_from_its_base_and_stops_at_its_cap():
    delay = exponential(base=5, cap=60, jitter=False)
    assert [delay(attempt).total_seconds() for attempt in (1, 2, 3, 4, 5, 1000)] == [5, 10, 20, 40, 60, 60]


def test_the_cap_is_an_hour_unless_it_is_given():
    assert linear(step=3000)(2) == exponential(jitter=False)(1000) == timedelta(hours=1)


@given(seconds, seconds, attempts)
def test_jitter_stays_between_zero_and_the_exponential_value(base, cap, attempt):
    longest = exponential(base, cap, jitter=False)(attempt)
    assert timedelta() <= exponential(base, cap)(attempt) <= longest <= timedelta(seconds=cap)


def test_jitter_is_full_it_reaches_both_ends():
    drawn = [exponential(base=100)(1).total_seconds() for _ in range(1000)]
    assert min(drawn) < 10
    assert max(drawn) > 90


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (constant, "seconds"),
        (linear, "step"),
        (lambda value: linear(1, cap=value), "cap"),
        (exponential, "base"),
        (lambda value: exponential(cap=value), "cap"),
    ],
)
def test_a_wrong_number_of_seconds_is_refused_by_name(make, name, wrong):
    with pytest.raises(ValueError) as refusal:
        make(wrong)
    assert str(refusal.value) == f"{name} is {wrong!r}; it must be a number of seconds from 0 to 31536000 (a year)."
