"""The main job without a browser: real processes, a real SMTP server, JSON as an API client sends it."""

from __future__ import annotations

import http.client
import re
import statistics
import time

import pytest
from django.apps import apps

from accounts.models import User
from tasks.models import Task
from tests.conftest import PASSWORD
from tests.e2e.conftest import MailServer, free_port
from tests.processes import until

ACCEPTED = (202, {"status": "accepted", "detail": "We have sent you an email. Open the link in it."})


def test_a_signup_is_answered_at_once_and_the_mail_comes_from_the_background(site, mail_server):
    assert site.signup_json(email="New@Example.org", display_name="New", password=PASSWORD) == ACCEPTED
    mail = mail_server.mail_to("new@example.org")
    task = Task.objects.get()
    assert mail["Subject"] == "Welcome to Steward: please verify your address"
    assert mail["Message-ID"] == f"<task-{task.pk}@127.0.0.1>"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert f"{site.url}/accounts/verify/" in mail.get_body(("plain",)).get_content()


def test_a_known_address_gets_the_same_answer_and_a_mail_that_says_so(site, mail_server, alice):
    assert site.signup_json(email="ALICE@example.org", display_name="Mallory", password=PASSWORD) == ACCEPTED
    mail = mail_server.mail_to(alice.email)
    assert mail["Subject"] == "You already have an account at Steward"
    assert "Mallory" not in mail.as_string()
    assert User.objects.get().display_name == "Alice"


def test_a_mail_server_that_is_away_is_not_noticed_by_a_signup_and_gets_the_mail_when_it_is_back(make_site):
    server = MailServer()
    site = make_site(server.port)

    def signup(number: int) -> float:
        began = time.monotonic()
        assert site.signup_json(email=f"user{number}@example.org", display_name="", password=PASSWORD) == ACCEPTED
        return time.monotonic() - began

    signup(0)
    away = statistics.median(signup(number) for number in range(1, 8))
    until(lambda: Task.objects.filter(status="READY", attempts__gte=1).exists(), what="an attempt has failed")
    server.start()
    try:
        back = statistics.median(signup(number) for number in range(8, 15))
        server.mail_to("user0@example.org", 60)
    finally:
        server.stop()
    assert away < 2 * back + 0.1, f"a signup takes {away:.3f} s while the mail server is away, {back:.3f} s otherwise"


def test_a_mail_server_that_says_later_gets_the_same_mail_again(site, mail_server):
    mail_server.refuse_next = 1
    site.signup_json(email="new@example.org", display_name="", password=PASSWORD)
    mail = mail_server.mail_to("new@example.org", 40)
    task = until(lambda: Task.objects.filter(status="SUCCESSFUL").first())
    assert task.attempts == 2
    assert mail["Message-ID"] == f"<task-{task.pk}@127.0.0.1>"
    assert "SMTPDataError" in task.errors.get().exception_path


def test_a_process_that_dies_before_the_commit_leaves_neither_the_user_nor_the_task(make_site):
    site = make_site(free_port(), wsgi="tests.e2e.dying_site", with_cluster=False)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        site.signup_json(email="new@example.org", display_name="", password=PASSWORD)
    assert (User.objects.count(), Task.objects.count()) == (0, 0)


def test_no_log_line_has_a_token_or_a_password(site, mail_server):
    site.signup_json(email="new@example.org", display_name="", password=PASSWORD)
    text = mail_server.mail_to("new@example.org").get_body(("plain",)).get_content()
    token = text.split("/accounts/verify/")[1].split("/")[0]
    assert site.request("GET", f"/accounts/verify/{token}/nowhere")[0] == 404
    assert site.post_json("/accounts/password-reset/", email="new@example.org")[0] == 202
    text = mail_server.mail_to("new@example.org", subject="A new password").get_body(("plain",)).get_content()
    key = text.split("/accounts/password-reset/")[1].split("/")[0]
    form = ("password=a+new+lamp+by+the+lake", "application/x-www-form-urlencoded")
    assert site.request("POST", f"/accounts/password-reset/{key}/", *form)[0] == 403  # it has no CSRF token
    logs = until(lambda: "/accounts/password-reset/" in site.web.log() and site.web.log() + site.cluster.log())
    assert "/accounts/verify/[token]/" in logs
    assert "/accounts/password-reset/[token]/" in logs
    for secret in (token, key, PASSWORD, "lamp by the lake", "lamp+by+the+lake"):
        assert secret not in logs


class TakesAndRefuses(MailServer):
    """Keeps the first mail, and says that it has not."""

    async def handle_DATA(self, server, session, envelope) -> str:
        answer = await super().handle_DATA(server, session, envelope)
        return answer if len(self.mails) > 1 else "451 try again later"


def test_a_mail_server_that_took_the_mail_and_then_said_no_gets_the_same_mail_again(make_site):
    server = TakesAndRefuses()
    server.start()
    try:
        make_site(server.port).signup_json(email="new@example.org", display_name="", password=PASSWORD)
        task = until(lambda: Task.objects.filter(status="SUCCESSFUL").first(), 40)
    finally:
        server.stop()
    assert task.attempts == 2
    assert [mail["Message-ID"] for mail in server.mails] == [f"<task-{task.pk}@127.0.0.1>"] * 2


def test_no_table_has_a_token_or_a_password(site, mail_server):
    mail_server.refuse_next = 1  # so that there is an error with its traceback too
    for _known in (False, True):
        site.signup_json(email="new@example.org", display_name="New", password=PASSWORD)
    site.post_json("/accounts/password-reset/", email="new@example.org")
    until(lambda: not Task.objects.filter(finished_at=None).exists(), 40)
    texts = [mail.get_body(("plain",)).get_content() for mail in mail_server.mails]
    tokens = [re.split("/accounts/(?:verify|password-reset)/", text)[1].split("/")[0] for text in texts]
    assert len(tokens) == 3
    stored = "\n".join(str(values) for model in apps.get_models() for values in model._base_manager.values())
    assert "new@example.org" in stored
    assert "SMTPDataError" in stored
    assert [secret for secret in (PASSWORD, *tokens) if secret in stored] == []
    signed = r":\w{6}:[\w-]{43}"  # the end of whatever Django signs
    assert all(re.search(signed, token) for token in tokens)
    assert not re.search(signed, stored)
