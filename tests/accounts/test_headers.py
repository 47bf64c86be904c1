"""Headers: nothing of an account stays in a browser that has logged out, and pages may do nothing special."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.test import Client

from accounts import tokens
from accounts.headers import PERMISSIONS_POLICY
from accounts.models import Session
from config.message_cookie import MessageCookie
from tests.conftest import PASSWORD
from tests.test_pages import ADDRESSES, path_of

NEVER = {"max-age=0", "no-cache", "no-store", "must-revalidate", "private"}
CLEAR = '"cache", "storage"'


def caching_of(response) -> set[str]:
    return set(filter(None, response.headers.get("Cache-Control", "").split(", ")))


def test_no_page_of_somebody_who_is_logged_in_is_kept(operator_client):
    pages = [operator_client.get(path_of(address)) for address in ADDRESSES if "logout" not in address]
    assert [page.request["PATH_INFO"] for page in pages if not caching_of(page) >= NEVER] == []
    assert len(pages) > 50


def test_neither_is_an_error_page_nor_the_answer_to_a_login(client, alice):
    data = {"username": alice.email, "password": PASSWORD}
    assert caching_of(client.post("/accounts/login/", data)) >= NEVER
    assert caching_of(client.get("/nothing/")) >= NEVER
    client.handler.enforce_csrf_checks = True
    assert caching_of(client.post("/accounts/password-change/")) >= NEVER


def test_a_page_for_everybody_may_be_kept(client, db):
    assert caching_of(client.get("/")) == set()


def test_static_files_are_kept_whoever_asks(operator_client):
    response = operator_client.get("/robots.txt")
    assert "no-store" not in caching_of(response)
    response.close()


@pytest.mark.parametrize("path", ["/accounts/logout/", "/admin/logout/"])
def test_a_logout_makes_the_browser_forget_pages_and_storage_but_no_other_cookies(operator_client, path):
    operator_client.cookies["language"] = "de"
    response = operator_client.post(path)
    assert response["Clear-Site-Data"] == CLEAR
    assert caching_of(response) >= NEVER
    assert response.cookies["session"]["max-age"] == 0
    assert {name for name, cookie in response.cookies.items() if cookie["max-age"] == 0} == {"session"}
    assert "Clear-Site-Data" not in operator_client.get("/")


def test_so_does_a_session_that_was_ended_from_elsewhere(client, alice):
    client.force_login(alice)
    assert "Clear-Site-Data" not in client.get("/accounts/")
    Session.objects.all().delete()
    response = client.get("/accounts/")
    assert response.status_code == 302
    assert response["Clear-Site-Data"] == CLEAR
    assert "session" not in client.cookies or not client.cookies["session"].value


def test_somebody_who_was_not_logged_in_has_nothing_to_forget(client, alice):
    for response in (client.post("/accounts/logout/"), client.get("/accounts/"), client.get("/")):
        assert "Clear-Site-Data" not in response
    assert "Clear-Site-Data" not in client.post("/accounts/login/", {"username": alice.email, "password": PASSWORD})


@pytest.mark.parametrize("path", ["/", "/accounts/", "/admin/", "/nothing/", "/health/live", "/accounts/signup/"])
def test_every_answer_keeps_to_itself_and_gives_no_rights_away(client, operator, path):
    for response in (client.get(path), client.post(path)):
        assert response["Permissions-Policy"] == PERMISSIONS_POLICY
        assert response["Cross-Origin-Opener-Policy"] == "same-origin"
        assert response["Cross-Origin-Resource-Policy"] == "same-origin"
        assert not [name for name in response.headers if name.startswith("Access-Control-")]


def test_passkeys_are_the_only_thing_that_pages_may_ask_the_browser_for():
    policy = dict(part.split("=") for part in PERMISSIONS_POLICY.split(", "))
    assert {name for name, allowed in policy.items() if allowed != "()"} == {
        "publickey-credentials-create",
        "publickey-credentials-get",
    }
    assert {policy[name] for name in policy if name.startswith("publickey")} == {"(self)"}
    assert {"camera", "microphone", "geolocation", "payment", "usb"} < {*policy}


def test_our_scripts_use_nothing_that_is_closed():
    asked = re.compile(r"navigator\.(\w+)|requestFullscreen|document\.(exitFullscreen|pictureInPicture\w+)")
    allowed = {"credentials", "clipboard", "language", "languages", "userAgent"}
    static = Path(__file__).parents[2] / "static"
    used = {match[1] or match[0] for path in static.rglob("*.js") for match in asked.finditer(path.read_text())}
    assert used <= allowed


def test_our_scripts_store_nothing_in_the_browser():
    scripts = list((Path(__file__).parents[2] / "static").rglob("*.js"))
    stores = re.compile(r"localStorage|sessionStorage|indexedDB|document\.cookie|caches\.open|postMessage")
    assert len(scripts) >= 3
    assert [path.name for path in scripts if stores.search(path.read_text())] == []


def test_a_site_with_https_has_hsts_for_a_year_and_cookies_of_its_own(settings, alice):
    settings.SECURE_SSL_REDIRECT = settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.SECURE_HSTS_SECONDS, settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = 31_536_000, True
    settings.SECURE_HSTS_PRELOAD = True
    settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME = "__Host-session", "__Host-csrf"
    client = Client()
    assert client.get("/accounts/login/")["Location"] == "https://testserver/accounts/login/"
    page = client.get("/accounts/login/", secure=True)
    assert page["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    data = {"username": alice.email, "password": PASSWORD}
    response = client.post("/accounts/login/", data, secure=True, headers={"Referer": "https://testserver/"})
    for cookie in (page.cookies["__Host-csrf"], response.cookies["__Host-session"]):
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Lax")
        assert (cookie["path"], cookie["domain"]) == ("/", "")


def test_the_cookies_of_language_and_messages_are_like_the_others(settings, alice, monkeypatch):
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = settings.LANGUAGE_COOKIE_SECURE = True
    settings.LANGUAGE_COOKIE_NAME = "__Host-language"
    monkeypatch.setattr(MessageCookie, "cookie_name", "__Host-messages")
    client = Client()
    client.post("/language/", {"language": "de"})
    address = tokens.reset_url(alice).removeprefix("http://testserver")
    client.post(address, {"password": "another lamp by the sea"})
    assert {name for name in client.cookies if name.startswith("__Host-")} >= {"__Host-language", "__Host-messages"}
    for cookie in client.cookies.values():
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Lax"), cookie.key
        assert (cookie["path"], cookie["domain"]) == ("/", "")
    assert '<html lang="de"' in client.get("/accounts/login/").content.decode()
    assert client.cookies["__Host-messages"]["max-age"] == 0
