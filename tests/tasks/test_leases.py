"""Claim, start, release, finish, rescue."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from tasks import leases, rescue
from tasks.exceptions import LeaseLost
from tasks.functions import registry
from tasks.leases import Failure, Outcome
from tasks.models import Cluster, Queue, Task, TaskError
from tests.tasks import rows
from tests.tasks.rows import at_the_same_time, in_another_thread

pytestmark = pytest.mark.django_db

BROKEN = Failure(TaskError.Kind.EXCEPTION, "builtins.ValueError", "no luck", "Traceback ...")


def claim(limit: int = 10, queues=("default", "mail"), paths=registry, holder: Cluster | None = None):
    return leases.claim((holder or rows.cluster_row()).pk, limit, queues, paths)


def claim_ids(*args, **kwargs) -> list[int]:
    return [lease.task_id for lease in claim(*args, **kwargs)]


# claim ---------------------------------------------------------------------------------------------------------------


def test_claim_leases_due_rows_and_leaves_them_ready():
    task, holder = rows.ready(), rows.cluster_row()
    (lease,) = claim(holder=holder)
    task.refresh_from_db()
    assert (lease.task_id, lease.lease_id, lease.task_path) == (task.pk, task.lease_id, "tests.work.tasks.add")
    assert (task.status, task.attempts, task.cluster_id) == ("READY", 0, holder.pk)
    assert task.leased_at is not None


def test_claim_takes_the_highest_priority_then_the_oldest_run_after_then_the_lowest_id():
    late = rows.ready(due_in=-10)
    early = rows.ready(due_in=-20)
    low, high = rows.ready(priority=-1, due_in=-99), rows.ready(priority=1)
    Task.objects.filter(pk__in=[low.pk]).update(run_after=low.run_after)
    twins = [rows.ready(due_in=-30) for _ in range(2)]
    Task.objects.filter(pk=twins[1].pk).update(run_after=twins[0].run_after)
    order = [high.pk, twins[0].pk, twins[1].pk, early.pk, late.pk, low.pk]
    assert claim_ids(limit=2) == order[:2]
    assert claim_ids() == order[2:]


def test_claim_takes_no_more_than_its_limit_and_nothing_twice():
    for _ in range(5):
        rows.ready()
    first, second = claim_ids(limit=3), claim_ids(limit=3)
    assert (len(first), len(second), set(first) & set(second)) == (3, 2, set())
    assert claim_ids(limit=3) == []


@pytest.mark.django_db(transaction=True)
def test_clusters_that_claim_at_the_same_time_share_the_rows():
    for _ in range(40):
        rows.ready()
    holder = rows.cluster_row()
    claims = at_the_same_time(4, lambda: [claim_ids(limit=5, holder=holder) for _round in range(4)])
    taken = [task_id for rounds in claims for ids in rounds for task_id in ids]
    assert sorted(taken) == sorted(Task.objects.values_list("pk", flat=True))


def test_claim_takes_nothing_that_is_not_due_not_ready_or_leased():
    rows.ready(due_in=60)
    rows.claimed()
    rows.running()
    rows.successful()
    rows.failed()
    assert claim() == []


def test_claim_takes_only_from_the_queues_it_is_given():
    mail, default = rows.ready(queue_name="mail"), rows.ready()
    assert claim_ids(queues=["mail"]) == [mail.pk]
    assert claim_ids(queues=[]) == []
    assert claim_ids(queues=["default"]) == [default.pk]


def test_claim_takes_only_functions_that_it_is_given():
    rows.ready("gone", priority=100)
    known = rows.ready()
    assert claim_ids(limit=1) == [known.pk]
    assert claim_ids(paths=[]) == []


def test_a_paused_queue_is_left_alone_until_its_time_is_over():
    for name, until in [("paused", None), ("for an hour", 3600), ("no longer", -1)]:
        Queue.objects.create(
            name=name,
            paused_at=Now(),
            paused_until=None if until is None else timezone.now() + timedelta(seconds=until),
        )
        rows.ready(queue_name=name, priority=9)
    rows.ready(queue_name="never paused")
    queues = ["paused", "for an hour", "no longer", "never paused"]
    taken = Task.objects.filter(pk__in=claim_ids(queues=queues))
    assert sorted(taken.values_list("queue_name", flat=True)) == ["never paused", "no longer"]


def test_a_name_with_a_quote_is_a_name():
    task = rows.ready(queue_name='o\'clock "5"')
    assert claim_ids(queues=['o\'clock "5"']) == [task.pk]


# start ---------------------------------------------------------------------------------------------------------------


def test_start_counts_the_attempt_and_gives_the_worker_what_it_needs():
    task = rows.claimed(args=[1, "ä"], kwargs={"b": [None]}, max_attempts=4)
    attempt = leases.start(task.pk, task.lease_id, "host-a:9")
    task.refresh_from_db()
    assert attempt == leases.Attempt(
        task.pk, task.lease_id, "host-a:9", "tests.work.tasks.add", [1, "ä"], {"b": [None]}, 1, 4
    )
    assert (task.status, task.attempts, task.worker_ids) == ("RUNNING", 1, ["host-a:9"])
    assert task.started_at == task.last_attempted_at is not None


def test_a_later_attempt_keeps_the_start_of_the_first():
    first_start = timezone.now() - timedelta(hours=1)
    task = rows.claimed(attempts=1, worker_ids=["host-a:1"], started_at=first_start, last_attempted_at=first_start)
    attempt = leases.start(task.pk, task.lease_id, "host-a:2")
    task.refresh_from_db()
    assert attempt is not None
    assert attempt.number == 2
    assert (task.started_at, task.worker_ids) == (first_start, ["host-a:1", "host-a:2"])
    assert task.last_attempted_at > first_start + timedelta(minutes=59)


def test_a_stale_lease_starts_nothing():
    task = rows.claimed()
    before = rows.state(task)
    assert leases.start(task.pk, uuid.uuid4(), "host-a:9") is None
    assert leases.start(task.pk + 1, task.lease_id, "host-a:9") is None
    assert rows.state(task) == before


@pytest.mark.parametrize("build", [rows.running, rows.successful, rows.failed, rows.ready])
def test_a_row_that_is_not_claimed_cannot_be_started(build):
    task = build()
    before = rows.state(task)
    assert leases.start(task.pk, task.lease_id or uuid.uuid4(), "host-a:9") is None
    assert rows.state(task) == before


# finish --------------------------------------------------------------------------------------------------------------


def test_succeed_ends_the_lease_and_keeps_the_value():
    task = rows.running()
    leases.succeed(rows.attempt_of(task), '{"a": [1, "ä"]}')
    task.refresh_from_db()
    assert (task.status, task.return_value) == ("SUCCESSFUL", {"a": [1, "ä"]})
    assert (task.lease_id, task.leased_at, task.cluster_id) == (None, None, None)
    assert task.finished_at is not None


def test_a_failure_with_attempts_left_is_kept_and_the_task_waits_for_its_backoff():
    task = rows.running(max_attempts=2)
    assert leases.fail(rows.attempt_of(task), BROKEN, timedelta(minutes=10)) is Outcome.AGAIN
    task.refresh_from_db()
    assert (task.status, task.attempts, task.lease_id, task.finished_at) == ("READY", 1, None, None)
    assert 590 < rows.seconds_from_now(task) < 610
    kept = TaskError.objects.get(task=task)
    assert (kept.attempt, kept.kind, kept.exception_path, kept.message, kept.traceback, kept.worker_id) == (
        1, "exception", "builtins.ValueError", "no luck", "Traceback ...", rows.WORKER,
    )  # fmt: skip


def test_a_task_that_goes_back_without_a_delay_is_due_in_the_same_millisecond():
    for _number in range(20):
        task = rows.running()
        leases.give_back(rows.attempt_of(task), timedelta())
        assert claim_ids() == [task.pk]


def test_the_failure_of_the_last_attempt_is_final():
    task = rows.running(max_attempts=1)
    assert leases.fail(rows.attempt_of(task), BROKEN, timedelta()) is Outcome.FAILED
    task.refresh_from_db()
    assert (task.status, task.lease_id, task.discarded_at) == ("FAILED", None, None)
    assert task.finished_at is not None
    assert rows.errors_of(task) == [(1, "exception", "no luck")]


def test_a_failure_without_a_delay_is_final_whatever_attempts_are_left():
    task = rows.running(max_attempts=9)
    assert leases.fail(rows.attempt_of(task), BROKEN, None, on_purpose=True) is Outcome.FAILED
    task.refresh_from_db()
    assert task.status == "FAILED"
    assert task.discarded_at is not None


def test_an_error_that_postgresql_could_not_store_is_kept_with_replacements():
    task = rows.running()
    leases.fail(rows.attempt_of(task), Failure(TaskError.Kind.EXCEPTION, "x" * 300, "a\x00b", "c\x00d"), None)
    kept = TaskError.objects.get(task=task)
    assert (kept.exception_path, kept.message, kept.traceback) == ("x" * 255, "a\ufffdb", "c\ufffdd")


def test_give_back_undoes_the_attempt():
    task = rows.running(attempts=2, worker_ids=["host-a:1", rows.WORKER])
    leases.give_back(rows.attempt_of(task), timedelta(minutes=5))
    task.refresh_from_db()
    assert (task.status, task.attempts, task.worker_ids, task.lease_id) == ("READY", 1, ["host-a:1"], None)
    assert 290 < rows.seconds_from_now(task) < 310
    assert rows.errors_of(task) == []


def test_give_back_keeps_why_if_it_is_told():
    task = rows.running()
    leases.give_back(rows.attempt_of(task), timedelta(), Failure(TaskError.Kind.INTERRUPTED, message="stopped"))
    assert rows.errors_of(task) == [(1, "interrupted", "stopped")]


FINISHES = {
    "succeed": lambda attempt: leases.succeed(attempt, "1"),
    "fail": lambda attempt: leases.fail(attempt, BROKEN, timedelta()),
    "fail for good": lambda attempt: leases.fail(attempt, BROKEN, None),
    "give back": lambda attempt: leases.give_back(attempt, timedelta(), BROKEN),
}


@pytest.mark.parametrize("finish", FINISHES.values(), ids=FINISHES)
@pytest.mark.parametrize("taken", ["running elsewhere", "claimed elsewhere", "waiting", "successful", "failed"])
def test_a_late_finisher_changes_nothing(finish, taken):
    task = rows.running()
    late = rows.attempt_of(task)
    other = {"lease_id": uuid.uuid4(), "leased_at": Now(), "cluster": rows.cluster_row(pid=2)}
    free = {"lease_id": None, "leased_at": None, "cluster": None}
    Task.objects.filter(pk=task.pk).update(
        **{
            "running elsewhere": other | {"attempts": 2, "worker_ids": [rows.WORKER, "host-b:2"]},
            "claimed elsewhere": other | {"status": "READY"},
            "waiting": free | {"status": "READY"},
            "successful": free | {"status": "SUCCESSFUL", "finished_at": Now(), "return_value": 7},
            "failed": free | {"status": "FAILED", "finished_at": Now()},
        }[taken]
    )
    before = rows.state(task)

    with pytest.raises(LeaseLost) as lost:
        finish(late)

    assert str(lost.value) == f"task {task.pk}: attempt 1 was given to another worker"
    assert rows.state(task) == before
    assert rows.errors_of(task) == []


def test_the_outcome_that_came_too_late_is_kept_as_superseded():
    task = rows.running()
    before = rows.state(task)
    leases.refuse(rows.attempt_of(task), "Attempt 1 came too late.")
    assert rows.state(task) == before
    assert rows.errors_of(task) == [(1, "superseded", "Attempt 1 came too late.")]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="on SQLite an open transaction locks all rows at once")
@pytest.mark.django_db(transaction=True)
def test_a_row_that_a_transaction_has_locked_does_not_stop_the_rescue_of_others():
    holder = rows.cluster_row(heartbeat_age=3600)
    locked, other = rows.running(holder=holder), rows.running(holder=holder)
    with transaction.atomic():
        Task.objects.select_for_update().get(pk=locked.pk)
        assert rows.in_another_thread(rescue.rescue_dead_clusters) == 1
    assert (rows.state(locked)["status"], rows.state(other)["status"]) == ("RUNNING", "READY")
    assert rescue.rescue_dead_clusters() == 1


# cancelled while it runs ---------------------------------------------------------------------------------------------


def cancelled(**values) -> Task:
    return rows.running(cancel_requested_at=Now(), cancel_requested_by="operator@example.org", **values)


ENDS = {
    "fails with attempts left": lambda task: leases.fail(rows.attempt_of(task), BROKEN, timedelta()),
    "fails for good": lambda task: leases.fail(rows.attempt_of(task), BROKEN, None),
    "snoozes": lambda task: leases.give_back(rows.attempt_of(task), timedelta(hours=1)),
    "is interrupted": lambda task: leases.give_back(
        rows.attempt_of(task), timedelta(), Failure(TaskError.Kind.INTERRUPTED, message="stopped")
    ),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_whatever_ends_a_cancelled_attempt_ends_the_task(end):
    task = cancelled(max_attempts=9)
    assert end(task) is Outcome.CANCELLED
    task.refresh_from_db()
    assert (task.status, task.attempts, task.lease_id) == ("FAILED", 1, None)
    assert task.discarded_at is not None
    ((number, kind, message),) = rows.errors_of(task)
    assert (number, kind) == (1, "cancelled")
    assert message.startswith("Cancelled by operator@example.org.")


def test_the_error_of_a_cancelled_attempt_is_kept():
    task = cancelled()
    leases.fail(rows.attempt_of(task), BROKEN, timedelta())
    kept = TaskError.objects.get(task=task)
    assert kept.message == "Cancelled by operator@example.org. It ended so: raised an exception. no luck"
    assert (kept.exception_path, kept.traceback) == ("builtins.ValueError", "Traceback ...")


def test_a_cancelled_task_that_succeeds_all_the_same_is_successful():
    task = cancelled()
    leases.succeed(rows.attempt_of(task), "1")
    task.refresh_from_db()
    assert (task.status, rows.errors_of(task)) == ("SUCCESSFUL", [])


def test_a_worker_that_dies_with_a_cancelled_task_leaves_it_cancelled():
    task = cancelled(max_attempts=9)
    assert rescue.rescue_lost_workers(task.cluster_id, lambda name: False) == 1
    task.refresh_from_db()
    assert (task.status, [kind for _number, kind, _message in rows.errors_of(task)]) == ("FAILED", ["cancelled"])


def test_requests_to_cancel_are_told_to_the_cluster_that_runs_the_task():
    task = cancelled()
    Task.objects.filter(pk=task.pk).update(cancel_requested_at=Now() - timedelta(seconds=30))
    cancelled(), rows.running(holder=Cluster.objects.get(pk=task.cluster_id))
    ((task_id, worker, age),) = rescue.cancel_requests(task.cluster_id)
    assert (task_id, worker) == (task.pk, rows.WORKER)
    assert 29 < age < 60


# a write that was committed, and whose answer got lost ---------------------------------------------------------------


def test_a_start_that_was_committed_is_found_by_its_worker_only():
    task = rows.running(args=[1, 2])
    assert leases.started(task.pk, task.lease_id, rows.WORKER) == rows.attempt_of(task)
    assert leases.started(task.pk, task.lease_id, "host-a:1:else") is None
    assert leases.started(task.pk, uuid.uuid4(), rows.WORKER) is None


def test_an_outcome_that_was_committed_is_known_to_be_ones_own():
    success, failure, lost, late = (rows.running(max_attempts=1) for _ in range(4))
    mine = [rows.attempt_of(task) for task in (success, failure, lost, late)]
    assert not any(leases.is_concluded(attempt) for attempt in mine)
    leases.succeed(mine[0], "1")
    leases.fail(mine[1], BROKEN, None)
    rescue.rescue_lost_workers(lost.cluster_id, lambda name: False)
    leases.refuse(mine[3], "too late")
    assert [leases.is_concluded(attempt) for attempt in mine] == [True, True, False, False]


# the end of one and the start of the next ----------------------------------------------------------------------------


@pytest.mark.parametrize("is_durable", [True, False])
def test_succeed_and_start_do_what_each_does_alone(is_durable):
    task, following = rows.running(), rows.claimed(args=[3])
    ours, attempt = leases.succeed_and_start(
        rows.attempt_of(task), "[1]", following.pk, following.lease_id, is_durable=is_durable
    )
    task.refresh_from_db()
    following.refresh_from_db()
    assert (ours, task.status, task.return_value, task.lease_id) == (True, "SUCCESSFUL", [1], None)
    assert attempt == rows.attempt_of(following)
    assert (following.status, following.attempts, following.worker_ids) == ("RUNNING", 1, [rows.WORKER])


def test_succeed_and_start_judge_each_row_for_itself():
    task, following = rows.running(), rows.claimed()
    stale = rows.attempt_of(task)
    Task.objects.filter(pk=task.pk).update(lease_id=uuid.uuid4())
    before = rows.state(task)
    ours, attempt = leases.succeed_and_start(stale, "1", following.pk, following.lease_id, is_durable=True)
    assert (ours, rows.state(task)) == (False, before)
    assert attempt is not None

    task = rows.running()
    ours, attempt = leases.succeed_and_start(rows.attempt_of(task), "1", 0, uuid.uuid4(), is_durable=True)
    assert (ours, attempt, rows.state(task)["status"]) == (True, None, "SUCCESSFUL")


# release -------------------------------------------------------------------------------------------------------------


def test_release_gives_back_what_the_cluster_claimed_and_did_not_start():
    mine, other = rows.cluster_row(), rows.cluster_row(pid=2)
    claimed, running = rows.claimed(holder=mine, age=1), rows.running(holder=mine, age=1)
    theirs = rows.claimed(holder=other, age=1)
    before = rows.state(running), rows.state(theirs)

    assert leases.release(mine.pk) == 1

    claimed.refresh_from_db()
    assert (claimed.status, claimed.lease_id, claimed.leased_at, claimed.cluster_id) == ("READY", None, None, None)
    assert (rows.state(running), rows.state(theirs)) == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one lock for all")
@pytest.mark.parametrize("release", [lambda holder: leases.release(holder.pk), lambda _: rescue.rescue_dead_clusters()])
def test_release_waits_for_no_lock(release):
    """It has those of other rows, and a worker has two: they must not wait for each other."""
    holder = rows.cluster_row(heartbeat_age=3600)
    free, moving = rows.claimed(holder=holder, age=1), rows.claimed(holder=holder, age=1)

    def impatiently() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        return release(holder)

    with transaction.atomic():
        Task.objects.select_for_update().get(pk=moving.pk)
        assert in_another_thread(impatiently) == 1
    assert list(Task.objects.waiting()) == [free]
    assert release(holder) == 1


def test_release_takes_only_what_was_claimed_that_long_ago():
    holder = rows.cluster_row()
    old, new = rows.claimed(holder=holder, age=10), rows.claimed(holder=holder, age=1)
    assert leases.release(holder.pk, older_than=timedelta(seconds=5)) == 1
    assert list(Task.objects.waiting()) == [old]
    assert rows.state(new)["lease_id"] == new.lease_id
