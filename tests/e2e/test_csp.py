"""That a violation of the policy fails the browser tests, whichever kind it is of."""

from __future__ import annotations

import pytest

from tests.processes import until

pytestmark = pytest.mark.browser

ADD = "const it = document.createElement(arguments[0]); Object.assign(it, arguments[1]); document.body.append(it);"
VIOLATIONS = {
    "script-src-elem": (ADD, "script", {"textContent": "document.title = 'owned'"}),
    "script-src-attr": ("document.body.setAttribute('onclick', 'alert()'); document.body.click()",),
    "script-src": ("setTimeout(() => { try { eval('document.title = `owned`') } catch { /* the point */ } })",),
    "style-src-elem": (ADD, "style", {"textContent": "body { color: red }"}),
    "style-src-attr": ("document.body.setAttribute('style', 'color: red')",),
    "img-src": (ADD, "img", {"src": "http://127.0.0.1:1/x.png"}),
    "connect-src": ("fetch('http://127.0.0.1:1/').catch(() => {})",),
    "frame-src": (ADD, "iframe", {"src": "http://127.0.0.1:1/"}),
    "media-src": (ADD, "audio", {"src": "http://127.0.0.1:1/x.ogg"}),
    "object-src": (ADD, "object", {"data": "/favicon.ico"}),
    "worker-src": ("try { new Worker('data:,') } catch { /* the point */ }",),
    "base-uri": (ADD, "base", {"href": "http://127.0.0.1:1/"}),
    "form-action": (
        "const form = document.createElement('form'); form.action = 'http://127.0.0.1:1/';"
        "document.body.append(form); form.submit()",
    ),
}


def test_each_kind_of_violation_is_blocked_and_fails_the_test(site, browser):
    missed = []
    for directive, (script, *arguments) in VIOLATIONS.items():
        browser.get(f"{site.url}/accounts/login/")
        browser.assert_no_errors()
        browser.execute_script(script, *arguments)
        try:
            until(lambda name=directive: any(f"CSP: {name} (enforce)" in error for error in browser.errors()), 5)
        except AssertionError:
            missed.append((directive, list(browser.seen)))
        assert browser.title != "owned", directive
        with pytest.raises(AssertionError):
            browser.assert_no_errors()
        browser.seen.clear()
    assert missed == []


def test_a_violation_is_seen_without_scripts_too_and_survives_other_errors(site, browser):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(f"{site.url}/accounts/login/")
    browser.execute_script("document.body.setAttribute('style', 'color: red')")
    browser.get(f"{site.url}/nowhere/")
    browser.expect(404)
    with pytest.raises(AssertionError, match="style"):
        browser.assert_no_errors()
    browser.seen.clear()


def test_what_was_no_error_cannot_be_expected(site, browser):
    browser.get(f"{site.url}/nowhere/")
    with pytest.raises(AssertionError, match="no page had the status 403"):
        browser.expect(403)
    browser.expect(404)
