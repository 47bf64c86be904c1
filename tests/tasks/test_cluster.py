"""The tree of processes: real clusters on a real database."""

from __future__ import annotations

import os
import resource
import signal
import time
from functools import partial

import pytest

from tasks.models import Cluster, Task
from tests.processes import group_members, no_database, tree, until
from tests.tasks import rows
from tests.tasks.rows import finished, kinds, row
from tests.work import tasks as work
from tests.work.models import Effect


def test_a_cluster_runs_what_was_enqueued_and_stops_with_exit_code_0(cluster):
    process = cluster()
    results = [work.add.enqueue(number, b=1) for number in range(20)]
    until(lambda: finished(*results))
    assert [row(result).return_value for result in results] == [number + 1 for number in range(20)]
    assert {row(result).attempts for result in results} == {1}

    process.send(signal.SIGTERM)
    assert process.wait() == 0
    assert group_members(process.pid) == []
    assert not Cluster.objects.exists()


def test_a_task_that_kills_its_worker_is_rescued_counted_and_failed(cluster):
    cluster()
    result, other = work.kill_worker.enqueue(), work.add.enqueue(1)
    until(lambda: finished(result, other))
    assert (row(result).status, row(result).attempts, kinds(result)) == ("FAILED", 2, ["lost", "lost"])
    assert row(other).status == "SUCCESSFUL"


def test_the_third_lost_attempt_in_a_row_is_the_last_whatever_max_attempts_says(cluster):
    cluster()
    result = work.kill_worker_again_and_again.enqueue()
    until(lambda: finished(result))
    assert (row(result).status, row(result).attempts, row(result).max_attempts) == ("FAILED", 3, 9)


def test_code_that_does_not_stop_when_its_time_is_up_is_killed_and_the_cluster_works_on(cluster):
    process = cluster("--workers", "1")
    result = work.swallow_the_timeout_for_ever.enqueue()
    until(lambda: row(result).status == "RUNNING")
    after = [work.add.enqueue(number) for number in range(5)]
    until(lambda: finished(result, *after))
    message = "The code did not stop when its time was up, so its worker was killed."
    assert rows.errors_of(row(result)) == [(1, "timeout", message)]
    assert {(row(other).status, row(other).attempts) for other in after} == {("SUCCESSFUL", 1)}
    assert row(result).worker_ids != row(after[0]).worker_ids
    assert len(until(lambda: tree(process, workers=1))) == 4


@pytest.mark.parametrize("to_the_group", [False, True], ids=["to the parent", "to the whole group"])
def test_sigterm_lets_running_tasks_end_and_gives_back_what_has_not_started(cluster, to_the_group):
    process = cluster("--workers", "1")
    running, *waiting = rows.behind_quick_ones(
        work.add,
        partial(work.sleep.enqueue, 1.5, "slept"),
        *[partial(work.effect.enqueue, f"waited {number}") for number in range(5)],
    )
    until(lambda: row(running).status == "RUNNING")
    until(lambda: Task.objects.filter(status="READY", lease_id__isnull=False).exists(), what="some are claimed")

    process.send(signal.SIGTERM, group=to_the_group)

    assert process.wait() == 0
    assert row(running).status == "SUCCESSFUL"
    assert {row(result).status for result in waiting} == {"READY"}
    assert not Task.objects.filter(lease_id__isnull=False).exists()
    assert [effect.name for effect in Effect.objects.all()] == ["slept"]
    assert group_members(process.pid) == []


def test_a_task_longer_than_the_grace_is_interrupted_and_uses_no_attempt(cluster):
    process = cluster(TASKS_SHUTDOWN_GRACE="0.5")
    result = work.sleep.enqueue(60)
    until(lambda: row(result).status == "RUNNING")

    asked_at = time.monotonic()
    process.send(signal.SIGTERM, group=True)

    assert process.wait() == 0
    assert time.monotonic() - asked_at < 0.5 + 3
    assert (row(result).status, row(result).attempts, row(result).worker_ids) == ("READY", 0, [])
    assert kinds(result) == ["interrupted"]


def test_a_task_sees_that_it_should_stop_once_the_cluster_drains(cluster):
    process = cluster()
    result = work.stop_when_told.enqueue()
    until(lambda: Effect.objects.filter(name="started").exists())
    process.send(signal.SIGINT)
    assert process.wait() == 0
    assert row(result).return_value == "stopped early"


def test_a_running_task_that_is_cancelled_is_told_and_ends(cluster):
    cluster()
    result = work.stop_when_told.enqueue()
    until(lambda: Effect.objects.filter(name="started").exists())
    assert Task.objects.filter(pk=result.id).cancel(by="alice") == 1
    until(lambda: finished(result), 5)
    assert (row(result).status, row(result).return_value) == ("SUCCESSFUL", "stopped early")


def test_a_running_task_that_does_not_stop_when_cancelled_is_interrupted_after_the_grace(cluster):
    cluster(TASKS_CANCEL_GRACE="0.5")
    result, other = work.sleep.enqueue(60), work.sleep.enqueue(2)
    until(lambda: row(result).status == row(other).status == "RUNNING")
    Task.objects.filter(pk=result.id).cancel(by="alice")
    until(lambda: finished(result), 5)
    assert (row(result).status, kinds(result)) == ("FAILED", ["cancelled"])
    until(lambda: finished(other))
    assert (row(other).status, kinds(other)) == ("SUCCESSFUL", [])


def test_code_that_goes_on_although_it_is_cancelled_is_killed(cluster):
    cluster(TASKS_CANCEL_GRACE="0")
    result = work.go_on_although_cancelled.enqueue()
    until(lambda: Effect.objects.filter(name="started").exists())
    Task.objects.filter(pk=result.id).cancel(by="alice")
    until(lambda: finished(result), 15)
    assert (row(result).status, row(result).attempts, kinds(result)) == ("FAILED", 1, ["cancelled"])


def test_the_whole_tree_goes_when_the_parent_is_killed_and_another_cluster_rescues(cluster):
    first = cluster(TASKS_LEASE="3")
    result = work.sleep.enqueue(2, "slept")
    until(lambda: row(result).status == "RUNNING")

    first.send(signal.SIGKILL)
    first.wait()
    until(lambda: group_members(first.pid) == [], 5, "the tree is gone")

    cluster(TASKS_LEASE="3")
    until(lambda: finished(result))
    assert (row(result).status, kinds(result)) == ("SUCCESSFUL", ["lost"])
    assert Effect.objects.count() == 1
    assert Cluster.objects.count() == 1


@pytest.mark.parametrize("victim", ["sentinel", "pusher", "housekeeper"])
def test_a_child_may_be_killed_and_the_cluster_works_again(cluster, victim):
    process = cluster("--workers", "2")
    sentinel, _worker, _other, pusher, housekeeper = until(lambda: tree(process))
    os.kill({"sentinel": sentinel, "pusher": pusher, "housekeeper": housekeeper}[victim], signal.SIGKILL)
    results = [work.add.enqueue(number) for number in range(10)]
    until(lambda: finished(*results), 15)
    assert len(until(lambda: tree(process), 15)) == 5


def test_idle_workers_may_be_killed_one_after_the_other_and_the_cluster_works_on(cluster):
    process = cluster("--workers", "2")
    sentinel, first, second, pusher, housekeeper = until(lambda: tree(process))
    for victim in (first, second):  # one of them is the one that the next package would go to
        os.kill(victim, signal.SIGKILL)
        results = [work.add.enqueue(number) for number in range(10)]
        until(lambda results=results: finished(*results), 15)
        now = until(lambda victim=victim: victim not in tree(process) and tree(process), 15)
        assert {sentinel, pusher, housekeeper} < set(now)


def test_queues_are_served_by_the_clusters_that_name_them(cluster):
    cluster("--queues", "mail")
    mail, default = work.urgent_mail.enqueue(1), work.add.enqueue(1)
    until(lambda: finished(mail))
    assert row(default).status == "READY"


def test_a_task_that_no_release_knows_waits_and_hurts_nobody(cluster):
    stranger = Task.objects.create(task_path="shop.tasks.gone", queue_name="default", max_attempts=3)
    known = work.add.enqueue(1)
    cluster()
    until(lambda: finished(known))
    stranger.refresh_from_db()
    assert (stranger.status, stranger.attempts, stranger.lease_id) == ("READY", 0, None)


def test_an_atomic_task_leaves_its_effect_once(cluster):
    cluster()
    good, bad = work.atomic_effect.enqueue("good"), work.atomic_effect.enqueue("bad", fail=True)
    until(lambda: finished(good, bad))
    assert (row(good).status, row(bad).status) == ("SUCCESSFUL", "FAILED")
    assert [effect.name for effect in Effect.objects.all()] == ["good"]


def wait_for_beats(process) -> None:
    """Wait for two heartbeats of the cluster: then it has looked at the others between them."""
    for _beat in range(2):
        before = Cluster.objects.get(pid=process.pid).heartbeat_at
        until(Cluster.objects.filter(pid=process.pid, heartbeat_at__gt=before).exists, what="a heartbeat")


def test_an_outage_longer_than_the_lease_costs_no_attempt(cluster):
    clusters = {queue: cluster("--workers", "1", "--queues", queue, TASKS_LEASE="3") for queue in ("mail", "default")}
    in_the_outage, after_it = work.sleep.using(queue_name="mail").enqueue(2), work.sleep.enqueue(8)  # where each ends
    results = [in_the_outage, after_it]
    until(lambda: all(row(result).status == "RUNNING" for result in results))
    quick, slow = clusters.values()
    with no_database():
        time.sleep(5)  # longer than the lease, so that to each cluster the other looks dead
        os.kill(tree(slow, workers=1)[-1], signal.SIGSTOP)  # its housekeeper, between two tries
    try:
        wait_for_beats(quick)
    finally:
        os.kill(tree(slow, workers=1)[-1], signal.SIGCONT)
    until(lambda: finished(*results))
    assert [(row(result).status, row(result).attempts, kinds(result)) for result in results] == [
        ("SUCCESSFUL", 1, []),
        ("SUCCESSFUL", 1, []),
    ]
    assert Cluster.objects.alive().count() == 2


def test_a_cluster_that_starts_right_after_an_outage_lets_the_others_speak_first(cluster):
    old = cluster("--workers", "1", TASKS_LEASE="3")
    housekeeper = tree(old, workers=1)[-1]
    result = work.sleep.enqueue(8)
    until(lambda: row(result).status == "RUNNING")
    with no_database():
        time.sleep(4)  # longer than the lease
        os.kill(housekeeper, signal.SIGSTOP)  # between two tries, which are up to two seconds apart
    try:
        wait_for_beats(cluster("--workers", "1", TASKS_LEASE="3"))
    finally:
        os.kill(housekeeper, signal.SIGCONT)
    assert kinds(result) == []
    until(lambda: finished(result))
    assert (row(result).status, row(result).attempts, kinds(result)) == ("SUCCESSFUL", 1, [])


def test_a_sentinel_that_fails_ends_at_once_with_its_tree_and_is_replaced(cluster):
    process = cluster("--workers", "2")
    before = tree(process)
    _soft, hard = resource.prlimit(before[0], resource.RLIMIT_NOFILE)
    resource.prlimit(before[0], resource.RLIMIT_NOFILE, (3, hard))  # so that its next look at its children fails
    until(lambda: not {*before} & {*group_members(process.pid)}, 5, "it is gone with its children")
    results = [work.add.enqueue(number) for number in range(10)]
    until(lambda: finished(*results))
    assert len(until(lambda: tree(process))) == 5
    assert "OSError" in process.log()
