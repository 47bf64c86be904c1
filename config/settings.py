"""Settings, read from the environment and from a file of variables, `.env` by default.

A wrong value stops the start with the variable's name, what was given and what is allowed. README.md has the table
of all variables. Values that may hold a password (SECRET_KEY, DATABASE_URL, EMAIL_URL, SENTRY_DSN) are never repeated
in a message.
"""

import logging
import os
from email.utils import formataddr, parseaddr
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import dotenv
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from config.environment import breaches, database, email, env, env_bool, env_int, env_list, env_seconds, sentry

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

if env_file := os.environ.get("ENV_FILE", str(BASE_DIR / ".env")):
    if "ENV_FILE" in os.environ and not Path(env_file).is_file():
        raise ImproperlyConfigured(f"ENV_FILE is {env_file!r}. Allowed: a file of variables, or empty for none.")
    dotenv.load_dotenv(env_file)

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
    "accounts.apps.AdminConfig",  # Django's administration, behind our login
    "django.contrib.auth",
    "django.contrib.contenttypes",
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
    "accounts.headers.HeadersMiddleware",
    "accounts.sessions.SessionMiddleware",
    "config.charset.CharsetMiddleware",  # before anything that reads the form
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "accounts.factors.second_step.SecondFactorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "accounts.browsers.KnownBrowserMiddleware",
    "accounts.throttle.ThrottleMiddleware",
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
PASSWORD_BREACH_URL = breaches(env("PASSWORD_BREACH_URL", ""))
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "accounts.validators.ContextValidator",
        "OPTIONS": {"user_attributes": ("email", "display_name")},
    },
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "accounts.validators.MaximumLengthValidator", "OPTIONS": {"max_length": 1024}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
if PASSWORD_BREACH_URL:
    AUTH_PASSWORD_VALIDATORS += [
        {"NAME": "accounts.validators.BreachValidator", "OPTIONS": {"url": PASSWORD_BREACH_URL}}
    ]
PASSWORD_HASHERS = [
    "accounts.hashers.OwaspArgon2Hasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "accounts:account"
LOGOUT_REDIRECT_URL = "home"
SESSION_ENGINE = "accounts.sessions"
SESSION_COOKIE_AGE = env_int("SESSION_IDLE", 14 * 86_400, 300, 365 * 86_400)
SESSION_LIFETIME = env_int("SESSION_LIFETIME", 90 * 86_400, 300, 10 * 365 * 86_400)
REAUTHENTICATE_AFTER = env_seconds("REAUTHENTICATE_AFTER", 600, 30, 86_400)
REQUIRE_MFA_FOR = env("REQUIRE_MFA_FOR", "none" if DEBUG else "staff").lower()
if REQUIRE_MFA_FOR not in {"none", "staff", "all"}:
    raise ImproperlyConfigured(f"REQUIRE_MFA_FOR is {REQUIRE_MFA_FOR!r}. Allowed: none, staff, all.")
PASSWORD_RESET_TIMEOUT = env_seconds("PASSWORD_RESET_TIMEOUT", 3600, 600, 86_400)
# not before the last link that verifies the address has expired
RETENTION_UNVERIFIED_ACCOUNTS = env_seconds("RETENTION_UNVERIFIED_ACCOUNTS", 7 * 86_400, 3 * 86_400, 10 * 365 * 86_400)
RETENTION_SECURITY_EVENTS = env_seconds("RETENTION_SECURITY_EVENTS", 365 * 86_400, 90 * 86_400, 10 * 365 * 86_400)
RETENTION_KNOWN_BROWSERS = env_seconds("RETENTION_KNOWN_BROWSERS", 365 * 86_400, 86_400, 10 * 365 * 86_400)
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
LANGUAGES = [("en", _("English")), ("de", _("German")), ("fr", _("French"))]
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
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = _https
SECURE_REDIRECT_EXEMPT = ["^health/"]  # probes come from beside the proxy
SESSION_COOKIE_NAME = "__Host-session" if _https else "session"
CSRF_COOKIE_NAME = "__Host-csrf" if _https else "csrf"
SIGNUP_COOKIE_NAME = "__Host-signup" if _https else "signup"
MESSAGE_COOKIE_NAME = "__Host-messages" if _https else "messages"
MESSAGE_STORAGE = "config.message_cookie.MessageStorage"
LANGUAGE_COOKIE_NAME = "__Host-language" if _https else "language"
CSRF_COOKIE_HTTPONLY = LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
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
        # a probe that hears "no" has been told; whoever asks every second fills no log with it
        "no_probes": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: record.name != "django.request" or "/health/" not in str(record.args),
        },
    },
    "formatters": {
        # `make run` puts the time in front of each line itself
        "line": {"format": ("" if DEBUG else "{asctime} ") + "{levelname:<7} {name}: {message}", "style": "{"}
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["redact", "no_static", "no_probes"],
        },
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        "django.server": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        "django.utils.autoreload": {"level": "WARNING"},
        "django-q": {"level": "WARNING"},
    },
}
