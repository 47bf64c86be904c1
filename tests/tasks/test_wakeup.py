"""Waking up: another connection's commit ends the wait, on both databases."""

from __future__ import annotations

import threading
import time
from pathlib import Path

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


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL notifies; there is no file to watch")
def test_the_file_is_watched_on_linux_and_asked_about_often_elsewhere(settled, monkeypatch):
    assert wakeup._log_of(Path(connection.settings_dict["NAME"])) is not None
    monkeypatch.setattr(wakeup, "_log_of", lambda path: None)
    timer = enqueue_soon()
    assert 0.15 < waited(10) < 5
    timer.join()


def test_a_wait_without_news_uses_next_to_no_cpu(settled):
    began = time.process_time()
    waited(2)
    assert time.process_time() - began < 0.1
