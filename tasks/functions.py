"""Task functions: the options that `@task` takes, the registry, and what may be an argument.

A function becomes known by being decorated while its module is imported. The `tasks` module of every installed app is
imported at start, in the site and in the cluster alike, so both know the same functions. Nothing else is ever
imported by name: a path that is not in the registry cannot run.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from types import NoneType
from typing import Any, Generic, ParamSpec, TypeVar

from django.conf import settings
from django.utils.encoding import punycode
from django_tasks import base
from django_tasks.exceptions import InvalidTaskError

from tasks.backoff import Backoff, exponential

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_BACKOFF = exponential(base=5, cap=3600)
MAX_ATTEMPTS = 1000
MAX_KEY_LENGTH = 255
MAX_PATH_LENGTH = 255
LONGEST_RETENTION = timedelta(days=3650)
SHORTEST_SECRET = 4
"""Characters of a sensitive argument from which on it is looked for in what an exception says."""
MAX_DEPTH = 100
"""Lists and dicts within each other: far below what Python, SQLite and PostgreSQL can read back."""

registry: dict[str, TaskFunction[Any, Any]] = {}


def retention_of(task_path: str, status: str) -> timedelta:
    """Return how long a finished row of this function is kept: its own `retention`, or what the settings say."""
    function = registry.get(task_path)
    if function is not None and function.retention is not None:
        return function.retention
    kept = settings.TASKS_RETENTION_SUCCESSFUL if status == "SUCCESSFUL" else settings.TASKS_RETENTION_FAILED
    return timedelta(seconds=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFunction(base.Task[P, T], Generic[P, T]):
    """Django's Task with the policy of its attempts. Made by `@task(...)`; `using(...)` makes a changed copy."""

    max_attempts: int = 5
    """Attempts in all, the first included."""

    backoff: Backoff = DEFAULT_BACKOFF
    """From the number of the attempt that failed to the wait before the next one."""

    timeout: float = 300
    """Seconds that one attempt may take."""

    atomic: bool = False
    """Commit the function's database effects and its SUCCESSFUL status in one transaction."""

    idempotency_key: Callable[P, str] | None = None
    """From the arguments to a key. While an unfinished task has it, enqueue returns that task."""

    sensitive: tuple[str, ...] = ()
    """Names of arguments that only users with `tasks.view_task_arguments` may see."""

    retention: timedelta | None = None
    """How long the finished row is kept; None: as long as the settings say."""

    def __post_init__(self) -> None:
        base.Task.__post_init__(self)
        known = registry.get(self.module_path)
        if known is None or known.func is not self.func:  # as for any name in a module, the later definition wins
            registry[self.module_path] = self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name and what `using` changes: the function and its policy are those of the release that reads."""
        return _unpickled, (self.module_path, self.priority, self.queue_name, self.run_after, self.backend)

    def enqueue_many(self, calls: Iterable[Sequence[Any] | Mapping[str, Any]]) -> list[base.TaskResult[T]]:
        """Enqueue one task for each call, in the caller's transaction, with few statements.

        One for a thousand rows; one for each if the function has an `idempotency_key`.

        A call is a sequence of positional arguments or a mapping of keyword arguments. All are checked before the
        first is stored; the error names the number of the call. Results come in the order of the calls.
        """
        backend: Any = self.get_backend()
        return backend.enqueue_many(self, calls)

    @property
    def signature(self) -> inspect.Signature:
        """What the caller passes: the function's parameters without the context."""
        return _signature(self.func, self.takes_context)


def _unpickled(
    path: str, priority: int, queue_name: str, run_after: datetime | None, backend: str
) -> TaskFunction[Any, Any]:
    function = registry.get(path)
    if function is None:
        raise ValueError(f"{path}: there is no task function of this name (any more).")
    return function.using(priority=priority, queue_name=queue_name, run_after=run_after, backend=backend)


def without_secrets(text: str, task: TaskFunction[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return what an exception says without the values of the task's `sensitive` arguments.

    A mail server's refusal names the address, for instance, and its domain in ASCII. Numbers stay, and strings that
    are too short to tell.
    """
    given = {**dict(zip(task.signature.parameters, args, strict=False)), **kwargs}
    for name in task.sensitive:
        value = given.get(name)
        if not isinstance(value, str) or len(value) < SHORTEST_SECRET:
            continue
        spellings = {value, ascii(value)[1:-1]}
        local, at, domain = value.rpartition("@")
        with suppress(UnicodeError):
            spellings.add(f"{local}{at}{punycode(domain)}")
        found = "|".join(re.escape(spelling) for spelling in sorted(spellings, key=len, reverse=True))
        text = re.sub(found, f"[{name}]", text, flags=re.IGNORECASE)
    return text


@cache
def _signature(function: Callable[..., Any], takes_context: bool) -> inspect.Signature:
    signature = inspect.signature(function)
    if takes_context:
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    return signature


def validate_options(task: base.Task[Any, Any]) -> None:
    """Raise InvalidTaskError, which names the option, what was given and what is allowed."""
    if not isinstance(task, TaskFunction):
        raise InvalidTaskError(f"{task.module_path} was made for another backend.")

    def refuse(option: str, allowed: str) -> None:
        given = getattr(task, option)
        raise InvalidTaskError(f"{task.module_path}: {option} is {given!r}; allowed: {allowed}.")

    if len(task.module_path) > MAX_PATH_LENGTH:
        raise InvalidTaskError(f"{task.module_path} is longer than {MAX_PATH_LENGTH} characters.")
    whole = isinstance(task.max_attempts, int) and not isinstance(task.max_attempts, bool)
    if not whole or not 1 <= task.max_attempts <= MAX_ATTEMPTS:
        refuse("max_attempts", f"a whole number from 1 to {MAX_ATTEMPTS}")
    number = isinstance(task.timeout, int | float) and not isinstance(task.timeout, bool)
    if not number or not 0 < task.timeout <= 24 * 3600:
        refuse("timeout", "seconds, more than 0 and at most 86400")
    if not callable(task.backoff):
        refuse("backoff", "a function from the attempt's number to a timedelta, such as exponential(base=5)")
    if task.idempotency_key is not None and not callable(task.idempotency_key):
        refuse("idempotency_key", "a function of the task's arguments that returns a string")
    kept = task.retention
    if kept is not None and not (isinstance(kept, timedelta) and timedelta() <= kept <= LONGEST_RETENTION):
        refuse("retention", f"a timedelta from 0 to {LONGEST_RETENTION.days} days")
    if task.name == "<lambda>":
        raise InvalidTaskError(f"{task.module_path} has no name that a worker could look up. Use def.")
    if inspect.isgeneratorfunction(task.func) or inspect.isasyncgenfunction(task.func):
        raise InvalidTaskError(f"{task.module_path} is a generator: calling it would not run its body. Do not yield.")
    if task.atomic and inspect.iscoroutinefunction(task.func):
        refuse("atomic", "False for a coroutine, whose database work runs in another thread")
    names = task.sensitive if isinstance(task.sensitive, tuple | list | set | frozenset) else [None]
    if not all(name in list(task.signature.parameters) for name in names):
        refuse("sensitive", f"names among {', '.join(task.signature.parameters) or 'none'}")


def stored_arguments(task: TaskFunction[P, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, str]:
    """Return args and kwargs as JSON text; raise TypeError or ValueError, which names the argument, if that cannot be.

    Refused are a call that does not fit the function's signature, whatever JSON or PostgreSQL cannot hold (other
    types, NaN, infinities, NUL, lone surrogates, more than MAX_DEPTH lists or dicts within each other), and arguments
    of more than TASKS_MAX_PAYLOAD bytes in all.
    """
    signature = task.signature
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{task.module_path}: {error}") from None

    names = [
        parameter.name for parameter in signature.parameters.values() if parameter.kind <= parameter.VAR_POSITIONAL
    ]
    positional = [_stored(task, names[min(at, len(names) - 1)], value) for at, value in enumerate(args)]
    named = [f"{_stored(task, name, name)}: {_stored(task, name, value)}" for name, value in kwargs.items()]
    texts = f"[{', '.join(positional)}]", f"{{{', '.join(named)}}}"
    size = sum(len(text.encode()) for text in texts)
    if size > settings.TASKS_MAX_PAYLOAD:
        raise ValueError(
            f"{task.module_path}: the arguments take {size} bytes; allowed are {settings.TASKS_MAX_PAYLOAD} "
            "(TASKS_MAX_PAYLOAD). Store the data and pass its id."
        )
    return texts


def _stored(task: TaskFunction[P, Any], name: str, value: Any) -> str:
    try:
        return to_json(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{task.module_path}: argument {name!r} cannot be stored: {error}") from None


def to_json(value: Any) -> str:
    """Return the value as JSON text that every database stores; raise TypeError or ValueError if there is none."""
    try:
        text = _encoder.encode(value)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if not isinstance(value, int | float | NoneType):
        _check_strings(value)
    return text


TOO_DEEP = "it contains itself, or is nested too deeply"


def _plain(value: Any) -> Any:
    """Let mappings of other types pass as a dict, as Django's own backends do."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__qualname__} is not JSON. Pass an id, a string or a number instead")


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)


def _check_strings(value: Any, depth: int = 1) -> None:
    if depth > MAX_DEPTH and isinstance(value, Mapping | list | tuple):
        raise ValueError(TOO_DEEP)
    match value:
        case str():
            if "\x00" in value:
                raise ValueError("it has a NUL character, which PostgreSQL cannot store")
            if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
                raise ValueError("it has half of a surrogate pair, which is no character")
        case Mapping():
            for key, part in value.items():
                if not isinstance(key, str):
                    raise TypeError(f"the key {key!r} is a {type(key).__qualname__}; JSON knows only strings as keys")
                _check_strings(key)
                _check_strings(part, depth + 1)
        case list() | tuple():
            for part in value:
                _check_strings(part, depth + 1)
