"""Task functions that behave well and badly."""

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from smtplib import SMTPRecipientsRefused
from typing import Any

from django.db import connection, transaction
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from django_tasks import task as django_task

from tasks.backoff import constant
from tasks.exceptions import Discard, Retry, Snooze
from tasks.schedules import schedule
from tests.work.models import Effect

task: Any = django_task  # Any: tests call what it decorates wrongly, too
quick: Any = {"backoff": constant(0)}


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task(max_attempts=2, **quick)
def fail(text: str = "no luck") -> None:
    raise ValueError(text)


@task(max_attempts=3, **quick)
def fail_while_missing(path: str) -> str:
    return Path(path).read_text()


@task(max_attempts=3, backoff=constant(3600))
def fail_slowly() -> None:
    raise ValueError("later")


@task
def effect(name: str) -> None:
    Effect.objects.create(name=name)


@task(atomic=True, max_attempts=2, **quick)
def atomic_effect(name: str, fail: bool = False) -> None:
    Effect.objects.create(name=name)
    if fail:
        raise ValueError("after the effect")


@task(max_attempts=2, **quick)
def exit_python() -> None:
    sys.exit(3)


@task(max_attempts=2, **quick)
def interrupt_keyboard() -> None:
    raise KeyboardInterrupt


@task(max_attempts=2, **quick)
def kill_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task(max_attempts=9, **quick)
def kill_worker_again_and_again() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task(max_attempts=1, timeout=0.2)
def sleep_too_long() -> None:
    time.sleep(30)


@task(max_attempts=1, timeout=0.2)
def ignore_the_timeout_once() -> None:
    try:
        time.sleep(30)
    except BaseException:  # what badly written code does
        time.sleep(30)


@task
def sleep(seconds: float, name: str = "") -> str:
    time.sleep(seconds)
    if name:
        Effect.objects.create(name=name)
    return name


@task
def return_an_object() -> object:
    return object()


@task
async def add_async(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@task(max_attempts=3)
def ask_for_a_retry(seconds: float) -> None:
    raise Retry("the other side is busy", after=timedelta(seconds=seconds))


@task
def snooze() -> None:
    raise Snooze(timedelta(minutes=5))


@task
def discard() -> None:
    raise Discard("there is nothing to do")


@task(takes_context=True, max_attempts=3, **quick)
def count_with_checkpoint(context, until: int, stop_at: int) -> int:
    at = context.checkpoint or 0
    while at < until:
        at += 1
        context.checkpoint = at
        context.progress(at, until, f"{at} of {until}")
        if at == stop_at:
            raise ValueError(f"stopped at {at}")
    return at


@task(takes_context=True)
def who_am_i(context) -> dict[str, Any]:
    return {"id": context.task_result.id, "attempt": context.attempt, "should_stop": context.should_stop}


@task(takes_context=True)
def stop_when_told(context) -> str:
    Effect.objects.create(name="started")
    while not context.should_stop:
        time.sleep(0.02)
    return "stopped early"


@task(idempotency_key=lambda user_id, **_: f"user-{user_id}")
def once_for_each_user(user_id: int, note: str = "") -> None: ...


@task(sensitive=("secret",))
def with_a_secret(user_id: int, secret: str) -> None:
    raise ValueError("refused")


@task(queue_name="mail", priority=50)
def urgent_mail(number: int) -> int:
    return number


@task(backoff=lambda attempt: "soon", max_attempts=2)
def broken_backoff() -> None:
    raise ValueError("no luck")


@task(backoff=lambda attempt: 1 // 0, max_attempts=2)
def raising_backoff() -> None:
    raise ValueError("no luck")


@task(max_attempts=1, timeout=0.2)
def sleep_too_long_in_a_transaction(name: str) -> None:
    with transaction.atomic():
        Effect.objects.create(name=name)
        time.sleep(30)


@task(max_attempts=1, timeout=0.2)
async def sleep_too_long_async() -> None:
    await asyncio.sleep(30)


@task(max_attempts=1)
def leave_a_transaction_open(name: str, fail: bool = False) -> None:
    transaction.atomic().__enter__()
    Effect.objects.create(name=name)
    if fail:
        raise ValueError("in the transaction")


@task(max_attempts=1)
def leave_autocommit_off(name: str, fail: bool = False) -> None:
    transaction.set_autocommit(False)
    Effect.objects.create(name=name)
    if fail:
        raise ValueError("with autocommit off")


class BrokenError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@task(max_attempts=1)
def raise_without_text() -> None:
    raise BrokenError


@task(max_attempts=1)
def raise_at_length(length: int) -> None:
    raise ValueError("x" * length)


@task(max_attempts=1)
def raise_what_no_database_stores() -> None:
    raise ValueError("a\x00b\ud800c")


@task(max_attempts=1)
def raise_from_another() -> None:
    try:
        int("key")
    except ValueError as error:
        raise RuntimeError("because of another") from error


@task(max_attempts=1)
def return_nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@task(max_attempts=2, **quick)
def steer(what: str, seconds: float) -> None:
    """Raise what the test asks for, with a delay that may be wrong."""
    delay = timedelta.max if seconds < -1e9 else timedelta(seconds=seconds)
    raise Retry("later", after=delay) if what == "retry" else Snooze(delay)


@task(takes_context=True)
def set_checkpoint(context, value) -> None:
    context.checkpoint = value


@task(takes_context=True, **quick)
def set_checkpoint_to_an_object(context) -> None:
    context.checkpoint = object()


@task(retention=timedelta(minutes=1))
def forget_me_soon() -> None: ...


@task(takes_context=True)
def go_on_although_cancelled(context) -> None:
    Effect.objects.create(name="started")
    while True:
        try:
            time.sleep(30)
        except BaseException:  # what badly written code does
            continue


def not_a_task() -> None: ...


@task(max_attempts=1, timeout=0.2)
def swallow_the_timeout_for_ever() -> None:
    swallow_everything()


@task
def swallow_the_interruption() -> None:
    swallow_everything()


def swallow_everything() -> None:
    while True:
        with suppress(BaseException):
            time.sleep(30)


@task
def process_id(seconds: float = 0) -> int:
    time.sleep(seconds)
    return os.getpid()


connections_made = 0


@receiver(connection_created)
def count_connections(**kwargs: Any) -> None:
    global connections_made
    connections_made += 1


@task
def count_my_connections() -> int:
    """How many database connections this process, and those it was forked from, have made."""
    return connections_made


@task
def pages_until_the_log_is_copied() -> int:
    """Return what this process has SQLite do at its commits."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_autocheckpoint")
        return cursor.fetchone()[0]


@task
def grow(megabytes: int) -> int:
    """Use so much memory for a moment."""
    return len(b"x" * (megabytes << 20))


def die_once(mark: str) -> None:
    """Kill this process, unless one has died here before: then the file `mark` is there."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)


@task(**quick)
def effect_then_die(name: str, mark: str) -> None:
    Effect.objects.create(name=name)
    die_once(mark)


@task(atomic=True, **quick)
def atomic_effect_then_die(name: str, mark: str) -> None:
    Effect.objects.create(name=name)
    die_once(mark)


@task(atomic=True, **quick)
def atomic_effect_then_die_after_the_commit(name: str, mark: str) -> None:
    Effect.objects.create(name=name)
    transaction.on_commit(lambda: die_once(mark))


# What `make chaos` runs

PACE = 0.025
"""Seconds that each `pace` sleeps."""


@task(max_attempts=100, **quick)
def pace(name: str) -> None:
    """Cost a worker the same time again and again, and a processor little."""
    time.sleep(PACE)
    Effect.objects.create(name=name)


@task(max_attempts=9, **quick)
def hold(gate: str, name: str = "") -> str:
    """Run for as long as the file is there."""
    while Path(gate).exists():
        time.sleep(0.02)
    if name:
        Effect.objects.create(name=name)
    return name


@task(max_attempts=9, **quick)
def hold_stubbornly(gate: str) -> None:
    """The same, and let nobody interrupt it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGUSR1])
    while Path(gate).exists():
        time.sleep(0.02)


@task(takes_context=True, max_attempts=9, **quick)
def count_while_held(context, gate: str, polite: bool) -> list[int]:
    """Count while the file is there; return where it began and where it ended. If polite, stop when told."""
    began = at = context.checkpoint or 0
    while Path(gate).exists():
        at += 1
        context.checkpoint = at
        if polite and context.should_stop:
            raise Snooze(timedelta())
        time.sleep(0.02)
    return [began, at]


@task(atomic=True, takes_context=True, max_attempts=9, **quick)
def hold_in_a_transaction(context, gate: str, name: str) -> None:
    """Hold with an effect that is not committed, and with the row of this task locked by its progress."""
    Effect.objects.create(name=name)
    context.progress(1, 2, "half")
    while Path(gate).exists():
        time.sleep(0.02)


@task(idempotency_key=lambda user_id: {2: "two"}[user_id])
def with_a_key_of_some(user_id: int) -> None: ...


@schedule("0 0 1 1 *", timezone="Europe/Berlin", args=["new year"])
@task
def celebrate(name: str) -> None:
    Effect.objects.create(name=name)


@task(sensitive=("email",), max_attempts=1)
def be_refused(number: int, email: str) -> None:
    raise SMTPRecipientsRefused({email.upper(): (550, b"no such user")})


@task(takes_context=True)
def work_for(context: Any, user_id: int, done: int = 0, email: str = "") -> str:
    context.progress(done, 10, "ten steps")
    if done == 10:
        raise Discard("There is too much.")
    return email


@task(max_attempts=1)
def fail_without_a_word(word: str) -> None:
    raise ValueError(len(word))
