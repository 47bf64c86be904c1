"""The tables of the engine.

The life of a Task, and the only code that walks each arrow:

    enqueue -> READY --claim--> READY (leased) --start--> RUNNING --finish--> SUCCESSFUL
                 ^                  |                        |  '---finish--> FAILED --retry (operator)--> READY
                 '-----release------'                        |                  '--discard (operator)--> out of sight
                 '------ retry · snooze · interrupt · rescue-'
    READY or RUNNING --cancel (operator)--> FAILED

`tasks.backend` enqueues; every arrow that gives or takes a lease is in `tasks.leases`; `TaskQuerySet.retry`, `.discard`
and `.cancel` below are the operator's. Each is one compare-and-set: the state it expects is in its WHERE.
"""

from tasks.models.clusters import SILENCE, Cluster, Queue
from tasks.models.schedules import Schedule, Tick
from tasks.models.tasks import (
    FINISHED,
    NOT_LEASED,
    UNFINISHED,
    FailedTask,
    Retention,
    Task,
    TaskError,
    TaskQuerySet,
    given_up,
)

__all__ = [
    "FINISHED", "NOT_LEASED", "SILENCE", "UNFINISHED", "Cluster", "FailedTask", "Queue", "Retention", "Schedule",
    "Task", "TaskError", "TaskQuerySet", "Tick", "given_up",
]  # fmt: skip
