"""What Django's Tasks framework promises of a backend that keeps its tasks."""

from __future__ import annotations

from typing import Any

import pytest
from django_tasks import task as django_task
from django_tasks.exceptions import InvalidTaskError

from tasks.functions import registry

task: Any = django_task  # Any: it is called wrongly here, too

HERE = "tests.tasks.test_django_behaviour"


def generator():
    yield 1


async def async_generator():
    yield 1


# What can be a task --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [generator, async_generator])
def test_a_generator_cannot_be_a_task(function):
    with pytest.raises(InvalidTaskError) as refusal:
        task(function)
    path = f"{HERE}.{function.__name__}"
    assert str(refusal.value) == f"{path} is a generator: calling it would not run its body. Do not yield."
    assert path not in registry
