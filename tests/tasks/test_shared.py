"""What the processes of a cluster share, with real processes."""

from __future__ import annotations

import time

import pytest

from tasks.shared import Channel, Flag, Slots, fork
from tests.processes import until


def test_a_flag_set_in_one_process_is_seen_in_another():
    flag = Flag()
    child = fork.Process(target=flag.set)
    child.start()
    assert flag.wait(10)
    child.join()


def test_a_flag_that_nobody_sets_is_waited_for_no_longer_than_asked():
    began = time.monotonic()
    assert not Flag().wait(0.1)
    assert 0.1 <= time.monotonic() - began < 1


@pytest.fixture
def channel():
    made = Channel(workers=3)
    yield made
    made.close()


def count_packages(channel: Channel, taken, slot: int) -> None:
    """What a worker of these tests does: take packages until one is None."""
    channel.slot = slot
    while channel.get() is not None:
        taken[slot] += 1


def start_worker(*args):
    process = fork.Process(target=count_packages, args=args)
    process.start()
    return process


def test_packages_arrive_once_each_whoever_takes_them(channel):
    taken = fork.RawArray("l", 3)
    workers = [start_worker(channel, taken, slot) for slot in range(3)]
    for number in range(300):
        channel.put({"number": number})
    for _worker in workers:
        channel.put(None)
    for worker in workers:
        worker.join()
    assert sum(taken) == 300
    assert channel.qsize() == 0


def test_a_worker_killed_while_it_waits_for_a_package_stops_nobody(channel):
    taken = fork.RawArray("l", 3)
    workers = [start_worker(channel, taken, slot) for slot in range(2)]
    for slot in range(2):  # one of them is the first in the line
        channel.put("package")
        until(lambda slot=slot: sum(taken) == slot + 1)
        workers[slot].kill()
        workers[slot].join()
        workers[slot] = start_worker(channel, taken, slot)
    channel.put("package")
    until(lambda: sum(taken) == 3)
    for worker in workers:
        worker.kill()
        worker.join()


def test_the_number_of_packages_is_right_again_after_a_worker_took_one_and_died(channel):
    channel.put("taken by a worker that dies before it counts")
    channel._reader.recv(1000)
    assert channel.qsize() == 0
    channel.put("another")
    assert channel.qsize() == 1


def test_a_slot_is_empty_after_its_worker_is_gone():
    slots = Slots(2)
    slots.pids[1], slots.busy[1], slots.deadlines[1] = 42, 1, 9.5
    assert slots.alive() == [42]
    slots.clear(1)
    assert (slots.alive(), slots.busy[1], slots.deadlines[1]) == ([], 0, 0.0)
