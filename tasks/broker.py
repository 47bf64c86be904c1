"""Rows on one side, django-q2 on the other: claims due rows and makes the packages that its pusher hands to workers.

A package is made in memory from a lease and never stored: the database holds JSON only, and a new SECRET_KEY loses no
task. django-q2's own way in, `async_task(...)`, is translated into a row or refused.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import Error, close_old_connections, connections
from django_q.brokers import Broker
from django_q.signing import SignedPackage
from django_tasks.exceptions import InvalidTaskError

from tasks import leases, wakeup
from tasks.functions import registry
from tasks.models import Task

logger = logging.getLogger(__name__)

FULL = 0.005
"""Seconds until the next look whether a worker has become free."""


class DatabaseBroker(Broker):
    """django-q2's broker contract, see its `brokers/__init__.py`. `tasks.cluster` sets the attributes."""

    cluster_id: uuid.UUID
    """Whose leases the claims are."""
    queues: list[str]
    """Where it claims from."""
    room: Callable[[], int]
    """How many more tasks the workers could start soon."""
    is_draining: Callable[[], bool]
    """Whether the cluster stops, and claims no more."""

    def dequeue(self) -> list[tuple[int, str]]:
        """Return packages for the next rows that are due; [] if there are none after a wait. Never raises."""
        claimed: list[leases.Lease] = []
        room = self.room()
        try:
            close_old_connections()
            if room > 0 and not self.is_draining():
                claimed = leases.claim(self.cluster_id, room, self.queues, registry)
                if not claimed:
                    wakeup.wait(settings.TASKS_POLL, self.is_draining)
            else:
                time.sleep(FULL)
        except Error as error:
            logger.error("cannot claim tasks, trying again: %s", str(error).strip().split("\n")[0])
            connections.close_all()
            time.sleep(1)
        return [(lease.task_id, _package(lease)) for lease in claimed]

    def enqueue(self, package: str) -> str:
        """Make a row of what `async_task` was given; raise InvalidTaskError if that is no task function."""
        given = SignedPackage.loads(package)
        name = given["func"]
        if not isinstance(name, str) or name not in registry:
            raise InvalidTaskError(f"{given['func']!r} is no task function. Decorate it with @task in a tasks.py.")
        return registry[name].enqueue(*given["args"], **given["kwargs"]).id

    def acknowledge(self, task_id: int) -> None:
        """Do nothing: the worker has written the outcome."""

    def fail(self, task_id: int) -> None:
        """Do nothing: what cannot be run stays in its row."""

    def ping(self) -> bool:
        """Say that the broker answers: its claims report for themselves when the database does not."""
        return True

    def queue_size(self) -> int:
        """Return the number of due tasks."""
        return Task.objects.due().count()

    def info(self) -> str:
        """Return the name of this broker."""
        return "Steward's database broker"


def _package(lease: leases.Lease) -> Any:
    return SignedPackage.dumps(
        {
            "id": lease.lease_id.hex,
            "name": f"{lease.task_path} #{lease.task_id}",
            "func": "tasks.runner.run",
            "args": (lease.task_id, lease.lease_id.hex),
            "kwargs": {},
            "save": False,
            "ack_failure": True,
            "timeout": -1,  # the runner's own timer and the sentinel's deadline limit an attempt
        }
    )
