"""The site, with a process that dies the moment a task row was inserted, before its transaction commits."""

import os
import signal

from django_tasks.signals import task_enqueued

from config.wsgi import application  # noqa: F401 - gunicorn looks for it here


def die(**kwargs) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


task_enqueued.connect(die)
