"""What the processes of a cluster share: memory and a socket, made before the fork, used without a lock.

A process that is killed while it holds a lock keeps it for ever; one idle worker of django-q2, killed in the queue's
`get`, stops all the others. Here each byte has one writer, and the kernel hands each message to one reader.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import pickle
import select
import socket
import sys
import time
from typing import Any

fork = multiprocessing.get_context("fork")

LARGEST_PACKAGE = 64 * 1024


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
    """One place for each worker, written by the worker that has it and cleared by the sentinel between two workers."""

    def __init__(self, count: int) -> None:
        self.pids = fork.RawArray(ctypes.c_long, count)
        self.busy = fork.RawArray(ctypes.c_byte, count)
        self.deadlines = fork.RawArray(ctypes.c_double, count)
        """`time.monotonic()` after which the worker's task has had its time; 0: it is under no limit."""

    def clear(self, slot: int) -> None:
        """Forget the worker that was here."""
        self.pids[slot] = self.busy[slot] = 0
        self.deadlines[slot] = 0

    def alive(self) -> list[int]:
        """Return the process ids of the workers."""
        return [pid for pid in self.pids if pid]


class Channel:
    """Packages from the pusher to whichever worker is free. Takes the place of django-q2's task queue.

    A socket that keeps messages whole: a worker takes one or none, wherever it is killed.
    """

    def __init__(self, workers: int) -> None:
        kind = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, kind)
        self._put = fork.RawValue(ctypes.c_long, 0)
        self._taken = fork.RawArray(ctypes.c_long, workers)
        self.slot = 0
        """Whose count `get` raises; set in each worker after the fork."""

    def close(self) -> None:
        """Close both ends in this process."""
        self._reader.close()
        self._writer.close()

    def put(self, package: Any) -> None:
        """Send a package; wait while the socket is full."""
        self._writer.send(pickle.dumps(package))
        self._put.value += 1

    def get(self) -> Any:
        """Wait for a package and return it."""
        message = self._reader.recv(LARGEST_PACKAGE)
        self._taken[self.slot] += 1
        return pickle.loads(message)  # noqa: S301 - from our own parent's memory

    def qsize(self) -> int:
        """Return how many packages wait. Only the pusher may ask: a worker killed in `get` makes it mend the count."""
        if not select.select([self._reader], [], [], 0)[0]:
            self._put.value = sum(self._taken)
        return self._put.value - sum(self._taken)
