"""Fills the registry of task functions when Django starts."""

from django.apps import AppConfig
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
        autodiscover_modules("tasks")
