"""A long task: its progress, its checkpoint, and that a cluster which stops interrupts it without loss."""

from __future__ import annotations

import signal

from examples.tasks import write_report
from tests.processes import until
from tests.tasks.rows import finished, kinds, row


def test_the_progress_of_a_running_task_is_in_the_admin(cluster, operator_client):
    cluster()
    result = write_report.enqueue(1000, 0.02)
    until(lambda: (row(result).checkpoint or 0) >= 3)
    page = operator_client.get(f"/admin/tasks/task/{result.id}/change/").content.decode()
    assert "RUNNING" in page
    assert "of 1000" in page


def test_a_report_that_is_done_has_all_its_lines(cluster):
    cluster()
    result = write_report.enqueue(5, 0)
    until(lambda: finished(result))
    task = row(result)
    assert (task.status, task.checkpoint) == ("SUCCESSFUL", 5)
    assert task.progress == {"done": 5, "total": 5, "message": "line 5 of 5"}


def test_a_cluster_that_stops_lets_a_report_go_on_in_the_next_one(cluster):
    process = cluster()
    result = write_report.enqueue(60, 0.05)
    until(lambda: (row(result).checkpoint or 0) >= 10)
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    stopped = row(result)
    assert (stopped.status, stopped.attempts, kinds(result)) == ("READY", 0, [])
    assert 10 <= stopped.checkpoint < 60

    cluster()
    seen = []

    def is_done() -> bool:
        seen.append(row(result).checkpoint)
        return finished(result)

    until(is_done)
    assert min(seen) >= stopped.checkpoint
    assert (row(result).status, row(result).attempts, row(result).checkpoint) == ("SUCCESSFUL", 1, 60)


def test_a_line_that_takes_longer_than_the_grace_is_interrupted_and_written_by_the_next_cluster(cluster):
    process = cluster(TASKS_SHUTDOWN_GRACE="0.5")
    result = write_report.enqueue(1, 60)
    until(lambda: row(result).status == "RUNNING")
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    assert (row(result).status, row(result).attempts, kinds(result)) == ("READY", 0, ["interrupted"])
