"""`manage.py firstrun`."""

from __future__ import annotations

import io
import re
import socket
import sqlite3
import sys
from contextlib import closing

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.hashers import check_password
from django.core.management import CommandError, call_command
from django.db.migrations.recorder import MigrationRecorder

from accounts.models import User
from config.settings import PASSWORD_HASHERS
from tests.conftest import PASSWORD
from tests.processes import Process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def firstrun(port: int) -> str:
    output = io.StringIO()
    call_command("firstrun", "--port", str(port), stdout=output)
    return output.getvalue()


def test_it_prints_the_addresses(db):
    port = free_port()
    assert firstrun(port).splitlines() == [
        f"  Site:           http://127.0.0.1:{port}/",
        f"  Administration: http://127.0.0.1:{port}/admin/",
        "  Ctrl-C stops both.",
    ]


def test_with_debug_off_it_makes_no_administrator(db):
    firstrun(free_port())
    assert not User.objects.exists()


def test_with_debug_it_makes_an_administrator_whose_password_is_shown_once(db, settings):
    settings.DEBUG = True
    port = free_port()
    output = firstrun(port)
    shown = re.search(r"^  Administrator:  admin@example\.com   password: (\S{16})   \(shown once\)$", output, re.M)
    assert shown is not None
    assert f"  Mails sent:     http://127.0.0.1:{port}/dev/mail/\n" in output
    user = User.objects.get()
    assert authenticate(username="admin@example.com", password=shown[1]) == user
    assert (user.is_superuser, user.is_staff) == (True, True)

    again = firstrun(port)
    assert "password" not in again
    assert User.objects.get() == user


def test_an_administrator_that_exists_is_enough(operator, settings):
    settings.DEBUG = True
    assert "Administrator:" not in firstrun(free_port())
    assert User.objects.get() == operator


def test_a_user_with_the_address_of_the_administrator_is_left_alone(db, settings):
    settings.DEBUG = True
    user = User.objects.create_user("admin@example.com", PASSWORD)
    assert "Administrator:" not in firstrun(free_port())
    user.refresh_from_db()
    assert (user.is_superuser, user.check_password(PASSWORD)) == (False, True)


def test_a_database_that_is_migrated_stays_as_it_is(alice):
    def state():
        return User.objects.values().get(), list(MigrationRecorder.Migration.objects.order_by("pk").values())

    before = state()
    firstrun(free_port())
    assert state() == before
    assert before[1] != []


def test_an_empty_database_is_migrated_and_can_be_logged_into(tmp_path, settings):
    settings.PASSWORD_HASHERS = PASSWORD_HASHERS
    database = tmp_path / "new.sqlite3"
    outputs = []
    for number in range(2):
        log = tmp_path / f"{number}.log"
        process = Process(
            log,
            *(sys.executable, "manage.py", "firstrun", "--port", str(free_port())),
            DATABASE_URL=f"sqlite:///{database}",
            DEBUG="1",
        )
        assert process.start().wait(60) == 0, log.read_text()
        outputs.append(process.log())
    [password] = re.findall(r"password: (\S+)", outputs[0])
    assert "password" not in outputs[1]
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT email, is_superuser, password FROM accounts_user").fetchall()
    assert [row[:2] for row in rows] == [("admin@example.com", 1)]
    assert check_password(password, rows[0][2])


def test_a_port_that_is_taken_is_named_with_the_next_one(db, settings):
    settings.DEBUG = True
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError) as caught:
            firstrun(port)
    next_port = port % 65535 + 1
    assert str(caught.value) == (f"Port {port} is taken by another program. Choose another: make run PORT={next_port}")
    assert not User.objects.exists()


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_does_not_exist_is_refused(db, settings, port):
    settings.DEBUG = True
    with pytest.raises(CommandError) as caught:
        firstrun(port)
    assert str(caught.value) == f"PORT is {port}. Allowed: 1 to 65535."
    assert not User.objects.exists()


def test_the_last_port_of_all_is_followed_by_the_first(db):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 65535))
        taken.listen()
        with pytest.raises(CommandError, match=r"^Port 65535 is taken .* Choose another: make run PORT=1$"):
            firstrun(65535)


@pytest.mark.parametrize("port", ["", "http", "80.5"])
def test_a_port_that_is_no_number_is_refused(db, port):
    with pytest.raises(CommandError) as caught:
        call_command("firstrun", "--port", port)
    assert str(caught.value) == f"Error: argument --port: invalid int value: {port!r}"
