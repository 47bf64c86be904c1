"""`manage.py firstrun`."""

from __future__ import annotations

import io
import re
import socket

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command

from accounts.models import User
from tests.conftest import PASSWORD


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


def test_a_port_that_is_taken_is_named_with_the_next_one(db):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError) as caught:
            firstrun(port)
    next_port = port % 65535 + 1
    assert str(caught.value) == (f"Port {port} is taken by another program. Choose another: make run PORT={next_port}")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_does_not_exist_is_refused(db, port):
    with pytest.raises(CommandError) as caught:
        firstrun(port)
    assert str(caught.value) == f"PORT is {port}. Allowed: 1 to 65535."
