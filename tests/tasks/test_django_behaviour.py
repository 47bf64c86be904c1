"""What Django's Tasks framework promises of a backend that keeps its tasks."""

from __future__ import annotations

import copy
import math
import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django_tasks import default_task_backend
from django_tasks import task as django_task
from django_tasks.exceptions import InvalidTaskError

from tasks.functions import registry
from tasks.models import Task
from tasks.testing import run_enqueued
from tests.tasks import rows
from tests.work import tasks as work

pytestmark = pytest.mark.django_db

task: Any = django_task  # Any: it is called wrongly here, too

HERE = "tests.tasks.test_django_behaviour"


def plain(number: int = 0) -> int:
    return number


def generator():
    yield 1


async def async_generator():
    yield 1


def defined_twice() -> str:
    return "first"


first = defined_twice


def defined_twice() -> str:  # type: ignore[no-redef]  # the case here
    return "second"


@pytest.fixture(autouse=True)
def _own_registry():
    """What a test decorates is forgotten again."""
    known = dict(registry)
    yield
    registry.clear()
    registry.update(known)


# What can be a task --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [generator, async_generator])
def test_a_generator_cannot_be_a_task(function):
    with pytest.raises(InvalidTaskError) as refusal:
        task(function)
    path = f"{HERE}.{function.__name__}"
    assert str(refusal.value) == f"{path} is a generator: calling it would not run its body. Do not yield."
    assert path not in registry


def test_a_path_that_its_column_cannot_hold_is_refused_where_it_is_declared():
    def function() -> None: ...

    function.__qualname__ = "f" * (255 - len(HERE))
    with pytest.raises(InvalidTaskError) as refusal:
        task(function)
    assert str(refusal.value) == f"{HERE}.{function.__qualname__} is longer than 255 characters."


def test_of_two_functions_of_one_name_the_later_one_runs():
    task(first)
    later = task(defined_twice)
    result = later.enqueue()
    run_enqueued()
    result.refresh()
    assert result.return_value == "second"
    assert later.get_result(result.id).task is later


# `using` -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "priority",
    ["high", "1", math.nan, math.inf, -math.inf, True, Decimal(1), [1], 0.5, 10**400],
    ids=lambda priority: repr(priority)[:20],
)
def test_a_priority_that_is_no_whole_number_is_refused(priority):
    with pytest.raises(InvalidTaskError) as refusal:
        work.add.using(priority=priority)
    assert str(refusal.value) == "priority must be a whole number between -100 and 100."
    with pytest.raises(InvalidTaskError):
        task(priority=priority)(work.add.func)


@pytest.mark.parametrize("run_after", ["2030-01-01T00:00Z", date(2030, 1, 1), timedelta(hours=1), 1893456000, True])
def test_a_run_after_that_is_no_time_is_refused(run_after):
    with pytest.raises(InvalidTaskError) as refusal:
        work.add.using(run_after=run_after)
    assert str(refusal.value) == "run_after must be an aware datetime."


@pytest.mark.parametrize("year", [1, 9999])
@pytest.mark.parametrize("hours", [-12, 0, 14])
def test_a_run_after_that_is_no_time_in_another_zone_is_refused(year, hours):
    there = datetime(year, 1, 1, tzinfo=timezone(timedelta(hours=hours)))
    with pytest.raises(InvalidTaskError) as refusal:
        work.add.using(run_after=there)
    assert str(refusal.value) == f"run_after is {there}; allowed: the years 2 to 9998."


@pytest.mark.parametrize("date_", [(2, 1, 1), (9998, 12, 31)])
@pytest.mark.parametrize("hours", [-12, 14])
def test_the_first_and_the_last_run_after_are_stored_and_read_back(date_, hours):
    there = datetime(*date_, tzinfo=timezone(timedelta(hours=hours)))
    result = work.add.using(run_after=there).enqueue(1)
    assert Task.objects.get(pk=result.id).run_after == there


def test_a_priority_may_be_a_float_without_a_fraction():
    result = work.add.using(priority=50.0).enqueue(1)
    assert Task.objects.get(pk=result.id).priority == 50


# Pickles and copies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remake", [lambda given: pickle.loads(pickle.dumps(given)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize(
    "changes", [{}, {"priority": 7, "queue_name": "mail", "run_after": datetime(2030, 1, 1, tzinfo=UTC)}]
)
def test_a_task_and_its_result_can_be_pickled_and_copied(remake, changes):
    changed = work.once_for_each_user.using(**changes)
    assert remake(changed) == changed
    result = changed.enqueue(1)
    again = remake(result)
    assert again == result
    again.refresh()
    assert again.id == result.id


def test_a_pickle_of_a_function_that_is_gone_names_it():
    stored = pickle.dumps(task(plain))
    del registry[f"{HERE}.plain"]
    with pytest.raises(ValueError) as refusal:
        pickle.loads(stored)
    assert str(refusal.value) == f"{HERE}.plain: there is no task function of this name (any more)."


# Results -------------------------------------------------------------------------------------------------------------


TONIGHT = datetime(2999, 1, 1, 20, tzinfo=UTC)


@pytest.mark.parametrize("changes", [{}, {"priority": -7}, {"queue_name": "mail"}, {"run_after": TONIGHT}], ids=str)
def test_a_result_that_is_read_again_is_the_one_that_enqueue_returned(changes):
    changed = work.add.using(**changes)
    result = changed.enqueue(1, b=2)
    assert default_task_backend.get_result(result.id) == result
    assert work.add.get_result(result.id).task == changed


def test_a_result_whose_queue_is_gone_can_be_read():
    row = rows.ready(queue_name="letters")
    assert default_task_backend.get_result(str(row.pk)).task is work.add


# Arguments -----------------------------------------------------------------------------------------------------------


def anything(*args: Any, **kwargs: Any) -> list[Any]:
    return [args, kwargs]


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (
            (1, b""),
            {},
            "argument 'args' cannot be stored: a bytes is not JSON. Pass an id, a string or a number instead",
        ),
        (
            (),
            {"a": b""},
            "argument 'a' cannot be stored: a bytes is not JSON. Pass an id, a string or a number instead",
        ),
        ((), {"a\x00": 1}, "argument 'a\\x00' cannot be stored: it has a NUL character, which PostgreSQL cannot store"),
        (
            (),
            {"\ud800": 1},
            "argument '\\ud800' cannot be stored: it has half of a surrogate pair, which is no character",
        ),
    ],
)
def test_what_cannot_be_stored_is_named_in_a_function_that_takes_anything(args, kwargs, message):
    with pytest.raises((TypeError, ValueError)) as refusal:
        task(anything).enqueue(*args, **kwargs)
    assert str(refusal.value) == f"{HERE}.anything: {message}"
    assert not Task.objects.exists()
