"""The administration: tasks, what failed, schedules and their ticks. Django imports it at start."""

from tasks.admin.retention import RetentionAdmin
from tasks.admin.schedules import ScheduleAdmin
from tasks.admin.tasks import FailedTaskAdmin, TaskAdmin
from tasks.admin.ticks import TickAdmin

__all__ = ["FailedTaskAdmin", "RetentionAdmin", "ScheduleAdmin", "TaskAdmin", "TickAdmin"]
