"""One encoding for all that browsers and clients send."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse


class CharsetMiddleware:
    """Refuses a request that names another encoding than UTF-8, or has a NUL in the address, after the "?".

    Django does so for one kind of form only. In the others, and in what follows the "?", some of Python's codecs make
    half characters that neither a hash nor a database takes, or no text at all. A NUL is none that PostgreSQL takes,
    and not every filter of the administration expects it. Forms refuse it in their fields.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        if request.encoding and codecs.lookup(request.encoding).name != "utf-8":
            raise BadRequest("The request is not in UTF-8.")
        if "%00" in request.META.get("QUERY_STRING", ""):
            raise BadRequest("The address has a NUL.")
        return self.get_response(request)
