"""Reading the environment: each function returns what a variable says, or says in one line what is wrong with it.

Raises ImproperlyConfigured with the variable's name, what was given and what is allowed. What may hold a password is
never repeated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured


def env(name: str, default: str | None = None) -> str:
    """Return the variable, stripped; an empty one counts as not set. Without a default it must be set."""
    value = os.environ.get(name, "").strip()
    if value:
        return value
    if default is None:
        raise ImproperlyConfigured(
            f"{name} is not set, and there is no default for it here: see the table in README.md."
        )
    return default


def env_bool(name: str, default: bool) -> bool:
    """Return the variable as a truth value: 1/0, true/false, yes/no or on/off."""
    value = env(name, str(default)).lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}. Allowed: 1, true, yes, on, 0, false, no, off.")


def env_int(name: str, default: int, minimum: int, maximum: int) -> int:
    """Return the variable as a whole number within the bounds, both included."""
    return _env_number(name, default, minimum, maximum, int, "a whole number")


def env_seconds(name: str, default: float, minimum: float, maximum: float) -> float:
    """Return the variable as a number of seconds within the bounds, both included; fractions are allowed."""
    return _env_number(name, default, minimum, maximum, float, "a number of seconds")


def _env_number(name: str, default: Any, minimum: Any, maximum: Any, convert: Callable[[str], Any], what: str) -> Any:
    given = env(name, str(default))
    try:
        value = convert(given)
    except ValueError:
        value = None
    if value is None or not minimum <= value <= maximum:
        raise ImproperlyConfigured(f"{name} is {given!r}. Allowed: {what} from {minimum} to {maximum}.")
    return value


def env_list(name: str, default: str) -> list[str]:
    """Return the comma-separated variable as a list without empty parts; only an empty default allows an empty list."""
    parts = [part for part in map(str.strip, env(name, default).split(",")) if part]
    if default and not parts:
        raise ImproperlyConfigured(f"{name} is {env(name)!r}. Allowed: values separated by commas, at least one.")
    return parts


def database(url: str) -> dict[str, Any]:
    """Return Django's settings for one database: `sqlite:///path` or `postgres://user:password@host:port/name`."""
    allowed = "sqlite:///PATH (sqlite:////absolute/path) and postgres://USER:PASSWORD@HOST:PORT/NAME"
    match = re.match(r"([\w+.-]*)://", url)
    scheme = match[1] if match else ""  # anything else may be the password
    if scheme not in {"sqlite", "postgres", "postgresql"}:
        raise ImproperlyConfigured(f"DATABASE_URL starts with {scheme!r}. Allowed: {allowed}.")
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(url))
    except (ValueError, dj_database_url.ParseError):
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read. Allowed: {allowed}.") from None
    if config["NAME"] in {"", ":memory:"}:
        raise ImproperlyConfigured(f"DATABASE_URL names no database. Allowed: {allowed}.")
    config |= {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    if scheme == "sqlite":
        directory = Path(config["NAME"]).absolute().parent
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImproperlyConfigured(f"DATABASE_URL names a file in {directory}: {error.strerror}.") from None
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",  # a transaction that will write waits for its turn at the start
            "timeout": 20,
            # a checkpoint waits for the disk: one for each 16 MiB written instead of 4; clusters: tasks.checkpoints
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=4000;",
        }
    else:
        # Whoever goes away without a word is noticed within some seconds, not after hours: the server by its client,
        # and the client by the server, which else would keep the locks of a host that is cut off.
        alive = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
        server = {"tcp_keepalives_idle": 5, "tcp_keepalives_interval": 2, "tcp_keepalives_count": 3}
        server["tcp_user_timeout"] = 10_000
        options = " ".join(f"-c {name}={value}" for name, value in server.items())
        config["OPTIONS"] = {"connect_timeout": 10, **alive, "options": options, **config.get("OPTIONS", {})}
    return config


def email(url: str) -> dict[str, Any]:
    """Return Django's EMAIL_* settings for `smtp://`, `smtp+tls://`, `smtps://`, `mailbox:` or `console:`."""
    allowed = (
        "smtp://USER:PASSWORD@HOST:PORT, smtp+tls:// (STARTTLS), smtps:// (TLS), mailbox: (files in var/mail), console:"
    )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text may hold the password
        raise ImproperlyConfigured(f"EMAIL_URL cannot be read. Allowed: {allowed}.") from None
    local = {"mailbox": "devmail.backend.MailboxBackend", "console": "django.core.mail.backends.console.EmailBackend"}
    if parts.scheme in local:
        return {"EMAIL_BACKEND": local[parts.scheme]}
    ports = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
    if parts.scheme not in ports:
        raise ImproperlyConfigured(f"EMAIL_URL starts with {parts.scheme!r}. Allowed: {allowed}.")
    if not parts.hostname:
        raise ImproperlyConfigured(f"EMAIL_URL names no host. Allowed: {allowed}.")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ImproperlyConfigured(
            f"EMAIL_URL goes on after the host; in a password write / as %2F, ? as %3F, # as %23. Allowed: {allowed}."
        )
    return {
        "EMAIL_BACKEND": "mail.backend.KeptConnectionBackend",
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": port or ports[parts.scheme],
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parts.scheme == "smtp+tls",
        "EMAIL_USE_SSL": parts.scheme == "smtps",
        "EMAIL_TIMEOUT": 20,  # seconds for one step of the conversation with the mail server
    }


def sentry(dsn: str) -> str:
    """Return the DSN of a Sentry project, or "" for none."""
    try:
        parts = urlsplit(dsn)
        is_valid = parts.scheme in {"http", "https"} and parts.hostname and parts.username and parts.port != 0
    except ValueError:
        is_valid = False
    if dsn and not (is_valid and re.fullmatch(r"(/[\w.~-]+)*/[0-9]+", parts.path) and not parts.query + parts.fragment):
        raise ImproperlyConfigured("SENTRY_DSN cannot be read. Allowed: https://KEY@HOST/NUMBER, as Sentry shows it.")
    return dsn


def breaches(url: str) -> str:
    """Return where a list of stolen passwords answers, or "" for nowhere."""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and parts.path.endswith("/")
    except ValueError:
        is_valid = False
    if url and (not is_valid or parts.username is not None or parts.query or parts.fragment):
        raise ImproperlyConfigured(
            f"PASSWORD_BREACH_URL is {url!r}. Allowed: https://HOST/PATH/, which the first digits of a hash are added "
            "to, or empty for none."
        )
    return url
