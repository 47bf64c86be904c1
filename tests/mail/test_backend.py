"""Kept connections: how many a mail server sees, and that each mail arrives once whatever becomes of them."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.mail import EmailMessage, get_connection

from mail import backend
from tests.e2e.conftest import HangingUp, MailServer, free_port


class CountingServer(MailServer):
    """Counts its connections. A command that it is told to hang up at ends the connection, once for each number."""

    def __init__(self) -> None:
        super().__init__()
        self.connections = 0
        self.hang_up_at: dict[str, list[int]] = {"MAIL": [], "DATA": []}
        self.answers: dict[str, list[str]] = {"MAIL": [], "DATA": []}
        self.idle_for = 300.0
        self.tls: dict[str, Any] = {}

    def start(self) -> None:
        self.controller = HangingUp(self, hostname="127.0.0.1", port=self.port, timeout=self.idle_for, **self.tls)
        self.controller.start()

    async def handle_EHLO(self, server, session, envelope, hostname, responses) -> list[str]:
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options) -> str:
        envelope.mail_from = address
        return self.say("MAIL", server) or "250 OK"

    async def handle_DATA(self, server, session, envelope) -> str:
        answer = await super().handle_DATA(server, session, envelope)
        return self.say("DATA", server) or answer

    def say(self, command: str, server) -> str:
        if len(self.mails) in self.hang_up_at[command]:
            self.hang_up_at[command].remove(len(self.mails))
            server.transport.abort()
        return self.answers[command].pop() if self.answers[command] else ""

    @property
    def numbers(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.mails]


CERTIFICATE = str(Path(__file__).parent / "certificate.pem")
"""A certificate for 127.0.0.1 with its key, for tests only; it signs itself."""


@pytest.fixture
def server(settings):
    server = CountingServer()
    server.start()
    settings.EMAIL_BACKEND = "mail.backend.KeptConnectionBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", server.port, 5
    yield server
    backend._forget()
    server.stop()


def mail(number: int) -> EmailMessage:
    return EmailMessage(str(number), "A note.", "from@example.org", ["to@example.org"])


def send(number: int, **options) -> int:
    """Send one mail as a task does, over the backend of the settings."""
    return get_connection(**options).send_messages([mail(number)])


def kept() -> list[backend.Conversation]:
    return [conversation for conversations in backend._kept.values() for conversation in conversations]


def test_mails_that_follow_each_other_share_a_connection(server):
    assert [send(number) for number in range(3)] == [1, 1, 1]
    assert (server.connections, server.numbers) == (1, ["0", "1", "2"])


def test_a_connection_that_the_server_closed_is_replaced_and_the_mail_arrives_once(server):
    server.hang_up_at["MAIL"] = [1]
    assert [send(number) for number in range(3)] == [1, 1, 1]
    assert (server.connections, server.numbers) == (2, ["0", "1", "2"])


@pytest.mark.parametrize("silently", [False, True])
def test_a_server_that_takes_no_more_mails_over_a_connection_gets_another(server, silently):
    send(0)
    server.answers["MAIL"] = ["421 too many mails in this connection"]
    assert send(1, fail_silently=silently) == 1
    assert (server.connections, server.numbers) == (2, ["0", "1"])


def test_a_server_that_may_have_the_mail_does_not_get_it_again(server):
    server.hang_up_at["DATA"] = [2]
    send(0)
    with pytest.raises(OSError, match="Connection unexpectedly closed"):
        send(1)
    assert server.numbers == ["0", "1"]
    assert kept() == []


def test_a_new_connection_that_fails_is_not_tried_again(server):
    server.hang_up_at["MAIL"] = [0]
    with pytest.raises(OSError, match="Connection unexpectedly closed"):
        send(0)
    assert (server.connections, server.numbers, kept()) == (1, [], [])


def test_a_refusal_is_raised_and_the_connection_is_not_kept(server):
    send(0)
    server.refuse_next = 1
    with pytest.raises(OSError, match="try again later"):
        send(1)
    assert kept() == []
    assert send(2) == 1
    assert (server.connections, server.numbers) == (2, ["0", "2"])


def test_a_server_that_is_away_is_an_error_as_ever(server):
    send(0)
    server.stop()
    try:
        with pytest.raises(ConnectionRefusedError):
            send(1)
        assert send(1, fail_silently=True) == 0
    finally:
        server.start()
    assert send(2) == 1
    assert server.numbers == ["0", "2"]


def test_several_mails_at_once_go_on_after_one_that_failed_silently(server):
    server.answers["MAIL"] = ["421 not now"]
    sent = get_connection(fail_silently=True).send_messages([mail(0), mail(1)])
    assert (sent, server.numbers) == (1, ["1"])


def test_a_connection_that_was_idle_is_asked_first(server, monkeypatch):
    send(0)
    monkeypatch.setattr(backend, "CHECK_AFTER", -1)
    asked = []
    monkeypatch.setattr(backend.Conversation, "noop", lambda self: asked.append(self) or (250, b"OK"))
    send(1)
    assert (len(asked), server.connections) == (1, 1)


def test_a_server_that_hangs_up_idle_connections_is_no_trouble(server, monkeypatch):
    server.stop()
    server.idle_for = 0.2
    server.start()
    for number in range(3):
        assert send(number) == 1
        [conversation] = kept()
        assert conversation.sock is not None
        conversation.sock.settimeout(10)
        conversation.sock.recv(1, socket.MSG_PEEK)  # returns when the server has said something or hung up
        monkeypatch.setattr(backend, "CHECK_AFTER", -1 if number else 5)
    assert (server.connections, server.numbers) == (3, ["0", "1", "2"])


def test_a_connection_is_not_kept_for_ever(server, monkeypatch):
    send(0)
    monkeypatch.setattr(backend, "LONGEST", 0)
    send(1)
    assert server.connections == 2


def test_a_connection_to_another_server_or_as_another_user_is_not_used(server):
    send(0)
    send(1, timeout=7)
    with pytest.raises(ConnectionRefusedError):
        send(2, port=free_port())
    assert server.connections == 2


@pytest.mark.parametrize(("option", "given"), [("use_tls", "tls_context"), ("use_ssl", "ssl_context")])
def test_a_connection_with_tls_is_kept_and_replaced_as_well(server, monkeypatch, option, given):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    monkeypatch.setenv("SSL_CERT_FILE", CERTIFICATE)
    server.stop()
    server.tls = {given: context}
    server.start()
    server.hang_up_at["MAIL"] = [2]
    assert [send(number, **{option: True}) for number in range(4)] == [1, 1, 1, 1]
    assert server.numbers == ["0", "1", "2", "3"]
    [conversation] = kept()
    assert isinstance(conversation.sock, ssl.SSLSocket)
    greetings = 2 if option == "use_tls" else 1  # before STARTTLS and after it
    assert server.connections == 2 * greetings


def test_threads_never_share_a_connection_at_the_same_time(server):
    together = threading.Barrier(4)

    def work(thread: int) -> None:
        together.wait(10)
        for number in range(10):
            assert send(100 * thread + number) == 1

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert sorted(map(int, server.numbers)) == sorted(100 * thread + n for thread in range(4) for n in range(10))
    assert server.connections == len(kept()) <= 4


def test_a_process_that_was_forked_has_connections_of_its_own(server):
    send(0)
    [conversation] = kept()
    pid = os.fork()
    if pid == 0:  # nothing of the tests may go on in it
        try:
            is_fresh = kept() == [] and conversation.sock is None and send(1) == 1
            os._exit(0 if is_fresh else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert send(2) == 1
    assert (server.connections, server.numbers) == (2, ["0", "1", "2"])


def test_a_mail_that_ran_out_of_time_leaves_no_connection_that_is_in_the_middle_of_it(server, monkeypatch):
    class OutOfTime(BaseException):
        pass

    def out_of_time(signum, frame) -> None:
        raise OutOfTime

    send(0)
    slow = backend.Conversation.getreply

    def getreply(self) -> tuple[int, bytes]:
        signal.raise_signal(signal.SIGUSR2)
        return slow(self)

    before = signal.signal(signal.SIGUSR2, out_of_time)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(backend.Conversation, "getreply", getreply)
            with pytest.raises(OutOfTime):
                send(1)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert kept() == []
    assert send(2) == 1
    assert (server.connections, server.numbers) == (2, ["0", "2"])
