"""The mail backend for SMTP that keeps its connections, so that a hundred mails of a worker need one.

A process keeps the connections that it has used and takes one for the next mail; a connection is in the hands of one
thread at a time. Kept are those whose last mail ended well, for CHECK_AFTER seconds as they are, then after a NOOP, and
never beyond LONGEST. A process that was forked starts without any.

If a connection that had been used before turns out to be gone, the mail is tried once more on a new one, unless the
server had begun to take its text: then it may have it, and what comes next is for whoever sends the mail.
"""

from __future__ import annotations

import os
import smtplib
import time
from collections import defaultdict, deque
from contextlib import suppress
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends.smtp import EmailBackend

CHECK_AFTER = 5.0
"""Seconds after which a kept connection is asked whether it still lives."""

LONGEST = 300.0
"""Seconds for which one connection is used, as in Postfix's `smtp_connection_reuse_time_limit`: servers move."""

GO_ON = 354
"""The server's answer to DATA: it takes the text of the mail now."""

_kept: defaultdict[tuple[Any, ...], deque[Conversation]] = defaultdict(deque)
"""Connections that nobody uses, by what they were opened with. The ends of a deque need no lock."""


class Conversation(smtplib.SMTP):
    """A connection that knows how far it has come."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.opened_at = self.used_at = time.monotonic()
        self.is_reused = False
        """Whether it has been of use before this mail: then its end may have nothing to do with this mail."""
        self.has_sent_text = False
        """Whether the server may have this mail."""
        super().__init__(*args, **kwargs)

    def getreply(self) -> tuple[int, bytes]:
        """Return the server's answer, and remember it if it lets the text of the mail begin."""
        code, text = super().getreply()
        self.has_sent_text = self.has_sent_text or code == GO_ON
        return code, text

    @property
    def is_closed(self) -> bool:
        """Whether it has ended: smtplib closes it when the server is gone, and when it says 421."""
        return self.sock is None

    def is_usable(self) -> bool:
        """Return whether a mail can be sent over it; ask the server if it was not in use for long."""
        now = time.monotonic()
        if self.is_closed or now - self.opened_at > LONGEST:
            return False
        if now - self.used_at <= CHECK_AFTER:
            return True
        with suppress(OSError):  # which smtplib's own errors are
            return self.noop()[0] == 250
        return False


class TLSConversation(Conversation, smtplib.SMTP_SSL):
    """The same, with TLS from the start."""


class KeptConnectionBackend(EmailBackend):
    """Django's backend for SMTP; `open` takes a kept connection if there is one, `close` keeps it."""

    connection: Conversation | None
    _partial_connection: Conversation | None

    @property
    def connection_class(self) -> type[Conversation]:
        """The class of new connections."""
        return TLSConversation if self.use_ssl else Conversation

    def open(self) -> bool | None:
        """Take a kept connection or make one. As in Django: False if there is one, None if it failed silently."""
        if self.connection is not None:
            return False
        while self.connection is None and self._mine:
            with suppress(IndexError):  # another thread was quicker
                self._take(self._mine.pop())
        return True if self.connection is not None else self._open_new()

    def close(self) -> None:
        """Keep the connection for the next mail."""
        conversation, self.connection = self.connection, None
        if conversation is not None and not conversation.is_closed:
            conversation.is_reused = True
            conversation.used_at = time.monotonic()
            self._mine.append(conversation)

    @property
    def _mine(self) -> deque[Conversation]:
        return _kept[
            self.host, self.port, self.username, self.password, self.use_tls, self.use_ssl, self.timeout,
            self.ssl_keyfile, self.ssl_certfile,
        ]  # fmt: skip

    def _take(self, conversation: Conversation) -> None:
        try:
            if conversation.is_usable():
                self.connection = conversation
        finally:
            if self.connection is None:
                conversation.close()

    def _open_new(self) -> bool | None:
        try:
            return super().open()
        finally:
            if self.connection is None and self._partial_connection is not None:
                self._partial_connection.close()
                self._partial_connection = None

    def _send(self, email_message: EmailMessage) -> bool:
        if self.connection is None and not self._open_new():  # the mail before it failed silently
            return False
        conversation = self.connection
        assert conversation is not None
        conversation.has_sent_text = False
        is_done = False
        try:
            sent: bool = super()._send(email_message)  # type: ignore[misc]  # Django's, not in its stubs
            is_done = not conversation.is_closed
        except smtplib.SMTPException:
            if not _is_worth_another(conversation):
                raise
        finally:
            if not is_done:  # whatever ended it, a timeout of the task included: who knows what it was in
                self.connection = None
                conversation.close()
        if is_done:
            conversation.is_reused = True
            return sent
        if not _is_worth_another(conversation) or not self._open_new():
            return False
        return super()._send(email_message)  # type: ignore[misc]  # as above


def _is_worth_another(conversation: Conversation) -> bool:
    return conversation.is_closed and conversation.is_reused and not conversation.has_sent_text


def _forget() -> None:
    """Let go of what the parent keeps. Closed here, it stays open there."""
    for conversations in _kept.values():
        for conversation in conversations:
            conversation.close()
    _kept.clear()


os.register_at_fork(after_in_child=_forget)
