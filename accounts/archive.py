"""A copy of all that is stored about a user: one JSON file for each kind of `accounts.personal_data`, in a zip.

Rows pass through one at a time into a temporary file, so only the zip is ever in memory, and that has a limit: it goes
into the row of the export, where any host can hand it out.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from datetime import timedelta
from typing import IO, Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models.functions import Now
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from accounts.models import Export, User
from accounts.personal_data import PersonalData, registered
from tasks.exceptions import Discard, Snooze

KEPT = timedelta(days=7)
"""For how long a copy can be downloaded."""

LARGEST = 32 * 1024 * 1024
"""Bytes of a zip."""


def make(user: User, context: Any) -> bytes:
    """Return the zip. Raises Discard, in the user's language, for too much data; Snooze once the task has to stop.

    `context`: of the task, which is told how far this is.
    """
    with tempfile.TemporaryFile() as file:
        with translation.override(user.language):
            _write(file, user, context)
        file.seek(0)
        return file.read()


def store(export_id: int, content: bytes) -> bool:
    """Put the copy into its row; False if another attempt was faster, or the export is gone."""
    waiting = Export.objects.filter(pk=export_id, finished_at=None)
    return bool(waiting.update(content=content, finished_at=Now(), expires_at=timezone.now() + KEPT))


def _write(file: IO[bytes], user: User, context: Any) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for done, data in enumerate(registered.values()):
            context.progress(done, len(registered), str(data.title))
            if context.should_stop:
                raise Snooze(timedelta())
            with archive.open(f"{data.name}.json", "w", force_zip64=True) as member:
                _write_rows(member, file, data, user)
    _check_size(file)


def _write_rows(member: IO[bytes], file: IO[bytes], data: PersonalData, user: User) -> None:
    """Write a list of objects, as `json.dump` with an indent of 2 would."""
    between = "[\n"
    for row in data.gather(user):
        text = json.dumps(row, ensure_ascii=False, indent=2, cls=DjangoJSONEncoder)
        member.write((between + "  " + text.replace("\n", "\n  ")).encode(errors="backslashreplace"))
        between = ",\n"
        _check_size(file)
    member.write(b"[]\n" if between == "[\n" else b"\n]\n")


def _check_size(file: IO[bytes]) -> None:
    if file.tell() > LARGEST:
        raise Discard(_("There is more about you than fits into one file. Please write to whoever runs this site."))
