"""All mails in one place, with previews for administrators."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission
from django.core import mail
from django.test import Client
from django.utils import translation

from accounts import emails, mail_list, tokens
from accounts.mail_list import MAILS
from accounts.models import User
from tests.accounts.conftest import html_of
from tests.conftest import PASSWORD
from tests.processes import ROOT

LIST = "/admin/accounts/user/mails/"
LANGUAGES = [code for code, _name in settings.LANGUAGES]


def text(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


def test_every_mail_that_has_templates_is_listed_and_has_all_three_of_them():
    found = {path.name for path in (ROOT / "templates" / "accounts" / "emails").iterdir()} - {"base.html"}
    assert found == {f"{name}{part}" for name in MAILS for part in (".subject.txt", ".txt", ".html")}


def test_a_mail_that_is_not_listed_cannot_be_made(alice):
    with pytest.raises(ValueError, match=r"^The mail 'other' is not in accounts\.mail_list\.MAILS\.$"):
        mail_list.check("other", {})
    with pytest.raises(ValueError) as error:
        mail_list.check("welcome", {"url": "x", "dayz": 3})
    assert (
        str(error.value) == "The mail 'welcome' is given ['dayz', 'url']; its sample has ['days', 'disown_url', 'url']."
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", MAILS)
def test_a_sample_is_whole_and_has_no_link_that_does_anything(name, language, db):
    sample = emails.preview(name, language)
    parts = sample.subject + sample.body + html_of(sample)
    assert sample.subject
    assert "{{" not in parts
    assert "{%" not in parts
    for link in re.findall(r"http://testserver(/[^\s\"<]*)", parts):
        token = re.fullmatch(r"/accounts/(?:verify|disown|password-reset|email-change/\w+)/([^/]+)/", link)
        if token:
            assert token[1] == "sample"
            assert tokens.user_of_verification(token[1]) is None
            assert tokens.user_of_reset(token[1]) is None
            assert tokens.change_to_confirm(token[1]) is tokens.change_to_undo(token[1]) is None
    assert mail.outbox == []


def test_the_list_leads_to_each_mail_in_each_language(operator_client):
    assert f'href="{LIST}"' in text(operator_client.get("/admin/accounts/user/"))
    page = text(operator_client.get(LIST))
    links = re.findall(rf'href="({LIST}\w+/\w+/)"', page)
    assert links == [f"{LIST}{name}/{language}/" for name in MAILS for language in LANGUAGES]
    for link in links:
        assert f'src="{link}html/" sandbox>' in text(operator_client.get(link))
        assert "<h1>" in text(operator_client.get(link + "html/"))


def test_a_preview_speaks_the_language_that_was_chosen_and_the_page_that_of_the_administrator(operator_client):
    with translation.override("de"):
        subject = emails.preview("welcome", "de").subject
    assert subject.startswith("Willkommen bei Steward")
    page = text(operator_client.get(f"{LIST}welcome/de/"))
    assert f"<h1>{subject}</h1>" in page
    assert "After a signup" in page
    assert "Guten Tag Sample," in page


def test_the_html_part_stands_in_a_frame_with_its_style_and_may_do_nothing(operator_client):
    response = operator_client.get(f"{LIST}welcome/en/html/")
    [style] = re.findall(r"<style>(.*?)</style>", text(response), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert response["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'; sandbox"
    )
    assert response["X-Frame-Options"] == "SAMEORIGIN"
    assert "unsafe" not in response["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["", "welcome/en/", "welcome/en/html/"])
def test_previews_are_for_staff_who_may_see_users(alice, path):
    browser = Client()
    browser.force_login(alice)
    assert browser.get(LIST + path)["Location"].startswith("/admin/login/")
    clerk = User.objects.create_user("clerk@example.org", PASSWORD, is_staff=True)
    browser.force_login(clerk)
    assert browser.get(LIST + path).status_code == 403
    clerk.user_permissions.add(Permission.objects.get(codename="view_user"))
    assert browser.get(LIST + path).status_code == 200
    assert browser.post(LIST + path).status_code == 405


@pytest.mark.parametrize("path", ["other/en/", "welcome/fi/", "other/en/html/", "base/en/"])
def test_there_is_no_preview_of_what_is_not_listed(operator_client, path):
    assert operator_client.get(LIST + path).status_code == 404
