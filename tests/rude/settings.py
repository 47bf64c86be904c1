"""The settings of a release that has this app."""

from tests.settings import *  # noqa: F403 - all of it
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.rude"]
