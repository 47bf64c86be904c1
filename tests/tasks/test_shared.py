"""What the processes of a cluster share, with real processes."""

from __future__ import annotations

import os
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
def slots():
    return Slots(3)


@pytest.fixture
def channel(slots):
    made = Channel(slots, run=print)
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


def wait_for_tasks(channel: Channel, slots: Slots, slot: int) -> None:
    """What a worker of these tests does that never comes back from its task."""
    slots.pids[slot], channel.slot = os.getpid(), slot
    channel.get()
    time.sleep(60)  # a long task; the test kills it


def test_the_pusher_hears_of_each_worker_that_has_nothing_to_do(channel, slots):
    channel.wait_for_a_free_worker(0.01)
    workers = [fork.Process(target=wait_for_tasks, args=(channel, slots, slot)) for slot in range(2)]
    for number, worker in enumerate(workers, 1):
        worker.start()
        channel.wait_for_a_free_worker(20)
        assert slots.free() == number
    began = time.monotonic()
    channel.wait_for_a_free_worker(0.1)
    assert time.monotonic() - began >= 0.1, "it hears of each one once"
    channel.put(package(1))
    until(lambda: channel.taken == 1)
    assert slots.free() == 1
    for worker in workers:
        worker.kill()
        worker.join()


def ring_often(channel: Channel) -> None:
    """Find nothing to do, more often than the bell holds, while no pusher hears."""
    for _number in range(1000):
        channel.ring()


def test_a_worker_does_not_wait_for_a_pusher_that_does_not_hear(channel):
    worker = fork.Process(target=ring_often, args=(channel,))
    worker.start()
    worker.join(20)
    assert worker.exitcode == 0
    channel.wait_for_a_free_worker(20)
    began = time.monotonic()
    channel.wait_for_a_free_worker(0.1)
    assert time.monotonic() - began >= 0.1, "all of it is heard at once"


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


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("tasks.shared.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def take(channel: Channel, count: int) -> None:
    """Let busy workers finish a task and take the next, so many times."""
    for _task in range(count):
        assert channel.take()


def test_one_task_is_claimed_for_each_free_worker_and_none_to_wait_behind_a_long_one(channel, slots, clock):
    depth = Depth(channel, slots)
    assert depth.room() == 0, "no worker is there yet"
    slots.pids[:] = 41, 42, 43
    slots.busy[1] = 1
    assert depth.room() == 2
    channel.put(package(1, 2))
    assert depth.room() == 0, "one waits for each"
    clock[0] += 0.001
    take(channel, 2)
    slots.busy[:] = 1, 1, 1
    assert depth.room() == 0, "what was taken is not done"
    clock[0] += 20
    assert depth.room() == 0
    for slot in range(2):  # two long tasks end, one right after the other
        clock[0] += 0.001
        slots.busy[slot] = 0
        assert depth.room() == slot + 1


def test_the_depth_follows_the_rate_at_which_workers_finish_tasks(channel, slots, clock):
    slots.pids[:], slots.busy[:] = (41, 42, 43), (1, 1, 1)
    depth = Depth(channel, slots)
    channel.put(package(*range(9)))
    clock[0] += 0.0625
    take(channel, 9)
    assert depth.room() == 14, "what they finish in a tenth of a second, at 144 in a second"
    channel.put(package(*range(14)))
    clock[0] += 0.01
    take(channel, 6)
    assert depth.room() == 0, "more than half of it waits"
    take(channel, 1)
    assert depth.room() == 14, "and now half of it: seven in 0.01 s are 700 in a second, and 21 at most"
    clock[0] += 10
    assert depth.room() == 0, "nothing was done for a while"
    slots.busy[2] = 0
    assert depth.room() == 0, "seven wait for the free one"


def test_few_quick_tasks_are_no_reason_to_claim_a_hundred(channel, slots, clock):
    slots.pids[:], slots.busy[:] = (41, 42, 43), (1, 1, 1)
    depth = Depth(channel, slots)
    depths = []
    for _number in range(5):
        count = max(6, depth.ahead)
        channel.put(package(*range(count)))
        clock[0] += 0.001
        take(channel, count)
        depth.room()
        depths.append(depth.ahead)
    assert depths == [18, 54, 162, Depth.MOST, Depth.MOST]


def test_the_pusher_looks_again_when_half_of_the_depth_should_be_left(channel, slots, clock, monkeypatch):
    slots.pids[:], slots.busy[:] = (41, 42, 43), (1, 1, 1)
    depth, waits = Depth(channel, slots), []
    monkeypatch.setattr(channel, "wait_for_a_free_worker", waits.append)
    depth.wait()
    assert waits.pop() == Depth.LONGEST_WAIT, "a worker that has nothing to do rings"
    channel.put(package(*range(100)))
    clock[0] += 0.1
    take(channel, 100)
    channel.put(package(*range(depth.room())))
    for done, seconds in ((0, 0.05), (20, 0.03), (25, 0.005), (5, 0.05)):
        take(channel, done)
        depth.wait()
        assert waits.pop() == pytest.approx(seconds), "50 of 100 more, at 1000 in a second"


def test_no_more_is_claimed_than_the_socket_holds(channel):
    channel.put(package(*range(1, Depth.MOST + 1)))  # would wait for ever for a worker if it did not fit
    assert channel.qsize() == Depth.MOST


def test_a_slot_is_empty_after_its_worker_is_gone():
    slots = Slots(2)
    slots.pids[1], slots.busy[1], slots.deadlines[1] = 42, 1, 9.5
    assert slots.alive() == [42]
    slots.clear(1)
    assert (slots.alive(), slots.busy[1], slots.deadlines[1]) == ([], 0, 0.0)
