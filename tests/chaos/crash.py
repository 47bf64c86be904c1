"""Crash: PostgreSQL ends without a word, with whatever it had not yet written to its log, and recovers."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from django.db import connections

from tests.chaos.clusters import Clusters
from tests.chaos.measures import judge, left
from tests.chaos.stage import LEASE, Stage
from tests.processes import until
from tests.work import tasks as work

CRASHES = 5
TASKS = 2_000
"""Enqueued before each crash."""


def crash(stage: Stage) -> dict[str, Any]:
    """The server crashes again and again while one cluster works off tasks that are quick, with as few flushes."""
    accepted = 0
    stage.postgres.configure(wal_writer_delay="10s")  # so that a crash undoes as much as it ever may
    stage.postgres.restart()
    connections.close_all()
    with Clusters(stage.home, 1) as clusters:
        clusters.wait_until_they_work()
        for _crash in range(CRASHES):
            work.add.enqueue_many([(accepted + number,) for number in range(TASKS)])
            accepted += TASKS
            enough = left() - TASKS // 10
            until(partial(is_less_left, enough), 20, "tasks finish")
            stage.postgres.stop("immediate")
            connections.close_all()
            time.sleep(0.5)  # the outage
            stage.postgres.start()
        until(partial(is_less_left, 1), 30 + 6 * LEASE, "all tasks finish")
        stage.problems += clusters.stop()
    return judge(stage, accepted, kills=CRASHES)


def is_less_left(than: int) -> bool:
    return left() < than
