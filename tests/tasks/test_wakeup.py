"""Waking up: another connection's commit ends the wait, on both databases."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import connection

from tasks import wakeup
from tests.work import tasks as work

pytestmark = pytest.mark.django_db(transaction=True)


def waited(seconds: float, is_over=lambda: False) -> float:
    began = time.monotonic()
    wakeup.wait(seconds, is_over)
    return time.monotonic() - began


@pytest.fixture
def settled():
    """Past the first look, which never waits: what was committed before it is not known."""
    while waited(0.05) < 0.05:
        continue


def enqueue_soon() -> threading.Thread:
    def enqueue() -> None:
        work.add.enqueue(1)
        connection.close()

    timer = threading.Timer(0.2, enqueue)
    timer.start()
    return timer


def test_an_enqueue_ends_the_wait(settled):
    timer = enqueue_soon()
    assert 0.15 < waited(10) < 5
    timer.join()


def test_nothing_ends_the_wait_but_its_time(settled):
    assert 0.3 <= waited(0.3) < 2


def test_a_drain_ends_the_wait(settled):
    assert waited(10, is_over=lambda: True) < 1


def test_a_new_connection_does_not_wait_for_what_it_may_have_missed(settled):
    connection.close()
    assert waited(10) < 5
