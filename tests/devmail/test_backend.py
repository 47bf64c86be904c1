"""The backend that keeps mails."""

from __future__ import annotations

import email
import email.policy
import subprocess
import sys
from email.message import EmailMessage as Message

from django.core.mail import EmailMessage, EmailMultiAlternatives, get_connection, send_mail

from devmail.backend import box
from tests.devmail.conftest import MAILBOX
from tests.processes import ROOT


def kept() -> list[Message]:
    return [email.message_from_bytes(box().get_bytes(key), policy=email.policy.default) for key in sorted(box().keys())]


def test_a_mailbox_that_is_not_there_is_made_and_empty(mailbox_dir):
    assert not mailbox_dir.parent.exists()
    assert kept() == []
    assert mailbox_dir.is_dir()


def test_a_mail_is_kept_with_all_its_parts():
    mail = EmailMultiAlternatives(
        "Grüße", "Zoë 🦊\n", "from@example.org", ["alice@example.org"], headers={"X-Task": "7"}
    )
    mail.attach_alternative("<p>Zoë 🦊</p>\n", "text/html")
    assert get_connection(MAILBOX).send_messages([mail]) == 1
    [message] = kept()
    assert (message["Subject"], message["From"], message["To"]) == ("Grüße", "from@example.org", "alice@example.org")
    assert message["X-Task"] == "7"
    assert [part.get_content() for part in message.iter_parts()] == ["Zoë 🦊\n", "<p>Zoë 🦊</p>\n"]


def test_any_number_of_mails_are_kept_and_counted():
    mails = [EmailMessage(f"mail {number}", "", None, ["alice@example.org"]) for number in range(5)]
    assert get_connection(MAILBOX).send_messages(mails) == 5
    assert get_connection(MAILBOX).send_messages([]) == 0
    assert sorted(message["Subject"] for message in kept()) == [f"mail {number}" for number in range(5)]


def test_django_sends_to_the_mailbox_when_the_settings_say_so():
    assert send_mail("hello", "text", None, ["alice@example.org"], connection=get_connection(MAILBOX)) == 1
    assert [message["Subject"] for message in kept()] == ["hello"]


def test_processes_that_deliver_at_once_lose_nothing(mailbox_dir):
    code = (
        "import sys, pathlib, django\n"
        "django.setup()\n"
        "from django.conf import settings\n"
        "settings.MAILBOX_DIR = pathlib.Path(sys.argv[1])\n"
        "from django.core.mail import EmailMessage, get_connection\n"
        f"connection = get_connection({MAILBOX!r})\n"
        "for number in range(50):\n"
        "    connection.send_messages([EmailMessage(f'{sys.argv[2]} {number}', '', None, ['alice@example.org'])])\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(mailbox_dir), str(number)], cwd=ROOT) for number in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    subjects = sorted(message["Subject"] for message in kept())
    assert subjects == sorted(f"{process} {number}" for process in range(3) for number in range(50))
