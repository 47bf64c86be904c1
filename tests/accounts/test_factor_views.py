"""The pages on which people look after their second factors."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test import Client

from accounts import factors
from accounts.factors import recovery, totp
from accounts.forms import NewPasswordForm
from accounts.models import Passkey, RecoveryCode, SecurityEvent, Session, Totp, User
from accounts.sessions import SessionStore
from tests.accounts.authenticator import SECRET, code_now, give_app, give_codes
from tests.accounts.conftest import just_before_a_commit
from tests.accounts.test_login import is_logged_in, login
from tests.accounts.test_second_step import STEP, changes, events, step
from tests.conftest import PASSWORD
from tests.test_pages import faults, text

PAGE = "/accounts/second-factor/"
APP = PAGE + "app/"
CODES = PAGE + "recovery-codes/"
REMOVE = APP + "remove/"
CODE = re.compile(r"<li>((?:[0-9a-z]{4}-){5}[0-9a-z]{4})</li>")


@pytest.fixture
def with_app(client: Client, alice: User) -> User:
    """Alice, logged in with an authenticator app, ten recovery codes left."""
    give_app(alice)
    give_codes(alice)
    login(client)
    step(client, code_now(later=-1))
    return alice


def secret_on(page: str) -> str:
    found = re.search(r"<code>([A-Z2-7 ]+)</code>", page)
    assert found
    return found[1].replace(" ", "")


def set_up(client: Client):
    secret = secret_on(text(client.get(APP)))
    return client.post(APP, {"code": code_now(secret)})


# Setting up ----------------------------------------------------------------------------------------------------------


def test_an_app_is_set_up_with_its_first_code_and_gives_ten_recovery_codes(client, alice, enqueued):
    login(client)
    page = text(client.get(APP))
    secret = secret_on(page)
    assert " ".join(re.findall("....", secret)) in page
    assert not Totp.objects.exists()
    page = text(client.post(APP, {"code": code_now(secret)}))
    codes = CODE.findall(page)
    assert len({*codes}) == 10
    assert Totp.objects.get().user == alice
    assert "Your authenticator app is set up." in page
    assert events("factor-added") == [("succeeded", {"method": "app"})]
    assert events("recovery-codes-made") == [("succeeded", {})]
    assert changes(enqueued) == [[alice.pk, "app-added"]]
    assert client.session["mfa"] == "app"
    assert faults(page) == []

    assert not [code for code in codes if code in text(client.get(PAGE)) + text(client.get(CODES))]
    other = Client()
    assert login(other)["Location"] == STEP
    step(other, codes[3])
    assert is_logged_in(other)


def test_the_secret_is_nowhere_in_the_session_and_not_in_the_log(client, alice, caplog):
    login(client)
    secret = secret_on(text(client.get(APP)))
    client.get(APP + "qr.svg")
    client.post(APP, {"code": code_now(secret)})
    assert secret not in str([client.session.decode(row.session_data) for row in Session.objects.all()]) + caplog.text
    login(client)
    client.get(APP)
    assert [client.session.decode(row.session_data)["totp_setup"][:6] for row in Session.objects.all()] == ["gAAAAA"]


def test_a_page_that_is_loaded_again_shows_the_same_secret_and_each_session_another(client, alice):
    login(client)
    other = Client()
    login(other)
    secrets = [secret_on(text(each.get(APP))) for each in (client, client, other)]
    assert secrets[0] == secrets[1] != secrets[2]


def test_the_picture_has_the_secret_and_is_of_this_session_only(client, alice):
    login(client)
    assert client.get(APP + "qr.svg").status_code == 404
    client.get(APP)
    picture = client.get(APP + "qr.svg")
    assert (picture.status_code, picture["Content-Type"]) == (200, "image/svg+xml")
    assert "no-store" in picture["Cache-Control"]
    assert b"<svg" in picture.content
    assert b"style" not in picture.content
    other = Client()
    login(other)
    assert other.get(APP + "qr.svg").status_code == 404
    other.get(APP)
    assert other.get(APP + "qr.svg").content != picture.content


@pytest.mark.parametrize("code", ["", "000000", "x", "123"])
def test_a_wrong_code_sets_nothing_up_and_keeps_the_secret(client, alice, code):
    login(client)
    with time_machine.travel(time.time(), tick=False):
        secret = secret_on(text(client.get(APP)))
        if code == code_now(secret):
            return
        page = text(client.post(APP, {"code": code}))
    assert 'aria-invalid="true"' in page
    assert secret_on(page) == secret
    assert not Totp.objects.exists()
    assert "mfa" not in client.session


def test_the_code_of_the_set_up_is_used_up_by_it(client, alice):
    login(client)
    with time_machine.travel(time.time(), tick=False):
        secret = secret_on(text(client.get(APP)))
        client.post(APP, {"code": code_now(secret)})
        other = Client()
        login(other)
        assert step(other, code_now(secret)).status_code == 200
        assert step(other, code_now(secret, later=1)).status_code == 302


def test_a_set_up_that_is_sent_twice_is_done_once(client, alice):
    login(client)
    secret = secret_on(text(client.get(APP)))
    client.post(APP, {"code": code_now(secret)})
    assert client.post(APP, {"code": code_now(secret)})["Location"] == PAGE
    assert RecoveryCode.objects.count() == 10


def test_the_other_sessions_end_with_the_first_factor_and_this_one_gets_another_key(client, alice):
    other = Client()
    login(other)
    login(client)
    before = client.session.session_key
    set_up(client)
    assert not is_logged_in(other)
    assert is_logged_in(client)
    assert client.session.session_key != before


def test_somebody_who_needs_a_factor_sets_one_up_and_goes_on(client, settings, operator):
    settings.REQUIRE_MFA_FOR = "staff"
    login(client, username=operator.email)
    assert client.get("/admin/")["Location"] == PAGE
    assert 'href="/accounts/"' not in text(client.get(PAGE)).partition("<main")[2]
    assert len(CODE.findall(text(set_up(client)))) == 10
    assert client.get("/admin/").status_code == 200


def test_another_app_takes_the_place_of_the_first_once_it_is_confirmed(client, with_app, enqueued):
    other = Client()
    login(other)
    step(other, code_now())
    with time_machine.travel(time.time() + 120, tick=False):
        secret = secret_on(text(client.get(APP)))
        assert totp.use(with_app, code_now()) is True  # the old one still counts
        response = client.post(APP, {"code": code_now(secret)})
        assert response["Location"] == PAGE
        assert [totp.use(with_app, code_now(key, later=1)) for key in (SECRET, secret)] == [False, True]
    assert changes(enqueued) == [[with_app.pk, "app-replaced"]]
    assert recovery.left(with_app) == 10
    assert not is_logged_in(other)


# Who may -------------------------------------------------------------------------------------------------------------

GUARDED = [APP, APP + "qr.svg", REMOVE, CODES]


@pytest.mark.parametrize("address", GUARDED)
@pytest.mark.parametrize("method", ["get", "post"])
def test_after_ten_minutes_the_password_is_asked_for(client, with_app, address, method):
    session = client.session
    session["proved_at"] = int(time.time()) - 601
    session.save()
    response = getattr(client, method)(address)
    assert response["Location"] == f"/accounts/reauthenticate/?next={address}"
    assert Totp.objects.count() == 1


@pytest.mark.parametrize("address", GUARDED)
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_session_that_was_made_without_the_second_factor_may_not(client, alice, address, method):
    login(client)
    give_app(alice)
    response = getattr(client, method)(address)
    assert response["Location"] == f"{STEP}?next={address}"
    assert Totp.objects.count() == 1
    step(client, code_now())
    assert client.session["mfa"] == "app"


# Removing ------------------------------------------------------------------------------------------------------------


def test_the_last_factor_is_removed_with_the_recovery_codes(client, with_app, enqueued):
    other = Client()
    login(other)
    step(other, code_now())
    page = text(client.get(REMOVE))
    assert "<h1>Remove the authenticator app?</h1>" in page
    assert faults(page) == []
    assert Totp.objects.exists()
    page = text(client.post(REMOVE, follow=True))
    assert "It is removed. Your other sessions have ended." in page
    assert (Totp.objects.count(), RecoveryCode.objects.count()) == (0, 0)
    assert events("factor-removed") == [("succeeded", {"method": "app"})]
    assert changes(enqueued) == [[with_app.pk, "app-removed"]]
    assert (is_logged_in(client), is_logged_in(other)) == (True, False)
    assert login(Client())["Location"] == "/accounts/"


def test_the_last_factor_of_somebody_who_needs_one_stays(client, with_app, settings, enqueued):
    settings.REQUIRE_MFA_FOR = "all"
    page = text(client.post(REMOVE, follow=True))
    assert "Your account needs a second factor. Set up another one first." in page
    assert (Totp.objects.count(), RecoveryCode.objects.count()) == (1, 10)
    assert (events("factor-removed"), changes(enqueued)) == ([], [])


def test_what_is_not_there_cannot_be_removed(client, alice):
    login(client)
    assert client.post(REMOVE).status_code == 404


def test_the_app_of_somebody_else_cannot_be_removed(client, alice):
    other = User.objects.create_user("bob@example.org", PASSWORD)
    give_app(other)
    login(client)
    assert [client.get(REMOVE).status_code, client.post(REMOVE).status_code] == [404, 404]
    assert Totp.objects.get().user == other


def test_of_two_factors_that_are_removed_at_once_one_stays_where_one_is_needed(transactional_db, rf, settings):
    settings.REQUIRE_MFA_FOR = "all"
    user = User.objects.create_user("alice@example.org", PASSWORD)
    barrier = threading.Barrier(2, timeout=30)

    def remove(factor: Totp | Passkey) -> bool:
        request = rf.post("/")
        request.user, request.session = user, SessionStore()
        try:
            connection.ensure_connection()
            barrier.wait()
            factors.remove(request, factor)
        except factors.LastFactorError:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        for number in range(5):
            give_app(user)
            Passkey.objects.filter(user=user).delete()
            key = Passkey.objects.create(user=user, name="Key", credential_id=f"c{number}", public_key=b"")
            assert sorted(pool.map(remove, [Totp.objects.get(), key])) == [False, True]
            assert factors.has_factor(user)


# Recovery codes ------------------------------------------------------------------------------------------------------


def test_new_codes_are_shown_once_in_place_of_the_old_ones(client, with_app, enqueued):
    old = give_codes(with_app)
    assert "10 codes are left." in text(client.get(CODES))
    page = client.post(CODES)
    assert "no-store" in page["Cache-Control"]
    codes = CODE.findall(text(page))
    assert [recovery.use(with_app, each[0]) for each in (old, codes)] == [False, True]
    assert "9 codes are left." in text(client.get(CODES))
    assert changes(enqueued) == [[with_app.pk, "codes-made"]]
    assert events("recovery-codes-made") == [("succeeded", {})]


def test_without_a_factor_there_are_no_codes(client, alice):
    login(client)
    for response in (client.get(CODES), client.post(CODES)):
        assert response["Location"] == PAGE
    assert not RecoveryCode.objects.exists()


def adding(user: User, rf, method: str):
    """Return a function that adds a factor for a request that has begun now, and tells whether it did."""
    user = User.objects.get(pk=user.pk)
    request = rf.post(APP)
    request.user, request.session = user, SessionStore()
    passkey = Passkey(user=user, name="Key", credential_id="k", public_key=b"k")

    def add() -> bool:
        try:
            if method == "app":
                factors.add_app(request, user, totp.new_secret(), 0)
            else:
                factors.add_passkey(request, user, passkey)
        except PermissionDenied:
            return False
        return True

    return add


@pytest.mark.parametrize("method", ["app", "passkey"])
@pytest.mark.parametrize("is_before", [True, False])
def test_a_factor_that_is_added_while_the_owner_takes_the_account_is_not_there_afterwards(
    transactional_db, rf, method, is_before
):
    user = User.objects.create_user("alice@example.org", PASSWORD)
    add = adding(user, rf, method)
    form = NewPasswordForm(user, {"password": "a new lamp by the lake"})
    assert form.is_valid()
    if is_before:
        assert just_before_a_commit(add, form.save) == (True, True)
    else:
        assert just_before_a_commit(form.save, add) == (True, False)
    assert [model.objects.count() for model in (Totp, Passkey, RecoveryCode)] == [0, 0, 0]


# All of it -----------------------------------------------------------------------------------------------------------


def test_the_account_page_says_whether_there_is_one(client, alice):
    login(client)
    assert "Set up a second factor" in text(client.get("/accounts/"))
    set_up(client)
    assert "Change your second factors" in text(client.get("/accounts/"))


def test_no_code_and_no_secret_is_in_a_task_or_an_event(client, alice, enqueued):
    login(client)
    secret = secret_on(text(client.get(APP)))
    codes = CODE.findall(text(client.post(APP, {"code": code_now(secret)})))
    codes += CODE.findall(text(client.post(CODES)))
    other = Client()
    login(other)
    step(other, codes[-1])
    remembered = str(enqueued()) + str(list(SecurityEvent.objects.values()))
    assert len(codes) == 20
    assert not [each for each in (secret, *codes) if each in remembered or each.replace("-", "") in remembered]


def test_what_fails_halfway_leaves_nothing_behind(alice, rf, monkeypatch):
    request = rf.get("/")
    request.user, request.session = alice, Client().session

    def fails(user):
        raise RuntimeError

    monkeypatch.setattr(recovery, "make", fails)
    with pytest.raises(RuntimeError):
        factors.add_app(request, alice, SECRET, 1)
    assert (Totp.objects.count(), SecurityEvent.objects.count()) == (0, 0)
