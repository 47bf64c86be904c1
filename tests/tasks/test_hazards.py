"""What django-q2 1.11 does to tasks and clusters if it is let, and the test of each guard against it.

A section for each hazard: what happens, how Steward stands to it, the tests that go red without the guard. Those in
other files are named in PROOFS; that they exist is tested at the end.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_q import models as django_q
from django_q.brokers import get_broker
from django_q.conf import Conf
from django_q.scheduler import scheduler

from tasks import leases, runner
from tasks.functions import registry
from tasks.leases import Failure
from tasks.models import Cluster, Task, TaskError
from tasks.shared import Flag, fork
from tests.index import missing, names_in
from tests.processes import ROOT, group_members, tree, until
from tests.tasks import rows
from tests.tasks.rows import finished, kinds, row
from tests.work import tasks as work
from tests.work.models import Effect

HERE = "tasks/test_hazards.py"
PROOFS: dict[int, list[str]] = {}


def lines_of(process, level: str) -> list[str]:
    return [line for line in process.log().splitlines() if re.search(rf"\b{level}\b", line)]


# 1. A worker that dies in a task uses no attempt, so the task comes back for ever; so do sys.exit(), KeyboardInterrupt,
#    a result that cannot be pickled; a coroutine is never awaited. -- The attempt is counted in the row before the code
#    runs, a worker that is gone is noticed, and the runner catches whatever the code does and returns None.

PROOFS[1] = [
    f"{HERE}::test_whatever_a_function_does_it_has_its_attempts_and_its_worker_lives_on",
    "tasks/test_cluster.py::test_a_task_that_kills_its_worker_is_rescued_counted_and_failed",
    "tasks/test_cluster.py::test_the_third_lost_attempt_in_a_row_is_the_last_whatever_max_attempts_says",
    "tasks/test_cluster.py::test_a_task_that_no_release_knows_waits_and_hurts_nobody",
    "tasks/test_runner.py::test_leaving_python_is_a_failed_attempt_like_any_other",
    "tasks/test_runner.py::test_a_return_value_that_is_no_json_is_dropped_and_the_task_successful",
    "tasks/test_runner.py::test_a_coroutine_function_is_run_to_its_end",
    "tasks/test_runner.py::test_a_path_that_is_not_registered_is_never_imported",
    "tasks/test_leases.py::test_start_counts_the_attempt_and_gives_the_worker_what_it_needs",
]


def test_whatever_a_function_does_it_has_its_attempts_and_its_worker_lives_on(cluster):
    process = cluster("--workers", "2")
    before = tree(process)
    ends = [
        (work.exit_python.enqueue(), "FAILED", ["exception", "exception"], None),
        (work.interrupt_keyboard.enqueue(), "FAILED", ["exception", "exception"], None),
        (work.raise_without_text.enqueue(), "FAILED", ["exception"], None),
        (work.return_an_object.enqueue(), "SUCCESSFUL", [], None),
        (work.add_async.enqueue(1, 2), "SUCCESSFUL", [], 3),
    ]
    until(lambda: finished(*(result for result, *end in ends)))
    for result, status, errors, value in ends:
        task = row(result)
        assert (task.status, kinds(result), task.return_value) == (status, errors, value)
        assert task.attempts == max(1, len(errors))
    assert tree(process) == before


# 2. A lease starts when the task is put in line, is never renewed, and what waits behind a long task runs again
#    elsewhere and then here too. -- A claim that does not start goes back after some seconds; starting is a
#    compare-and-set on the lease, so the package that is still in line does nothing.

PROOFS[2] = [
    f"{HERE}::test_what_waits_behind_a_long_task_runs_elsewhere_and_only_there",
    f"{HERE}::test_no_task_waits_behind_a_long_one_while_a_worker_of_another_cluster_is_free",
    "tasks/test_leases.py::test_a_stale_lease_starts_nothing",
    "tasks/test_leases.py::test_release_takes_only_what_was_claimed_that_long_ago",
    "tasks/test_runner.py::test_a_package_whose_lease_is_gone_does_nothing",
    "tasks/test_runner.py::test_a_package_runs_once_however_often_it_is_delivered",
]


def test_what_waits_behind_a_long_task_runs_elsewhere_and_only_there(cluster):
    busy = cluster("--workers", "1", "--queues", "default,mail", TASKS_LEASE="3")  # it looks round each 0.6 s
    before = tree(busy, workers=1)
    long, *waiting = rows.behind_quick_ones(
        work.add,
        lambda: work.sleep.enqueue(leases.CLAIM_LIFETIME.total_seconds() + 2.5),
        *[partial(work.effect.enqueue, f"{number}") for number in range(2)],
    )
    until(lambda: row(long).status == "RUNNING")
    until(lambda: Task.objects.filter(status="READY", lease_id__isnull=False).count() == 2, what="both are claimed")

    cluster("--workers", "1", "--queues", "default")
    until(lambda: finished(*waiting), 15)
    assert row(long).status == "RUNNING"
    last = work.urgent_mail.enqueue(1)  # in line behind the packages of what has run elsewhere
    until(lambda: finished(long, last))

    assert sorted(effect.name for effect in Effect.objects.all()) == ["0", "1"]
    assert [(row(result).status, row(result).attempts, kinds(result)) for result in waiting] == [
        ("SUCCESSFUL", 1, []),
        ("SUCCESSFUL", 1, []),
    ]
    assert tree(busy, workers=1) == before


def test_no_task_waits_behind_a_long_one_while_a_worker_of_another_cluster_is_free(cluster):
    for _number in range(2):
        cluster("--workers", "1")
    until(lambda: Cluster.objects.alive().count() == 2)
    with transaction.atomic():
        results = [work.sleep.enqueue(20) for _number in range(2)]
    until(lambda: all(row(result).status == "RUNNING" for result in results), 3)
    assert len({row(result).cluster_id for result in results}) == 2


# 3. An idle worker that is killed may hold the lock of the queue: then no other gets a task, and the stop hangs. --
#    Packages travel through a socket that has no lock.

PROOFS[3] = [
    "tasks/test_cluster.py::test_idle_workers_may_be_killed_one_after_the_other_and_the_cluster_works_on",
    "tasks/test_cluster.py::test_a_child_may_be_killed_and_the_cluster_works_again",
    "tasks/test_shared.py::test_a_worker_killed_while_it_waits_for_a_package_stops_nobody",
    "tasks/test_shared.py::test_the_number_of_packages_is_right_again_after_a_worker_took_one_and_died",
]


# 4. SIGTERM to the whole process group, which is what service managers send, kills running tasks at once, and the
#    parent waits for ever for the acknowledgement of a dead process. -- Children ignore it; the flag that says "stop"
#    is one byte of shared memory that nobody has to acknowledge.

PROOFS[4] = [
    "tasks/test_cluster.py::test_sigterm_lets_running_tasks_end_and_gives_back_what_has_not_started",
    f"{HERE}::test_a_stop_may_be_asked_for_while_the_sentinel_is_dead",
    f"{HERE}::test_a_flag_can_be_set_though_a_process_died_while_it_waited_for_it",
]


def test_a_stop_may_be_asked_for_while_the_sentinel_is_dead(cluster):
    process = cluster("--workers", "2")
    os.kill(tree(process)[0], signal.SIGKILL)
    until(lambda: "the sentinel died" in process.log())
    process.send(signal.SIGTERM)
    assert process.wait(5) == 0
    until(lambda: group_members(process.pid) == [], 5)


def test_a_flag_can_be_set_though_a_process_died_while_it_waited_for_it():
    flag = Flag()
    waiter = fork.Process(target=flag.wait, args=(60,))
    waiter.start()
    until(lambda: Path(f"/proc/{waiter.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S", what="it waits")
    waiter.kill()
    waiter.join()

    setter = fork.Process(target=flag.set)
    setter.start()
    setter.join(5)
    is_stuck = setter.is_alive()
    setter.kill()
    setter.join()
    assert not is_stuck
    assert flag.is_set()


# 5. SIGTERM runs all that was put in line first, without a limit of time, and nobody watches the workers meanwhile. --
#    What has not started goes back; what runs has the grace, is interrupted, and is killed if that does not help.

PROOFS[5] = [
    "tasks/test_cluster.py::test_sigterm_lets_running_tasks_end_and_gives_back_what_has_not_started",
    "tasks/test_cluster.py::test_a_task_longer_than_the_grace_is_interrupted_and_uses_no_attempt",
    f"{HERE}::test_code_that_does_not_end_when_it_is_interrupted_is_killed_and_uses_no_attempt",
    "tasks/test_runner.py::test_a_draining_worker_starts_nothing",
    "tasks/test_broker.py::test_a_cluster_without_room_or_that_drains_claims_nothing",
]


def test_code_that_does_not_end_when_it_is_interrupted_is_killed_and_uses_no_attempt(cluster):
    process = cluster(TASKS_SHUTDOWN_GRACE="0.5")
    result = work.swallow_the_interruption.enqueue()
    until(lambda: row(result).status == "RUNNING")
    process.send(signal.SIGTERM)
    assert process.wait(0.5 + 3) == 0
    assert group_members(process.pid) == []
    assert (row(result).status, row(result).attempts, row(result).worker_ids) == ("READY", 0, [])
    assert [message for attempt, kind, message in rows.errors_of(row(result)) if kind == "interrupted"] == [
        "Its cluster stopped, and its code did not end within the grace, so its worker was killed."
    ]


# 6. The children of a sentinel that is killed live on as orphans and go on taking tasks, beside those of the next
#    sentinel. -- The kernel ends each child with its parent, and each child looks for its parent itself.

PROOFS[6] = [
    f"{HERE}::test_no_child_outlives_the_sentinel_so_its_task_runs_once_at_a_time",
    "tasks/test_cluster.py::test_a_child_may_be_killed_and_the_cluster_works_again",
    "tasks/test_cluster.py::test_the_whole_tree_goes_when_the_parent_is_killed_and_another_cluster_rescues",
]


def test_no_child_outlives_the_sentinel_so_its_task_runs_once_at_a_time(cluster):
    process = cluster("--workers", "2")
    result = work.sleep.enqueue(1.5, "slept")
    until(lambda: row(result).status == "RUNNING")
    before = tree(process)
    os.kill(before[0], signal.SIGKILL)
    until(lambda: not {*before} & {*group_members(process.pid)}, 5, "the children of the sentinel are gone")
    until(lambda: finished(result))
    assert (row(result).status, row(result).attempts, kinds(result)) == ("SUCCESSFUL", 2, ["lost"])
    assert Effect.objects.count() == 1


# 7. A result goes through a queue to another process, which writes it; if the database is away then, it is lost and the
#    task counts as done. -- There is no such process: the worker writes the outcome, again and again until it is there.

PROOFS[7] = [
    "tasks/test_cluster.py::test_an_outage_longer_than_the_lease_costs_no_attempt",
    "tasks/test_worker.py::test_a_write_is_made_again_until_the_database_answers",
    "tasks/test_runner.py::test_an_attempt_that_cannot_write_its_outcome_ends_its_worker_and_nothing_is_raised",
]


# 8. A stored task is a pickle signed with SECRET_KEY: after a change of the key all are deleted, and one that can no
#    longer be read kills the pusher, with all that was fetched with it, again and again. -- Rows hold JSON; a package
#    is made in memory, from ids; a row that makes no sense is a failed attempt of its own.

PROOFS[8] = [
    f"{HERE}::test_a_new_secret_key_loses_no_task",
    f"{HERE}::test_a_row_that_makes_no_sense_fails_alone",
    "tasks/test_broker.py::test_dequeue_claims_due_rows_and_packs_their_ids_only",
]


def test_a_new_secret_key_loses_no_task(cluster):
    results = [work.add.enqueue(number) for number in range(5)]
    cluster(SECRET_KEY="another one " + "y" * 50)
    until(lambda: finished(*results))
    assert [row(result).return_value for result in results] == [0, 1, 2, 3, 4]


def test_a_row_that_makes_no_sense_fails_alone(cluster):
    strange: list[dict[str, Any]] = [
        {"args": 5},
        {"args": {"a": 1}, "kwargs": {"a": 2}},
        {"args": [1], "kwargs": [2]},
        {"args": [1], "kwargs": {"nobody": "knows it"}},
    ]
    bad = [rows.ready(max_attempts=1, **values) for values in strange]
    good = [rows.ready(args=[number]) for number in range(5)]
    process = cluster("--workers", "2")
    before = tree(process)
    until(lambda: not Task.objects.filter(finished_at=None).exists())
    assert {(row(task).status, *kinds(task)) for task in bad} == {("FAILED", "exception")}
    assert [row(task).return_value for task in good] == [0, 1, 2, 3, 4]
    assert tree(process) == before


# 9. One schedule with arguments that cannot be read stops all schedules, every half minute; and whoever may add one in
#    the administration may run any function there is. -- Its scheduler is off, its tables are not in the
#    administration, and what it might enqueue all the same has to be a task function.

PROOFS[9] = [
    f"{HERE}::test_a_schedule_of_django_q2_runs_nothing",
    f"{HERE}::test_the_scheduler_of_django_q2_is_off",
    f"{HERE}::test_even_its_scheduler_would_run_no_function_of_a_stranger",
    f"{HERE}::test_nobody_adds_a_schedule_of_django_q2_in_the_administration",
    "tasks/test_admin.py::test_the_tables_of_django_q2_are_not_offered",
    "tasks/test_broker.py::test_async_task_with_any_other_path_is_refused",
    "tasks/test_broker.py::test_async_task_with_a_plain_function_is_refused",
]


def due_schedules(function: str) -> list[django_q.Schedule]:
    """A schedule that could run, and one that django-q2 cannot read."""
    past = timezone.now() - timedelta(hours=1)
    values = {"func": function, "schedule_type": django_q.Schedule.HOURLY, "next_run": past}
    return [
        django_q.Schedule.objects.create(args="'never'", **values),
        django_q.Schedule.objects.create(args="never", kwargs="[1, 2]", **values),
    ]


def test_a_schedule_of_django_q2_runs_nothing(cluster):
    due_schedules("tests.work.tasks.effect")
    before = list(django_q.Schedule.objects.order_by("pk").values())
    process = cluster()
    known = work.add.enqueue(1)
    until(lambda: finished(known))
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    assert list(django_q.Schedule.objects.order_by("pk").values()) == before
    assert Task.objects.count() == 1
    assert not Effect.objects.exists()
    assert lines_of(process, "ERROR") == []


def test_the_scheduler_of_django_q2_is_off():
    assert Conf.SCHEDULER is False


@pytest.mark.parametrize("function", ["os.getcwd", "tests.work.tasks.not_a_task"])
@pytest.mark.django_db(transaction=True)
def test_even_its_scheduler_would_run_no_function_of_a_stranger(function):
    due_schedules(function)[1].delete()
    before = list(django_q.Schedule.objects.values())
    scheduler(get_broker())
    assert list(django_q.Schedule.objects.values()) == before
    assert not Task.objects.exists()


def test_nobody_adds_a_schedule_of_django_q2_in_the_administration(operator_client):
    url = "/admin/django_q/schedule/add/"
    values = {
        "func": "os.getcwd",
        "schedule_type": "O",
        "repeats": "-1",
        "next_run_0": "2030-01-01",
        "next_run_1": "0:00",
    }
    assert operator_client.get(url).status_code == 404
    assert operator_client.post(url, values).status_code == 404
    assert not django_q.Schedule.objects.exists()


# 10. A cron expression counts from now and not from the time that was due, fires twice in the night when clocks go
#     back, and "monthly" moves from the 31st to the 28th. -- The guards of 9; Steward has no schedules of its own yet.

PROOFS[10] = PROOFS[9]


# 11. A timeout with a fraction fails every task; it is raised once, so code may swallow it; and with a wrong cycle of
#     the guard the hard kill never comes. -- A package has no timeout. The runner has a timer of its own that repeats;
#     a worker announces its deadline, and the sentinel kills what is still there after it.

PROOFS[11] = [
    "tasks/test_cluster.py::test_code_that_does_not_stop_when_its_time_is_up_is_killed_and_the_cluster_works_on",
    f"{HERE}::test_a_worker_goes_on_after_a_timeout",
    "tasks/test_runner.py::test_a_function_that_runs_too_long_is_ended_and_recorded_as_a_timeout",
    "tasks/test_runner.py::test_code_that_swallows_the_timeout_meets_it_again",
    "tasks/test_runner.py::test_the_deadline_is_announced_while_the_function_runs_and_withdrawn_after",
    "tasks/test_broker.py::test_dequeue_claims_due_rows_and_packs_their_ids_only",
]


# 12. After each timeout its worker is killed, maybe while it holds the lock of the results: then no result arrives any
#     more. -- A timeout ends the attempt and not the worker; there is no queue of results.

PROOFS[12] = [
    f"{HERE}::test_a_worker_goes_on_after_a_timeout",
    "tasks/test_cluster.py::test_code_that_does_not_stop_when_its_time_is_up_is_killed_and_the_cluster_works_on",
]


def test_a_worker_goes_on_after_a_timeout(cluster):
    cluster("--workers", "1")
    late = [work.sleep_too_long.enqueue(), work.ignore_the_timeout_once.enqueue(), work.sleep_too_long_async.enqueue()]
    results = [*late, work.add.enqueue(1)]
    until(lambda: finished(*results))
    assert [kinds(result) for result in results] == [["timeout"], ["timeout"], ["timeout"], []]
    assert len({worker for result in results for worker in row(result).worker_ids}) == 1


# 13. A cluster tells that it lives through the cache; a cache in local memory tells nobody. -- A row of the database is
#     the heartbeat, and the cache that django-q2 gets keeps nothing.

PROOFS[13] = [
    f"{HERE}::test_a_cluster_shows_in_the_database_that_it_lives_and_who_its_workers_are",
    f"{HERE}::test_django_q2_has_a_cache_that_keeps_nothing",
    "tasks/test_rescue.py::test_a_heartbeat_makes_the_row_of_the_cluster_and_keeps_it_fresh",
]


def test_a_cluster_shows_in_the_database_that_it_lives_and_who_its_workers_are(cluster):
    process = cluster("--workers", "2", TASKS_LEASE="3")
    first = Cluster.objects.get()
    until(lambda: Cluster.objects.get().heartbeat_at > first.heartbeat_at, 3, "another heartbeat")
    assert sorted(first.workers) == sorted(tree(process)[1:3])
    os.kill(first.workers[0], signal.SIGKILL)
    until(lambda: first.workers[0] not in Cluster.objects.get().workers, 5, "its end is shown")
    assert len(Cluster.objects.get().workers) == 2


def test_django_q2_has_a_cache_that_keeps_nothing():
    cache = get_broker().cache
    cache.set("key", "value")
    assert cache.get("key") is None


# 14. Every success is stored in a table of its own, which is loaded whole and locked for each task to keep it short;
#     failures are never removed. -- django-q2 stores nothing.

PROOFS[14] = [f"{HERE}::test_django_q2_stores_nothing"]


def test_django_q2_stores_nothing(cluster):
    assert Conf.SAVE_LIMIT == -1
    cluster()
    results = [work.add.enqueue(1), work.fail.enqueue(), work.sleep_too_long.enqueue(), work.kill_worker.enqueue()]
    until(lambda: finished(*results))
    assert [model.objects.count() for model in (django_q.Task, django_q.OrmQ)] == [0, 0]


# 15. The queue has no index and no order; a task takes eleven statements and, by Django's default, three connections.
#     -- A partial index in the order of the claim, which takes many tasks at once; few statements for an attempt; a
#     process keeps its connection.

PROOFS[15] = [
    f"{HERE}::test_a_claim_reads_the_index_of_what_waits",
    f"{HERE}::test_what_is_done_to_one_task_reads_no_other",
    f"{HERE}::test_a_claim_takes_the_most_urgent_of_all_its_queues",
    f"{HERE}::test_an_attempt_takes_few_statements",
    f"{HERE}::test_a_worker_keeps_its_connection",
    "tasks/test_leases.py::test_claim_takes_the_highest_priority_then_the_oldest_run_after_then_the_lowest_id",
    "test_settings.py::test_postgresql_is_given_as_a_url",
    "test_settings.py::test_sqlite_is_given_as_a_url_and_its_directory_is_made",
]


@contextmanager
def statements_kept() -> Iterator[list[tuple[str, Any]]]:
    """What is sent to the database meanwhile, as it is sent."""
    statements: list[tuple[str, Any]] = []

    def keep(execute, sql, params, many, context):
        statements.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(keep):
        yield statements


def plans(statements) -> list[str]:
    """How the database would do each of them beside 2,000 finished rows, where nothing waits and nothing is leased."""
    Task.objects.all().delete()
    ended = {"status": "SUCCESSFUL", "finished_at": timezone.now(), "queue_name": "default", "max_attempts": 1}
    Task.objects.bulk_create([Task(task_path="tests.work.tasks.add", **ended) for _ in range(2000)])
    explain, found = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN ", []
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        for sql, params in statements:
            cursor.execute(explain + sql, params)
            found.append("\n".join(str(line) for line in cursor.fetchall()))
    return found


@pytest.mark.django_db(transaction=True)
def test_a_claim_reads_the_index_of_what_waits():
    waits = Q(status="READY", lease_id__isnull=True, held_at__isnull=True)
    (index,) = [index for index in Task._meta.indexes if index.condition == waits]
    holder = rows.cluster_row()
    with statements_kept() as statements:
        leases.claim(holder.pk, 10, ["default"], registry)
    (plan,) = plans(statements)
    assert index.name in plan
    assert not re.search(r"Seq Scan on tasks_task|SCAN (tasks_task|t|d)\b(?!.*INDEX)", plan), plan


@pytest.mark.django_db(transaction=True)
def test_what_is_done_to_one_task_reads_no_other():
    """An index of few rows looks cheapest to PostgreSQL, also where it would be read from end to end."""
    ended, failed, latest = [rows.attempt_of(rows.running()) for _ in range(3)]
    following = rows.claimed()
    with statements_kept() as statements:
        leases.succeed(ended, "1")
        leases.fail(failed, Failure(TaskError.Kind.EXCEPTION), None)
        leases.succeed_and_start(latest, "1", following.pk, following.lease_id, is_durable=True)
    of_tasks = [
        (sql, params) for sql, params in statements if re.search(r'(UPDATE|FROM) "?tasks_task\b', sql) is not None
    ]
    assert len(of_tasks) >= 4
    by_id = re.compile(r"using tasks_task_pkey|USING INTEGER PRIMARY KEY")
    for (sql, _), plan in zip(of_tasks, plans(of_tasks), strict=True):
        ways = re.findall(r"Scan .*on tasks_task\b|(?:SEARCH|SCAN) tasks_task\b.*", plan)
        assert ways, plan
        assert all(by_id.search(way) for way in ways), f"{sql}\n{plan}"


@pytest.mark.django_db(transaction=True)
def test_a_claim_takes_the_most_urgent_of_all_its_queues():
    holder = rows.cluster_row()
    waiting = [
        rows.ready(queue_name=queue, priority=priority, due_in=due_in)
        for queue, priority, due_in in (("a", 0, -10), ("b", 1, -10), ("b", 0, -20), ("a", 2, -5), ("b", 0, -5))
    ]
    ids = [lease.task_id for _ in waiting for lease in leases.claim(holder.pk, 1, ["a", "b"], registry)]
    assert ids == [waiting[number].pk for number in (3, 1, 2, 0, 4)]


@pytest.mark.django_db(transaction=True)
def test_an_attempt_takes_few_statements():
    task = rows.claimed()
    with CaptureQueriesContext(connection) as queries:
        runner.run(task.pk, task.lease_id.hex)
    assert rows.state(task)["status"] == "SUCCESSFUL"
    assert len(queries) <= 4, [query["sql"] for query in queries]


def test_a_worker_keeps_its_connection(cluster):
    cluster("--workers", "1")
    results = [work.count_my_connections.enqueue() for _ in range(20)]
    until(lambda: finished(*results))
    assert len({row(result).return_value for result in results}) == 1


# 16. With a pool of connections, whose threads do not survive a fork, most tasks never run. -- No pool, and no process
#     forks while it has a connection.

PROOFS[16] = [
    f"{HERE}::test_no_process_of_a_cluster_shares_its_connection_with_another",
    "test_settings.py::test_postgresql_is_given_as_a_url",
]


def connections_of(pid: int) -> set[str]:
    """The database's file, or the sockets to its server, as far as the process has them open; closed ones too."""
    names = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    if connection.vendor == "sqlite":
        return {name for name in names if name == str(connection.settings_dict["NAME"])}
    local = {f"socket:[{line.split()[6]}]" for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()}
    return {name for name in names if name.startswith("socket:")} - local


def test_no_process_of_a_cluster_shares_its_connection_with_another(cluster):
    process = cluster("--workers", "2")
    results = [work.process_id.enqueue(0.2) for _ in range(4)]
    until(lambda: finished(*results))
    sentinel, *children = tree(process)
    assert len({row(result).return_value for result in results}) == 2
    assert [connections_of(pid) for pid in (process.pid, sentinel)] == [set(), set()]
    opened = [connections_of(pid) for pid in children]
    assert all(opened)
    if connection.vendor == "postgresql":  # a file of SQLite is the same for all
        assert len(set.union(*opened)) == sum(map(len, opened))


# 17. "Resubmit" in the administration deletes the failure and forgets the options of the task; and a task's start is
#     the time of its enqueue. -- Steward's own administration; retry keeps row and errors; a start is a start.

PROOFS[17] = [
    "tasks/test_admin.py::test_the_tables_of_django_q2_are_not_offered",
    "tasks/test_admin.py::test_retry_makes_failed_tasks_ready_and_leaves_others_alone",
    "tasks/test_models.py::test_retry_makes_a_failed_task_due_at_once_with_one_attempt_more",
    "tasks/test_leases.py::test_start_counts_the_attempt_and_gives_the_worker_what_it_needs",
]


# 18. Q_CLUSTER_NAME in the environment, without a table of other clusters, stops every command with a KeyError. --
#     Clusters name their queues with --queues.

PROOFS[18] = [
    f"{HERE}::test_a_name_of_a_cluster_in_the_environment_stops_no_command",
    "tasks/test_cluster.py::test_queues_are_served_by_the_clusters_that_name_them",
]


def test_a_name_of_a_cluster_in_the_environment_stops_no_command():
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "Q_CLUSTER_NAME": "mail"}
    done = subprocess.run([sys.executable, "manage.py", "check"], cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == 0


# 19. Its lines of log for each task, a new worker every 500 tasks and a short line cost more than the queue itself. --
#     Its logger says warnings only; a worker is replaced when it has grown, between two tasks, and not by a count.

PROOFS[19] = [
    f"{HERE}::test_a_worker_is_not_replaced_by_a_count_and_django_q2_logs_no_task",
    f"{HERE}::test_a_worker_that_has_grown_is_replaced_between_two_tasks",
]


def test_a_worker_is_not_replaced_by_a_count_and_django_q2_logs_no_task(cluster):
    assert Conf.RECYCLE >= 1_000_000  # of what the loop of django-q2 counts: a chain of tasks is one
    process = cluster("--workers", "1", LOG_LEVEL="DEBUG")
    work.add.enqueue_many([(number,) for number in range(550)])
    until(lambda: not Task.objects.filter(finished_at=None).exists(), 30)
    assert len({worker for (worker,) in Task.objects.values_list("worker_ids", flat=True)}) == 1
    assert "tests.work.tasks.add #" in process.log()
    assert "django-q: " not in process.log()


def test_a_worker_that_has_grown_is_replaced_between_two_tasks(cluster):
    process = cluster("--workers", "1")
    worker = tree(process, workers=1)[1]
    with transaction.atomic():
        grown = work.grow.enqueue(settings.Q_CLUSTER["max_rss"] // 1024)
        after = [work.process_id.enqueue(0.01) for _ in range(120)]  # some are in line when the worker is replaced
    until(lambda: worker not in tree(process, workers=1) and tree(process, workers=1), what="another worker")
    until(lambda: finished(grown, *after))
    assert {(row(result).status, row(result).attempts) for result in (grown, *after)} == {("SUCCESSFUL", 1)}
    assert {row(result).return_value for result in after} != {worker}
    assert lines_of(process, "ERROR") == []


# The index -----------------------------------------------------------------------------------------------------------


def test_each_hazard_has_its_tests_and_they_exist():
    assert sorted(PROOFS) == list(range(1, 20))
    assert all(PROOFS.values())
    assert missing(name for names in PROOFS.values() for name in names) == []


def test_each_test_of_this_file_is_in_the_index():
    named = {name.partition("::")[2] for names in PROOFS.values() for name in names if name.startswith(HERE)}
    assert names_in(HERE) - named == {
        "test_each_hazard_has_its_tests_and_they_exist",
        "test_each_test_of_this_file_is_in_the_index",
    }
