"""The links that prove an address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import signing

from accounts import tokens
from accounts.models import User

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)


def test_a_link_leads_back_to_its_user(newcomer, token):
    assert tokens.user_of_verification(token) == newcomer


def test_a_link_is_made_from_site_url(newcomer, settings):
    settings.SITE_URL = "https://steward.example.org"
    assert tokens.verification_url(newcomer).startswith("https://steward.example.org/accounts/verify/")


def test_a_link_works_for_three_days_and_not_a_second_longer(newcomer):
    with time_machine.travel(NOON, tick=False):
        token = tokens.verification_url(newcomer).rsplit("/", 2)[1]
    with time_machine.travel(NOON + timedelta(days=3), tick=False):
        assert tokens.user_of_verification(token) == newcomer
    with time_machine.travel(NOON + timedelta(days=3, seconds=1), tick=False):
        assert tokens.user_of_verification(token) is None


def test_every_changed_character_makes_a_token_worthless(newcomer, token):
    changed = [
        token[:position] + ("A" if character != "A" else "B") + token[position + 1 :]
        for position, character in enumerate(token[:-1])  # the last one has bits that do not count
    ]
    assert [tokens.user_of_verification(forged) for forged in changed] == [None] * len(changed)


@pytest.mark.parametrize("token", ["", "x", ":", "::", "a:b:c", "%00", "\x00", "ä:ö:ü", "x" * 100_000])
def test_nonsense_is_no_token(token, newcomer):
    assert tokens.user_of_verification(token) is None


@pytest.mark.parametrize("value", [None, 1, "text", [], [1], [1, "a", "b"], {"pk": 1}])
def test_something_else_under_the_same_signature_is_no_token(value, newcomer):
    assert tokens.user_of_verification(signing.dumps(value, salt="accounts.verify")) is None


def test_a_signature_for_another_purpose_is_no_token(newcomer):
    forged = signing.dumps([newcomer.pk, newcomer.email], salt="accounts.other")
    assert tokens.user_of_verification(forged) is None


def test_a_token_of_an_address_that_has_changed_proves_nothing(newcomer, token):
    User.objects.update(email="other@example.org")
    assert tokens.user_of_verification(token) is None


def test_a_token_of_a_user_who_is_switched_off_or_gone_proves_nothing(newcomer, token):
    User.objects.update(is_active=False)
    assert tokens.user_of_verification(token) is None
    User.objects.all().delete()
    assert tokens.user_of_verification(token) is None


def test_a_token_outlives_a_new_secret_key_while_the_old_one_is_a_fallback(newcomer, token, settings):
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another key " + "y" * 50
    assert tokens.user_of_verification(token) is None
    settings.SECRET_KEY_FALLBACKS = [old]
    assert tokens.user_of_verification(token) == newcomer


# A new password ------------------------------------------------------------------------------------------------------


def reset_token(user: User) -> str:
    return tokens.reset_url(user).rsplit("/", 2)[1]


def test_a_link_to_a_new_password_leads_back_to_its_user_and_is_made_from_site_url(alice, settings):
    settings.SITE_URL = "https://steward.example.org"
    assert tokens.reset_url(alice).startswith("https://steward.example.org/accounts/password-reset/")
    assert tokens.user_of_reset(reset_token(alice)) == alice


def test_a_link_to_a_new_password_works_for_an_hour_or_as_the_settings_say(alice, settings):
    with time_machine.travel(NOON, tick=False):
        token = reset_token(alice)
    for hours in (1, 2):
        settings.PASSWORD_RESET_TIMEOUT = hours * 3600.0
        with time_machine.travel(NOON + timedelta(hours=hours), tick=False):
            assert tokens.user_of_reset(token) == alice
        with time_machine.travel(NOON + timedelta(hours=hours, seconds=1), tick=False):
            assert tokens.user_of_reset(token) is None


@pytest.mark.parametrize(
    "change", [{"password": "x"}, {"last_login": NOON}, {"email": "other@example.org"}, {"is_active": False}]
)
def test_whatever_changes_in_between_overtakes_a_link_to_a_new_password(alice, change):
    token = reset_token(alice)
    User.objects.update(display_name="Another", language="de")
    assert tokens.user_of_reset(token) == alice
    User.objects.update(**change)
    assert tokens.user_of_reset(token) is None


def test_a_link_to_a_new_password_is_for_one_user(alice, operator):
    pk, _colon, signature = reset_token(alice).partition(":")
    assert tokens.user_of_reset(f"{operator.pk}:{signature}") is None
    assert tokens.user_of_reset(f"0{pk}:{signature}") is None
    User.objects.filter(pk=alice.pk).delete()
    assert tokens.user_of_reset(f"{pk}:{signature}") is None


def test_every_changed_character_makes_a_link_to_a_new_password_worthless(alice):
    token = reset_token(alice)
    changed = [
        token[:position] + ("A" if character != "A" else "B") + token[position + 1 :]
        for position, character in enumerate(token[:-1])  # the last one has bits that do not count
    ]
    assert [tokens.user_of_reset(forged) for forged in changed] == [None] * len(changed)


@pytest.mark.parametrize(
    "token", ["", "x", ":", "1:", "1::", "1:b:c", "9" * 18 + ":b:c", "9" * 5000 + ":b:c", "1\x00:ä"]
)
def test_nonsense_is_no_link_to_a_new_password(token, alice):
    assert tokens.user_of_reset(token) is None


def test_a_token_for_one_purpose_is_none_for_the_other(newcomer, token):
    assert tokens.user_of_reset(token) is None
    assert tokens.user_of_verification(reset_token(newcomer)) is None


def test_a_link_to_a_new_password_outlives_a_new_secret_key_while_the_old_one_is_a_fallback(alice, settings):
    token = reset_token(alice)
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another key " + "y" * 50
    assert tokens.user_of_reset(token) is None
    settings.SECRET_KEY_FALLBACKS = [old]
    assert tokens.user_of_reset(token) == alice
