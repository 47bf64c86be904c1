"""Headers that keep what a page shows to its user, and from doing what it has no need for.

The others are Django's (SecurityMiddleware, XFrameOptionsMiddleware) and django-csp's, see config/settings.py.
"""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.cache import add_never_cache_headers

# Passkeys are the one thing that we use. Every name is one that browsers know: they complain of others.
_FOR_US = ("publickey-credentials-create", "publickey-credentials-get")
_FOR_NOBODY = (
    "accelerometer", "autoplay", "browsing-topics", "camera", "display-capture", "encrypted-media",
    "fullscreen", "geolocation", "gyroscope", "hid", "idle-detection", "local-fonts", "magnetometer", "microphone",
    "midi", "payment", "picture-in-picture", "screen-wake-lock", "serial", "usb", "window-management",
    "xr-spatial-tracking",
)  # fmt: skip
PERMISSIONS_POLICY = ", ".join([*(f"{name}=(self)" for name in _FOR_US), *(f"{name}=()" for name in _FOR_NOBODY)])

CLEAR_SITE_DATA = '"cache", "storage"'
"""What a browser forgets when its session ends: pages, also those behind the back button, and what scripts have stored.

Not "cookies": that would take the language with it, and by what a known browser is recognised, whose user could then be
locked out by strangers. The one cookie of the session expires by its own header.
"""


class HeadersMiddleware:
    """Adds them to each answer but static files, which do not get here."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request.

        Whoever has the cookie of a session counts as signed in: to look would cost a query on pages that need none.
        A session that has ended by itself, or was ended from elsewhere, is treated like one that its user has left.
        """
        response = self.get_response(request)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        had_session = bool(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
        has_session = bool(request.session.session_key)
        if had_session or has_session:
            add_never_cache_headers(response)
        if had_session and not has_session:
            response.headers["Clear-Site-Data"] = CLEAR_SITE_DATA
        return response
