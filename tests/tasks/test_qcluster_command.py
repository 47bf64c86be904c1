"""`manage.py qcluster`: wrong options. What it does with right ones is in test_cluster.py."""

import pytest
from django.core.management import CommandError, call_command, get_commands

from tasks.management.commands.qcluster import Command


def test_our_command_takes_the_place_of_the_one_of_django_q2():
    assert get_commands()["qcluster"] == "tasks"
    assert Command.__module__ == "tasks.management.commands.qcluster"


@pytest.mark.parametrize(
    ("queues", "unknown"),
    [
        ("letters", "'letters'"),
        ("mail,parcels,letters", "'letters', 'parcels'"),
        ("", "''"),
        ("mail,", "''"),
        ("Mail", "'Mail'"),
        ("mail;default", "'mail;default'"),
    ],
)
def test_an_unknown_queue_is_refused_with_the_known_ones(queues, unknown):
    with pytest.raises(CommandError) as refusal:
        call_command("qcluster", "--queues", queues)
    assert str(refusal.value) == f"--queues: there is no queue {unknown}. Known: default, mail, maintenance."


@pytest.mark.parametrize("workers", [0, -1, 257])
def test_a_number_of_workers_out_of_range_is_refused(workers):
    with pytest.raises(CommandError) as refusal:
        call_command("qcluster", f"--workers={workers}")
    assert str(refusal.value) == f"--workers is {workers}. Allowed: 1 to 256."


@pytest.mark.parametrize("workers", ["two", "1.5", ""])
def test_workers_that_are_no_whole_number_are_refused(workers):
    with pytest.raises(CommandError) as refusal:
        call_command("qcluster", f"--workers={workers}")
    assert str(refusal.value) == f"Error: argument --workers: invalid int value: {workers!r}"
