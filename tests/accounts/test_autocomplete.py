"""What browsers and password managers are told of each field, in the tokens of HTML's autofill."""

from __future__ import annotations

import pytest

from accounts import tokens
from accounts.models import User
from tests.accounts.conftest import proved
from tests.test_pages import ADDRESSES, Page, path_of, text

FIELDS = {
    "/accounts/signup/": {"display_name": "name", "email": "username", "password": "new-password"},
    "/accounts/login/": {"username": "username", "password": "current-password"},
    "/accounts/password-reset/": {"email": "username"},
    "/accounts/password-reset/<token>/": {"": "username", "password": "new-password"},
    "/accounts/verify/resend/": {"email": "username"},
    "/accounts/password-change/": {"": "username", "old_password": "current-password", "password": "new-password"},
    "/accounts/reauthenticate/": {"": "username", "password": "current-password"},
    "/admin/accounts/user/<id>/password/": {"password1": "new-password", "password2": "new-password"},
    "/admin/accounts/user/add/": {"password1": "new-password", "password2": "new-password"},
}
"""The tokens of each page's fields; "" is the field without a name, which only tells managers whose password it is."""


def page_at(client, address: str) -> Page | None:
    """Return the page, None if it is none; a link is made for Alice, a person that is asked for is Alice."""
    alice = User.objects.get(email="alice@example.org")
    path = path_of(address).replace("/user/1/", f"/user/{alice.pk}/")
    if address == "/accounts/password-reset/<token>/":
        path = tokens.reset_url(alice).removeprefix("http://testserver")
    response = client.get(path)
    is_page = response.status_code == 200 and response["Content-Type"].startswith("text/html")
    return Page(text(response)) if is_page else None


def opened(client, operator, address: str) -> Page | None:
    """Return the page as a visitor sees it, else as an administrator does."""
    client.logout()
    if page := page_at(client, address):
        return page
    client.force_login(operator)
    proved(client)
    return page_at(client, address)


@pytest.mark.parametrize("address", FIELDS)
def test_each_field_says_what_goes_into_it(client, alice, operator, address):
    page = opened(client, operator, address)
    assert page is not None
    found = {field.get("name", ""): field.get("autocomplete") for field in page.all("input")}
    assert {name: token for name, token in found.items() if token} == FIELDS[address]
    passwords = [field["name"] for field in page.all("input") if field.get("type") == "password"]
    assert set(passwords) <= set(FIELDS[address])


def test_every_page_with_a_password_is_in_the_table_and_none_keeps_managers_out(client, alice, operator):
    with_password = set()
    for address in ADDRESSES:
        page = opened(client, operator, address)
        if page is None:
            continue
        fields = page.all("input", "form", "select", "textarea")
        assert [field for field in fields if field.get("autocomplete") == "off"] == [], address
        assert [field for field in fields if "readonly" in field and field.get("type") == "password"] == [], address
        if any(field.get("type") == "password" for field in fields):
            with_password.add(address)
    assert with_password == {
        address for address, fields in FIELDS.items() if any("password" in name for name in fields)
    }


def test_a_password_manager_is_told_whose_password_is_chosen(client, alice, operator):
    page = page_at(client, "/accounts/password-reset/<token>/")
    assert page is not None
    (field,) = [field for field in page.all("input") if field.get("autocomplete") == "username"]
    assert (field["value"], "hidden" in field, "name" in field) == (alice.email, True, False)
