"""Browsers that somebody has logged in with before: the cookie, and the mail about a new one."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from django.db import OperationalError, connection
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from accounts import emails, tokens
from accounts.events import Kind, record
from accounts.models import KnownBrowser, SecurityEvent, User
from accounts.tasks import send_new_login_email
from accounts.user_agents import name_of
from tasks.exceptions import Discard
from tasks.testing import run_enqueued
from tests.accounts.conftest import html_of
from tests.accounts.test_login import login
from tests.conftest import PASSWORD

NEW = "a new lamp by the lake"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
SUBJECT = "New login to your account at Steward"


@pytest.fixture
def used(alice) -> User:
    """Alice, who has logged in before."""
    login(Client())
    return alice


def logged_out(client: Client) -> Client:
    client.post("/accounts/logout/")
    return client


def digest_of(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()


# The cookie ----------------------------------------------------------------------------------------------------------


def test_a_login_leaves_a_cookie_of_which_the_database_has_the_digest(client, alice):
    login(client)
    cookie = client.cookies["browser"]
    assert len(cookie.value) == 43  # 256 bits
    assert (cookie["max-age"], cookie["httponly"], cookie["samesite"]) == (365 * 86_400, True, "Lax")
    assert (cookie["path"], cookie["domain"], cookie["secure"]) == ("/", "", "")
    browser = KnownBrowser.objects.get()
    assert (browser.user, browser.digest) == (alice, digest_of(cookie.value))
    assert cookie.value not in str(list(SecurityEvent.objects.values()))


def test_with_https_it_is_a_cookie_that_only_this_host_can_set(client, alice, settings):
    settings.SESSION_COOKIE_SECURE = True
    login(client)
    cookie = client.cookies["__Host-browser"]
    assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")


def test_a_wrong_password_leaves_none(client, alice):
    login(client, password=NEW)
    assert "browser" not in client.cookies
    assert not KnownBrowser.objects.exists()


def test_a_known_browser_keeps_its_cookie_for_another_year(client, alice):
    login(client)
    first, began = client.cookies["browser"].value, KnownBrowser.objects.get().created_at
    KnownBrowser.objects.update(last_login_at=datetime(2020, 1, 1, tzinfo=UTC))
    response = login(logged_out(client))
    assert (response.cookies["browser"].value, response.cookies["browser"]["max-age"]) == (first, 365 * 86_400)
    browser = KnownBrowser.objects.get()
    assert browser.created_at == began
    assert browser.last_login_at > began


def test_two_users_of_one_browser_are_both_known(client, alice, operator):
    for email in (alice.email, operator.email) * 2:
        login(client, username=email)
        logged_out(client)
    cookie = digest_of(client.cookies["browser"].value)
    assert list(KnownBrowser.objects.order_by("user").values_list("user", "digest")) == [
        (alice.pk, cookie),
        (operator.pk, cookie),
    ]


def test_a_cookie_that_somebody_has_planted_is_not_taken_over(alice, operator):
    """Else the browser of whoever planted it would count as known to the other user too."""
    planter, victim = Client(), Client()
    login(planter, username=operator.email)
    victim.cookies["browser"] = planter.cookies["browser"].value
    login(victim)
    assert victim.cookies["browser"].value != planter.cookies["browser"].value
    digest = digest_of(planter.cookies["browser"].value)
    assert not KnownBrowser.objects.filter(digest=digest).exists()


@pytest.mark.parametrize("value", ["x", "x" * 5000, "ä\x80", "'; --"])
def test_a_cookie_that_was_made_up_is_replaced(client, alice, value):
    client.cookies["browser"] = value
    assert login(client).status_code == 302
    assert len(client.cookies["browser"].value) == 43


def test_a_change_of_the_password_forgets_the_other_browsers(client, alice, operator_client, operator):
    other = Client()
    for browser in (other, client):
        login(browser)
    login(operator_client, username=operator.email)
    client.post("/accounts/password-change/", {"old_password": PASSWORD, "password": NEW})
    assert KnownBrowser.objects.get(user=alice).digest == digest_of(client.cookies["browser"].value)


def test_a_reset_forgets_all_browsers_and_knows_its_own(client, used):
    used.refresh_from_db()
    address = tokens.reset_url(used).removeprefix("http://testserver")
    client.post(address, {"password": NEW})
    assert KnownBrowser.objects.get().digest == digest_of(client.cookies["browser"].value)


def test_a_link_that_was_used_already_makes_no_browser_known(used):
    used.refresh_from_db()
    address = tokens.reset_url(used).removeprefix("http://testserver")
    Client().post(address, {"password": NEW})
    late = Client()
    assert late.post(address, {"password": PASSWORD}).status_code == 404
    assert "browser" not in late.cookies


# The mail ------------------------------------------------------------------------------------------------------------


def test_a_login_from_a_new_browser_enqueues_a_mail_with_the_id_of_its_event(client, used, enqueued):
    login(client)
    event = SecurityEvent.objects.filter(kind="login").latest("pk")
    assert enqueued() == [("send_new_login_email", [event.pk])]


def test_the_very_first_login_has_no_other_browser_and_enqueues_none(client, alice, enqueued):
    login(client)
    assert enqueued() == []


def test_a_known_browser_enqueues_none(client, used, enqueued):
    login(client)
    login(logged_out(client))
    assert len(enqueued()) == 1


def test_a_browser_is_new_to_each_user(client, used, operator, enqueued):
    login(Client(), username=operator.email)
    login(client)
    login(logged_out(client), username=operator.email)
    assert [name for name, _args in enqueued()] == ["send_new_login_email"] * 2


def test_the_login_and_its_mail_commit_together(transactional_db, used, enqueued):
    def breaks(execute, sql, params, many, context):
        if "tasks_task" in sql:
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    before, client = SecurityEvent.objects.count(), Client(raise_request_exception=False)
    with connection.execute_wrapper(breaks):
        assert login(client).status_code == 500
    assert (KnownBrowser.objects.count(), SecurityEvent.objects.count(), enqueued()) == (1, before, [])
    assert client.get("/accounts/").status_code == 302
    assert login(client).status_code == 302
    assert (KnownBrowser.objects.count(), len(enqueued())) == (2, 1)


def test_the_mail_says_when_where_with_what_and_what_to_do(client, used, mailoutbox):
    client.post(
        "/accounts/login/",
        {"username": used.email, "password": PASSWORD},
        headers={"User-Agent": FIREFOX},
        REMOTE_ADDR="203.0.113.7",
    )
    run_enqueued()
    [mail] = mailoutbox
    assert (mail.subject, mail.to) == (SUBJECT, ["alice@example.org"])
    for content in (mail.body, html_of(mail)):
        for fact in ("(UTC)", "Network address: 203.0.113.7", "Browser: Firefox on Linux", "choose a new password now"):
            assert fact in content
        assert "http://testserver/accounts/password-reset/" in content


def event_of(user: User, **values: object) -> SecurityEvent:
    values = {"at": datetime(2026, 3, 4, 15, 6, tzinfo=UTC), "address": "203.0.113.7", "user_agent": FIREFOX} | values
    return SecurityEvent.objects.create(kind="login", outcome="succeeded", user=user, **values)


def test_the_time_is_in_the_zone_of_the_site(alice, settings):
    settings.TIME_ZONE = "Europe/Berlin"
    assert "Time: March 4, 2026, 4:06 p.m. (CET)" in emails.new_login(alice, event_of(alice), "7").body


def test_what_a_browser_says_of_itself_cannot_write_the_mail(alice):
    agent = "Firefox/1 Call +1 555 0100 or open https://evil.example.org/ <b>now</b>"
    mail = emails.new_login(alice, event_of(alice, user_agent=agent), "7")
    assert "Browser: Firefox\n" in mail.body
    assert "evil" not in mail.body + html_of(mail)


def test_what_is_not_known_is_said_to_be_unknown(alice):
    body = emails.new_login(alice, event_of(alice, user_agent="", address=None), "7").body
    assert "Network address: unknown\nBrowser: unknown\n" in body


def test_a_user_who_is_gone_gets_no_mail(used, mailoutbox):
    event = record(Kind.LOGIN, user=used)
    result = send_new_login_email.enqueue(event.pk)
    User.objects.all().delete()
    [task] = run_enqueued()
    assert (str(task.pk), task.status, task.errors.get().exception_path) == (
        result.id,
        "FAILED",
        f"{Discard.__module__}.Discard",
    )
    assert mailoutbox == []


AGENTS = {
    FIREFOX: "Firefox on Linux",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
    " Edg/126.0.0.0": "Edge on Windows",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
    " OPR/112.0.0.0": "Opera on Windows",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile"
    " Safari/537.36": "Chrome on Android",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5"
    " Mobile/15E148 Safari/604.1": "Safari on iPhone",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5"
    " Safari/605.1.15": "Safari on macOS",
    "curl/8.8.0": "curl",
    "Something (Windows)": "Windows",
    "Something else": "",
    "": "",
}


@pytest.mark.parametrize(("agent", "name"), AGENTS.items())
def test_a_browser_has_a_name_that_people_know(agent, name):
    assert name_of(agent) == name


@given(st.text(max_size=300))
def test_the_name_of_a_browser_has_no_words_of_its_own(agent):
    assert len(name_of(agent)) < 40
