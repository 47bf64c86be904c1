"""One line for an outage, and waits that grow."""

from __future__ import annotations

from tasks.outage import LONGEST_WAIT, Outage


def test_an_outage_is_said_once_at_its_start_and_once_at_its_end(caplog):
    outage = Outage("the pusher")
    for _try in range(5):
        outage.wait_after(OSError("connection refused\nIs the server running?"))
    outage.is_over()
    outage.is_over()
    begin, end = caplog.messages
    assert begin == "the pusher cannot reach the database and tries again until it can: connection refused"
    assert end.startswith("the pusher reaches the database again after ")


def test_the_waits_double_up_to_the_longest_and_start_anew_with_the_next_outage():
    outage = Outage("a worker")
    waits = [outage.wait_after(OSError("gone")) for _try in range(12)]
    for number, wait in enumerate(waits):
        longest = min(LONGEST_WAIT, 0.1 * 2**number)
        assert longest / 2 <= wait <= longest
    outage.is_over()
    assert outage.wait_after(OSError("gone")) <= 0.1


def test_an_error_without_a_text_is_named():
    outage = Outage("a worker")
    outage.wait_after(TimeoutError())
    assert outage.seconds >= 0
