"""Rows on one side, django-q2's packages on the other."""

from __future__ import annotations

import time

import pytest
from django.core.signing import BadSignature
from django.db import InterfaceError, OperationalError, connection
from django_q.brokers import get_broker
from django_q.signing import SignedPackage
from django_q.tasks import async_task
from django_tasks.exceptions import InvalidTaskError

from tasks.broker import DatabaseBroker
from tasks.models import Cluster, Task
from tests.tasks import rows
from tests.work import tasks as work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def holder(settings, transactional_db) -> Cluster:
    settings.TASKS_POLL = 0.01
    return rows.cluster_row()


def broker_of(holder: Cluster, room: int = 10, is_draining: bool = False) -> DatabaseBroker:
    broker = DatabaseBroker()
    broker.cluster_id = holder.pk
    broker.queues = ["default"]
    broker.room = lambda: room
    broker.wait_for_room = lambda: None
    broker.is_draining = lambda: is_draining
    return broker


def claimed_by(broker: DatabaseBroker) -> list[int]:
    """The ids in the packages of one look, in their order."""
    packages = [SignedPackage.loads(package) for _lease, package in broker.dequeue()]
    return [task_id for package in packages for task_id, _path in package["args"][1]]


def test_dequeue_claims_due_rows_and_packs_their_ids_only(holder):
    task = rows.ready(args=["s3cret"])
    ((acknowledge_id, package),) = broker_of(holder).dequeue()
    task.refresh_from_db()
    assert acknowledge_id == task.lease_id.hex
    assert task.cluster_id == holder.pk
    assert SignedPackage.loads(package) == {
        "id": task.lease_id.hex,
        "name": "claimed tasks",
        "func": "tasks.runner.run",
        "args": (task.lease_id.hex, [(task.pk, "tests.work.tasks.add")]),
        "kwargs": {},
    }


def test_dequeue_takes_no_more_than_there_is_room_for_in_the_order_of_the_claim(holder):
    low, high, middle = (rows.ready(priority=priority) for priority in (-1, 1, 0))
    assert claimed_by(broker_of(holder, room=2)) == [high.pk, middle.pk]
    assert list(Task.objects.waiting()) == [low]


@pytest.mark.parametrize("values", [{"room": 0}, {"room": -3}, {"is_draining": True}])
def test_a_cluster_without_room_or_that_drains_claims_nothing(holder, values):
    task = rows.ready()
    assert broker_of(holder, **values).dequeue() == []
    assert list(Task.objects.waiting()) == [task]


def test_an_empty_dequeue_waits_for_the_poll(holder, settings):
    settings.TASKS_POLL = 0.3
    broker = broker_of(holder)
    for _look in range(2):
        broker.dequeue()  # the first wait on a connection is over at once
    began = time.monotonic()
    assert broker.dequeue() == []
    assert 0.3 <= time.monotonic() - began < 3


def test_dequeue_leaves_functions_of_another_release_alone(holder):
    stranger = rows.ready("gone")
    assert broker_of(holder).dequeue() == []
    assert list(Task.objects.waiting()) == [stranger]


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError])
def test_a_database_that_does_not_answer_is_no_error_of_dequeue(holder, kind, caplog):
    task, broker = rows.ready(), broker_of(holder)

    def refuse(execute, sql, params, many, context):
        raise kind("the server closed the connection\nand said more")

    with connection.execute_wrapper(refuse):
        assert broker.dequeue() == []
    says = "the pusher cannot reach the database and tries again until it can: the server closed the connection"
    assert says in caplog.messages
    assert claimed_by(broker) == [task.pk]


def test_the_broker_of_django_q2_is_this_one():
    broker = get_broker()
    assert isinstance(broker, DatabaseBroker)
    assert (broker.ping(), broker.info()) == (True, "Steward's database broker")


def test_queue_size_counts_what_is_due():
    rows.ready()
    rows.claimed()
    rows.ready(due_in=60)
    rows.running()
    rows.failed()
    assert get_broker().queue_size() == 2


def test_acknowledge_and_fail_change_nothing():
    task = rows.running()
    before = rows.state(task)
    get_broker().acknowledge(task.pk)
    get_broker().fail(task.pk)
    assert rows.state(task) == before


# async_task ----------------------------------------------------------------------------------------------------------


def test_async_task_with_the_path_of_a_task_function_makes_a_row():
    async_task("tests.work.tasks.urgent_mail", 3)
    task = Task.objects.get()
    assert (task.task_path, task.args, task.queue_name, task.priority) == (
        "tests.work.tasks.urgent_mail", [3], "mail", 50,
    )  # fmt: skip


def test_async_task_obeys_the_idempotency_key():
    for _ in range(2):
        async_task("tests.work.tasks.once_for_each_user", 1)
    assert Task.objects.count() == 1


@pytest.mark.parametrize("path", ["tests.work.tasks.not_a_task", "os.system", "antigravity.geohash", "", "add"])
def test_async_task_with_any_other_path_is_refused(path):
    with pytest.raises(InvalidTaskError) as refusal:
        async_task(path, "true")
    assert str(refusal.value) == f"{path!r} is no task function. Decorate it with @task in a tasks.py."
    assert not Task.objects.exists()


def test_async_task_with_a_plain_function_is_refused():
    with pytest.raises(InvalidTaskError) as refusal:
        async_task(work.not_a_task)
    assert str(refusal.value) == f"{work.not_a_task!r} is no task function. Decorate it with @task in a tasks.py."
    assert not Task.objects.exists()


def test_async_task_with_the_undecorated_function_of_a_task_makes_no_row():
    with pytest.raises(Exception, match="Can't pickle"):
        async_task(work.add.func, 1)
    assert not Task.objects.exists()


def test_async_task_refuses_arguments_by_name():
    with pytest.raises(TypeError) as refusal:
        async_task("tests.work.tasks.add", 1, b=b"x")
    assert str(refusal.value) == (
        "tests.work.tasks.add: argument 'b' cannot be stored: a bytes is not JSON. "
        "Pass an id, a string or a number instead"
    )
    assert not Task.objects.exists()


def test_a_package_that_was_not_signed_here_is_refused():
    with pytest.raises(BadSignature):
        get_broker().enqueue("gASVKAAAAAAAAAB9lC4:1x:forged")
    assert not Task.objects.exists()
