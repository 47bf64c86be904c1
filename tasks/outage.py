"""What a process of a cluster does while the database is away: one line in the log, and another try after a while."""

from __future__ import annotations

import logging
import random
import time

logger = logging.getLogger(__name__)

FIRST_WAIT = 0.1
LONGEST_WAIT = 2.0


class Outage:
    """The waits between the tries of one process, doubling, with jitter so that workers do not come back in step."""

    def __init__(self, who: str) -> None:
        self.who = who
        self._since: float | None = None
        self._wait = FIRST_WAIT

    def wait_after(self, error: Exception) -> float:
        """Return how many seconds to wait before the next try; say so, once for each outage."""
        if self._since is None:
            self._since, self._wait = time.monotonic(), FIRST_WAIT
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            logger.error("%s cannot reach the database and tries again until it can: %s", self.who, reason)
        wait = self._wait
        self._wait = min(LONGEST_WAIT, 2 * wait)
        return random.uniform(wait / 2, wait)

    @property
    def seconds(self) -> float:
        """How long it has lasted; 0 if the database answers."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def is_over(self) -> None:
        """Take note that the database has answered; say so if it had not before."""
        if self._since is not None:
            logger.warning("%s reaches the database again after %.1f s", self.who, self.seconds)
            self._since = None
