"""Recovery codes."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from accounts.factors import recovery
from accounts.models import RecoveryCode, User
from tests.conftest import PASSWORD


def test_there_are_ten_of_120_bits_each(alice):
    codes = recovery.make(alice)
    assert len({*codes}) == 10
    assert all(re.fullmatch(r"([0-9a-hjkmnp-tv-z]{4}-){5}[0-9a-hjkmnp-tv-z]{4}", code) for code in codes)
    assert len(recovery.ALPHABET) ** recovery.LENGTH == 2**120
    assert recovery.left(alice) == 10


def test_no_code_is_in_the_database(alice):
    codes = recovery.make(alice)
    stored = str(list(RecoveryCode.objects.values()))
    assert not [code for code in codes if code in stored or code.replace("-", "") in stored]


@pytest.mark.parametrize("spell", [str, str.upper, lambda code: code.replace("-", " "), lambda code: f" {code} "])
def test_each_code_counts_once_however_it_is_spelt(alice, spell):
    first, *_others = recovery.make(alice)
    assert [recovery.use(alice, spell(first)) for _ in range(2)] == [True, False]
    assert recovery.left(alice) == 9


def test_letters_that_look_like_digits_count_as_these():
    assert recovery.digest_of("OIL") == recovery.digest_of("011") == recovery.digest_of("o-i l")


@pytest.mark.parametrize("code", ["", "-", "0000-0000-0000-0000-0000-0000", "%", "\x00"])
def test_a_code_that_was_not_made_is_refused(alice, code):
    recovery.make(alice)
    assert recovery.use(alice, code) is False


def test_a_code_of_somebody_else_does_not_count(alice):
    bob = User.objects.create_user("bob@example.org", PASSWORD)
    assert recovery.use(alice, recovery.make(bob)[0]) is False
    assert recovery.left(bob) == 10


def test_new_codes_take_the_place_of_the_old_ones(alice):
    old = recovery.make(alice)
    new = recovery.make(alice)
    assert [recovery.use(alice, codes[0]) for codes in (old, new)] == [False, True]
    assert RecoveryCode.objects.count() == 10


def test_codes_outlive_a_rotation_of_the_key(alice, settings):
    code = recovery.make(alice)[0]
    settings.SECRET_KEY = "another"
    assert recovery.use(alice, code) is True


def both_at_once(function, arguments):
    barrier = threading.Barrier(2, timeout=30)

    def act(argument):
        try:
            connection.ensure_connection()
            barrier.wait()
            return function(argument)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(act, arguments))


def test_one_code_used_twice_at_once_counts_once(transactional_db):
    user = User.objects.create_user("alice@example.org", PASSWORD)
    for code in recovery.make(user):
        assert sorted(both_at_once(lambda code: recovery.use(user, code), [code, code])) == [False, True]


def test_of_codes_made_twice_at_once_only_ten_are_left(transactional_db):
    user = User.objects.create_user("alice@example.org", PASSWORD)
    for _ in range(5):
        made = both_at_once(lambda _number: recovery.make(user), [1, 2])
        assert recovery.left(user) == 10
        assert sorted(recovery.use(user, codes[0]) for codes in made) == [False, True]
