"""A Django project with django-q2 or django-tasks-db, as BENCH_APP says."""

import os
from typing import Any
from urllib.parse import unquote, urlsplit

SECRET_KEY = "bench"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
if os.environ["BENCH_APP"] == "django_q":
    INSTALLED_APPS += ["django_q"]
    Q_CLUSTER = {"name": "bench", "orm": "default", "workers": 2}
else:
    INSTALLED_APPS += ["django_tasks", "django_tasks_db"]
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}

DATABASES: dict[str, Any]
_url = urlsplit(os.environ["BENCH_URL"])
if _url.scheme == "sqlite":
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": _url.path[1:],
            "OPTIONS": {  # without these, several processes wait for each other or fail
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _url.path[1:],
            "HOST": _url.hostname,
            "PORT": _url.port or 5432,
            "USER": unquote(_url.username or ""),
            "PASSWORD": unquote(_url.password or ""),
        }
    }
