"""What is stored about a person. Each app says what it keeps, how a copy is made of it, and how it is erased:

    personal_data("orders", _("orders"), gather=orders_of, erase=forget_orders)

in its `tasks` module, which the site and the cluster import at start. Copies are for `accounts.archive`, erasing for
`accounts.erasure`. At the end stands what accounts itself keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.models import LogEntry
from django.db import models, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts.events import Kind, Outcome
from accounts.models import EmailChange, Export, KnownBrowser, Passkey, RecoveryCode, SecurityEvent, Session, Totp, User
from tasks.subjects import tasks_about

BATCH = 500
"""Rows of one transaction, or of one step of a copy."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PersonalData:
    """One kind of data. Made by `personal_data`."""

    name: str
    """What its file in a copy is called, without `.json`."""

    title: Any
    """The same for people, translated."""

    gather: Callable[[User], Iterable[Row]]
    """Yields what there is about the user, a row at a time: JSON, in which times may stand. No secrets."""

    erase: Callable[[User], object] | None = None
    """Deletes rows and files, in short transactions; may run twice. None: all of it goes with the row of the user."""


registered: dict[str, PersonalData] = {}


def personal_data(
    name: str, title: Any, gather: Callable[[User], Iterable[Row]], erase: Callable[[User], object] | None = None
) -> None:
    """Declare a kind of data, see PersonalData. Raises ValueError for a name that is taken or is no slug."""
    if name in registered:
        raise ValueError(f"There is personal data {name!r} already.")
    if not name.replace("-", "").isalnum():
        raise ValueError(f"personal_data got the name {name!r}; allowed: letters, digits and hyphens.")
    registered[name] = PersonalData(name, title, gather, erase)


def meant_by(user: User) -> dict[str, list[Any]]:
    """Return which arguments of tasks of accounts are about this user, for `tasks.subjects`.

    Of addresses the present one only: one that was typed in a form, or given up, may be somebody else's.
    """
    mailed = Q(kind=Kind.LOGIN, outcome=Outcome.SUCCEEDED) | Q(kind=Kind.PASSWORD_WARNING)  # mails tell of these
    return {
        "user_id": [user.pk],
        "email": [user.email],
        "export_id": list(Export.objects.filter(user=user).values_list("pk", flat=True)),
        "event_id": list(SecurityEvent.objects.filter(mailed, user=user).values_list("pk", flat=True)),
        "change_id": list(EmailChange.objects.filter(user=user).values_list("pk", flat=True)),
    }


def in_batches(rows: models.QuerySet[Any], act: Callable[[models.QuerySet[Any]], object]) -> None:
    """Let `act` have so many of the rows at a time, each time in a transaction, until none is left.

    The rows are those that it has still to do: it deletes them, or changes them so that they are no longer among them.
    """
    while ids := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        with transaction.atomic():
            act(rows.model._default_manager.filter(pk__in=ids))


# What accounts keeps --------------------------------------------------------------------------------------------------


def _rows(rows: models.QuerySet[Any], *columns: str) -> Iterator[Row]:
    yield from rows.order_by("pk").values(*columns).iterator(BATCH)


def _profile(user: User) -> Iterator[Row]:
    names = ("id", "email", "display_name", "language")
    times = ("email_verified_at", "created_at", "last_login", "delete_after")
    for row in _rows(User.objects.filter(pk=user.pk), *names, *times, "is_active", "is_staff", "is_superuser"):
        yield {**row, "groups": list(user.groups.order_by("pk").values_list("name", flat=True))}


def _security_events(user: User) -> Iterator[Row]:
    """Yield those of the account and those by its user: not what is about others, nor where an administrator was."""
    columns = ("at", "kind", "outcome", "address", "user_agent", "details")
    for row in _rows(SecurityEvent.objects.filter(Q(user=user) | Q(actor=user)), *columns, "user", "actor"):
        account, actor = row["user"], row["actor"]
        hidden = [] if actor in (None, user.pk) else ["address", "user_agent"]
        hidden += [] if account == user.pk else ["details"]
        yield {name: row[name] for name in columns if name not in hidden}


def _second_factors(user: User) -> Iterator[Row]:
    for kind, rows, columns in (
        ("authenticator app", Totp.objects.filter(user=user), ("created_at", "confirmed_at")),
        ("recovery code", RecoveryCode.objects.filter(user=user), ("created_at", "used_at")),
        ("passkey", Passkey.objects.filter(user=user), ("name", "created_at", "last_used_at", "is_backed_up")),
    ):
        yield from ({"kind": kind, **row} for row in _rows(rows, *columns))


def _administration(user: User) -> Iterator[Row]:
    """Yield what an administrator did, and not to whom: that is about others."""
    columns = ("action_time", "action_flag", "content_type__app_label", "content_type__model")
    return _rows(LogEntry.objects.filter(user=user), *columns)


def _forget_events(user: User) -> None:
    about = SecurityEvent.objects.filter(Q(user=user) | Q(actor=user))
    in_batches(about, lambda rows: rows.forget(user))  # type: ignore[attr-defined]  # a method of its own querysets


def _forget_name_in_log(user: User) -> None:
    about = LogEntry.objects.filter(content_type__app_label="accounts", content_type__model="user", object_id=user.pk)
    in_batches(about.exclude(object_repr=""), lambda rows: rows.update(object_repr="", change_message=""))


def _forget_second_factors(user: User) -> None:
    for model in (Totp, RecoveryCode, Passkey):
        in_batches(model._default_manager.filter(user=user), lambda batch: batch.delete())


class _Of:
    """Rows of a model that have a user."""

    def __init__(self, model: type[models.Model], *columns: str) -> None:
        self.model, self.columns = model, columns

    def rows(self, user: User) -> models.QuerySet[Any]:
        return self.model._default_manager.filter(user=user)

    def gather(self, user: User) -> Iterator[Row]:
        return _rows(self.rows(user), *self.columns)

    def erase(self, user: User) -> None:
        in_batches(self.rows(user), lambda batch: batch.delete())


_sessions = _Of(Session, "created_at", "last_seen_at", "expire_date", "address", "user_agent")
_known_browsers = _Of(KnownBrowser, "user_agent", "created_at", "last_login_at")
_email_changes = _Of(EmailChange, "old_email", "new_email", "requested_at", "confirmed_at", "undone_at")
_exports = _Of(Export, "requested_at", "finished_at", "downloaded_at", "expires_at")

personal_data("profile", _("profile"), _profile)
personal_data("sessions", _("sessions"), _sessions.gather, _sessions.erase)
personal_data("known-browsers", _("known browsers"), _known_browsers.gather, _known_browsers.erase)
personal_data("security-events", _("security events"), _security_events, _forget_events)
personal_data("second-factors", _("second factors"), _second_factors, _forget_second_factors)
personal_data("email-changes", _("changes of address"), _email_changes.gather, _email_changes.erase)
personal_data("exports", _("exports"), _exports.gather, _exports.erase)
personal_data("administration", _("log of the administration"), _administration, _forget_name_in_log)
personal_data(
    "tasks", _("tasks"), lambda user: tasks_about("accounts", meant_by(user))
)  # scrubbed by `accounts.erasure`
