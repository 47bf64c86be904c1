"""What tests of several parts use: the cast, and task functions of their own."""

from __future__ import annotations

import time

import pytest
from django.test import Client
from django.utils import translation

from accounts.door import PROVED_AT
from accounts.models import User
from tasks.models import Cluster
from tests.processes import Process, qcluster, until

PASSWORD = "an old lamp by the sea"


@pytest.fixture(autouse=True)
def _quick_settings(settings, request):
    """Hash passwords fast, serve static files without collecting them; end-to-end tests use the real thing.

    Nothing looks for static files where another process of the tests may be about to collect them.
    """
    settings.STATIC_ROOT = settings.VAR_DIR / "no-static"
    settings.STATIC_ROOT.mkdir(exist_ok=True)
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }


@pytest.fixture(autouse=True)
def _own_language():
    """Begin each test in the language of the settings.

    Django's middleware leaves the language of a request active in its thread until the next request; a test client
    is in the thread of the tests.
    """
    translation.deactivate()
    yield
    translation.deactivate()


@pytest.fixture
def alice(db) -> User:
    """A user with a verified address."""
    user = User.objects.create_user("alice@example.org", PASSWORD, display_name="Alice")
    user.verify_email()
    user.refresh_from_db()
    return user


@pytest.fixture
def operator(db) -> User:
    """An administrator."""
    return User.objects.create_superuser("operator@example.org", PASSWORD, display_name="Operator")


@pytest.fixture
def operator_client(operator: User) -> Client:
    """The browser of the administrator, who has just typed the password."""
    client = Client()
    client.force_login(operator)
    session = client.session
    session[PROVED_AT] = int(time.time())
    session.save()
    return client


@pytest.fixture
def cluster(transactional_db, tmp_path):
    """A function that starts a real qcluster on the database of this test; all are stopped at its end."""
    started: list[Process] = []

    def start(*arguments: str, **environment: str) -> Process:
        process = qcluster(tmp_path / f"qcluster-{len(started)}.log", *arguments, **environment).start()
        started.append(process)
        until(lambda: Cluster.objects.filter(pid=process.pid).exclude(workers=[]).exists(), 20, "the cluster runs")
        return process

    yield start
    for process in started:
        process.stop()
        print(process.log())
