"""What JSON requests and their answers have in common: texts by name in, a status or errors by name out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.utils.translation import gettext as _


def texts_of(request: HttpRequest, names: Iterable[str]) -> dict[str, Any] | JsonResponse:
    """Return the object of the body, where each of these names has a text or nothing; else the answer that says so."""
    try:
        data = json.loads(request.body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        return errors({"__all__": [_("The body is not a JSON object.")]})
    if wrong := {name: [_("Enter a string.")] for name in names if not _is_text(data.get(name, ""))}:
        return errors(wrong)
    return data


def errors(messages: Mapping[str, Any], status: int = 400, headers: Mapping[str, str] | None = None) -> JsonResponse:
    """Return the answer to what is refused: for each field, or `__all__`, what is wrong with it."""
    return JsonResponse({"errors": messages}, status=status, headers=headers)


def _is_text(value: object) -> bool:
    """Return whether it is a string of characters: JSON can also spell half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
