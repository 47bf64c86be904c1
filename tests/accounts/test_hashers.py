"""How passwords are hashed, and how old hashes become new ones."""

from __future__ import annotations

import time

import pytest
from argon2 import PasswordHasher, extract_parameters, low_level
from asgiref.sync import async_to_sync
from django.conf import settings as loaded
from django.contrib.auth import hashers
from django.contrib.auth.hashers import get_hasher, identify_hasher, make_password
from django.test import Client

from accounts.hashers import OwaspArgon2Hasher
from accounts.models import User
from config.settings import PASSWORD_HASHERS
from tests.conftest import PASSWORD

DJANGO = "django.contrib.auth.hashers.Argon2PasswordHasher"
OURS = "argon2$argon2id$v=19$m=19456,t=2,p=1$"
WRONG = "a new lamp by the lake"


@pytest.fixture
def real_hashers(settings):
    """The hashers of the product, which the tests have replaced by a quick one."""
    settings.PASSWORD_HASHERS = PASSWORD_HASHERS


@pytest.fixture
def costs(real_hashers, monkeypatch) -> list[int]:
    """What Argon2 is asked for, in KiB times passes, one number for each hash."""
    found: list[int] = []
    make, make_raw, verify = low_level.hash_secret, low_level.hash_secret_raw, PasswordHasher.verify

    def watched(secret, salt, time_cost, memory_cost, *args, **kwargs):
        found.append(time_cost * memory_cost)
        return make(secret, salt, time_cost, memory_cost, *args, **kwargs)

    def watched_raw(secret, salt, time_cost, memory_cost, *args, **kwargs):
        found.append(time_cost * memory_cost)
        return make_raw(secret, salt, time_cost, memory_cost, *args, **kwargs)

    def watched_verify(self, encoded, password):
        parameters = extract_parameters(encoded)
        found.append(parameters.time_cost * parameters.memory_cost)
        return verify(self, encoded, password)

    monkeypatch.setattr(low_level, "hash_secret", watched)
    monkeypatch.setattr("accounts.hashers.hash_secret_raw", watched_raw)
    monkeypatch.setattr(PasswordHasher, "verify", watched_verify)
    return found


def login(address: str, password: str = PASSWORD):
    return Client().post("/accounts/login/", {"username": address, "password": password})


def old_hash(memory_cost: int = 1024) -> str:
    hasher = hashers.Argon2PasswordHasher()
    hasher.memory_cost, hasher.parallelism = memory_cost, 1
    return str(hasher.encode(PASSWORD, hasher.salt()))


def test_a_password_is_hashed_with_the_parameters_of_owasp(real_hashers):
    encoded = make_password(PASSWORD)
    assert encoded.startswith(OURS)
    assert isinstance(identify_hasher(encoded), OwaspArgon2Hasher)
    assert len(get_hasher().decode(encoded)["salt"]) >= 22  # of 62 characters: 128 bits and more


def test_a_hash_takes_the_memory_of_one_login_not_of_five(real_hashers):
    hasher = get_hasher()
    assert hasher.params().memory_cost * 5 < hashers.Argon2PasswordHasher().params().memory_cost
    begun = time.process_time()
    make_password(PASSWORD)
    assert 0.005 < time.process_time() - begun < 5


@pytest.mark.parametrize("make_old", ["django", "pbkdf2", "weak"])
def test_an_old_hash_becomes_a_new_one_at_the_login(alice, real_hashers, make_old):
    old = {
        "django": lambda: hashers.Argon2PasswordHasher().encode(PASSWORD, "saltsaltsaltsaltsaltsalt"),
        "pbkdf2": lambda: make_password(PASSWORD, hasher="pbkdf2_sha256"),
        "weak": old_hash,
    }[make_old]()
    User.objects.update(password=old)
    assert login(alice.email, WRONG).status_code == 200
    assert User.objects.get().password == old
    assert login(alice.email)["Location"] == "/accounts/"
    new = User.objects.get().password
    assert new.startswith(OURS)
    assert login(alice.email)["Location"] == "/accounts/"
    assert User.objects.get().password == new


def test_a_coroutine_makes_a_new_hash_of_an_old_one_too(alice, real_hashers):
    alice.password = old_hash()
    alice.save()
    assert async_to_sync(alice.acheck_password)(PASSWORD)
    assert User.objects.get().password == alice.password
    assert alice.password.startswith(OURS)


def test_a_hash_that_is_renewed_does_not_bring_a_password_back_that_was_changed_meanwhile(alice, real_hashers):
    alice.password = old_hash()
    alice.save()
    stale = User.objects.get()
    User.objects.update(password=make_password(WRONG))
    assert stale.check_password(PASSWORD)  # of what was read
    assert User.objects.get().check_password(WRONG)
    assert not User.objects.get().check_password(PASSWORD)


def test_a_session_outlives_a_hash_that_is_renewed_while_the_password_is_typed_again(alice, real_hashers):
    alice.password = old_hash()
    alice.save()
    client = Client()
    client.force_login(alice)
    before = client.session.session_key
    assert client.post("/accounts/reauthenticate/", {"password": PASSWORD})["Location"] == "/accounts/"
    assert User.objects.get().password.startswith(OURS)
    assert client.get("/accounts/").status_code == 200
    assert client.session.session_key != before


OUR_COST = OwaspArgon2Hasher.memory_cost * OwaspArgon2Hasher.time_cost


def test_an_unknown_address_costs_the_same_hash_as_a_known_one(alice, costs):
    User.objects.update(password=make_password(PASSWORD))
    costs.clear()
    for address in (alice.email, "nobody@example.org"):
        assert login(address, WRONG).status_code == 200
    assert costs == [OUR_COST, OUR_COST]


@pytest.mark.parametrize(
    "state", [{"is_active": False}, {"password": "!unusable"}, {"password": ""}, {"email_verified_at": None}]
)
def test_so_does_an_account_that_nobody_can_log_in_to(alice, costs, state):
    User.objects.update(password=make_password(PASSWORD))
    User.objects.update(**state)
    costs.clear()
    assert login(alice.email).status_code == 200
    assert costs == [OUR_COST]


@pytest.mark.parametrize("memory_cost", [8, 1024, 19 * 1024 - 4])
def test_an_old_hash_that_was_quicker_costs_as_much_in_all(alice, costs, memory_cost):
    User.objects.update(password=old_hash(memory_cost))
    costs.clear()
    assert login(alice.email, WRONG).status_code == 200
    assert sum(costs) == OUR_COST


def test_one_that_was_slower_costs_nothing_in_addition(alice, costs):
    User.objects.update(password=old_hash(20 * 1024))
    costs.clear()
    assert login(alice.email, WRONG).status_code == 200
    assert costs == [20 * 1024 * 2]


def test_the_tests_hash_quickly():
    assert loaded.PASSWORD_HASHERS == ["django.contrib.auth.hashers.MD5PasswordHasher"]
