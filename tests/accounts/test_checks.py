"""What `check --deploy` says of settings that are allowed and wrong."""

from __future__ import annotations

import secrets

import pytest
from django.core.management.utils import get_random_secret_key

from accounts import checks
from tests.test_settings import PRODUCTION, SECRET, run

GOOD = {
    "SITE_URL": "https://steward.example.org",
    "ALLOWED_HOSTS": ["steward.example.org"],
    "SESSION_COOKIE_NAME": "__Host-session",
    "CSRF_COOKIE_NAME": "__Host-csrf",
    "SESSION_COOKIE_SECURE": True,
    "CSRF_COOKIE_SECURE": True,
    "EMAIL_BACKEND": "mail.backend.KeptConnectionBackend",
    "EMAIL_HOST": "mail.example.org",
    "EMAIL_USE_TLS": True,
    "EMAIL_USE_SSL": False,
    "DEFAULT_FROM_EMAIL": "Steward <noreply@steward.example.org>",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "SECRET_KEY_FALLBACKS": [],
    "TRUSTED_PROXY_COUNT": 1,
}
ALL = [checks.check_site_url, checks.check_cookies, checks.check_mail, checks.check_keys, checks.check_proxies]


def said(settings, **changes) -> list[tuple[str | None, str]]:
    """Return the ids and texts of all checks under the good settings with these changes."""
    for name, value in (GOOD | changes).items():
        setattr(settings, name, value)
    messages = [message for check in ALL for message in check()]
    assert all(message.hint for message in messages)
    return [(message.id, message.msg) for message in messages]


def test_nothing_is_said_of_a_good_deployment(settings):
    assert said(settings) == []


NOT_OURS = "The cookie of the {} is not one that only this host can set: {}."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"SITE_URL": "http://steward.example.org"},
            ("W001", "SITE_URL does not start with https://, so passwords and cookies can be read on their way."),
        ),
        (
            {"SITE_URL": "https://localhost", "ALLOWED_HOSTS": ["localhost"]},
            ("W001", "SITE_URL names a host that nobody else can reach."),
        ),
        (
            {"SITE_URL": "https://[::1]", "ALLOWED_HOSTS": ["*"]},
            ("W001", "SITE_URL names a host that nobody else can reach."),
        ),
        (
            {"ALLOWED_HOSTS": ["www.example.org"]},
            ("W001", "SITE_URL names a host that ALLOWED_HOSTS does not have, so no link in a mail works."),
        ),
        (
            {"SESSION_COOKIE_NAME": "session"},
            ("W002", NOT_OURS.format("session", "SESSION_COOKIE_NAME does not start with __Host-")),
        ),
        (
            {"CSRF_COOKIE_NAME": "csrf", "CSRF_COOKIE_SECURE": False},
            (
                "W002",
                NOT_OURS.format(
                    "CSRF token", "CSRF_COOKIE_NAME does not start with __Host-, CSRF_COOKIE_SECURE is not True"
                ),
            ),
        ),
        (
            {"SESSION_COOKIE_DOMAIN": ".example.org"},
            ("W002", NOT_OURS.format("session", "SESSION_COOKIE_DOMAIN is set")),
        ),
        ({"SESSION_COOKIE_PATH": "/a"}, ("W002", NOT_OURS.format("session", "SESSION_COOKIE_PATH is not '/'"))),
        (
            {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"},
            ("W003", "EMAIL_URL names no mail server, so no mail reaches anybody."),
        ),
        (
            {"EMAIL_BACKEND": "devmail.backend.MailboxBackend"},
            ("W003", "EMAIL_URL names no mail server, so no mail reaches anybody."),
        ),
        (
            {"EMAIL_USE_TLS": False},
            ("W003", "Mails, and the password of the mail server, travel unencrypted."),
        ),
        (
            {"DEFAULT_FROM_EMAIL": "Steward <noreply@localhost>"},
            ("W003", "DEFAULT_FROM_EMAIL has a domain that mail servers refuse."),
        ),
        (
            {"SECRET_KEY": "abcde" * 10},  # which Django finds long and varied enough
            ("W004", "SECRET_KEY can be guessed: by its characters it has 116 random bits, and needs 192."),
        ),
        (
            {"SECRET_KEY_FALLBACKS": [GOOD["SECRET_KEY"], "x" * 100]},
            ("W004", "SECRET_KEY_FALLBACKS[1] can be guessed: by its characters it has 0 random bits, and needs 192."),
        ),
        (
            {"TRUSTED_PROXY_COUNT": 0},
            (
                "W005",
                "TRUSTED_PROXY_COUNT is not set. Behind a proxy, limits by network count all visitors as one, and the "
                "redirect to HTTPS never ends.",
            ),
        ),
    ],
)
def test_each_fault_is_told(settings, changes, expected):
    assert said(settings, **changes) == [(f"accounts.{expected[0]}", expected[1])]


@pytest.mark.parametrize(
    "changes",
    [
        {"EMAIL_USE_TLS": False, "EMAIL_USE_SSL": True},
        {"EMAIL_USE_TLS": False, "EMAIL_HOST": "127.0.0.1"},
        {"EMAIL_USE_TLS": False, "EMAIL_HOST": "postfix"},  # beside us, by a name that only we have
        {"ALLOWED_HOSTS": [".example.org"]},
        {"SECRET_KEY": secrets.token_hex(32)},
        *({"SECRET_KEY": get_random_secret_key()} for _number in range(5)),
    ],
)
def test_nothing_is_said_of_what_is_as_good(settings, changes):
    assert said(settings, **changes) == []


def test_a_key_is_never_repeated(settings):
    assert SECRET not in str(said(settings, SECRET_KEY=SECRET, SECRET_KEY_FALLBACKS=[SECRET]))


def test_no_proxies_may_be_meant(settings, monkeypatch):
    monkeypatch.setenv("TRUSTED_PROXY_COUNT", "0")
    assert said(settings, TRUSTED_PROXY_COUNT=0) == []


def test_the_checks_are_those_of_a_deployment():
    wrong = {
        "SITE_URL": "http://localhost",
        "EMAIL_URL": "console:",
        "SECRET_KEY": "abcde" * 10,
        "TRUSTED_PROXY_COUNT": "",
    }
    done = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", **wrong)
    assert done.returncode == 1
    for number in range(1, 6):
        assert f"(accounts.W00{number})" in done.stderr
    assert run("manage.py", "check", **wrong).stderr == ""  # in development nobody is bothered
    assert PRODUCTION["TRUSTED_PROXY_COUNT"] == "1"
