"""The options of `@task`, the registry, and what may be an argument."""

from __future__ import annotations

import json
import math
import types
from datetime import timedelta
from typing import Any

import pytest
from django_tasks import task as django_task
from django_tasks.exceptions import InvalidTaskError
from hypothesis import given
from hypothesis import strategies as st

from tasks.functions import MAX_DEPTH, TaskFunction, registry, stored_arguments, to_json
from tests.work import tasks as work

task: Any = django_task  # Any: it is called wrongly here, too

HERE = "tests.tasks.test_functions"


def plain(user_id: int, note: str = "") -> None: ...


async def coroutine() -> None: ...


def without_arguments() -> None: ...


def with_context(context, user_id: int) -> None: ...


@pytest.fixture(autouse=True)
def _own_registry():
    """What these tests decorate is forgotten again."""
    known = dict(registry)
    yield
    registry.clear()
    registry.update(known)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_the_defaults_are_those_that_the_documentation_names():
    function = task(plain)
    assert isinstance(function, TaskFunction)
    assert (function.max_attempts, function.timeout, function.atomic) == (5, 300, False)
    assert (function.idempotency_key, function.sensitive, function.retention) == (None, (), None)
    assert (function.queue_name, function.priority, function.run_after) == ("default", 0, None)
    assert timedelta() <= function.backoff(1) <= timedelta(seconds=5)
    assert timedelta() <= function.backoff(1000) <= timedelta(hours=1)


def test_a_function_is_registered_under_its_path_by_being_decorated():
    assert f"{HERE}.plain" not in registry
    function = task(plain)
    assert registry[f"{HERE}.plain"] is function


def test_a_changed_copy_does_not_take_the_place_of_the_function():
    function = task(plain)
    changed = function.using(priority=7, queue_name="mail")
    assert (changed.priority, changed.queue_name, changed.max_attempts) == (7, "mail", 5)
    assert registry[f"{HERE}.plain"] is function


def test_the_tasks_modules_of_the_installed_apps_are_registered_at_start():
    assert registry["tests.work.tasks.add"] is work.add
    assert "accounts.tasks.send_welcome_email" in registry
    assert "tests.work.tasks.not_a_task" not in registry


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "max_attempts is 0; allowed: a whole number from 1 to 1000."),
        ({"max_attempts": 1001}, "max_attempts is 1001; allowed: a whole number from 1 to 1000."),
        ({"max_attempts": 2.0}, "max_attempts is 2.0; allowed: a whole number from 1 to 1000."),
        ({"max_attempts": True}, "max_attempts is True; allowed: a whole number from 1 to 1000."),
        ({"timeout": 0}, "timeout is 0; allowed: seconds, more than 0 and at most 86400."),
        ({"timeout": 86401}, "timeout is 86401; allowed: seconds, more than 0 and at most 86400."),
        ({"timeout": math.nan}, "timeout is nan; allowed: seconds, more than 0 and at most 86400."),
        ({"timeout": "30"}, "timeout is '30'; allowed: seconds, more than 0 and at most 86400."),
        ({"timeout": True}, "timeout is True; allowed: seconds, more than 0 and at most 86400."),
        ({"backoff": 5},
         "backoff is 5; allowed: a function from the attempt's number to a timedelta, such as exponential(base=5)."),
        ({"idempotency_key": "k"},
         "idempotency_key is 'k'; allowed: a function of the task's arguments that returns a string."),
        ({"retention": 3600}, "retention is 3600; allowed: a timedelta from 0 to 3650 days."),
        ({"sensitive": "note"}, "sensitive is 'note'; allowed: names among user_id, note."),
        ({"sensitive": ("password",)}, "sensitive is ('password',); allowed: names among user_id, note."),
        ({"sensitive": None}, "sensitive is None; allowed: names among user_id, note."),
        ({"sensitive": (["note"],)}, "sensitive is (['note'],); allowed: names among user_id, note."),
    ],
)  # fmt: skip
def test_a_wrong_option_of_the_decorator_is_refused_by_name(options, message):
    with pytest.raises(InvalidTaskError) as refusal:
        task(**options)(plain)
    assert str(refusal.value) == f"{HERE}.plain: {message}"
    assert f"{HERE}.plain" not in registry


def test_an_unknown_option_of_the_decorator_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'retries'"):
        task(retries=3)(plain)


def test_a_coroutine_cannot_be_atomic():
    with pytest.raises(InvalidTaskError) as refusal:
        task(atomic=True)(coroutine)
    assert str(refusal.value) == (
        f"{HERE}.coroutine: atomic is True; allowed: False for a coroutine, whose database work runs in another thread."
    )


def test_nothing_can_be_sensitive_where_there_is_no_argument():
    with pytest.raises(InvalidTaskError) as refusal:
        task(sensitive=("note",))(without_arguments)
    assert str(refusal.value) == f"{HERE}.without_arguments: sensitive is ('note',); allowed: names among none."


def test_the_context_is_no_argument_of_the_caller():
    function = task(takes_context=True)(with_context)
    assert list(function.signature.parameters) == ["user_id"]
    with pytest.raises(InvalidTaskError, match=r"sensitive is \('context',\); allowed: names among user_id\."):
        task(takes_context=True, sensitive=("context",))(with_context)


def test_a_function_that_takes_the_context_says_so_in_its_first_argument():
    with pytest.raises(InvalidTaskError, match="does not have a first argument of 'context'"):
        task(takes_context=True)(plain)


def test_a_function_inside_another_cannot_be_a_task():
    def inner() -> None: ...

    with pytest.raises(InvalidTaskError, match="must be defined at a module level"):
        task(inner)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'user_id'"),
        ((1, "", 3), {}, "too many positional arguments"),
        ((1,), {"user_id": 1}, "multiple values for argument 'user_id'"),
        ((1,), {"colour": "red"}, "got an unexpected keyword argument 'colour'"),
    ],
)
def test_a_call_that_does_not_fit_the_signature_is_refused(args, kwargs, message):
    with pytest.raises(TypeError) as refusal:
        stored_arguments(task(plain), args, kwargs)
    assert str(refusal.value) == f"{HERE}.plain: {message}"


itself: list[Any] = []
itself.append(itself)

NOT_JSON = [
    (b"x", TypeError, "a bytes is not JSON. Pass an id, a string or a number instead"),
    (object, TypeError, "a type is not JSON. Pass an id, a string or a number instead"),
    ({1, 2}, TypeError, "a set is not JSON. Pass an id, a string or a number instead"),
    (timedelta(1), TypeError, "a timedelta is not JSON. Pass an id, a string or a number instead"),
    ({"deep": [b"x"]}, TypeError, "a bytes is not JSON. Pass an id, a string or a number instead"),
    (math.nan, ValueError, "Out of range float values are not JSON compliant"),
    ([-math.inf], ValueError, "Out of range float values are not JSON compliant"),
    ("a\x00b", ValueError, "it has a NUL character, which PostgreSQL cannot store"),
    ({"a\x00b": 1}, ValueError, "it has a NUL character, which PostgreSQL cannot store"),
    (["\ud800"], ValueError, "it has half of a surrogate pair, which is no character"),
    ({1: "one"}, TypeError, "the key 1 is a int; JSON knows only strings as keys"),
    ([{"a": {None: 1}}], TypeError, "the key None is a NoneType; JSON knows only strings as keys"),
    ({(1, 2): 3}, TypeError, "keys must be str, int, float, bool or None, not tuple"),
    (itself, ValueError, "Circular reference detected"),
    (nested(MAX_DEPTH + 1), ValueError, "it contains itself, or is nested too deeply"),
    (nested(100_000), ValueError, "it contains itself, or is nested too deeply"),
]


@pytest.mark.parametrize(("value", "kind", "message"), NOT_JSON)
def test_an_argument_that_cannot_be_stored_is_refused_by_name(value, kind, message):
    for args, kwargs, name in [((value,), {}, "user_id"), ((1,), {"note": value}, "note")]:
        with pytest.raises(kind) as refusal:
            stored_arguments(task(plain), args, kwargs)
        assert str(refusal.value) == f"{HERE}.plain: argument {name!r} cannot be stored: {message}"


def test_arguments_up_to_the_limit_pass_and_beyond_it_are_refused(settings):
    settings.TASKS_MAX_PAYLOAD = 1024
    stored_arguments(task(plain), (1, "x" * 1015), {})
    with pytest.raises(ValueError) as refusal:
        stored_arguments(task(plain), (1, "x" * 1016), {})
    assert str(refusal.value) == (
        f"{HERE}.plain: the arguments take 1025 bytes; allowed are 1024 (TASKS_MAX_PAYLOAD). "
        "Store the data and pass its id."
    )


def test_the_limit_counts_bytes_not_characters(settings):
    settings.TASKS_MAX_PAYLOAD = 1024
    with pytest.raises(ValueError, match="the arguments take 1216 bytes"):
        stored_arguments(task(plain), (1,), {"note": "é" * 600 + "x"})


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)


@given(values)
def test_json_values_come_back_as_they_went(value):
    assert json.loads(to_json(value)) == value


@given(st.text())
def test_a_string_is_stored_whole_or_refused(text):
    try:
        stored = to_json(text)
    except ValueError:
        assert "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text)
    else:
        assert json.loads(stored.encode().decode()) == text
        assert "\x00" not in text


def test_tuples_and_other_mappings_pass_as_json_knows_them():
    assert to_json((1, (2,))) == "[1, [2]]"
    assert to_json(types.MappingProxyType({"a": 1})) == '{"a": 1}'
    assert to_json(nested(MAX_DEPTH)) == "[" * MAX_DEPTH + "]" * MAX_DEPTH
