"""What the processes of a cluster share, with real processes."""

from __future__ import annotations

import time
import uuid
from types import SimpleNamespace

import pytest

from tasks.shared import Channel, Depth, Flag, Slots, fork
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
    made = Channel(workers=3, run=print)
    yield made
    made.close()


LEASE = uuid.uuid4()


def package(*task_ids: int) -> dict:
    """What the broker makes of one claim."""
    return {"args": (LEASE.hex, [(task_id, "shop.tasks.ship") for task_id in task_ids])}


def count_packages(channel: Channel, taken, slot: int) -> None:
    """What a worker of these tests does: take tasks until one has the number 0."""
    channel.slot = slot
    while channel.get()["args"][0]:
        taken[slot] += 1


def start_worker(*args):
    process = fork.Process(target=count_packages, args=args)
    process.start()
    return process


def test_packages_arrive_once_each_whoever_takes_them(channel):
    taken = fork.RawArray("l", 3)
    workers = [start_worker(channel, taken, slot) for slot in range(3)]
    channel.put(package(*range(1, 301)))
    channel.put(package(0, 0, 0))
    for worker in workers:
        worker.join()
    assert sum(taken) == 300
    assert channel.qsize() == 0


def test_a_worker_killed_while_it_waits_for_a_package_stops_nobody(channel):
    taken = fork.RawArray("l", 3)
    workers = [start_worker(channel, taken, slot) for slot in range(2)]
    for slot in range(2):  # one of them is the first in the line
        channel.put(package(1))
        until(lambda slot=slot: sum(taken) == slot + 1)
        workers[slot].kill()
        workers[slot].join()
        workers[slot] = start_worker(channel, taken, slot)
    channel.put(package(1))
    until(lambda: sum(taken) == 3)
    for worker in workers:
        worker.kill()
        worker.join()


def test_the_number_of_packages_is_right_again_after_a_worker_took_one_and_died(channel):
    channel.put(package(1))  # taken by a worker that dies before it counts
    channel._reader.recv(1000)
    assert channel.qsize() == 0
    channel.put(package(2))
    assert channel.qsize() == 1


def test_a_task_arrives_with_its_lease_and_path_as_what_the_worker_calls(channel):
    channel.put(package(7, 8))
    assert channel.get() == {
        "id": LEASE.hex,
        "name": "shop.tasks.ship #7",
        "func": print,
        "args": (7, LEASE.hex),
        "kwargs": {},
        "timeout": -1,
    }
    assert channel.take() == (8, LEASE, "shop.tasks.ship")
    assert channel.take() is None
    assert channel.taken == 2


def test_the_depth_follows_the_rate_at_which_workers_take_tasks(channel, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("tasks.shared.time", SimpleNamespace(monotonic=lambda: clock[0]))
    depth = Depth(channel, workers=3)
    assert depth.room() == 6
    channel.put(package(*range(1, 7)))
    assert depth.room() == 0  # all of it waits
    for _task in range(6):
        channel.get()
    clock[0] += 0.03125  # 192 in a second: 19 in the tenth of a second that is claimed ahead
    assert depth.room() == 19
    clock[0] += 10
    assert depth.room() == 6


def test_no_more_is_claimed_than_the_socket_holds(channel):
    channel.put(package(*range(1, Depth.MOST + 1)))  # would wait for ever for a worker if it did not fit
    assert channel.qsize() == Depth.MOST


def test_a_slot_is_empty_after_its_worker_is_gone():
    slots = Slots(2)
    slots.pids[1], slots.busy[1], slots.deadlines[1] = 42, 1, 9.5
    assert slots.alive() == [42]
    slots.clear(1)
    assert (slots.alive(), slots.busy[1], slots.deadlines[1]) == ([], 0, 0.0)
