"""The environment: what is allowed, and one clear line for what is not."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from config import settings as product
from tests.processes import ROOT, database_url

SECRET = "geheim-4711"
PRODUCTION = {
    "ENV_FILE": "",
    "SECRET_KEY": "abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ-0123456789",
    "SITE_URL": "https://steward.example.org",
    "EMAIL_URL": f"smtp+tls://steward:{SECRET}@mail.example.org",
    "TRUSTED_PROXY_COUNT": "1",
}
DATABASES = "sqlite:///PATH (sqlite:////absolute/path) and postgres://USER:PASSWORD@HOST:PORT/NAME"
SENTRY = "SENTRY_DSN cannot be read. Allowed: https://KEY@HOST/NUMBER, as Sentry shows it."
LISTS = "Allowed: https://HOST/PATH/, which the first digits of a hash are added to, or empty for none."
MAILS = "smtp://USER:PASSWORD@HOST:PORT, smtp+tls:// (STARTTLS), smtps:// (TLS), mailbox: (files in var/mail), console:"
SITES = "https://HOST or http://HOST:PORT, without a path"
BOOLEANS = "1, true, yes, on, 0, false, no, off"


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the checkout with the given variables and no others."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | PRODUCTION | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def load(**environment: str) -> dict[str, Any]:
    """Return what config/settings.py sets in an environment of the given variables and no others."""
    with mock.patch.dict(os.environ, PRODUCTION | environment, clear=True):
        return runpy.run_path(str(ROOT / "config" / "settings.py"))


def value_of(expression: str, **environment: str) -> Any:
    """Return what an expression in the names of the settings is worth in an environment."""
    return eval(expression, load(**environment))


WRONG = [
    ("DEBUG", "maybe", f"DEBUG is 'maybe'. Allowed: {BOOLEANS}."),
    ("SITE_PORT", "http", "SITE_PORT is 'http'. Allowed: a whole number from 1 to 65535."),
    ("SITE_PORT", "0", "SITE_PORT is '0'. Allowed: a whole number from 1 to 65535."),
    ("SITE_PORT", "65536", "SITE_PORT is '65536'. Allowed: a whole number from 1 to 65535."),
    ("SITE_URL", "steward.example.org", f"SITE_URL is 'steward.example.org'. Allowed: {SITES}."),
    ("SITE_URL", "ftp://example.org", f"SITE_URL is 'ftp://example.org'. Allowed: {SITES}."),
    ("SITE_URL", "https://", f"SITE_URL is 'https:'. Allowed: {SITES}."),
    ("SITE_URL", "https://example.org/app", f"SITE_URL is 'https://example.org/app'. Allowed: {SITES}."),
    ("SITE_URL", "https://example.org?a=1", f"SITE_URL is 'https://example.org?a=1'. Allowed: {SITES}."),
    ("SITE_URL", "https://example.org#a", f"SITE_URL is 'https://example.org#a'. Allowed: {SITES}."),
    ("SITE_URL", "https://me@example.org", f"SITE_URL is 'https://me@example.org'. Allowed: {SITES}."),
    ("SITE_URL", "https://example.org:port", f"SITE_URL is 'https://example.org:port'. Allowed: {SITES}."),
    ("SITE_URL", "https://example.org:99999", f"SITE_URL is 'https://example.org:99999'. Allowed: {SITES}."),
    ("SITE_URL", "https://[::1", f"SITE_URL is 'https://[::1'. Allowed: {SITES}."),
    ("DATABASE_URL", "mysql://h/db", f"DATABASE_URL starts with 'mysql'. Allowed: {DATABASES}."),
    ("DATABASE_URL", "db.sqlite3", f"DATABASE_URL starts with ''. Allowed: {DATABASES}."),
    ("DATABASE_URL", "sqlite:///", f"DATABASE_URL names no database. Allowed: {DATABASES}."),
    ("DATABASE_URL", "sqlite://:memory:", f"DATABASE_URL names no database. Allowed: {DATABASES}."),
    ("DATABASE_URL", "postgres://h", f"DATABASE_URL names no database. Allowed: {DATABASES}."),
    ("DATABASE_URL", "postgres://h:port/db", f"DATABASE_URL cannot be read. Allowed: {DATABASES}."),
    (
        "DATABASE_URL",
        "sqlite:////dev/null/steward.sqlite3",
        "DATABASE_URL names a file in /dev/null: File exists.",
    ),
    ("EMAIL_URL", "imap://h", f"EMAIL_URL starts with 'imap'. Allowed: {MAILS}."),
    ("EMAIL_URL", "mail.example.org", f"EMAIL_URL starts with ''. Allowed: {MAILS}."),
    ("EMAIL_URL", "smtp://", f"EMAIL_URL names no host. Allowed: {MAILS}."),
    ("EMAIL_URL", "smtp://h:port", f"EMAIL_URL cannot be read. Allowed: {MAILS}."),
    (
        "EMAIL_URL",
        "smtp://user:1/2@mail.example.org",
        f"EMAIL_URL goes on after the host; in a password write / as %2F, ? as %3F, # as %23. Allowed: {MAILS}.",
    ),
    (
        "DEFAULT_FROM_EMAIL",
        "Steward",
        "DEFAULT_FROM_EMAIL is 'Steward'. Allowed: NAME <USER@HOST> or USER@HOST.",
    ),
    ("ENV_FILE", "/nowhere/.env", "ENV_FILE is '/nowhere/.env'. Allowed: a file of variables, or empty for none."),
    ("TIME_ZONE", "Berlin", "TIME_ZONE is 'Berlin'. Allowed: a name such as UTC or Europe/Berlin."),
    ("LOG_LEVEL", "LOUD", "LOG_LEVEL is 'LOUD'. Allowed: DEBUG, INFO, WARNING, ERROR."),
    ("HSTS_SUBDOMAINS", "2", f"HSTS_SUBDOMAINS is '2'. Allowed: {BOOLEANS}."),
    ("TRUSTED_PROXY_COUNT", "-1", "TRUSTED_PROXY_COUNT is '-1'. Allowed: a whole number from 0 to 9."),
    ("REQUIRE_MFA_FOR", "some", "REQUIRE_MFA_FOR is 'some'. Allowed: none, staff, all."),
    ("TASKS_WORKERS", "0", "TASKS_WORKERS is '0'. Allowed: a whole number from 1 to 256."),
    ("TASKS_WORKERS", "1.5", "TASKS_WORKERS is '1.5'. Allowed: a whole number from 1 to 256."),
    ("TASKS_LEASE", "1", "TASKS_LEASE is '1'. Allowed: a number of seconds from 3 to 3600."),
    ("TASKS_LEASE", "nan", "TASKS_LEASE is 'nan'. Allowed: a number of seconds from 3 to 3600."),
    ("TASKS_POLL", "soon", "TASKS_POLL is 'soon'. Allowed: a number of seconds from 0.01 to 60."),
    (
        "TASKS_SHUTDOWN_GRACE",
        "inf",
        "TASKS_SHUTDOWN_GRACE is 'inf'. Allowed: a number of seconds from 0 to 3600.",
    ),
    (
        "TASKS_MAX_PAYLOAD",
        "10 MB",
        "TASKS_MAX_PAYLOAD is '10 MB'. Allowed: a whole number from 1024 to 67108864.",
    ),
    (
        "RETENTION_UNVERIFIED_ACCOUNTS",
        "86400",  # the link in the last mail still verifies the address
        "RETENTION_UNVERIFIED_ACCOUNTS is '86400'. Allowed: a number of seconds from 259200 to 315360000.",
    ),
    (
        "PASSWORD_RESET_TIMEOUT",
        "60",
        "PASSWORD_RESET_TIMEOUT is '60'. Allowed: a number of seconds from 600 to 86400.",
    ),
    (
        "RETENTION_ADMIN_LOG",
        "0",
        "RETENTION_ADMIN_LOG is '0'. Allowed: a number of seconds from 86400 to 315360000.",
    ),
    ("TASKS_QUEUES", " , ", "TASKS_QUEUES is ','. Allowed: values separated by commas, at least one."),
    (
        "TASKS_QUEUES",
        "default,post",
        "TASKS_QUEUES is 'default,post'. Allowed: names separated by commas, default, mail and maintenance among them; "
        "missing: mail, maintenance.",
    ),
    ("PASSWORD_BREACH_URL", "range.example.org/", f"PASSWORD_BREACH_URL is 'range.example.org/'. {LISTS}"),
    ("PASSWORD_BREACH_URL", "file:///etc/", f"PASSWORD_BREACH_URL is 'file:///etc/'. {LISTS}"),
    (
        "PASSWORD_BREACH_URL",
        "https://example.org/range",
        f"PASSWORD_BREACH_URL is 'https://example.org/range'. {LISTS}",
    ),
    ("PASSWORD_BREACH_URL", "https://[::1/range/", f"PASSWORD_BREACH_URL is 'https://[::1/range/'. {LISTS}"),
    ("PASSWORD_BREACH_URL", "https://h/range/?a=1", f"PASSWORD_BREACH_URL is 'https://h/range/?a=1'. {LISTS}"),
    ("SENTRY_DSN", "sentry.example.org", SENTRY),
    ("SENTRY_DSN", "ftp://key@sentry.example.org/1", SENTRY),
    ("SENTRY_DSN", "https://sentry.example.org/1", SENTRY),
    ("SENTRY_DSN", "https://key@sentry.example.org/", SENTRY),
    ("SENTRY_DSN", "https://key@sentry.example.org/one", SENTRY),
    ("SENTRY_DSN", "https://key@sentry.example.org/1?a=1", SENTRY),
    ("SENTRY_DSN", "https://key@sentry.example.org:99999/1", SENTRY),
    ("SENTRY_DSN", "https://key@[::1/1", SENTRY),
    ("ALLOWED_HOSTS", ",", "ALLOWED_HOSTS is ','. Allowed: values separated by commas, at least one."),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_a_wrong_value_is_named_with_what_is_allowed(name, value, message):
    with pytest.raises(ImproperlyConfigured) as error:
        load(**{name: value})
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *{name: (name, value, message) for name, value, message in WRONG}.values(),
        (
            "TASKS_QUEUES",
            "default,mail,maintenance," + "x" * 65,
            f"TASKS names the queue '{'x' * 65}'. Allowed: 1 to 64 printable characters.",
        ),
        ("TIME_ZONE", "UTC\nUTC", "TIME_ZONE is 'UTC\\nUTC'. Allowed: a name such as UTC or Europe/Berlin."),
        ("SECRET_KEY", "", "SECRET_KEY is not set, and there is no default for it here: see the table in README.md."),
    ],
)
def test_a_wrong_value_stops_the_start_with_one_line(name, value, message):
    done = run("manage.py", "check", **{name: value})
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message}\n")


def test_a_wrong_value_that_would_not_count_stops_the_start_too():
    with pytest.raises(ImproperlyConfigured) as error:
        load(HSTS_SUBDOMAINS="2", SITE_URL="http://testserver")
    assert str(error.value) == f"HSTS_SUBDOMAINS is '2'. Allowed: {BOOLEANS}."


@pytest.mark.parametrize("name", ["SECRET_KEY", "SITE_URL", "EMAIL_URL"])
@pytest.mark.parametrize("value", ["", "  "])
def test_what_has_no_default_in_production_must_be_set(name, value):
    with pytest.raises(ImproperlyConfigured) as error:
        load(**{name: value})
    assert str(error.value) == f"{name} is not set, and there is no default for it here: see the table in README.md."


def test_the_bounds_of_a_number_are_allowed():
    assert value_of("[SITE_PORT, TRUSTED_PROXY_COUNT]", SITE_PORT="1", TRUSTED_PROXY_COUNT="9") == [1, 9]
    assert value_of("[TASKS_LEASE, TASKS_POLL]", TASKS_LEASE="3", TASKS_POLL="0.01") == [3, 0.01]
    assert value_of("[TASKS_WORKERS, TASKS_SHUTDOWN_GRACE]", TASKS_WORKERS="256", TASKS_SHUTDOWN_GRACE="0") == [256, 0]


def test_the_parts_of_a_list_are_stripped_and_the_empty_ones_left_out():
    assert value_of("TASKS['default']['QUEUES']", TASKS_QUEUES=" mail,, default ,maintenance") == [
        "mail",
        "default",
        "maintenance",
    ]
    assert value_of("SECRET_KEY_FALLBACKS") == []
    assert value_of("SECRET_KEY_FALLBACKS", SECRET_KEY_FALLBACKS=",") == []
    assert value_of("SECRET_KEY_FALLBACKS", SECRET_KEY_FALLBACKS="old, older") == ["old", "older"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://steward:{SECRET}@db.example.org/steward"),
        ("DATABASE_URL", f"user=steward password={SECRET} dbname=steward"),
        ("DATABASE_URL", f"user=steward password={SECRET}:// dbname=steward"),
        ("DATABASE_URL", f"postgres://steward:{SECRET}#x@db.example.org/steward"),
        ("DATABASE_URL", f"postgres://steward:{SECRET}/x@db.example.org/steward"),
        ("DATABASE_URL", f"postgres://steward:{SECRET}@db.example.org"),
        ("DATABASE_URL", f"postgres://steward:{SECRET}@[db.example.org/steward"),
        ("EMAIL_URL", f"imap://steward:{SECRET}@mail.example.org"),
        ("EMAIL_URL", f"smtp://steward:{SECRET}#x@mail.example.org"),
        ("EMAIL_URL", f"smtp://steward:{SECRET}/x@mail.example.org"),
        ("EMAIL_URL", f"smtp://steward:{SECRET}@"),
        ("EMAIL_URL", f"smtp://steward:{SECRET}@[mail.example.org"),
        ("EMAIL_URL", SECRET),
        ("SENTRY_DSN", f"https://{SECRET}@sentry.example.org/"),
        ("SENTRY_DSN", f"https://{SECRET}@[sentry.example.org/1"),
    ],
)
def test_a_password_in_a_wrong_value_is_never_repeated_not_even_in_a_traceback(name, value):
    with pytest.raises(ImproperlyConfigured) as error:
        load(**{name: value})
    assert str(error.value).startswith(name)
    assert SECRET not in "".join(traceback.format_exception(error.value))


def test_secrets_are_not_repeated_when_another_value_is_wrong():
    secrets = {"SECRET_KEY": SECRET, "DATABASE_URL": f"postgres://steward:{SECRET}@db.example.org/steward"}
    done = run("manage.py", "check", "--traceback", TIME_ZONE="Berlin", **secrets)
    assert done.returncode == 1
    assert "TIME_ZONE is 'Berlin'." in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_the_settings_of_a_deployment_pass_every_check_of_django():
    done = run("manage.py", "check", "--deploy", "--fail-level", "WARNING")
    assert (done.returncode, done.stdout, done.stderr) == (0, "System check identified no issues (0 silenced).\n", "")


def test_the_check_of_a_deployment_fails_without_https():
    done = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", SITE_URL="http://steward.example.org")
    assert done.returncode == 1
    assert "?: (security.W008) Your SECURE_SSL_REDIRECT setting is not set to True." in done.stderr


def test_the_readme_tells_of_each_variable_that_is_read_and_of_no_other():
    source = (ROOT / "config" / "settings.py").read_text()
    read = re.findall(r"""\benv(?:_\w+)?\(\s*"(\w+)\"""", source) + re.findall(r"""environ\.get\("(\w+)\"""", source)
    table = (ROOT / "README.md").read_text().partition("## Environment")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(told) == sorted(set(read))
    assert {"ENV_FILE", "SECRET_KEY", "TASKS_POLL", "HSTS_SUBDOMAINS"} < {*told}


def test_debug_needs_nothing_but_a_secret_key():
    done = run("manage.py", "check", DEBUG="1", SITE_URL="", EMAIL_URL="")
    assert (done.returncode, done.stderr) == (0, "")
    values = value_of("[SITE_URL, EMAIL_BACKEND, ALLOWED_HOSTS]", DEBUG="1", SITE_URL="", EMAIL_URL="", SITE_PORT="81")
    assert values == ["http://127.0.0.1:81", "devmail.backend.MailboxBackend", ["127.0.0.1", "localhost", "127.0.0.1"]]


@pytest.mark.parametrize(
    ("value", "meaning"), [("1", True), ("YES", True), (" on ", True), ("False", False), ("", False)]
)
def test_a_truth_value_may_be_spelt_in_many_ways(value, meaning):
    assert value_of("DEBUG", DEBUG=value) is meaning


def test_staff_needs_a_second_factor_in_production_unless_the_settings_say_otherwise():
    assert value_of("REQUIRE_MFA_FOR") == "staff"
    assert value_of("REQUIRE_MFA_FOR", DEBUG="1") == "none"
    assert value_of("REQUIRE_MFA_FOR", DEBUG="1", REQUIRE_MFA_FOR="ALL") == "all"
    assert value_of("REQUIRE_MFA_FOR", REQUIRE_MFA_FOR="none") == "none"


def test_no_proxy_is_trusted_unless_the_settings_say_so():
    assert value_of("TRUSTED_PROXY_COUNT", TRUSTED_PROXY_COUNT="") == 0
    assert "SECURE_PROXY_SSL_HEADER" not in load(TRUSTED_PROXY_COUNT="")
    assert value_of("SECURE_PROXY_SSL_HEADER", TRUSTED_PROXY_COUNT="2") == ("HTTP_X_FORWARDED_PROTO", "https")


def test_https_switches_on_all_that_protects_it_and_http_does_not():
    names = "[SECURE_SSL_REDIRECT, SESSION_COOKIE_SECURE, CSRF_COOKIE_SECURE, SESSION_COOKIE_NAME, CSRF_COOKIE_NAME]"
    assert value_of(names) == [True, True, True, "__Host-session", "__Host-csrf"]
    assert value_of(names, SITE_URL="http://testserver") == [False, False, False, "session", "csrf"]
    assert value_of("SIGNUP_COOKIE_NAME") == "__Host-signup"
    assert value_of("SIGNUP_COOKIE_NAME", SITE_URL="http://testserver") == "signup"
    names = "[LANGUAGE_COOKIE_SECURE, LANGUAGE_COOKIE_NAME, MESSAGE_COOKIE_NAME]"
    assert value_of(names) == [True, "__Host-language", "__Host-messages"]
    assert value_of(names, SITE_URL="http://testserver") == [False, "language", "messages"]
    assert value_of("[SECURE_HSTS_SECONDS, SECURE_HSTS_PRELOAD]") == [31_536_000, True]
    assert value_of("[SECURE_HSTS_SECONDS, SECURE_HSTS_PRELOAD]", SITE_URL="http://testserver") == [0, False]
    assert value_of("SECURE_HSTS_INCLUDE_SUBDOMAINS", HSTS_SUBDOMAINS="no") is False


def test_a_slash_at_the_end_of_site_url_does_not_count():
    assert value_of("[SITE_URL, ALLOWED_HOSTS]", SITE_URL="https://steward.example.org/") == [
        "https://steward.example.org",
        ["steward.example.org"],
    ]


@pytest.mark.parametrize("name", ["Steward", "Acme, Inc.", 'Tom "T" <tom>', "Büro"])
def test_the_name_of_the_site_may_have_any_character_in_the_address_of_its_mails(name):
    real_name, address = value_of("parseaddr(DEFAULT_FROM_EMAIL)", SITE_NAME=name)
    assert address == "noreply@steward.example.org"
    assert (real_name == name) is name.isascii()


# .env ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def env_file(tmp_path) -> Path:
    path = tmp_path / "variables"
    path.write_text('# a comment\nSITE_NAME="From the file"\nTIME_ZONE=Europe/Berlin\n')
    return path


def test_the_file_of_variables_is_read(env_file):
    assert value_of("[SITE_NAME, TIME_ZONE]", ENV_FILE=str(env_file)) == ["From the file", "Europe/Berlin"]


def test_the_environment_wins_over_the_file(env_file):
    values = value_of("[SITE_NAME, TIME_ZONE]", ENV_FILE=str(env_file), SITE_NAME="From the environment")
    assert values == ["From the environment", "Europe/Berlin"]


def test_a_wrong_value_in_the_file_stops_the_start_too(env_file):
    env_file.write_text("TIME_ZONE=Berlin\n")
    done = run("manage.py", "check", ENV_FILE=str(env_file))
    assert (done.returncode, done.stderr) == (
        1,
        "error: TIME_ZONE is 'Berlin'. Allowed: a name such as UTC or Europe/Berlin.\n",
    )


def test_without_env_file_the_file_is_dot_env_of_the_checkout(tmp_path):
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config" / "settings.py", tmp_path / "config")
    (tmp_path / ".env").write_text('SITE_NAME="From the file"\n')
    environment = {name: value for name, value in PRODUCTION.items() if name != "ENV_FILE"}
    with mock.patch.dict(os.environ, environment, clear=True):
        assert runpy.run_path(str(tmp_path / "config" / "settings.py"))["SITE_NAME"] == "From the file"


# URLs of servers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example.org", ("mail.example.org", 25, "", "", False, False)),
        ("smtp+tls://mail.example.org", ("mail.example.org", 587, "", "", True, False)),
        ("smtps://mail.example.org/", ("mail.example.org", 465, "", "", False, True)),
        ("smtp://127.0.0.1:2525", ("127.0.0.1", 2525, "", "", False, False)),
        ("smtp+tls://me:p%40ss%2Fw%3Ard@h:26", ("h", 26, "me", "p@ss/w:rd", True, False)),
        ("smtps://me%40example.org:x@[::1]:27", ("::1", 27, "me@example.org", "x", False, True)),
    ],
)
def test_a_mail_server_is_given_as_a_url(url, expected):
    mail = product.email(url)
    assert mail.pop("EMAIL_BACKEND") == "mail.backend.KeptConnectionBackend"
    assert mail.pop("EMAIL_TIMEOUT") == 20
    names = ("EMAIL_HOST", "EMAIL_PORT", "EMAIL_HOST_USER", "EMAIL_HOST_PASSWORD", "EMAIL_USE_TLS", "EMAIL_USE_SSL")
    assert mail == dict(zip(names, expected, strict=True))


def test_mails_may_stay_on_this_machine():
    assert product.email("mailbox:") == {"EMAIL_BACKEND": "devmail.backend.MailboxBackend"}
    assert product.email("console:") == {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}


@pytest.mark.parametrize(
    "dsn", ["https://key@o1.ingest.sentry.io/42", "http://key:secret@127.0.0.1:9000/sub/path/1", ""]
)
def test_a_sentry_project_is_given_as_sentry_shows_it(dsn):
    assert value_of("SENTRY_DSN", SENTRY_DSN=dsn) == dsn


def test_stolen_passwords_are_looked_up_where_the_settings_say_and_nowhere_by_default():
    names = "[PASSWORD_BREACH_URL, AUTH_PASSWORD_VALIDATORS[-1]['NAME'].split('.')[-1]]"
    assert value_of(names) == ["", "CommonPasswordValidator"]
    url = "https://api.pwnedpasswords.com/range/"
    assert value_of(names, PASSWORD_BREACH_URL=url) == [url, "BreachValidator"]
    assert value_of("AUTH_PASSWORD_VALIDATORS[-1]['OPTIONS']", PASSWORD_BREACH_URL=url) == {"url": url}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_postgresql_is_given_as_a_url(scheme):
    config = product.database(f"{scheme}://me:p%40ss@db.example.org:5433/steward?sslmode=require&connect_timeout=3")
    expected = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "steward",
        "USER": "me",
        "PASSWORD": "p@ss",
        "HOST": "db.example.org",
        "PORT": 5433,
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**product.database("postgres://h/db")["OPTIONS"], "connect_timeout": 3, "sslmode": "require"},
    }
    assert {name: config[name] for name in expected} == expected
    assert product.database("postgres://h/db")["OPTIONS"] == {
        "connect_timeout": 10,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "options": "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 "
        "-c tcp_user_timeout=10000",
        "tcp_user_timeout": 10_000,
    }


def test_sqlite_is_given_as_a_url_and_its_directory_is_made(tmp_path):
    path = tmp_path / "new" / "directory" / "steward.sqlite3"
    config = product.database(f"sqlite:///{path}")
    assert (config["ENGINE"], config["NAME"]) == ("django.db.backends.sqlite3", str(path))
    assert (config["CONN_MAX_AGE"], config["CONN_HEALTH_CHECKS"]) == (None, True)
    assert path.parent.is_dir()


def test_a_path_of_sqlite_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert product.database("sqlite:///data/steward.sqlite3")["NAME"] == "data/steward.sqlite3"
    assert (tmp_path / "data").is_dir()


def test_sqlite_runs_in_wal_mode_with_the_pragmas_and_transactions_that_we_promise(tmp_path):
    code = """
import django, json
django.setup()
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
with connection.cursor() as cursor:
    names = ("journal_mode", "synchronous", "busy_timeout")
    values = [cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
with CaptureQueriesContext(connection) as queries, transaction.atomic():
    pass
print(json.dumps(values + [query["sql"] for query in queries]))
"""
    done = run(
        "-c",
        code,
        DJANGO_SETTINGS_MODULE="config.settings",
        DATABASE_URL=f"sqlite:///{tmp_path / 'steward.sqlite3'}",
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == ["wal", 1, 20_000, "BEGIN IMMEDIATE", "COMMIT"]


@pytest.mark.parametrize("command", [["migrate"], ["firstrun", "--port", "1"], ["createsuperuser", "--noinput"]])
def test_a_database_that_cannot_be_reached_is_one_line(command):
    done = run("manage.py", *command, DATABASE_URL=f"postgres://steward:{SECRET}@127.0.0.1:1/steward")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: the database cannot be used: connection failed: ")
    assert line.endswith(" (check DATABASE_URL; --traceback shows more)")
    assert SECRET not in line


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    path = tmp_path / "steward.sqlite3"
    path.mkdir()
    done = run("manage.py", "migrate", DATABASE_URL=f"sqlite:///{path}")
    assert (done.returncode, done.stderr) == (
        1,
        "error: the database cannot be used: unable to open database file "
        "(check DATABASE_URL; --traceback shows more)\n",
    )


def test_a_database_without_tables_asks_for_migrate(db, tmp_path):
    if connection.vendor == "sqlite":
        url, text = f"sqlite:///{tmp_path / 'empty.sqlite3'}", "no such table: tasks_"
    else:
        url, text = f"{database_url()}?options=-c%20search_path%3Dnowhere", 'relation "tasks_'
    done = run("manage.py", "taskstats", DATABASE_URL=url)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: the database is not set up: {text}")
    assert line.endswith(". Run: manage.py migrate")
