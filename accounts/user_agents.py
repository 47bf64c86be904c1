"""The name that a browser sends, in words. It is whatever the browser says, so it is shown and never relied on."""

from __future__ import annotations

from django.utils.translation import gettext as _

# The first that is found counts: most say that they are also some of those that come later.
_BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Vivaldi/": "Vivaldi",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "Chromium/": "Chromium",
    "Chrome/": "Chrome",
    "CriOS/": "Chrome",
    "Safari/": "Safari",
    "curl/": "curl",
}
_SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "CrOS": "ChromeOS",
    "Windows": "Windows",
    "Macintosh": "macOS",
    "Linux": "Linux",
}


def name_of(user_agent: str) -> str:
    """Return "Firefox on Windows", as far as it can be told; "" if not at all.

    None of its own words: a browser says what it likes, and this goes into mails.
    """
    browser, system = _parts(user_agent)
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system


def in_words(user_agent: str) -> str:
    """Return the same, or for one that is not known as a whole what it says itself."""
    return name_of(user_agent) if all(_parts(user_agent)) else user_agent or _("Unknown browser")


def _parts(user_agent: str) -> tuple[str, str]:
    browser, system = (
        next((name for mark, name in names.items() if mark in user_agent), "") for names in (_BROWSERS, _SYSTEMS)
    )
    return browser, system
