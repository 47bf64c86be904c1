"""Names of browsers."""

from __future__ import annotations

import pytest

from accounts.user_agents import in_words

SAFARI = "Version/17.4 Mobile/15E148 Safari/604.1"
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Android 14; Mobile; rv:127.0) Gecko/127.0 Firefox/127.0", "Firefox on Android"),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT}", "Chrome on Windows"),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Edg/126.0.0.0", "Edge on Windows"),
        (f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} OPR/112.0.0.0", "Opera on macOS"),
        (f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {WEBKIT}", "Chrome on ChromeOS"),
        (f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT.replace('Chrome', 'SamsungBrowser/25.0 Chrome')}",
         "Samsung Internet on Android"),
        (f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 {SAFARI}", "Safari on iPhone"),
        (f"Mozilla/5.0 (iPad; CPU OS 17_4 like Mac OS X) AppleWebKit/605.1.15 CriOS/126.0 {SAFARI}", "Chrome on iPad"),
        ("curl/8.5.0", "curl/8.5.0"),
        ("Firefox/1.0", "Firefox/1.0"),
        ("<script>Linux</script>", "<script>Linux</script>"),
        ("", "Unknown browser"),
    ],
)  # fmt: skip
def test_a_known_browser_is_told_with_its_system_and_any_other_as_it_is(user_agent, words):
    assert in_words(user_agent) == words
