"""What is encrypted at rest, and that it follows the key."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.factors.encryption import UndecipherableError, decrypt, encrypt, renew

OLD, NEW = "o" * 50, "n" * 50


@given(st.text())
def test_what_is_encrypted_can_be_read_again(text):
    token = encrypt(text, "test")
    assert decrypt(token, "test") == text
    assert len(text) < 4 or text not in token


def test_the_same_text_never_looks_the_same():
    assert encrypt("secret", "test") != encrypt("secret", "test")


def test_what_is_encrypted_for_one_purpose_cannot_be_used_for_another():
    with pytest.raises(UndecipherableError):
        decrypt(encrypt("secret", "totp 1"), "totp 2")


@pytest.mark.parametrize("token", ["", "x", "gAAAAA", "ü" * 100])
def test_what_was_not_encrypted_is_refused(token):
    with pytest.raises(UndecipherableError):
        decrypt(token, "test")


LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


@given(st.integers(0, 96), st.integers(1, 63))  # the last letter holds bits that mean nothing
def test_what_was_changed_is_refused(at, shift):
    token = encrypt("secret", "test")
    other = LETTERS[(LETTERS.index(token[at]) + shift) % 64]
    with pytest.raises(UndecipherableError):
        decrypt(token[:at] + other + token[at + 1 :], "test")


def test_a_rotated_key_still_opens_and_renews(settings):
    settings.SECRET_KEY = OLD
    token = encrypt("secret", "test")
    assert renew(token, "test") == token
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
    renewed = renew(token, "test")
    assert (decrypt(token, "test"), renewed != token) == ("secret", True)
    settings.SECRET_KEY_FALLBACKS = []
    assert decrypt(renewed, "test") == "secret"
    for read in (decrypt, renew):
        with pytest.raises(UndecipherableError):
            read(token, "test")
