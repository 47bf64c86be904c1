"""What the processes of a cluster share: memory and a socket, made before the fork, used without a lock.

A process that is killed while it holds a lock keeps it for ever; one idle worker of django-q2, killed in the queue's
`get`, stops all the others. Here each byte has one writer, and the kernel hands each message to one reader.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import select
import socket
import struct
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

fork = multiprocessing.get_context("fork")

LARGEST_MESSAGE = 2048
"""Bytes: an id, a lease and the path of a function, of at most 255 characters."""


class Flag:
    """A switch. Has what django-q2 uses of multiprocessing.Event, whose `set` may block in a signal handler."""

    def __init__(self) -> None:
        self._byte = fork.RawValue(ctypes.c_byte, 0)

    def set(self) -> None:
        """Switch it on, for good."""
        self._byte.value = 1

    def is_set(self) -> bool:
        """Return whether it is on."""
        return bool(self._byte.value)

    def wait(self, seconds: float) -> bool:
        """Return whether it is on, as soon as it is, at the latest after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.is_set() and time.monotonic() < deadline:
            time.sleep(min(0.05, seconds))
        return self.is_set()


class Slots:
    """One place for each worker. The worker writes it, but for `cancelled`; the sentinel clears it between two."""

    def __init__(self, count: int) -> None:
        self.pids = fork.RawArray(ctypes.c_long, count)
        self.busy = fork.RawArray(ctypes.c_byte, count)
        self.task_ids = fork.RawArray(ctypes.c_longlong, count)
        """The task that the worker is at, from its start to its outcome; 0: none."""
        self.deadlines = fork.RawArray(ctypes.c_double, count)
        """`time.monotonic()` after which the worker's task has had its time; 0: it is under no limit."""
        self.cancelled = fork.RawArray(ctypes.c_longlong, count)
        """The task that somebody cancelled while it ran here. Written by the housekeeper."""

    def clear(self, slot: int) -> None:
        """Forget the worker that was here."""
        self.pids[slot] = self.busy[slot] = self.task_ids[slot] = self.cancelled[slot] = 0
        self.deadlines[slot] = 0

    def free(self) -> int:
        """Return how many workers have nothing to do."""
        return sum(1 for pid, busy in zip(self.pids, self.busy, strict=True) if pid and not busy)

    def alive(self) -> list[int]:
        """Return the process ids of the workers."""
        return [pid for pid in self.pids if pid]


class Claimed(NamedTuple):
    """What travels from the pusher to a worker: a row that was claimed, and under which lease."""

    task_id: int
    lease_id: uuid.UUID
    task_path: str


@lru_cache(maxsize=16)  # the tasks of one claim come one after the other
def _lease_id(raw: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=raw)


class Channel:
    """Claimed tasks from the pusher to whichever worker is free. Takes the place of django-q2's task queue.

    A socket that keeps messages whole: a worker takes one or none, wherever it is killed. It says that it is busy, and
    counts, before it takes, so that the pusher never sees more free workers than there are.
    """

    _HEAD = struct.Struct("!q16s")

    def __init__(self, slots: Slots, run: Callable[[int, str], None]) -> None:
        kind = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, kind)
        self._ear, self._bell = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        """The bell is for a worker that finds nothing to do, the ear is the pusher's."""
        self._bell.setblocking(False)
        self._run = run
        self._slots = slots
        self._put = fork.RawValue(ctypes.c_long, 0)
        self._taken = fork.RawArray(ctypes.c_long, len(slots.pids))
        self.slot = 0
        """Where this worker is; set in each worker after the fork."""

    def close(self) -> None:
        """Close all ends in this process."""
        for end in (self._reader, self._writer, self._ear, self._bell):
            end.close()

    def put(self, package: dict[str, Any]) -> None:
        """Send the tasks of a package of the broker, one by one; wait while the socket is full."""
        lease_id, tasks = package["args"]
        lease = uuid.UUID(lease_id).bytes
        for task_id, path in tasks:
            self._writer.send(self._HEAD.pack(task_id, lease) + path.encode())
            self._put.value += 1

    def get(self) -> dict[str, Any]:
        """Wait for a task and return it as what django-q2's worker calls."""
        while True:
            self._slots.busy[self.slot] = 1
            claimed = self.take()
            if claimed is not None:
                break
            self._slots.busy[self.slot] = 0
            self.ring()
            self._reader.recv(1, socket.MSG_PEEK)
        return {
            "id": claimed.lease_id.hex,
            "name": f"{claimed.task_path} #{claimed.task_id}",
            "func": self._run,
            "args": (claimed.task_id, claimed.lease_id.hex),
            "kwargs": {},
            "timeout": -1,  # the runner's own timer and the sentinel's deadline limit an attempt
        }

    def ring(self) -> None:
        """Tell the pusher that a worker is free."""
        with suppress(BlockingIOError):  # it has rung often enough
            self._bell.send(b"!")

    def take(self) -> Claimed | None:
        """Return a task if one waits."""
        self._taken[self.slot] += 1
        try:
            message = self._reader.recv(LARGEST_MESSAGE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._taken[self.slot] -= 1
            return None
        task_id, lease = self._HEAD.unpack_from(message)
        return Claimed(task_id, _lease_id(lease), message[self._HEAD.size :].decode())

    def wait_for_a_free_worker(self, seconds: float) -> None:
        """Return when a worker found nothing to do since the last call, at the latest after `seconds`."""
        if select.select([self._ear], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                while True:
                    self._ear.recv(1, socket.MSG_DONTWAIT)

    @property
    def taken(self) -> int:
        """How many tasks the workers have taken so far."""
        return sum(self._taken)

    def qsize(self) -> int:
        """Return how many tasks wait. Only the pusher may ask: it mends the count that a killed worker left."""
        if not select.select([self._reader], [], [], 0)[0]:
            self._put.value = self.taken
        return self._put.value - self.taken


class Depth:
    """How many tasks the pusher keeps claimed: one for each free worker, or what they finish in AHEAD seconds.

    What is claimed waits for these workers, while those of another cluster may have nothing to do. So the rate is taken
    from tasks that are done, some of each worker, and the depth grows with their number.
    """

    AHEAD = 0.1
    GROWTH = 3
    """Tasks claimed ahead for each of those that the rate was taken from."""
    MOST = 250
    """As many messages of some 100 bytes as the socket's buffer holds on Linux as it comes."""
    LONGEST = 1.0
    """Seconds after which a rate is taken whatever was done."""
    SHORTEST_WAIT, LONGEST_WAIT = 0.005, 0.05
    """Seconds between two looks at what is left."""

    def __init__(self, channel: Channel, slots: Slots) -> None:
        self.channel = channel
        self.slots = slots
        self.ahead = 0
        self._rate = 0.0
        self._done, self._at = self._count(), time.monotonic()

    def room(self) -> int:
        """Return how many more to claim now; 0 while nobody is free and more than half of the depth still waits."""
        waiting = self.channel.qsize()  # first: who takes a task meanwhile is not free
        room = self.slots.free() - waiting
        self._measure(waiting)
        if room <= 0 and 2 * waiting > self.ahead:
            return 0
        return max(0, room, self.ahead - waiting)

    def wait(self) -> None:
        """Return when about half of the depth should be left, or as soon as a worker has nothing to do."""
        surplus = self.channel.qsize() - self.ahead / 2
        seconds = surplus / self._rate if surplus > 0 and self._rate else self.LONGEST_WAIT
        self.channel.wait_for_a_free_worker(min(max(seconds, self.SHORTEST_WAIT), self.LONGEST_WAIT))

    def _measure(self, waiting: int) -> None:
        done, now = self._count(), time.monotonic()
        finished, elapsed = done - self._done, now - self._at
        is_enough = finished >= 2 * len(self.slots.pids) and 2 * waiting <= self.ahead
        if elapsed > 0 and (is_enough or elapsed >= self.LONGEST):
            self._done, self._at = done, now
            self._rate = finished / elapsed
            self.ahead = min(self.MOST, self.GROWTH * finished, int(self._rate * self.AHEAD))

    def _count(self) -> int:
        """Return how many tasks the workers have done so far."""
        return self.channel.taken - sum(self.slots.busy)
