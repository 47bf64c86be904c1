"""Crash: PostgreSQL ends without a word, with whatever it had not yet written to its log, and recovers."""

from __future__ import annotations

import time
from typing import Any

from django.db import connections

from tests.chaos.clusters import Clusters
from tests.chaos.measures import judge, left
from tests.chaos.stage import LEASE, Stage
from tests.processes import until
from tests.work import tasks as work

CRASHES = 5


def crash(stage: Stage) -> dict[str, Any]:
    """Tasks so quick that the engine does not wait for the disk with each are worked off while the server crashes."""
    accepted = 0
    with Clusters(stage.home) as clusters:
        clusters.wait_until_they_work()
        for _crash in range(CRASHES):
            work.add.enqueue_many([(accepted + number,) for number in range(2_000)])
            accepted += 2_000
            began = left()
            until(lambda began=began: left() < began - 200, 20, "tasks finish")
            stage.postgres.stop("immediate")
            connections.close_all()
            time.sleep(0.5)  # the outage
            stage.postgres.start()
        until(lambda: left() == 0, 30 + 6 * LEASE, "all tasks finish")
        stage.problems += clusters.stop()
    return judge(stage, accepted, kills=CRASHES)
