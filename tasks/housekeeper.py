"""The housekeeper, one process of each cluster: heartbeat, rescue, schedules, cancelled tasks, steps of the clock.

It does its rounds a few times in a lease, and at once when the sentinel tells it that a worker ended. It never raises:
while the database is away it tries again.
"""

from __future__ import annotations

import logging
import os
import signal
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connections

from tasks import holding, leases, pings, rescue, statements, ticks
from tasks.functions import registry
from tasks.models import SILENCE, Cluster, Task
from tasks.outage import Outage
from tasks.shared import Slots
from tasks.worker import KILL_AFTER

logger = logging.getLogger(__name__)

CANCEL_EVERY = 1.0
"""Seconds between two looks for tasks that somebody cancelled while they run."""

LOOK = 1.0
"""Seconds between two looks for schedules that are due, if none is due earlier: one may have been changed."""

TURN = 0.1
"""Seconds between two looks whether it is the turn of a task that is to run after an earlier one of its schedule."""

CLOCK_MAY_DRIFT = 1.0
"""Seconds by which two beats may differ by the database's clock and by this host's, before it counts as a step."""


class Housekeeper:
    """Looks after the rows of its cluster and, once they are silent, of others."""

    def __init__(self, row: Cluster, slots: Slots, ended: Connection, worker_id: Callable[[int], str]) -> None:
        self.row = row
        self.slots = slots
        self.ended = ended
        self.worker_id = worker_id
        self.every = settings.TASKS_LEASE / 5
        self.outage = Outage("the housekeeper")
        self.ended_workers: dict[str, bool] = {}
        self.sightings: dict[tuple[int, uuid.UUID | None], float] = {}
        """RUNNING rows, by id and lease, that none of our workers is at, and since when that is known."""
        self.beat_due = self.cancel_due = self.tick_due = 0.0
        self.beat_at = time.monotonic()
        self.database_time: datetime | None = None
        self.listen_first()

    def run(self) -> None:
        """Do the rounds until the process is ended."""
        while True:
            try:
                self.wait()
                close_old_connections()
                is_time_to_beat = time.monotonic() >= self.beat_due
                if self.ended_workers or is_time_to_beat:
                    self.rescue_own()
                if time.monotonic() >= self.cancel_due:
                    self.cancel()
                if is_time_to_beat:
                    self.beat()
                    self.in_peace(self.look_after_tasks_and_schedules)
                if time.monotonic() >= self.tick_due:
                    self.tick_due = time.monotonic() + LOOK
                    self.in_peace(self.tick)
                self.outage.is_over()
            except DatabaseError as error:
                self.listen_first()
                connections.close_all()
                time.sleep(self.outage.wait_after(error))

    def wait(self) -> None:
        """Wait for the next round, or for a worker that ended."""
        due = min(self.beat_due, self.cancel_due, self.tick_due)
        if self.ended.poll(max(0.0, due - time.monotonic())):
            while self.ended.poll(0):
                gone, out_of_time = self.ended.recv()
                self.ended_workers[gone] = out_of_time

    def rescue_own(self) -> None:
        """End the attempts of workers that are gone, and give back what they took and did not start."""
        if self.ended_workers:
            leases.release(self.row.pk)
        timed_out = frozenset(name for name, out_of_time in self.ended_workers.items() if out_of_time)
        sightings, self.sightings = self.sightings, {}
        self.say_rescued(
            rescue.rescue_lost_workers(
                self.row.pk, self.is_alive, timed_out, lambda task: self.is_forgotten(task, sightings)
            )
        )
        self.ended_workers.clear()

    def is_alive(self, name: str) -> bool:
        """Return whether the worker lives. Asked after the rows were read: it shows its pid before it starts a row."""
        return name not in self.ended_workers and name in map(self.worker_id, self.slots.alive())

    def is_forgotten(self, task: Task, sightings: dict[tuple[int, uuid.UUID | None], float]) -> bool:
        """Return whether its worker has been at other things since an earlier round: its outcome is gone."""
        if task.pk in self.slots.task_ids:
            return False
        sighting = (task.pk, task.lease_id)
        self.sightings[sighting] = sightings.get(sighting, time.monotonic())
        return time.monotonic() - self.sightings[sighting] >= self.every / 2

    def beat(self) -> None:
        """Say that the cluster lives, give back what stuck, and rescue the tasks of clusters that say so no more."""
        self.row.workers = self.slots.alive()
        rescue.heartbeat(self.row)
        self.beat_due = time.monotonic() + self.every  # one that could not be written is tried again at once
        self.look_at_the_clocks()
        leases.release(self.row.pk, older_than=leases.CLAIM_LIFETIME)
        if time.monotonic() >= self.patient_until:
            self.say_rescued(rescue.rescue_dead_clusters())

    def in_peace(self, act: Callable[[], None]) -> None:
        """Do what must not keep this process from its heartbeat, whatever it raises."""
        try:
            act()
        except Exception as error:
            if ticks.is_outage(error):
                raise
            if isinstance(error, DatabaseError):
                self.listen_first()
            logger.exception("the housekeeper could not %s; it goes on", act.__name__.replace("_", " "))

    def tick(self) -> None:
        """Settle what is due of the schedules, and look again at the next due time or after LOOK seconds."""
        wait = LOOK
        due_in, is_any_held = statements.next_due()
        if settings.TASKS_SCHEDULES and due_in is not None:
            if due_in <= 0:
                wait = 0.0 if ticks.fire() else LOOK
                due_in, is_any_held = statements.next_due()
            if due_in is not None and due_in > 0:  # otherwise another cluster is at it
                wait = min(wait, due_in)
        if is_any_held:
            holding.let_go(registry)
            wait = min(wait, TURN)
        self.tick_due = time.monotonic() + wait

    def look_after_tasks_and_schedules(self) -> None:
        """Hold tasks whose function no living cluster has, and say so of schedules; mend those that can be."""
        known = holding.known_functions()
        if count := holding.let_go(registry):
            logger.info("%s held tasks are in line again: this cluster has their function", count)
        if count := holding.hold_unknown(self.row.queues, known):
            logger.warning("%s tasks are held: no running cluster has their function", count)
        if settings.TASKS_SCHEDULES:
            if count := ticks.say_what_nobody_can_run(known):
                logger.warning("%s schedules cannot be settled: no running cluster has their function", count)
            ticks.mend()
            pings.enqueue_calls()

    def look_at_the_clocks(self) -> None:
        """Notice it if heartbeats may be old although their clusters live."""
        before, elapsed = self.database_time, time.monotonic() - self.beat_at
        self.database_time = rescue.database_time()
        self.beat_at += elapsed
        is_late = elapsed > settings.TASKS_LEASE / 2  # the database was away, or this process slept
        step = timedelta()
        if before is not None:
            step = self.database_time - before - timedelta(seconds=elapsed)
        if abs(step.total_seconds()) > CLOCK_MAY_DRIFT:
            logger.warning("the database's clock has stepped by %.1f s", step.total_seconds())
            rescue.notice_clock_step(step)
            is_late = True
        if is_late:
            self.listen_first()

    def listen_first(self) -> None:
        """Take no cluster for dead that was not silent while this one could speak and listen: perhaps nobody could."""
        self.patient_until = time.monotonic() + SILENCE * settings.TASKS_LEASE

    def cancel(self) -> None:
        """Tell running tasks that they are cancelled; interrupt and then kill those that go on after the grace."""
        self.cancel_due = time.monotonic() + CANCEL_EVERY
        if not any(self.slots.task_ids):
            return
        for task_id, worker, age in rescue.cancel_requests(self.row.pk):
            for slot, pid in enumerate(self.slots.pids):
                if not pid or self.worker_id(pid) != worker:
                    continue
                self.slots.cancelled[slot] = task_id
                overdue = age - settings.TASKS_CANCEL_GRACE
                if overdue >= 0 and self.slots.task_ids[slot] == task_id:
                    logger.warning("task %s was cancelled and runs on; its code is interrupted", task_id)
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL if overdue > KILL_AFTER else signal.SIGUSR1)

    def say_rescued(self, count: int) -> None:
        """Put it into the log, if there is something to say."""
        if count:
            logger.warning("rescued %s tasks of workers that are gone", count)


def keep_house(*args: Any) -> None:
    """Be the housekeeper: the target of its process."""
    Housekeeper(*args).run()
