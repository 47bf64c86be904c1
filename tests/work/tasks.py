"""Task functions that behave well and badly."""

import asyncio
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

from django_tasks import task

from tasks.backoff import constant
from tasks.exceptions import Discard, Retry, Snooze
from tests.work.models import Effect

quick = {"backoff": constant(0)}


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


@task(max_attempts=1, timeout=0.2)
def never_stop() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    while True:
        time.sleep(1)


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
def who_am_i(context) -> dict:
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


def not_a_task() -> None: ...
