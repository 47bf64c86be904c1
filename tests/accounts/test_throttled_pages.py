"""What is limited, how that is answered, and that nobody can use up what another needs."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connection
from django.db.models import F
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from accounts import throttle, tokens
from accounts.models import SecurityEvent, Throttle, User
from accounts.throttle import LOGIN, Throttled, in_words, take
from tasks.models import Task
from tests.accounts.hashers import WatchedHasher
from tests.accounts.test_login import is_logged_in, login
from tests.conftest import PASSWORD

WRONG = "an old lamp by the lake"
NOBODY = "nobody@example.org"
HEADING = "<h1>That was too often</h1>"


def elsewhere(number: int = 0) -> Client:
    """A browser that nobody has used, in a network of its own."""
    return Client(REMOTE_ADDR=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")


def wrong(client: Client, times: int, **data: str) -> list[int]:
    return [login(client, **{"password": WRONG} | data).status_code for _number in range(times)]


def is_taken(network: str, address: str) -> bool:
    """Whether a login would be looked at; a page for each of many takes a while."""
    try:
        take(LOGIN, RequestFactory().post("/accounts/login/", REMOTE_ADDR=network), address)
    except Throttled:
        return False
    return True


def time_passes(seconds: int) -> None:
    Throttle.objects.update(free_at_us=F("free_at_us") - seconds * 1_000_000)


def answer(response) -> tuple[int, dict[str, str], bytes]:
    """Return all of it but what the clock and chance have written."""
    headers = {name: value for name, value in response.headers.items() if name not in ("Expires", "Retry-After")}
    content = re.sub(rb"in \d+ seconds?\.|value=\"\w{64}\"", b"", response.content)
    return response.status_code, headers | response.cookies, content


def events(kind: str = "login") -> list[tuple[str, int | None]]:
    return list(SecurityEvent.objects.filter(kind=kind).order_by("pk").values_list("outcome", "user_id"))


# Login ---------------------------------------------------------------------------------------------------------------


def test_the_sixth_wrong_password_is_not_looked_at_and_the_page_says_when_to_try_again(client, alice):
    assert wrong(client, 5) == [200] * 5
    response = login(client, password=WRONG)
    page = response.content.decode()
    assert response.status_code == 429
    assert 0 < int(response["Retry-After"]) <= 60
    assert HEADING in page
    assert f"Please try again in {in_words(int(response['Retry-After']))}." in page
    assert 'href="/accounts/password-reset/"' in page
    assert "no-store" in response["Cache-Control"]


def test_the_right_password_gets_the_same_answer_then_and_nothing_is_hashed(client, alice, settings):
    wrong(client, 5)
    settings.PASSWORD_HASHERS = ["tests.accounts.hashers.WatchedHasher"]
    WatchedHasher.in_transaction.clear()
    assert answer(login(client)) == answer(login(client, password=WRONG))
    assert not is_logged_in(client)
    assert WatchedHasher.in_transaction == []


def test_after_the_announced_time_there_is_another_try(client, alice):
    wrong(client, 5)
    seconds = int(login(client)["Retry-After"])
    wrong(client, 20)  # which makes it no longer
    time_passes(seconds)
    assert wrong(client, 2) == [200, 429]
    time_passes(60)
    assert login(client)["Location"] == "/accounts/"


def test_right_passwords_are_not_counted(client, alice):
    for _number in range(8):
        assert login(client).status_code == 302
        client.post("/accounts/logout/")
        client.cookies.clear()  # so that the browser is a new one
    time_passes(1)
    assert wrong(client, 6) == [200] * 5 + [429]


def test_a_form_without_a_password_is_no_attempt(client, alice):
    assert [login(client, password="").status_code for _number in range(6)] == [200] * 6
    assert not Throttle.objects.exists()


@pytest.mark.parametrize("address", ["ALICE@Example.org", " alice@example.org ", "ａlice@example.org"])
def test_an_address_counts_as_one_however_it_is_spelt(client, alice, address):
    wrong(client, 5)
    assert wrong(client, 1, username=address) == [429]


def test_other_accounts_and_other_networks_are_not_affected(client, alice, operator):
    assert wrong(client, 6)[-1] == 429
    assert login(elsewhere()).status_code == 302
    assert login(client, username=operator.email).status_code == 302


def test_a_network_has_fifty_tries_and_its_known_browsers_have_their_own(client, alice, operator):
    known = Client()
    login(known)
    known.post("/accounts/logout/")
    assert {wrong(client, 1, username=f"{number}@example.org")[0] for number in range(50)} == {200}
    assert wrong(client, 1, username="another@example.org") == [429]
    assert login(client).status_code == 429
    assert login(elsewhere(), username=operator.email).status_code == 302
    assert login(known).status_code == 302


def test_the_addresses_of_a_household_are_one_network(alice):
    household = [Client(REMOTE_ADDR=f"2001:db8:1:2::{number}") for number in range(1, 8)]
    assert [wrong(client, 1)[0] for client in household] == [200] * 5 + [429] * 2
    assert wrong(Client(REMOTE_ADDR="2001:db8:1:3::1"), 1) == [200]


def test_where_there_are_no_addresses_all_is_not_taken_for_one_network(alice):
    client = Client(REMOTE_ADDR="")
    assert {wrong(client, 1, username=f"{number}@example.org")[0] for number in range(60)} == {200}
    assert wrong(client, 6) == [200] * 5 + [429]


def test_a_forged_header_opens_no_new_network(client, alice, settings):
    def attempt(number: int) -> int:
        header = {"X-Forwarded-For": f"10.0.0.{number}, 203.0.113.7"}
        return client.post("/accounts/login/", {"username": alice.email, "password": WRONG}, headers=header).status_code

    assert [attempt(number) for number in range(6)] == [200] * 5 + [429]
    settings.TRUSTED_PROXY_COUNT = 1
    assert [attempt(number) for number in range(6)] == [200] * 5 + [429]


def test_a_thousand_networks_lock_nobody_out_who_has_a_known_browser_or_the_mailbox(client, alice):
    login(client)
    client.post("/accounts/logout/")
    assert {wrong(elsewhere(number), 1)[0] for number in range(10)} == {200}
    taken = sum(is_taken(f"10.1.{number >> 8}.{number & 255}", alice.email) for number in range(1000))
    assert taken in range(40, 45)  # one more in each 72 seconds
    assert login(client).status_code == 302
    assert login(elsewhere(2000)).status_code == 429
    new = elsewhere(2001)
    address = tokens.reset_url(User.objects.get()).removeprefix("http://testserver")
    assert new.post(address, {"password": "a new lamp by the lake"}).status_code == 302
    assert login(new, password="a new lamp by the lake").status_code == 302


def test_a_known_browser_has_ten_tries_on_the_account_it_is_known_to(client, alice, operator):
    login(client)
    client.post("/accounts/logout/")
    assert wrong(client, 11) == [200] * 10 + [429]
    assert wrong(client, 6, username=operator.email) == [200] * 5 + [429]


def test_two_who_try_at_once_do_not_exceed_the_limit(transactional_db, alice, monkeypatch):
    barrier = threading.Barrier(8, timeout=30)
    look, seen = throttle.look, threading.local()

    def look_together(*args) -> dict[str, int]:
        found = look(*args)
        if not hasattr(seen, "room"):  # all see that there is room before anybody takes it
            seen.room = True
            barrier.wait()
        return found

    def attempt() -> int:
        try:
            return login(Client(), password=WRONG).status_code
        finally:
            connection.close()

    monkeypatch.setattr(throttle, "look", look_together)
    with ThreadPoolExecutor(8) as pool:
        statuses = [future.result() for future in [pool.submit(attempt) for _thread in range(8)]]
    assert sorted(statuses) == [200] * 5 + [429] * 3


def test_a_login_that_breaks_has_been_counted(transactional_db, alice):
    def breaks(execute, sql, params, many, context):
        if "accounts_session" in sql:
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    client = Client(raise_request_exception=False)
    with connection.execute_wrapper(breaks):
        assert login(client, password=WRONG).status_code == 200
        assert login(client).status_code == 500
    assert Throttle.objects.count() == 3
    assert wrong(client, 5) == [200] * 4 + [429]


# Known and unknown addresses ------------------------------------------------------------------------------------------


def statements(client: Client, address: str, password: str = WRONG) -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        login(client, username=address, password=password)
    return [re.sub(r"'(?:[^']|'')*'|\bNULL\b|\b\d+\b", "?", query["sql"]) for query in queries]


@pytest.mark.parametrize("tries", [0, 5, 6])
@pytest.mark.parametrize("has_cookie", [False, True])
def test_a_wrong_password_runs_the_same_statements_for_a_known_and_an_unknown_address(
    alice, operator, tries, has_cookie
):
    """No tries left: with the first refusal, which is an event, and with the next, which is not."""
    browsers = elsewhere(1), elsewhere(2)
    for client in browsers if has_cookie else []:
        login(client, username=operator.email)
        client.post("/accounts/logout/")
    for client, address in zip(browsers, (alice.email, NOBODY), strict=True):
        wrong(client, tries, username=address)
    known, unknown = (statements(*each) for each in zip(browsers, (alice.email, NOBODY), strict=True))
    assert known == unknown
    assert len(known) == has_cookie + {0: 7, 5: 4, 6: 1}[tries]


def test_a_refusal_tells_nobody_whether_the_address_has_an_account(client, alice):
    for address in (alice.email, NOBODY):
        wrong(client, 5, username=address)
    assert answer(login(client, username=alice.email)) == answer(login(client, username=NOBODY))


# The log of security events -------------------------------------------------------------------------------------------


def test_wrong_passwords_are_events_and_so_is_the_first_refusal(client, alice):
    wrong(client, 9)
    assert events() == [("failed", alice.pk)] * 5 + [("refused", alice.pk)]
    event = SecurityEvent.objects.last()
    assert (event.address, event.actor, event.details) == ("127.0.0.1", None, {})


def test_events_about_an_unknown_address_are_nobodys_and_do_not_name_it(client, alice):
    wrong(client, 9, username=NOBODY)
    assert events() == [("failed", None)] * 5 + [("refused", None)]
    assert NOBODY not in str(list(SecurityEvent.objects.values()))
    assert NOBODY not in str(list(Throttle.objects.values()))


# Signup, reset, resend ------------------------------------------------------------------------------------------------

MAILS = {
    "/accounts/signup/": {"display_name": "", "password": PASSWORD},
    "/accounts/password-reset/": {},
    "/accounts/verify/resend/": {},
}


def post(client: Client, path: str, address: str, as_json: bool = False):
    data = MAILS[path] | {"email": address}
    if as_json:
        return client.post(path, json.dumps(data), content_type="application/json")
    return client.post(path, data)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("address", ["alice@example.org", NOBODY])
@pytest.mark.parametrize("path", MAILS)
def test_an_address_gets_three_mails_at_once_from_one_network_known_or_not(client, alice, path, address, as_json):
    accepted = 202 if as_json else 302
    assert [post(client, path, address, as_json).status_code for _number in range(4)] == [accepted] * 3 + [429]
    assert Task.objects.count() == 3
    assert post(client, path, "another@example.org", as_json).status_code == accepted


@pytest.mark.parametrize("path", MAILS)
def test_an_address_gets_five_mails_at_once_from_all_networks_and_one_each_twelve_minutes(alice, path):
    assert [post(elsewhere(number), path, alice.email).status_code for number in range(7)] == [302] * 5 + [429] * 2
    time_passes(12 * 60)
    assert [post(elsewhere(number), path, alice.email).status_code for number in range(7, 9)] == [302, 429]


@pytest.mark.parametrize("path", MAILS)
def test_a_network_causes_thirty_mails_at_once(client, db, path):
    statuses = [post(client, path, f"{number}@example.org").status_code for number in range(31)]
    assert statuses == [302] * 30 + [429]
    assert post(elsewhere(), path, "30@example.org").status_code == 302


@pytest.mark.parametrize("path", MAILS)
def test_json_is_refused_in_json(client, db, path):
    for _number in range(3):
        post(client, path, NOBODY, as_json=True)
    response = post(client, path, NOBODY, as_json=True)
    assert (response.status_code, response["Content-Type"]) == (429, "application/json")
    assert 0 < int(response["Retry-After"]) <= 1200
    assert response.json() == {"errors": {"__all__": ["This was too often. Try again in 20 minutes."]}}
    assert "no-store" in response["Cache-Control"]


def test_a_mistake_in_a_form_is_not_counted(client, db):
    assert {post(client, "/accounts/signup/", "nonsense").status_code for _number in range(10)} == {200}
    assert not Throttle.objects.exists()


def test_a_refused_mail_is_an_event_that_looks_nobody_up(client, alice):
    for _number in range(5):
        post(client, "/accounts/password-reset/", alice.email)
    assert events("reset-asked") == [("refused", None)]


# The password, typed again --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "field"), [("/accounts/reauthenticate/", "password"), ("/accounts/password-change/", "old_password")]
)
def test_a_stolen_session_does_not_find_out_the_password(client, alice, path, field):
    client.force_login(alice)
    guess = {"password": WRONG} | {field: WRONG}
    assert [client.post(path, guess).status_code for _number in range(6)] == [200] * 5 + [429]
    assert HEADING in client.post(path, guess | {field: PASSWORD}).content.decode()
    other = "/accounts/password-change/" if field == "password" else "/accounts/reauthenticate/"
    assert client.post(other, {"password": WRONG, "old_password": WRONG}).status_code == 429
    assert User.objects.get().check_password(PASSWORD)


def test_a_new_password_that_is_too_weak_is_no_attempt_at_the_old_one(client, alice):
    client.force_login(alice)
    weak = {"old_password": PASSWORD, "password": "short"}
    assert {client.post("/accounts/password-change/", weak).status_code for _number in range(8)} == {200}


def test_whoever_steals_a_session_cannot_keep_the_owner_from_typing_the_password(client, alice):
    login(client)
    thief = elsewhere()
    thief.cookies["session"] = client.cookies["session"].value
    for number in range(60):
        thief.post("/accounts/reauthenticate/", {"password": WRONG}, REMOTE_ADDR=f"10.0.1.{number}")
    assert thief.post("/accounts/reauthenticate/", {"password": WRONG}).status_code == 429
    assert client.post("/accounts/reauthenticate/", {"password": PASSWORD}).status_code == 302


# The words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 second"),
        (90, "90 seconds"),
        (91, "2 minutes"),
        (120, "2 minutes"),
        (121, "3 minutes"),
        (5400, "90 minutes"),
        (5401, "2 hours"),
        (86_400, "24 hours"),
    ],
)
def test_a_wait_is_told_in_words_and_never_shorter_than_it_is(seconds, words):
    assert in_words(seconds) == words
