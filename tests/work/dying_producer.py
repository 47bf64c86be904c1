"""Enqueue a task and die, before the commit or right after it: `python -m tests.work.dying_producer before|after`."""

import os
import signal
import sys

import django

django.setup()

from django.db import transaction  # noqa: E402 - after django.setup()

from tests.work import tasks as work  # noqa: E402 - after django.setup()
from tests.work.models import Effect  # noqa: E402 - after django.setup()

with transaction.atomic():
    Effect.objects.create(name="what the task is about")
    work.effect.enqueue("of the task")
    if sys.argv[1] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
