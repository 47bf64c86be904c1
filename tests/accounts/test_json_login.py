"""Login, second step and logout by JSON: the rules of the pages, in another language."""

from __future__ import annotations

import json
import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import SecurityEvent, Session, User
from tests.accounts.authenticator import code_now, give_app, give_codes
from tests.conftest import PASSWORD
from tests.test_pages import OPEN

URL = "/accounts/login/"
NO_MATCH = (
    "This email address and password do not match an account. Try again. If you have just signed up, open the link in "
    "our mail first."
)
WRONG = "a new lamp by the lake"


def post(client: Client, path: str = URL, content_type: str = "application/json", headers=None, **data: object):
    return client.post(path, json.dumps(data), content_type=content_type, headers=headers or {})


def is_logged_in(client: Client) -> bool:
    return client.get("/accounts/").status_code == 200


def test_a_client_logs_in_and_out_again(alice):
    client = Client(enforce_csrf_checks=True)
    response = post(client, email="ALICE@example.org", password=PASSWORD)
    assert (response.status_code, response.json()) == (200, {"status": "logged-in"})
    assert "no-store" in response["Cache-Control"]
    assert response.cookies["session"]["httponly"]
    assert is_logged_in(client)
    response = post(client, "/accounts/logout/")
    assert (response.status_code, response.json()) == (200, {"status": "logged-out"})
    assert response["Clear-Site-Data"] == '"cache", "storage"'
    assert not is_logged_in(client)
    assert not Session.objects.filter(user=alice).exists()
    kinds = list(SecurityEvent.objects.filter(user=alice).order_by("pk").values_list("kind", flat=True))
    assert kinds == ["login", "logout"]


def test_a_logout_without_a_session_says_the_same(client, db):
    assert post(client, "/accounts/logout/").json() == {"status": "logged-out"}
    empty = client.generic("POST", "/accounts/logout/", "", headers={"Content-Type": "application/json"})
    assert empty.json() == {"status": "logged-out"}


@pytest.mark.parametrize("wrong", [{"password": WRONG}, {"email": "nobody@example.org"}, {"email": "x"}])
def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(client, alice, wrong):
    response = post(client, **{"email": alice.email, "password": PASSWORD} | wrong)
    assert (response.status_code, response.json()) == (401, {"errors": {"__all__": [NO_MATCH]}})
    assert not is_logged_in(client)


def test_they_run_the_same_statements(alice):
    def statements(address: str) -> list[str]:
        with CaptureQueriesContext(connection) as queries:
            post(Client(), email=address, password=WRONG)
        return [re.sub(r"'(?:[^']|'')*'|\bs\d+_x\d+\b|\b\d+\b|NULL", "?", query["sql"]) for query in queries]

    assert statements(alice.email) == statements("nobody@example.org")


@pytest.mark.parametrize(
    ("data", "errors"),
    [
        ({}, {"email": ["This field is required."], "password": ["This field is required."]}),
        ({"email": "alice@example.org", "password": ""}, {"password": ["This field is required."]}),
        (
            {"email": ["alice@example.org"], "password": 1},
            {"email": ["Enter a string."], "password": ["Enter a string."]},
        ),
        ({"email": "alice@example.org", "password": "\ud800"}, {"password": ["Enter a string."]}),
    ],
)
def test_a_mistake_is_named(client, alice, data, errors):
    response = post(client, **data)
    assert (response.status_code, response.json()) == (400, {"errors": errors})


def test_too_many_wrong_passwords_are_refused_in_json_with_the_time_to_wait(client, alice):
    answers = [post(client, email=alice.email, password=WRONG) for _number in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert int(answers[-1]["Retry-After"]) > 0
    assert "errors" in answers[-1].json()


@pytest.mark.parametrize("path", [URL, "/accounts/login/second-factor/", "/accounts/logout/"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method_is_refused(client, db, path, method):
    response = client.generic(method, path, "{}", content_type="application/json")
    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert response.json() == {"errors": {"__all__": ["Send this with POST."]}}


@pytest.mark.parametrize("path", [URL, "/accounts/login/second-factor/", "/accounts/logout/"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.org"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_is_refused(alice, path, headers):
    client = Client()
    client.force_login(alice)
    response = post(client, path, headers=headers, email=alice.email, password=PASSWORD)
    assert response.status_code == 403
    assert response.json() == {"errors": {"__all__": ["Requests from pages of other sites are refused."]}}
    assert "session" not in response.cookies
    assert is_logged_in(client)


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://testserver"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
)
def test_a_page_of_this_site_is_not(client, alice, headers):
    assert post(client, headers=headers, email=alice.email, password=PASSWORD).status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
@pytest.mark.parametrize("path", [URL, "/accounts/login/second-factor/", "/accounts/logout/"])
def test_under_another_type_it_is_a_form_which_needs_its_token(alice, path, content_type):
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    body = json.dumps({"email": alice.email, "password": PASSWORD})
    assert client.generic("POST", path, body, content_type=content_type).status_code == 403
    assert is_logged_in(client)


def test_with_a_second_factor_the_password_is_half_of_it(alice):
    give_app(alice)
    client, step = Client(enforce_csrf_checks=True), "/accounts/login/second-factor/"
    first = {"errors": {"__all__": ["Log in with address and password first."]}}
    assert (post(client, step, code=code_now()).status_code, post(client, step, code="1").json()) == (401, first)
    response = post(client, email=alice.email, password=PASSWORD)
    assert (response.status_code, response.json()) == (200, {"status": "second-factor-required"})
    assert not is_logged_in(client)
    wrong = post(client, step, code="x" * 8)
    assert (wrong.status_code, wrong["WWW-Authenticate"]) == (401, "Cookie")
    assert wrong.json() == {
        "errors": {"code": ["This code is wrong, too old or was used before. Try again with the next one."]}
    }
    assert post(client, step).json() == {"errors": {"code": ["This field is required."]}}
    assert post(client, step, code=1).json() == {"errors": {"code": ["Enter a string."]}}
    response = post(client, step, code=code_now())
    assert (response.status_code, response.json()) == (200, {"status": "logged-in"})
    assert is_logged_in(client)
    assert client.session["mfa"] == "app"


@pytest.mark.parametrize("is_same", [True, False])
def test_a_client_that_is_logged_in_logs_in_again(client, alice, operator, is_same):
    [code, *_others] = give_codes(alice) if is_same else [""]
    give_app(alice)
    post(client, email=alice.email if is_same else operator.email, password=PASSWORD)
    if is_same:
        assert post(client, URL + "second-factor/", code=code).status_code == 200
    response = post(client, email=alice.email, password=PASSWORD)
    assert response.json() == {"status": "second-factor-required"}
    assert not is_logged_in(client)
    assert post(client, URL + "second-factor/", code=code_now()).json() == {"status": "logged-in"}
    assert client.session["_auth_user_id"] == str(alice.pk)


def test_a_user_who_is_switched_off_gets_the_answer_of_an_unknown_one(client, alice):
    User.objects.update(is_active=False)
    assert post(client, email=alice.email, password=PASSWORD).json() == {"errors": {"__all__": [NO_MATCH]}}


def test_the_addresses_are_open_like_their_pages():
    assert {URL, "/accounts/logout/", "/accounts/login/second-factor/"} <= {*OPEN}
