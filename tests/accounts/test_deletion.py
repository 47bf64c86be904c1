"""The deletion of an account: asked for, taken back, done."""

from __future__ import annotations

import smtplib
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.core.mail.backends.locmem import EmailBackend
from django.db import OperationalError, connection
from django.test import Client, RequestFactory
from django.utils import timezone

from accounts import deletion, erasure, tasks
from accounts.erasure import BY
from accounts.models import (
    EmailChange,
    Export,
    KnownBrowser,
    Passkey,
    RecoveryCode,
    SecurityEvent,
    Session,
    Totp,
    User,
)
from accounts.personal_data import personal_data, registered
from tasks.audit import audit
from tasks.models import Task, TaskError
from tasks.subjects import MARK
from tasks.testing import run_enqueued
from tests.accounts.conftest import browser_of, just_before_a_commit
from tests.conftest import PASSWORD
from tests.tasks import rows

URL = "/accounts/delete/"
KEEP = "/accounts/keep/"
ADDRESS = "alice@example.org"
LONG_AGO = timezone.now() - timedelta(days=1)


def text(response) -> str:
    return response.content.decode()


def events() -> list[tuple[str, str]]:
    return list(SecurityEvent.objects.order_by("pk").values_list("kind", "outcome"))


def make_due(user: User) -> None:
    """Let the days of grace pass."""
    past = timezone.now() - timedelta(seconds=1)
    assert User.objects.filter(pk=user.pk).update(delete_after=past)
    Task.objects.filter(task_path="accounts.tasks.erase_account").update(run_after=past)


def ask(user: User) -> Client:
    browser = browser_of(user)
    assert browser.post(URL)["Location"] == "/accounts/"
    return browser


# Asked for and taken back ---------------------------------------------------------------------------------------------


def test_the_page_says_what_happens_and_asks_for_the_password_where_it_was_not_typed_lately(alice):
    client = Client()
    client.force_login(alice)
    for response in (client.get(URL), client.post(URL)):
        assert response["Location"] == f"/accounts/reauthenticate/?next={URL}"
    assert User.objects.get().delete_after is None
    page = browser_of(alice).get(URL)
    assert "Your account stays as it is for 14 more days" in text(page)
    assert "no-store" in page["Cache-Control"]
    assert f'href="{URL}"' in text(client.get("/accounts/"))


def test_a_deletion_is_dated_and_its_task_and_mail_are_stored_with_it(alice, enqueued):
    before = timezone.now()
    ask(alice)
    after = User.objects.get().delete_after
    assert before + timedelta(days=14) <= after <= timezone.now() + timedelta(days=14)
    assert enqueued() == [("erase_account", [alice.pk]), ("send_deletion_asked_email", [alice.pk])]
    assert Task.objects.get(task_path="accounts.tasks.erase_account").run_after == after
    assert events() == [("deletion-asked", "succeeded")]


def test_it_is_asked_for_once(alice, enqueued):
    browser = ask(alice)
    first = User.objects.get().delete_after
    assert browser.post(URL).status_code == 302
    assert User.objects.get().delete_after == first
    assert len(enqueued()) == 2
    assert "You have asked for it already." in text(browser.get(URL))


def test_what_cannot_be_stored_leaves_nothing(transactional_db):
    alice = User.objects.create_user(ADDRESS, PASSWORD)
    browser = browser_of(alice)
    browser.raise_request_exception = False

    def breaks(execute, sql, params, many, context):
        if "accounts_securityevent" in sql:
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(breaks):
        assert browser.post(URL).status_code == 500
    assert (User.objects.get().delete_after, Task.objects.count()) == (None, 0)


def test_the_account_stays_usable_and_every_page_has_the_way_back(alice):
    browser = ask(alice)
    after = User.objects.get().delete_after
    for path in ("/", "/accounts/", URL):
        page = text(browser.get(path))
        assert f"Your account will be deleted on {after:%b. %-d, %Y}." in page
        assert f'<form method="post" action="{KEEP}"' in page
    page = browser.post(KEEP, follow=True)
    assert "Your account stays." in text(page)
    assert KEEP not in text(page)
    assert User.objects.get().delete_after is None
    assert events() == [("deletion-asked", "succeeded"), ("deletion-cancelled", "succeeded")]


def test_nothing_is_taken_back_where_nothing_was_asked_for(alice):
    page = browser_of(alice).post(KEEP, follow=True)
    assert "Your account stays." not in text(page)
    assert events() == []


def test_whose_session_ended_meanwhile_comes_from_the_login_back_to_the_button(alice):
    ask(alice)
    visitor = Client()
    login = visitor.post(KEEP)["Location"]
    assert login == f"/accounts/login/?next={KEEP}"
    back = visitor.post(login, {"username": ADDRESS, "password": PASSWORD}, follow=True)
    assert f'<form method="post" action="{KEEP}"' in text(back)
    assert back.redirect_chain[-1] == ("/accounts/", 302)
    assert User.objects.get().delete_after is not None


def test_a_deletion_that_was_taken_back_erases_nothing(alice, mailoutbox):
    ask(alice).post(KEEP)
    Task.objects.update(run_after=LONG_AGO)
    run_enqueued()
    assert User.objects.values_list("email", "is_active").get() == (ADDRESS, True)
    assert mailoutbox == []
    ask(alice)
    Task.objects.filter(task_path="accounts.tasks.erase_account").update(run_after=LONG_AGO)
    run_enqueued()
    assert User.objects.values_list("email", "is_active").get() == (ADDRESS, True)
    assert [mail.subject for mail in mailoutbox] == ["Your account at Steward will be deleted"]


def test_the_mail_says_when_and_how_to_keep_the_account(alice, mailoutbox):
    ask(alice)
    run_enqueued()
    [mail] = mailoutbox
    after = User.objects.get().delete_after
    assert mail.to == [ADDRESS]
    assert f"That will happen on {after:%b. %-d, %Y}." in mail.body
    assert "choose “Keep my account”:\n\nhttp://testserver/accounts/\n" in mail.body


def test_the_csrf_token_is_asked_for(alice):
    careful = browser_of(alice)
    careful.handler.enforce_csrf_checks = True
    assert [careful.post(path).status_code for path in (URL, KEEP)] == [403, 403]


# The last superuser ---------------------------------------------------------------------------------------------------


def test_the_last_superuser_cannot_leave(operator, alice):
    User.objects.create_superuser("off@example.org", PASSWORD, is_active=False)
    User.objects.create_superuser("leaving@example.org", PASSWORD, delete_after=timezone.now())
    response = browser_of(operator).post(URL)
    assert response.status_code == 409
    assert "You are the last administrator who can manage everything here." in text(response)
    assert User.objects.get(pk=operator.pk).delete_after is None
    assert Task.objects.count() == 0
    assert events() == [("deletion-asked", "refused")]
    ask(alice)


def test_one_of_two_superusers_can_leave_and_then_the_other_cannot(operator):
    second = User.objects.create_superuser("second@example.org", PASSWORD)
    ask(second)
    assert browser_of(operator).post(URL).status_code == 409


def test_of_two_superusers_who_leave_at_once_one_is_refused(transactional_db):
    one, two = [User.objects.create_superuser(f"{name}@example.org", PASSWORD) for name in ("one", "two")]

    def leave(user: User) -> bool:
        try:
            return deletion.ask(user, RequestFactory().post(URL)) is not None
        except deletion.LastSuperuser:
            return False

    assert just_before_a_commit(lambda: leave(one), lambda: leave(two)) == (True, False)
    assert list(User.objects.filter(delete_after=None)) == [two]


def test_who_has_become_the_last_superuser_meanwhile_is_kept(operator, mailoutbox):
    second = User.objects.create_superuser("second@example.org", PASSWORD)
    ask(second)
    operator.delete()
    make_due(second)
    run_enqueued()
    assert User.objects.values_list("email", "is_active", "delete_after").get() == ("second@example.org", True, None)
    assert events()[-1] == ("account-deleted", "refused")
    assert "Your account at Steward is deleted" not in [mail.subject for mail in mailoutbox]


# Done -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(alice, operator) -> User:
    """Alice, with a row of everything, of which some others have too."""
    for user in (alice, operator):
        browser_of(user)
        KnownBrowser.objects.create(user=user, digest="a", user_agent="Browser of " + user.display_name)
        EmailChange.objects.create(user=user, old_email=f"old-{user.email}", new_email=user.email)
        Export.objects.create(user=user, expires_at=timezone.now() + timedelta(days=1), content=b"zip")
        Totp.objects.create(user=user, secret="x")
        RecoveryCode.objects.create(user=user, digest="a")
        Passkey.objects.create(user=user, name="Key", credential_id=user.email, public_key=b"k")
        SecurityEvent.objects.create(
            kind="login", outcome="succeeded", user=user, actor=user, address="192.0.2.7", user_agent="Browser",
            details={"email": user.email},
        )  # fmt: skip
        user.groups.add(Group.objects.get_or_create(name="readers")[0])
    SecurityEvent.objects.create(
        kind="changed-by-administrator", outcome="succeeded", user=operator, actor=alice, address="192.0.2.7"
    )
    from django.contrib.contenttypes.models import ContentType

    of_users = ContentType.objects.get_for_model(User)
    LogEntry.objects.create(
        user=operator, action_flag=2, object_id=alice.pk, object_repr=ADDRESS, content_type=of_users
    )
    return alice


def everything(*but: str) -> str:
    """All rows of all tables, as text."""
    from django.apps import apps

    rows: list[Any] = []
    for model in apps.get_models(include_auto_created=True):
        if not model._meta.proxy and model._meta.managed and model._meta.label not in but:
            with connection.cursor() as cursor:
                if model._meta.db_table in connection.introspection.table_names(cursor):
                    rows += model._base_manager.values_list()
    return str(rows)


def test_an_erased_account_leaves_nothing_but_that_something_happened(busy, operator, mailoutbox):
    tasks.send_password_reset_email.enqueue(ADDRESS)
    tasks.send_password_changed_email.enqueue(busy.pk)
    run_enqueued()
    ask(busy)
    run_enqueued()
    make_due(busy)
    mailoutbox.clear()
    waiting = tasks.send_password_reset_email.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(ADDRESS)
    run_enqueued()
    assert list(User.objects.all()) == [operator]
    assert "alice" not in everything().lower()
    assert [(mail.subject, mail.to) for mail in mailoutbox] == [("Your account at Steward is deleted", [ADDRESS])]
    for model in (Session, KnownBrowser, EmailChange, Export, Totp, RecoveryCode, Passkey):
        assert list(model.objects.values_list("user", flat=True)) == [operator.pk], model
    assert set(SecurityEvent.objects.exclude(user=operator).values_list("user", "actor", "address", "user_agent")) == {
        (None, None, None, "")
    }
    mine = SecurityEvent.objects.get(kind="login", user=operator)
    assert (mine.address, mine.details) == ("192.0.2.7", {"email": operator.email})
    by_alice = SecurityEvent.objects.get(kind="changed-by-administrator")
    assert (by_alice.user, by_alice.actor, by_alice.address) == (operator, None, None)
    assert events()[-1] == ("account-deleted", "succeeded")
    cancelled = Task.objects.get(pk=waiting.id)
    assert (cancelled.status, cancelled.args, cancelled.cancel_requested_by) == ("FAILED", [MARK], BY)
    left = Task.objects.exclude(args=[MARK]).values_list("task_path", "args")
    assert list(left) == [("accounts.tasks.send_account_deleted_email", [busy.pk])]  # the last one; goes after a day
    assert audit()["ok"]


def test_nobody_gets_in_once_the_erasure_has_begun(alice):
    browser = ask(alice)
    make_due(alice)
    Task.objects.filter(task_path="accounts.tasks.send_deletion_asked_email").delete()
    assert browser.get("/accounts/").status_code == 200

    def breaks(execute, sql, params, many, context):
        if sql.startswith("DELETE") and "accounts_session" in sql:
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(breaks):
        run_enqueued()
    assert TaskError.objects.get().message == "the disk is full"
    assert User.objects.get().is_active is False
    assert browser.get("/accounts/").status_code == 302
    assert deletion.take_back(alice, RequestFactory().post(KEEP)) is False
    Task.objects.update(run_after=LONG_AGO)
    run_enqueued()
    assert User.objects.count() == 0


@pytest.mark.parametrize("_round", range(5))
def test_who_takes_it_back_just_when_the_time_is_over_keeps_all_or_nothing(transactional_db, _round):
    alice = User.objects.create_user(ADDRESS, PASSWORD, display_name="Alice", delete_after=LONG_AGO)
    browser_of(alice)
    request = RequestFactory().post(KEEP)
    acts = [lambda: ("kept", deletion.take_back(alice, request)), lambda: ("erased", erasure.erase(alice.pk))]
    answers = dict(rows.at_the_same_time(2, lambda: acts.pop()()))
    assert sorted(answers.values()) == [False, True]
    alice.refresh_from_db()
    left = (alice.is_active, alice.delete_after is None, Session.objects.count())
    assert left == ((True, True, 1) if answers["kept"] else (False, False, 0))


def test_the_addresses_of_events_can_be_cut_and_nothing_else_of_them_changes(busy, operator):
    before = list(SecurityEvent.objects.order_by("pk").values())
    assert SecurityEvent.objects.filter(user=busy).cut_addresses() == 1
    assert SecurityEvent.objects.filter(user=busy).cut_addresses() == 0
    after = list(SecurityEvent.objects.order_by("pk").values())
    cut = {"address": None, "user_agent": ""}
    assert after == [row | cut if row["user_id"] == busy.pk else row for row in before]


def test_the_erasure_may_run_twice(busy, operator, mailoutbox):
    ask(busy)
    make_due(busy)
    tasks.erase_account.enqueue(busy.pk)
    run_enqueued()
    tasks.erase_account.enqueue(busy.pk)
    tasks.send_account_deleted_email.enqueue(busy.pk)
    run_enqueued()
    assert list(User.objects.all()) == [operator]
    assert [mail.subject for mail in mailoutbox].count("Your account at Steward is deleted") == 1
    assert events().count(("account-deleted", "succeeded")) == 1
    assert audit()["ok"]


def test_two_erasures_at_once_do_not_stop_each_other(alice):
    ask(alice)
    make_due(alice)
    other = rows.running(args=[alice.pk])
    Task.objects.filter(pk=other.pk).update(task_path="accounts.tasks.erase_account")
    waiting = tasks.erase_account.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(alice.pk)
    assert erasure.erase(alice.pk) is True
    assert rows.state(other)["cancel_requested_at"] is None
    assert rows.row(waiting).status == "READY"
    run_enqueued()
    assert User.objects.count() == 0
    assert rows.row(waiting).status == "FAILED"
    assert audit()["ok"]


def test_an_erasure_waits_for_a_task_that_runs(alice, mailoutbox):
    ask(alice)
    make_due(alice)
    running = rows.running(args=[alice.pk])
    Task.objects.filter(pk=running.pk).update(task_path="accounts.tasks.send_password_changed_email")
    run_enqueued()
    assert User.objects.get().is_active is False
    erasing = Task.objects.get(task_path="accounts.tasks.erase_account")
    assert (erasing.status, erasing.attempts) == ("READY", 0)
    assert rows.state(running)["cancel_requested_by"] == BY
    Task.objects.filter(pk=running.pk).update(
        status="SUCCESSFUL", finished_at=timezone.now(), lease_id=None, leased_at=None, cluster=None
    )
    Task.objects.update(run_after=LONG_AGO)
    run_enqueued()
    assert User.objects.count() == 0


class Refusing(EmailBackend):
    """A mail server that knows no such address."""

    def send_messages(self, messages: Any) -> int:
        raise smtplib.SMTPRecipientsRefused({ADDRESS: (550, b"no such user")})


def test_a_mail_that_nobody_takes_delays_the_end_and_does_not_prevent_it(alice, settings, caplog):
    settings.EMAIL_BACKEND = "tests.accounts.test_deletion.Refusing"
    ask(alice)
    make_due(alice)
    Task.objects.filter(task_path="accounts.tasks.send_deletion_asked_email").delete()
    run_enqueued()
    goodbye = Task.objects.filter(task_path="accounts.tasks.send_account_deleted_email")
    while goodbye.get().status == "READY":
        left = User.objects.get()
        assert (left.email, left.display_name, left.has_usable_password()) == (ADDRESS, "", False)
        goodbye.update(run_after=LONG_AGO)
        run_enqueued()
    assert (goodbye.get().status, goodbye.get().attempts) == ("SUCCESSFUL", tasks.MAIL["max_attempts"])
    assert User.objects.count() == 0
    assert ADDRESS not in caplog.text


def test_while_the_goodbye_waits_nothing_but_the_address_is_left(busy, settings):
    settings.EMAIL_BACKEND = "tests.accounts.test_deletion.Refusing"
    ask(busy)
    make_due(busy)
    run_enqueued()
    assert Task.objects.get(task_path="accounts.tasks.send_account_deleted_email").status == "READY"
    assert User.objects.get(pk=busy.pk).groups.count() == 0
    for model in (Session, KnownBrowser, EmailChange, Export, Totp, RecoveryCode, Passkey):
        assert not model._default_manager.filter(user=busy).exists(), model
    assert not SecurityEvent.objects.filter(user=busy).exists()


def test_what_the_refusals_said_is_scrubbed_too(alice, settings):
    settings.EMAIL_BACKEND = "tests.accounts.test_deletion.Refusing"
    login = SecurityEvent.objects.create(kind="login", outcome="succeeded", user=alice, actor=alice)
    warning = SecurityEvent.objects.create(kind="password-warning", outcome="succeeded", user=alice)
    change = EmailChange.objects.create(user=alice, old_email=ADDRESS, new_email="new-alice@example.org")
    copy = Export.objects.create(user=alice, finished_at=timezone.now(), expires_at=timezone.now() + timedelta(days=1))
    enqueued = [
        tasks.send_password_changed_email.enqueue(alice.pk),
        tasks.send_new_login_email.enqueue(login.pk),
        tasks.send_password_warning_email.enqueue(warning.pk),
        tasks.send_email_change_asked_email.enqueue(change.pk),
        tasks.send_export_ready_email.enqueue(copy.pk),
    ]
    run_enqueued()
    errors = TaskError.objects.all()
    assert all(ADDRESS in error.message for error in errors)
    assert {str(error.task_id) for error in errors} == {result.id for result in enqueued}
    ask(alice)
    make_due(alice)
    Task.objects.filter(task_path="accounts.tasks.send_deletion_asked_email").delete()
    run_enqueued()
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    Task.objects.update(run_after=LONG_AGO)
    run_enqueued()
    assert User.objects.count() == 0
    assert "alice" not in everything()


def test_what_happens_to_the_account_until_it_is_gone_is_forgotten_too(alice, settings):
    settings.EMAIL_BACKEND = "tests.accounts.test_deletion.Refusing"
    ask(alice)
    make_due(alice)
    Task.objects.filter(task_path="accounts.tasks.send_deletion_asked_email").delete()
    run_enqueued()
    Client().post("/accounts/login/", {"username": ADDRESS, "password": "guessed"}, headers={"User-Agent": "Guesser"})
    assert SecurityEvent.objects.filter(user=alice, user_agent="Guesser").exists()
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    Task.objects.update(run_after=LONG_AGO)
    run_enqueued()
    assert User.objects.count() == 0
    assert set(SecurityEvent.objects.values_list("user", "address", "user_agent")) == {(None, None, "")}


def test_what_an_operator_did_with_tasks_names_them_no_longer(alice):
    task = rows.ready("send_password_changed_email", args=[0])
    Task.objects.filter(pk=task.pk).cancel(by=str(alice))
    assert ADDRESS in TaskError.objects.get().message
    ask(alice)
    make_due(alice)
    run_enqueued()
    assert User.objects.count() == 0
    assert ADDRESS not in everything()


def test_what_a_refusal_said_in_a_task_of_somebody_else_is_scrubbed_too(alice, operator, settings):
    settings.EMAIL_BACKEND = "tests.accounts.test_deletion.Refusing"
    change = EmailChange.objects.create(user=operator, old_email=operator.email, new_email=ADDRESS)
    tasks.send_email_change_link.enqueue(change.pk)
    run_enqueued()
    change.delete()
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    [error, *_more] = TaskError.objects.all()
    assert ADDRESS in error.message
    assert ADDRESS in error.traceback
    ask(alice)
    make_due(alice)
    run_enqueued()
    assert list(User.objects.all()) == [operator]
    assert ADDRESS not in everything()
    error.refresh_from_db()
    assert "550" in error.message


def test_another_app_erases_what_it_keeps(alice):
    erased: list[int] = []
    personal_data("orders", "orders", lambda user: [], lambda user: erased.append(user.pk))
    try:
        ask(alice)
        make_due(alice)
        run_enqueued()
    finally:
        del registered["orders"]
    assert erased == [alice.pk, alice.pk]  # once more at the very end, for what came meanwhile


# By an administrator --------------------------------------------------------------------------------------------------

LIST = "/admin/accounts/user/"


@pytest.fixture
def orders():
    """The users whose orders another app has erased."""
    erased: list[int] = []
    personal_data("orders", "orders", lambda user: [], lambda user: erased.append(user.pk))
    yield erased
    del registered["orders"]


def delete(browser: Client, *users: User, many: bool = False) -> str:
    """Delete users in the administration, one or from the list; return the page after it."""
    if many:
        data = {"action": "delete_selected", "_selected_action": [user.pk for user in users], "post": "yes"}
        return text(browser.post(LIST, data, follow=True))
    [user] = users
    return text(browser.post(f"{LIST}{user.pk}/delete/", {"post": "yes"}, follow=True))


@pytest.mark.parametrize("many", [False, True], ids=["one", "from the list"])
def test_who_is_deleted_by_an_administrator_is_erased_like_everybody_without_grace(
    busy, operator, orders, mailoutbox, many
):
    tasks.send_password_changed_email.enqueue(busy.pk)
    run_enqueued()
    mailoutbox.clear()
    browser = browser_of(operator)
    users = browser_of(busy)
    page = delete(browser, busy, many=many)
    assert "1 account is closed. What is stored about its user is being erased." in page
    assert "successfully" not in page
    assert users.get("/accounts/").status_code == 302
    assert deletion.take_back(busy, RequestFactory().post(KEEP)) is False
    event = SecurityEvent.objects.get(kind="deletion-asked")
    assert (event.user, event.actor) == (busy, operator)
    run_enqueued()
    assert list(User.objects.all()) == [operator]
    assert orders == [busy.pk, busy.pk]
    assert "alice" not in everything().lower()
    assert [(mail.subject, mail.to) for mail in mailoutbox] == [("Your account at Steward is deleted", [ADDRESS])]
    event = SecurityEvent.objects.get(kind="deletion-asked")
    assert (event.user, event.actor) == (None, operator)
    assert audit()["ok"]


@pytest.mark.parametrize("many", [False, True], ids=["one", "from the list"])
def test_the_page_that_asks_an_administrator_says_what_happens(alice, operator, orders, many):
    browser = browser_of(operator)
    data = {"action": "delete_selected", "_selected_action": [alice.pk]}
    page = text(browser.post(LIST, data) if many else browser.get(f"{LIST}{alice.pk}/delete/"))
    assert "Are you sure" in page
    assert "A deletion closes the account at once: nobody can log in to it any more or take the deletion back." in page
    assert [f"<li>{title}</li>" in page for title in ("Profile", "Sessions", "Orders")] == [True] * 3
    assert ADDRESS in page
    assert User.objects.filter(pk=alice.pk, is_active=True, delete_after=None).exists()


@pytest.mark.parametrize("many", [False, True], ids=["one", "from the list"])
def test_an_administrator_who_is_leaving_does_not_delete_the_last_superuser(alice, operator, many):
    leaving = User.objects.create_superuser("leaving@example.org", PASSWORD)
    browser = ask(leaving)
    page = delete(browser, operator, *([alice] if many else []), many=many)
    assert "The last administrator who can manage everything here cannot be deleted." in page
    assert set(User.objects.filter(is_active=True, delete_after=None)) == ({operator} if many else {operator, alice})
    assert events().count(("deletion-asked", "refused")) == 1
    assert LogEntry.objects.count() == many


def test_an_account_that_is_switched_off_or_leaves_already_can_be_deleted_by_an_administrator(alice, operator):
    ask(alice)
    off = User.objects.create_user("off@example.org", PASSWORD, is_active=False)
    delete(browser_of(operator), alice, off, many=True)
    run_enqueued()
    assert list(User.objects.all()) == [operator]


def test_what_an_administrator_deletes_is_stored_with_its_task_or_not_at_all(transactional_db):
    alice = User.objects.create_user(ADDRESS, PASSWORD)
    browser = browser_of(User.objects.create_superuser("operator@example.org", PASSWORD))
    browser.raise_request_exception = False

    def breaks(execute, sql, params, many, context):
        if "tasks_task" in sql:
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(breaks):
        assert browser.post(f"{LIST}{alice.pk}/delete/", {"post": "yes"}).status_code == 500
    assert User.objects.filter(pk=alice.pk, is_active=True, delete_after=None).exists()
    assert (LogEntry.objects.count(), Task.objects.count()) == (0, 0)
