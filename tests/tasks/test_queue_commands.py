"""pausequeue and resumequeue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command

from tasks.models import Queue

pytestmark = pytest.mark.django_db


def test_a_paused_queue_says_who_and_why_until_it_is_resumed(capsys):
    call_command("pausequeue", "mail", "--by", "operator", "--reason", "the mail server moves")
    assert Queue.objects.paused().values_list("name", "paused_by", "paused_reason", "paused_until").get() == (
        "mail", "operator", "the mail server moves", None,
    )  # fmt: skip
    call_command("resumequeue", "mail")
    assert not Queue.objects.paused().exists()
    assert Queue.objects.values_list("paused_by", "paused_reason").get() == ("", "")
    assert capsys.readouterr().out == "Queue mail is paused until resumequeue.\nQueue mail is resumed.\n"


def test_a_pause_may_end_by_itself():
    call_command("pausequeue", "mail", "--for", "0.5")
    left = Queue.objects.get().paused_until - datetime.now(UTC)
    assert timedelta(seconds=25) < left <= timedelta(seconds=30)
    call_command("pausequeue", "mail", "--until", "2999-01-01T08:00+01:00")
    assert Queue.objects.get().paused_until == datetime(2999, 1, 1, 7, tzinfo=UTC)


def test_a_pause_keeps_the_counts_of_pruned_rows():
    Queue.objects.create(name="mail", pruned_successful=7)
    call_command("pausequeue", "mail")
    assert Queue.objects.get().pruned_successful == 7


def test_resuming_a_queue_that_is_not_paused_says_so(capsys):
    call_command("resumequeue", "mail")
    assert capsys.readouterr().out == "Queue mail was not paused.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pausequeue", "post"], "There is no queue 'post'. Known: default, mail, maintenance."),
        (["resumequeue", "post"], "There is no queue 'post'. Known: default, mail, maintenance."),
        (["pausequeue", "mail", "--for", "0"], "--for is 0. Allowed: minutes, more than 0 and at most a year."),
        (["pausequeue", "mail", "--for", "nan"], "--for is nan. Allowed: minutes, more than 0 and at most a year."),
        (["pausequeue", "mail", "--until", "soon"],
         "--until is 'soon'. Allowed: a time such as 2030-12-31T08:00+01:00."),
        (["pausequeue", "mail", "--until", "2020-02-30T00:00"],
         "--until is '2020-02-30T00:00'. Allowed: a time such as 2030-12-31T08:00+01:00."),
        (["pausequeue", "mail", "--until", "2020-01-01T00:00Z"], "--until is '2020-01-01T00:00Z', which is over."),
        (["pausequeue", "mail", "--reason", "x" * 256], "--reason has 256 characters. Allowed: at most 255."),
    ],
)  # fmt: skip
def test_a_mistake_is_named_and_nothing_is_paused(arguments, message):
    with pytest.raises(CommandError) as error:
        call_command(*arguments)
    assert str(error.value) == message
    assert not Queue.objects.exists()
