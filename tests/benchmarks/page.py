"""A page of shared memory on which task number n marks its start at place n, so that nobody has to ask the database.

A mark takes less than a microsecond. Used by the project's own task and by those of the peers, which run in another
virtual environment: the standard library only.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from array import array
from functools import cache

PLACES = 2_000_000
_DOUBLE = struct.Struct("d")


class Page:
    """Starts of tasks, in seconds since the epoch; 0: not yet."""

    def __init__(self, path: str) -> None:
        with open(path, "a+b") as file:
            file.truncate(PLACES * _DOUBLE.size)
            self._memory = mmap.mmap(file.fileno(), PLACES * _DOUBLE.size)

    def mark(self, number: int) -> None:
        """Note that the task with this number starts now."""
        _DOUBLE.pack_into(self._memory, number * _DOUBLE.size, time.time())

    def clear(self, count: int = PLACES) -> None:
        self._memory[: count * _DOUBLE.size] = bytes(count * _DOUBLE.size)

    def starts(self, count: int, first: int = 0) -> list[float]:
        """Return the starts of so many tasks from this number on."""
        marks = array("d")
        marks.frombytes(self._memory[first * _DOUBLE.size : (first + count) * _DOUBLE.size])
        return marks.tolist()

    def wait(self, count: int, first: int = 0, seconds: float = 60, every: float = 0.05) -> bool:
        """Return True once so many tasks from this number on have started; False if they have not in time."""
        number, deadline = first, time.monotonic() + seconds
        while number < first + count:
            if _DOUBLE.unpack_from(self._memory, number * _DOUBLE.size)[0]:
                number += 1
            elif time.monotonic() > deadline:
                return False
            else:
                time.sleep(every)  # until some more may have started
        return True

    def wait_for_the_first(self, among: int, seconds: float = 60) -> bool:
        """Return True once one of the first so many has started."""
        deadline = time.monotonic() + seconds
        while not any(self.starts(among)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)  # until it may have started
        return True


@cache
def page() -> Page:
    """Return the page of this run, of which BENCH_PAGE is the file."""
    return Page(os.environ["BENCH_PAGE"])
