"""The housekeeper. What it does in a cluster is in test_cluster.py."""

from __future__ import annotations

from django.db import connection

from tasks import leases
from tasks.housekeeper import Housekeeper
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
