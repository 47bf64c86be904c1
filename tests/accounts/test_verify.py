"""The page behind the link in the mail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test import Client

from accounts import tokens
from accounts.models import SecurityEvent, User
from tasks.testing import run_enqueued
from tests.accounts.conftest import sign_up_in
from tests.accounts.hashers import WatchedHasher
from tests.conftest import PASSWORD

BUTTON = "Verify my address"
DOES_NOT_WORK = "<h1>This link does not work</h1>"


@pytest.fixture
def link(token) -> str:
    return f"/accounts/verify/{token}/"


@pytest.fixture
def client(newcomer) -> Client:
    """The browser that the newcomer has signed up in."""
    return sign_up_in(Client(), newcomer)


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


def test_the_button_needs_the_csrf_token_of_its_page(newcomer, link):
    client = sign_up_in(Client(enforce_csrf_checks=True), newcomer)
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
        assert response["Referrer-Policy"] == "strict-origin"
        assert "no-store" in response["Cache-Control"]
        assert "private" in response["Cache-Control"]


def test_verifying_does_not_log_anybody_in(client, link):
    client.post(link)
    response = client.get("/accounts/")
    assert (response.status_code, response["Location"]) == (302, "/accounts/login/?next=/accounts/")


# The browser that signed up, and any other --------------------------------------------------------------------------


def sign_up(client: Client, email: str, password: str) -> None:
    data = {"email": email, "display_name": "", "password": password}
    assert client.post("/accounts/signup/", data).status_code == 302


def links_sent(mailoutbox, kind: str = "verify") -> list[str]:
    run_enqueued()
    lines = [line for mail in mailoutbox for line in mail.body.splitlines() if f"/accounts/{kind}/" in line]
    return [line.removeprefix("http://testserver") for line in lines]


def test_the_browser_that_signed_up_verifies_with_one_click(db, mailoutbox):
    client = Client()
    sign_up(client, "new@example.org", PASSWORD)
    [link] = links_sent(mailoutbox)
    assert "One click, and your email address is verified." in text(client.get(link))
    assert client.post(link).status_code == 302
    assert is_verified()
    assert client.cookies["signup"].value == ""


def test_another_browser_verifies_once_the_password_is_typed(newcomer, link):
    client = Client()
    page = text(client.get(link))
    assert 'autocomplete="current-password"' in page
    assert "One click" not in page
    assert client.post(link).context["form"].errors == {"password": ["This field is required."]}
    response = client.post(link, {"password": PASSWORD.upper()})
    assert response.context["form"].errors == {"password": ["This is not your password. Try again."]}
    assert not is_verified()
    assert client.post(link, {"password": PASSWORD})["Location"] == "/accounts/"
    assert is_verified()
    assert "_auth_user_id" not in client.session
    events = SecurityEvent.objects.filter(kind="email-verified").order_by("pk")
    assert [(event.user_id, event.outcome) for event in events] == [
        (newcomer.pk, "failed"), (newcomer.pk, "failed"), (newcomer.pk, "succeeded"),
    ]  # fmt: skip


def test_a_browser_that_is_logged_in_verifies_with_one_click(newcomer, operator, link):
    browser = Client()
    browser.force_login(operator)
    browser.post(link)
    assert User.objects.get(pk=newcomer.pk).email_verified_at is None
    browser.force_login(newcomer)
    assert browser.post(link).status_code == 302
    assert User.objects.get(pk=newcomer.pk).email_verified_at is not None


def test_whoever_signed_up_first_with_the_address_of_another_gets_no_verified_account(db, mailoutbox):
    attacker, victim = Client(), Client()
    sign_up(attacker, "victim@example.org", "chosen by the attacker")
    sign_up(victim, "victim@example.org", PASSWORD)
    first, second = links_sent(mailoutbox)
    for link in (first, second):
        assert "One click" not in text(victim.get(link))
        assert victim.post(link).status_code == 200
        assert victim.post(link, {"password": PASSWORD}).status_code == 200
        assert not is_verified()
    # the victim's way to the account
    page = text(victim.get(second))
    assert '<a href="/accounts/password-reset/">Choose a new password</a>' in page
    disown = links_sent(mailoutbox, "disown")[0]
    assert f'<a href="{disown.replace("verify", "disown")}">This was not me</a>' in text(victim.get(first))
    assert "<h1>The account is removed</h1>" in text(victim.post(disown))
    mailoutbox.clear()
    sign_up(victim, "victim@example.org", PASSWORD)
    assert attacker.post(first).status_code == 404
    [link] = links_sent(mailoutbox)
    assert victim.post(link).status_code == 302
    assert User.objects.get().check_password(PASSWORD)
    assert is_verified()


def test_a_reset_takes_the_account_from_whoever_signed_up_first(db, mailoutbox):
    attacker, victim = Client(), Client()
    sign_up(attacker, "victim@example.org", "chosen by the attacker")
    attacker.post("/accounts/login/", {"username": "victim@example.org", "password": "chosen by the attacker"})
    victim.post("/accounts/password-reset/", {"email": "victim@example.org"})
    [link] = links_sent(mailoutbox, "password-reset")
    assert victim.post(link, {"password": PASSWORD}).status_code == 302
    assert is_verified()
    assert attacker.get("/accounts/").status_code == 302
    assert User.objects.get().check_password(PASSWORD)


def test_the_mark_of_a_signup_is_worthless_after_another_password(newcomer, client, link):
    newcomer.set_password("a new lamp by the lake")
    newcomer.save()
    assert client.post(link).status_code == 200
    assert not is_verified()


def test_the_mark_of_a_signup_is_for_its_user(client, operator):
    User.objects.filter(pk=operator.pk).update(email_verified_at=None)
    client.post(tokens.verification_url(operator))
    assert User.objects.get(pk=operator.pk).email_verified_at is None


def test_a_mark_lasts_for_three_days_and_outlives_a_new_secret_key(newcomer, settings):
    made = datetime(2030, 6, 1, tzinfo=UTC)
    with time_machine.travel(made, tick=False):
        client = sign_up_in(Client(), newcomer)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key " + "y" * 50
    for age, is_enough in ((timedelta(days=3), True), (timedelta(days=3, seconds=1), False)):
        with time_machine.travel(made + age, tick=False):
            page = text(client.get(tokens.verification_url(newcomer).removeprefix("http://testserver")))
        assert ("One click" in page) is is_enough


@pytest.mark.parametrize("mark", ["", "1", ":", "1:x:y", "ä", "x" * 5000])
def test_nonsense_is_no_mark(newcomer, link, mark):
    browser = Client()
    browser.cookies["signup"] = mark
    assert browser.post(link).status_code == 200
    assert not is_verified()


def test_a_password_that_changes_between_the_look_and_the_update_is_not_verified(client, link):
    def somebody_is_faster(execute, sql, params, many, context):
        if sql.startswith('UPDATE "accounts_user"'):
            with connection.cursor() as cursor:
                cursor.cursor.execute("UPDATE accounts_user SET password = 'other'")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(somebody_is_faster):
        assert client.post(link).status_code == 200
    assert not is_verified()


def test_the_password_is_hashed_once_and_outside_of_a_transaction(transactional_db, settings):
    settings.PASSWORD_HASHERS = ["tests.accounts.hashers.WatchedHasher"]
    link = tokens.verification_url(User.objects.create_user("new@example.org", PASSWORD))
    WatchedHasher.in_transaction.clear()
    assert Client().post(link, {"password": PASSWORD}).status_code == 302
    assert WatchedHasher.in_transaction == [False]


# "This was not me" ---------------------------------------------------------------------------------------------------


@pytest.fixture
def disown(token) -> str:
    return f"/accounts/disown/{token}/"


def test_opening_the_other_link_removes_nothing(client, disown):
    for _ in range(3):
        assert "Remove the account</button>" in text(client.get(disown))
        assert client.head(disown).status_code == 200
    assert User.objects.count() == 1


def test_the_owner_of_the_address_removes_the_account_and_the_session_of_whoever_made_it(newcomer, disown):
    stranger, owner = Client(), Client()
    stranger.force_login(newcomer)
    assert stranger.get("/accounts/").status_code == 200
    assert "<h1>The account is removed</h1>" in text(owner.post(disown))
    assert User.objects.count() == 0
    assert stranger.get("/accounts/").status_code == 302
    assert owner.post(disown).status_code == 404
    event = SecurityEvent.objects.get(kind="email-disowned")
    assert (event.user_id, event.outcome, event.details) == (None, "succeeded", {"account": newcomer.pk})


@pytest.mark.parametrize(
    "change",
    [
        {"email_verified_at": datetime(2030, 6, 1, tzinfo=UTC)},
        {"is_staff": True},
        {"is_superuser": True},
        {"last_login": datetime(2020, 6, 1, tzinfo=UTC), "created_at": datetime(2020, 6, 1, tzinfo=UTC)},
    ],
)
def test_an_account_that_is_in_use_is_not_removed(client, disown, change):
    User.objects.update(**change)
    for response in (client.get(disown), client.post(disown)):
        assert response.status_code == 200
        assert "<h1>This account is in use</h1>" in text(response)
        assert '<a class="button" href="/accounts/password-reset/">Choose a new password</a>' in text(response)
    assert User.objects.count() == 1
    assert not SecurityEvent.objects.filter(kind="email-disowned").exists()


def test_an_account_that_is_verified_in_the_same_moment_stays_with_all_that_it_has(client, newcomer, disown):
    client.force_login(newcomer)

    def somebody_is_faster(execute, sql, params, many, context):
        if sql.startswith("SELECT") and '"email_verified_at" IS NULL' in sql:
            with connection.cursor() as cursor:
                cursor.cursor.execute("UPDATE accounts_user SET email_verified_at = CURRENT_TIMESTAMP")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(somebody_is_faster):
        assert "<h1>The account is removed</h1>" not in text(client.post(disown))
    assert User.objects.count() == 1
    assert client.get("/accounts/").status_code == 200


def test_removing_needs_the_csrf_token_and_a_link_that_is_not_forged(client, token, disown):
    assert Client(enforce_csrf_checks=True).post(disown).status_code == 403
    assert client.post(f"/accounts/disown/{token[:-5]}AAAAA/").status_code == 404
    assert client.put(disown).status_code == 405
    assert User.objects.count() == 1


def test_no_other_site_and_no_cache_learns_the_other_link(client, disown):
    for response in (client.get(disown), client.post(disown), client.get(disown)):
        assert response["Referrer-Policy"] == "strict-origin"
        assert "no-store" in response["Cache-Control"]


def test_other_methods_are_refused(client, link):
    response = client.put(link)
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, POST")
    assert not is_verified()
