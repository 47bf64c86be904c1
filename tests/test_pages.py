"""What holds for every page: who may open it, what it may load, how it looks when something is wrong."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.db.models.functions import Now
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import translation

from accounts import tokens
from accounts.events import Kind, record
from accounts.models import EmailChange, User
from tasks.testing import run_enqueued
from tests.accounts.conftest import proved
from tests.processes import ROOT

POLICY = {
    "default-src 'self'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "object-src 'none'",
}

# Every address that answers somebody who is not logged in. A new one has to be added here on purpose.
OPEN = [
    "/",
    "/accounts/disown/<token>/",
    "/accounts/email-change/undo/<token>/",
    "/accounts/login/",
    "/accounts/login/passkey/",
    "/accounts/login/passkey/options/",
    "/accounts/login/second-factor/",
    "/accounts/login/second-factor/passkey/",
    "/accounts/login/second-factor/passkey/options/",
    "/accounts/logout/",
    "/accounts/password-reset/",
    "/accounts/password-reset/<token>/",
    "/accounts/password-reset/check-inbox/",
    "/accounts/signup/",
    "/accounts/signup/check-inbox/",
    "/accounts/verify/<token>/",
    "/accounts/verify/resend/",
    "/accounts/verify/resend/check-inbox/",
    "/examples/visits/<name>/",
    "/health/live",
    "/health/ready",
    "/language/",
]
# The one page that may stand in a frame of this site, with a policy of its own: the HTML part of a sample of a mail.
FRAMED = "/admin/accounts/user/mails/<mail>/<language>/html/"
LANGUAGES = [code for code, _name in settings.LANGUAGES]
SAMPLES = {
    "app_label": "accounts",
    "content_type_id": "1",
    "object_id": "1",
    "id": "1",
    "passkey_id": "1",
    "language": "en",
    "mail": "welcome",
    "name": "home",
    "token": "x",
    "url": "none",
}


def addresses(patterns: list[URLPattern | URLResolver], prefix: str = "/") -> Iterator[str]:
    """Return all addresses, with <name> where a parameter goes."""
    for pattern in patterns:
        route = re.sub(
            r"\(\?P(<\w+>)[^)]*\)|<\w+:(\w+)>", lambda match: match[1] or f"<{match[2]}>", str(pattern.pattern)
        )
        address = prefix + route.removeprefix("^").removesuffix("$").removesuffix(r"\Z")
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, address)
        else:
            yield address


ADDRESSES = sorted(set(addresses(get_resolver("config.urls").url_patterns)))


def path_of(address: str) -> str:
    return re.sub(r"<(\w+)>", lambda match: SAMPLES[match[1]], address)


def asks_for_login(response) -> bool:
    return response.status_code == 302 and response["Location"].startswith(("/accounts/login/?", "/admin/login/?"))


def policy_of(response) -> set[str]:
    return {part.strip() for part in response["Content-Security-Policy"].split(";")}


def text(response) -> str:
    return response.content.decode()


def test_addresses_are_found_in_every_part_of_the_urlconf():
    assert {"/", "/accounts/", "/admin/", "/admin/accounts/user/<id>/password/", "/admin/<app_label>/"} <= {*ADDRESSES}


def test_only_the_listed_addresses_answer_somebody_who_is_not_logged_in(client, operator):
    methods = ("get", "post", "put", "options")
    is_open = {
        address
        for address in ADDRESSES
        for method in methods
        if not asks_for_login(getattr(client, method)(path_of(address)))
    }
    assert sorted(is_open) == OPEN


def test_an_address_that_does_not_exist_asks_nobody_for_a_login(client, db):
    assert client.get("/nothing/").status_code == 404


@pytest.mark.parametrize("who", ["nobody", "operator"])
def test_every_page_has_the_strict_policy_and_nothing_that_it_would_block(client, operator, who):
    if who == "operator":
        client.force_login(operator)
        proved(client)
    pages = 0
    for address in ADDRESSES:
        response = client.get(path_of(address))
        if address == FRAMED and who == "operator":
            continue  # see tests/accounts/test_mail_list.py
        assert policy_of(response) == POLICY, address
        assert response["X-Frame-Options"] == "DENY", address
        assert response["X-Content-Type-Options"] == "nosniff", address
        is_behind_a_link = "<token>" in address and response.status_code != 302
        assert response["Referrer-Policy"] == ("strict-origin" if is_behind_a_link else "same-origin"), address
        if response["Content-Type"].startswith("text/html"):
            pages += bool(response.content)
            assert not re.search(r"<script(?![^>]*\b(src=|type=\"application/json\"))", text(response)), address
            assert not re.search(r"<style|<[^>]+ style=|<[^>]+ on\w+=|javascript:", text(response)), address
            assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"(https?:)?//", text(response)), address
    assert pages > 5


def test_the_home_page_leads_to_signup_and_login(client, db):
    page = text(client.get("/"))
    assert "<title>Welcome · Steward</title>" in page
    assert '<a class="button big" href="/accounts/signup/">Create an account</a>' in page
    assert '<a class="big" href="/accounts/login/">Log in</a>' in page
    assert "Administration" not in page
    assert "/dev/mail/" not in page


def test_the_home_page_leads_a_user_to_the_account(client, alice):
    client.force_login(alice)
    page = text(client.get("/"))
    assert '<a class="button big" href="/accounts/">Your account</a>' in page
    assert '<form method="post" action="/accounts/logout/">' in page
    assert "Administration" not in page


def test_the_home_page_leads_an_administrator_to_the_administration(operator_client):
    assert '<a href="/admin/">Administration</a>' in text(operator_client.get("/"))


# Errors --------------------------------------------------------------------------------------------------------------


def breaks(execute, sql, params, many, context):
    raise OperationalError("the disk is full")


def error_400(client):
    return client.get("/", headers={"Host": "evil.example.org"})


def error_403(client):
    User.objects.update(is_staff=True)
    client.force_login(User.objects.get())
    return client.get("/admin/accounts/user/")


def error_403_csrf(client):
    client.handler.enforce_csrf_checks = True
    return client.post("/accounts/login/")


def error_404(client):
    return client.get("/nothing/here/")


def error_429(client):
    for _number in range(6):
        response = client.post("/accounts/login/", {"username": "alice@example.org", "password": "x"})
    return response


def error_500(client):
    client.raise_request_exception = False
    with connection.execute_wrapper(breaks):
        return client.post("/accounts/login/", {"username": "alice@example.org", "password": "x"})


ERRORS = [
    (error_400, 400, "That request makes no sense"),
    (error_403, 403, "Not allowed"),
    (error_403_csrf, 403, "Not allowed"),
    (error_404, 404, "There is no such page"),
    (error_429, 429, "That was too often"),
    (error_500, 500, "That is our fault"),
]


@pytest.mark.parametrize(("cause", "status", "heading"), ERRORS)
def test_an_error_page_has_our_look_and_the_strict_policy(client, alice, cause, status, heading):
    response = cause(client)
    assert response.status_code == status
    page = text(response)
    assert f"<title>{heading} · Steward</title>" in page
    assert f"<h1>{heading}</h1>" in page
    assert '<link rel="stylesheet" href="/static/steward.css">' in page
    assert '<a class="button" href="/">Home page</a>' in page
    assert policy_of(response) == POLICY


@pytest.mark.parametrize(("cause", "status", "heading"), ERRORS)
def test_an_error_page_tells_nothing_of_the_inside(client, alice, cause, status, heading):
    page = text(cause(client))
    for secret in (
        "Traceback",
        "the disk is full",
        "OperationalError",
        "SECRET_KEY",
        "alice@example.org",
        "CSRF cookie",
    ):
        assert secret not in page


@pytest.mark.parametrize(
    ("cause", "heading"),
    [
        (error_403_csrf, {"de": "Nicht erlaubt", "fr": "Accès refusé"}),
        (error_404, {"de": "Diese Seite gibt es nicht", "fr": "Cette page n’existe pas"}),
        (error_500, {"de": "Der Fehler liegt bei uns", "fr": "L’erreur vient de chez nous"}),
    ],
)
@pytest.mark.parametrize("language", ["de", "fr"])
def test_an_error_page_speaks_the_language_of_the_visitor(client, alice, cause, heading, language):
    client.cookies["language"] = language
    assert f"<h1>{heading[language]}</h1>" in text(cause(client))


# What every page of ours has ------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The elements of a page, each with its attributes and its text."""

    EMPTY = ("base", "br", "hr", "img", "input", "link", "meta")

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[dict[str, str]] = []
        self.open: list[dict[str, str]] = []
        self.feed(source)
        self.close()
        assert [element["tag"] for element in self.open] == []

    def handle_starttag(self, tag, attrs):
        element = {name: value or "" for name, value in attrs} | {"tag": tag, "text": ""}
        self.elements.append(element)
        if tag not in self.EMPTY:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [element for element in self.elements if element["tag"] in tags]


def faults(source: str) -> list[str]:
    """Return what a page lacks that everybody needs who does not see it, or has no mouse."""
    page = Page(source)
    ids = [element["id"] for element in page.elements if "id" in element]
    labels = {label.get("for"): label["text"].strip() for label in page.all("label")}
    inputs = [
        field
        for field in page.all("input", "select", "textarea")
        if field.get("type") != "hidden" and "hidden" not in field
    ]
    titles = "".join(title["text"] for title in page.all("title"))
    buttons = [button for button in page.all("button", "a") if not button["text"].strip()]
    return [
        *(["language"] if not {html.get("lang") for html in page.all("html")} <= {*LANGUAGES} else []),
        *(["h1"] if len([h1 for h1 in page.all("h1") if h1["text"].strip()]) != 1 else []),
        *(["title"] if not re.fullmatch(r"\S.+ · \S+", titles) else []),
        *(["main"] if [main.get("id") for main in page.all("main")] != ["main"] else []),
        *(["skip link"] if [(a["class"], a["href"]) for a in page.all("a")[:1]] != [("skip", "#main")] else []),
        *(f"label of {field.get('name')}" for field in inputs if not labels.get(field.get("id"))),
        *(f"text of {image.get('src')}" for image in page.all("img") if "alt" not in image),
        *(f"name of {button['tag']}" for button in buttons),
        *(f"list with the role {found['role']}" for found in page.all("ul", "ol") if "role" in found),
        *(f"one {name}" for name in sorted({*ids}) if ids.count(name) > 1),
    ]


GOOD = (
    '<html lang="en"><head><title>Home · Steward</title></head><body><a class="skip" href="#main">Skip</a>'
    '<main id="main"><h1>Home</h1><label for="a">A</label><input id="a" name="a"><img src="x" alt="">'
    "</main></body></html>"
)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (' lang="en"', "", "language"),
        ("<h1>Home</h1>", "<h2>Home</h2>", "h1"),
        ("<h1>Home</h1>", "<h1>Home</h1><h1>Home</h1>", "h1"),
        ("Home · Steward", " · Steward", "title"),
        ('<main id="main">', "<main>", "main"),
        ('href="#main"', 'href="#top"', "skip link"),
        ('for="a"', 'for="b"', "label of a"),
        (' alt=""', "", "text of x"),
        ("<h1>", "<button></button><h1>", "name of button"),
        ("<h1>", '<ul role="status"><li>Done</li></ul><h1>', "list with the role status"),
        ("<h1>", '<p id="a"></p><h1>', "one a"),
    ],
)
def test_what_a_page_lacks_is_found(old, new, fault):
    assert faults(GOOD) == []
    assert faults(GOOD.replace(old, new)) == [fault]


def pages_of_a_change(client: Client, alice: User, new: User) -> list[Any]:
    """The pages around a change of address, in every state, for Alice, who is logged in."""
    session = client.session
    session["proved_at"] = int(time.time())
    session.save()
    own, other, taken = (
        EmailChange.objects.create(user=user, old_email=user.email, new_email=email)
        for user, email in ((alice, "alice@new.example.org"), (new, "x@example.org"), (alice, "new@example.org"))
    )
    links = [tokens.confirm_change_url(change).removeprefix("http://testserver") for change in (own, other, taken)]
    pages = [client.get("/accounts/email-change/"), client.post("/accounts/email-change/", {"email": "x"})]
    pages += [client.get(link) for link in (*links, "/accounts/email-change/confirm/x/")] + [client.post(links[2])]
    EmailChange.objects.filter(pk=own.pk).update(confirmed_at=Now())
    undo = tokens.undo_change_url(own).removeprefix("http://testserver")
    visitor = Client()
    visitor.cookies["language"] = client.cookies["language"].value
    return [*pages, visitor.get(undo), visitor.get("/accounts/email-change/undo/x/")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_of_ours_can_be_used_without_eyes_and_without_a_mouse(client, alice, language):
    new = User.objects.create_user("new@example.org", "x")
    usable, used = (tokens.verification_url(user).removeprefix("http://testserver") for user in (new, alice))
    client.cookies["language"] = language
    pages = [client.get(path) for path in ("/", "/accounts/signup/", "/accounts/signup/check-inbox/")]
    pages += [client.get(path) for path in ("/accounts/login/", usable, used, "/accounts/verify/x/", "/nothing/")]
    pages += [client.get(link.replace("/verify/", "/disown/")) for link in (usable, used, "/accounts/verify/x/")]
    pages += [client.post(usable, {"password": "wrong"})]
    pages += [client.get(path) for path in ("/accounts/password-reset/", "/accounts/password-reset/check-inbox/")]
    reset = tokens.reset_url(new).removeprefix("http://testserver")
    pages += [client.get(reset), client.get("/accounts/password-reset/x/"), client.post(reset, {"password": "x"})]
    pages += [client.get(path) for path in ("/accounts/verify/resend/", "/accounts/verify/resend/check-inbox/")]
    pages += [client.post(f"/accounts/{path}/", {"email": "x"}) for path in ("password-reset", "verify/resend")]
    pages += [client.post("/accounts/signup/", {"email": "x"}), client.post("/accounts/login/", {"username": "x"})]
    client.force_login(alice)
    pages += [
        client.get(path)
        for path in ("/", "/accounts/", "/accounts/password-change/", "/accounts/sessions/", "/accounts/security/")
    ]
    pages += pages_of_a_change(client, alice, new)
    pages += [client.get(f"/accounts/{path}/") for path in ("reauthenticate", "second-factor")]
    pages += [client.post("/accounts/password-change/", {"old_password": "x"})]
    proved(client)
    pages += [client.get(path) for path in ("/accounts/export/", "/accounts/delete/")]
    pages += [client.post(path, follow=True) for path in ("/accounts/export/", "/accounts/delete/")]
    run_enqueued()
    pages += [client.get(path) for path in ("/accounts/export/", "/accounts/delete/", "/accounts/")]
    pages += [client.post("/accounts/keep/", follow=True)]
    assert '<ul class="messages">' in text(pages[-1])
    assert [(page.request["PATH_INFO"], faults(text(page))) for page in pages if faults(text(page))] == []
    assert {Page(text(page)).all("html")[0]["lang"] for page in pages} == {language}
    assert sum(len(Page(text(page)).all("label")) for page in pages) >= 10


@pytest.mark.parametrize(("cause", "status", "heading"), ERRORS)
def test_an_error_page_can_be_used_without_eyes_and_without_a_mouse(client, alice, cause, status, heading):
    assert faults(text(cause(client))) == []


def test_the_login_page_has_the_name_of_the_site_like_every_other_page(client, db):
    assert "<title>Log in · Steward</title>" in text(client.get("/accounts/login/"))


@pytest.mark.parametrize(
    "cause",
    [
        error_400,
        error_403,
        error_403_csrf,
        error_404,
        error_429,
        error_500,
    ],
)
def test_a_form_on_an_error_page_has_its_token(client, alice, cause):
    page = text(cause(client))
    assert page.count('method="post"') == page.count('name="csrfmiddlewaretoken"')


@pytest.mark.parametrize(
    ("name", "content_type"), [("favicon.ico", "image/"), ("robots.txt", "text/plain")], ids=["favicon", "robots"]
)
def test_what_browsers_and_robots_ask_for_without_being_told_is_there(client, db, name, content_type):
    response = client.get(f"/{name}")
    assert response.status_code == 200
    assert response["Content-Type"].startswith(content_type)
    assert b"".join(response) == (ROOT / "public" / name).read_bytes()
    response.close()


# Languages -----------------------------------------------------------------------------------------------------------


def test_a_page_is_in_the_language_that_the_browser_asks_for(client, db):
    english = client.get("/")
    assert '<html lang="en">' in text(english)
    for language, asked, words in [("de", "de-AT", "Konto anlegen"), ("fr", "fr-CA", "Créer un compte")]:
        page = client.get("/", headers={"Accept-Language": f"{asked}, en;q=0.5"})
        assert f'<html lang="{language}">' in text(page)
        assert words in text(page)
        assert "Accept-Language" in page["Vary"]


@pytest.mark.xdist_group("languages")  # the second needs the first in its process
@pytest.mark.parametrize("time", [1, 2])
def test_the_language_of_one_test_is_gone_in_the_next(client, db, time):
    assert translation.get_language() == "en"
    client.get("/", headers={"Accept-Language": "de"})
    assert translation.get_language() == "de"


@pytest.mark.parametrize(("language", "name"), [("de", "Deutsch"), ("fr", "Français")])
def test_the_language_can_be_switched_and_stays(client, db, language, name):
    response = client.post("/language/", {"language": language, "next": "/accounts/login/"})
    assert (response.status_code, response["Location"]) == (302, "/accounts/login/")
    assert response.cookies["language"].value == language
    page = text(client.get("/accounts/login/", headers={"Accept-Language": "en"}))
    assert f'<html lang="{language}">' in page
    button = f'<button class="link" name="language" value="{language}" lang="{language}"'
    assert f'{button} aria-current="true">{name}</button>' in page
    client.post("/language/", {"language": "en"})
    assert '<html lang="en">' in text(client.get("/"))


def test_a_language_that_is_not_spoken_changes_nothing(client, db):
    client.post("/language/", {"language": "fi"})
    assert '<html lang="en">' in text(client.get("/"))


@pytest.mark.parametrize("address", ["https://evil.example.org/", "//evil.example.org/", "/\\evil.example.org"])
def test_the_language_switch_never_leads_to_another_site(client, db, address):
    response = client.post("/language/", {"language": "de", "next": address})
    assert (response.status_code, response["Location"]) == (302, "/")


def test_the_language_switch_comes_back_to_its_page(client, db):
    page = text(client.get("/accounts/login/?next=/accounts/"))
    assert '<input type="hidden" name="next" value="/accounts/login/?next=/accounts/">' in page


def test_what_a_task_and_an_event_are_is_told_in_the_language_too(operator_client, operator):
    event = record(Kind.LOGIN, user=operator)
    german = {"Accept-Language": "de"}
    page = text(operator_client.get(f"/admin/accounts/securityevent/{event.pk}/change/", headers=german))
    assert "Anmeldung" in page
    assert "succeeded" not in page
    page = text(operator_client.get("/admin/tasks/task/", headers=german))
    assert all(f">{state}</a>" in page for state in ("Bereit", "Läuft", "Fehlgeschlagen", "Erfolgreich"))


@pytest.mark.parametrize(("language", "title"), [("de", "Verwaltung von Steward"), ("fr", "Administration de Steward")])
def test_the_administration_speaks_the_language_too(operator_client, language, title):
    assert title in text(operator_client.get("/admin/", headers={"Accept-Language": language}))
