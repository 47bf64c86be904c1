"""Another address: asked for, confirmed, undone, and in a race with others."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import time_machine
from django.core import signing
from django.db import OperationalError, connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import tokens
from accounts.email_change import Result, confirm, undo
from accounts.models import EmailChange, KnownBrowser, Passkey, RecoveryCode, SecurityEvent, Session, Totp, User
from tasks.models import Task
from tasks.testing import run_enqueued
from tests.accounts.authenticator import give_app, give_codes
from tests.accounts.conftest import html_of, logged_in
from tests.conftest import PASSWORD

URL = "/accounts/email-change/"
OLD, NEW = "alice@example.org", "alice@new.example.org"
DOES_NOT_WORK = "<h1>This link does not work</h1>"


def text(response) -> str:
    return response.content.decode()


def path(url: str) -> str:
    return url.removeprefix("http://testserver")


def change_of(user: User, new: str = NEW, **values) -> EmailChange:
    return EmailChange.objects.create(user=user, old_email=user.email, new_email=new, **values)


def confirmed(user: User, new: str = NEW) -> EmailChange:
    """A change that the user has confirmed just now."""
    change = change_of(user, new)
    assert confirm(change) is Result.DONE
    change.refresh_from_db()
    user.refresh_from_db()
    return change


def address_of(user: User) -> str:
    return User.objects.get(pk=user.pk).email


def events(kind: str) -> list[tuple[str, int | None]]:
    return list(SecurityEvent.objects.filter(kind=kind).order_by("pk").values_list("outcome", "user_id"))


@pytest.fixture
def alices(alice) -> Client:
    """The browser in which Alice has just typed her password."""
    return logged_in(alice)


# Asked for -----------------------------------------------------------------------------------------------------------


def test_a_person_gets_from_the_account_page_to_a_new_address(alices, alice, mailoutbox):
    assert f'<a href="{URL}">Change email address</a>' in text(alices.get("/accounts/"))
    assert 'autocomplete="email"' in text(alices.get(URL))
    page = alices.post(URL, {"email": " Alice@New.example.org "}, follow=True)
    assert page.redirect_chain == [("/accounts/", 302)]
    assert f"We have sent an email to {NEW}. Open the link in it, and this is your address." in text(page)
    run_enqueued()
    assert [(mail.to, mail.subject) for mail in mailoutbox] == [
        ([NEW], "Confirm your new address for Steward"),
        ([OLD], "Another address for your account at Steward"),
    ]
    [link] = re.findall(r"http://testserver(/accounts/email-change/confirm/\S+)", mailoutbox[0].body)
    assert f'href="http://testserver{link}"' in html_of(mailoutbox[0])
    assert "/email-change/" not in mailoutbox[1].body + html_of(mailoutbox[1])
    assert f"From now on your address is {NEW} instead of {OLD}." in text(alices.get(link))
    assert address_of(alice) == OLD
    page = alices.post(link, follow=True)
    assert page.redirect_chain == [("/accounts/", 302)]
    assert "Your email address is changed." in text(page)
    assert address_of(alice) == NEW
    run_enqueued()
    assert [(mail.to, mail.subject) for mail in mailoutbox[2:]] == [([OLD], "Your address at Steward was changed")]
    assert f"is now {NEW}." in mailoutbox[2].body
    [undo_link] = re.findall(r"http://testserver(/accounts/email-change/undo/\S+)", mailoutbox[2].body)
    assert "Undo the change</button>" in text(Client().get(undo_link))
    for kind in ("email-change-asked", "email-changed"):
        assert events(kind) == [("succeeded", alice.pk)]


def test_asking_needs_a_login_the_password_and_the_csrf_token(alices, alice, client):
    assert client.post(URL, {"email": NEW})["Location"] == f"/accounts/login/?next={URL}"
    with time_machine.travel(timezone.now() + timedelta(minutes=11)):
        for response in (alices.get(URL), alices.post(URL, {"email": NEW})):
            assert response["Location"] == f"/accounts/reauthenticate/?next={URL}"
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(alice)
    session = careful.session
    session["proved_at"] = int(timezone.now().timestamp())
    session.save()
    assert careful.post(URL, {"email": NEW}).status_code == 403
    assert not EmailChange.objects.exists()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("", "This field is required."),
        ("alice", "Enter a valid email address."),
        ("älice@example.org", "Enter a valid email address."),
        ("a" * 300 + "@example.org", "Ensure this value has at most 254 characters (it has 312)."),
        ("ALICE@example.org", "This is your address already."),
    ],
)
def test_what_cannot_be_a_new_address_is_refused(alices, given, error):
    response = alices.post(URL, {"email": given})
    assert error in response.context["form"].errors["email"]
    assert 'aria-invalid="true"' in text(response)
    assert (EmailChange.objects.count(), Task.objects.count()) == (0, 0)


def test_the_sixth_wish_of_a_day_has_to_wait(alices, alice):
    for number in range(5):
        assert alices.post(URL, {"email": f"{number}@example.org"}).status_code == 302
    response = alices.post(URL, {"email": NEW})
    assert "You have asked for several changes today. Try again tomorrow." in text(response)
    assert EmailChange.objects.count() == 5
    EmailChange.objects.update(requested_at=Now() - timedelta(days=1))
    assert alices.post(URL, {"email": NEW}).status_code == 302


def test_a_known_address_gets_the_same_answer_and_statements_and_its_owner_a_mail(alices, operator, mailoutbox):
    def ask(email: str) -> tuple[list[str], str]:
        with CaptureQueriesContext(connection) as queries:
            page = alices.post(URL, {"email": email})
        assert page.status_code == 302
        shown = text(alices.get("/accounts/")).replace(email, "?")
        csrf = r'name="csrfmiddlewaretoken" value="\w+"'
        shapes = [re.sub(r"'(?:[^']|'')*'|\bs\d+_x\d+\b|\b\d+\b", "?", query["sql"]) for query in queries]
        return shapes, re.sub(csrf, "", shown)

    assert ask(operator.email) == ask(NEW)
    run_enqueued()
    assert [(mail.to, mail.subject) for mail in mailoutbox] == [
        ([operator.email], "Somebody wanted to use your address at Steward"),
        ([OLD], "Another address for your account at Steward"),
        ([NEW], "Confirm your new address for Steward"),
        ([OLD], "Another address for your account at Steward"),
    ]
    assert "/email-change/" not in mailoutbox[0].body + html_of(mailoutbox[0])
    assert OLD not in mailoutbox[0].body


def test_a_task_has_an_id_and_nothing_else_and_is_overtaken_by_a_confirmation(alices, alice, mailoutbox, enqueued):
    alices.post(URL, {"email": NEW})
    change = EmailChange.objects.get()
    assert enqueued() == [("send_email_change_link", [change.pk]), ("send_email_change_asked_email", [change.pk])]
    confirm(change)
    assert [task.status for task in run_enqueued()] == ["FAILED", "SUCCESSFUL", "SUCCESSFUL"]
    assert [mail.to for mail in mailoutbox] == [[OLD], [OLD]]


def test_nobody_is_mailed_for_an_account_that_is_switched_off(alices, alice, mailoutbox):
    alices.post(URL, {"email": NEW})
    User.objects.update(is_active=False)
    assert [task.status for task in run_enqueued()] == ["FAILED", "FAILED"]
    assert mailoutbox == []


def test_a_wish_that_cannot_be_stored_leaves_nothing(transactional_db):
    def breaks(execute, sql, params, many, context):
        if "tasks_task" in sql:
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    client = logged_in(User.objects.create_user(OLD, PASSWORD))
    client.raise_request_exception = False
    with connection.execute_wrapper(breaks):
        assert client.post(URL, {"email": NEW}).status_code == 500
    assert (EmailChange.objects.count(), Task.objects.count()) == (0, 0)
    assert events("email-change-asked") == []


# Confirmed -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def link(alice) -> str:
    return path(tokens.confirm_change_url(change_of(alice)))


def test_opening_the_link_changes_nothing(alices, alice, link):
    for _ in range(3):
        assert alices.get(link).status_code == 200
        assert alices.head(link).status_code == 200
    assert address_of(alice) == OLD


def test_a_link_works_once_and_the_sessions_stay(alices, alice, link):
    other = logged_in(alice)
    assert alices.post(link).status_code == 302
    for response in (alices.get(link), alices.post(link)):
        assert response.status_code == 404
        assert DOES_NOT_WORK in text(response)
    assert address_of(alice) == NEW
    assert [client.get("/accounts/").status_code for client in (alices, other)] == [200, 200]


def test_a_confirmation_verifies_the_address_and_kills_the_links_of_the_old_one(alices, newcomer, link):
    user = User.objects.get(pk=newcomer.pk)
    reset, verify = tokens.reset_url(user), tokens.verification_url(user)
    alices.post(link)
    assert User.objects.get(pk=newcomer.pk).email_verified_at is not None
    for dead in (reset, verify, tokens.disown_url(user)):
        assert Client().get(path(dead)).status_code == 404


def test_an_old_address_that_was_never_verified_gets_no_power_over_the_account(alices, newcomer, link, enqueued):
    alices.post(link)
    assert address_of(newcomer) == NEW
    assert enqueued() == []
    newcomer.refresh_from_db()
    confirm(change_of(newcomer, "alice@third.example.org"))
    assert [name for name, _args in enqueued()] == ["send_email_changed_email"]


def test_the_link_asks_for_a_login_and_comes_back(alice, link, client):
    response = client.post(link)
    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/login/?next=/accounts/email-change/confirm/")
    then = client.post(response["Location"], {"username": OLD, "password": PASSWORD, "next": link})
    assert then["Location"] == link
    assert client.post(link)["Location"] == "/accounts/"
    assert address_of(alice) == NEW


@pytest.mark.parametrize("method", ["get", "post"])
def test_the_link_of_another_user_changes_nothing(operator_client, alice, operator, link, method):
    response = getattr(operator_client, method)(link)
    assert "<h1>This link is for another account</h1>" in text(response)
    assert OLD not in text(response)
    assert NEW not in text(response)
    assert (address_of(alice), address_of(operator)) == (OLD, "operator@example.org")


def test_a_link_works_for_three_days(alice):
    change = change_of(alice)
    made = datetime(2030, 6, 1, tzinfo=UTC)
    with time_machine.travel(made, tick=False):
        token = tokens.confirm_change_url(change).split("/")[-2]
    for age, found in ((timedelta(days=3), change), (timedelta(days=3, seconds=1), None)):
        with time_machine.travel(made + age, tick=False):
            assert tokens.change_to_confirm(token) == found


@pytest.mark.parametrize("change", [{"email": "other@example.org"}, {"is_active": False}])
def test_an_account_of_another_time_is_not_changed(alice, link, change):
    token = link.split("/")[-2]
    User.objects.update(**change)
    assert tokens.change_to_confirm(token) is None
    assert confirm(EmailChange.objects.get()) is Result.GONE
    assert address_of(alice) != NEW
    assert EmailChange.objects.get().confirmed_at is None


def test_every_changed_character_makes_a_token_worthless_and_nonsense_is_none(alice):
    change = change_of(alice)
    token = tokens.confirm_change_url(change).split("/")[-2]
    assert tokens.change_to_confirm(token) == change
    for position, character in enumerate(token[:-1]):
        forged = token[:position] + ("A" if character != "A" else "B") + token[position + 1 :]
        assert tokens.change_to_confirm(forged) is None
    for nonsense in ("", "x", ":", "a:b:c", "\x00", "ä:ö:ü", "x" * 100_000):
        assert tokens.change_to_confirm(nonsense) is tokens.change_to_undo(nonsense) is None


def test_a_token_for_one_purpose_is_none_for_the_other(alice):
    change = change_of(alice)
    confirming, undoing = (url(change).split("/")[-2] for url in (tokens.confirm_change_url, tokens.undo_change_url))
    assert (tokens.change_to_confirm(undoing), tokens.user_of_verification(confirming)) == (None, None)
    confirm(change)
    assert tokens.change_to_undo(confirming) is None
    assert tokens.change_to_undo(undoing) == change
    assert tokens.change_to_undo(signing.dumps(change.pk, salt="accounts.other")) is None


def test_an_address_that_somebody_took_meanwhile_is_told_clearly_and_nothing_is_lost(alices, alice, link):
    other = User.objects.create_user(NEW, PASSWORD)
    response = alices.post(link)
    assert response.status_code == 409
    assert f"Somebody has signed up with {NEW} meanwhile, so your address is still {OLD}." in text(response)
    assert (address_of(alice), address_of(other)) == (OLD, NEW)
    assert EmailChange.objects.get().confirmed_at is None
    assert events("email-changed") == [("failed", alice.pk)]
    assert Task.objects.count() == 0
    other.delete()
    assert alices.post(link).status_code == 302
    assert address_of(alice) == NEW


def test_no_other_site_and_no_cache_learns_a_link(alices, alice, link):
    change = confirmed(User.objects.create_user("bob@example.org", PASSWORD), "bob@new.example.org")
    undo_link = path(tokens.undo_change_url(change))
    for response in [
        *(alices.get(link), alices.post(link), alices.get(link)),
        *(Client().get(undo_link), Client().post(undo_link), Client().get(undo_link)),
    ]:
        assert response["Referrer-Policy"] == "strict-origin"
        assert "no-store" in response["Cache-Control"]


def at_once(*calls) -> list[Result]:
    """Call them in as many threads, which wait for each other."""
    barrier = threading.Barrier(len(calls), timeout=30)

    def run(call) -> Result:
        try:
            barrier.wait()
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [done.result() for done in [pool.submit(run, call) for call in calls]]


def test_of_two_confirmations_at_once_one_is_done(transactional_db):
    user = User.objects.create_user(OLD, PASSWORD, email_verified_at=Now())
    for number in range(10):
        change = change_of(user, f"{number}@example.org")
        results = at_once(partial(confirm, change), partial(confirm, change))
        assert sorted(result.value for result in results) == ["done", "gone"]
        user.refresh_from_db()
        assert user.email == f"{number}@example.org"
    assert Task.objects.count() == 10


def test_of_two_different_changes_at_once_one_is_done(transactional_db):
    user = User.objects.create_user(OLD, PASSWORD)
    for number in range(10):
        changes = [change_of(user, f"{name}{number}@example.org") for name in "ab"]
        results = at_once(*[partial(confirm, change) for change in changes])
        assert sorted(result.value for result in results) == ["done", "gone"]
        user.refresh_from_db()
        assert user.email == changes[results.index(Result.DONE)].new_email
        assert EmailChange.objects.filter(confirmed_at=None).count() == number + 1


def test_two_users_who_confirm_the_same_address_at_once_do_not_share_it(transactional_db):
    alice, bob = (User.objects.create_user(f"{name}@example.org", PASSWORD) for name in ("alice", "bob"))
    for number in range(5):
        changes = [change_of(user, f"{number}@example.org") for user in (alice, bob)]
        results = at_once(*[partial(confirm, change) for change in changes])
        assert sorted(result.value for result in results) == ["done", "taken"]
        alice.refresh_from_db()
        bob.refresh_from_db()
        assert [alice.email, bob.email].count(f"{number}@example.org") == 1


# Undone --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def change(alice) -> EmailChange:
    return confirmed(alice)


@pytest.fixture
def undo_link(change) -> str:
    return path(tokens.undo_change_url(change))


def test_undoing_restores_the_address_ends_all_sessions_and_leads_to_a_new_password(alice, undo_link, mailoutbox):
    Task.objects.all().delete()
    thief, owner = logged_in(alice), Client()
    assert f"Your address is {OLD} again after it." in text(owner.get(undo_link))
    assert address_of(alice) == NEW
    page = owner.post(undo_link)
    assert (page.status_code, f"Your address is {OLD} again, and all sessions have ended." in text(page)) == (200, True)
    assert address_of(alice) == OLD
    assert not Session.objects.filter(user=alice).exists()
    assert thief.get("/accounts/").status_code == 302
    for email in (OLD, NEW):
        thief.post("/accounts/login/", {"username": email, "password": PASSWORD})
        assert thief.get("/accounts/").status_code == 302
    run_enqueued()
    [mail] = mailoutbox
    assert (mail.to, mail.subject) == ([OLD], "A new password for Steward")
    [reset] = re.findall(r"http://testserver(/accounts/password-reset/\S+)", mail.body)
    assert owner.post(reset, {"password": "a new lamp by the lake"}).status_code == 302
    logged = Client()
    logged.post("/accounts/login/", {"username": OLD, "password": "a new lamp by the lake"})
    assert logged.get("/accounts/").status_code == 200
    assert events("email-change-undone") == [("succeeded", alice.pk)]


@pytest.mark.parametrize(
    ("age", "is_left"), [(timedelta(), False), (timedelta(days=6, hours=23), False), (timedelta(days=8), True)]
)
def test_undoing_removes_the_second_factors_that_may_be_the_thiefs_and_no_older_ones(alice, operator, age, is_left):
    for user in (alice, operator):
        give_app(user)
        give_codes(user)
        Passkey.objects.create(user=user, name="Key", credential_id=user.email, public_key=b"k")
    made = timezone.now() - age
    Totp.objects.update(created_at=made - timedelta(days=99), confirmed_at=made)  # in place of an older app
    for model in (Passkey, RecoveryCode):
        model.objects.update(created_at=made)
    assert undo(confirmed(alice)) is Result.DONE
    left = [model.objects.filter(user=alice).count() for model in (Totp, Passkey, RecoveryCode)]
    assert left == ([1, 1, 10] if is_left else [0, 0, 0])
    assert [model.objects.filter(user=operator).count() for model in (Totp, Passkey, RecoveryCode)] == [1, 1, 10]
    assert events("factor-removed") == ([] if is_left else [("succeeded", alice.pk)])


def test_undoing_takes_a_deletion_back(alice, undo_link):
    alice.refresh_from_db()
    thief = logged_in(alice)
    assert thief.post("/accounts/delete/").status_code == 302
    assert User.objects.get().delete_after is not None
    assert Client().post(undo_link).status_code == 200
    assert User.objects.get().delete_after is None
    assert events("deletion-cancelled") == [("succeeded", alice.pk)]


def test_a_change_is_undone_once_and_for_seven_days(alice, change, undo_link):
    EmailChange.objects.update(confirmed_at=Now() - timedelta(days=7, seconds=1))
    for response in (Client().get(undo_link), Client().post(undo_link)):
        assert response.status_code == 404
        assert DOES_NOT_WORK in text(response)
    assert undo(change) is Result.GONE
    assert address_of(alice) == NEW
    EmailChange.objects.update(confirmed_at=Now() - timedelta(days=6, hours=23))
    assert Client().post(undo_link).status_code == 200
    assert Client().post(undo_link).status_code == 404


def test_the_link_does_not_work_before_the_confirmation(alice):
    change = change_of(alice)
    assert Client().post(path(tokens.undo_change_url(change))).status_code == 404
    assert undo(change) is Result.GONE
    assert address_of(alice) == OLD


def test_undoing_undoes_whatever_came_after_it_too(alice, change, undo_link):
    second = confirmed(alice, "thief@example.org")
    waiting = change_of(alice, "thief2@example.org")
    assert Client().post(undo_link).status_code == 200
    assert address_of(alice) == OLD
    assert Client().post(path(tokens.undo_change_url(second))).status_code == 404
    assert (undo(second), confirm(waiting)) == (Result.GONE, Result.GONE)
    assert address_of(alice) == OLD


def test_changing_the_address_back_leaves_the_thief_no_link_either(alice, change, enqueued):
    second = confirmed(alice, "thief@example.org")
    Task.objects.all().delete()
    back = confirmed(alice, OLD)
    assert enqueued() == []
    assert [undo(each) for each in (second, back, change)] == [Result.GONE] * 3
    assert address_of(alice) == OLD
    again = confirmed(alice, NEW)
    assert [name for name, _args in enqueued()] == ["send_email_changed_email"]
    assert undo(again) is Result.DONE
    assert address_of(alice) == OLD


def test_an_address_that_was_left_long_ago_is_like_any_other(alice, change):
    EmailChange.objects.update(confirmed_at=Now() - timedelta(days=7, seconds=1))
    back = confirmed(alice, OLD)
    assert undo(back) is Result.DONE
    assert address_of(alice) == NEW


def test_a_change_before_it_may_still_be_undone(alice, change):
    second = confirmed(alice, "alice@third.example.org")
    assert undo(second) is Result.DONE
    assert address_of(alice) == NEW
    assert undo(change) is Result.DONE
    assert address_of(alice) == OLD


@pytest.mark.parametrize("state", [{}, {"last_login": Now()}])
def test_an_unverified_account_that_has_taken_the_old_address_goes(alice, change, undo_link, state):
    squatter = User.objects.create_user(OLD, PASSWORD, **state)
    Session.objects.create(session_key="x", user=squatter, session_data="", expire_date=timezone.now())
    assert Client().post(undo_link).status_code == 200
    assert list(User.objects.values_list("pk", "email")) == [(alice.pk, OLD)]


def test_a_verified_account_that_has_taken_the_old_address_stays_and_it_is_said_clearly(alice, change, undo_link):
    before = User.objects.get(pk=alice.pk).password
    other = User.objects.create_user(OLD, PASSWORD, email_verified_at=Now())
    client = logged_in(User.objects.get(pk=alice.pk))
    response = Client().post(undo_link)
    assert response.status_code == 409
    assert f"Meanwhile {OLD} is the verified address of another account" in text(response)
    assert (address_of(alice), address_of(other)) == (NEW, OLD)
    assert User.objects.get(pk=alice.pk).password == before
    assert client.get("/accounts/").status_code == 200
    assert events("email-change-undone") == [("failed", alice.pk)]
    other.delete()
    assert Client().post(undo_link).status_code == 200
    assert address_of(alice) == OLD


def test_an_account_that_is_switched_off_stays_as_it_is(alice, change, undo_link):
    User.objects.update(is_active=False)
    assert Client().post(undo_link).status_code == 404
    assert undo(change) is Result.GONE
    assert address_of(alice) == NEW
    assert EmailChange.objects.get().undone_at is None


def test_undoing_needs_the_csrf_token(alice, undo_link):
    assert Client(enforce_csrf_checks=True).post(undo_link).status_code == 403
    assert Client().put(undo_link).status_code == 405
    assert address_of(alice) == NEW


def test_of_two_undoings_at_once_one_is_done(transactional_db):
    user = User.objects.create_user(OLD, PASSWORD)
    for _number in range(5):
        change = confirmed(user)
        results = at_once(partial(undo, change), partial(undo, change))
        assert sorted(result.value for result in results) == ["done", "gone"]
        user.refresh_from_db()
        assert user.email == OLD


def test_a_next_confirmation_and_an_undoing_at_once_leave_the_old_address(transactional_db):
    user = User.objects.create_user(OLD, PASSWORD)
    for number in range(10):
        first = confirmed(user)
        second = change_of(user, f"{number}@example.org")
        results = at_once(partial(undo, first), partial(confirm, second))
        assert results[0] is Result.DONE
        assert results[1] in (Result.DONE, Result.GONE)
        user.refresh_from_db()
        assert user.email == OLD
        assert undo(EmailChange.objects.get(pk=second.pk)) is Result.GONE


# By an administrator --------------------------------------------------------------------------------------------------


def typed(operator_client: Client, user: User, email: str, **data: str) -> None:
    """An administrator gives the user another address."""
    fields = {"email": email, "display_name": user.display_name, "language": "en", "is_active": "on"} | data
    page = f"/admin/accounts/user/{user.pk}/change/"
    assert operator_client.post(page, fields)["Location"] == "/admin/accounts/user/"


def test_an_administrator_who_changes_an_address_is_told_of_at_both_and_ends_the_sessions(
    operator_client, operator, alices, alice, mailoutbox
):
    typed(operator_client, alice, " Alice@New.example.org ")
    assert alices.get("/accounts/").status_code == 302
    assert operator_client.get("/accounts/").status_code == 200
    assert not KnownBrowser.objects.filter(user=alice).exists()
    alice.refresh_from_db()
    assert (alice.email, alice.email_verified_at) == (NEW, None)
    event = SecurityEvent.objects.get(kind="email-changed")
    change = EmailChange.objects.get()
    assert (event.user, event.actor, event.details) == (alice, operator, {"change": change.pk})
    assert SecurityEvent.objects.get(kind="changed-by-administrator").details == {"fields": ["email"]}
    run_enqueued()
    assert sorted((mail.to, mail.subject) for mail in mailoutbox) == [
        ([OLD], "Your address at Steward was changed"),
        ([NEW], "Your new address at Steward: please verify it"),
    ]
    mails = {mail.to[0]: mail.body for mail in mailoutbox}
    assert f"an administrator has changed the address of your account at Steward. It is now {NEW}." in mails[OLD]
    assert "/email-change/" not in mails[NEW]
    [link] = re.findall(r"http://testserver(/accounts/verify/\S+)", mails[NEW])
    logged_in(alice).post(link)
    alice.refresh_from_db()
    assert alice.email_verified_at is not None


def test_the_old_address_undoes_what_an_administrator_has_changed(operator_client, alice, mailoutbox):
    typed(operator_client, alice, NEW)
    run_enqueued()
    [link] = [link for mail in mailoutbox for link in re.findall(r"http://testserver(/\S+/undo/\S+)", mail.body)]
    assert "The change is undone" in text(Client().post(link))
    alice.refresh_from_db()
    assert (alice.email, alice.check_password(PASSWORD)) == (OLD, False)
    assert alice.email_verified_at is not None


def test_an_old_address_that_nobody_has_verified_learns_no_new_one_and_gets_no_link(
    operator_client, newcomer, mailoutbox
):
    typed(operator_client, newcomer, NEW)
    run_enqueued()
    [told] = [mail for mail in mailoutbox if mail.to == [OLD]]
    assert "an administrator has given your account at Steward another address." in told.body
    parts = told.body + html_of(told)
    assert [part in parts for part in (NEW, "/email-change/")] == [False, False]


def test_an_administrator_who_leads_an_account_back_gives_the_thief_no_link(operator_client, alice, mailoutbox):
    theft = confirmed(alice)
    Task.objects.all().delete()
    typed(operator_client, alice, OLD)
    run_enqueued()
    assert [mail.to for mail in mailoutbox] == [[OLD]]
    theft.refresh_from_db()
    assert theft.undone_at is not None
    assert not EmailChange.objects.undoable().exists()


def test_an_address_that_is_only_spelt_otherwise_is_the_same(operator_client, alices, alice):
    typed(operator_client, alice, OLD.upper())
    alice.refresh_from_db()
    assert alice.email_verified_at is not None
    assert alices.get("/accounts/").status_code == 200
    assert (Task.objects.count(), EmailChange.objects.count()) == (0, 0)


def test_a_user_who_is_switched_off_gets_no_mail_of_it(operator_client, alice, enqueued):
    typed(operator_client, alice, NEW, is_active="")
    assert (address_of(alice), enqueued()) == (NEW, [])
    assert events("email-changed") == [("succeeded", alice.pk)]


def test_a_stranger_whose_address_was_typed_by_mistake_neither_removes_the_account_nor_its_second_factors(
    operator_client, alice
):
    give_app(alice)
    typed(operator_client, alice, NEW)
    alice.refresh_from_db()
    page = text(Client().post(path(tokens.disown_url(alice))))
    assert "<h1>" in page
    assert User.objects.filter(pk=alice.pk).exists()
    Client().post(path(tokens.reset_url(alice)), {"password": "another lamp by the sea"})
    alice.refresh_from_db()
    assert alice.check_password("another lamp by the sea")
    assert Totp.objects.filter(user=alice).exists()


def test_an_address_that_an_administrator_types_and_what_follows_are_stored_together(transactional_db):
    def breaks(execute, sql, params, many, context):
        if "tasks_task" in sql:
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    alice = User.objects.create_user(OLD, PASSWORD)
    browser = logged_in(User.objects.create_superuser("operator@example.org", PASSWORD))
    browser.raise_request_exception = False
    fields = {"email": NEW, "language": "en", "is_active": "on"}
    with connection.execute_wrapper(breaks):
        assert browser.post(f"/admin/accounts/user/{alice.pk}/change/", fields).status_code == 500
    assert (address_of(alice), EmailChange.objects.count()) == (OLD, 0)
