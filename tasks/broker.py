"""Rows on one side, django-q2 on the other: claims due rows and makes the packages that its pusher hands to workers.

A package is made in memory from a claim and never stored: the database holds JSON only, and a new SECRET_KEY loses no
task. django-q2's own way in, `async_task(...)`, is translated into a row or refused.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db import Error, close_old_connections, connections
from django_q.brokers import Broker
from django_q.signing import SignedPackage
from django_tasks.exceptions import InvalidTaskError

from tasks import leases
from tasks.checkpoints import Checkpoints
from tasks.functions import registry
from tasks.models import Task
from tasks.outage import Outage
from tasks.wakeup import Wakeup, wakeup_for

BUSY_AFTER = 0.25
"""Seconds without room after which another cluster may hear of new tasks in place of this one."""


class DatabaseBroker(Broker):
    """django-q2's broker contract, see its `brokers/__init__.py`. `tasks.cluster` sets the attributes."""

    cluster_id: uuid.UUID
    """Whose leases the claims are."""
    queues: list[str]
    """Where it claims from."""
    room: Callable[[], int]
    """How many more tasks the workers could start soon."""
    wait_for_room: Callable[[], None]
    """Waits until there should be room, at most a twentieth of a second."""
    is_draining: Callable[[], bool]
    """Whether the cluster stops, and claims no more."""

    def __init__(self, list_key: str | None = None) -> None:
        super().__init__(list_key)
        self.outage = Outage("the pusher")
        self.checkpoints = Checkpoints()
        self._is_exhausted = False
        self._full_since: float | None = None

    def dequeue(self) -> list[tuple[str, str]]:
        """Return a package with the next rows that are due; [] if there are none after a wait. Never raises."""
        try:
            close_old_connections()
            self.checkpoints.make()  # the workers have what was claimed before
            if self._is_exhausted:  # what came in since the last look ends the wait at once
                self._is_exhausted = False
                self.wakeup.wait(settings.TASKS_POLL, self.is_draining)
            claimed = self._claim()
            self.outage.is_over()
        except Error as error:
            connections.close_all()
            time.sleep(self.outage.wait_after(error))
            return []
        return [(claimed[0].lease_id.hex, _package(claimed))] if claimed else []

    def _claim(self) -> list[leases.Lease]:
        room = 0 if self.is_draining() else self.room()
        if room <= 0:
            now = time.monotonic()
            self._full_since = self._full_since or now
            if now - self._full_since > BUSY_AFTER:
                self.wakeup.step_down()
            self.wait_for_room()
            return []
        self._full_since = None
        claimed = leases.claim(self.cluster_id, room, self.queues, registry)
        self.checkpoints.note(len(claimed))
        self._is_exhausted = len(claimed) < room
        if not self._is_exhausted:
            self.wakeup.pass_on()
        return claimed

    @cached_property
    def wakeup(self) -> Wakeup:
        """What ends a wait for work."""
        return wakeup_for(self.queues)

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


def _package(claimed: list[leases.Lease]) -> Any:
    """Return what django-q2's pusher unpacks and puts into `tasks.shared.Channel`, which sends task by task."""
    return SignedPackage.dumps(
        {
            "id": claimed[0].lease_id.hex,
            "name": "claimed tasks",
            "func": "tasks.runner.run",
            "args": (claimed[0].lease_id.hex, [(lease.task_id, lease.task_path) for lease in claimed]),
            "kwargs": {},
        }
    )
