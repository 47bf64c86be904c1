"""What an operator does for somebody who has lost device and recovery codes."""

from __future__ import annotations

import time

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import Client

from accounts import emails, tasks
from accounts.models import Passkey, RecoveryCode, SecurityEvent, Totp, User
from tasks.testing import run_enqueued
from tests.accounts.authenticator import give_app, give_codes
from tests.accounts.test_login import is_logged_in, login
from tests.accounts.test_second_step import changes
from tests.conftest import PASSWORD

LIST = "/admin/accounts/user/"


@pytest.fixture
def with_all(alice: User) -> User:
    """Alice, with all that there is."""
    give_app(alice)
    give_codes(alice)
    Passkey.objects.create(user=alice, name="Key", credential_id="x", public_key=b"")
    return alice


@pytest.fixture
def operator_client(operator: User) -> Client:
    """The browser of the administrator, who has just logged in."""
    client = Client()
    login(client, username=operator.email)
    return client


def counts(user: User) -> list[int]:
    return [model.objects.filter(user=user).count() for model in (Totp, Passkey, RecoveryCode)]


def remove(client: Client, *users: User):
    data = {"action": "remove_second_factors", "_selected_action": [user.pk for user in users]}
    return client.post(LIST, data, follow=True)


def test_an_operator_removes_them_and_the_user_is_told(operator_client, operator, with_all, enqueued):
    own = Client()
    own.force_login(with_all)
    bob = User.objects.create_user("bob@example.org", PASSWORD)
    give_app(bob)
    assert "Removed for 1 user." in remove(operator_client, with_all).content.decode()
    assert (counts(with_all), counts(bob)) == ([0, 0, 0], [1, 0, 0])
    assert not is_logged_in(own)
    assert login(own)["Location"] == "/accounts/"
    event = SecurityEvent.objects.get(kind="factor-removed")
    assert (event.user, event.actor, event.outcome) == (with_all, operator, "succeeded")
    assert event.details == {"apps": 1, "passkeys": 1, "by": "administrator"}
    assert changes(enqueued) == [[with_all.pk, "all-removed"]]


def test_the_mail_says_what_to_do(with_all, mailoutbox):
    call_command("resetmfa", with_all.email)
    run_enqueued()
    [mail] = mailoutbox
    assert mail.to == [with_all.email]
    assert "An administrator removed all second factors and recovery codes from your account" in mail.body


def test_where_nothing_is_there_nothing_is_done(operator_client, alice, enqueued):
    assert "Removed for 0 users." in remove(operator_client, alice).content.decode()
    assert enqueued() == []


def test_an_operator_cannot_do_without_the_own_factor_this_way(operator_client, operator, with_all):
    give_app(operator)
    page = remove(operator_client, operator, with_all).content.decode()
    assert "Your own are on your account page." in page
    assert (counts(operator), counts(with_all)) == ([1, 0, 0], [1, 1, 10])


def test_after_ten_minutes_the_password_is_asked_for(operator_client, with_all):
    session = operator_client.session
    session["proved_at"] = int(time.time()) - 601
    session.save()
    response = remove(operator_client, with_all)
    assert response.redirect_chain == [(f"/accounts/reauthenticate/?next={LIST}", 302)]
    assert counts(with_all) == [1, 1, 10]


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("staff@example.org", PASSWORD, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    login(client, username=user.email)
    return client


DELETE = ("delete_totp", "delete_passkey", "delete_recoverycode")


def test_staff_needs_the_permission(with_all):
    client = staff("view_user", "change_user", *DELETE[:2])
    assert "remove_second_factors" not in client.get(LIST).content.decode()
    remove(client, with_all)
    assert counts(with_all) == [1, 1, 10]


def test_staff_with_it_can_help_everybody_but_a_superuser(with_all, operator):
    client = staff("view_user", "change_user", *DELETE)
    give_app(operator)
    page = remove(client, operator, with_all).content.decode()
    assert "Those of a superuser can be removed by a superuser." in page
    assert (counts(operator), counts(with_all)) == ([1, 0, 0], [1, 1, 10])
    remove(client, with_all)
    assert counts(with_all) == [0, 0, 0]


def test_the_page_of_a_user_says_what_there_is_and_nothing_that_could_be_used(operator_client, with_all):
    page = operator_client.get(f"{LIST}{with_all.pk}/change/").content.decode()
    assert "authenticator app, 1 passkey, 10 recovery codes" in page
    assert Totp.objects.get().secret not in page
    Passkey.objects.all().delete()
    Totp.objects.all().delete()
    RecoveryCode.objects.all().delete()
    assert ">none<" in operator_client.get(f"{LIST}{with_all.pk}/change/").content.decode()


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_does_the_same(with_all, capsys, enqueued):
    own = Client()
    own.force_login(with_all)
    call_command("resetmfa", "ALICE@example.org")
    out = capsys.readouterr().out
    assert out == "Removed. alice@example.org now logs in with the password alone, and gets a mail about it.\n"
    assert counts(with_all) == [0, 0, 0]
    assert not is_logged_in(own)
    event = SecurityEvent.objects.get()
    assert (event.user, event.actor, event.details) == (with_all, None, {"apps": 1, "passkeys": 1, "by": "command"})
    assert changes(enqueued) == [[with_all.pk, "all-removed"]]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nobody@example.org", "There is no account with the address nobody@example.org."),
        ("alice@example.org", "alice@example.org has no second factor."),
    ],
)
def test_the_command_says_where_there_is_nothing_to_do(alice, address, message):
    with pytest.raises(CommandError) as error:
        call_command("resetmfa", address)
    assert str(error.value) == message


def test_somebody_who_is_switched_off_gets_no_mail(with_all, enqueued):
    User.objects.update(is_active=False)
    call_command("resetmfa", with_all.email)
    assert counts(with_all) == [0, 0, 0]
    assert enqueued() == []


def test_the_way_back_of_an_administrator(settings, operator):
    settings.REQUIRE_MFA_FOR = "staff"
    give_app(operator)
    client = Client()
    call_command("resetmfa", operator.email)
    login(client, username=operator.email)
    assert client.get("/admin/")["Location"] == "/accounts/second-factor/"


@pytest.mark.parametrize("change", sorted(emails.SECOND_FACTOR_CHANGES))
def test_each_change_has_a_mail(alice, mailoutbox, change):
    tasks.send_second_factor_changed_email.enqueue(alice.pk, change)
    run_enqueued()
    [mail] = mailoutbox
    assert mail.subject == "The second factors of your account at Steward"
    assert str(emails.SECOND_FACTOR_CHANGES[change]) in mail.body
    assert "http://testserver/accounts/password-reset/" in mail.body
