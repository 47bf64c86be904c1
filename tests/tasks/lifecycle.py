"""The life of a task in plain Python: what the tables have to be after each step. `test_laws` holds it beside them.

Times are minutes of a clock of its own, in tens, so that the time which the steps themselves take does not matter.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.leases import Attempt, Lease
from tasks.models import UNFINISHED

LEASE = 10
"""TASKS_LEASE."""

ABANDONED = 3 * LEASE
"""So long after its cluster's latest heartbeat, a lease breaks a law."""

KEPT = {"SUCCESSFUL": 40, "FAILED": 100}
"""The retention."""

LOST, WRITTEN = "lease lost", "written"
"""What a worker hears when it writes an outcome."""

Error = tuple[int, str, str, int]
"""Attempt, kind, worker, time."""


@dataclass(frozen=True)
class Row:
    """What a row of tasks_task, with its errors, has to be."""

    path: str
    queue: str
    priority: int
    key: str | None
    max_attempts: int
    due: int
    status: str = "READY"
    attempts: int = 0
    workers: tuple[str, ...] = ()
    errors: tuple[Error, ...] = ()
    lease: uuid.UUID | None = None
    cluster: uuid.UUID | None = None
    leased: int | None = None
    started: int | None = None
    attempted: int | None = None
    finished: int | None = None
    discarded: int | None = None
    cancelled: int | None = None
    expires: int | None = None
    value: Any = None

    @property
    def is_unfinished(self) -> bool:
        return self.status in UNFINISHED

    @property
    def is_waiting(self) -> bool:
        return self.status == "READY" and self.lease is None

    def with_(self, *errors: Error, **values: Any) -> Row:
        return replace(self, errors=(*self.errors, *errors), **values)

    def free(self, *errors: Error, **values: Any) -> Row:
        return self.with_(*errors, lease=None, cluster=None, leased=None, **values)


@dataclass
class Lifecycle:
    """All rows. Each method does what one real function has to do, and returns what it has to return."""

    tasks: dict[int, Row] = field(default_factory=dict)
    clusters: dict[uuid.UUID, int] = field(default_factory=dict)
    """By id, the time of the heartbeat."""
    paused: dict[str, int | None] = field(default_factory=dict)
    """By the name of a queue, until when; None: until it is resumed."""
    clock: int = 0
    accepted: int = 0
    pruned: int = 0

    def copy(self) -> Lifecycle:
        other = copy(self)
        other.tasks, other.clusters, other.paused = self.tasks.copy(), self.clusters.copy(), self.paused.copy()
        return other

    # enqueue

    def holder_of_key(self, row: Row) -> int | None:
        same = (pk for pk, it in self.tasks.items() if it.is_unfinished and (it.path, it.key) == (row.path, row.key))
        return None if row.key is None else next(same, None)

    def enqueue(self, row: Row, pk: int) -> None:
        """Take over what an enqueue made, or the task that it was answered with."""
        existing = self.holder_of_key(row)
        if existing is None:
            assert pk not in self.tasks, "an enqueue makes a new row, unless its key is taken"
            self.tasks[pk] = row
            self.accepted += 1
        else:
            assert pk == existing, "an enqueue whose key is taken is answered with the task that has it"

    # claim, start, release

    def is_paused(self, queue: str) -> bool:
        until = self.paused.get(queue, self.clock)
        return until is None or until > self.clock

    def claim(
        self, exactly_due: dict[int, Any], limit: int, queues: list[str], paths: Iterable[str], **lease: Any
    ) -> list[int]:
        def may_be_claimed(row: Row) -> bool:
            is_due = row.is_waiting and row.due <= self.clock
            return is_due and row.queue in queues and not self.is_paused(row.queue) and row.path in paths

        due = [pk for pk, row in self.tasks.items() if may_be_claimed(row)]
        due.sort(key=lambda pk: (-self.tasks[pk].priority, exactly_due[pk], pk))
        for pk in due[:limit]:
            self.tasks[pk] = self.tasks[pk].with_(leased=self.clock, **lease)
        return due[:limit]

    def holds(self, hold: Lease | Attempt) -> bool:
        """Whether the lease is the row's: of a claimed row for a Lease, of a running one for an Attempt."""
        row = self.tasks.get(hold.task_id)
        status = "RUNNING" if isinstance(hold, Attempt) else "READY"
        return row is not None and (row.lease, row.status) == (hold.lease_id, status)

    def start(self, lease: Lease, worker: str) -> int | None:
        if not self.holds(lease):
            return None
        row = self.tasks[lease.task_id]
        self.tasks[lease.task_id] = row.with_(
            status="RUNNING",
            attempts=row.attempts + 1,
            workers=(*row.workers, worker),
            attempted=self.clock,
            started=self.clock if row.started is None else row.started,
        )
        return row.attempts + 1

    def release(self, cluster: uuid.UUID, older_than: int = 0) -> int:
        claimed = [pk for pk, row in self.tasks.items() if (row.cluster, row.status) == (cluster, "READY")]
        old = [pk for pk in claimed if (self.tasks[pk].leased or 0) + older_than <= self.clock]
        for pk in old:
            self.tasks[pk] = self.tasks[pk].free()
        return len(old)

    # finish

    def ended(self, status: str) -> dict[str, Any]:
        return {"status": status, "finished": self.clock, "expires": self.clock + KEPT[status]}

    def succeed(self, attempt: Attempt, value: Any) -> str:
        if not self.holds(attempt):
            return LOST
        row = self.tasks[attempt.task_id]
        self.tasks[attempt.task_id] = row.free(**self.ended("SUCCESSFUL"), value=value)
        return WRITTEN

    def fail(self, attempt: Attempt, kind: str, delay: int | None, on_purpose: bool = False) -> str:
        if not self.holds(attempt):
            return LOST
        self._fail(attempt.task_id, kind, delay, on_purpose)
        return WRITTEN

    def give_back(self, attempt: Attempt, kind: str | None, delay: int) -> str:
        if not self.holds(attempt):
            return LOST
        self._end(attempt.task_id, kind, delay, uses_attempt=False)
        return WRITTEN

    def refuse(self, attempt: Attempt) -> None:
        row = self.tasks.get(attempt.task_id)
        if row is not None:
            error = (attempt.number, "superseded", attempt.worker_id, self.clock)
            self.tasks[attempt.task_id] = row.with_(error)

    def _fail(self, pk: int, kind: str, delay: int | None, on_purpose: bool = False) -> None:
        row = self.tasks[pk]
        self._end(pk, kind, delay if row.attempts < row.max_attempts else None, on_purpose)

    def _end(
        self, pk: int, kind: str | None, delay: int | None, on_purpose: bool = False, uses_attempt: bool = True
    ) -> None:
        row = self.tasks[pk]
        if row.cancelled is not None:
            kind, delay, on_purpose = "cancelled", None, True
        errors = [(row.attempts, kind, row.workers[-1], self.clock)] if kind else []
        if delay is None:
            changes = self.ended("FAILED") | {"discarded": self.clock if on_purpose else None}
        else:
            changes = {"status": "READY", "due": self.clock + delay}
            if not uses_attempt:
                changes |= {"attempts": row.attempts - 1, "workers": row.workers[:-1]}
        self.tasks[pk] = row.free(*errors, **changes)

    # rescue

    def is_alive(self, cluster: uuid.UUID | None) -> bool:
        return cluster in self.clusters and self.clusters[cluster] > self.clock - LEASE

    def running(self, cluster: uuid.UUID) -> list[int]:
        return [pk for pk, row in self.tasks.items() if (row.cluster, row.status) == (cluster, "RUNNING")]

    def rescue_lost_workers(self, cluster: uuid.UUID, dead: set[str], timed_out: frozenset[str]) -> int:
        lost = [pk for pk in self.running(cluster) if self.tasks[pk].workers[-1] in dead]
        for pk in lost:
            self._rescue(pk, "timeout" if self.tasks[pk].workers[-1] in timed_out else "lost")
        return len(lost)

    def rescue_dead_clusters(self) -> int:
        orphans = [pk for pk, row in self.tasks.items() if row.lease is not None and not self.is_alive(row.cluster)]
        for pk in orphans:
            if self.tasks[pk].status == "READY":
                self.tasks[pk] = self.tasks[pk].free()
            else:
                self._rescue(pk, "lost")
        self.clusters = {cluster: beat for cluster, beat in self.clusters.items() if self.is_alive(cluster)}
        return len(orphans)

    def _rescue(self, pk: int, kind: str) -> None:
        kinds = [*(error[1] for error in self.tasks[pk].errors), kind]
        self._fail(pk, kind, None if kinds[-3:] == ["lost"] * 3 else 0)

    def sign_off(self, cluster: uuid.UUID) -> None:
        for pk in self.running(cluster):
            self._end(pk, "interrupted", 0, uses_attempt=False)
        self.release(cluster)
        self.clusters.pop(cluster, None)

    # the operator, the time

    def retry(self, pks: Iterable[int], extra: int) -> int:
        failed = {pk: row for pk in sorted(pks) if (row := self.tasks[pk]).status == "FAILED"}
        latest = {(row.path, row.key or pk): pk for pk, row in failed.items()}
        again = [pk for pk in latest.values() if self.holder_of_key(failed[pk]) is None]
        for pk in again:
            row = failed[pk]
            self.tasks[pk] = row.with_(
                status="READY",
                max_attempts=max(row.max_attempts, row.attempts + extra),
                due=self.clock,
                finished=None,
                expires=None,
                discarded=None,
                cancelled=None,
            )
        return len(again)

    def discard(self, pks: Iterable[int]) -> int:
        failed = [pk for pk in pks if self.tasks[pk].status == "FAILED" and self.tasks[pk].discarded is None]
        for pk in failed:
            self.tasks[pk] = self.tasks[pk].with_(discarded=self.clock)
        return len(failed)

    def cancel(self, pks: Iterable[int]) -> int:
        count = 0
        for pk in pks:
            row = self.tasks[pk]
            if row.status == "READY":
                error = (row.attempts, "cancelled", "", self.clock)
                requested = {"cancelled": self.clock, "discarded": self.clock}
                self.tasks[pk] = row.free(error, **self.ended("FAILED"), **requested)
            elif row.status == "RUNNING" and row.cancelled is None:
                self.tasks[pk] = row.with_(cancelled=self.clock)
            else:
                continue
            count += 1
        return count

    def prune(self) -> int:
        expired = [pk for pk, row in self.tasks.items() if row.expires is not None and row.expires <= self.clock]
        for pk in expired:
            del self.tasks[pk]
        self.pruned += len(expired)
        return len(expired)

    def notice_clock_step(self, step: int) -> int:
        if step > 0:
            return 0
        self.clusters = {cluster: min(beat, self.clock) for cluster, beat in self.clusters.items()}
        had_been_due = [
            pk for pk, row in self.tasks.items() if row.is_waiting and self.clock < row.due <= self.clock - step
        ]
        for pk in had_been_due:
            self.tasks[pk] = self.tasks[pk].with_(due=self.clock)
        return len(had_been_due)

    def abandoned(self) -> set[int]:
        """Return the rows whose cluster has been silent for so long that a law is broken: it is not rescued yet."""
        recent = {cluster for cluster, beat in self.clusters.items() if beat > self.clock - ABANDONED}
        return {pk for pk, row in self.tasks.items() if row.lease is not None and row.cluster not in recent}
