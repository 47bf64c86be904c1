"""Waking up: another connection's commit ends the wait, on both databases."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from django.db import connection

from tasks import statements, wakeup
from tasks.wakeup import PostgreSQLWakeup, Wakeup, wakeup_for
from tests.tasks.rows import in_another_thread
from tests.work import tasks as work

pytestmark = pytest.mark.django_db(transaction=True)

only_postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="on SQLite each process sees the file for itself"
)


def waited(ear: Wakeup, seconds: float, is_over=lambda: False) -> float:
    began = time.monotonic()
    ear.wait(seconds, is_over)
    return time.monotonic() - began


def settled(queues: list[str]) -> Wakeup:
    """Past the first look, which never waits: what was committed before it is not known."""
    ear = wakeup_for(queues)
    while waited(ear, 0.05) < 0.05:
        continue
    return ear


@pytest.fixture
def ear(transactional_db) -> Wakeup:
    return settled(["default", "mail"])


def enqueue_soon() -> threading.Thread:
    def enqueue() -> None:
        work.add.enqueue(1)
        connection.close()

    timer = threading.Timer(0.2, enqueue)
    timer.start()
    return timer


def test_an_enqueue_ends_the_wait(ear):
    timer = enqueue_soon()
    assert 0.15 < waited(ear, 10) < 5
    timer.join()


def test_what_came_with_the_answer_to_a_statement_ends_the_wait(ear):
    in_another_thread(lambda: work.add.enqueue(1))
    statements.now()
    assert waited(ear, 10) < 5


def test_nothing_ends_the_wait_but_its_time(ear):
    assert 0.3 <= waited(ear, 0.3) < 2


def test_a_drain_ends_the_wait(ear):
    assert waited(ear, 10, is_over=lambda: True) < 1


def test_a_new_connection_does_not_wait_for_what_it_may_have_missed(ear):
    connection.close()
    assert waited(ear, 10) < 5


def test_a_wait_without_news_uses_next_to_no_cpu(ear):
    began = time.process_time()
    waited(ear, 2)
    assert time.process_time() - began < 0.1


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL notifies; there is no file to watch")
def test_the_file_is_watched_on_linux_and_asked_about_often_elsewhere(ear, monkeypatch):
    assert wakeup._log_of(Path(connection.settings_dict["NAME"])) is not None
    monkeypatch.setattr(wakeup, "_log_of", lambda path: None)
    timer = enqueue_soon()
    assert 0.15 < waited(ear, 10) < 5
    timer.join()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL notifies; there is no file to watch")
def test_a_write_ends_the_pause_after_an_earlier_one(ear, monkeypatch):
    """A pause may follow a write of this cluster itself; the next enqueue must not wait for its end."""

    class Log:
        pauses: list[float] = []

        def is_written(self, seconds: float) -> bool:
            self.pauses.append(seconds)
            return len(self.pauses) == 6  # in the longest pause

    asked = iter([False] * 6 + [True])
    monkeypatch.setattr(ear, "_is_data_new", lambda: next(asked))
    assert ear._is_committed(Log())
    assert Log.pauses == [*wakeup.ASK_AFTER, wakeup.ASK_AFTER[1]]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL notifies; there is no file to watch")
def test_a_transaction_that_goes_on_writing_is_not_asked_about_at_each_write(ear, monkeypatch):
    class Log:
        pauses: list[float] = []

        def is_written(self, seconds: float) -> bool:
            self.pauses.append(seconds)
            return True

    slept: list[float] = []
    monkeypatch.setattr(ear, "_is_data_new", lambda: False)
    monkeypatch.setattr(wakeup.time, "sleep", slept.append)
    assert not ear._is_committed(Log())
    assert len(Log.pauses) == wakeup.MORE_WRITES
    assert slept == [*wakeup.ASK_AFTER[1:]]


# One cluster of several hears ----------------------------------------------------------------------------------------


def hears(queues: list[str]) -> bool:
    """Whether another cluster that serves these queues is roused by a new task."""

    def listen() -> bool:
        other = settled(queues)
        timer = enqueue_soon()
        woken = waited(other, 0.8) < 0.7
        timer.join()
        return woken

    return in_another_thread(listen)


@only_postgresql
def test_of_the_clusters_with_the_same_queues_one_hears_and_others_with_other_queues_do_too(ear):
    assert hears(["mail", "default"]) is False
    assert hears(["maintenance"]) is True


@only_postgresql
def test_a_cluster_that_never_waits_keeps_no_notifications(ear):
    in_another_thread(lambda: [work.add.enqueue(number) for number in range(20)])
    ear.pass_on()
    assert list(connection.connection.notifies(timeout=0.2)) == []


@only_postgresql
def test_a_busy_cluster_is_told_nothing_until_its_next_wait(ear):
    ear.step_down()
    in_another_thread(PostgreSQLWakeup(["default"]).pass_on)
    assert list(connection.connection.notifies(timeout=0.2)) == []
    assert waited(ear, 10) < 5, "it may have missed something"


@only_postgresql
def test_a_busy_cluster_lets_another_one_hear(ear):
    ear.step_down()
    assert hears(["default", "mail"]) is True
    assert waited(ear, 10) < 5  # it hears again, and looks for what it missed


@only_postgresql
def test_a_cluster_whose_connection_is_gone_lets_another_one_hear(ear):
    connection.close()
    assert hears(["default", "mail"]) is True


def who_hears(ear):
    ear.pass_on()


def who_does_not_hear(ear):
    """Tasks become due, and a queue is resumed, without an INSERT: then any cluster may be the first to look."""
    PostgreSQLWakeup(["default", "mail"]).pass_on()


@only_postgresql
@pytest.mark.parametrize("passes_on", [who_hears, who_does_not_hear])
def test_the_word_is_passed_on_to_clusters_that_do_not_look(ear, passes_on):
    def listen() -> float:
        other = settled(["default", "mail"])
        ready.set()
        return waited(other, 10)

    ready = threading.Event()
    passer = threading.Thread(target=lambda: (ready.wait(10), time.sleep(0.2)))  # the other one is in its wait by then
    passer.start()
    results: list[float] = []
    listener = threading.Thread(target=lambda: results.append(in_another_thread(listen)))
    listener.start()
    passer.join()
    passes_on(ear)
    listener.join()
    assert results[0] < 5
