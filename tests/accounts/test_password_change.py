"""Another password, for somebody who is logged in."""

from __future__ import annotations

import pytest
from django.db import OperationalError, connection
from django.test import Client

from accounts.models import User
from tasks.models import Task
from tests.accounts.hashers import WatchedHasher
from tests.conftest import PASSWORD

URL = "/accounts/password-change/"
NEW = "a new lamp by the lake"
CHANGE = {"old_password": PASSWORD, "password": NEW}


def text(response) -> str:
    return response.content.decode()


@pytest.fixture
def alices(alice) -> Client:
    """The browser of Alice."""
    client = Client()
    client.force_login(alice)
    return client


def test_the_account_page_leads_to_the_form(alices):
    assert f'<a href="{URL}">Change password</a>' in text(alices.get("/accounts/"))
    page = text(alices.get(URL))
    assert page.index('autocomplete="current-password"') < page.index('autocomplete="new-password"')
    assert "no-store" in alices.get(URL)["Cache-Control"]


def test_a_change_replaces_the_password_and_tells_the_user(alices, alice, enqueued):
    response = alices.post(URL, CHANGE)
    assert (response.status_code, response["Location"]) == (302, "/accounts/")
    user = User.objects.get()
    assert (user.check_password(NEW), user.check_password(PASSWORD)) == (True, False)
    assert enqueued() == [("send_password_changed_email", [alice.pk])]


def test_a_change_ends_the_other_sessions_of_the_user_keeps_this_one_and_says_so(alices, alice, operator_client):
    elsewhere = Client()
    elsewhere.force_login(alice)
    key = alices.session.session_key
    page = alices.post(URL, CHANGE, follow=True)
    assert page.redirect_chain == [("/accounts/", 302)]
    assert "Your password is changed. Your other sessions have ended." in text(page)
    assert alices.session.session_key != key
    assert [client.get("/accounts/").status_code for client in (alices, elsewhere, operator_client)] == [200, 302, 200]


def test_a_change_does_not_verify_the_address(client, newcomer):
    client.force_login(newcomer)
    assert client.post(URL, CHANGE).status_code == 302
    assert User.objects.get().email_verified_at is None


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"old_password": NEW}, {"old_password": ["This is not your present password."]}),
        ({"old_password": PASSWORD + " "}, {"old_password": ["This is not your present password."]}),
        ({"old_password": ""}, {"old_password": ["This field is required."]}),
        ({"password": "alice@example.org"}, {"password": ["The password is too similar to the email address."]}),
        ({"password": "x" * 1025}, {"password": ["Ensure this value has at most 1024 characters (it has 1025)."]}),
    ],
)
def test_a_change_with_a_mistake_changes_nothing(alices, changes, errors):
    response = alices.post(URL, CHANGE | changes)
    assert response.status_code == 200
    assert response.context["form"].errors == errors
    assert 'aria-invalid="true"' in text(response)
    assert User.objects.get().check_password(PASSWORD)
    assert Task.objects.count() == 0
    assert alices.get("/accounts/").status_code == 200


def test_a_change_needs_a_login_and_the_csrf_token(client, alice):
    assert client.post(URL, CHANGE)["Location"] == f"/accounts/login/?next={URL}"
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(alice)
    assert careful.post(URL, CHANGE).status_code == 403
    assert User.objects.get().check_password(PASSWORD)


def test_of_two_changes_at_once_the_later_is_asked_for_a_login(alices):
    def somebody_is_faster(execute, sql, params, many, context):
        if sql.startswith('UPDATE "accounts_user"'):
            with connection.cursor() as cursor:
                cursor.cursor.execute("UPDATE accounts_user SET password = 'other'")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(somebody_is_faster):
        page = alices.post(URL, CHANGE, follow=True)
    assert page.redirect_chain[-1] == ("/accounts/login/?next=/accounts/", 302)
    assert "Your password is changed." not in text(page)
    assert User.objects.get().password == "other"
    assert Task.objects.count() == 0


def test_a_task_that_cannot_be_stored_leaves_the_old_password_and_the_session(transactional_db):
    def breaks(execute, sql, params, many, context):
        if "tasks_task" in sql:
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_user("alice@example.org", PASSWORD))
    with connection.execute_wrapper(breaks):
        assert client.post(URL, CHANGE).status_code == 500
    assert User.objects.get().check_password(PASSWORD)
    assert client.get("/accounts/").status_code == 200
    assert client.post(URL, CHANGE).status_code == 302


def test_the_passwords_are_hashed_before_the_transaction_begins(transactional_db, settings):
    settings.PASSWORD_HASHERS = ["tests.accounts.hashers.WatchedHasher"]
    client = Client()
    client.force_login(User.objects.create_user("alice@example.org", PASSWORD))
    WatchedHasher.in_transaction.clear()
    assert client.post(URL, CHANGE).status_code == 302
    assert WatchedHasher.in_transaction == [False, False]


def test_a_hash_of_an_older_kind_does_not_stand_in_the_way(alices, settings):
    settings.PASSWORD_HASHERS = ["tests.accounts.hashers.WatchedHasher", *settings.PASSWORD_HASHERS]
    assert alices.post(URL, CHANGE).status_code == 302
    assert User.objects.get().password.startswith("watched$")
    assert User.objects.get().check_password(NEW)
    assert alices.get("/accounts/").status_code == 200
