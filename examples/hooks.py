"""An error hook: told of every attempt of a function that failed."""

import logging
from typing import Any

from django.dispatch import receiver

from examples.tasks import fetch_page
from tasks.signals import attempt_failed

logger = logging.getLogger(__name__)


@receiver(attempt_failed, sender=fetch_page)  # without sender: of all functions
def call_for_help(sender: object, *, task_id: int, attempt: int, kind: str, is_last: bool, **kwargs: Any) -> None:
    """Say in the log which page nobody will try to fetch again."""
    if is_last and kind != "discarded":
        logger.error("task %s is FAILED after attempt %s: somebody has to look at it", task_id, attempt)
