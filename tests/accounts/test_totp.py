"""Codes of an authenticator app."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import time_machine
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from accounts.factors import totp
from accounts.models import Totp, User
from tests.accounts.authenticator import SECRET, code_now, give_app
from tests.conftest import PASSWORD

RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()
RFC_6238 = [  # appendix B, the rows of SHA-1
    (59, "94287082"),
    (1111111109, "07081804"),
    (1111111111, "14050471"),
    (1234567890, "89005924"),
    (2000000000, "69279037"),
    (20000000000, "65353130"),
]
NOON = 1_800_000_000


@pytest.mark.parametrize(("seconds", "code"), RFC_6238)
def test_the_codes_are_those_of_rfc_6238(seconds, code):
    assert totp.code_at(RFC_SECRET, seconds // 30, digits=8) == code
    assert totp.code_at(RFC_SECRET, seconds // 30) == code[2:]


@given(st.from_regex(r"[0-9]{6}", fullmatch=True), st.integers(0, 10**10))
def test_a_code_counts_only_if_it_is_of_now_or_beside(code, seconds):
    steps = [seconds // 30 + drift for drift in (-1, 0, 1)]
    right = [totp.code_at(SECRET, step) for step in steps if step >= 0]
    if steps[0] < 0:
        return
    with time_machine.travel(seconds, tick=False):
        assert (totp.step_of(SECRET, code) is not None) == (code in right)
        assert [totp.step_of(SECRET, each) in steps for each in right] == [True] * 3


@given(st.text(max_size=20).filter(lambda text: not (text.isascii() and text.isdecimal() and len(text) == 6)))
def test_what_is_no_code_never_counts(text):
    assert totp.step_of(SECRET, text) is None


def test_digits_of_other_scripts_are_none_of_ours():
    assert totp.step_of(SECRET, code_now().translate({48 + n: 0x660 + n for n in range(10)})) is None


def test_each_secret_is_another_one_of_160_bits():
    secrets = {totp.new_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert {len(base64.b32decode(secret)) for secret in secrets} == {20}


def test_the_uri_names_site_and_account_and_says_what_the_codes_are_like(alice, settings):
    settings.SITE_NAME = "Lamps & Co"
    parts = urlsplit(totp.uri(alice, SECRET))
    assert (parts.scheme, parts.netloc, unquote(parts.path)) == ("otpauth", "totp", "/Lamps & Co:alice@example.org")
    assert parse_qs(parts.query) == {
        "secret": [SECRET], "issuer": ["Lamps & Co"], "algorithm": ["SHA1"], "digits": ["6"], "period": ["30"],
    }  # fmt: skip
    assert "+" not in parts.query  # some apps show it


def test_a_code_counts_once(alice):
    give_app(alice)
    with time_machine.travel(NOON, tick=False):
        assert [totp.use(alice, code_now()) for _ in range(2)] == [True, False]


def test_a_code_older_than_one_that_was_used_does_not_count(alice):
    give_app(alice)
    with time_machine.travel(NOON, tick=False):
        assert [totp.use(alice, code_now(later=later)) for later in (0, -1, 1)] == [True, False, True]


def test_a_code_of_another_time_does_not_count(alice):
    give_app(alice)
    with time_machine.travel(NOON, tick=False):
        assert [totp.use(alice, code_now(later=later)) for later in (-3, -2, 2, 3, 100)] == [False] * 5


def test_the_code_that_confirmed_the_app_does_not_count_again(alice):
    with time_machine.travel(NOON, tick=False):
        step = totp.step_of(SECRET, code_now())
        totp.store(alice, SECRET, step)
        assert totp.use(alice, code_now()) is False


def test_a_code_of_somebody_else_or_of_an_app_that_is_not_confirmed_does_not_count(alice):
    bob = User.objects.create_user("bob@example.org", PASSWORD)
    give_app(bob)
    assert totp.use(alice, code_now()) is False
    Totp.objects.update(confirmed_at=None)
    assert totp.use(bob, code_now()) is False


def test_one_code_used_twice_at_once_counts_once(transactional_db):
    user = User.objects.create_user("alice@example.org", PASSWORD)
    give_app(user)
    barrier = threading.Barrier(2, timeout=30)

    def use(code: str) -> bool:
        try:
            connection.ensure_connection()
            barrier.wait()
            return totp.use(user, code)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for number in range(10):
            with time_machine.travel(NOON + 30 * number, tick=False):
                code = code_now()
                assert sorted(pool.map(use, [code, code])) == [False, True]


def test_the_secret_is_not_in_the_row(alice):
    give_app(alice)
    row = Totp.objects.values().get()
    assert not [value for value in row.values() if SECRET in str(value)]
    assert base64.b32decode(SECRET) not in base64.urlsafe_b64decode(row["secret"])


def test_the_row_of_another_user_cannot_be_put_in_place_of_it(alice):
    bob = User.objects.create_user("bob@example.org", PASSWORD)
    give_app(alice)
    give_app(bob)
    Totp.objects.filter(user=alice).update(secret=Totp.objects.get(user=bob).secret)
    assert totp.use(alice, code_now()) is False


def test_an_app_outlives_a_rotation_of_the_key_and_moves_to_the_new_one_when_it_is_used(alice, settings):
    settings.SECRET_KEY = "o" * 50
    give_app(alice)
    before = Totp.objects.get().secret
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "n" * 50, ["o" * 50]
    with time_machine.travel(NOON, tick=False):
        assert totp.use(alice, code_now()) is True
    assert Totp.objects.get().secret != before
    settings.SECRET_KEY_FALLBACKS = []
    with time_machine.travel(NOON + 30, tick=False):
        assert totp.use(alice, code_now()) is True


def test_without_its_key_an_app_lets_nobody_in_and_the_log_says_why(alice, settings, caplog):
    give_app(alice)
    settings.SECRET_KEY = "another"
    assert totp.use(alice, code_now()) is False
    assert caplog.messages == [f"The authenticator app of user {alice.pk} cannot be read: which key is missing?"]
