"""The product's settings in an environment of the tests' own, with an app of task functions for tests.

A test that starts a process gives it another environment; what is given wins over the defaults here.
"""

import os

os.environ["ENV_FILE"] = ""
for _name, _value in {
    "DEBUG": "0",
    "EXAMPLES": "1",
    "SECRET_KEY": "for tests only " + "x" * 50,
    "SITE_URL": "http://testserver",
    "ALLOWED_HOSTS": "testserver,127.0.0.1,localhost",
    "EMAIL_URL": "console:",
    "REQUIRE_MFA_FOR": "none",  # tests of second factors ask for them
    "TASKS_SCHEDULES": "0",  # the product's own would come due in the middle of a test
}.items():
    os.environ.setdefault(_name, _value)

from config.settings import *  # noqa: E402, F403 - after the environment, and all of it
from config.settings import DATABASES, INSTALLED_APPS, VAR_DIR  # noqa: E402 - after the environment

(VAR_DIR / "static").mkdir(parents=True, exist_ok=True)  # WhiteNoise warns where it is missing
INSTALLED_APPS = [*INSTALLED_APPS, "tests.work"]
# A name of its own for each run, so that two runs do not meet; for SQLite a file, since other processes open it.
_is_sqlite = DATABASES["default"]["ENGINE"].endswith("sqlite3")
DATABASES["default"]["TEST"] = {
    "NAME": str(VAR_DIR / f"test-{os.getpid()}.sqlite3") if _is_sqlite else f"test_steward_{os.getpid()}"
}
