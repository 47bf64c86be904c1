"""The user."""

from __future__ import annotations

import itertools

import pytest
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection
from django.utils import timezone

from accounts.models import User
from accounts.models.users import UNVERIFIED
from tests.conftest import PASSWORD


def test_an_address_is_stored_in_lower_case_without_space_around_it(db):
    user = User.objects.create_user(" Alice@Example.ORG ", PASSWORD)
    assert user.email == "alice@example.org"
    assert User.objects.values_list("email", flat=True).get() == "alice@example.org"


def test_an_address_is_found_however_it_is_spelt(alice):
    assert User.objects.get(email="ALICE@example.org") == alice
    assert User.objects.get_by_natural_key("Alice@Example.org") == alice
    assert User.objects.filter(email__in=["ALICE@EXAMPLE.ORG"]).get() == alice
    assert authenticate(username="aLiCe@eXaMpLe.OrG", password=PASSWORD) == alice


def test_two_accounts_cannot_differ_by_case_alone(alice):
    with pytest.raises(IntegrityError):
        User.objects.create_user("ALICE@EXAMPLE.ORG", PASSWORD)


def test_the_database_itself_refuses_an_address_in_upper_case(alice):
    with pytest.raises(IntegrityError, match="accounts_user_email_is_lower_case"), connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET email = 'ALICE@example.org'")


def test_a_form_says_that_an_address_exists_already(alice):
    with pytest.raises(ValidationError) as caught:
        User(email="ALICE@example.org", password="x").full_clean()
    assert caught.value.message_dict == {"email": ["A user with this email address exists already."]}


def test_a_user_needs_an_address(db):
    with pytest.raises(ValueError, match=r"^A user needs an email address\.$"):
        User.objects.create_user("", PASSWORD)


def test_without_a_password_nobody_can_log_in(db):
    user = User.objects.create_user("alice@example.org")
    assert not user.has_usable_password()
    assert authenticate(username="alice@example.org", password="") is None


def test_a_user_is_active_unverified_and_without_rights_at_first(db):
    user = User.objects.get(pk=User.objects.create_user("alice@example.org", PASSWORD).pk)
    assert (user.is_active, user.is_staff, user.is_superuser, user.email_verified_at) == (True, False, False, None)
    assert (user.language, user.created_at is None) == ("en", False)


def test_an_administrator_may_do_all_and_counts_as_verified(operator):
    operator.refresh_from_db()
    assert (operator.is_staff, operator.is_superuser) == (True, True)
    assert operator.email_verified_at is not None


def test_a_user_is_called_by_name_or_else_by_address():
    assert User(email="alice@example.org", display_name="Alice").get_full_name() == "Alice"
    assert User(email="alice@example.org").get_full_name() == "alice@example.org"
    assert User(email="alice@example.org").get_short_name() == "alice@example.org"
    assert str(User(email="alice@example.org")) == "alice@example.org"


def test_an_address_is_verified_once(newcomer):
    other = User.objects.get(pk=newcomer.pk)
    assert newcomer.verify_email() is True
    first = User.objects.get().email_verified_at
    assert first is not None
    assert other.verify_email() is False
    assert User.objects.get().email_verified_at == first


def test_an_address_that_has_changed_meanwhile_is_not_verified(newcomer):
    User.objects.update(email="other@example.org")
    assert newcomer.verify_email() is False
    assert User.objects.get().email_verified_at is None


def test_a_user_is_unverified_in_the_code_as_in_the_database(db):
    now = timezone.now()
    kinds = itertools.product([None, now], [None, now], [False, True], [False, True], [False, True])
    for number, (verified, login, staff, superuser, active) in enumerate(kinds):
        fields = {"email_verified_at": verified, "last_login": login, "is_active": active}
        User.objects.create(email=f"{number}@example.org", is_staff=staff, is_superuser=superuser, **fields)
    in_code = [user.pk for user in User.objects.order_by("pk") if user.is_unverified()]
    assert in_code == list(User.objects.filter(UNVERIFIED).order_by("pk").values_list("pk", flat=True))
    assert len(in_code) == 1
