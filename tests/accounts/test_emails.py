"""The mails: what is in them, and what cannot get into them."""

from __future__ import annotations

import email
import email.policy
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from functools import partial

import pytest
from django.conf import settings as configured
from django.utils import translation

from accounts import emails, tokens
from accounts.models import EmailChange, SecurityEvent, User
from tests.accounts.conftest import html_of


def new_login(user: User, task_id: str):
    event = SecurityEvent(kind="login", user=user, at=datetime(2026, 3, 4, tzinfo=UTC), address="203.0.113.7")
    return emails.new_login(user, event, task_id)


def password_warning(user: User, task_id: str):
    event = SecurityEvent(
        kind="password-warning", user=user, at=datetime(2026, 3, 4, tzinfo=UTC), address="203.0.113.7"
    )
    return emails.password_warning(user, event, task_id)


def of_change(mail, **values):
    """Return the function that makes the mail of a change of address, as the others are: from a user."""

    def make(user: User, task_id: str):
        addresses = {"old_email": user.email, "new_email": user.email} | values
        return mail(EmailChange(pk=1, user=user, **addresses), task_id)

    return make


MAILS = [
    emails.welcome,
    emails.already_registered,
    emails.password_reset,
    emails.password_changed,
    new_login,
    password_warning,
    partial(emails.second_factor_changed, change="app-added"),
    emails.address_wanted,
    of_change(emails.email_change_link),
    of_change(emails.email_change_asked),
    of_change(emails.email_changed),
    of_change(partial(emails.email_changed_by_administrator, is_undoable=True)),
    emails.email_set_by_administrator,
]


def received(mail) -> EmailMessage:
    """Return the mail as its reader's program sees it."""
    message = email.message_from_bytes(mail.message().as_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def link_in(mail) -> str:
    [link] = [line for line in mail.body.splitlines() if "/accounts/" in line and "/disown/" not in line]
    return link


def sentences_of(mail) -> set[str]:
    """Return what both parts say, the name of the site and links left out."""
    parts = [mail.subject, mail.body, re.sub(r"(?s)<style>.*?</style>|<[^>]*>", "\n", html_of(mail))]
    lines = {line.strip() for part in parts for line in part.splitlines()}
    return {line for line in lines if " " in line and "://" not in line and "·" not in line}


@pytest.mark.parametrize("make", MAILS)
def test_a_mail_has_a_text_and_an_html_part_in_this_order(alice, make):
    message = received(make(alice, "7"))
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize("make", MAILS)
def test_the_message_id_comes_from_the_task_so_a_second_attempt_sends_the_same_mail(alice, settings, make):
    settings.DEFAULT_FROM_EMAIL = "Steward <noreply@steward.example.org>"
    ids = [received(make(alice, task_id))["Message-ID"] for task_id in ("7", "7", "8")]
    assert ids == ["<task-7@steward.example.org>", "<task-7@steward.example.org>", "<task-8@steward.example.org>"]


@pytest.mark.parametrize("make", MAILS)
def test_the_headers_say_who_wrote_to_whom_and_that_no_answer_is_expected(alice, settings, make):
    settings.DEFAULT_FROM_EMAIL = "Steward <noreply@steward.example.org>"
    message = received(make(alice, "7"))
    assert (message["From"], message["To"]) == ("Steward <noreply@steward.example.org>", "alice@example.org")
    assert message["Auto-Submitted"] == "auto-generated"


def test_the_welcome_has_the_link_that_verifies_in_both_parts(newcomer):
    mail = emails.welcome(newcomer, "7")
    assert mail.subject == "Welcome to Steward: please verify your address"
    assert mail.body.startswith("Hello Alice,\n\nwelcome to Steward.")
    assert "The link works once, for 3 days." in mail.body
    link = link_in(mail)
    assert f'href="{link}"' in html_of(mail)
    assert tokens.user_of_verification(link.rsplit("/", 2)[1]) == newcomer
    disown = link.replace("/verify/", "/disown/")
    assert f"Remove the account here:\n\n{disown}\n" in mail.body
    assert f'<a href="{disown}">This was not me: remove the account</a>' in html_of(mail)


def test_the_mail_to_a_known_address_has_the_way_to_the_login_and_no_token(alice):
    mail = emails.already_registered(alice, "7")
    assert mail.subject == "You already have an account at Steward"
    assert "signed up at Steward with this address. You already have an account, so nothing was changed." in mail.body
    assert link_in(mail) == "http://testserver/accounts/login/"
    assert 'href="http://testserver/accounts/login/"' in html_of(mail)
    assert "/verify/" not in mail.body + html_of(mail)


def test_the_mail_for_a_reset_has_the_link_in_both_parts(alice):
    mail = emails.password_reset(alice, "7")
    assert mail.subject == "A new password for Steward"
    assert "asked for a new password for your account at Steward. Choose it here:" in mail.body
    link = link_in(mail)
    assert f'href="{link}"' in html_of(mail)
    assert tokens.user_of_reset(link.rsplit("/", 2)[1]) == alice


@pytest.mark.parametrize(
    ("seconds", "english", "german", "french"),
    [
        (
            3600,
            "The link works once, for 1 hour.",
            "Der Link funktioniert einmal und gilt 1 Stunde lang.",
            "Le lien ne fonctionne qu’une fois et reste valable 1 heure.",
        ),
        (
            7200,
            "The link works once, for 2 hours.",
            "Der Link funktioniert einmal und gilt 2 Stunden lang.",
            "Le lien ne fonctionne qu’une fois et reste valable 2 heures.",
        ),
    ],
)
def test_the_mail_for_a_reset_says_how_long_the_link_works(alice, settings, seconds, english, german, french):
    settings.PASSWORD_RESET_TIMEOUT = seconds
    mail = emails.password_reset(alice, "7")
    assert english in mail.body
    assert english in html_of(mail)
    for alice.language, text in [("de", german), ("fr", french)]:
        assert text in emails.password_reset(alice, "7").body


def test_the_mail_after_a_new_password_has_the_way_to_another_one_and_no_token(alice):
    mail = emails.password_changed(alice, "7")
    assert mail.subject == "Your password for Steward was changed"
    assert "the password of your account at Steward was changed." in mail.body
    assert link_in(mail) == "http://testserver/accounts/password-reset/"
    assert 'href="http://testserver/accounts/password-reset/"' in html_of(mail)


def test_the_mails_of_a_change_go_to_their_address_and_name_the_new_one(alice):
    new = "alice@new.example.org"
    mails = [
        of_change(mail, new_email=new)(alice, "7")
        for mail in (emails.email_change_link, emails.email_change_asked, emails.email_changed)
    ]
    assert [mail.to for mail in mails] == [[new], [alice.email], [alice.email]]
    assert [new in mail.body and new in html_of(mail) for mail in mails] == [False, True, True]
    assert ["for 3 days" in mails[0].body, "for 7 days" in mails[2].body] == [True, True]


@pytest.mark.parametrize("make", MAILS)
def test_links_are_made_from_site_url(alice, settings, make):
    settings.SITE_URL = "https://steward.example.org"
    mail = make(alice, "7")
    assert link_in(mail).startswith("https://steward.example.org/accounts/")
    assert "testserver" not in mail.body + html_of(mail)


@pytest.mark.parametrize("make", MAILS)
def test_somebody_without_a_name_is_greeted_too(alice, make):
    alice.display_name = ""
    mail = make(alice, "7")
    assert mail.body.startswith("Hello,\n")
    assert "<h1>Hello,</h1>" in html_of(mail)


@pytest.mark.parametrize("make", MAILS)
def test_a_name_is_text_in_both_parts(alice, make):
    alice.display_name = '<img src=x> & "Co" {{ name }}'
    mail = make(alice, "7")
    assert mail.body.startswith('Hello <img src=x> & "Co" {{ name }},\n')
    assert "Hello &lt;img src=x&gt; &amp; &quot;Co&quot; {{ name }}," in html_of(mail)
    assert "<img" not in html_of(mail)


@pytest.mark.parametrize("make", MAILS)
@pytest.mark.parametrize("name", ["www.evil.example", "http://evil.example", "bob@evil.example", "Win at evil.example"])
def test_a_name_that_a_mail_program_would_make_a_link_is_left_out(alice, make, name):
    alice.display_name = name
    mail = make(alice, "7")
    assert mail.body.startswith("Hello,\n")
    assert "evil" not in mail.body + html_of(mail)


@pytest.mark.parametrize("make", MAILS)
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_name_cannot_add_a_header(alice, make, end):
    alice.display_name = f"Alice{end}Bcc: bob@example.org{end}{end}"
    message = received(make(alice, "7"))
    assert message["Bcc"] is None
    assert message["To"] == "alice@example.org"
    assert "bob" not in str(message.items())


@pytest.mark.parametrize("make", MAILS)
def test_the_name_of_the_site_cannot_add_a_header_and_is_escaped(alice, settings, make):
    settings.SITE_NAME = "Tom & Co\nBcc: bob@example.org"
    message = received(make(alice, "7"))
    assert message["Bcc"] is None
    assert "Tom & Co Bcc: bob@example.org" in message["Subject"]
    assert "Tom &amp; Co" in html_of(make(alice, "7"))


def test_a_name_of_any_script_arrives_as_it_is(alice):
    alice.display_name = "Zoë 🦊 علی"
    parts = [part.get_content() for part in received(emails.welcome(alice, "7")).iter_parts()]
    assert [part.count("Zoë 🦊 علی") for part in parts] == [1, 1]


@pytest.mark.parametrize(
    ("language", "greeting", "make", "subject"),
    [
        ("de", "Guten Tag Alice,", emails.welcome, "Willkommen bei Steward: Bitte bestätigen Sie Ihre Adresse"),
        ("de", "Guten Tag Alice,", emails.already_registered, "Sie haben bereits ein Konto bei Steward"),
        ("de", "Guten Tag Alice,", emails.password_reset, "Ein neues Passwort für Steward"),
        ("de", "Guten Tag Alice,", emails.password_changed, "Ihr Passwort bei Steward wurde geändert"),
        ("fr", "Bonjour Alice,", emails.welcome, "Bienvenue sur Steward : veuillez confirmer votre adresse"),
        ("fr", "Bonjour Alice,", emails.already_registered, "Vous avez déjà un compte sur Steward"),
        ("fr", "Bonjour Alice,", emails.password_reset, "Un nouveau mot de passe pour Steward"),
        ("fr", "Bonjour Alice,", emails.password_changed, "Votre mot de passe sur Steward a été changé"),
    ],
)
def test_a_mail_speaks_the_language_of_its_user_whatever_the_worker_speaks(alice, language, greeting, make, subject):
    alice.language = language
    with translation.override("en"):
        mail = make(alice, "7")
        assert translation.get_language() == "en"
    assert mail.subject == subject
    assert mail.body.startswith(greeting)
    assert f'<html lang="{language}">' in html_of(mail)


@pytest.mark.parametrize("make", MAILS)
@pytest.mark.parametrize("language", [code for code, _name in configured.LANGUAGES if code != "en"])
def test_nothing_of_a_translated_mail_stays_in_english(alice, make, language):
    english = sentences_of(make(alice, "7"))
    alice.language = language
    assert english & sentences_of(make(alice, "7")) == set()


def test_a_user_who_reads_english_gets_english_from_a_german_process(alice):
    with translation.override("de"):
        assert emails.welcome(alice, "7").subject == "Welcome to Steward: please verify your address"


def test_a_mail_to_an_address_with_a_unicode_domain_can_be_sent(db, mailoutbox):
    user = User.objects.create_user("alice@münchen.example.org")
    emails.welcome(user, "7").send()
    assert mailoutbox[0].message()["To"] == "alice@xn--mnchen-3ya.example.org"
