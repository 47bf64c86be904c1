"""Heartbeat, rescue, steps of the database's clock."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from tasks import leases, rescue
from tasks.exceptions import LeaseLost
from tasks.functions import registry
from tasks.models import Cluster, Task, TaskError
from tests.tasks import rows

pytestmark = pytest.mark.django_db


# steps of the clock --------------------------------------------------------------------------------------------------


def test_after_a_step_back_what_had_been_due_is_due_and_the_future_stays_the_future():
    had_been_due, later = rows.ready(due_in=3000), rows.ready(due_in=4000)
    dead = rows.cluster_row(heartbeat_age=-3500)
    assert rescue.notice_clock_step(timedelta(hours=-1)) == 1
    had_been_due.refresh_from_db()
    later.refresh_from_db()
    dead.refresh_from_db()
    assert rows.seconds_from_now(had_been_due) <= 1
    assert 3900 < rows.seconds_from_now(later) < 4100
    assert abs((timezone.now() - dead.heartbeat_at).total_seconds()) < 60


def test_after_a_step_forward_nothing_needs_mending():
    task = rows.ready(due_in=3000)
    before = rows.state(task)
    assert rescue.notice_clock_step(timedelta(hours=1)) == 0
    assert rows.state(task) == before


def test_the_time_of_the_database_is_told_with_its_zone():
    assert abs((rescue.database_time() - timezone.now()).total_seconds()) < 60


# heartbeat -----------------------------------------------------------------------------------------------------------


def age_of(cluster: Cluster) -> float:
    return (timezone.now() - Cluster.objects.get(pk=cluster.pk).heartbeat_at).total_seconds()


def test_a_heartbeat_makes_the_row_of_the_cluster_and_keeps_it_fresh():
    cluster = Cluster(host="host-a", pid=1, queues=["mail"])
    rescue.heartbeat(cluster)
    Cluster.objects.update(heartbeat_at=Now() - timedelta(seconds=60))
    cluster.workers = [2, 3]
    rescue.heartbeat(cluster)
    assert Cluster.objects.get().workers == [2, 3]
    assert age_of(cluster) < 5


def test_the_row_of_a_cluster_that_was_taken_for_dead_comes_back_fresh():
    cluster = rows.cluster_row(heartbeat_age=60)
    Cluster.objects.all().delete()
    rescue.heartbeat(cluster)
    assert age_of(cluster) < 5
    assert Cluster.objects.get().started_at == cluster.started_at


# rescue --------------------------------------------------------------------------------------------------------------

LOST = f"The worker {rows.WORKER} ended without a word: killed, out of memory, or its machine went away."
KILLED = "The code did not stop when its time was up, so its worker was killed."


def test_the_task_of_a_lost_worker_is_due_again_and_its_attempt_counts():
    holder = rows.cluster_row()
    task = rows.running(holder=holder, max_attempts=2)
    assert rescue.rescue_lost_workers(holder.pk, {"host-a:1"}.__contains__) == 1
    task.refresh_from_db()
    assert (task.status, task.attempts, task.worker_ids, task.lease_id) == ("READY", 1, [rows.WORKER], None)
    assert list(Task.objects.due()) == [task]
    assert rows.errors_of(task) == [(1, "lost", LOST)]
    assert TaskError.objects.get().exception_path == "tasks.exceptions.WorkerLost"


def test_the_task_of_a_lost_worker_fails_if_it_was_the_last_attempt():
    holder = rows.cluster_row()
    task = rows.running(holder=holder, max_attempts=1)
    assert rescue.rescue_lost_workers(holder.pk, lambda worker: False) == 1
    task.refresh_from_db()
    assert task.status == "FAILED"


def test_tasks_of_living_workers_and_of_other_clusters_are_left_alone():
    holder = rows.cluster_row()
    alive, theirs, claimed = rows.running(holder=holder), rows.running(), rows.claimed(holder=holder)
    before = [rows.state(task) for task in (alive, theirs, claimed)]
    assert rescue.rescue_lost_workers(holder.pk, {rows.WORKER}.__contains__) == 0
    assert [rows.state(task) for task in (alive, theirs, claimed)] == before


def test_the_latest_worker_is_the_one_that_counts():
    holder = rows.cluster_row()
    rows.running(holder=holder, attempts=2, worker_ids=["gone", rows.WORKER])
    assert rescue.rescue_lost_workers(holder.pk, {rows.WORKER}.__contains__) == 0


def test_a_worker_that_was_killed_because_time_was_up_is_a_timeout():
    holder = rows.cluster_row()
    task = rows.running(holder=holder, max_attempts=2)
    assert rescue.rescue_lost_workers(holder.pk, lambda worker: False, frozenset([rows.WORKER])) == 1
    task.refresh_from_db()
    assert task.status == "READY"
    assert rows.errors_of(task) == [(1, "timeout", KILLED)]


@pytest.mark.parametrize(
    ("earlier", "status"),
    [
        (["lost", "lost"], "FAILED"),
        (["exception", "lost", "lost"], "FAILED"),
        (["lost"], "READY"),
        (["lost", "exception"], "READY"),
        (["lost", "lost", "exception"], "READY"),
        (["lost", "exception", "lost"], "READY"),
        (["lost", "timeout"], "READY"),
    ],
)
def test_the_third_lost_attempt_in_a_row_is_the_last(earlier, status):
    holder, number = rows.cluster_row(), len(earlier) + 1
    task = rows.running(holder=holder, attempts=number, worker_ids=[rows.WORKER] * number, max_attempts=100)
    for attempt, kind in enumerate(earlier, start=1):
        rows.error(task, attempt, kind)
    rescue.rescue_lost_workers(holder.pk, lambda worker: False)
    task.refresh_from_db()
    assert (task.status, task.lease_id) == (status, None)
    assert rows.errors_of(task)[-1] == (number, "lost", LOST)


def test_a_timeout_that_had_to_be_killed_does_not_count_as_lost():
    holder = rows.cluster_row()
    task = rows.running(holder=holder, attempts=3, worker_ids=[rows.WORKER] * 3, max_attempts=100)
    rows.error(task, 1, "lost")
    rows.error(task, 2, "lost")
    rescue.rescue_lost_workers(holder.pk, lambda worker: False, frozenset([rows.WORKER]))
    task.refresh_from_db()
    assert task.status == "READY"


def test_leases_of_a_cluster_without_a_fresh_heartbeat_are_taken(settings):
    settings.TASKS_LEASE = 15
    dead, alive = rows.cluster_row(heartbeat_age=16), rows.cluster_row(heartbeat_age=10, pid=2)
    claimed, running = rows.claimed(holder=dead), rows.running(holder=dead)
    theirs = [rows.claimed(holder=alive), rows.running(holder=alive)]
    before = [rows.state(task) for task in theirs]

    assert rescue.rescue_dead_clusters() == 2

    claimed.refresh_from_db()
    running.refresh_from_db()
    assert (claimed.status, claimed.attempts, claimed.lease_id) == ("READY", 0, None)
    assert rows.errors_of(claimed) == []
    assert (running.status, running.attempts, running.lease_id) == ("READY", 1, None)
    assert rows.errors_of(running) == [(1, "lost", LOST)]
    assert [rows.state(task) for task in theirs] == before
    assert list(Cluster.objects.all()) == [alive]


def test_leases_of_a_cluster_that_has_no_row_any_more_are_taken():
    holder = rows.cluster_row()
    task = rows.claimed(holder=holder)
    Cluster.objects.all().delete()
    assert rescue.rescue_dead_clusters() == 1
    assert list(Task.objects.waiting()) == [task]


def test_the_lease_time_is_a_setting(settings):
    settings.TASKS_LEASE = 60
    rows.claimed(holder=rows.cluster_row(heartbeat_age=40))
    assert rescue.rescue_dead_clusters() == 0
    settings.TASKS_LEASE = 40
    assert rescue.rescue_dead_clusters() == 1


def test_the_dead_worker_that_was_only_asleep_finds_its_lease_gone():
    task = rows.running(holder=rows.cluster_row(heartbeat_age=3600))
    rescue.rescue_dead_clusters()
    with pytest.raises(LeaseLost):
        leases.succeed(rows.attempt_of(task), "1")
    (lease,) = leases.claim(rows.cluster_row().pk, 10, ["default"], registry)
    assert lease.lease_id != task.lease_id


def test_sign_off_takes_no_attempt_from_what_still_ran_and_leaves_no_row_of_the_cluster():
    holder, other = rows.cluster_row(), rows.cluster_row(pid=2)
    running, claimed = rows.running(holder=holder), rows.claimed(holder=holder, age=1)
    theirs = rows.running(holder=other)

    rescue.sign_off(holder.pk)

    running.refresh_from_db()
    claimed.refresh_from_db()
    assert (running.status, running.attempts, running.worker_ids, running.lease_id) == ("READY", 0, [], None)
    assert rows.errors_of(running) == [
        (1, "interrupted", "Its cluster stopped, and its code did not end within the grace, so its worker was killed.")
    ]
    assert (claimed.status, claimed.lease_id) == ("READY", None)
    assert rows.state(theirs)["lease_id"] == theirs.lease_id
    assert list(Cluster.objects.all()) == [other]
