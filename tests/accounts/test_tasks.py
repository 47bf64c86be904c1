"""The task functions of accounts: what they are given, and what they do in each state of the account."""

from __future__ import annotations

import pytest
from django_tasks import TaskContext

from accounts import tasks
from accounts.models import User
from tasks.exceptions import Discard
from tasks.functions import registry
from tasks.models import Task
from tasks.testing import run_enqueued
from tests.accounts.conftest import html_of
from tests.conftest import PASSWORD

FUNCTIONS = [tasks.send_welcome_email, tasks.send_already_registered_email]
WELCOME = "Welcome to Steward: please verify your address"
KNOWN = "You already have an account at Steward"


def run(function, user_id: int) -> str:
    """Enqueue a task, run its function as an attempt does, and return the task's id."""
    result = function.enqueue(user_id)
    function.func(TaskContext(task_result=result), user_id)
    return result.id


def test_both_are_registered_task_functions():
    assert [registry[function.module_path] for function in FUNCTIONS] == FUNCTIONS


@pytest.mark.parametrize("function", FUNCTIONS)
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
