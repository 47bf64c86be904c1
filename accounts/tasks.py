"""What accounts do in the background. Each task is given ids, looks at the present state, and may run twice.

Where somebody asks with an address and no login, the address is the argument, and only the worker looks it up: the
answer cannot depend on whether it is known. Such a row is kept for ADDRESS_KEPT.

At the end the tables that grow with people, see `tasks.retention`.
"""

import logging
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext_lazy as _
from django_tasks import TaskContext, task

from accounts import archive, emails, erasure, security_log
from accounts.events import Kind, record
from accounts.models import EmailChange, Export, KnownBrowser, SecurityEvent, Session, Throttle, User
from tasks.backoff import exponential
from tasks.exceptions import Discard, Retry
from tasks.retention import in_words, retain
from tasks.schedules import schedule

logger = logging.getLogger(__name__)

MAIL: dict[str, Any] = {
    "queue_name": "mail",
    "priority": 10,
    "max_attempts": 12,  # a mail server may be away for an hour and a quarter on average, twice that at most
    "backoff": exponential(base=5, cap=3600),
    "timeout": 60,
}
ADDRESS_KEPT = timedelta(days=1)


@task(takes_context=True, **MAIL)
def send_welcome_email(context: TaskContext, user_id: int) -> None:
    """Welcome a new user, with the link that verifies the address; nothing to do once it is verified."""
    user = _user(user_id)
    if user.email_verified_at is None:
        emails.welcome(user, context.task_result.id).send()


@task(takes_context=True, **MAIL)
def send_already_registered_email(context: TaskContext, user_id: int) -> None:
    """Answer a signup with a known address. If it was never verified, the link is what its owner needs."""
    user = _user(user_id)
    mail = emails.already_registered if user.email_verified_at else emails.welcome
    mail(user, context.task_result.id).send()


@task(takes_context=True, sensitive=("email",), retention=ADDRESS_KEPT, **MAIL)
def resend_verification_email(context: TaskContext, email: str) -> None:
    """Send the link that verifies the address, if it has an account that is on and not verified yet."""
    user = User.objects.filter(email=email, is_active=True, email_verified_at=None).first()
    if user is not None:
        emails.welcome(user, context.task_result.id).send()
        record(Kind.RESEND_ASKED, user=user)


@task(takes_context=True, sensitive=("email",), retention=ADDRESS_KEPT, **MAIL)
def send_password_reset_email(context: TaskContext, email: str) -> None:
    """Send the link to a new password, if the address has an account that is on and may log in with a password."""
    user = User.objects.filter(email=email, is_active=True).first()
    if user is not None and user.has_usable_password():
        emails.password_reset(user, context.task_result.id).send()
        record(Kind.RESET_ASKED, user=user)


@task(takes_context=True, **MAIL)
def send_password_changed_email(context: TaskContext, user_id: int) -> None:
    """Tell a user that the password was changed."""
    emails.password_changed(_user(user_id), context.task_result.id).send()


@task(takes_context=True, **MAIL)
def send_new_login_email(context: TaskContext, event_id: int) -> None:
    """Tell a user of a login from a browser that is new to them: when, where, and what to do about it."""
    emails.new_login(*_user_and_event(event_id), context.task_result.id).send()


@task(takes_context=True, **MAIL)
def send_password_warning_email(context: TaskContext, event_id: int) -> None:
    """Tell a user of somebody who knows the password and has no second factor: when, where, and what to do about it."""
    emails.password_warning(*_user_and_event(event_id), context.task_result.id).send()


@task(takes_context=True, **MAIL)
def send_second_factor_changed_email(context: TaskContext, user_id: int, change: str) -> None:
    """Tell a user what became of the second factors, see `emails.SECOND_FACTOR_CHANGES`."""
    emails.second_factor_changed(_user(user_id), context.task_result.id, change).send()


@task(takes_context=True, timeout=3600, max_attempts=3)
def gather_export(context: Any, export_id: int) -> None:
    """Make the copy of all that is stored about a user, and tell them."""
    export = Export.objects.filter(pk=export_id, finished_at=None).select_related("user").first()
    if export is None:
        return
    content = archive.make(export.user, context)
    with transaction.atomic():
        if archive.store(export_id, content):
            send_export_ready_email.enqueue(export_id)


@task(takes_context=True, **MAIL)
def send_export_ready_email(context: TaskContext, export_id: int) -> None:
    """Tell a user that the copy is ready, unless it was downloaded already."""
    export = Export.objects.filter(pk=export_id, downloaded_at=None).select_related("user").defer("content").first()
    if export is not None and export.user.is_active:
        emails.export_ready(export.user, context.task_result.id, export.expires_at).send()


@task(takes_context=True, **MAIL)
def send_deletion_asked_email(context: TaskContext, user_id: int) -> None:
    """Tell a user when the account will be deleted, unless that was taken back."""
    user = _user(user_id)
    if user.delete_after is not None:
        emails.deletion_asked(user, context.task_result.id).send()


@task(timeout=3600, retention=ADDRESS_KEPT)
def erase_account(user_id: int) -> None:
    """Erase an account whose grace is over. Runs when it was asked to; then the present state decides."""
    if not erasure.erase(user_id):
        return
    with transaction.atomic():
        if erasure.empty(user_id):
            send_account_deleted_email.enqueue(user_id)


@task(takes_context=True, retention=ADDRESS_KEPT, idempotency_key=str, **MAIL)
def send_account_deleted_email(context: TaskContext, user_id: int) -> None:
    """Say goodbye, then forget the address; after the last attempt without having said it."""
    user = erasure.leaving(user_id)
    if user is None:
        return
    try:
        emails.account_deleted(user, context.task_result.id).send()
    except Exception:
        if context.attempt < MAIL["max_attempts"]:
            raise Retry("The mail server does not take the mail.") from None  # its own words may name the address
        logger.warning("task %s: an account is erased whose owner could not be told", context.task_result.id)
    erasure.finish(user_id)


@task(takes_context=True, **MAIL)
def send_email_change_link(context: TaskContext, change_id: int) -> None:
    """Send the link to the new address; if that has an account, tell its owner of the wish instead."""
    change = _change(change_id, confirmed_at=None, user__email=F("old_email"))
    owner = User.objects.filter(email=change.new_email).first()
    if owner is None:
        emails.email_change_link(change, context.task_result.id).send()
    elif owner.is_active:
        emails.address_wanted(owner, context.task_result.id).send()


@task(takes_context=True, **MAIL)
def send_email_change_asked_email(context: TaskContext, change_id: int) -> None:
    """Tell the old address that another was asked for."""
    emails.email_change_asked(_change(change_id), context.task_result.id).send()


@task(takes_context=True, **MAIL)
def send_email_changed_email(context: TaskContext, change_id: int) -> None:
    """Tell the old address of the new one, with the link that undoes it."""
    emails.email_changed(_change(change_id, confirmed_at__isnull=False), context.task_result.id).send()


@task(takes_context=True, **MAIL)
def send_email_changed_by_administrator_email(context: TaskContext, change_id: int, is_undoable: bool) -> None:
    """Tell the old address that an administrator has given the account another one; with the link where allowed."""
    change = _change(change_id, confirmed_at__isnull=False)
    emails.email_changed_by_administrator(change, context.task_result.id, is_undoable).send()


@task(takes_context=True, **MAIL)
def send_email_set_by_administrator_email(context: TaskContext, user_id: int) -> None:
    """Send the link that verifies an address that an administrator has typed; nothing to do once it is verified."""
    user = _user(user_id)
    if user.email_verified_at is None:
        emails.email_set_by_administrator(user, context.task_result.id).send()


@schedule("40 3 * * *")
@task(queue_name="maintenance", timeout=3600)
def cut_addresses_of_events() -> int:
    """Forget from where old security events came; return how many."""
    return security_log.cut_addresses()


def _change(change_id: int, **state: Any) -> EmailChange:
    changes = EmailChange.objects.filter(pk=change_id, undone_at=None, user__is_active=True, **state)
    change = changes.select_related("user").first()
    if change is None:
        raise Discard("The account is gone or was switched off, or the change is overtaken.")
    return change


def _user(user_id: int) -> User:
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        raise Discard("The account is gone or was switched off.")
    return user


def _user_and_event(event_id: int) -> tuple[User, SecurityEvent]:
    event = SecurityEvent.objects.filter(pk=event_id).first()
    if event is None or event.user_id is None:
        raise Discard("The account is gone.")
    return _user(event.user_id), event


retain(
    "sessions", _("sessions"), Session.objects.all, "expire_date",
    oldest=lambda: Session.objects.order_by("expire_date").values_list("created_at", flat=True).first(),
    words=lambda: _("%(time)s after their last use")
    % {"time": in_words(timedelta(seconds=settings.SESSION_COOKIE_AGE))},
)  # fmt: skip
retain(
    "throttle-counters", _("throttle counters"), Throttle.objects.all, "expires_at",
    oldest=lambda: None, words=lambda: _("as long as they count"),  # when one began is not kept
)  # fmt: skip
retain(
    "security-events", _("security events"), SecurityEvent.objects.all, "at",
    lambda: timedelta(seconds=settings.RETENTION_SECURITY_EVENTS),
)  # fmt: skip
retain(
    "known-browsers", _("known browsers"), KnownBrowser.objects.all, "last_login_at",
    lambda: timedelta(seconds=settings.RETENTION_KNOWN_BROWSERS),
)  # fmt: skip
retain(  # the last of its links, which undoes it, works for 7 days after the confirmation
    "email-changes", _("changes of address"), EmailChange.objects.all, "requested_at", lambda: timedelta(days=30)
)  # fmt: skip
retain(
    "exports", _("exports"), Export.objects.all, "expires_at", words=lambda: in_words(archive.KEPT),
    oldest=lambda: Export.objects.order_by("pk").values_list("requested_at", flat=True).first(),
)  # fmt: skip
retain(
    "unverified-accounts", _("unverified accounts"), User.objects.unverified, "created_at",
    lambda: timedelta(seconds=settings.RETENTION_UNVERIFIED_ACCOUNTS),
)  # fmt: skip
retain(  # its table has no index on the time
    "admin-log", _("log of the administration"), LogEntry.objects.all, "action_time",
    lambda: timedelta(seconds=settings.RETENTION_ADMIN_LOG), order="pk",
)  # fmt: skip
