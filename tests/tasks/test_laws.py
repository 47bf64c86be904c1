"""The laws hold whatever happens, in whatever order.

A machine does to the real tables, through the real functions, whatever can be done to them, and holds `lifecycle`, a
model in plain Python, beside them. After each step the tables are what the model says, and no law of `tasks.audit` is
broken. Some steps arm the next operation of several statements: something else happens between two of them, as another
process would do it, or the database goes away.

The long form, with other examples each time: `LAWS_EXAMPLES=5000 pytest tests/tasks/test_laws.py -n 0`.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest
from django.apps import apps
from django.db import OperationalError, connection, models, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from hypothesis import HealthCheck, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tasks import leases, rescue
from tasks.audit import LAWS, audit
from tasks.cleanup import prune_tasks
from tasks.exceptions import LeaseLost
from tasks.leases import Attempt, Failure, Lease
from tasks.models import Cluster, Queue, Task, TaskError
from tests.tasks.lifecycle import ABANDONED, KEPT, LEASE, LOST, WRITTEN, Lifecycle, Row
from tests.work import tasks as functions

LONG_FORM = int(os.environ.get("LAWS_EXAMPLES", "0"))
EXAMPLES = LONG_FORM or 50
BATCH = 10
"""Examples of one run of Hypothesis: after these it repeats and varies the same ones."""
STEPS = 40

SILENT = 2 * LEASE
LATER = 40
CLOCK_STEP = 60
QUEUES = ["default", "mail"]
NAMES = ["add", "fail", "raise_without_text", "once_for_each_user"]  # 5, 2, 1 and 5 attempts
PATHS = [f"tests.work.tasks.{name}" for name in NAMES]


def minutes(count: int) -> timedelta:
    return timedelta(minutes=count)


# The steps -----------------------------------------------------------------------------------------------------------

STEP: dict[str, tuple[int, str, dict[str, Any]]] = {}


def step(weight: int = 1, needs: str = "clusters", **arguments: st.SearchStrategy[Any]) -> Callable[[Any], Any]:
    """Make a method one of the steps, taken so often, once the machine has something under the name that it needs."""

    def register(method: Any) -> Any:
        STEP[method.__name__] = weight, needs, arguments
        return method

    return register


def next_step(machine: Machine) -> st.SearchStrategy[Any]:
    """Return what may happen next. Hypothesis' own choice leaves most rules out of an example: nothing would run."""
    names = [name for name, (weight, needs, _) in STEP.items() if getattr(machine, needs) for _ in range(weight)]
    return st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), st.fixed_dictionaries(STEP[name][2])))


def one_of(name: str) -> st.SearchStrategy[int]:
    """The number of one of what the machine has under this name."""
    return st.runner().flatmap(lambda machine: st.sampled_from(getattr(machine, name)))


cluster = st.runner().flatmap(lambda machine: st.integers(0, len(machine.clusters) - 1))
lease = st.runner().flatmap(lambda machine: st.integers(0, len(machine.leases) - 1))
numbers = st.integers(1, 3)
delays = st.sampled_from([0, LATER])
queues = st.sampled_from(QUEUES)
chosen = st.integers(0, 3).flatmap(lambda number: one_of("tasks") if number else st.none())
"""One task, or now and then all of them."""
outcomes = st.sampled_from(["success", "success", "exception", "timeout", "discarded", "snooze", "interrupted"])


@dataclass
class Between:
    """Something that happens before the statement of this number, counted without those inside of a transaction."""

    at: int
    act: Callable[[], object]


@dataclass
class Away:
    """The database goes away at the statement of this number: before it did it, or before it could say so."""

    at: int
    is_done: bool


class Machine(RuleBasedStateMachine):
    """What happens to the tables."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Lifecycle()
        self.clusters: list[Cluster] = []
        self.pks: list[int] = []
        self.leases: list[Lease] = []
        self.attempts: list[Attempt] = []
        self.told: list[Attempt] = []
        """Attempts whose outcome was written, and can be seen."""
        self.workers: dict[str, uuid.UUID | None] = {}
        self.dead: set[str] = set()
        self.rows: dict[int, dict[str, Any]] = {}
        self.successful: dict[int, dict[str, Any]] = {}
        self.armed: Between | Away | None = None
        self.has_fired = False

    @initialize()
    def start_with_two_clusters(self):
        with connection.cursor() as cursor:
            for table in ("taskerror", "task", "cluster", "queue"):
                cursor.execute(f"DELETE FROM tasks_{table}")
        for _number in range(2):
            self.start_a_cluster()

    @rule(step=st.runner().flatmap(next_step))
    def happens(self, step):
        """Do a step. Rows and what was handed out for them are numbered, so that a sequence can be read."""
        name, arguments = step
        numbered = {"cluster": self.clusters, "task": self.pks, "lease": self.leases, "attempt": self.attempts}
        for key in arguments.keys() & numbered.keys():
            if arguments[key] is not None:
                arguments[key] = numbered[key][arguments[key]]
        getattr(self, name)(**arguments)

    # what steps choose from

    @property
    def tasks(self) -> list[int]:
        return [number for number, pk in enumerate(self.pks) if pk in self.model.tasks]

    @property
    def claimed(self) -> list[int]:
        return [number for number, lease in enumerate(self.leases) if self.model.holds(lease)]

    @property
    def stale(self) -> list[int]:
        return [number for number, lease in enumerate(self.leases) if not self.model.holds(lease)]

    @property
    def running(self) -> list[int]:
        return [number for number in self.attempts_of_the_living() if self.model.holds(self.attempts[number])]

    @property
    def late(self) -> list[int]:
        return [number for number in self.attempts_of_the_living() if not self.model.holds(self.attempts[number])]

    def attempts_of_the_living(self) -> list[int]:
        return [number for number, attempt in enumerate(self.attempts) if attempt.worker_id not in self.dead]

    # doing it to the tables and to the model

    def do(
        self, act: Callable[[], Any], change: Callable[[Lifecycle], Any], again: Callable[[], Any] | None = None
    ) -> Any:
        """Do it to both; what both return has to be the same.

        What goes on after the database was away, `again`, has to end as if it had not been. Without that, and after
        something came between, each row has the whole change or none; a later round, or a person, goes on from there.
        """
        armed, self.has_fired, result, number = self.armed, False, None, 0
        allowed: dict[int, Row] = {}

        def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            nonlocal number, allowed
            is_inside = isinstance(armed, Between) and connection.in_atomic_block
            if self.has_fired or is_inside or sql.startswith("BEGIN"):
                return execute(sql, params, many, context)
            number += 1
            assert armed is not None
            if number != armed.at:
                return execute(sql, params, many, context)
            self.armed, self.has_fired = None, True
            if isinstance(armed, Away):
                if armed.is_done:
                    execute(sql, params, many, context)
                raise OperationalError("the database is away")
            done = self.settle(change, {})
            before = self.model.tasks
            assert isinstance(armed, Between)
            armed.act()
            self.has_fired = True
            allowed = {pk: row for pk, row in done.items() if self.model.tasks.get(pk) == before.get(pk)}
            return execute(sql, params, many, context)

        try:
            if armed is None:
                result = act()
            else:
                with connection.execute_wrapper(wrapper):
                    result = act()
        except OperationalError:
            if not self.has_fired:
                raise
            result = again() if again else None
        if self.has_fired and again is None:
            self.settle(change, allowed)
        else:
            expected = self.model.copy()
            assert result == change(expected), "what the real one returns is what the model returns"
            self.model = expected
        return result

    def settle(self, change: Callable[[Lifecycle], Any], allowed: dict[int, Row]) -> dict[int, Row]:
        """Take over into the model, row by row, whether the change was done; return the rows if all had been."""
        done = self.model.copy()
        change(done)
        rows, found = done.tasks, self.read()
        for pk in found.keys() | rows.keys() | self.model.tasks.keys():
            either = (rows.get(pk), self.model.tasks.get(pk), allowed.get(pk, rows.get(pk)))
            assert found.get(pk) in either, f"a row has the whole change or none: {pk}\n{found.get(pk)}\n{either}"
        done.tasks, done.clusters = found, self.read_clusters()
        self.model = done
        return rows

    # enqueue

    def enqueue_calls(self, task: Any, calls: list[tuple[Any, ...]], in_bulk: bool) -> None:
        made: list[int] = []

        def act() -> None:
            results = task.enqueue_many(calls) if in_bulk else [task.enqueue(*args) for args in calls]
            made.extend(int(result.id) for result in results)

        def change(model: Lifecycle) -> None:
            due = model.clock + round(((task.run_after or timezone.now()) - timezone.now()) / minutes(10)) * 10
            unheard = Task.objects.exclude(pk__in=model.tasks).values_list("pk", flat=True) if self.has_fired else []
            for args, pk in zip(calls, made or unheard, strict=False):
                key = task.idempotency_key and task.idempotency_key(*args)
                row = Row(task.module_path, task.queue_name, task.priority, key, task.max_attempts, due)
                if not (self.has_fired and pk == earlier.holder_of_key(row)):  # it may have ended before the answer
                    model.enqueue(row, pk)

        earlier = self.model
        self.do(act, change)
        self.pks += [pk for pk in self.model.tasks if pk not in self.pks]

    @step(
        2,
        name=st.sampled_from(["add", "fail", "raise_without_text"]),
        queue=queues,
        priority=st.sampled_from([0, 0, -100, 100]),
        delay=st.sampled_from([None, None, None, -LATER, LATER]),
    )
    def enqueue(self, name, queue, priority, delay, count=1):
        run_after = None if delay is None else timezone.now() + minutes(delay)
        task = getattr(functions, name).using(queue_name=queue, priority=priority, run_after=run_after)
        self.enqueue_calls(task, [(1,) if name == "add" else ()] * count, count > 1)

    @step(count=st.integers(2, 3), name=st.sampled_from(["add", "fail"]), priority=st.sampled_from([0, 100]))
    def enqueue_in_bulk(self, count, name, priority):
        self.enqueue(name, "default", priority, None, count)

    @step(user=numbers)
    def enqueue_with_a_key(self, user):
        self.enqueue_calls(functions.once_for_each_user, [(user,)], in_bulk=False)

    @step(users=st.lists(numbers, min_size=2, max_size=3))
    def enqueue_with_keys_in_bulk(self, users):
        self.enqueue_calls(functions.once_for_each_user, [(user,) for user in users], in_bulk=True)

    @step(user=numbers)
    def enqueue_and_roll_back(self, user):
        with transaction.atomic():
            functions.add.enqueue(1)
            functions.add.enqueue_many([(1,), (2,)])
            functions.once_for_each_user.enqueue(user)
            transaction.set_rollback(True)

    # claim, start, release

    @step()
    def start_a_cluster(self):
        if len(self.clusters) < 4:
            self.clusters.append(Cluster(host="host", pid=len(self.clusters), queues=QUEUES))
            self.beat(self.clusters[-1])

    @step(cluster=cluster)
    def beat(self, cluster):
        self.do(lambda: rescue.heartbeat(cluster), lambda model: model.clusters.update({cluster.pk: model.clock}))

    @step(
        6,
        cluster=cluster,
        limit=numbers,
        queues=st.sampled_from([QUEUES, QUEUES, QUEUES, ["mail"], ["default"]]),
        names=st.sampled_from(["all", "all", "all", "add"]),
    )
    def claim(self, cluster, limit, queues, names):
        paths = PATHS if names == "all" else [f"tests.work.tasks.{names}"]
        taken: list[Lease] = []
        exactly_due = {pk: row["run_after"] for pk, row in self.rows.items()}

        def act() -> list[int]:
            taken.extend(leases.claim(cluster.pk, limit, queues, paths))
            return [lease.task_id for lease in taken]

        def change(model: Lifecycle) -> Any:
            known = [lease.lease_id for lease in self.leases]
            claimed = Task.objects.filter(lease_id__isnull=False).exclude(lease_id__in=known)
            unheard = claimed.values_list("lease_id", flat=True).first() if self.has_fired else None
            lease_id = taken[0].lease_id if taken else unheard
            most = 99 if self.has_fired else limit  # it may have looked before something changed the order
            return model.claim(exactly_due, most, queues, paths, cluster=cluster.pk, lease=lease_id)

        self.do(act, change)
        self.leases += taken

    def begin(self, lease: Lease) -> None:
        worker = f"host:{len(self.workers)}"
        self.workers[worker] = self.rows[lease.task_id]["cluster_id"] if lease.task_id in self.rows else None
        started: list[Attempt] = []

        def number_of(attempt: Attempt | None) -> int | None:
            started.extend([attempt] if attempt else [])
            return attempt.number if attempt else None

        self.do(
            lambda: number_of(leases.start(lease.task_id, lease.lease_id, worker)),
            lambda model: model.start(lease, worker),
            again=lambda: number_of(
                leases.start(lease.task_id, lease.lease_id, worker)
                or leases.started(lease.task_id, lease.lease_id, worker)
            ),
        )
        self.attempts += started

    @step(12, needs="claimed", lease=one_of("claimed"))
    def start(self, lease):
        self.begin(lease)

    @step(needs="stale", lease=one_of("stale"))
    def start_late(self, lease):
        self.begin(lease)
        assert leases.started(lease.task_id, lease.lease_id, "another worker") is None

    @step(cluster=cluster, older_than=st.sampled_from([0, ABANDONED]))
    def release(self, cluster, older_than):
        self.do(
            lambda: leases.release(cluster.pk, minutes(older_than)),
            lambda model: model.release(cluster.pk, older_than),
        )

    # finish

    def finish(self, attempt: Attempt, how: str, delay: int) -> None:
        def write() -> None:
            match how:
                case "success":
                    leases.succeed(attempt, f"{attempt.number}")
                case "discarded":
                    leases.fail(attempt, Failure(TaskError.Kind.DISCARDED), None, on_purpose=True)
                case "snooze":
                    leases.give_back(attempt, minutes(delay))
                case "interrupted":
                    leases.give_back(attempt, minutes(delay), Failure(TaskError.Kind.INTERRUPTED))
                case _:
                    leases.fail(attempt, Failure(TaskError.Kind(how)), minutes(delay))

        def change(model: Lifecycle) -> str:
            match how:
                case "success":
                    return model.succeed(attempt, attempt.number)
                case "snooze" | "interrupted":
                    return model.give_back(attempt, None if how == "snooze" else how, delay)
                case _:
                    on_purpose = how == "discarded"
                    return model.fail(attempt, how, None if on_purpose else delay, on_purpose)

        def act() -> str:
            try:
                write()
            except LeaseLost:
                return LOST
            return WRITTEN

        def again() -> str:
            return WRITTEN if act() == WRITTEN else self.asked_again(attempt)

        if self.do(act, change, again) == LOST:
            self.is_too_late(attempt)
        elif how != "snooze" or self.model.tasks[attempt.task_id].cancelled is not None:
            self.told.append(attempt)

    def asked_again(self, attempt: Attempt) -> str:
        """Return what a worker finds out whose lease is gone once the database is back: it may have let go itself."""
        return WRITTEN if leases.is_concluded(attempt) and attempt not in self.told else LOST

    def is_too_late(self, attempt: Attempt) -> None:
        is_told = attempt in self.told and attempt.task_id in self.model.tasks
        assert leases.is_concluded(attempt) is is_told, "a worker is told what became of its outcome"
        if not is_told:
            self.do(lambda: leases.refuse(attempt, "too late"), lambda model: model.refuse(attempt))

    @step(8, needs="running", attempt=one_of("running"), how=outcomes, delay=delays)
    def end(self, attempt, how, delay):
        self.finish(attempt, how, delay)

    @step(2, needs="late", attempt=one_of("late"), how=outcomes, delay=delays)
    def end_late(self, attempt, how, delay):
        before = self.rows.get(attempt.task_id)
        self.finish(attempt, how, delay)
        self.read()
        assert self.rows.get(attempt.task_id) == before, "a late finisher changes nothing"

    @step(3, needs="running", attempt=one_of("running"), lease=lease)
    def end_and_start(self, attempt, lease):
        self.succeed_and_start(attempt, lease)

    @step(needs="late", attempt=one_of("late"), lease=lease)
    def end_late_and_start(self, attempt, lease):
        self.succeed_and_start(attempt, lease)

    def succeed_and_start(self, attempt: Attempt, lease: Lease) -> None:
        if (attempt.task_id, attempt.lease_id) == (lease.task_id, lease.lease_id):
            return  # a worker that was given this row has started it and waits for no other answer
        started: list[Attempt] = []
        next_, worker = (lease.task_id, lease.lease_id), attempt.worker_id

        def both(is_ours: bool, following: Attempt | None) -> tuple[str, int | None]:
            started.extend([following] if following else [])
            return WRITTEN if is_ours else LOST, following.number if following else None

        def again() -> tuple[str, int | None]:
            following = leases.start(*next_, worker) or leases.started(*next_, worker)
            try:
                leases.succeed(attempt, f"{attempt.number}")
            except LeaseLost:
                return both(self.asked_again(attempt) == WRITTEN, following)
            return both(True, following)

        result = self.do(
            lambda: both(
                *leases.succeed_and_start(attempt, f"{attempt.number}", *next_, is_durable=attempt.number == 1)
            ),
            lambda model: (model.succeed(attempt, attempt.number), model.start(lease, worker)),
            again,
        )
        self.attempts += started
        if result[0] == LOST:
            self.is_too_late(attempt)
        else:
            self.told.append(attempt)

    # crash and rescue

    @step(3, needs="running", attempt=one_of("running"))
    def a_worker_crashes(self, attempt):
        self.dead.add(attempt.worker_id)

    @step(cluster=cluster)
    def a_cluster_falls_silent(self, cluster):
        if cluster.pk in self.model.clusters:
            Cluster.objects.filter(pk=cluster.pk).update(heartbeat_at=Now() - minutes(SILENT))
            self.model.clusters[cluster.pk] = self.model.clock - SILENT

    @step(3, cluster=cluster, is_out_of_time=st.booleans())
    def rescue_lost_workers(self, cluster, is_out_of_time):
        timed_out = frozenset(self.dead if is_out_of_time else ())
        self.do(
            lambda: rescue.rescue_lost_workers(cluster.pk, lambda worker: worker not in self.dead, timed_out),
            lambda model: model.rescue_lost_workers(cluster.pk, self.dead, timed_out),
        )

    @step(2)
    def rescue_dead_clusters(self):
        self.do(rescue.rescue_dead_clusters, lambda model: model.rescue_dead_clusters())

    @step(3)
    def what_is_due_starts_and_is_lost(self):
        self.do_all("claim")
        self.do_all("start")
        self.dead |= self.workers.keys()
        for cluster in self.clusters:
            self.rescue_lost_workers(cluster, is_out_of_time=False)

    @step(cluster=cluster)
    def sign_off(self, cluster):
        self.dead |= {worker for worker, its_cluster in self.workers.items() if its_cluster == cluster.pk}
        self.do(lambda: rescue.sign_off(cluster.pk), lambda model: model.sign_off(cluster.pk))

    # the operator

    @step(queue=queues, until=st.sampled_from([None, LATER]))
    def pause(self, queue, until):
        Queue.objects.pause(queue, "operator", until=until and timezone.now() + minutes(until))
        self.model.paused[queue] = until and self.model.clock + until

    @step(2, queue=queues)
    def resume(self, queue):
        was_paused = queue in self.model.paused
        assert Queue.objects.resume(queue) is was_paused
        self.model.paused.pop(queue, None)

    def do_to(self, task: int | None, act: Callable[[Any], int], change: Callable[[Lifecycle, list[int]], int]) -> None:
        pks = list(self.model.tasks) if task is None else [task]
        self.do(lambda: act(Task.objects.filter(pk__in=pks)), lambda model: change(model, pks))

    @step(2, needs="tasks", task=chosen, extra=numbers)
    def retry(self, task, extra):
        self.do_to(task, lambda rows: rows.retry(extra), lambda model, pks: model.retry(pks, extra))

    @step(needs="tasks", task=chosen)
    def discard(self, task):
        self.do_to(task, lambda rows: rows.discard(), Lifecycle.discard)

    @step(needs="tasks", task=chosen)
    def cancel(self, task):
        self.do_to(task, lambda rows: rows.cancel("operator"), Lifecycle.cancel)

    @step(cluster=cluster)
    def look_for_cancelled_tasks(self, cluster):
        found = [(task_id, worker) for task_id, worker, _age in rescue.cancel_requests(cluster.pk)]
        rows = self.model.tasks.items()
        running = [(pk, row) for pk, row in rows if (row.cluster, row.status) == (cluster.pk, "RUNNING")]
        assert sorted(found) == sorted((pk, row.workers[-1]) for pk, row in running if row.cancelled is not None)

    @step()
    def prune(self):
        self.do(prune_tasks, lambda model: model.prune())

    # what comes between

    @step(2, at=st.integers(1, 4), is_done=st.booleans())
    def the_database_will_go_away(self, at, is_done):
        self.armed = Away(at, is_done)

    @step(
        2,
        at=st.integers(2, 5),
        what=st.sampled_from(["success", "exception", "snooze", "start", "claim", "beat", "rescue", "retry", "cancel"]),
    )
    def something_will_come_between(self, at, what):
        self.armed = Between(at, lambda: self.do_all(what))

    def do_all(self, what: str) -> None:
        match what:
            case "beat":
                for cluster in self.clusters:
                    if cluster.pk in self.model.clusters:  # or it may be in the middle of a beat that makes its row
                        self.beat(cluster)
            case "rescue":
                self.rescue_dead_clusters()
            case "retry":
                self.retry(None, 1)
            case "cancel":
                self.cancel(None)
            case "claim":
                self.claim(self.clusters[0], 3, QUEUES, "all")
            case "start":
                for number in self.claimed:
                    self.begin(self.leases[number])
            case "fail later":
                self.do_all("claim")
                self.do_all("start")
                for number in self.running:
                    self.finish(self.attempts[number], "exception", LATER)
            case outcome:
                for number in self.running:
                    self.finish(self.attempts[number], outcome, 0)

    # the clock

    @step(is_forward=st.booleans(), is_noticed=st.booleans())
    def the_clock_steps(self, is_forward, is_noticed):
        """Move all that is stored the other way: the tables are then as the database sees them after such a step."""
        size = CLOCK_STEP if is_forward else -CLOCK_STEP
        for model in apps.get_app_config("tasks").get_models():
            times = [field.name for field in model._meta.concrete_fields if isinstance(field, models.DateTimeField)]
            if times and not model._meta.proxy:
                model._default_manager.update(**{name: F(name) - minutes(size) for name in times})
        self.model.clock += size
        for row in self.successful.values():
            row |= {name: value - minutes(size) for name, value in row.items() if isinstance(value, datetime)}
        if is_noticed:
            self.do(lambda: rescue.notice_clock_step(minutes(size)), lambda model: model.notice_clock_step(size))

    # what holds after each step

    @invariant()
    def the_laws_hold(self):
        tasks = self.read()
        assert tasks == self.model.tasks, self.differences(tasks)
        assert self.read_clusters() == self.model.clusters, "the clusters are what the model says"

        with connection.cursor() as cursor:
            cursor.execute(*_laws())
            broken = cursor.fetchall()
        assert set(broken) == {("leased by the living", pk) for pk in self.model.abandoned()}, "no law is broken"

        holders = Counter(hold.task_id for hold in [*self.leases, *self.attempts] if self.model.holds(hold))
        leased = Counter(pk for pk, row in self.rows.items() if row["lease_id"])
        assert holders - leased == Counter(), "no two hold the lease of one row"

        for pk, row in self.successful.items():
            assert pk not in self.rows or self.rows[pk] == row, "nothing ever happens to a SUCCESSFUL row"
        self.successful = {pk: row for pk, row in self.rows.items() if row["status"] == "SUCCESSFUL"}

    @step()
    def audit(self):
        found = audit()
        parts = [found[part] for part in ("accepted", "pruned")]
        assert parts == [self.model.accepted, self.model.pruned], "what was accepted is there or was pruned"
        assert found["ok"] is not bool(self.model.abandoned())

    def differences(self, tasks: dict[int, Row]) -> str:
        lines = ["the tables are what the model says"]
        for pk in sorted(tasks.keys() | self.model.tasks.keys()):
            if tasks.get(pk) != self.model.tasks.get(pk):
                lines += [f"table {pk}: {tasks.get(pk)}", f"model {pk}: {self.model.tasks.get(pk)}"]
        return "\n".join(lines)

    def read(self) -> dict[int, Row]:
        """Return what the tables are, as the model says it."""
        now = timezone.now()

        def minute(time: datetime | None) -> Any:
            return None if time is None else self.model.clock + round((time - now) / minutes(10)) * 10

        errors: dict[int, list[Any]] = {}
        columns = "task_id", "attempt", "kind", "worker_id", "created_at"
        for task_id, attempt, kind, worker, created_at in TaskError.objects.order_by("pk").values_list(*columns):
            errors.setdefault(task_id, []).append((attempt, kind, worker, minute(created_at)))
        self.rows = {row["id"]: dict(row) for row in Task.objects.order_by("pk").values()}
        assert errors.keys() <= self.rows.keys()
        return {
            pk: Row(
                path=row["task_path"],
                queue=row["queue_name"],
                priority=row["priority"],
                key=row["idempotency_key"],
                max_attempts=row["max_attempts"],
                due=minute(row["run_after"]),
                status=row["status"],
                attempts=row["attempts"],
                workers=tuple(row["worker_ids"]),
                errors=tuple(errors.get(pk, [])),
                lease=row["lease_id"],
                cluster=row["cluster_id"],
                leased=minute(row["leased_at"]),
                started=minute(row["started_at"]),
                attempted=minute(row["last_attempted_at"]),
                finished=minute(row["finished_at"]),
                discarded=minute(row["discarded_at"]),
                cancelled=minute(row["cancel_requested_at"]),
                expires=minute(row["expires_at"]),
                value=row["return_value"],
            )
            for pk, row in self.rows.items()
        }

    def read_clusters(self) -> dict[uuid.UUID, int]:
        now = timezone.now()
        beats = Cluster.objects.values_list("pk", "heartbeat_at")
        return {pk: self.model.clock + round((at - now) / minutes(10)) * 10 for pk, at in beats}


@cache
def _laws() -> tuple[str, list[Any]]:
    """Return one statement for the rows that break a law; Django would need longer to build it than to run it."""
    parts: list[str] = []
    params: list[Any] = []
    for law in LAWS:
        sql, values = law.breakers().order_by().values_list("pk").query.sql_with_params()
        parts.append(f"SELECT '{law.name}', pk FROM ({sql}) AS breakers")
        params += values
    return " UNION ALL ".join(parts), params


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(0 if LONG_FORM else 120)
def test_the_laws_hold_whatever_happens(settings):
    settings.TASKS_LEASE = LEASE * 60
    settings.TASKS_RETENTION_SUCCESSFUL, settings.TASKS_RETENTION_FAILED = (60 * kept for kept in KEPT.values())
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")  # no server crashes here: do not wait for its disk
    first = int.from_bytes(os.urandom(4)) if LONG_FORM else 0
    for number in range(first, first + EXAMPLES // BATCH):
        run_state_machine_as_test(
            seed(number)(Machine),
            settings=hypothesis_settings(
                max_examples=BATCH,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
