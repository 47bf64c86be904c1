"""Settings, read from the environment and from a file of variables, `.env` by default.

A wrong value stops the start with the variable's name, what was given and what is allowed. README.md has the table
of all variables. Values that may hold a password (SECRET_KEY, DATABASE_URL, EMAIL_URL, SENTRY_DSN) are never repeated
in a message.
"""

import logging
import os
import re
from collections.abc import Callable
from email.utils import formataddr, parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from zoneinfo import available_timezones

import dj_database_url
import dotenv
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

if env_file := os.environ.get("ENV_FILE", str(BASE_DIR / ".env")):
    if "ENV_FILE" in os.environ and not Path(env_file).is_file():
        raise ImproperlyConfigured(f"ENV_FILE is {env_file!r}. Allowed: a file of variables, or empty for none.")
    dotenv.load_dotenv(env_file)


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
            # a checkpoint waits for the disk: one for each 16 MiB written instead of 4
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


# The site ------------------------------------------------------------------------------------------------------------

DEBUG = env_bool("DEBUG", False)
EXAMPLES = env_bool("EXAMPLES", DEBUG)
SECRET_KEY = env("SECRET_KEY")
SECRET_KEY_FALLBACKS = env_list("SECRET_KEY_FALLBACKS", "")

# Links in mails are made from SITE_URL, never from the Host header of a request.
SITE_PORT = env_int("SITE_PORT", 8000, 1, 65535)
SITE_URL = env("SITE_URL", f"http://127.0.0.1:{SITE_PORT}" if DEBUG else None).rstrip("/")
try:
    _site = urlsplit(SITE_URL)
    _site_is_valid = _site.scheme in {"http", "https"} and _site.hostname and _site.port != 0
except ValueError:
    _site_is_valid = False
if not _site_is_valid or _site.username is not None or _site.path or _site.query or _site.fragment:
    raise ImproperlyConfigured(f"SITE_URL is {SITE_URL!r}. Allowed: https://HOST or http://HOST:PORT, without a path.")
SITE_NAME = env("SITE_NAME", "Steward")

ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", f"{_site.hostname},localhost,127.0.0.1" if DEBUG else str(_site.hostname))
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
INSTALLED_APPS = [
    "accounts.apps.AccountsConfig",
    "tasks.apps.TasksConfig",  # before django_q: our qcluster command takes its place
    "devmail",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "csp",
    "django_tasks",
    "django_q",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.context.site",
            ]
        },
    }
]

# The database --------------------------------------------------------------------------------------------------------

DATABASES = {"default": database(env("DATABASE_URL", f"sqlite:///{VAR_DIR / 'steward.sqlite3'}"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Mail ----------------------------------------------------------------------------------------------------------------

globals().update(email(env("EMAIL_URL", "mailbox:" if DEBUG else None)))
MAILBOX_DIR = VAR_DIR / "mail"
DEFAULT_FROM_EMAIL = env("DEFAULT_FROM_EMAIL", formataddr((SITE_NAME, f"noreply@{_site.hostname}")))
if "@" not in parseaddr(DEFAULT_FROM_EMAIL)[1]:
    raise ImproperlyConfigured(f"DEFAULT_FROM_EMAIL is {DEFAULT_FROM_EMAIL!r}. Allowed: NAME <USER@HOST> or USER@HOST.")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

# Accounts ------------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in {
        "UserAttributeSimilarityValidator": {"user_attributes": ("email", "display_name")},
        "MinimumLengthValidator": {"min_length": 12},
        "CommonPasswordValidator": {},
    }.items()
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "accounts:account"
LOGOUT_REDIRECT_URL = "home"
PASSWORD_RESET_TIMEOUT = env_seconds("PASSWORD_RESET_TIMEOUT", 3600, 600, 86_400)
# not before the last link that verifies the address has expired
RETENTION_UNVERIFIED_ACCOUNTS = env_seconds("RETENTION_UNVERIFIED_ACCOUNTS", 7 * 86_400, 3 * 86_400, 10 * 365 * 86_400)
RETENTION_ADMIN_LOG = env_seconds("RETENTION_ADMIN_LOG", 365 * 86_400, 86_400, 10 * 365 * 86_400)

# Background work -----------------------------------------------------------------------------------------------------

_queues = env_list("TASKS_QUEUES", "default,mail,maintenance")
if missing := {"default", "mail", "maintenance"} - set(_queues):
    raise ImproperlyConfigured(
        f"TASKS_QUEUES is {','.join(_queues)!r}. Allowed: names separated by commas, default, mail and maintenance "
        f"among them; missing: {', '.join(sorted(missing))}."
    )
TASKS = {"default": {"BACKEND": "tasks.backend.DatabaseBackend", "QUEUES": _queues}}
TASKS_WORKERS = env_int("TASKS_WORKERS", os.cpu_count() or 1, 1, 256)
TASKS_LEASE = env_seconds("TASKS_LEASE", 15, 3, 3600)
TASKS_POLL = env_seconds("TASKS_POLL", 0.5, 0.01, 60)
TASKS_SHUTDOWN_GRACE = env_seconds("TASKS_SHUTDOWN_GRACE", 25, 0, 3600)
TASKS_CANCEL_GRACE = env_seconds("TASKS_CANCEL_GRACE", 10, 0, 3600)
TASKS_RETENTION_SUCCESSFUL = env_seconds("TASKS_RETENTION_SUCCESSFUL", 7 * 86_400, 0, 10 * 365 * 86_400)
TASKS_RETENTION_FAILED = env_seconds("TASKS_RETENTION_FAILED", 90 * 86_400, 0, 10 * 365 * 86_400)
TASKS_SCHEDULES = env_bool("TASKS_SCHEDULES", True)
TASKS_RETENTION_TICKS = env_seconds("TASKS_RETENTION_TICKS", 90 * 86_400, 86_400, 10 * 365 * 86_400)
TASKS_MAX_PAYLOAD = env_int("TASKS_MAX_PAYLOAD", 256 * 1024, 1024, 64 * 1024 * 1024)

SENTRY_DSN = sentry(env("SENTRY_DSN", ""))

# django-q2 provides processes; whatever it would store or schedule by itself is switched off.
Q_CLUSTER = {
    "name": "steward",
    "broker_class": "tasks.broker.DatabaseBroker",
    "workers": TASKS_WORKERS,
    "bulk": TASKS_WORKERS,
    "queue_limit": 4 * TASKS_WORKERS,
    "cache": "django_q",
    "scheduler": False,
    "save_limit": -1,
    "ack_failures": True,
    "guard_cycle": 0.5,
    "recycle": 1_000_000_000,
    "max_rss": 512 * 1024,  # kB of a worker, which is then replaced
    "timeout": 86_400,  # never used: tasks/cluster.py ends an attempt that is out of time
    "retry": 86_401,
    "log_level": "WARNING",
    "ALT_CLUSTERS": {},  # without it, a Q_CLUSTER_NAME in the environment stops every command with a KeyError
}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "django_q": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
}

# The examples of docs/background-work.md
if EXAMPLES:
    INSTALLED_APPS.append("examples")
    CACHES["shared"] = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "examples_cache"}

# Languages, time, files ----------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("de", _("German"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = env("TIME_ZONE", "UTC")
if TIME_ZONE not in available_timezones():
    raise ImproperlyConfigured(f"TIME_ZONE is {TIME_ZONE!r}. Allowed: a name such as UTC or Europe/Berlin.")
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_ROOT = BASE_DIR / "public"  # /favicon.ico and /robots.txt
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

# Security ------------------------------------------------------------------------------------------------------------

_https = _site.scheme == "https"
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SECURE_REDIRECT_EXEMPT = ["^health/"]  # probes come from beside the proxy
SESSION_COOKIE_NAME = "__Host-session" if _https else "session"
CSRF_COOKIE_NAME = "__Host-csrf" if _https else "csrf"
CSRF_COOKIE_HTTPONLY = True
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = env_bool("HSTS_SUBDOMAINS", True) and _https
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
TRUSTED_PROXY_COUNT = env_int("TRUSTED_PROXY_COUNT", 0, 0, 9)
if TRUSTED_PROXY_COUNT:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

# Logging -------------------------------------------------------------------------------------------------------------

LOG_LEVEL = env("LOG_LEVEL", "INFO").upper()
if LOG_LEVEL not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
    raise ImproperlyConfigured(f"LOG_LEVEL is {LOG_LEVEL!r}. Allowed: DEBUG, INFO, WARNING, ERROR.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "redact": {"()": "accounts.logs.RedactTokens"},
        "no_static": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: "'GET /static/" not in str(record.args) or record.levelno > logging.INFO,
        },
    },
    "formatters": {
        # `make run` puts the time in front of each line itself
        "line": {"format": ("" if DEBUG else "{asctime} ") + "{levelname:<7} {name}: {message}", "style": "{"}
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["redact", "no_static"]},
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        "django.server": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        "django.utils.autoreload": {"level": "WARNING"},
        "django-q": {"level": "WARNING"},
    },
}
