"""Login, logout, the account page."""

from __future__ import annotations

import pytest
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import tokens
from accounts.models import User
from tests.conftest import PASSWORD

NO_MATCH = (
    "This email address and password do not match an account. Try again. If you have just signed up, open the link in "
    "our mail first."
)
OWN = "a new lamp by the lake"
ELSEWHERE = [
    "https://evil.example.org/",
    "//evil.example.org/",
    "///evil.example.org/",
    "https:evil.example.org",
    "http:///evil.example.org",
    "\\\\evil.example.org",
    "/\\evil.example.org",
    "javascript:alert(1)",
    "https://testserver@evil.example.org/",
]


def login(client: Client, **data: str):
    return client.post("/accounts/login/", {"username": "alice@example.org", "password": PASSWORD} | data)


def is_logged_in(client: Client) -> bool:
    return client.get("/accounts/").status_code == 200


@pytest.mark.parametrize("address", ["alice@example.org", "ALICE@Example.org", " alice@example.org "])
def test_a_user_logs_in_however_the_address_is_spelt(client, alice, address):
    response = login(client, username=address)
    assert (response.status_code, response["Location"]) == (302, "/accounts/")
    assert client.session["_auth_user_id"] == str(alice.pk)


def test_a_signup_and_a_login_do_not_tell_whether_the_address_had_an_account(alice, enqueued):
    """Neither does the password that was chosen at the signup: it gets the answer of a wrong one."""
    answers = []
    for address in (alice.email, "new@example.org"):
        client, other = Client(), Client()
        client.post("/accounts/signup/", {"email": address, "password": OWN})
        for browser, password in ((client, OWN), (other, OWN), (other, "x" + OWN)):
            with CaptureQueriesContext(connection) as queries:
                response = login(browser, username=address, password=password)
            assert not is_logged_in(browser)
            answers.append((response.status_code, response.context["form"].errors, len(queries)))
    assert answers == 6 * [(200, {"__all__": [NO_MATCH]}, answers[0][2])]
    assert [name for name, _args in enqueued()] == ["send_already_registered_email", "send_welcome_email"]


class Away(BaseEmailBackend):
    """A mail server that is not there."""

    def send_messages(self, email_messages):
        raise ConnectionRefusedError


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/accounts/signup/", 202),
        ("/accounts/login/", 401),
        ("/accounts/password-reset/", 202),
        ("/accounts/verify/resend/", 202),
    ],
)
def test_while_the_mail_server_is_away_a_known_and_a_new_address_are_answered_alike(alice, settings, path, status):
    settings.EMAIL_BACKEND = "tests.accounts.test_login.Away"
    answers = []
    for address in (alice.email, "new@example.org"):
        data = {"email": address, "password": OWN}
        with CaptureQueriesContext(connection) as queries:
            response = Client().post(path, data, content_type="application/json")
        answers.append((response.status_code, response.content, len(queries)))
    assert answers[0] == answers[1]
    assert answers[0][0] == status


def test_a_new_account_can_be_logged_in_to_once_its_address_is_verified(client, db):
    client.post("/accounts/signup/", {"email": "new@example.org", "password": OWN})
    login(client, username="new@example.org", password=OWN)
    assert not is_logged_in(client)
    user = User.objects.get()
    assert user.last_login is None
    client.post(tokens.verification_url(user).removeprefix("http://testserver"))
    login(client, username="new@example.org", password=OWN)
    assert is_logged_in(client)


@pytest.mark.parametrize("state", [{"is_staff": True}, {"is_superuser": True}, {"last_login": timezone.now()}])
def test_whoever_cannot_be_a_stranger_with_the_address_of_another_logs_in_without(client, newcomer, state):
    """Nobody signs up as staff; an account that was used has a new address, by an administrator."""
    User.objects.update(**state)
    login(client)
    assert is_logged_in(client)


def test_an_account_whose_address_is_not_verified_shows_it(client, newcomer):
    client.force_login(newcomer)
    page = client.get("/accounts/").content.decode()
    assert "not verified yet" in page
    assert "To verify your address, open the link in the mail that we sent you." in page


def test_the_account_page_shows_the_account(client, alice):
    client.force_login(alice)
    page = client.get("/accounts/")
    assert page.status_code == 200
    for text in ("<dd>Alice</dd>", "alice@example.org", '<span class="badge good">verified</span>', "<dd>English</dd>"):
        assert text in page.content.decode()
    assert "no-store" in page["Cache-Control"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": PASSWORD + " "},
        {"password": PASSWORD.upper()},
        {"username": "nobody@example.org"},
        {"username": "alice@example.org\t"[::-1]},
        {"password": "x" * 10_000},
    ],
)
def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(client, alice, wrong):
    response = login(client, **wrong)
    assert response.status_code == 200
    assert response.context["form"].errors == {"__all__": [NO_MATCH]}
    assert f"<p>{NO_MATCH}</p>" in response.content.decode()  # and no mark of a list before it
    assert not is_logged_in(client)


def test_a_user_who_is_switched_off_gets_the_same_answer_as_an_unknown_one(client, alice):
    User.objects.update(is_active=False)
    assert login(client).context["form"].errors == {"__all__": [NO_MATCH]}
    assert not is_logged_in(client)


def test_a_session_ends_when_its_user_is_switched_off(client, alice):
    client.force_login(alice)
    User.objects.update(is_active=False)
    assert client.get("/accounts/")["Location"] == "/accounts/login/?next=/accounts/"


@pytest.mark.parametrize("field", ["username", "password"])
def test_a_nul_character_is_a_mistake_in_the_form(client, alice, field):
    response = login(client, **{field: "alice\x00@example.org"})
    assert response.status_code == 200
    assert response.context["form"].errors == {field: ["Null characters are not allowed."]}


def test_the_login_form_needs_its_csrf_token(alice):
    client = Client(enforce_csrf_checks=True)
    assert login(client).status_code == 403
    assert not is_logged_in(client)


def test_the_account_page_asks_for_a_login_and_comes_back(client, alice):
    response = client.get("/accounts/?tab=1")
    assert (response.status_code, response["Location"]) == (302, "/accounts/login/?next=/accounts/%3Ftab%3D1")
    page = client.get(response["Location"]).content.decode()
    assert '<input type="hidden" name="next" value="/accounts/?tab=1">' in page
    assert login(client, next="/accounts/?tab=1")["Location"] == "/accounts/?tab=1"


@pytest.mark.parametrize("address", ELSEWHERE)
def test_a_login_never_leads_to_another_site(client, alice, address):
    response = login(client, next=address)
    assert (response.status_code, response["Location"]) == (302, "/accounts/")


@pytest.mark.parametrize("address", ELSEWHERE)
def test_neither_does_the_login_page_for_somebody_who_is_logged_in(client, alice, address):
    client.force_login(alice)
    response = client.get("/accounts/login/", {"next": address})
    assert (response.status_code, response["Location"]) == (302, "/accounts/")


@pytest.mark.parametrize("address", ELSEWHERE)
def test_neither_does_a_logout(client, alice, address):
    client.force_login(alice)
    response = client.post("/accounts/logout/", {"next": address})
    assert (response.status_code, response["Location"]) == (302, "/")


def test_somebody_who_is_logged_in_is_sent_on(client, alice):
    client.force_login(alice)
    assert client.get("/accounts/login/")["Location"] == "/accounts/"
    assert client.get("/accounts/signup/")["Location"] == "/accounts/"


@pytest.mark.parametrize("method", ["get", "post"])
def test_somebody_who_is_logged_in_is_not_sent_in_a_circle(client, alice, method):
    login(client)
    response = getattr(client, method)("/accounts/login/?next=/accounts/login/")
    assert (response.status_code, response["Location"]) == (302, "/accounts/")


def test_a_login_changes_the_key_of_the_session(client, alice):
    client.get("/accounts/login/")
    session = client.session
    session["before"] = True
    session.save()
    before = session.session_key
    client.cookies["session"] = before
    login(client)
    assert client.session["before"] is True
    assert client.session.session_key != before


def test_a_logout_ends_the_session_and_leads_home(client, alice):
    client.force_login(alice)
    response = client.post("/accounts/logout/")
    assert (response.status_code, response["Location"]) == (302, "/")
    assert not is_logged_in(client)


def test_a_logout_is_a_post_with_the_csrf_token(alice):
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    response = client.get("/accounts/logout/")
    assert (response.status_code, response["Allow"]) == (405, "POST, OPTIONS")
    assert client.post("/accounts/logout/").status_code == 403
    assert is_logged_in(client)


def test_a_logout_after_the_session_has_ended_leads_home_too(client):
    response = client.post("/accounts/logout/")
    assert (response.status_code, response["Location"]) == (302, "/")
