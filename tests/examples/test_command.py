"""`manage.py example`: each name enqueues, and says where to look."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from examples.management.commands.example import EXAMPLES
from tasks.functions import registry
from tasks.testing import enqueued
from tests.test_settings import run, value_of


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_enqueues_and_says_where_to_look(db, name):
    out = StringIO()
    call_command("example", name, stdout=out)
    first, *others = enqueued()
    lines = out.getvalue().splitlines()
    assert lines[0] == f"task {first.pk}: http://testserver/admin/tasks/task/{first.pk}/change/"
    if len(others) > 2:
        assert lines[3:] == [f"and {len(others) - 2} more: http://testserver/admin/tasks/task/"]
    else:
        assert len(lines) == 1 + len(others)


def test_every_function_of_the_examples_is_enqueued_by_one(db):
    for name in EXAMPLES:
        call_command("example", name, stdout=StringIO())
    paths = {path for path in registry if path.startswith("examples.tasks.")}
    assert {task.task_path for task in enqueued()} == paths


def test_an_example_that_does_not_exist_is_refused_with_the_names_of_those_that_do(db):
    with pytest.raises(CommandError, match=r"invalid choice: 'x' \(choose from 'visits', 'cache'"):
        call_command("example", "x")


def test_the_examples_need_no_migration(db):
    call_command("makemigrations", "examples", check=True, dry_run=True, verbosity=0)


def test_examples_are_installed_with_debug_and_when_asked_for():
    assert value_of("'examples' in INSTALLED_APPS", DEBUG="1") is True
    assert value_of("'examples' in INSTALLED_APPS", EXAMPLES="1") is True
    assert value_of("['examples' in INSTALLED_APPS, sorted(CACHES)]") == [False, ["default", "django_q"]]
    assert value_of("'examples' in INSTALLED_APPS", DEBUG="1", EXAMPLES="0") is False
    assert "Unknown command: 'example'" in run("manage.py", "example", "visits").stderr
