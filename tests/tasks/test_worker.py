"""A worker process and a database that is away."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DataError, IntegrityError, InterfaceError, InternalError, OperationalError, ProgrammingError

from tasks.worker import persist


def answering(answers: list[Any]):
    def write() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return write


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError, InternalError])
def test_a_write_is_made_again_until_the_database_answers(kind, caplog):
    assert persist(answering([kind("gone"), kind("still\ngone"), "done"])) == "done"
    begin, end = caplog.messages
    assert begin.endswith("cannot reach the database and tries again until it can: gone")
    assert "reaches the database again after" in end


def test_after_an_error_the_write_for_an_uncertain_first_one_is_used():
    assert persist(answering([OperationalError("gone")]), answering([OperationalError("gone"), "found"])) == "found"


def test_an_error_of_a_spoiled_connection_is_tried_once_more_on_a_new_one():
    assert persist(answering([ProgrammingError("no such table"), "done"])) == "done"
    with pytest.raises(ProgrammingError):
        persist(answering([ProgrammingError("no such column"), ProgrammingError("no such column")]))


@pytest.mark.parametrize("kind", [DataError, IntegrityError])
def test_an_error_of_the_data_is_raised_at_once(kind):
    with pytest.raises(kind):
        persist(answering([kind("out of range")]))
