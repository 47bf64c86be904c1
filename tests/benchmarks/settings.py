"""The product's settings as they are shipped, with an app for the task that is measured."""

from tests.settings import *  # noqa: F403 - all of it
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.benchmarks"]
TASKS_SCHEDULES = True
