"""The mail that verifies the address, once more."""

from __future__ import annotations

import json
import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from tasks.testing import run_enqueued
from tests.conftest import PASSWORD

URL = "/accounts/verify/resend/"
SENT = "/accounts/verify/resend/check-inbox/"
SAYS = "If this address has an account that is not verified yet, we have sent an email to it."


def post_form(client: Client, email: str):
    return client.post(URL, {"email": email})


def post_json(client: Client, email: object):
    return client.post(URL, json.dumps({"email": email}), content_type="application/json")


def text(response) -> str:
    return response.content.decode()


def test_somebody_whose_mail_got_lost_gets_another_and_verifies(client, newcomer, mailoutbox):
    response = post_form(client, " Alice@Example.org ")
    assert (response.status_code, response["Location"]) == (302, SENT)
    assert SAYS in text(client.get(SENT))
    run_enqueued()
    [line] = [line for line in mailoutbox[0].body.splitlines() if "/accounts/verify/" in line]
    link = line.removeprefix("http://testserver")
    assert client.post(link, {"password": PASSWORD}).status_code == 302
    assert User.objects.get().email_verified_at is not None


@pytest.mark.parametrize("address", ["/accounts/signup/check-inbox/", "/accounts/verify/forged/", SENT, "/accounts/"])
def test_the_form_is_found_where_the_mail_is_missed(client, newcomer, address):
    if address == "/accounts/":
        client.force_login(newcomer)
    assert f'href="{URL}"' in text(client.get(address))


def test_the_form_knows_the_address_of_somebody_who_is_logged_in(client, newcomer):
    client.force_login(newcomer)
    assert 'value="alice@example.org"' in text(client.get(URL))
    assert "alice@example.org" not in text(Client().get(URL))


@pytest.mark.parametrize("post", [post_form, post_json])
def test_every_address_gets_the_same_answer_after_the_same_statements(newcomer, enqueued, post):
    User.objects.create_user("verified@example.org", PASSWORD).verify_email()
    addresses = ["alice@example.org", "verified@example.org", "nobody@example.org"]

    def asked(address: str) -> tuple[object, ...]:
        with CaptureQueriesContext(connection) as queries:
            response = post(Client(), address)
        headers = {name: value for name, value in response.headers.items() if name != "Expires"}
        statements = [re.sub(r"'(?:[^']|'')*'|\b\d+\b", "?", query["sql"]) for query in queries]
        inserts = [["INSERT", "INTO", table] for table in [*["accounts_throttle"] * 3, "tasks_task"]]
        assert [statement.split()[:3] for statement in statements[1:]] == inserts
        assert statements[0].split()[:2] == ["SELECT", "digest,"]
        return response.status_code, headers | response.cookies, response.content, statements

    unverified, verified, unknown = map(asked, addresses)
    assert unverified == verified == unknown
    assert enqueued() == [("resend_verification_email", [address]) for address in addresses]


def test_json_is_accepted_without_a_csrf_token_and_the_form_is_not(db, enqueued):
    client = Client(enforce_csrf_checks=True)
    response = post_json(client, "nobody@example.org")
    assert (response.status_code, response.json()) == (202, {"status": "accepted", "detail": SAYS})
    assert post_form(client, "nobody@example.org").status_code == 403
    assert len(enqueued()) == 1


def test_what_is_no_address_is_refused(client, db, enqueued):
    assert 'aria-invalid="true"' in text(post_form(client, "alice"))
    response = post_json(client, "alice")
    assert (response.status_code, response.json()) == (400, {"errors": {"email": ["Enter a valid email address."]}})
    assert enqueued() == []


def test_other_methods_are_refused(client, db):
    response = client.put(URL)
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, POST")
