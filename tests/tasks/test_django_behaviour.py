"""What Django's Tasks framework promises of a backend that keeps its tasks."""

from __future__ import annotations

import copy
import math
import pickle
from collections import OrderedDict, UserList, defaultdict
from dataclasses import FrozenInstanceError, asdict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import cache, partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import transaction
from django.db.models.functions import Now
from django.utils.module_loading import import_string
from django_tasks import TaskContext, TaskResult, TaskResultStatus, default_task_backend, task_backends
from django_tasks import task as django_task
from django_tasks.backends.dummy import DummyBackend
from django_tasks.base import Task as DjangoTask
from django_tasks.exceptions import (
    InvalidTaskBackendError,
    InvalidTaskError,
    TaskResultDoesNotExist,
    TaskResultMismatch,
)
from django_tasks.signals import task_enqueued, task_finished, task_started

from tasks.backend import DatabaseBackend
from tasks.functions import TaskFunction, registry
from tasks.models import Task
from tasks.testing import run_enqueued
from tasks.worker import Worker
from tests.tasks import rows
from tests.work import tasks as work

pytestmark = pytest.mark.django_db

task: Any = django_task  # Any: it is called wrongly here, too

HERE = "tests.tasks.test_django_behaviour"
TONIGHT = datetime(2999, 1, 1, 20, tzinfo=UTC)


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


class Thing:
    def __call__(self) -> None: ...

    def method(self) -> None: ...

    @classmethod
    def of_the_class(cls) -> None: ...

    @staticmethod
    def static(number: int) -> int:
        return number + 1


@task(max_attempts=1)
def fail_with(name: str) -> None:
    """Raise what the test asks for."""
    match name:
        case "ValueError":
            raise ValueError("no luck")
        case "an error in an error":
            raise ValueError(ValueError("no luck"))
        case "SystemExit":
            raise SystemExit("no luck")
        case "KeyboardInterrupt":
            raise KeyboardInterrupt("no luck")
        case "one of ours":
            raise OurError("no luck")


class OurError(Exception):
    pass


def fail_quietly() -> None:
    raise ValueError


@task(takes_context=True)
def describe_context(context, expected: int) -> list[Any]:
    result = context.task_result
    return [
        isinstance(context, TaskContext), context.attempt == expected, result.id, result.status, result.attempts,
        result.args, result.task.name,
    ]  # fmt: skip


@pytest.fixture
def heard():
    """What the signals of tasks told: name, sender, id, status, of one task after the other."""
    said: list[tuple[Any, ...]] = []
    receivers = []
    for name, signal in [("enqueued", task_enqueued), ("started", task_started), ("finished", task_finished)]:

        def receive(sender, task_result, name=name, **kwargs) -> None:
            said.append((name, sender, task_result.id, str(task_result.status)))

        signal.connect(receive)
        receivers.append((signal, receive))
    yield said
    for signal, receive in receivers:
        signal.disconnect(receive)


def run(result: Any) -> Any:
    """Run what is enqueued, and return the result as it is then."""
    run_enqueued()
    result.refresh()
    return result


# What can be a task --------------------------------------------------------------------------------------------------


def test_the_decorator_is_used_bare_called_or_with_options():
    for made in (task(plain), task()(plain), task(priority=3, queue_name="mail")(plain)):
        assert isinstance(made, TaskFunction)
        assert isinstance(made, DjangoTask)
        assert (made.func, made.name, made.module_path) == (plain, "plain", f"{HERE}.plain")
        assert (made.backend, made.run_after, made.takes_context) == ("default", None, False)
    assert (made.priority, made.queue_name) == (3, "mail")


def test_the_path_of_a_task_leads_to_it():
    assert work.add_async.name == "add_async"
    assert import_string(work.add_async.module_path) is work.add_async


def test_attributes_of_a_task_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        work.add.priority = 7


NO_FUNCTIONS: dict[str, Any] = {
    "a builtin": any,
    "a lambda in a function": (lambda: lambda: None)(),
    "a class": Thing,
    "a callable object": Thing(),
    "a method": Thing().method,
    "a class method": Thing.of_the_class,
    "a classmethod object": vars(Thing)["of_the_class"],
    "a staticmethod object": vars(Thing)["static"],
    "a partial": partial(plain, 1),
    "a cached function": cache(plain),
    "a property": property(plain),
    "a number": 5,
    "a path": "tests.work.tasks.add",
    "a task": work.add,
}


@pytest.mark.parametrize("wrong", NO_FUNCTIONS.values(), ids=NO_FUNCTIONS)
def test_what_is_no_function_of_a_module_cannot_be_a_task(wrong):
    known = dict(registry)
    with pytest.raises(InvalidTaskError) as refusal:
        task(wrong)
    assert str(refusal.value) == "Task function must be defined at a module level."
    assert registry == known


nameless = lambda: None  # noqa: E731 - the case here


def test_a_lambda_of_a_module_cannot_be_a_task_since_others_have_its_name_too():
    with pytest.raises(InvalidTaskError) as refusal:
        task(nameless)
    assert str(refusal.value) == f"{HERE}.<lambda> has no name that a worker could look up. Use def."


def test_a_static_method_can_be_a_task():
    result = run(task(Thing.static).enqueue(1))
    assert (result.task.module_path, result.return_value) == (f"{HERE}.Thing.static", 2)


def test_run_after_is_no_option_of_the_decorator():
    with pytest.raises(TypeError, match="run_after"):
        task(run_after=TONIGHT)(plain)


def test_a_function_without_arguments_cannot_take_the_context():
    with pytest.raises(InvalidTaskError) as refusal:
        task(takes_context=True)(defined_twice)
    assert str(refusal.value) == "Task takes context but does not have a first argument of 'context'."


def test_a_task_is_called_here_and_now_in_both_worlds():
    assert work.add.call(1, b=2) == 3
    assert async_to_sync(work.add.acall)(1, b=2) == 3
    assert work.add_async.call(1, b=2) == 3
    assert async_to_sync(work.add_async.acall)(1, b=2) == 3
    with pytest.raises(ValueError, match="no luck"):
        work.fail.call()
    with pytest.raises(TypeError, match="not callable"):
        work.add(1)
    assert not Task.objects.exists()


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


def test_using_makes_another_task_and_leaves_the_first_as_it_is():
    same = work.add.using()
    assert same == work.add
    assert same is not work.add
    later = work.add.using(run_after=TONIGHT)
    both = later.using(priority=10)
    assert (later.run_after, later.priority) == (TONIGHT, 0)
    assert (both.run_after, both.priority, both.queue_name, both.func) == (TONIGHT, 10, "default", work.add.func)
    assert (work.add.run_after, work.add.priority) == (None, 0)
    assert len({work.add, same, later, both}) == 3


@pytest.mark.parametrize("option", ["timeout", "max_attempts", "takes_context", "name"])
def test_using_changes_what_django_lets_it_change(option):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
        work.add.using(**{option: 1})


@pytest.mark.parametrize("priority", [-100, 100, 0])
def test_the_bounds_of_a_priority_are_allowed(priority):
    assert work.add.using(priority=priority).priority == priority


@pytest.mark.parametrize("priority", [-101, 101, 3.1])
def test_using_refuses_a_priority_out_of_range(priority):
    with pytest.raises(InvalidTaskError) as refusal:
        work.add.using(priority=priority)
    assert str(refusal.value) == "priority must be a whole number between -100 and 100."


def test_using_refuses_an_unknown_queue_a_naive_time_and_an_unknown_backend():
    with pytest.raises(InvalidTaskError) as refusal:
        work.add.using(queue_name="letters")
    assert str(refusal.value) == "Queue 'letters' is not valid for backend."
    with pytest.raises(InvalidTaskError) as refusal:
        work.add.using(run_after=datetime(2030, 1, 1))  # noqa: DTZ001 - naive is the case here
    assert str(refusal.value) == "run_after must be an aware datetime."
    with pytest.raises(InvalidTaskBackendError) as unknown:
        work.add.using(backend="post")
    assert str(unknown.value) == "The connection 'post' doesn't exist."


def test_a_task_may_be_given_to_another_backend(settings):
    settings.TASKS = settings.TASKS | {
        "dummy": {"BACKEND": "django_tasks.backends.dummy.DummyBackend"},
        "missing": {"BACKEND": "does.not.exist"},
    }
    other = work.add.using(backend="dummy")
    assert isinstance(other.get_backend(), DummyBackend)
    assert isinstance(work.add.get_backend(), DatabaseBackend)
    result = other.enqueue(1)
    assert (result.backend, task_backends["dummy"].results) == ("dummy", [result])
    assert not Task.objects.exists()
    with pytest.raises(InvalidTaskBackendError) as missing:
        work.add.using(backend="missing")
    assert str(missing.value) == "Could not find backend 'does.not.exist': No module named 'does'"


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


# Enqueue -------------------------------------------------------------------------------------------------------------


ASYNC = [False, True]


def enqueue(function: Any, *args: Any, is_async: bool = False, **kwargs: Any) -> Any:
    return (async_to_sync(function.aenqueue) if is_async else function.enqueue)(*args, **kwargs)


@pytest.mark.parametrize("is_async", ASYNC)
@pytest.mark.parametrize("function", [work.add, work.add_async], ids=lambda function: function.name)
def test_a_function_and_a_coroutine_are_enqueued_from_both_worlds(function, is_async, heard):
    result = enqueue(function, 1, b=2, is_async=is_async)
    assert isinstance(result, TaskResult)
    assert len(result.id) < 64
    assert (result.task, result.status, result.is_finished) == (function, TaskResultStatus.READY, False)
    assert (result.started_at, result.last_attempted_at, result.finished_at) == (None, None, None)
    assert (result.args, result.kwargs, result.attempts, result.errors) == ([1], {"b": 2}, 0, [])
    with pytest.raises(ValueError) as unfinished:
        _ = result.return_value
    assert str(unfinished.value) == "Task has not finished yet"
    assert heard == [("enqueued", DatabaseBackend, result.id, "READY")]


def test_enqueue_and_a_look_at_the_result_take_a_statement_each(django_assert_num_queries):
    with django_assert_num_queries(1):
        result = work.add.enqueue(1)
    with django_assert_num_queries(1):
        work.add.get_result(result.id)


@pytest.mark.parametrize("is_async", ASYNC)
def test_a_task_is_checked_again_when_it_is_enqueued(settings, is_async):
    made = work.add.using(queue_name="mail")
    settings.TASKS = {"default": settings.TASKS["default"] | {"QUEUES": ["default"]}}
    with pytest.raises(InvalidTaskError) as refusal:
        enqueue(made, 1, is_async=is_async)
    assert str(refusal.value) == "Queue 'mail' is not valid for backend."
    assert not Task.objects.exists()


@pytest.mark.parametrize("is_async", ASYNC)
def test_a_time_as_an_argument_is_refused(is_async):
    with pytest.raises(TypeError) as refusal:
        enqueue(work.add, TONIGHT, is_async=is_async)
    assert str(refusal.value) == (
        "tests.work.tasks.add: argument 'a' cannot be stored: a datetime is not JSON. "
        "Pass an id, a string or a number instead"
    )


def test_without_a_backend_nothing_can_be_enqueued(settings):
    settings.TASKS = {}
    with pytest.raises(InvalidTaskBackendError) as missing:
        work.add.enqueue(1)
    assert str(missing.value) == "The connection 'default' doesn't exist."


def test_without_queues_in_the_settings_each_name_is_one(settings):
    settings.TASKS = {"default": settings.TASKS["default"] | {"QUEUES": []}}
    result = work.add.using(queue_name="anything").enqueue(1)
    assert Task.objects.get(pk=result.id).queue_name == "anything"


def test_the_higher_priority_runs_first_then_the_earlier_time():
    now = datetime.now(UTC)
    for number, (priority, hours) in enumerate([(0, -1), (-2, -9), (20, -2), (20, -10), (10, 5), (2, -1)]):
        task(plain).using(priority=priority, run_after=now + timedelta(hours=hours)).enqueue(number)
    assert [row.args for row in run_enqueued()] == [[3], [2], [5], [0], [1]]


# Transactions --------------------------------------------------------------------------------------------------------


def seen_by_others() -> int:
    return rows.in_another_thread(Task.objects.count)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_async", ASYNC)
def test_others_see_a_task_once_its_transaction_has_committed(is_async):
    with transaction.atomic():
        result = enqueue(work.add, 1, is_async=is_async)
        assert result.enqueued_at is not None
        assert (Task.objects.count(), seen_by_others()) == (1, 0)
    assert seen_by_others() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_async", ASYNC)
def test_a_task_of_a_transaction_that_failed_was_never_there(is_async):
    with transaction.atomic():
        result = enqueue(work.add, 1, is_async=is_async)
        transaction.set_rollback(True)
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()
    assert seen_by_others() == 0


@pytest.mark.django_db(transaction=True)
def test_a_task_of_a_savepoint_that_failed_was_never_there_and_the_others_are():
    with transaction.atomic():
        before = work.add.enqueue(1)
        with transaction.atomic():
            work.add.enqueue(2)
            work.once_for_each_user.enqueue(2)
            transaction.set_rollback(True)
        after = work.once_for_each_user.enqueue(2)
    assert sorted(Task.objects.values_list("pk", flat=True)) == [int(before.id), int(after.id)]


# Results -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"priority": -7}, {"queue_name": "mail"}, {"run_after": TONIGHT}], ids=str)
def test_a_result_that_is_read_again_is_the_one_that_enqueue_returned(changes):
    changed = work.add.using(**changes)
    result = changed.enqueue(1, b=2)
    assert default_task_backend.get_result(result.id) == result
    assert work.add.get_result(result.id).task == changed


def test_a_result_whose_queue_is_gone_can_be_read():
    row = rows.ready(queue_name="letters")
    assert default_task_backend.get_result(str(row.pk)).task is work.add


@pytest.mark.parametrize("rubbish", ["123", "", "4d5e0f3a-7f0e-4c57-a6f3-2f3c0a0b9a60"])
def test_a_result_that_does_not_exist_is_missed_in_both_worlds(rubbish):
    for get in (work.add.get_result, default_task_backend.get_result):
        with pytest.raises(TaskResultDoesNotExist):
            get(rubbish)
    for aget in (work.add.aget_result, default_task_backend.aget_result):
        with pytest.raises(TaskResultDoesNotExist):
            async_to_sync(aget)(rubbish)


@pytest.mark.parametrize("is_async", ASYNC)
def test_a_result_of_another_function_is_a_mismatch_and_the_backend_has_it(is_async):
    other = work.effect.enqueue("x")
    get = async_to_sync(work.add.aget_result) if is_async else work.add.get_result
    with pytest.raises(TaskResultMismatch) as mismatch:
        get(other.id)
    assert str(mismatch.value) == "Task does not match (received 'tests.work.tasks.effect')"
    assert async_to_sync(default_task_backend.aget_result)(other.id) == other


@pytest.mark.parametrize("is_async", ASYNC)
def test_a_result_shows_what_it_was_until_it_is_refreshed(is_async):
    result = work.add.enqueue(1, b=2)
    before = asdict(result)
    result.refresh()
    assert asdict(result) == before
    run_enqueued()
    assert asdict(result) == before
    async_to_sync(result.arefresh)() if is_async else result.refresh()
    assert (result.status, result.is_finished, result.return_value) == (TaskResultStatus.SUCCESSFUL, True, 3)
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert (result.last_attempted_at, result.attempts) == (result.started_at, 1)
    assert (result.worker_ids, result.errors) == ([Worker.id], [])
    assert work.add.get_result(result.id) == result


def test_attributes_of_a_result_cannot_be_changed():
    result = work.add.enqueue(1)
    with pytest.raises(FrozenInstanceError):
        result.status = TaskResultStatus.SUCCESSFUL


def test_a_result_without_a_value_returns_none_once_it_is_successful():
    result = run(work.effect.enqueue("x"))
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, None)


def test_a_running_task_has_not_finished():
    result = default_task_backend.get_result(str(rows.running().pk))
    assert (result.status, result.is_finished, result.attempts) == (TaskResultStatus.RUNNING, False, 1)
    with pytest.raises(ValueError) as unfinished:
        _ = result.return_value
    assert str(unfinished.value) == "Task has not finished yet"


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("ValueError", ValueError, "ValueError: no luck"),
        ("an error in an error", ValueError, "ValueError: no luck"),
        ("SystemExit", SystemExit, "SystemExit: no luck"),
        ("KeyboardInterrupt", KeyboardInterrupt, "KeyboardInterrupt: no luck"),
        ("one of ours", OurError, f"{HERE}.OurError: no luck"),
    ],
)
def test_a_failed_task_tells_why(name, kind, text):
    result = run(fail_with.enqueue(name))
    assert (result.status, result.is_finished) == (TaskResultStatus.FAILED, True)
    assert result.enqueued_at <= result.started_at <= result.finished_at
    with pytest.raises(ValueError) as failed:
        _ = result.return_value
    assert str(failed.value) == "Task failed"
    (error,) = result.errors
    assert error.exception_class is kind
    assert error.traceback.startswith("Traceback (most recent call last):\n")
    assert error.traceback.endswith(f"{text}\n")


def test_a_task_between_two_attempts_is_ready_and_tells_what_went_wrong_so_far():
    result = run(work.fail_slowly.enqueue())
    assert (result.status, result.is_finished, result.finished_at) == (TaskResultStatus.READY, False, None)
    assert (result.attempts, [error.exception_class for error in result.errors]) == (1, [ValueError])
    with pytest.raises(ValueError) as unfinished:
        _ = result.return_value
    assert str(unfinished.value) == "Task has not finished yet"
    first_start = result.started_at

    Task.objects.filter(pk=result.id).update(run_after=Now())
    run(result)
    assert (result.attempts, len(result.errors), len(result.worker_ids)) == (2, 2, 2)
    assert result.started_at == first_start < result.last_attempted_at


def test_an_error_whose_class_is_no_exception_or_gone_says_so_when_it_is_asked_for():
    row = rows.failed(errors=0)
    Task.objects.filter(pk=row.pk).update(attempts=2, worker_ids=["a", "b"])
    rows.error(row, 1, exception_path="subprocess.run")
    rows.error(row, 2, exception_path="does.not.exist")
    wrong, gone = default_task_backend.get_result(str(row.pk)).errors
    with pytest.raises(ValueError) as refusal:
        _ = wrong.exception_class
    assert str(refusal.value) == "'subprocess.run' does not reference a valid exception."
    with pytest.raises(ImportError):
        _ = gone.exception_class


# Context -------------------------------------------------------------------------------------------------------------


def test_the_context_knows_the_task_and_its_attempt():
    result = run(describe_context.using(priority=7).enqueue(1))
    assert result.return_value == [True, True, result.id, "RUNNING", 1, [1], "describe_context"]


def test_a_coroutine_takes_the_context_too():
    async def coroutine(context) -> int:
        return context.attempt

    coroutine.__qualname__ = "coroutine"
    result = run(task(takes_context=True)(coroutine).enqueue())
    assert result.return_value == 1


# Signals -------------------------------------------------------------------------------------------------------------


def test_the_signals_follow_a_task_through_its_life(heard):
    good, bad = work.add.enqueue(1), task(max_attempts=1)(fail_quietly).enqueue()
    run_enqueued()
    assert [told for told in heard if told[2] == good.id] == [
        ("enqueued", DatabaseBackend, good.id, "READY"),
        ("started", DatabaseBackend, good.id, "RUNNING"),
        ("finished", DatabaseBackend, good.id, "SUCCESSFUL"),
    ]
    assert [told for told in heard if told[2] == bad.id] == [
        ("enqueued", DatabaseBackend, bad.id, "READY"),
        ("started", DatabaseBackend, bad.id, "RUNNING"),
        ("finished", DatabaseBackend, bad.id, "FAILED"),
    ]


def test_the_signal_of_a_refused_call_is_not_sent(heard):
    with pytest.raises(TypeError):
        work.add.enqueue()
    assert heard == []


# Backend -------------------------------------------------------------------------------------------------------------


def test_the_backend_is_ours_and_says_what_it_can():
    backend = task_backends["default"]
    assert default_task_backend == backend
    assert isinstance(backend, DatabaseBackend)
    assert (backend.alias, backend.options, backend.task_class) == ("default", {}, TaskFunction)
    assert (backend.supports_defer, backend.supports_async_task) == (True, True)
    assert (backend.supports_get_result, backend.supports_priority) == (True, True)


def test_the_system_check_finds_nothing(capsys):
    assert list(default_task_backend.check()) == []
    call_command("check")
    assert "no issues" in capsys.readouterr().out


def test_a_task_of_another_backend_is_refused():
    with pytest.raises(InvalidTaskError) as refusal:
        default_task_backend.validate_task(DjangoTask(func=plain))
    assert str(refusal.value) == f"{HERE}.plain was made for another backend."


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


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 2**70, 3.5, -0.25, "", "\U0001f600 é \u2028", [], {}, {"": [None]}, [[[{}]]], {"b": 1, "a": 2},
     '{"not": "json"}', "NULL", "%s", "'; --", "\\u0000"],
    ids=ascii,
)  # fmt: skip
def test_an_argument_arrives_as_it_was_given(value):
    result = run(task(anything).enqueue(value, key=value))
    assert result.return_value == [[value], {"key": value}]
    assert Task.objects.get(pk=result.id).args == [value]


def test_what_json_writes_as_a_list_or_an_object_arrives_as_one():
    result = run(task(anything).enqueue((1, (2,)), defaultdict(list, a=(3,)), OrderedDict(b=4)))
    assert result.return_value == [[[1, [2]], {"a": [3]}, {"b": 4}], {}]


@pytest.mark.parametrize("name", ["task", "args", "kwargs", "context", "backend", "a b", "é", "class", ""])
def test_an_argument_may_have_any_name(name):
    assert run(task(anything).enqueue(**{name: 1})).return_value == [[], {name: 1}]


@pytest.mark.parametrize("value", [range(3), UserList([1]), {1}, object(), any, Decimal("3.4"), TONIGHT, b"x", 3j])
def test_what_json_does_not_know_is_refused_by_name(value):
    with pytest.raises(TypeError) as refusal:
        work.add.enqueue(value)
    assert str(refusal.value) == (
        f"tests.work.tasks.add: argument 'a' cannot be stored: a {type(value).__name__} is not JSON. "
        "Pass an id, a string or a number instead"
    )
