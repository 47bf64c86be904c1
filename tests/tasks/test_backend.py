"""Django's Tasks API on one side, rows on the other."""

from __future__ import annotations

import types
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django_tasks import TaskResultStatus, default_task_backend
from django_tasks.exceptions import InvalidTaskError, TaskResultDoesNotExist, TaskResultMismatch
from django_tasks.signals import task_enqueued

from tasks.backend import DatabaseBackend
from tasks.models import Task
from tests.tasks import rows
from tests.tasks.rows import at_the_same_time
from tests.work import tasks as work
from tests.work.models import Effect

pytestmark = pytest.mark.django_db


def row_of(result) -> Task:
    return Task.objects.get(pk=result.id)


class RefusalError(Exception):
    """Ends a transaction in a test."""


def test_enqueue_inserts_a_ready_row_with_the_policy_of_its_function():
    before = timezone.now()
    result = work.urgent_mail.using(priority=-100).enqueue(7)

    task = row_of(result)
    assert (task.task_path, task.args, task.kwargs) == ("tests.work.tasks.urgent_mail", [7], {})
    assert (task.queue_name, task.priority, task.max_attempts) == ("mail", -100, 5)
    assert (task.status, task.attempts, task.worker_ids, task.lease_id) == ("READY", 0, [], None)
    assert (task.started_at, task.last_attempted_at, task.finished_at) == (None, None, None)
    assert task.enqueued_at == result.enqueued_at
    for time in (task.enqueued_at, task.run_after):
        assert before - timedelta(seconds=1) < time < timezone.now() + timedelta(seconds=1)


def test_the_result_is_what_django_documents():
    result = work.add.enqueue(2, b=3)
    assert isinstance(result.id, str)
    assert (result.status, result.args, result.kwargs) == (TaskResultStatus.READY, [2], {"b": 3})
    assert (result.errors, result.worker_ids, result.attempts, result.is_finished) == ([], [], 0, False)
    assert (result.task, result.backend) == (work.add, "default")
    with pytest.raises(ValueError, match="Task has not finished yet"):
        _ = result.return_value


def test_a_finished_task_is_seen_by_refreshing_its_result():
    result = work.add.enqueue(2)
    Task.objects.filter(pk=result.id).update(
        status="SUCCESSFUL", finished_at=Now(), started_at=Now(), return_value=2, attempts=1, worker_ids=["a:1"]
    )
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (TaskResultStatus.SUCCESSFUL, 2, 1)
    assert result.finished_at is not None


def test_a_failed_task_tells_its_errors_in_order():
    task = rows.failed(errors=2)
    result = default_task_backend.get_result(str(task.pk))
    assert [error.exception_class for error in result.errors] == [ValueError, ValueError]
    assert [error.traceback.splitlines()[-1] for error in result.errors] == [
        "ValueError: no luck 1",
        "ValueError: no luck 2",
    ]
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value


def test_a_task_without_a_run_after_is_due_at_once_and_one_with_it_is_not():
    tonight = timezone.now() + timedelta(hours=5)
    now, later = work.add.enqueue(1), work.add.using(run_after=tonight).enqueue(1)
    assert row_of(later).run_after == tonight
    assert [str(pk) for pk in Task.objects.due().values_list("pk", flat=True)] == [now.id]


def test_coroutines_can_enqueue():
    result = async_to_sync(work.add_async.aenqueue)(1, 2)
    assert row_of(result).args == [1, 2]
    assert async_to_sync(work.add_async.aget_result)(result.id).id == result.id


def test_mappings_and_tuples_are_stored_as_json_knows_them():
    result = work.effect.enqueue((1, types.MappingProxyType({"a": (2,)})))
    assert row_of(result).args == result.args == [[1, {"a": [2]}]]


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [1000, 101, -101, 1.5])
def test_a_priority_out_of_range_is_refused(priority):
    with pytest.raises(InvalidTaskError) as refusal:
        work.add.using(priority=priority).enqueue(1)
    assert str(refusal.value) == "priority must be a whole number between -100 and 100."
    assert not Task.objects.exists()


def test_an_unknown_queue_is_refused():
    with pytest.raises(InvalidTaskError) as refusal:
        work.add.using(queue_name="letters").enqueue(1)
    assert str(refusal.value) == "Queue 'letters' is not valid for backend."
    assert not Task.objects.exists()


def test_a_queue_that_the_settings_no_longer_name_is_refused(settings):
    settings.TASKS = {"default": settings.TASKS["default"] | {"QUEUES": ["default"]}}
    with pytest.raises(InvalidTaskError) as refusal:
        work.urgent_mail.enqueue(1)
    assert str(refusal.value) == "Queue 'mail' is not valid for backend."
    assert not Task.objects.exists()


def test_a_naive_run_after_is_refused():
    with pytest.raises(InvalidTaskError) as refusal:
        work.add.using(run_after=datetime(2030, 1, 1)).enqueue(1)  # noqa: DTZ001 - naive is the case here
    assert str(refusal.value) == "run_after must be an aware datetime."
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: work.add.enqueue(), TypeError, "missing a required argument: 'a'"),
        (lambda: work.add.enqueue(b"x"), TypeError, "argument 'a' cannot be stored: a bytes is not JSON. "
         "Pass an id, a string or a number instead"),
        (lambda: work.add.enqueue(1, b=float("nan")), ValueError,
         "argument 'b' cannot be stored: Out of range float values are not JSON compliant"),
        (lambda: work.add.enqueue("\x00"), ValueError,
         "argument 'a' cannot be stored: it has a NUL character, which PostgreSQL cannot store"),
        (lambda: work.add.enqueue({1: 2}), TypeError,
         "argument 'a' cannot be stored: the key 1 is a int; JSON knows only strings as keys"),
    ],
)  # fmt: skip
def test_a_call_that_could_not_run_is_refused_and_leaves_no_row(call, kind, message):
    with pytest.raises(kind) as refusal:
        call()
    assert str(refusal.value) == f"tests.work.tasks.add: {message}"
    assert not Task.objects.exists()


def test_the_context_is_not_for_the_caller_to_pass():
    with pytest.raises(TypeError) as refusal:
        work.who_am_i.enqueue("a context")
    assert str(refusal.value) == "tests.work.tasks.who_am_i: too many positional arguments"


def test_a_value_at_the_limit_of_depth_is_stored_and_read_back():
    value = work.return_nested.func(100)
    result = work.effect.enqueue(value)
    assert row_of(result).args == [value]
    assert default_task_backend.get_result(result.id).args == [value]


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", 5])
def test_a_wrong_name_of_a_queue_in_the_settings_is_refused(name):
    with pytest.raises(ImproperlyConfigured) as refusal:
        DatabaseBackend("default", {"QUEUES": ["default", name]})
    assert str(refusal.value) == f"TASKS names the queue {name!r}. Allowed: 1 to 64 printable characters."


# Results -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rubbish",
    ["", "abc", "-1", "0", "1.5", "1_0", " 10 ", "+10", "١٠", "10\x00", "9" * 19, "9" * 30, "9" * 5000, "None",
     "0b5a8c5e-6f0e-4f5c-9c1e-0123456789ab", None, 3.7, [10]],
)  # fmt: skip
def test_an_id_that_no_task_has_is_no_result(rubbish):
    rows.ready(pk=10)
    rows.ready(pk=3)
    with pytest.raises(TaskResultDoesNotExist) as missing:
        default_task_backend.get_result(rubbish)
    assert missing.value.args == (rubbish,)


def test_a_result_is_found_by_its_id_as_text_or_number():
    task = rows.ready()
    assert default_task_backend.get_result(str(task.pk)).id == str(task.pk)
    assert default_task_backend.get_result(task.pk).id == str(task.pk)


def test_a_result_of_another_function_is_a_mismatch():
    other = rows.ready("effect")
    with pytest.raises(TaskResultMismatch) as mismatch:
        work.add.get_result(str(other.pk))
    assert str(mismatch.value) == "Task does not match (received 'tests.work.tasks.effect')"


def test_a_result_whose_function_is_gone_says_so():
    task = rows.ready("gone")
    with pytest.raises(InvalidTaskError) as refusal:
        default_task_backend.get_result(str(task.pk))
    assert str(refusal.value) == "tests.work.tasks.gone: there is no task function of this name (any more)."


# Transactions --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_enqueue_leaves_nothing():
    def enqueue_and_refuse() -> None:
        with transaction.atomic():
            Effect.objects.create(name="with the task")
            work.add.enqueue(1)
            work.once_for_each_user.enqueue(1)
            raise RefusalError

    with pytest.raises(RefusalError):
        enqueue_and_refuse()
    assert (Task.objects.count(), Effect.objects.count()) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_enqueue_waits_for_no_commit_hook():
    with transaction.atomic():
        result = work.add.enqueue(1)
        assert Task.objects.filter(pk=result.id).exists()
        assert connection.run_on_commit == []


# Idempotency ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [rows.ready, rows.claimed, rows.running])
def test_while_a_task_with_the_key_is_unfinished_enqueue_returns_that_task(build):
    task = build("once_for_each_user", idempotency_key="user-1", args=[1])
    result = work.once_for_each_user.enqueue(1, note="again")
    assert (result.id, result.kwargs) == (str(task.pk), {})
    assert Task.objects.count() == 1


@pytest.mark.parametrize("build", [rows.successful, rows.failed])
def test_the_key_is_free_again_once_the_task_has_finished(build):
    task = build("once_for_each_user", idempotency_key="user-1")
    result = work.once_for_each_user.enqueue(1)
    assert result.id != str(task.pk)
    assert Task.objects.filter(idempotency_key="user-1").count() == 2


def test_the_task_that_is_returned_is_the_unfinished_one():
    rows.failed("once_for_each_user", idempotency_key="user-1")
    rows.successful("once_for_each_user", idempotency_key="user-1")
    waits = rows.ready("once_for_each_user", idempotency_key="user-1")
    assert work.once_for_each_user.enqueue(1).id == str(waits.pk)


@pytest.mark.django_db(transaction=True)
def test_of_many_that_enqueue_one_key_at_the_same_time_one_makes_the_row_and_all_get_it():
    ids = at_the_same_time(4, lambda: work.once_for_each_user.enqueue(1).id)
    assert len(set(ids)) == 1
    assert Task.objects.count() == 1


def test_another_key_and_another_function_with_the_key_are_other_tasks():
    rows.ready("add", idempotency_key="user-1")
    first, second = work.once_for_each_user.enqueue(1), work.once_for_each_user.enqueue(2)
    assert len({first.id, second.id}) == 2
    assert Task.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_a_transaction_goes_on_after_an_enqueue_that_found_its_key_taken():
    with transaction.atomic():
        first, second = work.once_for_each_user.enqueue(1), work.once_for_each_user.enqueue(1)
        Effect.objects.create(name="after")
    assert first.id == second.id
    assert (Task.objects.count(), Effect.objects.count()) == (1, 1)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "a\x00b", None, 5])
def test_a_key_that_is_no_short_printable_string_is_refused(key):
    made = work.once_for_each_user.using()
    object.__setattr__(made, "idempotency_key", lambda user_id: key)
    with pytest.raises(ValueError) as refusal:
        made.enqueue(1)
    assert str(refusal.value) == (
        f"tests.work.tasks.once_for_each_user: idempotency_key returned {key!r}; "
        "allowed: 1 to 255 printable characters."
    )
    assert not Task.objects.exists()


def test_a_task_without_a_key_may_be_enqueued_any_number_of_times():
    assert len({work.add.enqueue(1).id for _ in range(3)}) == 3


# Signals -------------------------------------------------------------------------------------------------------------


def test_task_enqueued_is_sent_once_for_each_new_row():
    heard = []

    def hear(sender, task_result, **kwargs) -> None:
        heard.append((sender, task_result.id, task_result.status))

    task_enqueued.connect(hear)
    try:
        first, second = work.once_for_each_user.enqueue(1), work.once_for_each_user.enqueue(1)
    finally:
        task_enqueued.disconnect(hear)
    assert first.id == second.id
    assert heard == [(DatabaseBackend, first.id, TaskResultStatus.READY)]


def test_two_unfinished_rows_with_one_key_cannot_be_stored():
    rows.ready(idempotency_key="once")
    with pytest.raises(IntegrityError), transaction.atomic():
        rows.running(idempotency_key="once")
    rows.failed("add", idempotency_key="once")
    rows.successful(idempotency_key="once")


def test_a_time_in_another_zone_is_the_same_time():
    there = datetime(2030, 1, 1, 12, tzinfo=UTC).astimezone(timezone.get_fixed_timezone(330))
    result = work.add.using(run_after=there).enqueue(1)
    assert row_of(result).run_after == datetime(2030, 1, 1, 12, tzinfo=UTC)


# Many at once --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_many_are_enqueued_with_one_statement_for_a_thousand_rows(django_assert_num_queries):
    with django_assert_num_queries(3):
        results = work.add.enqueue_many((number,) for number in range(2500))
    assert len(results) == 2500
    assert [(result.args, result.status) for result in results[:2]] == [([0], "READY"), ([1], "READY")]
    assert Task.objects.count() == 2500
    assert work.add.get_result(results[2499].id).args == [2499]


@pytest.mark.django_db
def test_a_call_of_many_may_be_arguments_by_name():
    (result,) = work.add.enqueue_many([{"a": 1, "b": 2}])
    assert (result.args, result.kwargs) == ([], {"a": 1, "b": 2})
    assert work.add.enqueue_many([]) == []


@pytest.mark.django_db
def test_one_wrong_call_of_many_is_named_and_nothing_is_stored():
    with pytest.raises(TypeError) as error:
        work.add.enqueue_many([(1,), (object(),)])
    assert str(error.value).startswith(
        "call 1: tests.work.tasks.add: argument 'a' cannot be stored: a object is not JSON"
    )
    assert not Task.objects.exists()


@pytest.mark.django_db
def test_many_with_an_idempotency_key_are_one_for_each_key():
    results = work.once_for_each_user.enqueue_many([(1,), (2,), (1,)])
    assert results[0].id == results[2].id
    assert Task.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_many_belong_to_the_transaction_of_the_caller():
    with transaction.atomic():
        assert len(work.add.enqueue_many([(1,), (2,)])) == 2
        transaction.set_rollback(True)
    assert not Task.objects.exists()
