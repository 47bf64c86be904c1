"""The addresses of the site, its development mailbox among them, and one for each page of an error."""

from datetime import timedelta

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import Http404
from django.urls import path

from accounts.events import Kind
from accounts.throttle import Throttled
from tests.devmail.urls import urlpatterns as site


@login_not_required
def error(request, status: int):
    """Raise what the status is the answer to."""
    if status == 429:
        raise Throttled(timedelta(minutes=2), Kind.LOGIN)
    raise {400: BadRequest, 403: PermissionDenied, 404: Http404, 500: RuntimeError}[status]("on purpose")


urlpatterns = [*site, path("error/<int:status>/", error)]
