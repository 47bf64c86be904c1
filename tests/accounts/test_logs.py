"""No link in the logs."""

from __future__ import annotations

import io
import logging
import logging.config
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.test import Client

from accounts import tokens
from accounts.logs import RedactTokens

LOGGING: dict[str, Any] = settings.LOGGING

TOKEN = "WzEsImFsaWNlQGV4YW1wbGUub3JnIl0:1abcde:signature-_signature"


@pytest.fixture
def lines():
    """The output of our console handler, as the settings make it."""
    stream = io.StringIO()
    console = LOGGING["handlers"]["console"] | {"stream": stream}
    handlers = {"version": 1, "disable_existing_loggers": False, "handlers": {"console": console}}
    configured = {name: LOGGING[name] for name in ("filters", "formatters")}
    root = logging.getLogger()
    before = root.handlers[:], root.level
    logging.config.dictConfig(handlers | configured | {"root": {"handlers": ["console"], "level": "INFO"}})
    yield stream.getvalue
    root.handlers, root.level = before


@pytest.mark.parametrize(
    ("message", "arguments", "logged"),
    [
        (f"Not Found: /accounts/verify/{TOKEN}/", (), "Not Found: /accounts/verify/[token]/"),
        ("Not Found: %s", (f"/accounts/verify/{TOKEN}/",), "Not Found: /accounts/verify/[token]/"),
        (
            '"%s" %s %s',
            (f"GET /accounts/verify/{TOKEN}/?a=1 HTTP/1.1", "200", "1234"),
            '"GET /accounts/verify/[token]/?a=1 HTTP/1.1" 200 1234',
        ),
        ("%(path)s", ({"path": f"/accounts/verify/{TOKEN}"},), "/accounts/verify/[token]"),
        (
            "two: %s and %s",
            (f"http://testserver/accounts/verify/{TOKEN}/", f"'/accounts/verify/{TOKEN}'"),
            "two: http://testserver/accounts/verify/[token]/ and '/accounts/verify/[token]'",
        ),
        ("%s", (f"/accounts/password-reset/{TOKEN}/",), "/accounts/password-reset/[token]/"),
        ("%s", (f"/accounts/email-change/confirm/{TOKEN}/",), "/accounts/email-change/confirm/[token]/"),
        ("%s", (f"/accounts/email-change/undo/{TOKEN}/",), "/accounts/email-change/undo/[token]/"),
        (
            "GET %s",
            (f"/accounts/login/?next=/accounts/email-change/confirm/{quote(TOKEN)}/",),
            "GET /accounts/login/?next=/accounts/email-change/confirm/[token]/",
        ),
        ("%s", (f"/accounts/disown/{TOKEN}/",), "/accounts/disown/[token]/"),
        ("GET %s HTTP/1.1", ("/accounts/password-reset/",), "GET /accounts/password-reset/ HTTP/1.1"),
        ("%s", ("/accounts/password-reset/check-inbox/",), "/accounts/password-reset/check-inbox/"),
        ("%s", ("/accounts/verify/resend/check-inbox/",), "/accounts/verify/resend/check-inbox/"),
        ("nothing to hide in %s", ("/accounts/login/?next=/accounts/",), "/accounts/login/?next=/accounts/"),
    ],
)
def test_a_link_is_logged_without_its_token(lines, message, arguments, logged):
    logging.getLogger("django.server").warning(message, *arguments)
    assert logged in lines()
    assert TOKEN not in lines()


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/login/?next={all}",
        "/accounts/%76erify/{token}/",
        "/accounts/verif%79/{quoted}/",
        "//accounts//verify/{token}/",
        "/somewhere/else/?link={small}",
    ],
)
def test_a_token_is_taken_out_however_its_path_is_spelt(lines, newcomer, path):
    address = tokens.verification_url(newcomer).removeprefix("http://testserver")
    token = address.split("/")[-2]
    signature = token.rpartition(":")[2]
    every = quote(address, safe="")
    given = path.format(token=token, quoted=quote(token), all=every, small=every.replace("%3A", "%3a"))
    logging.getLogger("django.server").warning('"%s" %s', f"GET {given} HTTP/1.1", "200")
    assert "[token]" in lines()
    assert signature not in lines()


def test_a_request_with_a_link_is_logged_without_its_token(lines, client, token):
    client.get(f"/accounts/verify/{token}x/")
    client.put(f"/accounts/verify/{token}/")
    assert "Not Found: /accounts/verify/[token]/" in lines()
    assert "Method Not Allowed (PUT): /accounts/verify/[token]/" in lines()
    assert token not in lines()


def test_a_request_with_a_link_to_a_new_password_is_logged_without_its_token(lines, client, alice):
    token = tokens.reset_url(alice).split("/")[-2]
    client.get(f"/accounts/password-reset/{token}x/")
    client.put(f"/accounts/password-reset/{token}/")
    Client(enforce_csrf_checks=True).post(f"/accounts/password-reset/{token}/")
    assert "Not Found: /accounts/password-reset/[token]/" in lines()
    assert "Method Not Allowed (PUT): /accounts/password-reset/[token]/" in lines()
    assert "Forbidden (CSRF cookie not set.): /accounts/password-reset/[token]/" in lines()
    assert token.split(":")[-1] not in lines()


def test_a_link_that_is_refused_by_the_csrf_check_is_logged_without_its_token(lines, token):
    Client(enforce_csrf_checks=True).post(f"/accounts/verify/{token}/")
    assert "Forbidden (CSRF cookie not set.): /accounts/verify/[token]/" in lines()
    assert token not in lines()


def test_a_log_line_with_arguments_that_do_not_fit_is_reported_and_harms_nobody(lines, capsys):
    [console] = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    console.handle(logging.LogRecord("steward", logging.INFO, "path", 1, "%d /accounts/verify/", ("text",), None))
    assert "--- Logging error ---" in capsys.readouterr().err
    assert lines() == ""


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("nothing to show")


@pytest.mark.parametrize(
    ("message", "arguments", "logged"),
    [
        ("%d", (f"/accounts/verify/{TOKEN}/",), "Arguments do not fit: %d ('/accounts/verify/[token]/',)"),
        ("%s %s", (f"/accounts/verify/{TOKEN}/",), "Arguments do not fit: %s %s ('/accounts/verify/[token]/',)"),
        ("%(x)s", ({"path": f"/accounts/verify/{TOKEN}"},), "{'path': '/accounts/verify/[token]'}"),
        (f"/accounts/verify/{TOKEN}/ %d", ("text",), "Arguments do not fit: /accounts/verify/[token]/ %d ('text',)"),
    ],
)
def test_a_token_in_arguments_that_do_not_fit_is_in_no_line_and_no_report(lines, capsys, message, arguments, logged):
    [console] = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    console.handle(logging.LogRecord("steward", logging.INFO, "path", 1, message, arguments, None))
    assert logged in lines()
    assert TOKEN not in lines() + capsys.readouterr().err


def test_a_token_beside_an_argument_that_cannot_be_shown_is_in_no_report(capsys):
    handler = logging.StreamHandler(io.StringIO())
    handler.addFilter(RedactTokens())
    arguments = (f"/accounts/verify/{TOKEN}/", Unprintable())
    handler.handle(logging.LogRecord("steward", logging.INFO, "path", 1, "%s", arguments, None))
    report = capsys.readouterr().err
    assert "Unable to print the message and arguments" in report
    assert TOKEN not in report


def test_only_the_token_is_taken_out_of_a_record():
    record = logging.LogRecord("steward", logging.INFO, "path", 1, "%s is %d", ("one", 1), None)
    assert RedactTokens().filter(record) is True
    assert (record.msg, record.args) == ("%s is %d", ("one", 1))


def test_static_files_are_logged_only_when_something_is_wrong_with_them(lines):
    logger = logging.getLogger("django.server")
    logger.info('"%s" %s %s', "GET /static/steward.css HTTP/1.1", "200", "1234")
    assert lines() == ""
    logger.warning('"%s" %s %s', "GET /static/missing.css HTTP/1.1", "404", "1234")
    logger.info('"%s" %s %s', "GET / HTTP/1.1", "200", "1234")
    assert '"GET /static/missing.css HTTP/1.1" 404 1234' in lines()
    assert '"GET / HTTP/1.1" 200 1234' in lines()


def test_every_handler_of_the_settings_has_the_filter():
    assert [name for name, handler in LOGGING["handlers"].items() if "redact" not in handler["filters"]] == []
    assert LOGGING["filters"]["redact"] == {"()": "accounts.logs.RedactTokens"}
