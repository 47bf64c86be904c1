"""Task functions that misuse the process they run in, its database, or what they return and raise."""

from __future__ import annotations

import asyncio
import ctypes
import locale
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from django.db import connection, connections, transaction
from django_tasks import task as django_task

from tasks import exceptions
from tasks.models import Task
from tests.work.models import Effect

task: Any = django_task
once: Any = {"max_attempts": 1}


@task
def echo(*args: Any, **kwargs: Any) -> list[Any]:
    return [args, kwargs]


# The process ---------------------------------------------------------------------------------------------------------


@task(**once)
def close_the_standard_streams() -> None:
    for number in (0, 1, 2):
        os.close(number)


@task(**once)
def change_the_surroundings() -> None:
    os.chdir("/")
    os.environ.clear()
    os.umask(0o777)
    locale.setlocale(locale.LC_ALL, "C")


@task(**once)
def ignore_all_signals() -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM, signal.SIGPIPE, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)


@task(**once)
def restore_all_signals() -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM):
        signal.signal(signum, signal.SIG_DFL)


@task(**once)
def fork_a_child_that_exits() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@task(**once)
def start_threads_that_never_end() -> None:
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(3600,)).start()


@task(**once)
def fail_in_a_thread() -> None:
    thread = threading.Thread(target=int, args=("no number",))
    thread.start()
    thread.join()


@task(**once)
def leave_at_once() -> None:
    os._exit(0)


@task(**once)
def abort() -> None:
    os.abort()


@task(**once)
def read_address_zero() -> None:
    ctypes.string_at(0)


@task(**once)
def ask_for_more_memory_than_there_is() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, hard))
    try:
        bytearray(2 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@task(**once)
def call_itself() -> None:
    call_itself.func()


class _Last:
    def __del__(self) -> None:
        sys.exit("from __del__")


@task(**once)
def exit_in_a_finalizer() -> None:
    _Last()


@task(**once)
def leave_an_event_loop_running() -> None:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.set_event_loop(loop)


@task(**once)
async def leave_a_coroutine_running() -> None:
    leave_a_coroutine_running.func.other = asyncio.create_task(asyncio.sleep(3600))


# The database --------------------------------------------------------------------------------------------------------


@task(**once)
def close_the_connection() -> None:
    connection.close()


@task(**once)
def forget_the_connection() -> None:
    del connections["default"]


@task(**once)
def turn_autocommit_off() -> None:
    transaction.set_autocommit(False)


@task(takes_context=True, **once)
def lock_its_own_row(context) -> None:
    with transaction.atomic():
        Task.objects.select_for_update().get(pk=context.task_result.id)


@task(takes_context=True, **once)
def delete_its_own_row(context) -> None:
    Task.objects.filter(pk=context.task_result.id).delete()


# Results and errors --------------------------------------------------------------------------------------------------


@task(**once)
def return_value(name: str) -> Any:
    itself: list[Any] = []
    itself.append(itself)
    return {
        "10 MB": "x" * (10 << 20),
        "NUL": "a\x00b",
        "half a surrogate pair": ["\ud800"],
        "NaN": float("nan"),
        "a set": {1},
        "bytes": b"x",
        "a generator": (number for number in range(3)),
        "a coroutine of nobody": asyncio.Future,
        "a number as a key": {1: 2},
        "itself": itself,
        "a number of 5000 digits": 10**5000,
    }[name]


class LongError(Exception):
    def __str__(self) -> str:
        return "x" * (100 << 20)


class WordlessError(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # the case here


@task(**once)
def raise_error(name: str) -> None:
    itself = ValueError("itself")
    itself.__cause__ = KeyError("the other")
    itself.__cause__.__cause__ = itself
    raise {
        "of 100 MB": LongError(),
        "without words": WordlessError(),
        "itself as its cause": itself,
        "StopIteration": StopIteration(),
        "GeneratorExit": GeneratorExit(),
        "CancelledError": asyncio.CancelledError(),
        "a thousand": ExceptionGroup("many", [ValueError(number) for number in range(1000)]),
    }[name]


# What the engine does not stand yet ----------------------------------------------------------------------------------


@task(**once)
def raise_what_only_the_engine_raises(name: str) -> None:
    raise getattr(exceptions, name)("from the task's own code")


@task(atomic=True, takes_context=True, **once)
def delete_its_own_row_in_its_transaction(context) -> None:
    Task.objects.filter(pk=context.task_result.id).delete()


@task(atomic=True, **once)
def fail_after_the_commit() -> None:
    def hook() -> None:
        raise ValueError("from the hook")

    transaction.on_commit(hook)


@task(**once)
def begin_with_sql(and_raise: bool) -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO work_effect (name, created_at) VALUES ('never', '2026-01-01')")
    if and_raise:
        raise ValueError("after BEGIN")


@task(**once)
def close_what_the_driver_has() -> None:
    connection.ensure_connection()
    connection.connection.close()


@task(**once)
def look_elsewhere_for_tables() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = nowhere" if connection.vendor == "postgresql" else "SELECT 1")


class LeavingError(Exception):
    def __str__(self) -> str:
        sys.exit("from __str__")


class _Text(str):
    def __getitem__(self, key: Any) -> str:
        raise ValueError("no slice")


class SubclassError(Exception):
    def __str__(self) -> str:
        return _Text("text")


class HangingError(Exception):
    def __str__(self) -> str:
        time.sleep(3600)
        return ""


class NulError(Exception):
    __qualname__ = "Nul\x00Error\ud800"


@task(timeout=0.5, **once)
def raise_by_name(name: str) -> None:
    raise globals()[name]


@task(**once)
def close_stderr() -> None:
    sys.stderr.close()


@task(**once)
def terminate_a_child_process() -> int:
    child = subprocess.Popen(["sleep", "60"])
    child.terminate()
    try:
        return child.wait(2)
    finally:
        child.kill()


@task(**once)
def fork_a_child_that_returns() -> str:
    if os.fork() == 0:
        return "child"
    time.sleep(0.5)
    return "parent"


@task(**once)
def block_all_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@task(**once)
async def use_the_database_from_a_coroutine() -> int:
    return await Effect.objects.acount()


@task(takes_context=True, **once)
def set_a_checkpoint_of_10_mb(context) -> None:
    context.checkpoint = "x" * (10 << 20)
