"""How long to wait before the next attempt: pure functions from an attempt's number (1-based) to a timedelta.

`exponential` uses full jitter: a delay drawn evenly between zero and the exponential value, which spreads a herd of
retries best. Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

import random
from collections.abc import Callable
from datetime import timedelta

Backoff = Callable[[int], timedelta]

LONGEST = 365 * 24 * 3600


def constant(seconds: float) -> Backoff:
    """Return a backoff that always waits `seconds`."""
    _check(seconds=seconds)
    return lambda attempt: timedelta(seconds=seconds)


def linear(step: float, cap: float = 3600) -> Backoff:
    """Return a backoff of `step` seconds after the first attempt, twice that after the second, `cap` at most."""
    _check(step=step, cap=cap)
    return lambda attempt: timedelta(seconds=min(cap, step * attempt))


def exponential(base: float = 5, cap: float = 3600, jitter: bool = True) -> Backoff:
    """Return a backoff that doubles from `base` seconds up to `cap`; with jitter, evenly between zero and that."""
    _check(base=base, cap=cap)

    def delay(attempt: int) -> timedelta:
        longest = min(cap, base * 2 ** min(attempt - 1, 64))
        return timedelta(seconds=random.uniform(0, longest) if jitter else longest)

    return delay


def _check(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= LONGEST:
            raise ValueError(f"{name} is {value!r}; it must be a number of seconds from 0 to {LONGEST} (a year).")
