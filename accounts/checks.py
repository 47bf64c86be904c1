"""What `manage.py check --deploy` says of settings that are allowed, and wrong where people rely on the site.

Django's own checks are about the same settings one by one; these are about what fits together.
"""

from __future__ import annotations

import ipaddress
import math
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004 - Django's word
from django.http.request import validate_host

KEY_BITS = 192
"""What is asked of a key by the measure of `_bits`, which finds more than 200 in 50 random characters of any kind."""


@register(Tags.security, deploy=True)
def check_site_url(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Links in mails start with SITE_URL, so it has to be where people reach the site, by HTTPS."""
    site = urlsplit(settings.SITE_URL)
    host = site.hostname or ""
    faults = []
    if site.scheme != "https":
        faults.append("does not start with https://, so passwords and cookies can be read on their way")
    if _is_local(host):
        faults.append("names a host that nobody else can reach")
    if not validate_host(host, settings.ALLOWED_HOSTS):
        faults.append("names a host that ALLOWED_HOSTS does not have, so no link in a mail works")
    hint = "Set SITE_URL to the address that people type, and ALLOWED_HOSTS to its host."
    return [Warning(f"SITE_URL {fault}.", hint=hint, id="accounts.W001") for fault in faults]


@register(Tags.security, deploy=True)
def check_cookies(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """A cookie whose name begins with __Host- can be set by no other host and never without HTTPS."""
    return [
        Warning(
            f"The cookie of the {what} is not one that only this host can set: {', '.join(faults)}.",
            hint=f"Start {prefix}_NAME with __Host-; then {prefix}_SECURE has to be True, {prefix}_DOMAIN None and "
            f"{prefix}_PATH '/'.",
            id="accounts.W002",
        )
        for what, prefix in (("session", "SESSION_COOKIE"), ("CSRF token", "CSRF_COOKIE"))
        if (faults := list(_faults_of_cookie(prefix)))
    ]


@register(Tags.security, deploy=True)
def check_mail(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Mails carry keys to accounts: they have to leave, and unread."""
    faults = []
    if settings.EMAIL_BACKEND.rpartition(".")[2] != "KeptConnectionBackend":
        faults.append("EMAIL_URL names no mail server, so no mail reaches anybody")
    elif not (settings.EMAIL_USE_TLS or settings.EMAIL_USE_SSL or _is_local(settings.EMAIL_HOST)):
        faults.append("Mails, and the password of the mail server, travel unencrypted")
    if _is_local(settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].rstrip(">")):
        faults.append("DEFAULT_FROM_EMAIL has a domain that mail servers refuse")
    hint = "Set EMAIL_URL to smtp+tls://USER:PASSWORD@HOST or smtps://..., and DEFAULT_FROM_EMAIL to an address there."
    return [Warning(f"{fault}.", hint=hint, id="accounts.W003") for fault in faults]


@register(Tags.security, deploy=True)
def check_keys(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Who guesses a key can make links to any account. Django counts characters; `AAAA...` has many."""
    keys = {"SECRET_KEY": settings.SECRET_KEY}
    keys |= {f"SECRET_KEY_FALLBACKS[{n}]": key for n, key in enumerate(settings.SECRET_KEY_FALLBACKS)}
    return [
        Warning(
            f"{name} can be guessed: by its characters it has {int(_bits(key))} random bits, and needs {KEY_BITS}.",
            hint="Make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(50))'. The old one may stay "
            "in SECRET_KEY_FALLBACKS until its links have expired, if nobody else knows it.",
            id="accounts.W004",
        )
        for name, key in keys.items()
        if _bits(key) < KEY_BITS
    ]


@register(Tags.security, deploy=True)
def check_proxies(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Behind a proxy that nobody has counted, all visitors come from one address, and HTTPS looks like HTTP."""
    if settings.TRUSTED_PROXY_COUNT or os.environ.get("TRUSTED_PROXY_COUNT", "").strip():  # a 0 that was set is meant
        return []
    return [
        Warning(
            "TRUSTED_PROXY_COUNT is not set. Behind a proxy, limits by network count all visitors as one, and the "
            "redirect to HTTPS never ends.",
            hint="Set it to the number of proxies that a request passes on its way, or to 0 if the site's own server "
            "speaks HTTPS to the browsers.",
            id="accounts.W005",
        )
    ]


def _is_local(host: str) -> bool:
    """Return whether the host is this machine, or no name that others have."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return "." not in host.rstrip(".") or host.rstrip(".").endswith((".localhost", ".local", ".invalid", ".test"))


def _faults_of_cookie(prefix: str) -> Iterator[str]:
    if not getattr(settings, f"{prefix}_NAME").startswith("__Host-"):
        yield f"{prefix}_NAME does not start with __Host-"
    if not getattr(settings, f"{prefix}_SECURE"):
        yield f"{prefix}_SECURE is not True"
    if getattr(settings, f"{prefix}_DOMAIN"):
        yield f"{prefix}_DOMAIN is set"
    if getattr(settings, f"{prefix}_PATH") != "/":
        yield f"{prefix}_PATH is not '/'"


def _bits(key: str | bytes) -> float:
    """Return the Shannon entropy of the characters, as often as they occur."""
    counts = Counter(key).values()
    return -sum(count * math.log2(count / len(key)) for count in counts)
