"""Passkeys, with a device in software: as the second factor, as the way in, and what they do not let in."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.factors import passkeys
from accounts.models import Passkey, RecoveryCode, SecurityEvent, User
from tests.accounts.authenticator import PRESENT, VERIFIED, Device, base64url, code_now, give_app
from tests.accounts.test_factor_views import CODE, PAGE
from tests.accounts.test_login import ELSEWHERE, is_logged_in, login
from tests.accounts.test_second_step import STEP, changes, events, step
from tests.conftest import PASSWORD
from tests.test_pages import faults, text

ADD = PAGE + "passkeys/add/"
WAY_IN = "/accounts/login/passkey/"
SECOND = STEP + "passkey/"
AGAIN = "/accounts/reauthenticate/passkey/"


@pytest.fixture(autouse=True)
def _site(settings):
    """Passkeys need https and a name."""
    settings.SITE_URL = "https://testserver"


def options(client: Client, address: str) -> dict:
    response = client.post(f"{address}options/")
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    assert "no-store" in response["Cache-Control"]
    return json.loads(response.content)


def add(client: Client, device: Device, name: str = "Telephone", **changes):
    return client.post(ADD, {"name": name, "credential": device.create(options(client, ADD), **changes)})


def show(client: Client, address: str, device: Device, next: str = "", **changes):  # noqa: A002 - the field's name
    return client.post(address, {"credential": device.get(options(client, address), **changes), "next": next})


@pytest.fixture
def device(client: Client, alice: User) -> Device:
    """A device with a passkey of Alice, who is not logged in."""
    login(client)
    device = Device()
    assert add(client, device).status_code == 200
    client.logout()
    return device


# Adding --------------------------------------------------------------------------------------------------------------


def test_a_passkey_is_added_and_gives_ten_recovery_codes(client, alice, enqueued):
    login(client)
    device = Device()
    page = text(add(client, device))
    assert len(CODE.findall(page)) == 10
    assert "Your passkey is added." in page
    passkey = Passkey.objects.get()
    assert (passkey.user, passkey.name, passkey.sign_count) == (alice, "Telephone", 1)
    assert passkey.credential_id == base64url(device.credential_id)
    assert passkey.transports == ["internal"]
    assert client.session["mfa"] == "passkey"
    assert events("factor-added") == [("succeeded", {"method": "passkey"})]
    assert changes(enqueued) == [[alice.pk, "passkey-added"]]


def test_the_options_name_site_and_user_and_what_is_there_already(client, alice):
    login(client)
    device = Device()
    add(client, device)
    data = options(client, ADD)
    assert data["rp"] == {"name": "Steward", "id": "testserver"}
    assert data["user"]["name"] == "alice@example.org"
    assert str(alice.pk) != data["user"]["id"] != base64url(str(alice.pk).encode())
    assert [each["id"] for each in data["excludeCredentials"]] == [base64url(device.credential_id)]
    assert len({options(client, ADD)["challenge"] for _ in range(3)}) == 3


def test_a_second_passkey_gives_no_new_codes_and_ends_no_session(client, alice, device):
    login(client)
    show(client, SECOND, device)
    other = Client()
    login(other)
    show(other, SECOND, device)
    assert add(client, Device(), name="Key")["Location"] == PAGE
    assert Passkey.objects.count() == 2
    assert RecoveryCode.objects.count() == 10
    assert is_logged_in(other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"challenge": base64url(b"x" * 32)},
        {"origin": "https://evil.example.org"},
        {"origin": "http://testserver"},
        {"type": "webauthn.get"},
        {"flags": VERIFIED},
    ],
)
def test_a_passkey_for_another_challenge_or_site_is_not_added(client, alice, wrong):
    login(client)
    page = text(add(client, Device(), **wrong))
    assert "This passkey could not be added. Try again." in page
    assert faults(page) == []
    assert not Passkey.objects.exists()
    assert "mfa" not in client.session


def test_a_passkey_for_another_host_is_not_added(client, alice):
    login(client)
    add(client, Device(host="evil.example.org"))
    assert not Passkey.objects.exists()


def test_a_passkey_of_somebody_else_cannot_be_added(client, device):
    bob = User.objects.create_user("bob@example.org", PASSWORD, email_verified_at=timezone.now())
    login(client, username=bob.email)
    assert "could not be added" in text(add(client, device))
    assert Passkey.objects.get().user.email == "alice@example.org"


@pytest.mark.parametrize("transports", [[[]], [{}], [None], [1], ["carrier pigeon"], "usb", None])
def test_ways_to_the_device_that_we_do_not_know_are_left_out(client, alice, transports):
    login(client)
    credential = json.loads(Device().create(options(client, ADD)))
    credential["response"]["transports"] = transports
    assert client.post(ADD, {"name": "Key", "credential": json.dumps(credential)}).status_code == 200
    assert Passkey.objects.get().transports == []


def test_an_answer_counts_once(client, alice):
    login(client)
    data = {"name": "Key", "credential": Device().create(options(client, ADD))}
    client.post(ADD, data)
    Passkey.objects.all().delete()
    assert "could not be added" in text(client.post(ADD, data))


@pytest.mark.parametrize("name", ["", " ", "x" * 61, "a\x00b"])
def test_a_passkey_needs_a_name(client, alice, name):
    login(client)
    assert "name" in add(client, Device(), name=name).context["form"].errors
    assert not Passkey.objects.exists()


def test_there_are_twenty_at_most(client, device, alice):
    Passkey.objects.bulk_create(
        Passkey(user=alice, name="x", credential_id=f"c{number}", public_key=b"") for number in range(19)
    )
    login(client)
    show(client, SECOND, device)
    assert client.get(ADD)["Location"] == PAGE
    assert "Remove one first." in text(client.get(PAGE))


NONSENSE = ["", "{", "[]", "null", "1", '"x"', "{}", '{"response": 1}', '{"response": {}}', "[" * 100_000, "\x00"]


@pytest.mark.parametrize("credential", NONSENSE)
@pytest.mark.parametrize("address", [ADD, WAY_IN, SECOND, AGAIN])
def test_nonsense_is_refused_politely(client, alice, device, address, credential):
    login(client)
    if address in (ADD, AGAIN):
        show(client, SECOND, device)
    if address == WAY_IN:
        client.logout()
    options(client, address)
    assert client.post(address, {"name": "x", "credential": credential}).status_code in (200, 302)
    assert Passkey.objects.count() == 1
    assert is_logged_in(client) is (address in (ADD, AGAIN))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_whatever_takes_the_place_of_a_part_of_an_answer_logs_nobody_in(alice, rf, data):
    device = Device()
    request = rf.post("/")
    request.session = {}
    made = passkeys.register(
        request, alice, "Key", device.create(json.loads(passkeys.registration_options(request, alice)))
    )
    Passkey.objects.all().delete()
    made.save()
    answer = json.loads(device.get(json.loads(passkeys.authentication_options(request, passkeys.LOG_IN))))
    part = data.draw(st.sampled_from(["id", "rawId", "type", *answer["response"]]))
    place = answer["response"] if part in answer["response"] else answer
    before = place[part]
    place[part] = data.draw(JSON.filter(lambda value: value != before))
    if part == "userHandle" and not place[part] and (place[part] is None or place[part] == ""):
        return
    with pytest.raises(passkeys.PasskeyError):
        passkeys.authenticate(request, passkeys.LOG_IN, json.dumps(answer))


# As the way in -------------------------------------------------------------------------------------------------------


def test_a_passkey_logs_in_without_a_password(client, alice, device):
    response = show(client, WAY_IN, device)
    assert (response.status_code, response["Location"]) == (302, "/accounts/")
    assert client.session["_auth_user_id"] == str(alice.pk)
    assert client.session["mfa"] == "passkey"
    assert events("login")[-1] == ("succeeded", {"second_factor": "passkey", "method": "passkey"})
    passkey = Passkey.objects.get()
    assert (passkey.sign_count, passkey.last_used_at is not None) == (2, True)


def test_it_logs_in_where_requests_have_no_address(device):
    client = Client(REMOTE_ADDR="")  # behind a Unix socket
    assert show(client, WAY_IN, device)["Location"] == "/accounts/"
    assert is_logged_in(client)


def test_an_office_that_logs_in_with_passkeys_is_not_taken_for_an_attack(device):
    assert {show(Client(), WAY_IN, device).status_code for _number in range(26)} == {302}


def test_it_is_enough_for_whoever_needs_a_second_factor(client, alice, device, settings):
    settings.REQUIRE_MFA_FOR = "all"
    show(client, WAY_IN, device)
    assert is_logged_in(client)


def test_a_device_that_does_not_count_logs_in_again_and_again(client, alice):
    login(client)
    device = Device(counts=False)
    add(client, device)
    for _ in range(3):
        client.logout()
        show(client, WAY_IN, device)
        assert is_logged_in(client)


@pytest.mark.parametrize(
    "wrong",
    [
        {"flags": PRESENT},  # the device does not know who holds it
        {"flags": VERIFIED},
        {"challenge": base64url(b"x" * 32)},
        {"origin": "https://evil.example.org"},
        {"origin": "https://testserver:8443"},
        {"type": "webauthn.create"},
    ],
)
def test_an_answer_that_proves_too_little_does_not(client, device, wrong):
    response = show(client, WAY_IN, device, next="/accounts/?tab=1", **wrong)
    assert response["Location"] == "/accounts/login/?next=/accounts/%3Ftab%3D1"
    assert "This passkey does not log you in." in text(client.get("/accounts/login/"))
    assert not is_logged_in(client)
    assert events("login")[-1] == ("failed", {"method": "passkey"})
    assert Passkey.objects.get().last_used_at is None


def test_a_passkey_that_nobody_has_added_does_not(client, device):
    stranger = Device()
    show(client, WAY_IN, stranger)
    stranger.credential_id = device.credential_id  # a key of its own under a known name
    show(client, WAY_IN, stranger)
    assert not is_logged_in(client)


def test_a_copy_of_a_device_is_noticed_by_its_counter(client, device):
    show(client, WAY_IN, device)
    client.logout()
    device.sign_count = 0
    show(client, WAY_IN, device)
    assert not is_logged_in(client)


def test_an_answer_logs_in_once(client, device):
    credential = device.get(options(client, WAY_IN))
    client.post(WAY_IN, {"credential": credential})
    assert is_logged_in(client)
    client.logout()
    options(client, WAY_IN)
    client.post(WAY_IN, {"credential": credential})
    assert not is_logged_in(client)


def test_an_answer_to_the_challenge_of_another_session_does_not(client, device):
    other = Client()
    options(other, WAY_IN)
    other.post(WAY_IN, {"credential": device.get(options(client, WAY_IN))})
    assert not is_logged_in(other)


def test_a_challenge_for_one_purpose_counts_for_no_other(client, alice, device):
    login(client)
    credential = device.get(options(client, SECOND), flags=PRESENT | VERIFIED)
    client.post(WAY_IN, {"credential": credential})
    assert not is_logged_in(client)


def test_a_challenge_ends_after_five_minutes(client, device):
    credential = device.get(options(client, WAY_IN))
    with time_machine.travel(time.time() + 301, tick=False):
        client.post(WAY_IN, {"credential": credential})
    assert not is_logged_in(client)


def test_one_answer_twice_at_once_counts_once(transactional_db, rf):
    user = User.objects.create_user("alice@example.org", PASSWORD)
    device = Device(counts=False)
    request = rf.post("/")
    request.session = {}
    made = device.create(json.loads(passkeys.registration_options(request, user)))
    passkeys.register(request, user, "Key", made).save()
    barrier = threading.Barrier(2, timeout=30)

    def answer(session: dict, credential: str) -> bool:
        request = rf.post("/")
        request.session = session
        try:
            connection.ensure_connection()
            barrier.wait()
            return passkeys.authenticate(request, passkeys.LOG_IN, credential) == user
        except passkeys.PasskeyError:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            request.session = {}
            credential = device.get(json.loads(passkeys.authentication_options(request, passkeys.LOG_IN)))
            sessions = [dict(request.session) for _ in range(2)]  # both requests have read it already
            assert sorted(pool.map(answer, sessions, [credential] * 2)) == [False, True]


def test_the_passkey_of_a_user_who_is_switched_off_does_not(client, alice, device):
    User.objects.update(is_active=False)
    show(client, WAY_IN, device)
    assert "_auth_user_id" not in client.session


def test_the_options_of_the_way_in_say_nothing_of_anybody(client, device):
    data = options(client, WAY_IN)
    assert (data["allowCredentials"], data["userVerification"], data["rpId"]) == ([], "required", "testserver")


@pytest.mark.parametrize("address", ELSEWHERE)
def test_a_login_with_a_passkey_never_leads_to_another_site(client, device, address):
    assert show(client, WAY_IN, device, next=address)["Location"] == "/accounts/"


def test_a_login_with_a_passkey_needs_its_csrf_token(client, device):
    credential = device.get(options(client, WAY_IN))
    client.handler.enforce_csrf_checks = True
    assert client.post(WAY_IN, {"credential": credential}).status_code == 403
    assert client.post(WAY_IN + "options/").status_code == 403


def test_challenges_are_not_made_without_end(client, db):
    answers = [client.post(WAY_IN + "options/", REMOTE_ADDR="192.0.2.1").status_code for _ in range(51)]
    assert (answers[:50], answers[50]) == ([200] * 50, 429)


# As the second factor ------------------------------------------------------------------------------------------------


def test_after_the_password_a_passkey_logs_in_even_if_its_device_asks_nothing(client, device):
    assert login(client)["Location"] == STEP
    page = text(client.get(STEP))
    assert 'data-passkey="get"' in page
    assert faults(page) == []
    data = options(client, SECOND)
    assert [each["id"] for each in data["allowCredentials"]] == [base64url(device.credential_id)]
    assert show(client, SECOND, device, flags=PRESENT)["Location"] == "/accounts/"
    assert is_logged_in(client)
    assert client.session["mfa"] == "passkey"
    assert events("second-factor")[-1] == ("succeeded", {"method": "passkey"})


def test_the_passkey_of_somebody_else_does_not(client, device):
    bob = User.objects.create_user("bob@example.org", PASSWORD, email_verified_at=timezone.now())
    give_app(bob)
    login(client, username=bob.email)
    assert show(client, SECOND, device)["Location"].startswith(STEP)
    assert "This passkey is none of your account." in text(client.get(STEP))
    assert not is_logged_in(client)
    assert events("second-factor")[-1] == ("failed", {})


def test_without_the_password_there_is_no_challenge_for_it(client, device):
    assert client.post(SECOND + "options/")["Location"] == "/accounts/login/"
    assert client.post(SECOND, {"credential": "{}"})["Location"] == "/accounts/login/"


def test_where_there_is_no_passkey_none_is_asked_for(client, alice):
    give_app(alice)
    login(client)
    assert "data-passkey" not in text(client.get(STEP))


# Looking after them --------------------------------------------------------------------------------------------------


def test_a_passkey_stands_in_for_the_password_that_is_asked_for_again(client, alice, device):
    show(client, WAY_IN, device)
    session = client.session
    session["proved_at"] = 0
    session.save()
    assert client.get(ADD)["Location"] == f"/accounts/reauthenticate/?next={ADD}"
    assert 'data-passkey="get"' in text(client.get(f"/accounts/reauthenticate/?next={ADD}"))
    refused = show(client, AGAIN, device, next=ADD, flags=PRESENT)
    assert refused["Location"] == f"/accounts/reauthenticate/?next={ADD}"
    assert client.get(ADD).status_code == 302
    assert show(client, AGAIN, device, next=ADD)["Location"] == ADD
    assert client.get(ADD).status_code == 200
    assert events("reauthentication") == [("failed", {"method": "passkey"}), ("succeeded", {"method": "passkey"})]


def test_whose_session_ended_meanwhile_is_sent_on_after_the_login(client, alice, device):
    assert Client().post(AGAIN)["Location"] == f"/accounts/login/?next={AGAIN}"
    show(client, WAY_IN, device)
    assert client.get(AGAIN)["Location"] == "/accounts/"


def test_a_passkey_gets_another_name(client, alice, device):
    show(client, WAY_IN, device)
    address = f"{PAGE}passkeys/{Passkey.objects.get().pk}/"
    page = text(client.get(address))
    assert 'value="Telephone"' in page
    assert faults(page) == []
    assert client.post(address, {"name": "<b>Key</b>"})["Location"] == PAGE
    page = text(client.get(PAGE))
    assert "&lt;b&gt;Key&lt;/b&gt;" in page
    assert "<b>Key" not in page
    assert faults(page) == []


def test_a_passkey_is_removed_and_logs_in_no_longer(client, alice, device, enqueued):
    show(client, WAY_IN, device)
    address = f"{PAGE}passkeys/{Passkey.objects.get().pk}/remove/"
    assert "Remove the passkey “Telephone”?" in text(client.get(address))
    assert client.post(address)["Location"] == PAGE
    assert (Passkey.objects.count(), RecoveryCode.objects.count()) == (0, 0)
    assert changes(enqueued)[-1] == [alice.pk, "passkey-removed"]
    client.logout()
    show(client, WAY_IN, device)
    assert not is_logged_in(client)


def test_of_two_factors_one_can_go_where_one_is_needed(client, alice, device, settings):
    settings.REQUIRE_MFA_FOR = "all"
    give_app(alice)
    login(client)
    step(client, code_now())
    assert client.post(PAGE + "app/remove/", follow=True).status_code == 200
    address = f"{PAGE}passkeys/{Passkey.objects.get().pk}/remove/"
    assert "Set up another one first." in text(client.post(address, follow=True))
    assert Passkey.objects.count() == 1
    assert RecoveryCode.objects.count() == 10


@pytest.mark.parametrize("path", ["", "remove/"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_the_passkey_of_somebody_else_cannot_be_touched(client, device, path, method):
    bob = User.objects.create_user("bob@example.org", PASSWORD, email_verified_at=timezone.now())
    login(client, username=bob.email)
    address = f"{PAGE}passkeys/{Passkey.objects.get().pk}/{path}"
    assert getattr(client, method)(address, {"name": "Mine"}).status_code == 404
    assert Passkey.objects.get().name == "Telephone"


def test_what_a_device_says_makes_no_lines_of_the_log(client, device, caplog):
    with caplog.at_level("INFO", "accounts.factors.passkeys"):
        show(client, WAY_IN, device, type="x\nINFO    accounts: a line")
    [message] = [record.getMessage() for record in caplog.records if record.name == "accounts.factors.passkeys"]
    assert "a line" in message
    assert "\n" not in message


def test_no_challenge_and_no_key_is_in_an_event(client, alice, device):
    show(client, WAY_IN, device)
    assert base64url(device.credential_id) not in str(list(SecurityEvent.objects.values()))


# Where they are offered ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "is_possible"),
    [
        ("https://steward.example.org", True),
        ("https://localhost:8000", True),
        ("http://localhost:8000", True),
        ("http://steward.example.org", False),
        ("http://127.0.0.1:8000", False),
        ("https://192.0.2.1", False),
        ("https://[2001:db8::1]", False),
    ],
)
def test_passkeys_are_offered_where_browsers_do_it(client, alice, settings, site, is_possible):
    settings.SITE_URL = site
    assert passkeys.are_possible() is is_possible
    assert ("data-passkey" in text(client.get("/accounts/login/"))) is is_possible
    login(client)
    assert client.get(ADD).status_code == (200 if is_possible else 404)
    assert (ADD in text(client.get(PAGE))) is is_possible


@pytest.mark.parametrize(
    ("site", "origin"),
    [
        ("https://Steward.example.org:443", "https://steward.example.org"),
        ("https://steward.example.org:8443", "https://steward.example.org:8443"),
        ("http://localhost:80", "http://localhost"),
    ],
)
def test_the_origin_is_spelt_as_browsers_spell_it(client, alice, settings, site, origin):
    settings.SITE_URL = site
    login(client)
    host = origin.partition("://")[2].partition(":")[0]
    add(client, Device(origin=origin, host=host))
    assert Passkey.objects.count() == 1


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_pages_can_be_used_without_eyes_and_say_that_they_need_javascript(client, alice, device, language):
    show(client, WAY_IN, device)
    client.cookies["language"] = language
    pages = [text(client.get(address)) for address in (ADD, PAGE, PAGE + "app/", PAGE + "recovery-codes/")]
    assert [faults(page) for page in pages] == [[]] * 4
    assert "<noscript>" in pages[0]
