"""Browsers that somebody has logged in with before, known by a cookie that lives for a year.

The cookie has 256 random bits, the row their digest, so nobody who reads the database can pass for a known browser. It
lets nobody in. It only spares its user two things: limits that strangers can use up (`accounts.throttle`), and a mail
about a new browser. The idea is that of OWASP's device cookies ("Slow Down Online Guessing Attacks with Device
Cookies").
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from django.conf import settings
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse

from accounts.models import KnownBrowser, User
from accounts.network import client_of
from accounts.sessions import digest_of

COOKIE_AGE = 365 * 86_400
"""Seconds, from the last login."""

Handler = Callable[[HttpRequest], HttpResponse]


def known_to(request: HttpRequest, account: User | str) -> str | None:
    """Return the digest of the browser's cookie if this user, or the user of this address, has logged in with it.

    It asks the database once if the browser has a cookie, else not at all, whoever the account is.
    """
    if not (digest := _digest(request)):
        return None
    whose = {"user": account} if isinstance(account, User) else {"user__email": account}
    return digest if KnownBrowser.objects.filter(digest=digest, **whose).exists() else None


def remember(request: HttpRequest, user: User) -> bool:
    """Note that the user logs in with this browser; return whether it was known.

    A browser that is new to this user gets a new cookie. Else somebody could plant their own into the browser of
    another, and be taken for it. What other users of the same browser have moves along.
    """
    agent = client_of(request).user_agent
    token = secrets.token_urlsafe(32)
    if digest := _digest(request):
        rows = KnownBrowser.objects.filter(digest=digest)
        if rows.filter(user=user).update(last_login_at=Now(), user_agent=agent):
            request.browser_token = request.COOKIES[cookie_name()]  # type: ignore[attr-defined]  # for the middleware
            return True
        rows.update(digest=digest_of(token))
    KnownBrowser.objects.create(user=user, digest=digest_of(token), user_agent=agent)
    request.browser_token = token  # type: ignore[attr-defined]  # as above
    return False


def forget(user: User | int, but_of: HttpRequest | None = None) -> int:
    """Take the browsers of a user for unknown, all or all but the one that sends this request; return how many."""
    rows = KnownBrowser.objects.filter(user=user)
    return (rows.exclude(digest=_digest(but_of)) if but_of else rows).delete()[0]


def cookie_name() -> str:
    """Return the name of the cookie: where the site has https, one that only this host can set."""
    return "__Host-browser" if settings.SESSION_COOKIE_SECURE else "browser"


class KnownBrowserMiddleware:
    """Gives the browser the cookie that `remember` has made for it, or the one that it has for another year."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        response = self.get_response(request)
        if token := getattr(request, "browser_token", None):
            response.set_cookie(
                cookie_name(),
                token,
                max_age=COOKIE_AGE,
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=True,
                samesite="Lax",
            )
        return response


def _digest(request: HttpRequest) -> str:
    token = request.COOKIES.get(cookie_name(), "")
    return digest_of(token) if token else ""
