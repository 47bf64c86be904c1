"""The product's settings as they are shipped, with an app for the task that is measured."""

from tests.settings import *  # noqa: F403 - all of it
from tests.settings import INSTALLED_APPS, VAR_DIR

INSTALLED_APPS = [*INSTALLED_APPS, "tests.benchmarks"]
STATIC_ROOT = VAR_DIR / "bench" / "static"  # a test that measures a site collects them beside other tests
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
TASKS_SCHEDULES = True
