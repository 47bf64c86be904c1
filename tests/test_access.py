"""Who may do what: requests of somebody who is not logged in that change something, and ids of other people's things.

Both lists are of all addresses of the site; one that is missing here fails a test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.apps import apps
from django.test import Client

from accounts import tokens
from accounts.door import MFA
from accounts.factors import PASSKEY
from accounts.models import EmailChange, Export, Passkey, SecurityEvent, Session, Throttle, User
from accounts.sessions import digest_of
from accounts.tasks import send_password_reset_email
from tasks.models import Task
from tests.accounts.conftest import browser_of
from tests.conftest import PASSWORD
from tests.test_pages import ADDRESSES, SAMPLES, asks_for_login, path_of, text

UNSAFE = ("post", "put", "patch", "delete")

# Each POST that answers somebody who is not logged in with more than "no", and what it may do for them.
ANONYMOUS_POSTS = {
    "/accounts/disown/<token>/": "removes an unverified account, for whoever has the link from a mail to its address",
    "/accounts/email-change/undo/<token>/": "restores an address, for whoever has the link from a mail to it",
    "/accounts/login/": "logs in, with the password",
    "/accounts/login/passkey/": "logs in, with a passkey",
    "/accounts/login/passkey/options/": "makes the challenge for a passkey",
    "/accounts/login/second-factor/": "logs in, with a code after the password",
    "/accounts/login/second-factor/passkey/": "logs in, with a passkey after the password",
    "/accounts/login/second-factor/passkey/options/": "makes the challenge for it",
    "/accounts/logout/": "ends the session of whoever has one",
    "/accounts/password-reset/": "enqueues a mail",
    "/accounts/password-reset/<token>/": "changes a password, for whoever has the link from a mail to its address",
    "/accounts/signup/": "makes an account and enqueues a mail",
    "/accounts/verify/<token>/": "verifies an address, with the link and the password",
    "/accounts/verify/resend/": "enqueues a mail",
    "/admin/login/": "leads to the login",
    "/examples/visits/<name>/": "counts a visit, where the examples are switched on",
    "/language/": "sets a cookie",
}
# Those that take JSON, which a form of another site cannot send, without a token against forms of other sites.
WITHOUT_CSRF_TOKEN = {
    "/accounts/login/",
    "/accounts/login/second-factor/",
    "/accounts/logout/",
    "/accounts/password-reset/",
    "/accounts/signup/",
    "/accounts/verify/resend/",
}
EXAMPLE = "/examples/visits/<name>/"


def answers(response: Any) -> bool:
    """Return whether it is more than a "no": the way to the login and back, not this method, not allowed."""
    next_path = parse_qs(urlsplit(response.headers.get("Location", "")).query).get("next")
    comes_back = asks_for_login(response) and next_path == [response.request["PATH_INFO"]]
    return not comes_back and response.status_code not in (403, 405)


def test_no_post_of_somebody_who_is_not_logged_in_is_unknown(db):
    found = {
        address for address in ADDRESSES for method in UNSAFE if answers(getattr(Client(), method)(path_of(address)))
    }
    assert sorted(found) == sorted(ANONYMOUS_POSTS)


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_no_form_of_another_site_gets_anywhere(alice, content_type):
    client = Client(enforce_csrf_checks=True, headers={"Origin": "https://evil.example.org"})
    client.force_login(alice)
    for address in {*ADDRESSES} - {EXAMPLE}:
        for method in UNSAFE:
            response = client.generic(method.upper(), path_of(address), "a=b", content_type=content_type)
            is_sent_on = address == "/accounts/signup/" and response.headers.get("Location") == "/accounts/"
            assert response.status_code in (403, 405) or is_sent_on, (method, address)
    assert client.get("/accounts/").status_code == 200


def test_only_json_is_taken_without_a_token(alice):
    def is_taken(address: str) -> bool:
        client = Client(enforce_csrf_checks=True)
        client.force_login(alice)
        body = json.dumps({"email": "x"})
        return client.post(path_of(address), body, content_type="application/json").status_code not in (403, 405)

    assert {address for address in ADDRESSES if is_taken(address)} == WITHOUT_CSRF_TOKEN | {EXAMPLE}


def test_a_get_changes_nothing(operator_client, alice):
    alice.email_verified_at = None
    alice.save()
    samples = {"object_id": str(alice.pk), "id": str(alice.pk)}
    links = [link(alice).removeprefix("http://testserver") for link in (tokens.verification_url, tokens.reset_url)]
    before = rows()
    for path in [*map(path_of, ADDRESSES), *(filled(a, samples) for a in ADDRESSES), *links]:
        operator_client.get(path)
        Client().get(path)
    assert rows() == before


# Other people's things -----------------------------------------------------------------------------------------------


def filled(address: str, samples: dict[str, str]) -> str:
    for name, value in (SAMPLES | samples).items():
        address = address.replace(f"<{name}>", value)
    return address


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return all that the site knows, but for what each request may leave behind."""
    passing = {Session, Throttle, SecurityEvent}
    models = [model for label in ("accounts", "tasks", "admin") for model in apps.get_app_config(label).get_models()]
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values())
        for model in models
        if model not in passing
    }


def passkey_of(user: User) -> str:
    fields = {"credential_id": f"c{user.pk}", "public_key": b"k", "name": f"Key of {user.display_name}"}
    return str(Passkey.objects.create(user=user, **fields).pk)


# What a path names that belongs to one user, and how to make one.
OWNED: dict[str, Callable[[User], dict[str, str]]] = {
    "/accounts/second-factor/passkeys/<passkey_id>/": lambda user: {"passkey_id": passkey_of(user)},
    "/accounts/second-factor/passkeys/<passkey_id>/remove/": lambda user: {"passkey_id": passkey_of(user)},
}
# Keys that nobody can guess, for whoever has got them by mail: see accounts/test_tokens.py and test_properties.py.
LINKS = [
    "/accounts/disown/<token>/",
    "/accounts/email-change/confirm/<token>/",
    "/accounts/email-change/undo/<token>/",
    "/accounts/password-reset/<token>/",
    "/accounts/verify/<token>/",
]
OF_NOBODY = [EXAMPLE]


def test_every_address_with_an_id_is_known():
    found = [address for address in ADDRESSES if "<" in address and not address.startswith("/admin/")]
    assert found == sorted([*OWNED, *LINKS, *OF_NOBODY])


@pytest.fixture
def mallory(db) -> User:
    """Another user."""
    return User.objects.create_user("mallory@example.org", PASSWORD, display_name="Mallory")


@pytest.mark.parametrize("address", OWNED)
def test_nobody_sees_or_changes_what_belongs_to_another(alice, mallory, address):
    path = filled(address, OWNED[address](alice))
    alices = browser_of(alice)
    session = alices.session
    session[MFA] = PASSKEY
    session.save()
    assert alices.get(path).status_code == 200
    client, before = browser_of(mallory), rows()
    for method in ("get", *UNSAFE):
        response = getattr(client, method)(path)
        assert response.status_code in ((404,) if method in ("get", "post") else (404, 405)), method
        assert "Alice" not in text(response)
        missing = getattr(client, method)(filled(address, dict.fromkeys(SAMPLES, "999999")))
        assert missing.status_code == response.status_code  # nobody learns whether there is such a thing
    assert rows() == before


@pytest.mark.parametrize("address", LINKS)
def test_an_id_is_no_key(alice, mallory, address):
    client, before = browser_of(mallory), rows()
    for guess in (str(alice.pk), f"{alice.pk}:", f"{alice.pk}:1abcde:x", alice.email, "1", "0", "-1"):
        for method in ("get", "post"):
            data = {"password": "a new lamp by the lake"}
            response = getattr(client, method)(filled(address, {"token": guess}), data)
            assert response.status_code == 404
            assert alice.email not in text(response).replace(guess, "")
    assert rows() == before


def test_nobody_ends_the_session_of_another(alice, mallory):
    alices, client = browser_of(alice), browser_of(mallory)
    client.post("/accounts/sessions/", {"end": digest_of(alices.session.session_key)})
    client.post("/accounts/sessions/", {"end": alices.session.session_key})
    client.post("/accounts/sessions/", {"end": "all", "user": alice.pk})
    assert alices.get("/accounts/").status_code == 200


def test_nobody_names_another_in_a_form(alice, mallory):
    Export.objects.create(user=alice, expires_at=alice.created_at.replace(year=2099))
    EmailChange.objects.create(user=alice, old_email=alice.email, new_email="new@example.org")
    client = browser_of(mallory)
    before = {label: [row for row in found if belongs_to(row, alice)] for label, found in rows().items()}
    names = {"user": alice.pk, "user_id": alice.pk, "id": alice.pk, "pk": alice.pk, "account": alice.pk}
    data = names | {"old_password": PASSWORD, "password": "a new lamp by the lake", "confirm": "on", "download": "1"}
    for address in ADDRESSES:
        if "<" not in address and address != "/accounts/logout/" and not address.startswith("/admin/"):
            client.post(address, data)
    assert {label: [row for row in found if belongs_to(row, alice)] for label, found in rows().items()} == before


def belongs_to(row: dict[str, Any], user: User) -> bool:
    return row.get("user_id") == user.pk or row.get("email") == user.email


def admin_paths(user: User) -> Iterator[str]:
    send_password_reset_email.enqueue(user.email)
    task = Task.objects.get()
    ids = [str(user.pk), str(task.pk)]
    for address in ADDRESSES:
        if address.startswith("/admin/") and address not in ("/admin/logout/", "/admin/jsi18n/"):
            yield from {filled(address, {"object_id": one, "id": one}) for one in ids}


@pytest.mark.parametrize("is_staff", [False, True])
def test_the_administration_shows_nobody_to_whoever_has_no_rights(alice, mallory, is_staff):
    User.objects.filter(pk=mallory.pk).update(is_staff=is_staff)
    client, paths = browser_of(mallory), list(admin_paths(alice))
    assert len(paths) > 40
    before = rows()
    for path in paths:
        for method in ("get", "post"):
            response = getattr(client, method)(path, {"email": "x@example.org", "post": "yes", "action": "delete"})
            assert response.status_code in (302, 403, 404) or (is_staff and response.status_code in (200, 405)), path
            assert alice.email not in text(response)
    assert rows() == before
