"""Clusters that run, and queues that were paused or pruned."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

SILENCE = 0.8
"""Part of TASKS_LEASE after which a silent cluster is dead: others look every fifth, and so rescue within all of it."""


class ClusterQuerySet(models.QuerySet["Cluster"]):
    """Clusters."""

    def alive(self) -> ClusterQuerySet:
        """Return those that have been silent for less than SILENCE of a lease, by the database's clock."""
        return self.filter(heartbeat_at__gt=Now() - timedelta(seconds=SILENCE * settings.TASKS_LEASE))


class Cluster(models.Model):
    """A running `qcluster`. It holds leases for as long as its heartbeat is fresh."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    queues = models.JSONField(default=list, help_text=_("Names of the queues it serves."))
    workers = models.JSONField(default=list, help_text=_("Process ids of its workers."))
    task_paths = models.JSONField(
        default=list, db_default=Value([], models.JSONField()), help_text=_("Task functions that its release has.")
    )
    started_at = models.DateTimeField(db_default=Now())
    heartbeat_at = models.DateTimeField(db_default=Now(), db_index=True)

    objects = ClusterQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class QueueQuerySet(models.QuerySet["Queue"]):
    """Queues."""

    def paused(self) -> QueueQuerySet:
        """Return those that are paused now."""
        return self.filter(Q(paused_until__isnull=True) | Q(paused_until__gt=Now()), paused_at__isnull=False)

    def pause(self, name: str, by: str, reason: str = "", until: datetime | None = None) -> None:
        """Let no cluster claim from the queue any more, for good or until then; what runs goes on. Say who and why."""
        values = {"paused_at": Now(), "paused_by": by, "paused_reason": reason, "paused_until": until}
        self.update_or_create(name=name, defaults=values)

    def resume(self, name: str) -> bool:
        """Let clusters claim from the queue again; False if it was not paused."""
        values = {"paused_at": None, "paused_by": "", "paused_reason": "", "paused_until": None}
        return bool(self.filter(name=name, paused_at__isnull=False).update(**values))


class Queue(models.Model):
    """What is known of a queue beside its tasks. A queue needs no row: it appears once it is paused or pruned."""

    name = models.CharField(primary_key=True, max_length=64)
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_until = models.DateTimeField(null=True, blank=True, help_text=_("Empty: until it is resumed."))
    paused_by = models.CharField(max_length=255, blank=True)
    paused_reason = models.CharField(max_length=255, blank=True)
    pruned_successful = models.PositiveBigIntegerField(default=0, help_text=_("Finished rows that were pruned."))
    pruned_failed = models.PositiveBigIntegerField(default=0, help_text=_("Failed rows that were pruned."))

    objects = QueueQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="tasks_queue_until_only_when_paused",
                condition=Q(paused_until__isnull=True) | Q(paused_at__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return self.name
