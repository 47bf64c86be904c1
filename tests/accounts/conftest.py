"""What the tests of accounts share."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client

from accounts import tokens
from accounts.door import PROVED_AT
from accounts.models import User
from accounts.verification import remember_signup
from tasks.models import Task
from tests.conftest import PASSWORD
from tests.processes import until


@pytest.fixture
def newcomer(alice: User) -> User:
    """Alice, before she has verified her address."""
    alice.email_verified_at = None
    alice.save()
    return alice


@pytest.fixture
def token(newcomer: User) -> str:
    """The token of the newcomer's link."""
    return tokens.verification_url(newcomer).rsplit("/", 2)[1]


@pytest.fixture
def enqueued() -> Callable[[], list[tuple[str, list[object]]]]:
    """A function that returns the rows of tasks, oldest first, as (name of the function, args)."""
    return lambda: [(task.task_path.rpartition(".")[2], task.args) for task in Task.objects.order_by("pk")]


def sign_up_in(client: Client, user: User) -> Client:
    """Make it the browser that the user has signed up in."""
    client.cookies.update(remember_signup(HttpResponse(), user).cookies)
    return client


def logged_in(user: User, **headers: str) -> Client:
    """Return a browser in which the user, whose address is verified, has just typed the password."""
    user.verify_email()
    client = Client(headers=headers)
    client.post("/accounts/login/", {"username": user.email, "password": PASSWORD})
    assert client.session["_auth_user_id"] == str(user.pk)
    return client


def html_of(mail: EmailMultiAlternatives) -> str:
    """Return the HTML part."""
    [(content, mimetype)] = mail.alternatives
    assert mimetype == "text/html"
    return str(content)


def browser_of(user: User) -> Client:
    """Return a browser in which this user has just logged in."""
    client = Client()
    client.force_login(user)
    return proved(client)


def proved(client: Client) -> Client:
    """Return the browser once its user has typed the password again."""
    session = client.session
    session[PROVED_AT] = int(time.time())
    session.save()
    return client


def just_before_a_commit(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """Do the first thing, then, while it is not committed yet, the second on a connection of its own.

    Returns what both return. The commit comes once the second has done its work or waits for a lock, as it should; on
    SQLite it cannot even begin before.
    """

    def act() -> Any:
        try:
            return second()
        finally:
            connection.close()

    def waits() -> bool:
        if connection.vendor != "postgresql":
            return True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees the same activity twice
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(cursor.fetchone()[0])

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            answer = first()
            future = pool.submit(act)
            until(lambda: future.done() or waits(), what="the second is done or waits")
        return answer, future.result(30)
