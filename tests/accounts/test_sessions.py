"""Sessions: the engine and its limits, and the page on which users end them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.contrib.sessions.backends.base import UpdateError
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import tokens
from accounts.models import SecurityEvent, Session, User
from accounts.sessions import SessionStore, digest_of
from tests.accounts.conftest import logged_in
from tests.conftest import PASSWORD

URL = "/accounts/sessions/"
NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"


def text(response) -> str:
    return response.content.decode()


def is_logged_in(client: Client) -> bool:
    return client.get("/accounts/").status_code == 200


def row_of(client: Client) -> Session:
    return Session.objects.get(pk=digest_of(client.cookies["session"].value))


@pytest.fixture
def here(alice) -> Client:
    """The browser that Alice sits at."""
    return logged_in(alice, user_agent=FIREFOX)


@pytest.fixture
def there(alice, here) -> Client:
    """Another one, in which she is logged in too."""
    return logged_in(alice, user_agent="curl/8.5.0")


@pytest.fixture
def stranger(db) -> Client:
    """The browser of another user."""
    return logged_in(User.objects.create_user("stranger@example.org", PASSWORD))


# Limits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("away", "is_still_in"), [(14 * DAY, False), (14 * DAY - timedelta(minutes=6), True)])
def test_a_session_ends_after_two_weeks_without_a_request(alice, away, is_still_in):
    with time_machine.travel(NOON, tick=False):
        client = logged_in(alice)
    with time_machine.travel(NOON + 3 * DAY, tick=False):
        assert is_logged_in(client)
    with time_machine.travel(NOON + 3 * DAY + away, tick=False):
        assert is_logged_in(client) is is_still_in


def test_a_session_in_daily_use_ends_after_ninety_days(alice):
    with time_machine.travel(NOON, tick=False):
        client = logged_in(alice)
    for day in range(1, 90):
        with time_machine.travel(NOON + day * DAY, tick=False):
            assert is_logged_in(client), day
    with time_machine.travel(NOON + 90 * DAY - timedelta(seconds=1), tick=False):
        assert is_logged_in(client)
    with time_machine.travel(NOON + 90 * DAY, tick=False):
        assert not is_logged_in(client)


def test_both_limits_are_settings(alice, settings):
    settings.SESSION_COOKIE_AGE, settings.SESSION_LIFETIME = 3600, 5400
    with time_machine.travel(NOON, tick=False):
        idle, busy = logged_in(alice), logged_in(alice)
    with time_machine.travel(NOON + timedelta(minutes=50), tick=False):
        assert is_logged_in(busy)
    with time_machine.travel(NOON + timedelta(minutes=80), tick=False):
        assert (is_logged_in(idle), is_logged_in(busy)) == (False, True)
    with time_machine.travel(NOON + timedelta(minutes=90), tick=False):
        assert not is_logged_in(busy)


def test_a_new_key_keeps_the_beginning_and_a_login_begins_anew(alice):
    with time_machine.travel(NOON, tick=False):
        client = logged_in(alice)
        before = row_of(client)
    with time_machine.travel(NOON + DAY, tick=False):
        client.post("/accounts/password-change/", {"old_password": PASSWORD, "password": "a new lamp by the lake"})
        changed = row_of(client)
        assert changed.pk != before.pk
        assert (changed.created_at, changed.last_seen_at) == (NOON, NOON + DAY)
    with time_machine.travel(NOON + 2 * DAY, tick=False):
        client.cookies["session"] = session_without_a_user(NOON)
        client.post("/accounts/login/", {"username": alice.email, "password": "a new lamp by the lake"})
        assert row_of(client).created_at == NOON + 2 * DAY


def session_without_a_user(began_at: datetime) -> str:
    """Store a session that began then, and return its key."""
    store = SessionStore()
    store.began_at = began_at
    store.create()
    return str(store.session_key)


def test_a_request_is_noted_at_most_every_five_minutes(alice):
    with time_machine.travel(NOON, tick=False):
        client = logged_in(alice)
    for minutes, seen in ((5, 0), (6, 6), (10, 6), (12, 12)):
        with time_machine.travel(NOON + timedelta(minutes=minutes), tick=False):
            client.get("/accounts/", REMOTE_ADDR="192.0.2.7", headers={"User-Agent": FIREFOX})
        assert row_of(client).last_seen_at == NOON + timedelta(minutes=seen)
    assert (row_of(client).address, row_of(client).user_agent) == ("192.0.2.7", FIREFOX)


def test_the_database_has_the_digest_of_a_key_which_is_no_key(here):
    key = here.cookies["session"].value
    assert not Session.objects.filter(pk=key).exists()
    thief = Client()
    thief.cookies["session"] = digest_of(key)
    assert not is_logged_in(thief)


def test_a_session_that_is_ended_while_it_is_used_does_not_come_back(here):
    store = SessionStore(here.cookies["session"].value)
    store["a"] = 1
    Session.objects.all().delete()
    with pytest.raises(UpdateError):
        store.save()
    assert Session.objects.count() == 0


# The list ------------------------------------------------------------------------------------------------------------


def test_the_account_page_leads_to_the_list(here):
    assert f'<a href="{URL}">Where you are logged in</a>' in text(here.get("/accounts/"))


def test_the_list_has_each_session_with_browser_address_and_times_and_this_one_first(here, there, stranger):
    there.get("/accounts/", REMOTE_ADDR="192.0.2.7")
    page = text(here.get(URL))
    assert page.count('name="end"') == 4
    first, second = page.split("<tbody>")[1].split("</tbody>")[0].split("</tr>")[:2]
    assert 'Firefox on Linux <span class="badge good">this one</span>' in first
    assert "curl" in second
    assert "this one" not in second
    assert "127.0.0.1" in first
    assert f'datetime="{timezone.now():%Y-%m-%d}' in second
    assert "no-store" in here.get(URL)["Cache-Control"]


def test_a_name_of_a_browser_is_text(alice):
    client = logged_in(alice, user_agent="<img src=x>")
    assert "&lt;img src=x&gt;" in text(client.get(URL))
    assert "<img src=x>" not in text(client.get(URL))


def test_a_session_that_is_over_is_not_in_the_list(here, there):
    Session.objects.filter(pk=row_of(there).pk).update(expire_date=timezone.now())
    assert text(here.get(URL)).count("<tr>") == 2  # the headings and this one
    assert "End all others" not in text(here.get(URL))


def test_the_list_takes_as_many_statements_for_twenty_sessions_as_for_one(alice, here):
    def statements() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert here.get(URL).status_code == 200
        return len(queries)

    one = statements()
    for _number in range(19):
        logged_in(alice)
    assert text(here.get(URL)).count("<tr>") == 21
    assert statements() == one == 3


# The end of a session ------------------------------------------------------------------------------------------------


def test_one_session_is_ended(here, there, alice):
    page = here.post(URL, {"end": row_of(there).pk}, follow=True)
    assert page.redirect_chain == [(URL, 302)]
    assert "1 session has ended." in text(page)
    assert (is_logged_in(here), is_logged_in(there)) == (True, False)
    event = SecurityEvent.objects.get(kind="session-ended")
    assert (event.user, event.actor, event.outcome, event.details) == (alice, alice, "succeeded", {"count": 1})


def test_all_others_are_ended(here, there, alice, stranger):
    third = logged_in(alice)
    assert "2 sessions have ended." in text(here.post(URL, {"end": "others"}, follow=True))
    assert [is_logged_in(client) for client in (here, there, third, stranger)] == [True, False, False, True]


def test_all_are_ended(here, there, stranger):
    page = here.post(URL, {"end": "all"}, follow=True)
    assert page.redirect_chain == [("/accounts/login/", 302)]
    assert "You are logged out everywhere." in text(page)
    assert [is_logged_in(client) for client in (here, there, stranger)] == [False, False, True]


def test_ending_this_session_is_a_logout(here, there):
    page = here.post(URL, {"end": row_of(here).pk}, follow=True)
    assert page.redirect_chain == [("/accounts/login/", 302)]
    assert (is_logged_in(here), is_logged_in(there)) == (False, True)


def test_signing_out_everywhere_survives_a_rotation_of_the_key(alice, stranger, settings):
    here, there = logged_in(alice), logged_in(alice)
    stolen = [client.cookies["session"].value for client in (here, there)]
    here.post(URL, {"end": "all"})
    old, new = settings.SECRET_KEY, "another key " + "y" * 50
    for settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS in ((new, [old]), (old, [new]), (old, [])):
        for key in stolen:
            thief = Client()
            thief.cookies["session"] = key
            assert not is_logged_in(thief)
        assert is_logged_in(stranger)


@pytest.mark.parametrize("end", ["", "x", "nothing\x00", "a" * 5000])
def test_what_is_no_session_ends_none(here, there, end):
    assert "There was no such session any more." in text(here.post(URL, {"end": end}, follow=True))
    assert (is_logged_in(here), is_logged_in(there)) == (True, True)
    assert not SecurityEvent.objects.filter(kind="session-ended").exists()


def test_nobody_ends_the_session_of_another(here, there, stranger):
    for session in (here, there):
        response = stranger.post(URL, {"end": row_of(session).pk}, follow=True)
        assert "There was no such session any more." in text(response)
    stranger.post(URL, {"end": "others"})
    stranger.post(URL, {"end": "all"})
    assert [is_logged_in(client) for client in (here, there, stranger)] == [True, True, False]


def test_the_end_of_sessions_asks_for_the_password_after_ten_minutes_and_for_the_csrf_token(here, there, alice):
    with time_machine.travel(timezone.now() + timedelta(minutes=11)):
        response = here.post(URL, {"end": "others"})
        assert (response.status_code, response["Location"]) == (302, f"/accounts/reauthenticate/?next={URL}")
        assert here.get(URL).status_code == 200
        assert is_logged_in(there)
        page = here.post(response["Location"], {"password": PASSWORD}, follow=True)
        assert page.redirect_chain == [(URL, 302)]
        here.post(URL, {"end": "others"})
        assert not is_logged_in(there)
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(alice)
    assert careful.post(URL, {"end": "all"}).status_code == 403
    assert is_logged_in(careful)


def test_the_list_asks_for_a_login(client, db):
    assert client.post(URL, {"end": "all"})["Location"] == f"/accounts/login/?next={URL}"


# A new password ------------------------------------------------------------------------------------------------------


def test_a_change_of_the_password_deletes_the_rows_of_the_other_sessions(here, there, stranger, alice):
    here.post("/accounts/password-change/", {"old_password": PASSWORD, "password": "a new lamp by the lake"})
    assert [row.pk for row in Session.objects.filter(user=alice)] == [row_of(here).pk]
    assert is_logged_in(stranger)
    event = SecurityEvent.objects.get(kind="password-changed")
    assert (event.user, event.actor, event.outcome) == (alice, alice, "succeeded")


def test_a_reset_deletes_the_rows_of_all_sessions(here, there, stranger, alice):
    link = tokens.reset_url(User.objects.get(pk=alice.pk))
    assert Client().post(link, {"password": "a new lamp by the lake"}).status_code == 302
    assert not Session.objects.filter(user=alice).exists()
    assert is_logged_in(stranger)
    event = SecurityEvent.objects.get(kind="password-reset")
    assert (event.user, event.actor, event.outcome) == (alice, None, "succeeded")


@pytest.mark.parametrize("table", ["accounts_session", "accounts_securityevent", "tasks_task"])
def test_a_change_that_breaks_halfway_leaves_the_sessions_and_the_password(transactional_db, table):
    def breaks(execute, sql, params, many, context):
        if table in sql and sql.startswith("DELETE" if table == "accounts_session" else "INSERT"):
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    alice = User.objects.create_user("alice@example.org", PASSWORD)
    here, there = logged_in(alice), logged_in(alice)
    here.raise_request_exception = False
    change = {"old_password": PASSWORD, "password": "a new lamp by the lake"}
    with connection.execute_wrapper(breaks):
        assert here.post("/accounts/password-change/", change).status_code == 500
    assert User.objects.get().check_password(PASSWORD)
    assert (is_logged_in(here), is_logged_in(there)) == (True, True)
