"""What a new password must not be; the list of stolen ones is a real HTTP server."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import User
from accounts.validators import BreachValidator, ContextValidator, MaximumLengthValidator, without
from tests.conftest import PASSWORD
from tests.processes import until

CONTEXT = "The password is little more than the name of this site, your name or your address."
BREACHED = "This password is on a list of passwords that were stolen elsewhere. Choose another one."


def faults(password: str, **fields: str) -> list[str]:
    """Return what the validators of the settings say."""
    user = User(**{"email": "alice@wonderland.example.org", "display_name": "Alice Liddell"} | fields)
    try:
        validate_password(password, user)
    except ValidationError as error:
        return list(error.messages)
    return []


# Length --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [12, 64, 1024])
def test_a_password_may_be_this_long(length):
    assert faults(("an old lamp by the sea, " * 50)[:length]) == []


def test_a_password_that_is_longer_is_refused_wherever_it_comes_from(operator_client, db):
    long = ("an old lamp by the sea, " * 50)[:1025]
    text = "This password is too long. It must contain at most 1024 characters."
    assert faults(long) == [text]
    data = {"email": "new@example.org", "language": "en", "password1": long, "password2": long}
    page = operator_client.post("/admin/accounts/user/add/", data | {"usable_password": "true"})
    assert text in page.content.decode()
    assert not User.objects.filter(email="new@example.org").exists()
    assert MaximumLengthValidator().get_help_text() == ""


@pytest.mark.parametrize(
    "password", ["nothingbutletters", "ONLYCAPITALSHERE", "836519274605", "🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵🐔🐧"]
)
def test_no_kinds_of_characters_are_asked_for(password):
    assert faults(password) == []


# Context -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password",
    [
        "steward12345",
        "Steward-2026!",
        "St3w4rd!St3w4rd!",
        "5+ew@rd-5+ew@rd",
        "stewardstewardsteward",
        "ＳＴＥＷＡＲＤ－２０２６",
        "Stéwärd#2026",
        "alicealicealice",
        "Alice!!!!!!!!!!!!",
        "a1ice.1iddell",
        "aliceaaaaaaaaaaaa",
        "liddell2026-06",
        "Steward.Alice.1",
        "wonderland-2026",
        "wonderland.example.org",
        "steward-password-1",
        "steward-qwerty-123",
        "testserver2026",
    ],
)
def test_a_password_of_nothing_but_names_and_padding_is_refused(password):
    [fault] = faults(password)
    assert fault == CONTEXT or fault.startswith("The password is too similar to the ")


def test_the_user_is_told_what_is_wrong_with_it(db):
    assert faults("Steward-2026!") == [CONTEXT]
    data = {"email": "new@example.org", "password": "Steward-2026!"}
    response = Client().post("/accounts/signup/", json.dumps(data), content_type="application/json")
    assert (response.status_code, response.json()) == (400, {"errors": {"password": [CONTEXT]}})
    assert User.objects.count() == 0


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "steward of the tower",
        "alice went through the glass",
        "common networks organise",
        "пароль из слов и Alice",
        "xkcd-936-battery-staple",
        "836519274605",
    ],
)
def test_a_password_that_has_more_to_it_is_taken(password):
    assert faults(password) == []


def test_short_words_of_a_name_do_not_count():
    assert faults("al al al al al", display_name="Al Ng", email="al@ng.example.org") == []


def test_a_site_of_another_name_has_other_words(settings):
    settings.SITE_NAME, settings.SITE_URL = "Acme Lamps", "https://shop.example.com"
    assert faults("Acme-Lamps-2026") == [CONTEXT]
    assert faults("example-shop-2026", email="x@y.org") == [CONTEXT]
    assert faults("steward-2026-x") == []


def test_nobody_needs_to_be_known_for_the_words_of_the_site():
    validator = ContextValidator(user_attributes=("email",))
    with pytest.raises(ValidationError, match="little more than"):
        validator.validate("steward-2026")
    validator.validate(PASSWORD)
    assert "the name of this site" in validator.get_help_text()


def test_words_are_taken_out_however_they_are_spelt():
    assert without("An OLD lamp", {"old"}) == "an  lamp"
    assert without("an 0LD lamp", {"old"}) == "an  lamp"
    assert without("oldoldold", {"old"}) == ""
    assert without("an old lamp", {"new"}) is None
    assert without("(.*)", {".*"}) == "()"
    assert without("", {"old"}) is None


def test_a_command_asks_the_same_rules(db, monkeypatch):
    User.objects.create_user("alice@example.org", PASSWORD, display_name="Alice")
    monkeypatch.setattr("getpass.getpass", lambda prompt="": "Steward-2026!")
    with pytest.raises(CommandError):
        call_command("changepassword", "alice@example.org")
    assert User.objects.get().check_password(PASSWORD)


# Stolen passwords ----------------------------------------------------------------------------------------------------

STOLEN = "correct horse battery staple"
SHA1 = hashlib.sha1(STOLEN.encode()).hexdigest().upper()
OTHER = "0" * 35


class StolenPasswords:
    """A server with the API of Pwned Passwords that can be told to misbehave."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.body = f"{OTHER}:1\r\n{SHA1[5:]}:42\r\n"
        self.misbehave: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.over = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}/range/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,)).start()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        stolen = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args) -> None:
                pass

            def do_GET(self) -> None:
                stolen.paths.append(self.path)
                stolen.headers.append(dict(self.headers))
                try:
                    if stolen.misbehave:
                        stolen.misbehave(self)
                        return
                    self.send_response(stolen.status)
                    self.end_headers()
                    self.wfile.write(stolen.body.encode())
                except OSError:
                    pass  # whoever asked has gone

        return Handler

    def stop(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def stolen():
    server = StolenPasswords()
    yield server
    server.stop()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "breach-check"], 10)


@pytest.fixture
def lines(caplog) -> Callable[[], list[str]]:
    """A function that returns what was logged, at any level."""
    caplog.set_level(logging.DEBUG)
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("accounts")]


def is_refused(server: StolenPasswords, password: str = STOLEN) -> bool:
    try:
        BreachValidator(server.url).validate(password)
    except ValidationError as error:
        return error.messages == [BREACHED]
    return False


def test_a_stolen_password_is_refused_and_only_five_digits_of_it_are_told(stolen, lines):
    assert is_refused(stolen)
    assert stolen.paths == [f"/range/{SHA1[:5]}"]
    assert stolen.headers[0]["Add-Padding"] == "true"
    assert STOLEN not in str(stolen.headers)
    assert SHA1[5:] not in str(stolen.headers).upper()
    assert lines() == []


def test_lines_may_be_in_small_letters_and_end_in_any_way(stolen):
    stolen.body = f"{OTHER}:1\n{SHA1[5:].lower()}:042"
    assert is_refused(stolen)


@pytest.mark.parametrize("body", ["", f"{OTHER}:1\r\n", f"{SHA1[5:]}:0\r\n", f"{SHA1[5:]}:00\r\n"])
def test_one_that_is_not_on_the_list_is_taken_and_padding_does_not_count(stolen, lines, body):
    stolen.body = body
    assert not is_refused(stolen)
    assert lines() == []


def status_500(handler: BaseHTTPRequestHandler, stolen: StolenPasswords) -> None:
    handler.send_error(500)


def a_page(handler: BaseHTTPRequestHandler, stolen: StolenPasswords) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(f"<html>Log in to this network</html>\n{SHA1[5:]}:42".encode())


def no_http(handler: BaseHTTPRequestHandler, stolen: StolenPasswords) -> None:
    handler.wfile.write(b"\x00\xff SSH-2.0\r\n\r\n")


def hang_up(handler: BaseHTTPRequestHandler, stolen: StolenPasswords) -> None:
    handler.wfile.close()


def binary(handler: BaseHTTPRequestHandler, stolen: StolenPasswords) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"\xff" * 100)


def cut_short(handler: BaseHTTPRequestHandler, stolen: StolenPasswords) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(SHA1[5:].encode())


def huge(handler: BaseHTTPRequestHandler, stolen: StolenPasswords) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not stolen.over.is_set():
        handler.wfile.write(f"{OTHER}:1\r\n".encode() * 10_000)


def silent(handler: BaseHTTPRequestHandler, stolen: StolenPasswords) -> None:
    stolen.over.wait(30)


def byte_by_byte(handler: BaseHTTPRequestHandler, stolen: StolenPasswords) -> None:
    handler.send_response(200)
    handler.end_headers()
    for character in f"{OTHER}:1\r\n" * 50:
        handler.wfile.write(character.encode())
        if stolen.over.wait(0.1):
            return


@pytest.mark.parametrize(
    "misbehave", [status_500, a_page, no_http, hang_up, binary, cut_short, huge, silent, byte_by_byte]
)
def test_a_server_that_does_not_answer_as_it_should_lets_every_password_pass_within_a_second(stolen, lines, misbehave):
    stolen.misbehave = lambda handler: misbehave(handler, stolen)
    begun = time.monotonic()
    assert not is_refused(stolen)
    assert time.monotonic() - begun < BreachValidator.LIMIT + 0.5
    [line] = lines()
    assert line.startswith("A new password was not compared with the list of stolen ones: ")
    for secret in (STOLEN, SHA1[:5], SHA1[5:]):
        assert secret.lower() not in line.lower()


def test_so_does_a_server_that_is_not_there(stolen, lines):
    stolen.stop()
    assert not is_refused(stolen)
    assert len(lines()) == 1


def test_many_that_hang_are_not_waited_for(stolen, lines, monkeypatch):
    stolen.misbehave = lambda handler: silent(handler, stolen)
    monkeypatch.setattr(BreachValidator, "_threads", threading.BoundedSemaphore(2))
    monkeypatch.setattr(BreachValidator, "LIMIT", 5.0)
    waiting = [threading.Thread(target=is_refused, args=(stolen,)) for _number in range(2)]
    for thread in waiting:
        thread.start()
    until(lambda: len(stolen.paths) == 2, 10)
    begun = time.monotonic()
    assert not is_refused(stolen)
    assert time.monotonic() - begun < 2
    assert lines() == ["A new password was not compared with the list of stolen ones: too many are waiting"]
    stolen.over.set()
    for thread in waiting:
        thread.join()
    stolen.misbehave = None
    until(lambda: is_refused(stolen), 10)  # there is room again


def test_a_known_address_is_compared_in_the_same_way_as_a_new_one(stolen, alice, settings, enqueued):
    settings.AUTH_PASSWORD_VALIDATORS = [
        *settings.AUTH_PASSWORD_VALIDATORS,
        {"NAME": "accounts.validators.BreachValidator", "OPTIONS": {"url": stolen.url}},
    ]
    for address in (alice.email, "new@example.org"):
        data = {"email": address, "password": STOLEN}
        response = Client().post("/accounts/signup/", json.dumps(data), content_type="application/json")
        assert (response.status_code, response.json()) == (400, {"errors": {"password": [BREACHED]}})
    assert stolen.paths == [f"/range/{SHA1[:5]}"] * 2
    assert enqueued() == []


def test_nothing_is_asked_by_default(stolen, db):
    assert faults(STOLEN) == []
    assert stolen.paths == []
    assert "stolen elsewhere" in BreachValidator(stolen.url).get_help_text()
