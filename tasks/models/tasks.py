"""Tasks, their errors, and what an operator does with them."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Greatest, Now
from django.utils.translation import gettext_lazy as _
from django_tasks import TaskResultStatus

from tasks.functions import retention_of
from tasks.models.clusters import Cluster
from tasks.models.schedules import Schedule

UNFINISHED = (TaskResultStatus.READY, TaskResultStatus.RUNNING)
FINISHED = (TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED)

NOT_LEASED: dict[str, Any] = {"lease_id": None, "leased_at": None, "cluster": None}


def given_up(task_path: str) -> dict[str, Any]:
    """Return the columns of a row of this function that becomes FAILED now."""
    kept = retention_of(task_path, TaskResultStatus.FAILED)
    return {"status": TaskResultStatus.FAILED, "finished_at": Now(), "expires_at": Now() + kept, "held_at": None}


class TaskQuerySet(models.QuerySet["Task"]):
    """Tasks, and what an operator does with them."""

    def waiting(self) -> TaskQuerySet:
        """Return those that are READY and not leased."""
        return self.filter(status=TaskResultStatus.READY, lease_id__isnull=True)

    def leased(self) -> TaskQuerySet:
        """Return those that are claimed or RUNNING, by the index of clusters."""
        return self.filter(cluster__isnull=False)

    def due(self) -> TaskQuerySet:
        """Return those that could start now."""
        return self.filter(status=TaskResultStatus.READY, run_after__lte=Now())

    def failed(self) -> TaskQuerySet:
        """Return those that failed and that nobody has discarded."""
        return self.filter(status=TaskResultStatus.FAILED, discarded_at__isnull=True)

    def retry(self, extra_attempts: int = 1) -> int:
        """Make FAILED tasks READY at once, with `extra_attempts` more; return how many there were.

        A task whose idempotency key is taken by an unfinished task stays FAILED; of several with one key, the latest
        is taken.
        """
        same = {"task_path": models.OuterRef("task_path"), "idempotency_key": models.OuterRef("idempotency_key")}
        failed = self.filter(status=TaskResultStatus.FAILED)
        taken = Task.objects.filter(**same, status__in=UNFINISHED)
        later = failed.filter(**same, pk__gt=models.OuterRef("pk"))
        running = Task.objects.filter(schedule=models.OuterRef("schedule"), finished_at__isnull=True)
        one_by_one = Schedule.objects.filter(pk=models.OuterRef("schedule")).exclude(overlap=Schedule.Overlap.ALLOW)
        waits_its_turn = models.When(models.Exists(running) & models.Exists(one_by_one), then=Now())
        try:
            with transaction.atomic():
                return failed.filter(~models.Exists(taken), ~models.Exists(later)).update(
                    status=TaskResultStatus.READY,
                    max_attempts=Greatest(F("max_attempts"), F("attempts") + extra_attempts),
                    run_after=Now(),
                    finished_at=None,
                    expires_at=None,
                    discarded_at=None,
                    cancel_requested_at=None,
                    cancel_requested_by="",
                    held_at=models.Case(waits_its_turn, default=None, output_field=models.DateTimeField()),
                )
        except IntegrityError:  # a key was taken between the look and the change
            return 0

    def discard(self) -> int:
        """Take FAILED tasks out of the list of failures; return how many there were."""
        return self.failed().update(discarded_at=Now())

    def cancel(self, by: str) -> int:
        """Stop tasks that are not finished, and say who did it; return how many there were.

        A READY task, claimed or not, is FAILED at once. A RUNNING one is told through `should_stop`, interrupted after
        TASKS_CANCEL_GRACE seconds, and FAILED whatever ends its attempt, unless it succeeds all the same.
        """
        by = by[:255]
        with transaction.atomic():
            # by id, as a worker locks the two that it ends and starts: else both could wait for each other
            locked = self.filter(status__in=UNFINISHED).select_for_update().order_by("pk")
            found = list(locked.values_list("pk", "task_path", "attempts", "status"))
            ready = [row[:3] for row in found if row[3] == TaskResultStatus.READY]
            running = [row[0] for row in found if row[3] == TaskResultStatus.RUNNING]
            TaskError.objects.bulk_create(
                TaskError(
                    task_id=pk,
                    attempt=attempts,
                    kind=TaskError.Kind.CANCELLED,
                    exception_path="tasks.exceptions.Cancelled",
                    message=_("Cancelled by %(who)s before it ran.") % {"who": by},
                )
                for pk, _path, attempts in ready
            )
            requested = {"cancel_requested_at": Now(), "cancel_requested_by": by}
            for path in {path for _pk, path, _attempts in ready}:
                Task.objects.filter(pk__in=[pk for pk, its_path, _attempts in ready if its_path == path]).update(
                    **requested, **NOT_LEASED, **given_up(path), discarded_at=Now()
                )
            told = Task.objects.filter(pk__in=running, cancel_requested_at__isnull=True).update(**requested)
            return len(ready) + told

    def expired(self) -> TaskQuerySet:
        """Return those whose retention is over."""
        return self.filter(expires_at__lte=Now())


class Task(models.Model):
    """One enqueued unit of work."""

    Status = TaskResultStatus

    task_path = models.CharField(_("task"), max_length=255, help_text=_("Dotted path of the task function."))
    args = models.JSONField(default=list)
    kwargs = models.JSONField(default=dict)
    queue_name = models.CharField(_("queue"), max_length=64)
    priority = models.SmallIntegerField(_("priority"), default=0, help_text=_("-100 to 100, higher first."))
    status = models.CharField(
        _("status"), max_length=10, choices=TaskResultStatus.choices, default=TaskResultStatus.READY
    )
    run_after = models.DateTimeField(
        _("run after"), db_default=Now(), help_text=_("It does not start before this time.")
    )

    enqueued_at = models.DateTimeField(_("enqueued at"), db_default=Now())
    started_at = models.DateTimeField(_("started at"), null=True, help_text=_("Start of the first attempt."))
    last_attempted_at = models.DateTimeField(
        _("last attempted at"), null=True, help_text=_("Start of the latest attempt.")
    )
    finished_at = models.DateTimeField(_("finished at"), null=True)
    discarded_at = models.DateTimeField(
        _("discarded at"), null=True, help_text=_("When somebody gave it up, or it did so itself.")
    )
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_requested_by = models.CharField(max_length=255, blank=True, db_default="")
    expires_at = models.DateTimeField(null=True, help_text=_("End of its retention; then the row may be pruned."))

    attempts = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField()
    worker_ids = models.JSONField(_("worker ids"), default=list, help_text=_("The worker of each attempt."))
    lease_id = models.UUIDField(
        _("lease id"), null=True, help_text=_("The right to run this row; new with each claim.")
    )
    leased_at = models.DateTimeField(_("leased at"), null=True)
    held_at = models.DateTimeField(null=True, help_text=_("Since when it is out of the line, see tasks.holding."))
    cluster = models.ForeignKey(
        Cluster, null=True, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )

    schedule = models.ForeignKey(
        Schedule, null=True, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    idempotency_key = models.CharField(  # noqa: DJ001 - NULL: none; '' would be a key
        _("idempotency key"), max_length=255, null=True
    )
    return_value = models.JSONField(null=True)
    checkpoint = models.JSONField(_("checkpoint"), null=True, help_text=_("Where the next attempt goes on."))
    progress = models.JSONField(_("progress"), null=True, help_text=_("done, total, message."))

    objects = TaskQuerySet.as_manager()

    class Meta:
        verbose_name, verbose_name_plural = _("task"), _("tasks")
        permissions = [
            ("retry_task", "Can retry a failed task"),
            ("discard_task", "Can discard a task"),
            ("cancel_task", "Can cancel a task"),
            ("view_task_arguments", "Can see sensitive arguments of a task"),
        ]
        indexes = [
            models.Index(  # its first two columns are walked value by value, so nothing that is not due is in the way
                F("queue_name"),
                F("priority").desc(),
                F("run_after"),
                F("id"),
                name="tasks_task_to_claim",
                condition=Q(status="READY", lease_id__isnull=True, held_at__isnull=True),
            ),
            models.Index(fields=["task_path"], name="tasks_task_held", condition=Q(held_at__isnull=False)),
            models.Index(  # were it for lease_id, PostgreSQL would read it for one row, sought by id and lease
                fields=["cluster"], name="tasks_task_of_cluster", condition=Q(cluster__isnull=False)
            ),
            models.Index(fields=["-finished_at"], name="tasks_task_failed", condition=Q(status="FAILED")),
            models.Index(
                fields=["schedule", "finished_at"], name="tasks_task_scheduled", condition=Q(schedule__isnull=False)
            ),
            models.Index(
                fields=["schedule", "finished_at"],
                name="tasks_task_successes",
                condition=Q(schedule__isnull=False, status="SUCCESSFUL"),
            ),
            models.Index(fields=["expires_at"], name="tasks_task_expires", condition=Q(expires_at__isnull=False)),
            models.Index(  # the last run for each table
                fields=["idempotency_key", "-id"], name="tasks_task_prunes", condition=Q(task_path="tasks.tasks.prune")
            ),
        ]
        constraints = [  # few and plain: PostgreSQL reads the text of each again in every statement that writes a row
            models.CheckConstraint(
                name="tasks_task_status_fits_times_and_lease",
                condition=(Q(status="READY") | Q(status="RUNNING", lease_id__isnull=False))
                & Q(finished_at__isnull=True)
                | (Q(status="SUCCESSFUL") | Q(status="FAILED"))
                & Q(finished_at__isnull=False, lease_id__isnull=True, held_at__isnull=True),
            ),
            models.CheckConstraint(
                name="tasks_task_lease_is_whole_and_not_held",
                condition=Q(lease_id__isnull=True, cluster__isnull=True, leased_at__isnull=True)
                | Q(lease_id__isnull=False, cluster__isnull=False, leased_at__isnull=False, held_at__isnull=True),
            ),
            models.CheckConstraint(name="tasks_task_priority", condition=Q(priority__gte=-100, priority__lte=100)),
            models.UniqueConstraint(
                fields=["task_path", "idempotency_key"],
                name="tasks_task_one_unfinished_per_key",
                condition=Q(status__in=UNFINISHED, idempotency_key__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_path} #{self.pk}"


class TaskError(models.Model):
    """An attempt that did not succeed."""

    class Kind(models.TextChoices):
        """Why it did not."""

        EXCEPTION = "exception", _("raised an exception")
        TIMEOUT = "timeout", _("ran out of time")
        LOST = "lost", _("its worker was lost")
        INTERRUPTED = "interrupted", _("interrupted by a stop of its cluster; used no attempt")
        DISCARDED = "discarded", _("given up on purpose")
        CANCELLED = "cancelled", _("cancelled by an operator")
        SUPERSEDED = "superseded", _("finished too late; the outcome was refused")

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="errors")
    attempt = models.PositiveSmallIntegerField(help_text=_("1-based; 0: before the first attempt."))
    kind = models.CharField(max_length=16, choices=Kind.choices)
    exception_path = models.CharField(_("exception"), max_length=255, blank=True)
    message = models.TextField(blank=True)
    traceback = models.TextField(blank=True)
    worker_id = models.CharField(max_length=128, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        name, line = self.exception_path.rpartition(".")[2], self.message.strip().split("\n")[0]
        if line.startswith(f"{name} "):  # "Cancelled by ..." says it already
            return line
        return ": ".join(filter(None, [name, line])) or self.get_kind_display()


class FailedTask(Task):
    """The failed tasks that nobody has discarded: the operator's inbox."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name, verbose_name_plural = _("failed task"), _("failed tasks")


class Retention(Task):
    """The page of all tables in the administration, see `tasks.admin.retention`. It has no rows."""

    class Meta:
        proxy = True
        default_permissions = ()
        permissions = [("prune_retention", "Can prune a table")]
        verbose_name = verbose_name_plural = _("retention")
