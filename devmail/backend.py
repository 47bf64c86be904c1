"""The mail backend that keeps mails in a Maildir, by default var/mail."""

from __future__ import annotations

import mailbox
from collections.abc import Sequence

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend


def box() -> mailbox.Maildir:
    """Return the mailbox; it is made if there is none."""
    settings.MAILBOX_DIR.parent.mkdir(parents=True, exist_ok=True)
    return mailbox.Maildir(settings.MAILBOX_DIR)


class MailboxBackend(BaseEmailBackend):
    """Delivers into the mailbox. Any number of processes may do so at once."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Keep the mails; return how many."""
        directory = box()
        for mail in email_messages:
            directory.add(mail.message().as_bytes())
        return len(email_messages)
