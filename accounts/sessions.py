"""Sessions: Django's API on rows of our own, `accounts.models.Session`.

The database has digests of the keys, so nobody who reads it can take a session over. A session ends when it was idle
for SESSION_COOKIE_AGE, at the latest SESSION_LIFETIME after the login, or when its row is deleted; no key of ours can
bring it back.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY as USER_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.contrib.sessions.middleware import SessionMiddleware as DjangoSessionMiddleware
from django.db import IntegrityError, models, transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts.models import Session
from accounts.network import Client, client_of

SEEN_EVERY = timedelta(minutes=5)
"""How exact `last_seen_at` is: a request within it writes nothing."""


def digest_of(key: str | None) -> str:
    """Return what stands in the database for a key of 160 bits or more, which needs no salt and no slow hash."""
    return hashlib.sha256((key or "").encode()).hexdigest()


class SessionStore(SessionBase):
    """One session. The asynchronous methods are Django's, which call these in a thread."""

    client = Client()
    began_at: datetime | None = None
    seen_at: datetime | None = None

    def load(self) -> dict[str, Any]:
        """Return the data; an empty dict, and no key any more, if the session has ended or never was."""
        row = _rows(self.session_key).filter(expire_date__gt=timezone.now()).first()
        if row is None:
            self._session_key = None
            return {}
        self.began_at, self.seen_at = row.created_at, row.last_seen_at
        return self.decode(row.session_data)

    def exists(self, session_key: str) -> bool:
        """Return whether there is a row of this key."""
        return _rows(session_key).exists()

    def create(self) -> None:
        """Store a new session under a key that nobody has had."""
        while True:
            self._session_key = self._get_new_session_key()  # type: ignore[attr-defined]  # Django's, not in its stubs
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        """Store the data. Raises CreateError if the key is taken, UpdateError if the session has ended meanwhile."""
        if self.session_key is None:
            return self.create()
        data = self._get_session(no_load=must_create)  # type: ignore[attr-defined]  # as above
        now = timezone.now()
        self.began_at, self.seen_at = self.began_at or now, now
        fields: dict[str, Any] = {
            "session_data": self.encode(data),
            "user_id": data.get(USER_KEY),
            "created_at": self.began_at,
            "last_seen_at": now,
            "expire_date": min(self.get_expiry_date(), self.began_at + timedelta(seconds=settings.SESSION_LIFETIME)),
            **self.client._asdict(),
        }
        if must_create:
            try:
                with transaction.atomic():
                    Session.objects.create(session_key=digest_of(self.session_key), **fields)
            except IntegrityError:
                raise CreateError from None
        elif not _rows(self.session_key).update(**fields):
            raise UpdateError
        return None

    def delete(self, session_key: str | None = None) -> None:
        """End a session, this one by default."""
        if key := session_key or self.session_key:
            _rows(key).delete()

    def begin_anew(self) -> None:
        """Let the limits count from now on: somebody has logged in."""
        self.began_at = None
        self.modified = True

    def is_stale(self) -> bool:
        """Return whether the row shows less than SEEN_EVERY allows."""
        return self.seen_at is not None and timezone.now() - self.seen_at > SEEN_EVERY

    @classmethod
    def clear_expired(cls) -> None:
        """Delete the rows that have ended. Retention does it, see `accounts.tasks`."""
        Session.objects.filter(expire_date__lte=timezone.now()).delete()


class SessionMiddleware(DjangoSessionMiddleware):
    """Django's, which also notes where and when a session was seen."""

    def process_request(self, request: HttpRequest) -> None:
        """Give the request its session."""
        super().process_request(request)
        request.session.client = client_of(request)  # type: ignore[attr-defined]  # the engine is ours

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Store what has changed."""
        session: Any = request.session
        if not session.is_empty() and session.is_stale():
            session.modified = True
        return super().process_response(request, response)


def sessions_of(user_id: int) -> models.QuerySet[Session]:
    """Return the user's sessions that have not ended, the one seen last first."""
    return Session.objects.filter(user=user_id, expire_date__gt=timezone.now()).order_by("-last_seen_at")


def end_sessions(user_id: int, except_key: str | None = None) -> int:
    """End all sessions of a user, or all but one; return how many."""
    rows = Session.objects.filter(user=user_id)
    if except_key:
        rows = rows.exclude(session_key=digest_of(except_key))
    return rows.delete()[0]


def _rows(key: str | None) -> models.QuerySet[Session]:
    return Session.objects.filter(session_key=digest_of(key))
