"""What a task function may raise to steer its attempt, and what is recorded when an attempt was ended from outside."""

from datetime import timedelta

LONGEST_DELAY = timedelta(days=365)


class Retry(Exception):  # noqa: N818 - an instruction, not an error
    """Raised by a task function: this attempt failed, try again; after a delay of its own if one is given."""

    def __init__(self, reason: str = "", *, after: timedelta | None = None) -> None:
        super().__init__(reason)
        if after is not None:
            _check("after", after)
        self.after = after


class Snooze(Exception):  # noqa: N818 - an instruction, not an error
    """Raised by a task function: not now. Runs again after `for_` and uses no attempt."""

    def __init__(self, for_: timedelta) -> None:
        _check("for_", for_)
        super().__init__(f"not now, again in {for_}")
        self.for_ = for_


class Discard(Exception):  # noqa: N818 - an instruction, not an error
    """Raised by a task function: give up on purpose. FAILED at once, whatever attempts are left."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TaskTimeout(BaseException):
    """Raised inside a task function that ran longer than its `timeout`, again and again until it ends."""


class Interrupted(BaseException):
    """Raised inside a task function that still runs when its cluster has waited long enough."""


class Cancelled(BaseException):
    """Raised inside a task function that still runs TASKS_CANCEL_GRACE seconds after somebody cancelled its task."""


class WorkerLost(Exception):  # noqa: N818 - recorded, never raised
    """The worker process ended without a word: killed, out of memory, or its machine went away."""


class LeaseLost(Exception):  # noqa: N818 - an event between workers
    """The row was rescued, or taken over, before this worker wrote its outcome. Nothing was changed."""


def _check(name: str, delay: object) -> None:
    if not isinstance(delay, timedelta) or not timedelta() <= delay <= LONGEST_DELAY:
        raise ValueError(f"{name} is {delay!r}; it must be a timedelta from 0 to {LONGEST_DELAY.days} days.")


def path_of(exception: type[BaseException]) -> str:
    """Return the dotted path of an exception's class, as it is kept in a TaskError."""
    return f"{exception.__module__}.{exception.__qualname__}"
