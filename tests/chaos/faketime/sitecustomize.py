"""Python under libfaketime, which imports this first: sleep in select().

Since 3.11 time.sleep() ends at an absolute time of the monotonic clock. libfaketime 0.9.10 moves that time too, even if
it is told to leave the monotonic clock alone (FAKETIME_DONT_FAKE_MONOTONIC), and the call fails.
"""

import select
import time


def sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


setattr(time, "sleep", sleep)  # noqa: B010 - mypy refuses the plain assignment of another signature
