"""The housekeeper. What it does in a cluster is in test_cluster.py."""

from __future__ import annotations

import time

import pytest
from django.db import OperationalError, connection

from tasks import leases, rescue
from tasks.housekeeper import Housekeeper
from tasks.models import Cluster
from tasks.shared import Slots, fork
from tests.tasks import rows
from tests.tasks.rows import kinds, row


def test_a_task_that_starts_while_the_rows_are_read_is_not_taken_for_lost(transactional_db):
    holder = rows.cluster_row()
    task = rows.claimed(holder=holder)
    slots = Slots(1)
    ended, _other_end = fork.Pipe(duplex=False)
    housekeeper = Housekeeper(holder, slots, ended, lambda pid: f"host-a:{pid}")
    begun = []

    def start_meanwhile(execute, sql, params, many, context):
        if not begun:
            begun.append(sql)
            slots.pids[0] = 4711
            assert leases.start(task.pk, task.lease_id, "host-a:4711")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(start_meanwhile):
        housekeeper.rescue_own()
    assert begun[0].startswith("SELECT")
    assert (row(task).status, row(task).attempts, kinds(task)) == ("RUNNING", 1, [])


def test_schedules_do_not_keep_a_housekeeper_from_its_heartbeat(transactional_db, monkeypatch):
    holder = rows.cluster_row(heartbeat_age=60)
    ended, _other_end = fork.Pipe(duplex=False)
    housekeeper = Housekeeper(holder, Slots(1), ended, str)
    raised = []

    def fail_at_schedules() -> None:
        raised.append(len(raised))
        if len(raised) == 3:
            raise KeyboardInterrupt
        raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")

    monkeypatch.setattr("tasks.housekeeper.LOOK", 0.0)
    monkeypatch.setattr(housekeeper, "tick", fail_at_schedules)
    fail_at_schedules.__name__ = "tick"
    with pytest.raises(KeyboardInterrupt):
        housekeeper.run()
    assert list(Cluster.objects.alive()) == [holder]


def test_who_could_not_speak_itself_takes_nobody_for_dead(transactional_db, monkeypatch):
    """Of two clusters, one wrote its heartbeat in a moment in which the disk was not full."""
    ended, _other_end = fork.Pipe(duplex=False)
    housekeeper = Housekeeper(rows.cluster_row(), Slots(1), ended, str)
    running = rows.running(holder=rows.cluster_row(heartbeat_age=3600))
    housekeeper.patient_until = 0.0  # it has listened for long enough
    beats = []

    def beat_when_there_is_room(row):
        beats.append(row)
        if len(beats) == 1:
            raise OperationalError("database or disk is full")
        if len(beats) == 3:
            raise KeyboardInterrupt
        heartbeat(row)
        housekeeper.every = 0.0

    heartbeat = rescue.heartbeat
    monkeypatch.setattr(rescue, "heartbeat", beat_when_there_is_room)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        housekeeper.run()
    assert time.monotonic() - start < housekeeper.patient_until - start  # the second beat was within its patience
    assert (row(running).status, kinds(running)) == ("RUNNING", [])


def test_an_outcome_that_a_crashed_server_forgot_is_noticed_at_the_second_look(transactional_db, monkeypatch):
    holder = rows.cluster_row()
    forgotten, runs = (
        rows.running(holder=holder, worker_ids=["host-a:4711"]),
        rows.running(holder=holder, worker_ids=["host-a:4712"]),
    )
    slots = Slots(2)
    slots.pids[0], slots.pids[1], slots.task_ids[1] = 4711, 4712, runs.pk
    ended, _other_end = fork.Pipe(duplex=False)
    housekeeper = Housekeeper(holder, slots, ended, lambda pid: f"host-a:{pid}")
    clock = [1000.0]
    monkeypatch.setattr("tasks.housekeeper.time.monotonic", lambda: clock[0])
    housekeeper.rescue_own()
    assert (kinds(forgotten), kinds(runs)) == ([], [])
    clock[0] += housekeeper.every
    housekeeper.rescue_own()
    assert (kinds(forgotten), kinds(runs)) == (["lost"], [])
    assert row(forgotten).status == "READY"
