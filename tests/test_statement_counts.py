"""How many SQL statements the common operations take: what a benchmark on a busy machine cannot tell, a count can.

A count is of all that passes through Django's cursors (`tasks.driver` uses them while somebody listens), BEGIN and
COMMIT included. A number that rises is a cost; one that falls is news, and is recorded too:

    RECORD_COUNTS=1 .venv/bin/pytest tests/test_statement_counts.py -n 0

writes what it counts into the table below, for the database it runs on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import tokens
from accounts.models import User
from tasks import leases, runner
from tasks.functions import registry
from tasks.housekeeper import Housekeeper
from tasks.leases import Failure
from tasks.models import Task, TaskError
from tasks.shared import Slots, fork
from tests.accounts.authenticator import code_now, give_app
from tests.conftest import PASSWORD
from tests.tasks import rows
from tests.work import tasks as work
from tests.work.models import Effect

RECORDED: dict[str, tuple[int, int]] = {
    # operation: (SQLite, PostgreSQL)
    "enqueue": (1, 1),
    "enqueue with an idempotency key": (1, 1),
    "enqueue with a key that is taken": (2, 2),
    "enqueue_many of 1,000": (3, 3),
    "claim 50 of 50": (2, 1),
    "claim when nothing waits": (1, 1),
    "start": (1, 1),
    "finish": (1, 1),
    "finish and start the next": (1, 1),
    "fail, to be tried again": (5, 5),
    "fail for good": (5, 5),
    "an attempt, from claimed to successful": (2, 2),
    "an atomic attempt with one effect": (5, 5),
    "an attempt with its context": (4, 4),
    "a round of the housekeeper": (15, 15),
    "a round of the housekeeper, 10 tasks running": (16, 16),
    "release what was claimed": (3, 3),
    "admin: 50 tasks": (6, 6),
    "admin: a task": (4, 4),
    "admin: 50 failed tasks": (6, 6),
    "admin: retry 10 failed tasks": (65, 65),
    "signup page": (0, 0),
    "signup": (10, 10),
    "signup with a known address": (10, 10),
    "login": (19, 19),
    "login in a known browser": (16, 16),
    "login, wrong password": (7, 7),
    "login, unknown address": (7, 7),
    "login, too often": (1, 1),
    "second step of a login": (21, 21),
    "password reset, known address": (5, 5),
    "password reset, unknown address": (5, 5),
    "new password by the link": (15, 15),
    "resend, unverified address": (5, 5),
    "resend, unknown address": (5, 5),
    "password change": (24, 24),
}

NO_LUCK = Failure(TaskError.Kind.EXCEPTION, "builtins.ValueError", "no luck")

Operation = Callable[[], Iterator[Callable[[], object]]]
OPERATIONS: dict[str, Operation] = {}


def operation(name: str) -> Callable[[Operation], Operation]:
    """Name a generator that prepares an operation, yields it to be counted, and checks that it did what it says."""

    def add(prepare: Operation) -> Operation:
        OPERATIONS[name] = prepare
        return prepare

    return add


@operation("enqueue")
def _() -> Any:
    yield lambda: work.add.enqueue(1)
    assert Task.objects.count() == 1


@operation("enqueue with an idempotency key")
def _() -> Any:
    yield lambda: work.once_for_each_user.enqueue(1)
    assert Task.objects.count() == 1


@operation("enqueue with a key that is taken")
def _() -> Any:
    work.once_for_each_user.enqueue(1)
    yield lambda: work.once_for_each_user.enqueue(1)
    assert Task.objects.count() == 1


@operation("enqueue_many of 1,000")
def _() -> Any:
    yield lambda: work.add.enqueue_many([(number,) for number in range(1000)])
    assert Task.objects.count() == 1000


def claim() -> Callable[[], object]:
    holder = rows.cluster_row()
    return lambda: leases.claim(holder.pk, 50, ["default", "mail", "maintenance"], registry)


@operation("claim 50 of 50")
def _() -> Any:
    work.add.enqueue_many([(number,) for number in range(50)])
    yield claim()
    assert Task.objects.filter(lease_id__isnull=False).count() == 50


@operation("claim when nothing waits")
def _() -> Any:
    yield claim()


@operation("start")
def _() -> Any:
    task = rows.claimed()
    yield lambda: leases.start(task.pk, task.lease_id, rows.WORKER)
    assert rows.state(task)["status"] == "RUNNING"


@operation("finish")
def _() -> Any:
    task = rows.running()
    attempt = rows.attempt_of(task)
    yield lambda: leases.succeed(attempt, "1")
    assert rows.state(task)["status"] == "SUCCESSFUL"


@operation("finish and start the next")
def _() -> Any:
    task, following = rows.running(), rows.claimed()
    attempt = rows.attempt_of(task)
    yield lambda: leases.succeed_and_start(attempt, "1", following.pk, following.lease_id, is_durable=True)
    assert (rows.state(task)["status"], rows.state(following)["status"]) == ("SUCCESSFUL", "RUNNING")


@operation("fail, to be tried again")
def _() -> Any:
    task = rows.running("fail")
    attempt = rows.attempt_of(task)
    yield lambda: leases.fail(attempt, NO_LUCK, timedelta(seconds=5))
    assert rows.state(task)["status"] == "READY"


@operation("fail for good")
def _() -> Any:
    task = rows.running("fail")
    attempt = rows.attempt_of(task)
    yield lambda: leases.fail(attempt, NO_LUCK, None)
    assert rows.state(task)["status"] == "FAILED"


def attempt_at(result: Any) -> Iterator[Callable[[], object]]:
    lease_id = rows.lease(result)
    yield lambda: runner.run(int(result.id), lease_id)
    assert Task.objects.get(pk=result.id).status == "SUCCESSFUL"


@operation("an attempt, from claimed to successful")
def _() -> Any:
    yield from attempt_at(work.add.enqueue(1))


@operation("an atomic attempt with one effect")
def _() -> Any:
    yield from attempt_at(work.atomic_effect.enqueue("a"))
    assert Effect.objects.count() == 1


@operation("an attempt with its context")
def _() -> Any:
    yield from attempt_at(work.who_am_i.enqueue())


def round_of_the_housekeeper(running: int) -> Iterator[Callable[[], object]]:
    holder, slots = rows.cluster_row(task_paths=sorted(registry)), Slots(max(running, 1))
    for slot in range(running):
        slots.pids[slot] = 1000 + slot
        task = rows.running(holder=holder, worker_ids=[str(slots.pids[slot])])
        slots.task_ids[slot] = task.pk
    keeper = Housekeeper(holder, slots, fork.Pipe(duplex=False)[0], str)
    keeper.patient_until = 0.0  # it has listened for long enough

    def go_round() -> None:
        keeper.rescue_own()
        keeper.cancel()
        keeper.beat()
        with override_settings(TASKS_SCHEDULES=True):
            keeper.look_after_tasks_and_schedules()
            keeper.tick()

    yield go_round
    assert Task.objects.filter(status="RUNNING").count() == running


@operation("a round of the housekeeper")
def _() -> Any:
    yield from round_of_the_housekeeper(0)


@operation("a round of the housekeeper, 10 tasks running")
def _() -> Any:
    yield from round_of_the_housekeeper(10)


@operation("release what was claimed")
def _() -> Any:
    holder = rows.cluster_row()
    for _number in range(3):
        rows.claimed(holder=holder)
    yield lambda: leases.release(holder.pk)
    assert Task.objects.waiting().count() == 3


def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator@example.org", PASSWORD))
    return client


def page(client: Client, address: str, shown: str) -> Iterator[Callable[[], object]]:
    client.get(address)  # what is read once in the life of a process
    answers: list[Any] = []
    yield lambda: answers.append(client.get(address))
    assert shown in answers[0].content.decode()


@operation("admin: 50 tasks")
def _() -> Any:
    for _number in range(25):
        rows.successful()
        rows.failed(errors=2)
    yield from page(operator(), reverse("admin:tasks_task_changelist"), "50 tasks")


@operation("admin: a task")
def _() -> Any:
    address = reverse("admin:tasks_task_change", args=[rows.failed(errors=3).pk])
    yield from page(operator(), address, "no luck 3")


@operation("admin: 50 failed tasks")
def _() -> Any:
    for _number in range(50):
        rows.failed(errors=2)
    yield from page(operator(), reverse("admin:tasks_failedtask_changelist"), "50 failed tasks")


@operation("admin: retry 10 failed tasks")
def _() -> Any:
    client, address = operator(), reverse("admin:tasks_failedtask_changelist")
    client.get(address)
    selected = [rows.failed().pk for _number in range(10)]
    yield lambda: client.post(address, {"action": "retry", "_selected_action": selected})
    assert Task.objects.filter(status="READY").count() == 10


@operation("signup page")
def _() -> Any:
    yield from page(Client(), reverse("accounts:signup"), "<form")


def signup() -> Iterator[Callable[[], object]]:
    data = {"display_name": "Alice", "email": "alice@example.org", "password": PASSWORD}
    yield lambda: Client().post(reverse("accounts:signup"), data)
    assert (User.objects.count(), Task.objects.count()) == (1, 1)


def verified() -> User:
    return User.objects.create_user("alice@example.org", PASSWORD, email_verified_at=timezone.now())


@operation("signup")
def _() -> Any:
    yield from signup()


@operation("signup with a known address")
def _() -> Any:
    User.objects.create_user("alice@example.org", PASSWORD)
    yield from signup()


@operation("login")
def _() -> Any:
    user, client = verified(), Client()
    yield lambda: client.post(reverse("accounts:login"), {"username": user.email, "password": PASSWORD})
    assert client.session["_auth_user_id"] == str(user.pk)


@operation("login in a known browser")
def _() -> Any:
    user, client = verified(), Client()
    data = {"username": user.email, "password": PASSWORD}
    client.post(reverse("accounts:login"), data)
    client.post(reverse("accounts:logout"))
    yield lambda: client.post(reverse("accounts:login"), data)
    assert client.session["_auth_user_id"] == str(user.pk)


def refused_login(address: str, times: int) -> Iterator[Callable[[], object]]:
    User.objects.create_user("alice@example.org", PASSWORD)
    data = {"username": address, "password": "an old lamp by the lake"}
    for _number in range(times):
        Client().post(reverse("accounts:login"), data)
    statuses: list[int] = []
    yield lambda: statuses.append(Client().post(reverse("accounts:login"), data).status_code)
    assert statuses == [429 if times else 200]


@operation("login, wrong password")
def _() -> Any:
    yield from refused_login("alice@example.org", 0)


@operation("login, unknown address")
def _() -> Any:
    yield from refused_login("nobody@example.org", 0)


@operation("login, too often")
def _() -> Any:
    yield from refused_login("alice@example.org", 6)


@operation("second step of a login")
def _() -> Any:
    user, client = verified(), Client()
    give_app(user)
    client.post(reverse("accounts:login"), {"username": user.email, "password": PASSWORD})
    yield lambda: client.post(reverse("accounts:second_step"), {"code": code_now()})
    assert client.session["mfa"] == "app"


def password_reset(address: str) -> Iterator[Callable[[], object]]:
    User.objects.create_user("alice@example.org", PASSWORD)
    yield lambda: Client().post(reverse("accounts:password_reset"), {"email": address})
    assert Task.objects.get().args == [address]


@operation("password reset, known address")
def _() -> Any:
    yield from password_reset("alice@example.org")


@operation("password reset, unknown address")
def _() -> Any:
    yield from password_reset("nobody@example.org")


@operation("new password by the link")
def _() -> Any:
    address = tokens.reset_url(User.objects.create_user("alice@example.org", PASSWORD))
    yield lambda: Client().post(address, {"password": "a new lamp by the lake"})
    assert Task.objects.count() == 1


def resend(address: str) -> Iterator[Callable[[], object]]:
    User.objects.create_user("alice@example.org", PASSWORD)
    yield lambda: Client().post(reverse("accounts:resend"), {"email": address})
    assert Task.objects.get().args == [address]


@operation("resend, unverified address")
def _() -> Any:
    yield from resend("alice@example.org")


@operation("resend, unknown address")
def _() -> Any:
    yield from resend("nobody@example.org")


@operation("password change")
def _() -> Any:
    user, client = User.objects.create_user("alice@example.org", PASSWORD), Client()
    client.force_login(user)
    data = {"old_password": PASSWORD, "password": "a new lamp by the lake"}
    yield lambda: client.post(reverse("accounts:password_change"), data)
    assert Task.objects.count() == 1


@pytest.mark.parametrize("name", RECORDED)
def test_an_operation_takes_as_many_statements_as_recorded(name, transactional_db):
    ContentType.objects.get_for_models(Task, User)  # read once in the life of a process
    with contextmanager(OPERATIONS[name])() as act, CaptureQueriesContext(connection) as captured:
        act()
    position = ("sqlite", "postgresql").index(connection.vendor)
    count, recorded = len(captured), RECORDED[name][position]
    if os.environ.get("RECORD_COUNTS"):
        record(name, position, count)
        return
    statements = "\n".join(statement["sql"] for statement in captured)
    hint = "fewer: record the better number" if count < recorded else "more: what for?"
    assert count == recorded, f"{name}: {count} statements on {connection.vendor}, not {recorded}; {hint}\n{statements}"


def record(name: str, position: int, count: int) -> None:
    """Write the number into the table of this file."""
    file = Path(__file__)

    def changed(line: re.Match[str]) -> str:
        numbers = [line[2], line[3]]
        numbers[position] = str(count)
        return f"{line[1]}({', '.join(numbers)})"

    text, found = re.subn(rf'("{re.escape(name)}": )\((\d+), (\d+)\)', changed, file.read_text(), count=1)
    assert found, f"{name} has no line in the table"
    file.write_text(text)


def test_every_operation_is_in_the_table():
    assert list(OPERATIONS) == list(RECORDED)
