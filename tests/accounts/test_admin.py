"""Users in the administration."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

from accounts import tokens
from accounts.models import KnownBrowser, SecurityEvent, Session, User
from tasks.testing import run_enqueued
from tests.accounts.conftest import browser_of
from tests.accounts.test_login import login
from tests.conftest import PASSWORD

LIST = "/admin/accounts/user/"


def text(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


def test_the_list_shows_all_users_and_can_be_searched_and_filtered(operator_client, alice):
    page = text(operator_client.get(LIST))
    assert ">alice@example.org</a>" in page
    assert ">operator@example.org</a>" in page
    page = text(operator_client.get(LIST, {"q": "ALICE"}))
    assert ">alice@example.org</a>" in page
    assert ">operator@example.org</a>" not in page
    page = text(operator_client.get(LIST, {"is_staff__exact": "1"}))
    assert ">alice@example.org</a>" not in page
    assert ">operator@example.org</a>" in page


def test_those_who_will_be_deleted_can_be_found_and_their_page_says_when(operator_client, alice):
    after = datetime(2031, 5, 6, 12, tzinfo=UTC)
    User.objects.filter(pk=alice.pk).update(delete_after=after)
    for chosen, shown in (("yes", (True, False)), ("no", (False, True)), ("other", (True, True))):
        page = text(operator_client.get(LIST, {"deletion": chosen}))
        assert tuple(f">{name}@example.org</a>" in page for name in ("alice", "operator")) == shown
    page = text(operator_client.get(f"{LIST}{alice.pk}/change/"))
    assert "Will be deleted after:" in page
    assert "May 6, 2031, noon" in page
    assert 'name="delete_after' not in page
    data = {"email": alice.email, "language": "en", "is_active": "on", "delete_after": "", "delete_after_0": ""}
    assert operator_client.post(f"{LIST}{alice.pk}/change/", data).status_code == 302
    alice.refresh_from_db()
    assert alice.delete_after == after


def test_a_search_for_nothing_sensible_is_answered(operator_client, alice):
    assert "0 users" in text(operator_client.get(LIST, {"q": "' OR 1=1 -- %"}))


def test_a_user_can_be_added_and_log_in_once_the_address_is_verified(operator_client, client, enqueued):
    assert "Password:" in text(operator_client.get(LIST + "add/"))
    response = operator_client.post(
        LIST + "add/",
        {
            "email": "New@Example.org",
            "display_name": "New",
            "language": "de",
            "password1": PASSWORD,
            "password2": PASSWORD,
        },
    )
    user = User.objects.get(email="new@example.org")
    assert (response.status_code, response["Location"]) == (302, f"{LIST}{user.pk}/change/")
    assert (user.display_name, user.language, user.email_verified_at) == ("New", "de", None)
    assert (user.is_active, user.is_staff, user.is_superuser) == (True, False, False)
    assert enqueued() == [("send_welcome_email", [user.pk])]
    client.post(tokens.verification_url(user).removeprefix("http://testserver"), {"password": PASSWORD})
    client.post("/accounts/login/", {"username": "new@example.org", "password": PASSWORD})
    assert client.session["_auth_user_id"] == str(user.pk)


def test_a_known_address_cannot_be_added_again(operator_client, alice):
    response = operator_client.post(
        LIST + "add/", {"email": "ALICE@example.org", "language": "en", "password1": PASSWORD, "password2": PASSWORD}
    )
    assert "A user with this email address exists already." in text(response)
    assert User.objects.filter(email="alice@example.org").count() == 1


def test_a_user_can_be_changed(operator_client, alice):
    page = text(operator_client.get(f"{LIST}{alice.pk}/change/"))
    assert 'value="alice@example.org"' in page
    assert "Times" in page
    assert 'href="../password/"' in page
    data = {"email": "Alice.Two@example.org", "display_name": "Alice Two", "language": "de", "is_active": "on"}
    response = operator_client.post(f"{LIST}{alice.pk}/change/", data)
    assert (response.status_code, response["Location"]) == (302, LIST)
    alice.refresh_from_db()
    assert (alice.email, alice.display_name, alice.language) == ("alice.two@example.org", "Alice Two", "de")
    assert alice.check_password(PASSWORD)
    assert alice.email_verified_at is None  # nobody has shown that the new address is hers
    assert LogEntry.objects.get().change_message == '[{"changed": {"fields": ["Email address", "Name", "Language"]}}]'


def test_what_the_site_itself_finds_out_cannot_be_changed_by_hand(operator_client, alice):
    data = {"email": alice.email, "language": "en", "is_active": "on"}
    times = {"email_verified_at": "", "created_at": "2001-01-01", "last_login": "2001-01-01"}
    before = User.objects.values("email_verified_at", "created_at", "last_login").get(pk=alice.pk)
    assert operator_client.post(f"{LIST}{alice.pk}/change/", data | times).status_code == 302
    assert User.objects.values("email_verified_at", "created_at", "last_login").get(pk=alice.pk) == before


@pytest.mark.parametrize("path", ["", "{pk}/change/", "{pk}/password/", "{pk}/delete/", "{pk}/history/"])
def test_neither_a_password_nor_its_hash_is_shown(operator_client, alice, path):
    _algorithm, salt, digest = alice.password.split("$")
    page = text(operator_client.get(LIST + path.format(pk=alice.pk)))
    assert "alice@example.org" in page or ">Alice<" in page
    assert [secret in page for secret in (PASSWORD, alice.password, salt, digest)] == [False] * 4


def test_a_password_is_not_sent_back_with_a_form_that_has_a_mistake(operator_client):
    data = {"email": "nonsense", "language": "en", "password1": PASSWORD, "password2": PASSWORD}
    page = text(operator_client.post(LIST + "add/", data))
    assert "Enter a valid email address." in page
    assert 'value="nonsense"' in page
    assert PASSWORD not in page


def test_a_weak_password_is_refused(operator_client):
    data = {"email": "new@example.org", "language": "en", "password1": "short", "password2": "short"}
    page = text(operator_client.post(LIST + "add/", data))
    assert "This password is too short. It must contain at least 12 characters." in page
    assert not User.objects.filter(email="new@example.org").exists()


def test_a_password_can_be_set(operator_client, client, alice):
    page = f"{LIST}{alice.pk}/password/"
    text(operator_client.get(page))
    new = "another lamp by the sea"
    response = operator_client.post(page, {"password1": new, "password2": new, "usable_password": "true"})
    assert response.status_code == 302
    client.post("/accounts/login/", {"username": alice.email, "password": PASSWORD})
    assert "_auth_user_id" not in client.session
    client.post("/accounts/login/", {"username": alice.email, "password": new})
    assert client.session["_auth_user_id"] == str(alice.pk)


@pytest.mark.parametrize("spelling", ["{}", "_2B{}", "0_5F{}"])  # as the administration quotes "+" and "_"
def test_a_password_that_was_set_is_an_event_however_the_id_was_spelt(operator_client, alice, spelling):
    page = f"{LIST}{spelling.format(alice.pk)}/password/"
    data = {"password1": "another lamp by the sea", "password2": "another lamp by the sea", "usable_password": "true"}
    browser = browser_of(alice)
    assert operator_client.post(page, data).status_code == 302
    event = SecurityEvent.objects.get(kind="changed-by-administrator")
    assert (event.user_id, event.details) == (alice.pk, {"fields": ["password"]})
    assert not Session.objects.filter(user=alice).exists()
    assert browser.get("/accounts/").status_code == 302


def test_a_password_that_was_set_is_told_by_mail_and_leaves_no_browser_known(operator_client, alice, enqueued):
    login(Client())
    data = {"password1": "another lamp by the sea", "password2": "another lamp by the sea", "usable_password": "true"}
    operator_client.post(f"{LIST}{alice.pk}/password/", data)
    assert enqueued() == [("send_password_changed_email", [alice.pk])]
    assert not KnownBrowser.objects.exists()
    User.objects.filter(pk=alice.pk).update(is_active=False)
    operator_client.post(f"{LIST}{alice.pk}/password/", data)
    assert len(enqueued()) == 1


def test_a_user_can_be_switched_off_and_deleted(operator_client, alice):
    data = {"email": alice.email, "display_name": "Alice", "language": "en"}
    operator_client.post(f"{LIST}{alice.pk}/change/", data)
    alice.refresh_from_db()
    assert alice.is_active is False
    text(operator_client.get(f"{LIST}{alice.pk}/delete/"))
    assert operator_client.post(f"{LIST}{alice.pk}/delete/", {"post": "yes"}).status_code == 302
    run_enqueued()
    assert not User.objects.filter(pk=alice.pk).exists()


def test_the_history_of_a_user_can_be_read(operator_client, alice):
    text(operator_client.get(f"{LIST}{alice.pk}/history/"))


@pytest.mark.parametrize("path", ["", "add/", "{pk}/change/", "{pk}/password/", "{pk}/delete/", "{pk}/history/"])
def test_a_user_without_rights_sees_nothing_of_it(client, alice, path):
    address = LIST + path.format(pk=alice.pk)
    client.force_login(alice)
    response = client.get(address)
    assert (response.status_code, response["Location"]) == (302, f"/admin/login/?next={address}")


def test_staff_without_the_permission_is_told_so(client, alice):
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    client.force_login(alice)
    response = client.get(LIST)
    assert response.status_code == 403
    assert "alice@example.org" not in response.content.decode()


@pytest.mark.parametrize("path", ["add/", "{pk}/change/", "{pk}/password/", "{pk}/delete/"])
def test_after_ten_minutes_the_password_is_asked_for(operator, alice, path):
    client = Client()
    client.force_login(operator)
    address = LIST + path.format(pk=alice.pk)
    before = list(User.objects.order_by("pk").values())
    new = {"password1": "another lamp by the sea", "password2": "another lamp by the sea", "usable_password": "true"}
    data = {"email": "two@example.org", "language": "en", "is_superuser": "on", "post": "yes"} | new
    for response in (client.get(address), client.post(address, data)):
        assert (response.status_code, response["Location"]) == (302, f"/accounts/reauthenticate/?next={address}")
    assert list(User.objects.order_by("pk").values()) == before
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert client.get(address).status_code == 200


def test_nor_can_users_be_deleted_from_the_list_then(operator, alice):
    client = Client()
    client.force_login(operator)
    text(client.get(LIST))
    response = client.post(LIST, {"action": "delete_selected", "_selected_action": [alice.pk], "post": "yes"})
    assert response["Location"] == f"/accounts/reauthenticate/?next={LIST}"
    assert User.objects.filter(pk=alice.pk).exists()


def test_the_last_superuser_stays_one(operator_client, operator):
    data = {"email": operator.email, "display_name": "Still here", "language": "en"}
    assert operator_client.post(f"{LIST}{operator.pk}/change/", data).status_code == 302
    assert operator_client.post(f"{LIST}{operator.pk}/delete/", {"post": "yes"}).status_code == 403
    other = User.objects.create_superuser("other@example.org", PASSWORD)
    chosen = {"action": "delete_selected", "_selected_action": [operator.pk, other.pk], "post": "yes"}
    operator_client.post(LIST, chosen)
    assert User.objects.filter(is_superuser=True).count() == 2
    operator.refresh_from_db()
    assert (operator.display_name, operator.is_active, operator.is_staff) == ("Still here", True, True)
    operator_client.post(LIST, chosen | {"_selected_action": [other.pk]})
    run_enqueued()
    assert list(User.objects.all()) == [operator]


# Staff who may look after users, and no more -------------------------------------------------------------------------

USERS = ("view_user", "add_user", "change_user", "delete_user")
RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")


@pytest.fixture
def clerk(db) -> Client:
    """The browser of somebody who may do everything with users, and is no superuser."""
    user = User.objects.create_user("clerk@example.org", PASSWORD, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=USERS))
    return browser_of(user)


def test_staff_changes_users_but_gives_nobody_rights(clerk, alice):
    page = text(clerk.get(f"{LIST}{alice.pk}/change/"))
    assert 'name="is_active"' in page
    assert [name for name in RIGHTS if f'name="{name}"' in page] == []
    permission = Permission.objects.get(codename="view_user").pk
    data = {"email": alice.email, "display_name": "Alice Two", "language": "en", "is_active": "on"}
    data |= {"is_staff": "on", "is_superuser": "on", "user_permissions": [permission]}
    assert clerk.post(f"{LIST}{alice.pk}/change/", data).status_code == 302
    alice.refresh_from_db()
    assert (alice.display_name, alice.is_staff, alice.is_superuser) == ("Alice Two", False, False)
    assert not alice.user_permissions.exists()


@pytest.mark.parametrize(
    "rights", [{"is_staff": True}, {"is_superuser": True}, None], ids=["staff", "superuser", "own"]
)
def test_staff_neither_changes_nor_deletes_anybody_with_rights(clerk, alice, rights):
    user = alice
    if rights is None:
        user = User.objects.get(email="clerk@example.org")
    else:
        User.objects.filter(pk=user.pk).update(**rights)
    before = User.objects.filter(pk=user.pk).values().get()
    new = {"password1": "another lamp by the sea", "password2": "another lamp by the sea", "usable_password": "true"}
    data = {"email": "mine@example.org", "display_name": "Mine", "language": "en", "is_active": "on"}
    assert clerk.post(f"{LIST}{user.pk}/password/", new).status_code == 403
    assert clerk.post(f"{LIST}{user.pk}/change/", data).status_code == 403
    assert clerk.post(f"{LIST}{user.pk}/delete/", {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [user.pk], "post": "yes"}
    assert clerk.post(LIST, chosen).status_code in (200, 403)
    assert User.objects.filter(pk=user.pk).values().get() == before
    page = text(clerk.get(f"{LIST}{user.pk}/change/"))
    assert user.email in page
    assert user.password not in page


def test_staff_deletes_and_sets_the_password_of_everybody_else(clerk, alice):
    new = {"password1": "another lamp by the sea", "password2": "another lamp by the sea", "usable_password": "true"}
    assert clerk.post(f"{LIST}{alice.pk}/password/", new).status_code == 302
    assert clerk.post(f"{LIST}{alice.pk}/delete/", {"post": "yes"}).status_code == 302
    run_enqueued()
    assert not User.objects.filter(pk=alice.pk).exists()
