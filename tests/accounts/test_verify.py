"""The page behind the link in the mail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test import Client

from accounts import tokens
from accounts.models import User

BUTTON = "Verify my address"
DOES_NOT_WORK = "<h1>This link does not work</h1>"


@pytest.fixture
def link(token) -> str:
    return f"/accounts/verify/{token}/"


def is_verified() -> bool:
    return User.objects.get().email_verified_at is not None


def text(response) -> str:
    return response.content.decode()


def test_opening_the_link_changes_nothing_however_often_a_scanner_does_it(client, link):
    for _ in range(3):
        response = client.get(link)
        assert response.status_code == 200
        assert BUTTON in text(response)
        assert client.head(link).status_code == 200
    assert not is_verified()


def test_the_button_verifies_the_address_and_leads_to_the_account(client, link):
    response = client.post(link)
    assert (response.status_code, response["Location"]) == (302, "/accounts/")
    assert is_verified()
    page = client.get("/accounts/login/")
    assert "Your email address is verified." in text(page)


def test_the_second_time_it_says_already_verified(client, link):
    client.post(link)
    first = User.objects.get().email_verified_at
    for response in (client.post(link), client.get(link)):
        assert response.status_code == 200
        assert "<h1>Already verified</h1>" in text(response)
        assert BUTTON not in text(response)
    assert User.objects.get().email_verified_at == first


def test_of_two_at_the_same_time_the_later_is_told_already_verified(client, link):
    def somebody_is_faster(execute, sql, params, many, context):
        if sql.startswith('UPDATE "accounts_user"'):
            with connection.cursor() as cursor:
                cursor.cursor.execute("UPDATE accounts_user SET email_verified_at = CURRENT_TIMESTAMP")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(somebody_is_faster):
        response = client.post(link)
    assert response.status_code == 200
    assert "<h1>Already verified</h1>" in text(response)


def test_the_button_needs_the_csrf_token_of_its_page(link):
    client = Client(enforce_csrf_checks=True)
    assert client.post(link).status_code == 403
    assert not is_verified()
    client.get(link)
    assert client.post(link, {"csrfmiddlewaretoken": client.cookies["csrf"].value}).status_code == 302
    assert is_verified()


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_forged_link_gets_the_404_page_and_changes_nothing(client, token, method):
    response = getattr(client, method)(f"/accounts/verify/{token[:-5]}AAAAA/")
    assert response.status_code == 404
    assert DOES_NOT_WORK in text(response)
    assert BUTTON not in text(response)
    assert not is_verified()


@pytest.mark.parametrize("method", ["get", "post"])
def test_an_expired_link_gets_the_404_page_and_changes_nothing(client, newcomer, method):
    made = datetime(2030, 6, 1, tzinfo=UTC)
    with time_machine.travel(made, tick=False):
        link = tokens.verification_url(newcomer).removeprefix("http://testserver")
        assert client.get(link).status_code == 200
    with time_machine.travel(made + timedelta(days=3, seconds=1), tick=False):
        response = getattr(client, method)(link)
    assert response.status_code == 404
    assert DOES_NOT_WORK in text(response)
    assert not is_verified()


@pytest.mark.parametrize("method", ["get", "post"])
def test_the_link_of_an_address_that_has_changed_gets_the_404_page(client, link, method):
    User.objects.update(email="other@example.org")
    response = getattr(client, method)(link)
    assert response.status_code == 404
    assert DOES_NOT_WORK in text(response)
    assert not is_verified()


def test_a_link_from_before_a_new_secret_key_works_while_the_old_one_is_a_fallback(client, link, settings):
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key " + "y" * 50
    assert client.post(link).status_code == 302
    assert is_verified()


def test_no_other_site_and_no_cache_learns_the_link(client, link):
    for response in (client.get(link), client.get("/accounts/verify/forged/"), client.post(link), client.post(link)):
        assert response["Referrer-Policy"] == "same-origin"
        assert "no-store" in response["Cache-Control"]
        assert "private" in response["Cache-Control"]


def test_verifying_does_not_log_anybody_in(client, link):
    client.post(link)
    response = client.get("/accounts/")
    assert (response.status_code, response["Location"]) == (302, "/accounts/login/?next=/accounts/")


def test_other_methods_are_refused(client, link):
    response = client.put(link)
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, POST")
    assert not is_verified()
