"""The pages under /dev/mail/."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from django.core.mail import EmailMultiAlternatives, get_connection

from accounts import emails
from devmail.backend import box
from tests.devmail.conftest import MAILBOX

pytestmark = [pytest.mark.urls("tests.devmail.urls"), pytest.mark.django_db]


def deliver(subject: str = "Hello", text: str = "text", html: str = "", **headers: str) -> str:
    """Deliver a mail and return its key."""
    before = set(box().keys())
    mail = EmailMultiAlternatives(subject, text, "site@example.org", ["alice@example.org"], headers=headers)
    if html:
        mail.attach_alternative(html, "text/html")
    get_connection(MAILBOX).send_messages([mail])
    [key] = set(box().keys()) - before
    return key


def text(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.urls("config.urls")
@pytest.mark.parametrize("path", ["", "{key}/", "{key}/html/"])
def test_with_debug_off_there_is_no_such_page(client, path):
    response = client.get("/dev/mail/" + path.format(key=deliver()))
    assert response.status_code == 404
    assert "There is no such page" in response.content.decode()


def test_an_empty_mailbox_says_what_to_look_for(client):
    assert "No mail yet. Mails are sent by the cluster" in text(client.get("/dev/mail/"))


def test_the_inbox_lists_mails_the_newest_first(client):
    deliver("first", Date="Mon, 01 Jun 2026 10:00:00 -0000")
    deliver("third", Date="Mon, 01 Jun 2026 12:00:00 +0000")
    deliver("second", Date="Mon, 01 Jun 2026 13:00:00 +0200")
    page = text(client.get("/dev/mail/"))
    assert re.findall(r">(first|second|third)</a>", page) == ["third", "second", "first"]
    assert page.count("<td>alice@example.org</td>") == 3


def test_times_are_shown_in_the_time_zone_of_the_site(client, settings):
    settings.TIME_ZONE = "Europe/Berlin"
    key = deliver(Date="Mon, 01 Jun 2026 10:00:00 -0000")
    assert "2026-06-01 12:00:00" in text(client.get("/dev/mail/"))
    assert "2026-06-01 12:00:00 CEST" in text(client.get(f"/dev/mail/{key}/"))


@pytest.mark.parametrize(
    "date",
    [
        "",
        "nonsense",
        "Mon, 99 Jun 2026 10:00:00 +0000",
        "Mon, 01 Jun 2026 10:00:00 +99999999999999999999",
        "Mon, 01 Jun 99999999999999999999 10:00:00 +0000",
        "Fri, 31 Dec 9999 23:59:59 -1200",
    ],
)
def test_a_mail_without_a_date_that_makes_sense_is_listed_with_the_others(client, date):
    deliver("dated")
    box().add(f"Subject: undated\nTo: alice@example.org\n{f'Date: {date}' if date else 'X: y'}\n\ntext\n")
    page = text(client.get("/dev/mail/"))
    assert {*re.findall(r">(dated|undated)</a>", page)} == {"dated", "undated"}
    for key in box().keys():  # noqa: SIM118 - a Maildir is no dict
        assert "<dt>Date</dt><dd>20" in text(client.get(f"/dev/mail/{key}/"))


def test_a_mail_is_shown_with_headers_text_and_a_frame_for_html(client, alice):
    get_connection(MAILBOX).send_messages([emails.welcome(alice, "7")])
    [key] = box().keys()
    page = text(client.get(f"/dev/mail/{key}/"))
    assert "<h1>Welcome to Steward: please verify your address</h1>" in page
    assert "<dd>Steward &lt;noreply@testserver&gt;</dd>" in page
    assert "<dd>alice@example.org</dd>" in page
    assert "<code>&lt;task-7@testserver&gt;</code>" in page
    assert "Hello Alice," in page
    assert re.search(r'<a href="http://testserver/accounts/verify/[^"]+"', page)
    assert f'src="/dev/mail/{key}/html/" sandbox="allow-top-navigation-by-user-activation"' in page


def test_a_mail_of_text_alone_has_no_frame(client):
    key = deliver(text="just text")
    page = text(client.get(f"/dev/mail/{key}/"))
    assert "just text" in page
    assert "<iframe" not in page
    assert client.get(f"/dev/mail/{key}/html/").status_code == 404


def test_an_address_in_the_text_is_a_link_and_a_script_in_it_is_not(client):
    key = deliver(text="Look at https://example.org/a?b=1&c=2 or javascript:alert(1)\n")
    page = text(client.get(f"/dev/mail/{key}/"))
    assert re.findall(r'href="([^"]*(?:example|alert)[^"]*)"', page) == ["https://example.org/a?b=1&amp;c=2"]
    assert "javascript:alert(1)" in page


def test_whatever_is_in_a_mail_is_text_on_the_page(client):
    evil = "<script>alert(1)</script>"
    key = deliver(f"subject {evil}", f"text {evil}")
    for page in (text(client.get("/dev/mail/")), text(client.get(f"/dev/mail/{key}/"))):
        assert evil not in page
        assert "subject &lt;script&gt;" in page


def test_the_frame_may_come_from_here_and_from_nowhere_else(client):
    policy = client.get(f"/dev/mail/{deliver(html='<p>html</p>')}/")["Content-Security-Policy"]
    assert "frame-src 'self'" in policy
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_the_html_part_may_be_framed_here_and_run_nothing(client):
    html = "<html><head><style>p { color: red; }</style></head><body><p>html</p><script>1</script></body></html>"
    response = client.get(f"/dev/mail/{deliver(html=html)}/html/")
    digest = base64.b64encode(hashlib.sha256(b"p { color: red; }").digest()).decode()
    assert response["Content-Security-Policy"] == (
        f"default-src 'none'; img-src 'self' data:; style-src 'sha256-{digest}'; frame-ancestors 'self'"
    )
    assert response["X-Frame-Options"] == "SAMEORIGIN"
    assert '<head><base target="_top">' in text(response)
    assert "<p>html</p>" in text(response)


def test_the_html_part_of_a_mail_of_ours_may_use_its_own_styles(client, alice):
    get_connection(MAILBOX).send_messages([emails.welcome(alice, "7")])
    [key] = box().keys()
    response = client.get(f"/dev/mail/{key}/html/")
    styles = re.findall(r"<style[^>]*>(.*?)</style>", text(response), re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in styles]
    assert re.findall(r"'sha256-([^']+)'", response["Content-Security-Policy"]) == digests
    assert digests
    assert '<base target="_top">' in text(response)


def test_an_html_part_without_styles_is_allowed_none(client):
    policy = client.get(f"/dev/mail/{deliver(html='<p>html</p>')}/html/")["Content-Security-Policy"]
    assert "style-src 'none';" in policy


@pytest.mark.parametrize("key", ["nothing", "..", "%2e%2e", "%00", "..%5c..", "new", "ä"])
@pytest.mark.parametrize("part", ["", "html/"])
def test_a_mail_that_is_not_there_is_a_404(client, key, part):
    deliver()
    response = client.get(f"/dev/mail/{key}/{part}")
    assert response.status_code == 404
    assert "There is no such page" in response.content.decode()


@pytest.mark.parametrize("path", ["", "{key}/", "{key}/html/"])
def test_the_pages_only_show(client, path):
    response = client.post("/dev/mail/" + path.format(key=deliver(html="<p>html</p>")))
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")
