"""Fills the registry of task functions when Django starts."""

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db import connection, connections
from django.db.models.signals import post_migrate, pre_migrate
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class TasksConfig(AppConfig):
    """The task engine."""

    name = "tasks"
    verbose_name = _("Background work")

    def ready(self) -> None:
        """Import the `tasks` module of every installed app: what it decorates with `@task` can be run."""
        from django_tasks import signals

        # django_tasks logs each signal, for which every attempt would have to load its row; tasks.runner logs instead.
        signals.task_enqueued.disconnect(signals.log_task_enqueued)
        signals.task_started.disconnect(signals.log_task_started)
        signals.task_finished.disconnect(signals.log_task_finished)
        if settings.SENTRY_DSN:
            from tasks import sentry  # noqa: F401 - its receiver connects itself
        autodiscover_modules("tasks")
        from tasks import checks, pings  # noqa: F401 - importing registers what they have
        from tasks.tasks import schedule_prunes

        schedule_prunes()
        pre_migrate.connect(_let_a_new_file_shrink, sender=self)
        post_migrate.connect(_declare_schedules, sender=self)


def _let_a_new_file_shrink(using: str, **_others: Any) -> None:
    from tasks.cleanup import rewrite

    if connections[using].vendor == "sqlite" and not connections[using].introspection.table_names():
        rewrite(connections[using])


def _declare_schedules(**kwargs: object) -> None:
    """Make the rows of declared schedules once their tables are there."""
    from tasks import timetable
    from tasks.models import Schedule

    if settings.TASKS_SCHEDULES and Schedule._meta.db_table in connection.introspection.table_names():
        timetable.declare()
