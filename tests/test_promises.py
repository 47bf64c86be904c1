"""What Steward promises, and the tests that prove it: they kill real processes, or talk to real servers.

A section for each promise, with the tests that no other file has. That those in PROOFS exist is tested at the end.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import Counter
from contextlib import suppress
from functools import partial

import pytest

from tasks.audit import audit
from tasks.models import Cluster, Task
from tests.index import missing, names_in
from tests.processes import Process, database_url, group_members, tree, until
from tests.tasks import rows
from tests.tasks.rows import finished, kinds, row
from tests.work import tasks as work
from tests.work.models import Effect

HERE = "test_promises.py"
PROOFS: dict[int, list[str]] = {}


# 1. A task is accepted if and only if the transaction of its enqueue committed.

PROOFS[1] = [
    f"{HERE}::test_a_process_that_is_killed_before_the_commit_leaves_nothing",
    f"{HERE}::test_a_process_that_is_killed_right_after_the_commit_leaves_a_task_that_runs",
    "e2e/test_signup.py::test_a_process_that_dies_before_the_commit_leaves_neither_the_user_nor_the_task",
]


def let_a_producer_die(when: str, tmp_path) -> None:
    command = [sys.executable, "-m", "tests.work.dying_producer", when]
    producer = Process(tmp_path / "producer.log", *command, DATABASE_URL=database_url()).start()
    assert producer.wait() == -signal.SIGKILL, producer.log()


def test_a_process_that_is_killed_before_the_commit_leaves_nothing(transactional_db, tmp_path):
    let_a_producer_die("before", tmp_path)
    assert (Task.objects.count(), Effect.objects.count()) == (0, 0)


def test_a_process_that_is_killed_right_after_the_commit_leaves_a_task_that_runs(cluster, tmp_path):
    let_a_producer_die("after", tmp_path)
    task = Task.objects.get()
    assert (task.status, task.lease_id) == ("READY", None)
    cluster()
    until(lambda: finished(task))
    assert row(task).status == "SUCCESSFUL"
    assert [effect.name for effect in Effect.objects.order_by("pk")] == ["what the task is about", "of the task"]


# 2. An accepted task waits, runs, has succeeded or has failed; none is lost, whatever dies.

PROOFS[2] = [
    f"{HERE}::test_no_task_is_lost_and_no_law_broken_while_processes_are_killed",
    "tasks/test_cluster.py::test_a_child_may_be_killed_and_the_cluster_works_again",
    "tasks/test_cluster.py::test_idle_workers_may_be_killed_one_after_the_other_and_the_cluster_works_on",
    "tasks/test_audit.py::test_what_the_database_forbids_would_be_found_too",
]


def test_no_task_is_lost_and_no_law_broken_while_processes_are_killed(cluster):
    random.seed(4711)
    clusters = [cluster("--workers", "2", TASKS_LEASE="3") for _number in range(2)]
    results = [work.sleep.using(priority=-1).enqueue(0.05, f"slept {number}") for number in range(100)]
    results += [work.atomic_effect.enqueue(f"atomic {number}") for number in range(100)]
    results += [work.fail.enqueue() for _number in range(20)]
    for number in range(8):
        parents = {process.pid for process in clusters}
        victims = until(
            lambda parents=parents: [pid for group in parents for pid in set(group_members(group)) - parents]
        )
        if number == 4:  # one time a whole tree, and another takes its place
            clusters[0].send(signal.SIGKILL, group=True)
            clusters[0].wait()
            clusters[0] = cluster("--workers", "2", TASKS_LEASE="3")
        else:
            victim = random.choice(victims)
            with suppress(ProcessLookupError):  # killed before, and gone meanwhile
                os.kill(victim, signal.SIGKILL)
        left = len(results) - 22 * (number + 1)  # the kills are spread over the work
        until(lambda left=left: Task.objects.filter(finished_at=None).count() <= max(left, 0), 30, f"{left} are left")
    until(lambda: finished(*results))

    assert audit() | {"laws": {}} == {
        "ok": True, "accepted": 220, "waiting": 0, "leased": 0, "ended": 220, "pruned": 0, "laws": {},
    }  # fmt: skip
    effects = Counter(Effect.objects.values_list("name", flat=True))
    for task in Task.objects.exclude(task_path=work.fail.module_path):
        name = task.args[-1]
        assert effects[name] == (task.status == "SUCCESSFUL") or not name.startswith("atomic")
        assert effects[name] >= (task.status == "SUCCESSFUL")


# 3. No two attempts of a task hold a live lease at the same time; the outcome of the one that lost it is refused.

PROOFS[3] = [
    f"{HERE}::test_a_cluster_that_was_only_asleep_has_lost_its_task_and_its_outcome_is_refused",
    "tasks/test_hazards.py::test_no_child_outlives_the_sentinel_so_its_task_runs_once_at_a_time",
    "tasks/test_hazards.py::test_what_waits_behind_a_long_task_runs_elsewhere_and_only_there",
    "tasks/test_rescue.py::test_the_dead_worker_that_was_only_asleep_finds_its_lease_gone",
    "tasks/test_leases.py::test_clusters_that_claim_at_the_same_time_share_the_rows",
    "tasks/test_runner.py::test_a_late_finisher_changes_nothing_and_its_outcome_is_kept_as_superseded",
]


def test_a_cluster_that_was_only_asleep_has_lost_its_task_and_its_outcome_is_refused(cluster):
    clusters = [cluster("--workers", "1", TASKS_LEASE="3") for _number in range(2)]
    result = work.process_id.enqueue(3)
    until(lambda: row(result).status == "RUNNING")
    asleep, other = sorted(clusters, key=lambda process: process.pid != row(result).cluster.pid)
    late_worker, next_worker = tree(asleep, workers=1)[1], tree(other, workers=1)[1]
    asleep.send(signal.SIGSTOP, group=True)
    try:
        until(lambda: row(result).attempts == 2, 15, "the other cluster has taken the task over")
    finally:
        asleep.send(signal.SIGCONT, group=True)
    until(lambda: kinds(result) == ["lost", "superseded"], 5, "the late outcome is refused")
    assert (row(result).status, row(result).return_value) == ("RUNNING", None)

    until(lambda: finished(result))
    task = row(result)
    assert (task.status, task.attempts, task.return_value) == ("SUCCESSFUL", 2, next_worker)
    assert rows.errors_of(task)[1][2].startswith("Attempt 1 came too late: the task was given to another worker.")
    assert [worker_id.split(":")[1] for worker_id in task.worker_ids] == [str(late_worker), str(next_worker)]
    until(lambda: Cluster.objects.alive().count() == 2, 5, "the one that was asleep lives on")


# 4. An attempt counts when the code is about to start; to wait, to be drained and to snooze costs none.

PROOFS[4] = [
    f"{HERE}::test_waiting_snoozing_and_draining_cost_no_attempt",
    "tasks/test_cluster.py::test_sigterm_lets_running_tasks_end_and_gives_back_what_has_not_started",
    "tasks/test_cluster.py::test_a_task_longer_than_the_grace_is_interrupted_and_uses_no_attempt",
    "tasks/test_cluster.py::test_a_task_that_kills_its_worker_is_rescued_counted_and_failed",
    "tasks/test_cluster.py::test_an_outage_longer_than_the_lease_costs_no_attempt",
    "tasks/test_hazards.py::test_code_that_does_not_end_when_it_is_interrupted_is_killed_and_uses_no_attempt",
]


def test_waiting_snoozing_and_draining_cost_no_attempt(cluster):
    process = cluster("--workers", "1", TASKS_SHUTDOWN_GRACE="0.2")
    snoozed = work.snooze.enqueue()
    until(lambda: "snoozed for" in process.log())
    running, *waiting = rows.behind_quick_ones(
        work.add, partial(work.sleep.enqueue, 60), *[partial(work.add.enqueue, 1) for _number in range(5)]
    )
    until(lambda: row(running).status == "RUNNING")
    until(lambda: Task.objects.filter(status="READY", lease_id__isnull=False).exists(), what="some are claimed")
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    tasks = [row(result) for result in (snoozed, running, *waiting)]
    assert {(task.status, task.attempts, len(task.worker_ids), task.lease_id) for task in tasks} == {
        ("READY", 0, 0, None)
    }
    assert [kinds(result) for result in (snoozed, running, *waiting)] == [[], ["interrupted"], [], [], [], [], []]


# 5. Effects outside of the database happen at least once; effects inside it exactly once with atomic=True.

PROOFS[5] = [
    f"{HERE}::test_a_worker_killed_before_the_commit_of_an_atomic_task_leaves_the_effect_to_the_next_attempt",
    f"{HERE}::test_a_worker_killed_right_after_the_commit_of_an_atomic_task_has_done_it",
    f"{HERE}::test_a_task_that_is_not_atomic_runs_again_when_its_worker_is_killed_at_its_end",
    f"{HERE}::test_no_task_is_lost_and_no_law_broken_while_processes_are_killed",
    "tasks/test_cluster.py::test_an_atomic_task_leaves_its_effect_once",
]


def test_a_worker_killed_before_the_commit_of_an_atomic_task_leaves_the_effect_to_the_next_attempt(cluster, tmp_path):
    cluster("--workers", "1")
    result = work.atomic_effect_then_die.enqueue("once", str(tmp_path / "died"))
    until(lambda: finished(result))
    assert (row(result).status, row(result).attempts, kinds(result)) == ("SUCCESSFUL", 2, ["lost"])
    assert Effect.objects.count() == 1


def test_a_worker_killed_right_after_the_commit_of_an_atomic_task_has_done_it(cluster, tmp_path):
    process = cluster("--workers", "1")
    worker = tree(process, workers=1)[1]
    result = work.atomic_effect_then_die_after_the_commit.enqueue("once", str(tmp_path / "died"))
    until(lambda: worker not in tree(process, workers=1) and tree(process, workers=1), what="another worker")
    after = work.add.enqueue(1)
    until(lambda: finished(result, after))
    assert (tmp_path / "died").exists()
    assert (row(result).status, row(result).attempts, kinds(result)) == ("SUCCESSFUL", 1, [])
    assert Effect.objects.count() == 1


def test_a_task_that_is_not_atomic_runs_again_when_its_worker_is_killed_at_its_end(cluster, tmp_path):
    cluster("--workers", "1")
    result = work.effect_then_die.enqueue("again", str(tmp_path / "died"))
    until(lambda: finished(result))
    assert (row(result).status, row(result).attempts, kinds(result)) == ("SUCCESSFUL", 2, ["lost"])
    assert Effect.objects.count() == 2


# 6. Each due time of a schedule has exactly one tick.

PROOFS[6] = [
    "tasks/test_schedules.py::test_two_clusters_settle_each_second_once",
    "tasks/test_schedules.py::test_whoever_is_killed_no_due_time_is_lost_or_settled_twice",
    "tasks/test_schedules.py::test_after_a_downtime_the_latest_due_time_runs_for_all",
    "tasks/test_a_year_of_schedules.py::test_each_due_time_of_a_year_has_exactly_one_tick_and_the_right_one",
    "tasks/test_ticks.py::test_the_database_refuses_a_second_tick_for_a_due_time",
]


# 7. A signup is answered the same whether the mail server is up or down, and whether the address was known or not.

PROOFS[7] = [
    "e2e/test_signup.py::test_a_mail_server_that_is_away_is_not_noticed_by_a_signup_and_gets_the_mail_when_it_is_back",
    "e2e/test_signup.py::test_a_known_address_gets_the_same_answer_and_a_mail_that_says_so",
    "accounts/test_signup.py::test_a_known_address_gets_the_same_answer_as_a_new_one",
    "accounts/test_signup.py::test_a_known_address_runs_the_same_statements_as_a_new_one",
]

# 8. No secret is stored: tasks carry ids, links and tokens are made when the mail is sent.

PROOFS[8] = [
    "e2e/test_signup.py::test_no_table_has_a_token_or_a_password",
    "e2e/test_signup.py::test_no_log_line_has_a_token_or_a_password",
    "accounts/test_tasks.py::test_a_task_carries_an_id_and_nothing_else",
    "accounts/test_signup.py::test_the_password_is_nowhere_but_in_its_hash",
]

# 9. What cannot be promised is written down: docs/tasks.md, "What is not promised". It happens like this:

PROOFS[9] = [
    "e2e/test_signup.py::test_a_mail_server_that_took_the_mail_and_then_said_no_gets_the_same_mail_again",
    f"{HERE}::test_a_task_that_is_not_atomic_runs_again_when_its_worker_is_killed_at_its_end",
    "tasks/test_cluster.py::test_the_third_lost_attempt_in_a_row_is_the_last_whatever_max_attempts_says",
]


# The index -----------------------------------------------------------------------------------------------------------


def test_each_promise_has_its_tests_and_they_exist():
    assert sorted(PROOFS) == list(range(1, 10))
    assert all(PROOFS.values())
    assert missing(name for names in PROOFS.values() for name in names) == []


def test_each_test_of_this_file_is_in_the_index():
    named = {name.partition("::")[2] for names in PROOFS.values() for name in names if name.startswith(HERE)}
    assert names_in(HERE) - named == {
        "test_each_promise_has_its_tests_and_they_exist",
        "test_each_test_of_this_file_is_in_the_index",
        "test_a_test_that_does_not_exist_is_found",
    }


@pytest.mark.parametrize("name", ["nowhere.py::test_x", "test_promises.py::test_x", "test_promises.py::missing", ""])
def test_a_test_that_does_not_exist_is_found(name):
    assert missing([name]) == [name]
