"""Wrong calls, wrong rows and wrong code: a clear word where it goes wrong, nothing lost, no worker hurt."""

from __future__ import annotations

import json
import signal
from datetime import datetime
from functools import partial
from html import unescape
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django_tasks import default_task_backend, task
from django_tasks.exceptions import InvalidTaskError

from tasks.audit import audit
from tasks.functions import registry
from tasks.metrics import stats
from tasks.models import Task, TaskError
from tasks.testing import run_enqueued
from tests.processes import group_members, until
from tests.rude import tasks as rude
from tests.tasks import rows
from tests.work import tasks as work
from tests.work.models import Effect

pytestmark = pytest.mark.django_db

ANYTHING: Any = task


def insert(**values: Any) -> int:
    """Put a row into the table as a stranger would, who knows nothing of the models; return its id."""
    plain: dict[str, Any] = {
        "task_path": "tests.work.tasks.add", "args": "[1]", "kwargs": "{}", "queue_name": "default", "priority": 0,
        "status": "READY", "attempts": 0, "max_attempts": 2, "worker_ids": "[]",
    } | values  # fmt: skip
    with connection.cursor() as cursor:
        places = ", ".join(["%s"] * len(plain))
        cursor.execute(f"INSERT INTO tasks_task ({', '.join(plain)}) VALUES ({places}) RETURNING id", [*plain.values()])
        return cursor.fetchone()[0]


def kinds(task_id: Any) -> list[str]:
    return list(TaskError.objects.filter(task=task_id).order_by("pk").values_list("kind", flat=True))


def an_operator_can_look(client: Any, task_id: Any) -> str:
    """See the lists, the figures and the page of the task, whose text is returned."""
    for url in ("/admin/tasks/task/", "/admin/tasks/failedtask/"):
        assert client.get(url).status_code == 200
    assert stats()["tasks"]
    audit()
    page = client.get(f"/admin/tasks/task/{task_id}/change/")
    assert page.status_code == 200
    return unescape(page.content.decode())


# Calls ---------------------------------------------------------------------------------------------------------------


CALLS: dict[str, tuple[Any, type[Exception], str]] = {
    "arguments that are not JSON": (
        lambda: work.add.enqueue(object()), TypeError,
        "tests.work.tasks.add: argument 'a' cannot be stored: a object is not JSON. "
        "Pass an id, a string or a number instead"),
    "arguments that do not fit": (
        lambda: work.add.enqueue(1, colour="red"), TypeError,
        "tests.work.tasks.add: got an unexpected keyword argument 'colour'"),
    "a naive run_after": (
        lambda: work.add.using(run_after=datetime(2030, 1, 1)), InvalidTaskError,  # noqa: DTZ001 - the case here
        "run_after must be an aware datetime."),
    "an unknown queue": (
        lambda: work.add.using(queue_name="letters"), InvalidTaskError, "Queue 'letters' is not valid for backend."),
    "a function that is no task": (
        lambda: ANYTHING(len), InvalidTaskError, "Task function must be defined at a module level."),
    "a payload of 10 MB": (
        lambda: work.add.enqueue("x" * (10 << 20)), ValueError,
        "tests.work.tasks.add: the arguments take 10485766 bytes; allowed are 262144 (TASKS_MAX_PAYLOAD). "
        "Store the data and pass its id."),
    "a priority of 1000": (
        lambda: work.add.using(priority=1000), InvalidTaskError,
        "priority must be a whole number between -100 and 100."),
    "a NUL in the name of an argument": (
        lambda: rude.echo.enqueue(**{"a\x00": 1}), ValueError,
        "tests.rude.tasks.echo: argument 'a\\x00' cannot be stored: it has a NUL character, "
        "which PostgreSQL cannot store"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), CALLS.values(), ids=CALLS)
def test_a_mistake_is_named_where_it_is_made_and_leaves_nothing(call, kind, message):
    with pytest.raises(kind) as refusal:
        call()
    assert str(refusal.value) == message
    assert not Task.objects.exists()


def test_what_is_not_json_spoils_no_transaction():
    with transaction.atomic():
        Effect.objects.create(name="before")
        with pytest.raises(TypeError):
            work.add.enqueue(object())
        work.add.enqueue(1)
    assert (Effect.objects.count(), Task.objects.count()) == (1, 1)


# Rows ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [{"priority": -1000}, {"priority": 101}, {"priority": 99999}, {"max_attempts": -1}, {"attempts": -1},
     {"status": "FOO"}, {"status": "RUNNING"}, {"status": "SUCCESSFUL"}, {"finished_at": "2026-01-01 00:00+00"},
     {"lease_id": "0" * 32}, {"args": "[1"}, {"args": "[NaN]"}, {"kwargs": "no json"}, {"args": None},
     {"task_path": None}, {"run_after": None}, {"idempotency_key": "taken"}],
    ids=str,
)  # fmt: skip
def test_a_row_that_makes_no_sense_cannot_be_stored(values):
    insert(idempotency_key="taken")
    with pytest.raises(DatabaseError), transaction.atomic():
        insert(**values)
    assert Task.objects.count() == 1


@pytest.mark.parametrize(
    "values",
    [{"args": '{"a": 1}'}, {"args": "5"}, {"args": "null"}, {"kwargs": "[1]"}, {"kwargs": "null"}, {"kwargs": "5"},
     {"kwargs": '{"colour": "red"}'}, {"kwargs": '{"": 1}'}, {"args": "[[]]"}, {"args": "[1, 2, 3, 4]"}],
    ids=str,
)  # fmt: skip
def test_arguments_that_do_not_fit_are_a_failed_attempt_and_the_next_task_runs(values):
    wrong = insert(**values, max_attempts=1)
    right = work.add.enqueue(1)
    run_enqueued()
    assert Task.objects.get(pk=right.id).status == "SUCCESSFUL"
    assert (Task.objects.get(pk=wrong).status, kinds(wrong)) == ("FAILED", ["exception"])
    assert TaskError.objects.get(task=wrong).exception_path == "builtins.TypeError"
    assert audit()["ok"]


STRANGERS = [
    "", "os.system", "tests.work.tasks", "tests.work.tasks.not_a_task", "tests.work.tasks.add.func", "../../etc/passwd",
    "é\U0001f600'\";--<script>alert(1)</script>%s{}\\" + "x" * 200,
]  # fmt: skip


@pytest.mark.parametrize("path", STRANGERS, ids=lambda path: ascii(path)[:30])
def test_a_path_that_is_no_task_function_waits_and_says_why(path, operator_client):
    stranger = insert(task_path=path, args='["touch /tmp/owned"]')
    right = work.add.enqueue(1)
    assert [str(row.pk) for row in run_enqueued()] == [right.id]
    row = Task.objects.get(pk=stranger)
    assert (row.status, row.attempts, row.lease_id, kinds(row.pk)) == ("READY", 0, None, [])
    page = an_operator_can_look(operator_client, stranger)
    assert "This release has no such task function. It waits for a release that has it; or cancel it." in page
    assert "<script>alert" not in operator_client.get("/admin/tasks/task/").content.decode()
    with pytest.raises(InvalidTaskError):
        default_task_backend.get_result(str(stranger))
    assert Task.objects.filter(pk=stranger).cancel(by="the operator") == 1


@pytest.mark.parametrize("queue", ["letters", "", "\t'%s", "é" * 64], ids=ascii)
def test_a_task_in_a_queue_that_nobody_serves_waits_and_says_why(queue, operator_client):
    stranger = insert(queue_name=queue)
    assert run_enqueued() == []
    assert Task.objects.get(pk=stranger).status == "READY"
    assert "No cluster serves its queue." in an_operator_can_look(operator_client, stranger)
    assert stats()["queues"][queue]["size"] == 1


def test_a_task_that_may_have_no_attempt_has_one_and_has_failed(operator_client):
    wrong = insert(task_path="tests.work.tasks.fail", args="[]", max_attempts=0)
    run_enqueued()
    assert (Task.objects.get(pk=wrong).status, kinds(wrong)) == ("FAILED", ["exception"])
    an_operator_can_look(operator_client, wrong)
    assert Task.objects.filter(pk=wrong).retry() == 1


def test_a_task_for_the_end_of_time_waits(operator_client):
    late = insert(run_after="9998-12-31 23:59:59+00:00")
    assert run_enqueued() == []
    assert "It is to run later." in an_operator_can_look(operator_client, late)


@pytest.mark.parametrize(
    "args",
    [["x" * (10 << 20)], [[[[]] * 1000] * 10], [10**4000], ["\U0001f600" * 10000]],
    ids=["10 MB", "many lists", "4000 digits", "smileys"],
)
def test_large_arguments_of_a_row_arrive_whole(args):
    row = insert(task_path="tests.rude.tasks.echo", args=json.dumps(args))
    run_enqueued()
    done = Task.objects.get(pk=row)
    assert (done.status, done.args) == ("SUCCESSFUL", args)


# Operators -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["q=%00", "q=" + "9" * 40, "q=" + "x" * 10000, "q=%25%5C%27", "status__exact=FOO", "id=abc", "o=99.-99.x", "p=x",
     "p=99999", "lease_id__exact=x", "enqueued_at__gte=x", "_to_field=id", "_facets=x"],
    ids=lambda query: query[:20],
)  # fmt: skip
def test_rubbish_in_the_address_of_a_list_is_no_error_of_the_server(query, operator_client):
    rows.failed()
    for url in ("/admin/tasks/task/", "/admin/tasks/failedtask/"):
        expected = 400 if "%00" in query else 200
        assert operator_client.get(f"{url}?{query}", follow=True).status_code == expected


@pytest.mark.parametrize("key", ["abc", "0", "-1", "9" * 30, "%00", "1_0", "_31", "1%2F", "1.5", "é"])
def test_a_page_of_no_task_leads_home(key, operator_client):
    response = operator_client.get(f"/admin/tasks/task/{key}/change/", follow=True)
    assert response.status_code == 200
    assert "doesn’t exist. Perhaps it was deleted?" in unescape(response.content.decode())


@pytest.mark.parametrize(
    "data",
    [{"action": "explode"}, {"action": "delete_selected"}, {"action": ""}, {"action": "retry", "index": "x"},
     {"action": "discard", "_selected_action": ["-1"]}, {"action": "cancel", "_selected_action": []}, {}],
    ids=str,
)  # fmt: skip
def test_a_wrong_action_changes_nothing(data, operator_client):
    waiting = rows.ready()
    before = rows.state(waiting)
    response = operator_client.post("/admin/tasks/task/", {"_selected_action": [waiting.pk]} | data, follow=True)
    assert response.status_code == 200
    assert rows.state(waiting) == before


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_change_nothing(method, operator_client):
    waiting = rows.ready()
    before = rows.state(waiting)
    for url in ("/admin/tasks/task/", f"/admin/tasks/task/{waiting.pk}/change/"):
        getattr(operator_client, method)(url)
    assert rows.state(waiting) == before


# Code ----------------------------------------------------------------------------------------------------------------


Outcome = tuple[str, list[str], str]
"""Status, the kinds of the errors, the class of the last one."""

GOOD: Outcome = ("SUCCESSFUL", [], "")
LOST: Outcome = ("FAILED", ["lost"], "tasks.exceptions.WorkerLost")


def raised(path: str) -> Outcome:
    return ("FAILED", ["exception"], path)


PROCESS: dict[str, Outcome] = {
    "change_the_surroundings": GOOD,
    "ignore_all_signals": GOOD,
    "restore_all_signals": GOOD,
    "fork_a_child_that_exits": GOOD,
    "start_threads_that_never_end": GOOD,
    "fail_in_a_thread": GOOD,
    "leave_at_once": LOST,
    "abort": LOST,
    "read_address_zero": LOST,
    "ask_for_more_memory_than_there_is": raised("builtins.MemoryError"),
    "call_itself": raised("builtins.RecursionError"),
    "exit_in_a_finalizer": GOOD,
    "leave_an_event_loop_running": GOOD,
    "leave_a_coroutine_running": GOOD,
    "close_the_connection": GOOD,
    "forget_the_connection": GOOD,
    "turn_autocommit_off": raised("builtins.RuntimeError"),
    "lock_its_own_row": GOOD,
    "close_the_standard_streams": GOOD,
}

ERRORS = {
    "of 100 MB": "tests.rude.tasks.LongError",
    "without words": "tests.rude.tasks.WordlessError",
    "itself as its cause": "builtins.ValueError",
    "StopIteration": "builtins.StopIteration",
    "GeneratorExit": "builtins.GeneratorExit",
    "CancelledError": "asyncio.exceptions.CancelledError",
    "a thousand": "builtins.ExceptionGroup",
}

DROPPED = {
    "10 MB": "it has 10485762 characters, allowed are 262144 (TASKS_MAX_PAYLOAD)",
    "NUL": "it has a NUL character, which PostgreSQL cannot store",
    "half a surrogate pair": "it has half of a surrogate pair, which is no character",
    "NaN": "Out of range float values are not JSON compliant",
    "a set": "a set is not JSON",
    "bytes": "a bytes is not JSON",
    "a generator": "a generator is not JSON",
    "a coroutine of nobody": "a type is not JSON",
    "a number as a key": "the key 1 is a int; JSON knows only strings as keys",
    "itself": "Circular reference detected",
    "a number of 5000 digits": "Exceeds the limit (4300 digits) for integer string conversion",
}


def outcome(result: Any) -> Outcome:
    row = Task.objects.get(pk=result.id)
    assert row.attempts == 1
    last = TaskError.objects.filter(task=row).order_by("-pk").first()
    return row.status, kinds(row.pk), last.exception_path if last else ""


@pytest.fixture
def later_release(cluster):
    """A function that starts a cluster of the release that has the rude functions."""
    return partial(cluster, DJANGO_SETTINGS_MODULE="tests.rude.settings")


def finish(*results: Any) -> None:
    left = Task.objects.filter(pk__in=[result.id for result in results], finished_at__isnull=True)
    until(lambda: not left.exists(), 30, "all are finished")


def the_cluster_is_well(process: Any) -> None:
    """Ordinary work is done, each effect once; the laws hold; the tree ends as it should."""
    effects = [work.effect.enqueue(f"effect {number}") for number in range(20)]
    finish(*effects)
    assert sorted(Effect.objects.values_list("name", flat=True)) == sorted(f"effect {number}" for number in range(20))
    assert [outcome(result) for result in effects] == [GOOD] * 20
    assert audit()["ok"]
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    assert group_members(process.pid) == []


def test_code_that_misuses_its_process_hurts_no_other_task(later_release):
    process = later_release("--workers", "2")
    results = {name: getattr(rude, name).enqueue() for name in PROCESS}
    finish(*results.values())
    assert {name: outcome(result) for name, result in results.items()} == PROCESS
    assert Task.objects.get(pk=results["fork_a_child_that_exits"].id).return_value == 3
    the_cluster_is_well(process)


def test_what_is_returned_and_raised_hurts_no_other_task(later_release):
    process = later_release("--workers", "2")
    errors = {name: rude.raise_error.enqueue(name) for name in ERRORS}
    values = {name: rude.return_value.enqueue(name) for name in DROPPED}
    deleted = rude.delete_its_own_row.enqueue()
    finish(*errors.values(), *values.values())
    assert {name: outcome(result) for name, result in errors.items()} == {
        name: raised(path) for name, path in ERRORS.items()
    }
    assert {name: outcome(result) for name, result in values.items()} == dict.fromkeys(DROPPED, GOOD)
    for name, reason in DROPPED.items():
        path = f"tests.rude.tasks.return_value #{values[name].id}"
        assert f"{path}: its return value was dropped: {reason}" in process.log()
    assert set(Task.objects.filter(task_path__endswith="return_value").values_list("return_value")) == {(None,)}
    until(lambda: not Task.objects.filter(pk=deleted.id).exists())
    the_cluster_is_well(process)


def test_a_task_of_a_later_release_waits_for_it_and_an_operator_sees_why(
    later_release, cluster, operator_client, monkeypatch
):
    old = cluster("--workers", "1")
    result, known = rude.echo.enqueue(1), work.add.enqueue(1)
    finish(known)
    assert (Task.objects.get(pk=result.id).status, Task.objects.get(pk=result.id).lease_id) == ("READY", None)
    with monkeypatch.context() as this_release:
        this_release.delitem(registry, "tests.rude.tasks.echo")
        page = an_operator_can_look(operator_client, result.id)
    assert "This release has no such task function. It waits for a release that has it; or cancel it." in page

    later_release("--workers", "1")
    finish(result)
    assert Task.objects.get(pk=result.id).return_value == [[1], {}]
    old.send(signal.SIGTERM)
    assert old.wait() == 0
