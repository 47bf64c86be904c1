"""Probes for what looks after the site: is the process alive, can it serve."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.db import Error as DatabaseError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from tasks.models import Cluster, Schedule


@login_not_required
@csrf_exempt  # which it has no use for: another method is to hear 405
@require_safe
@never_cache
def live(request: HttpRequest) -> JsonResponse:
    """Answer: the process runs. Touches nothing else."""
    return JsonResponse({"live": True})


@login_not_required
@csrf_exempt  # which it has no use for: another method is to hear 405
@require_safe
@never_cache
def ready(request: HttpRequest) -> JsonResponse:
    """Answer 200 if the database does, 503 otherwise; and how background work is, which does not change the status.

    `clusters`: how many live. `overdue_schedules`: how many have a due time that nobody has settled for a minute.
    """
    try:
        clusters, overdue = Cluster.objects.alive().count(), Schedule.objects.overdue().count()
    except DatabaseError:
        return JsonResponse({"ready": False, "database": False}, status=503)
    return JsonResponse({"ready": True, "database": True, "clusters": clusters, "overdue_schedules": overdue})
