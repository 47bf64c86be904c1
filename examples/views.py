"""Fire and forget from a request."""

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from examples.models import Page
from examples.tasks import count_visit


@login_not_required
@csrf_exempt  # for curl; the example stands for an endpoint that programs call
@require_http_methods(["GET", "HEAD", "POST"])
def visits(request: HttpRequest, name: str) -> JsonResponse:
    """Take a visit with POST and answer at once; tell with GET how many were counted."""
    if request.method == "POST":
        with transaction.atomic():
            result = count_visit.enqueue(name)
        return JsonResponse({"task": result.id}, status=202)
    page = Page.objects.filter(name=name).first()
    return JsonResponse({"visits": page.visits if page else 0})
