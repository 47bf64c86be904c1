"""A running `qcluster`: the tree of processes. All reliance on django-q2's private behaviour is in this module.

    qcluster (the parent: signals)
    '- sentinel       starts and watches the others, ends attempts that do not stop, drains
       |- worker ...  django-q2's loop around `tasks.runner.run`
       |- pusher      django-q2's loop around `tasks.broker`: claims
       '- housekeeper heartbeat and rescue

How it stands on django-q2 1.11 (`Cluster`, `Sentinel`, `worker`, `pusher`):

- Its events and queues are locks, which a process that is killed holds for ever; ours (`tasks.shared`) have none.
- Its results travel to a monitor process, and get lost there if the database is away; our workers write outcomes
  themselves, and there is no monitor.
- Its children die of SIGTERM, tasks and all, when a service manager signals the whole group; ours ignore it, and the
  sentinel drains.
- Its children outlive a killed parent; ours watch it.
- Its timeout of a package is never used: a worker announces its deadline in shared memory, the sentinel kills it after.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db import Error as DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django_q import cluster as django_q_cluster
from django_q.pusher import pusher
from django_q.worker import worker

from tasks import checkpoints, leases, rescue, timetable
from tasks.broker import DatabaseBroker
from tasks.functions import registry
from tasks.housekeeper import keep_house
from tasks.models import Cluster as ClusterRow
from tasks.outage import Outage
from tasks.runner import run
from tasks.shared import Channel, Depth, Flag, Slots, fork
from tasks.worker import Worker

logger = logging.getLogger(__name__)

WATCH = 0.5
"""Seconds between two looks of the sentinel at its children, and of a child at its parent."""

INTERRUPT_FOR = 1.0
"""Seconds that an interrupted task gets, after the grace, to end by itself; then its worker is killed."""

PUSHER_ENDS = 0.3
"""Seconds that the pusher gets to end by itself once the cluster drains."""

LAST_WRITES = 0.7
"""Seconds that each of the two last writes of a cluster may take. With the two above: less than 3 after the grace."""


def worker_id(cluster: ClusterRow, pid: int) -> str:
    """Return the name of a worker process, as it is kept in `Task.worker_ids`."""
    return f"{cluster.host}:{pid}:{cluster.pk.hex[:8]}"


class Cluster(django_q_cluster.Cluster):
    """The parent process: owns the row of the cluster, takes the signals, keeps a sentinel running."""

    def __init__(self, queues: list[str], workers: int) -> None:
        super().__init__()
        self.row = ClusterRow(host=self.host[:200], pid=os.getpid(), queues=queues, task_paths=sorted(registry))
        self.workers = workers
        self.stop_event = Flag()

    def sig_handler(self, signum: int, frame: object) -> None:
        """Ask the sentinel to drain. Takes no lock, so it may come at any time, any number of times."""
        self.stop_event.set()

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, and until the drain after it is over. A sentinel that dies is replaced."""
        rescue.heartbeat(self.row)
        if settings.TASKS_SCHEDULES:
            timetable.declare()
        else:
            logger.info("cluster %s leaves schedules alone: TASKS_SCHEDULES=0", self.row)
        logger.info("cluster %s started: %s workers, queues %s", self.row, self.workers, ", ".join(self.row.queues))
        while True:
            connections.close_all()
            self.sentinel = fork.Process(
                target=_child, args=(Sentinel, os.getpid(), self.stop_event, self.row, self.workers), name="sentinel"
            )
            self.sentinel.start()
            while self.sentinel.is_alive():
                self.sentinel.join(WATCH)
            if self.stop_event.is_set():
                break
            logger.critical("the sentinel died (exit code %s); starting another", self.sentinel.exitcode)
            self.stop_event.wait(3 * WATCH)  # until the last of its children has noticed
        logger.info("cluster %s stopped", self.row)


class Sentinel(django_q_cluster.Sentinel):
    """Starts the children, watches them, and takes the tree down. Touches no database before its last fork."""

    def __init__(self, stop: Flag, row: ClusterRow, workers: int) -> None:
        self.row = row
        self.slots = Slots(workers)
        broker = DatabaseBroker()
        super().__init__(stop, Flag(), row.pk, broker, start=False)
        self.pool_size = workers
        self.event_out = stop
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda signum, frame: stop.set())
        broker.cluster_id = row.pk
        broker.queues = row.queues
        broker.is_draining = stop.is_set
        self.task_queue = Channel(self.slots, run)
        depth = Depth(self.task_queue, self.slots)
        broker.room, broker.wait_for_room = depth.room, depth.wait
        self.start()

    def start(self) -> None:
        """Start everything, watch it until the stop is asked for, take it down."""
        self.pool: list[BaseProcess] = [self.spawn_in(slot) for slot in range(self.pool_size)]
        self.pusher = self.spawn_pusher()
        self.housekeeper = self.spawn_housekeeper()
        self.guard()
        self.stop()

    def spawn(self, target: Callable[..., Any], *args: Any) -> BaseProcess:
        """Start a child that ignores the signals of the group and ends with this process."""
        process = fork.Process(target=_child, args=(target, os.getpid(), *args), name=target.__name__)
        process.start()
        return process

    def spawn_in(self, slot: int) -> BaseProcess:
        """Start a worker."""
        self.slots.clear(slot)
        return self.spawn(_work, self.row, self.slots, slot, self.stop_event, self.task_queue)

    def spawn_pusher(self) -> BaseProcess:
        """Start the pusher."""
        return self.spawn(_push, self.task_queue, self.event_out, self.broker)

    def spawn_housekeeper(self) -> BaseProcess:
        """Start the housekeeper, with a new pipe that tells it which workers ended."""
        ended, self.ended = fork.Pipe(duplex=False)
        return self.spawn(_keep_house, self.row, self.slots, ended, partial(worker_id, self.row))

    def guard(self) -> None:
        """Replace what dies and kill what is out of time, until the stop is asked for."""
        while not self.stop_event.is_set():
            children = [*self.pool, self.pusher, self.housekeeper]
            multiprocessing.connection.wait([child.sentinel for child in children], timeout=WATCH / 2)
            for slot, process in enumerate(self.pool):
                self.check_worker(slot, process)
            if not self.pusher.is_alive() and not self.stop_event.is_set():
                logger.error("the pusher died; starting another")
                self.pusher = self.spawn_pusher()
            if not self.housekeeper.is_alive():
                logger.error("the housekeeper died; starting another")
                self.housekeeper = self.spawn_housekeeper()

    def check_worker(self, slot: int, process: BaseProcess) -> None:
        """Kill the worker if its task does not stop; if it is gone, have its task rescued and start another."""
        deadline = self.slots.deadlines[slot]
        out_of_time = bool(deadline) and time.monotonic() > deadline
        if out_of_time:
            process.kill()
            process.join()
        if process.is_alive():
            return
        gone = worker_id(self.row, process.pid or 0)
        if out_of_time:
            logger.error("worker %s was killed: its task did not stop when its time was up", gone)
        elif process.exitcode:
            logger.error("worker %s died (exit code %s); starting another", gone, process.exitcode)
        try:
            self.ended.send((gone, out_of_time))  # before its slot is cleared: after that it counts as lost
        except OSError:
            logger.warning("the housekeeper is gone; the next one looks after worker %s", gone)
        self.pool[slot] = self.spawn_in(slot)

    def stop(self) -> None:
        """Drain: release what has not started, wait for what runs, interrupt it after the grace, end the tree."""
        deadline = time.monotonic() + settings.TASKS_SHUTDOWN_GRACE
        logger.info("cluster %s drains, at most %g s", self.row, settings.TASKS_SHUTDOWN_GRACE)
        self.pusher.join(PUSHER_ENDS)
        _end(self.pusher)
        _write(lambda: leases.release(self.row.pk))
        self.wait_for_workers(deadline)
        for process in self.pool:
            if process.is_alive():
                os.kill(process.pid or 0, signal.SIGUSR1)
        self.wait_for_workers(time.monotonic() + INTERRUPT_FOR)
        for process in [*self.pool, self.housekeeper]:
            _end(process)
        _write(lambda: rescue.sign_off(self.row.pk))

    def wait_for_workers(self, deadline: float) -> None:
        """End each worker once it is idle; return when none is left, or at the deadline."""
        while True:
            for slot, process in enumerate(self.pool):
                if not self.slots.busy[slot]:
                    _end(process)
            alive = [process.sentinel for process in self.pool if process.is_alive()]
            left = deadline - time.monotonic()
            if not alive or left <= 0:
                return
            multiprocessing.connection.wait(alive, timeout=min(0.05, left))


def _child(target: Callable[..., Any], parent: int, *args: Any) -> None:
    """Run in a new process: leave the signals of the group to the sentinel, and never outlive the parent."""
    for signum in SIGNALS:
        signal.signal(signum, _pass_over)
    if sys.platform == "linux":  # the kernel does it, at once
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    try:
        target(*args)
    except BaseException:
        logger.critical("%s failed", target.__name__, exc_info=True)
        os._exit(1)  # at once: multiprocessing would first wait for the children, which nobody watches any more


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def _pass_over(signum: int, frame: object) -> None:
    """Do nothing. Unlike SIG_IGN, this is not inherited by programs that a task starts."""


def _reset_signals() -> None:
    """Give what a task forks the signals of any program."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_DFL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH)
    os._exit(1)


def _work(row: ClusterRow, slots: Slots, slot: int, stop: Flag, channel: Channel) -> None:
    """Be a worker: django-q2's loop, and the runner told where it is."""
    logging.raiseExceptions = False  # a task may have closed what the log is written to
    os.register_at_fork(after_in_child=_reset_signals)
    slots.pids[slot] = os.getpid()
    connection_created.connect(_for_tasks)
    Worker.id = worker_id(row, os.getpid())
    Worker.is_draining = stop.is_set
    Worker.is_cancelled = lambda task_id: slots.cancelled[slot] == task_id
    Worker.announce_busy = partial(slots.busy.__setitem__, slot)
    Worker.announce_task = partial(slots.task_ids.__setitem__, slot)
    Worker.announce = partial(slots.deadlines.__setitem__, slot)
    Worker.take = channel.take
    Worker.give_up = lambda: os._exit(70)
    Worker.outage = Outage(f"worker {Worker.id}")
    channel.slot = slot
    worker(channel, _Nowhere(), fork.Value("f", -1), -1)


FOR_TASKS = f"PRAGMA wal_autocheckpoint = {checkpoints.LATE}"


def _for_tasks(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    """Set up a worker's connection to SQLite, not those of its tasks to other files."""
    if connection.vendor == "sqlite" and connection.alias == DEFAULT_DB_ALIAS:
        with connection.cursor() as cursor:
            cursor.execute(FOR_TASKS)


def _push(*args: Any) -> None:
    """Be the pusher: django-q2's loop."""
    connection_created.connect(_for_claims)
    pusher(*args)


def _keep_house(*args: Any) -> None:
    """Be the housekeeper."""
    connection_created.connect(_for_looks)
    keep_house(*args)


FOR_LOOKS = """
    SET enable_seqscan = off;  -- a plan is kept when the table, small while it was made, has grown
    SET jit = off;  -- it takes longer than the statement
"""

FOR_CLAIMS = f"""{FOR_LOOKS}
    SET enable_sort = off;  -- walk the index in its order: where PostgreSQL has counted few rows, many may wait by now
    SET enable_bitmapscan = off;  -- it knows no order
    SET plan_cache_mode = force_generic_plan;  -- a claim takes longer to plan than to run
    SET synchronous_commit = off;  -- neither a claim nor a wake-up need survive the server
"""


def _for_looks(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    """Set up a connection of the housekeeper to PostgreSQL."""
    _set(connection, FOR_LOOKS)


def _for_claims(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    """Set up a connection of the pusher to PostgreSQL."""
    _set(connection, FOR_CLAIMS)


def _set(connection: BaseDatabaseWrapper, settings_: str) -> None:
    is_ours = threading.current_thread() is threading.main_thread()  # receivers of attempt_failed have a thread
    if connection.vendor == "postgresql" and is_ours:
        with connection.cursor() as cursor:
            cursor.execute(settings_)


class _Nowhere:
    """Where django-q2's worker puts its results: the runner has written the outcome, and returns None."""

    def put(self, result: object) -> None:
        """Let it go."""


def _end(process: BaseProcess) -> None:
    if process.is_alive():
        process.kill()
    process.join()


def _write(write: Callable[[], object]) -> None:
    """Do the last writes of a cluster; if the database does not answer in time, another cluster will, see rescue."""

    def try_it() -> None:
        try:
            write()
        except DatabaseError as error:
            logger.error("left to the rescue by another cluster: %s", str(error).strip().split("\n")[0])
        finally:
            connections.close_all()

    thread = threading.Thread(target=try_it, daemon=True)  # after the last fork
    thread.start()
    thread.join(LAST_WRITES)
    if thread.is_alive():
        logger.error("the database does not answer: the last writes are left to the rescue by another cluster")
