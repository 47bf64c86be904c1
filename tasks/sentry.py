"""An error hook that tells Sentry of each attempt that failed. Connected with SENTRY_DSN only.

What leaves: the class of the exception and of those behind it, their stack with file names and lines of source, the
task's path, id, attempt and kind, and the address of its page in the admin. No argument, no value of a variable and no
text of an exception does, since any of these may hold an address, a token or a password.

The SDK is imported with the first failure of a process, after its fork, and without any of its integrations: nothing of
it is in the way of a task that succeeds.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from django.conf import settings
from django.dispatch import receiver
from django.urls import reverse

from tasks.signals import attempt_failed

SENT_WITHIN = 2.0
"""Seconds that a worker waits until the event is away: a worker that is ended while idle would take it along."""

PATIENCE = 60.0
"""Seconds without such waits after one that was in vain."""

KEPT = {"contexts", "environment", "event_id", "exception", "fingerprint", "level", "message", "platform", "release",
        "sdk", "server_name", "tags", "timestamp"}  # fmt: skip
"""Parts of an event that leave, if they are there."""

_impatient_until = 0.0


@receiver(attempt_failed)
def tell_sentry(
    sender: object,
    *,
    task_path: str,
    task_id: int,
    attempt: int,
    kind: str,
    exception: BaseException | None,
    is_last: bool,
    **kwargs: Any,
) -> None:
    """Send one event. What was interrupted, snoozed or given up on purpose is no error."""
    if kind not in ("exception", "timeout", "lost"):
        return
    sdk = _sdk()
    with sdk.new_scope() as scope:
        scope.set_level("error" if is_last else "warning")
        page = settings.SITE_URL + reverse("admin:tasks_task_change", args=[task_id])
        tags = {"task": task_path, "task_id": task_id, "attempt": attempt, "kind": kind, "page": page}
        for name, value in tags.items():
            scope.set_tag(name, str(value))
        if exception is None:
            scope.fingerprint = [task_path, kind]
            sdk.capture_message(f"{task_path}: {kind}")
        else:
            sdk.capture_exception(exception)
    _flush(sdk)


@cache
def _sdk() -> Any:
    import sentry_sdk

    sentry_sdk.init(
        settings.SENTRY_DSN,
        default_integrations=False,
        auto_enabling_integrations=False,
        send_default_pii=False,
        include_local_variables=False,
        max_breadcrumbs=0,
        auto_session_tracking=False,
        send_client_reports=False,
        before_send=_without_secrets,
    )
    return sentry_sdk


def _without_secrets(event: Any, hint: Any) -> Any:
    """Return the parts of the event that may leave."""
    for name in set(event) - KEPT:
        del event[name]
    for error in event.get("exception", {}).get("values", ()):
        error["value"] = "(its text is kept in the admin)"
        for frame in error.get("stacktrace", {}).get("frames", ()):
            frame.pop("vars", None)
    return event


def _flush(sdk: Any) -> None:
    global _impatient_until
    began = time.monotonic()
    if began < _impatient_until:
        return
    sdk.flush(SENT_WITHIN)
    if time.monotonic() - began >= SENT_WITHIN:
        _impatient_until = time.monotonic() + PATIENCE
