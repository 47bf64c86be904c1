"""The name that a browser sends, in words. It is whatever the browser says, so it is shown and never relied on."""

from __future__ import annotations

from django.utils.translation import gettext as _

# What is built on another browser names that too, so the order counts.
BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "Chromium/": "Chromium",
    "Chrome/": "Chrome",
    "CriOS/": "Chrome",
    "Safari/": "Safari",
}
SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "CrOS": "ChromeOS",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "Linux": "Linux",
}


def in_words(user_agent: str) -> str:
    """Return browser and system, as in "Firefox on Linux"; for one that is not known, the text as it is."""
    browser = next((name for mark, name in BROWSERS.items() if mark in user_agent), "")
    system = next((name for mark, name in SYSTEMS.items() if mark in user_agent), "")
    if not browser or not system:
        return user_agent or _("Unknown browser")
    return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
