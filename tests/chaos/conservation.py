"""Conservation: what producers committed is SUCCESSFUL or FAILED at the end, whatever was killed meanwhile."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from typing import Any

from tests.chaos.clusters import Clusters, Producers
from tests.chaos.measures import judge, left
from tests.chaos.stage import Stage


def conservation(stage: Stage) -> dict[str, Any]:
    """Producers enqueue, some roll back, while SIGKILL hits a random process of both trees about every second."""
    total, seconds = (2_000, 15) if stage.is_short else (10_000, 45)
    kills = 0
    with Clusters(stage.home) as clusters, Producers(stage.home, total, seconds) as producers:
        while producers.are_running() or left():
            time.sleep(random.uniform(0.5, 1.2))  # the pace of the killer
            clusters.revive()
            with suppress(IndexError, ProcessLookupError):  # none lives just now; it ended by itself
                os.kill(random.choice(clusters.processes()), signal.SIGKILL)
                kills += 1
        accepted = producers.committed()
        time.sleep(0.5)  # so that a parent that was killed last is known to be gone
        clusters.revive()
        clusters.wait_until_they_work()
        stage.problems += clusters.stop()
    return judge(stage, accepted, kills=kills)
