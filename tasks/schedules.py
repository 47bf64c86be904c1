"""Schedules declared in code, beside the task function that they run:

    @schedule("0 3 * * *", timezone="Europe/Berlin", misfire="once", overlap="skip")
    @task(queue_name="maintenance")
    def prune_sessions() -> int: ...

What is declared becomes a row after `migrate` and at the start of a cluster, see `tasks.timetable`; `tasks.ticks`
settles its due times, and `tasks.recurrence` says when they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django_tasks import base
from django_tasks.exceptions import InvalidTaskError

from tasks.functions import MAX_PATH_LENGTH, TaskFunction, stored_arguments
from tasks.recurrence import recurrence

F = TypeVar("F", bound=base.Task[Any, Any])

MISFIRE = ("once", "all", "none")
OVERLAP = ("skip", "allow", "queue")
MOST = 1000
"""The greatest `misfire_limit`."""

declared: dict[str, Declaration] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A schedule as the code has it."""

    name: str
    task_path: str
    times: dict[str, Any]
    """`timing`, `timezone` and `anchor`, as text."""
    policy: dict[str, Any]
    """`misfire`, `misfire_limit`, `overlap` and `ping_url`."""
    args: list[Any]
    kwargs: dict[str, Any]
    function: TaskFunction[Any, Any] = field(repr=False)


def schedule(
    timing: str,
    *,
    timezone: str = "UTC",
    anchor: datetime | None = None,
    misfire: str = "once",
    misfire_limit: int = 10,
    overlap: str = "skip",
    name: str = "",
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    ping_url: str = "",
) -> Callable[[F], F]:
    """Enqueue the task function at its due times.

    `timing`, `timezone`, `anchor`: see `tasks.recurrence`. `misfire`: what becomes of due times that passed while no
    cluster ran: `once` runs the latest, `all` the latest `misfire_limit`, `none` none. `overlap`: what becomes of one
    while the task of an earlier one is not finished: `skip`, `allow` or `queue` (it runs after that). `name`: tells
    several schedules of one function apart. `args`, `kwargs`: of each task. `ping_url`: called after a success.

    Raises InvalidTaskError, while the module is imported, for whatever cannot be right.
    """

    def declare(function: F) -> F:
        if not isinstance(function, TaskFunction):
            raise InvalidTaskError(f"{function!r} is no task function. Put @schedule above @task.")
        path = function.module_path
        own_name = f"{path}:{name}" if name else path
        try:
            texts = stored_arguments(function, args, kwargs or {})
            recurrence(timing, timezone, anchor)
            check_policy(misfire, misfire_limit, overlap)
            check_name(own_name)
            if ping_url:
                check_address(ping_url)
        except (TypeError, ValueError) as error:
            raise InvalidTaskError(f"The schedule of {path} cannot be: {error}") from None
        if own_name in declared and declared[own_name].function is function:
            raise InvalidTaskError(
                f"Two schedules are called {own_name}. Give them names: @schedule(..., name='night')."
            )
        declared[own_name] = Declaration(
            name=own_name,
            task_path=path,
            times={"timing": timing, "timezone": timezone, "anchor": anchor_text(anchor)},
            policy={"misfire": misfire, "misfire_limit": misfire_limit, "overlap": overlap, "ping_url": ping_url},
            args=json.loads(texts[0]),
            kwargs=json.loads(texts[1]),
            function=function,
        )
        return function

    return declare


def anchor_text(anchor: datetime | None) -> str | None:
    """Return an anchor in its one form: two that are the same moment are the same text."""
    return None if anchor is None else anchor.astimezone(UTC).replace(microsecond=0).isoformat()


def check_policy(misfire: str, misfire_limit: int, overlap: str) -> None:
    """Raise ValueError, which says what is allowed, for what cannot be right or would not do what it says."""
    if misfire not in MISFIRE:
        raise ValueError(f"misfire is {misfire!r}; allowed: {', '.join(MISFIRE)}.")
    if overlap not in OVERLAP:
        raise ValueError(f"overlap is {overlap!r}; allowed: {', '.join(OVERLAP)}.")
    if not isinstance(misfire_limit, int) or isinstance(misfire_limit, bool) or not 1 <= misfire_limit <= MOST:
        raise ValueError(f"misfire_limit is {misfire_limit!r}; allowed: a whole number from 1 to {MOST}.")
    if misfire == "all" and overlap == "skip":
        raise ValueError(
            "with misfire 'all' and overlap 'skip' the first run would skip the others; allow or queue them."
        )


def check_name(name: str) -> None:
    """Raise ValueError for a name that no row can have."""
    if not name.isprintable() or not 0 < len(name) <= MAX_PATH_LENGTH:
        raise ValueError(f"its name is {name!r}; allowed: 1 to {MAX_PATH_LENGTH} printable characters.")


def check_address(url: str) -> None:
    """Raise ValueError for what is no address of the web; it may hold a secret and is not repeated."""
    try:
        URLValidator(schemes=["http", "https"])(url)
        is_fine = url.isascii() and url.isprintable() and urlsplit(url).username is None
    except (ValidationError, ValueError):
        is_fine = False
    if not is_fine:
        raise ValueError("its ping_url is no address; allowed: http:// or https:// with a host and no user.")
