"""The tests' settings with all pages at one site: the development mailbox, and addresses that answer with an error."""

import os
from pathlib import Path

from tests.settings import *  # noqa: F403 - all of it

ROOT_URLCONF = "tests.e2e.urls"
MAILBOX_DIR = Path(os.environ.get("MAILBOX_DIR", "nowhere"))
