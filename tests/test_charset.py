"""Requests in another encoding than UTF-8."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.conftest import PASSWORD

LOGIN = "/accounts/login/"


def send(client: Client, charset: str, **fields: bytes):
    """Send a form as browsers send files, and claim that it is in this encoding."""
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in fields.items()
    ]
    content_type = f"multipart/form-data; boundary=x; charset={charset}"
    return client.generic("POST", LOGIN, b"".join([*parts, b"--x--\r\n"]), content_type=content_type)


@pytest.mark.parametrize("charset", ["utf-7", "unicode_escape", "rot13", "utf-16", "base64", "latin-1"])
def test_a_form_in_another_encoding_is_refused(client, db, charset):
    half = {"utf-7": b"+2AA-", "unicode_escape": rb"\ud800"}.get(charset, b"x")
    for field in ("username", "password", "next"):
        data = {"username": b"alice@example.org", "password": PASSWORD.encode(), "next": b"/"} | {field: half}
        assert send(client, charset, **data).status_code == 400


@pytest.mark.parametrize("charset", ["utf-7", "unicode_escape"])
def test_so_is_an_address_in_one(client, db, charset):
    response = client.get(LOGIN + "?next=/%2B2AA-", CONTENT_TYPE=f"text/plain; charset={charset}")
    assert response.status_code == 400
    assert "Permissions-Policy" in response


@pytest.mark.parametrize(
    "path",
    ["accounts/user/?q=%00", "accounts/securityevent/?outcome=%00", "accounts/securityevent/?kind__exact=%00x",
     "tasks/task/?queue_name=%00", "accounts/user/?e=%2500"],
)  # fmt: skip
def test_a_nul_in_an_address_is_refused(operator_client, path):
    assert operator_client.get(f"/admin/{path}").status_code == (200 if "%2500" in path else 400)


def test_a_nul_in_the_path_of_a_page_leads_to_nothing(operator_client):
    for path in ("/admin/accounts/user/%00/change/", "/admin/tasks/task/%00/change/", "/accounts/verify/%00/"):
        assert operator_client.get(path).status_code in (302, 404)


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "utf8", "unheard-of"])
def test_a_form_in_utf_8_is_taken(client, alice, charset):
    response = send(client, charset, username=alice.email.encode(), password=PASSWORD.encode())
    assert (response.status_code, response["Location"]) == (302, "/accounts/")
