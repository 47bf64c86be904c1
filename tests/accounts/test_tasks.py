"""The task functions of accounts: what they are given, and what they do in each state of the account."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django_tasks import TaskContext

from accounts import tasks, tokens
from accounts.events import Kind, record
from accounts.models import User
from tasks.exceptions import Discard
from tasks.functions import registry, retention_of
from tasks.models import Task
from tasks.testing import run_enqueued
from tests.accounts.conftest import html_of
from tests.conftest import PASSWORD

FUNCTIONS = [tasks.send_welcome_email, tasks.send_already_registered_email, tasks.send_password_changed_email]
BY_ADDRESS = [tasks.send_password_reset_email, tasks.resend_verification_email]
BY_EVENT = [tasks.send_new_login_email]
WELCOME = "Welcome to Steward: please verify your address"
KNOWN = "You already have an account at Steward"


def run(function, argument: int | str) -> str:
    """Enqueue a task, run its function as an attempt does, and return the task's id."""
    result = function.enqueue(argument)
    function.func(TaskContext(task_result=result), argument)
    return result.id


@pytest.mark.parametrize("function", FUNCTIONS + BY_ADDRESS + BY_EVENT)
def test_each_is_a_registered_task_function(function):
    assert registry[function.module_path] is function


@pytest.mark.parametrize("function", FUNCTIONS + BY_ADDRESS + BY_EVENT)
def test_mails_are_urgent_and_have_a_queue_of_their_own_and_enough_attempts_for_a_long_outage(function):
    assert (function.queue_name, function.priority, function.max_attempts, function.timeout) == ("mail", 10, 12, 60)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_outage_of_an_hour_is_survived_even_by_an_average_draw(function):
    draws = [function.backoff(attempt).total_seconds() for attempt in range(1, 12) for _draw in range(500)]
    assert 3600 < sum(draws) / 500 < 5400
    assert max(draws) <= 3600


def test_a_newcomer_is_welcomed(newcomer, mailoutbox):
    task_id = run(tasks.send_welcome_email, newcomer.pk)
    [mail] = mailoutbox
    assert (mail.subject, mail.to) == (WELCOME, ["alice@example.org"])
    assert mail.extra_headers["Message-ID"] == f"<task-{task_id}@testserver>"


def test_nobody_is_welcomed_after_the_address_was_verified(alice, mailoutbox):
    run(tasks.send_welcome_email, alice.pk)
    assert mailoutbox == []


def test_a_verified_user_is_told_of_another_signup(alice, mailoutbox):
    task_id = run(tasks.send_already_registered_email, alice.pk)
    [mail] = mailoutbox
    assert (mail.subject, mail.to) == (KNOWN, ["alice@example.org"])
    assert mail.extra_headers["Message-ID"] == f"<task-{task_id}@testserver>"


def test_a_newcomer_who_signs_up_again_gets_a_new_link(newcomer, mailoutbox):
    run(tasks.send_already_registered_email, newcomer.pk)
    assert [mail.subject for mail in mailoutbox] == [WELCOME]
    assert "/accounts/verify/" in mailoutbox[0].body


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_task_that_runs_twice_sends_the_same_message_id_twice(newcomer, mailoutbox, function):
    result = function.enqueue(newcomer.pk)
    for _ in range(2):
        function.func(TaskContext(task_result=result), newcomer.pk)
    first, second = mailoutbox
    assert first.extra_headers["Message-ID"] == second.extra_headers["Message-ID"] == f"<task-{result.id}@testserver>"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_account_that_was_switched_off_gets_no_mail(newcomer, mailoutbox, function):
    User.objects.update(is_active=False)
    with pytest.raises(Discard, match=r"^The account is gone or was switched off\.$"):
        run(function, newcomer.pk)
    assert mailoutbox == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_account_that_is_gone_gets_no_mail(alice, mailoutbox, function):
    with pytest.raises(Discard, match=r"^The account is gone or was switched off\.$"):
        run(function, alice.pk + 1)
    assert mailoutbox == []


def test_an_account_that_is_gone_is_not_tried_again(alice, mailoutbox):
    tasks.send_welcome_email.enqueue(alice.pk)
    User.objects.all().delete()
    [task] = run_enqueued()
    assert (task.status, task.attempts) == ("FAILED", 1)
    assert task.finished_at is not None
    assert mailoutbox == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_link_of_a_signup_is_made_from_site_url_and_not_from_the_host_that_was_asked(client, db, mailoutbox, host):
    data = {"email": "new@example.org", "password": PASSWORD}
    assert client.post("/accounts/signup/", data, headers={"Host": host}).status_code == 302
    run_enqueued()
    [mail] = mailoutbox
    [link] = [line for line in mail.body.splitlines() if "/accounts/verify/" in line]
    assert link.startswith("http://testserver/accounts/verify/")
    assert host not in mail.body + html_of(mail)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_mail_goes_to_the_present_address(newcomer, mailoutbox, function):
    result = function.enqueue(newcomer.pk)
    User.objects.update(email="new@example.org")
    function.func(TaskContext(task_result=result), newcomer.pk)
    assert [mail.to for mail in mailoutbox] == [["new@example.org"]]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_task_carries_an_id_and_nothing_else(alice, function):
    function.enqueue(alice.pk)
    assert Task.objects.values_list("args", "kwargs").get() == ([alice.pk], {})


@pytest.mark.parametrize("function", BY_EVENT)
def test_a_task_about_an_event_goes_to_its_user_under_one_message_id(alice, mailoutbox, function):
    event = record(Kind.LOGIN, user=alice)
    result = function.enqueue(event.pk)
    for _ in range(2):
        function.func(TaskContext(task_result=result), event.pk)
    assert [mail.to for mail in mailoutbox] == [["alice@example.org"]] * 2
    assert {mail.extra_headers["Message-ID"] for mail in mailoutbox} == {f"<task-{result.id}@testserver>"}
    User.objects.update(is_active=False)
    with pytest.raises(Discard, match=r"^The account is gone or was switched off\.$"):
        run(function, event.pk)


# Tasks that are given an address -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["SUCCESSFUL", "FAILED"])
@pytest.mark.parametrize("function", BY_ADDRESS)
def test_an_address_is_shown_to_few_and_kept_for_a_day(function, status):
    assert function.sensitive == ("email",)
    assert retention_of(function.module_path, status) == timedelta(days=1)


@pytest.mark.parametrize("function", BY_ADDRESS)
def test_an_unknown_address_gets_no_mail_and_its_task_is_no_failure(alice, mailoutbox, function):
    function.enqueue("nobody@example.org")
    [task] = run_enqueued()
    assert (task.status, task.attempts, task.return_value) == ("SUCCESSFUL", 1, None)
    assert mailoutbox == []


@pytest.mark.parametrize("function", BY_ADDRESS)
def test_the_address_of_an_account_that_was_switched_off_gets_no_mail(newcomer, mailoutbox, function):
    User.objects.update(is_active=False)
    run(function, newcomer.email)
    assert mailoutbox == []


@pytest.mark.parametrize("is_verified", [True, False])
def test_a_user_gets_a_link_to_a_new_password_verified_or_not(alice, mailoutbox, is_verified):
    if not is_verified:
        User.objects.update(email_verified_at=None)
    task_id = run(tasks.send_password_reset_email, alice.email)
    [mail] = mailoutbox
    assert (mail.subject, mail.to) == ("A new password for Steward", ["alice@example.org"])
    assert mail.extra_headers["Message-ID"] == f"<task-{task_id}@testserver>"


def test_an_account_whose_password_an_administrator_took_away_gets_no_link_to_a_new_one(alice, mailoutbox):
    alice.set_unusable_password()
    alice.save()
    run(tasks.send_password_reset_email, alice.email)
    assert mailoutbox == []


def test_a_link_to_a_new_password_is_made_when_the_mail_is_sent(alice, mailoutbox):
    tasks.send_password_reset_email.enqueue(alice.email)
    alice.set_password("another lamp by the sea")
    alice.save()
    run_enqueued()
    [link] = [line for line in mailoutbox[0].body.splitlines() if "/accounts/password-reset/" in line]
    assert tokens.user_of_reset(link.split("/")[-2]) == alice


def test_a_newcomer_gets_the_link_that_verifies_again(newcomer, mailoutbox):
    task_id = run(tasks.resend_verification_email, newcomer.email)
    [mail] = mailoutbox
    assert (mail.subject, mail.to) == (WELCOME, ["alice@example.org"])
    assert "/accounts/verify/" in mail.body
    assert mail.extra_headers["Message-ID"] == f"<task-{task_id}@testserver>"


def test_an_address_that_is_verified_gets_no_link_that_verifies(alice, mailoutbox):
    run(tasks.resend_verification_email, alice.email)
    assert mailoutbox == []
