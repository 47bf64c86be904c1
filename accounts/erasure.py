"""The end of an account whose days of grace are over: what the tasks do. See `accounts.deletion` for its user's side.

1. `erase` closes the account, in one compare-and-set with the end of the grace: who takes it back a moment before keeps
   all of it, a moment later nothing.
2. It scrubs the tasks about the user, waits for those that run, and erases all personal data, see
   `accounts.personal_data`, a few rows at a time.
3. It empties the row of the user. What is left is a row with an address, a language and no way in, and the task that
   says goodbye. The address has to stand somewhere until that mail is sent; there it can be found and erased, in the
   arguments of a task it could not.
4. `finish` deletes the row once the mail server has the mail, or has refused it for the last time, some two hours
   later: to be forgotten counts for more than to be told.

Each step may run twice, and goes on where the last one stopped.
"""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from accounts.events import Kind, Outcome, record
from accounts.models import User
from accounts.personal_data import meant_by, registered
from tasks.exceptions import Snooze
from tasks.subjects import scrub, scrub_name

BY = "the erasure of the account"
"""Who cancels the tasks about the user, in the words of the administration."""

ERASE, GOODBYE = "accounts.tasks.erase_account", "accounts.tasks.send_account_deleted_email"
"""The tasks that call this. Two of them may run at once, and must not stop each other."""

LOOK_AGAIN = timedelta(seconds=10)
"""When to look again whether the tasks have stopped that still ran."""


def is_last_superuser(user_id: int) -> bool:
    """Return whether nobody could administer the site without this user. Call it in a transaction.

    Superusers who leave do not count. All are locked, in one order, so of two who leave at once the later one sees it;
    on SQLite, transactions follow each other anyway.
    """
    if not User.objects.filter(pk=user_id, is_superuser=True, is_active=True).exists():
        return False
    counted = User.objects.filter(Q(delete_after=None) | Q(pk=user_id), is_superuser=True, is_active=True)
    return set(counted.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True)) <= {user_id}


def erase(user_id: int) -> bool:
    """Erase what there is about a user, but for the row of the user; return whether it did.

    Nothing happens unless the grace is over: it may have been taken back, or have begun again. Raises Snooze while a
    task about the user still runs.
    """
    if not _close(user_id):
        return False
    user = leaving(user_id)
    if user is None:
        return False
    # first, while there are rows that tell which tasks are about the user
    if scrub("accounts", meant_by(user), BY, but=(ERASE, GOODBYE)):
        raise Snooze(LOOK_AGAIN)
    scrub_name(str(user))
    _erase_data(user)
    return True


def empty(user_id: int) -> bool:
    """Empty the row of a user of all but the address and the language; False if it is gone."""
    for rights in (User.groups, User.user_permissions):
        rights.through.objects.filter(user=user_id).delete()
    nothing = {"display_name": "", "password": make_password(None), "is_staff": False, "is_superuser": False}
    return bool(_closed(user_id).update(**nothing, last_login=None))


def finish(user_id: int) -> None:
    """Delete the row of a user after all else was erased, with what has come since: whoever tried to log in, say."""
    user = _closed(user_id).first()
    if user is None:
        return
    about = meant_by(user)
    _erase_data(user)
    with transaction.atomic():
        user.delete()
        record(Kind.ACCOUNT_DELETED)  # of nobody: no row of the log says any more whose account it was
    scrub("accounts", about, BY, but=(GOODBYE,))


def leaving(user_id: int) -> User | None:
    """Return the user whose account is closed and erased but for the address; None: gone already."""
    return _closed(user_id).first()


def _erase_data(user: User) -> None:
    for data in registered.values():
        if data.erase is not None:
            data.erase(user)


def _close(user_id: int) -> bool:
    due = User.objects.filter(pk=user_id, delete_after__lte=Now())
    with transaction.atomic():
        if is_last_superuser(user_id):  # the others have gone since it was asked for
            if due.update(delete_after=None):
                record(Kind.ACCOUNT_DELETED, user=user_id, outcome=Outcome.REFUSED, reason="last superuser")
            return False
        return bool(due.update(is_active=False))


def _closed(user_id: int) -> QuerySet[User]:
    return User.objects.filter(pk=user_id, is_active=False, delete_after__lte=Now())
