"""A new password by way of a mail: the form for the address, and the page behind the link."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import tokens
from accounts.forms import NewPasswordForm
from accounts.models import Passkey, RecoveryCode, SecurityEvent, Totp, User
from tasks.models import Task
from tasks.testing import run_enqueued
from tests.accounts.authenticator import give_app, give_codes
from tests.accounts.hashers import WatchedHasher
from tests.conftest import PASSWORD

URL = "/accounts/password-reset/"
SENT = "/accounts/password-reset/check-inbox/"
ACCEPTED = {"status": "accepted", "detail": "If this address has an account, we have sent an email to it."}
NEW = "a new lamp by the lake"
DOES_NOT_WORK = "<h1>This link does not work</h1>"


def post_form(client: Client, email: str):
    return client.post(URL, {"email": email})


def post_json(client: Client, email: object):
    return client.post(URL, json.dumps({"email": email}), content_type="application/json")


def path(user: User) -> str:
    return tokens.reset_url(user).removeprefix("http://testserver")


def text(response) -> str:
    return response.content.decode()


@pytest.fixture
def link(alice) -> str:
    return path(alice)


# The form for the address --------------------------------------------------------------------------------------------


def test_the_login_page_leads_to_the_form(client, db):
    assert f'<a href="{URL}">Forgot your password?</a>' in text(client.get("/accounts/login/"))
    assert 'autocomplete="username"' in text(client.get(URL))


def test_an_address_is_handed_to_the_worker_in_one_spelling_and_nothing_is_looked_up(client, alice, enqueued):
    for address in ("alice@example.org", " ALICE@Example.org "):
        response = post_form(client, address)
        assert (response.status_code, response["Location"]) == (302, SENT)
    assert enqueued() == [("send_password_reset_email", ["alice@example.org"])] * 2


def answer(response) -> tuple[int, dict[str, str], bytes]:
    """Return all of it but what the clock has written."""
    headers = {name: value for name, value in response.headers.items() if name != "Expires"}
    return response.status_code, headers | response.cookies, response.content


ADDRESSES = ["alice@example.org", "nobody@example.org", "off@example.org"]


@pytest.mark.parametrize("post", [post_form, post_json])
def test_an_address_without_an_account_gets_the_same_answer(alice, post):
    User.objects.create_user("off@example.org", PASSWORD, is_active=False)
    known, unknown, off = (answer(post(Client(), address)) for address in ADDRESSES)
    assert known == unknown == off


@pytest.mark.parametrize("post", [post_form, post_json])
def test_an_address_without_an_account_runs_the_same_statements_and_hashes_nothing(alice, settings, post):
    settings.PASSWORD_HASHERS = ["tests.accounts.hashers.WatchedHasher"]
    User.objects.create_user("off@example.org", PASSWORD, is_active=False)
    WatchedHasher.in_transaction.clear()

    def statements(address: str) -> list[str]:
        with CaptureQueriesContext(connection) as queries:
            assert post(Client(), address).status_code in (202, 302)
        return [re.sub(r"'(?:[^']|'')*'|\b\d+\b", "?", query["sql"]) for query in queries]

    known, unknown, off = map(statements, ADDRESSES)
    assert known == unknown == off
    inserts = [["INSERT", "INTO", table] for table in [*["accounts_throttle"] * 3, "tasks_task"]]
    assert [statement.split()[:3] for statement in known[1:]] == inserts
    assert known[0].split()[:2] == ["SELECT", "digest,"]
    assert WatchedHasher.in_transaction == []


def test_the_page_after_it_says_the_same_to_everyone(client, db):
    page = text(client.get(SENT))
    assert "If this address has an account, we have sent an email to it." in page
    assert f'<a href="{URL}">Ask for it again</a>' in page


def test_json_is_accepted_without_a_csrf_token(db, enqueued):
    client = Client(enforce_csrf_checks=True, headers={"Origin": "https://client.example.org"})
    response = post_json(client, "nobody@example.org")
    assert (response.status_code, response.json()) == (202, ACCEPTED)
    assert enqueued() == [("send_password_reset_email", ["nobody@example.org"])]


def test_the_form_needs_its_csrf_token(db, enqueued):
    assert post_form(Client(enforce_csrf_checks=True), "nobody@example.org").status_code == 403
    assert enqueued() == []


@pytest.mark.parametrize("address", ["", "alice", "alice@", "älice@example.org", "alice@example.org\x00", "a" * 300])
@pytest.mark.parametrize("post", [post_form, post_json])
def test_what_is_no_address_is_refused(client, alice, enqueued, post, address):
    response = post(client, address)
    if post is post_json:
        assert (response.status_code, list(response.json()["errors"])) == (400, ["email"])
    else:
        assert response.status_code == 200
        assert 'aria-invalid="true"' in text(response)
        assert 'role="alert"' in text(response)
    assert enqueued() == []


@pytest.mark.parametrize("value", [None, 1, ["alice@example.org"], "\ud800"])
def test_a_value_that_is_no_string_is_refused(client, db, value):
    response = post_json(client, value)
    assert (response.status_code, response.json()) == (400, {"errors": {"email": ["Enter a string."]}})
    assert Task.objects.count() == 0


def test_json_with_another_method_is_refused(client, db):
    response = client.get(URL, headers={"Content-Type": "application/json"})
    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert response.json() == {"errors": {"__all__": ["Send the address with POST."]}}


# The page behind the link --------------------------------------------------------------------------------------------


def test_a_person_gets_from_the_form_to_a_login_with_the_new_password(client, alice, mailoutbox):
    post_form(client, alice.email)
    run_enqueued()
    [line] = [line for line in mailoutbox[0].body.splitlines() if URL in line]
    link = line.removeprefix("http://testserver")
    page = client.get(link)
    assert 'autocomplete="new-password"' in text(page)
    assert "It is for the account of alice@example.org" in text(page)
    response = client.post(link, {"password": NEW})
    assert (response.status_code, response["Location"]) == (302, "/accounts/login/")
    assert "Your password is changed. Log in with the new one." in text(client.get("/accounts/login/"))
    client.post("/accounts/login/", {"username": alice.email, "password": NEW})
    assert client.session["_auth_user_id"] == str(alice.pk)


def test_opening_the_link_changes_nothing_however_often_a_scanner_does_it(client, alice, link):
    before = User.objects.values().get()
    for _ in range(3):
        assert client.get(link).status_code == 200
        assert client.head(link).status_code == 200
    assert User.objects.values().get() == before


def test_a_reset_changes_the_password_and_tells_the_user_and_logs_nobody_in(client, alice, link, enqueued):
    client.post(link, {"password": NEW})
    user = User.objects.get()
    assert (user.check_password(NEW), user.check_password(PASSWORD)) == (True, False)
    assert user.email_verified_at == alice.email_verified_at
    assert enqueued() == [("send_password_changed_email", [alice.pk])]
    assert client.get("/accounts/")["Location"] == "/accounts/login/?next=/accounts/"


def test_a_reset_verifies_the_address(client, newcomer):
    client.post(path(newcomer), {"password": NEW})
    assert User.objects.get().email_verified_at is not None


@pytest.mark.parametrize(
    ("state", "is_left"),
    [({}, False), ({"email_verified_at": timezone.now()}, True), ({"is_staff": True}, True)],
)
def test_who_signed_up_with_the_address_of_another_leaves_no_second_factor_behind(
    client, newcomer, operator, state, is_left
):
    for user in (newcomer, operator):
        give_app(user)
        give_codes(user)
        Passkey.objects.create(user=user, name="Key", credential_id=user.email, public_key=b"k")
    User.objects.filter(pk=newcomer.pk).update(**state)
    client.post(path(User.objects.get(pk=newcomer.pk)), {"password": NEW})
    left = [Totp.objects.count(), Passkey.objects.count(), RecoveryCode.objects.count()]
    assert left == ([2, 2, 20] if is_left else [1, 1, 10])
    events = SecurityEvent.objects.filter(kind="factor-removed").values_list("user", "details")
    details = {"apps": 1, "passkeys": 1, "by": "owner of the address"}
    assert list(events) == ([] if is_left else [(newcomer.pk, details)])


def test_a_reset_ends_all_sessions_of_the_user_and_no_other(alice, operator_client):
    here, there = Client(), Client()
    for session in (here, there):
        session.force_login(alice)
        assert session.get("/accounts/").status_code == 200
    link = path(User.objects.get(pk=alice.pk))  # a login overtakes older links
    assert here.post(link, {"password": NEW})["Location"] == "/accounts/login/"
    assert [session.get("/accounts/").status_code for session in (here, there, operator_client)] == [302, 302, 200]


def test_whoever_else_was_logged_in_in_the_browser_is_logged_out_and_sees_the_login(operator_client, link):
    page = operator_client.post(link, {"password": NEW}, follow=True)
    assert page.redirect_chain == [("/accounts/login/", 302)]
    assert "Your password is changed. Log in with the new one." in text(page)


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_link_works_once(client, link, method):
    client.post(link, {"password": NEW})
    changed = User.objects.values().get()
    response = getattr(client, method)(link, {"password": PASSWORD})
    assert response.status_code == 404
    assert DOES_NOT_WORK in text(response)
    assert f'<a class="button" href="{URL}">Ask for a new link</a>' in text(response)
    assert User.objects.values().get() == changed


def test_the_second_of_two_links_dies_with_the_first(client, alice):
    first, second = path(alice), path(alice)
    client.post(first, {"password": NEW})
    assert client.post(second, {"password": PASSWORD}).status_code == 404
    assert User.objects.get().check_password(NEW)


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("change", [{"is_active": False}, {"email": "other@example.org"}, {"password": "other"}])
def test_a_link_of_another_time_gets_the_404_page_and_changes_nothing(client, link, method, change):
    User.objects.update(**change)
    before = User.objects.values().get()
    response = getattr(client, method)(link, {"password": NEW})
    assert response.status_code == 404
    assert DOES_NOT_WORK in text(response)
    assert User.objects.values().get() == before
    assert Task.objects.count() == 0


@pytest.mark.parametrize("change", ["is_active = false", "email = 'other@example.org'", "password = 'other'"])
def test_what_changes_between_the_look_and_the_update_wins(client, link, change):
    def somebody_is_faster(execute, sql, params, many, context):
        if sql.startswith('UPDATE "accounts_user"'):
            with connection.cursor() as cursor:
                cursor.cursor.execute(f"UPDATE accounts_user SET {change}")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(somebody_is_faster):
        response = client.post(link, {"password": NEW})
    assert response.status_code == 404
    assert DOES_NOT_WORK in text(response)
    assert not User.objects.get().check_password(NEW)
    assert Task.objects.count() == 0


def test_of_two_uses_at_once_one_wins(transactional_db):
    user = User.objects.create_user("alice@example.org", PASSWORD)
    barrier = threading.Barrier(2, timeout=30)

    def reset(link: str, password: str) -> bool:
        try:
            user = tokens.user_of_reset(link.split("/")[-2])
            assert user is not None
            form = NewPasswordForm(user, {"password": password})
            assert form.is_valid()
            barrier.wait()
            return form.save()
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for number in range(10):
            link = tokens.reset_url(User.objects.get())
            passwords = [f"{name} lamp by the lake {number}" for name in ("one", "another")]
            won = [done.result() for done in [pool.submit(reset, link, password) for password in passwords]]
            assert sorted(won) == [False, True]
            assert User.objects.get().check_password(passwords[won.index(True)])
    assert list(Task.objects.values_list("args", flat=True)) == [[user.pk]] * 10


def test_a_rollback_leaves_the_old_password_and_no_task(transactional_db):
    user = User.objects.create_user("alice@example.org", PASSWORD)
    form = NewPasswordForm(user, {"password": NEW})
    assert form.is_valid()
    with transaction.atomic():
        assert form.save() is True
        transaction.set_rollback(True)
    assert User.objects.get().check_password(PASSWORD)
    assert Task.objects.count() == 0


def test_a_task_that_cannot_be_stored_leaves_the_old_password(transactional_db):
    def breaks(execute, sql, params, many, context):
        if "tasks_task" in sql:
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    link = path(User.objects.create_user("alice@example.org", PASSWORD))
    client = Client(raise_request_exception=False)
    with connection.execute_wrapper(breaks):
        assert client.post(link, {"password": NEW}).status_code == 500
    assert User.objects.get().check_password(PASSWORD)
    assert client.post(link, {"password": NEW}).status_code == 302


def test_the_password_is_hashed_once_and_before_the_transaction_begins(transactional_db, client, settings):
    settings.PASSWORD_HASHERS = ["tests.accounts.hashers.WatchedHasher"]
    link = path(User.objects.create_user("alice@example.org", PASSWORD))
    WatchedHasher.in_transaction.clear()
    assert client.post(link, {"password": NEW}).status_code == 302
    assert WatchedHasher.in_transaction == [False]


@pytest.mark.parametrize(
    ("password", "error"),
    [
        ("short", "This password is too short. It must contain at least 12 characters."),
        ("alice@example.org", "The password is too similar to the email address."),
        ("x y" * 342, "Ensure this value has at most 1024 characters (it has 1026)."),
        ("", "This field is required."),
    ],
)
def test_a_password_that_is_refused_leaves_the_link_as_it_was(client, alice, link, password, error):
    response = client.post(link, {"password": password})
    assert response.status_code == 200
    assert response.context["form"].errors == {"password": [error]}
    assert 'aria-invalid="true"' in text(response)
    assert User.objects.get().check_password(PASSWORD)
    assert client.post(link, {"password": NEW}).status_code == 302


@pytest.mark.parametrize("password", ["x y" * 341, "  spaces count  ", "pass🦊word and more"])
def test_a_password_is_taken_as_it_is(client, link, password):
    assert client.post(link, {"password": password}).status_code == 302
    assert User.objects.get().check_password(password)


def test_the_form_for_the_password_needs_the_csrf_token_of_its_page(link):
    client = Client(enforce_csrf_checks=True)
    assert client.post(link, {"password": NEW}).status_code == 403
    client.get(link)
    token = client.cookies["csrf"].value
    assert client.post(link, {"password": NEW, "csrfmiddlewaretoken": token}).status_code == 302


def test_no_other_site_and_no_cache_learns_the_link(client, link):
    responses = [client.get(link), client.get(f"{URL}forged/"), client.post(link, {"password": NEW}), client.get(link)]
    for response in responses:
        assert response["Referrer-Policy"] == "strict-origin"
        assert "no-store" in response["Cache-Control"]


def test_an_expired_link_gets_the_404_page(client, alice):
    made = datetime(2030, 6, 1, tzinfo=UTC)
    with time_machine.travel(made, tick=False):
        link = path(alice)
        assert client.get(link).status_code == 200
    with time_machine.travel(made + timedelta(hours=1, seconds=1), tick=False):
        assert client.post(link, {"password": NEW}).status_code == 404
    assert User.objects.get().check_password(PASSWORD)


def test_other_methods_are_refused(client, link):
    for address in (URL, link):
        response = client.put(address)
        assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, POST")
