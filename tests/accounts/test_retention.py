"""Which accounts go: those that nobody has ever used."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.db import connection, models, transaction
from django.db.models.functions import Now

from accounts.models import EmailChange, User
from tasks.cleanup import prune
from tasks.retention import Table, tables
from tests.tasks import rows

pytestmark = pytest.mark.django_db

ACCOUNTS = tables["unverified-accounts"]


def user(name: str, age: float = 7.1, **values) -> User:
    """Somebody who signed up so many days ago and did nothing since."""
    made = User.objects.create_user(f"{name}@example.org", "x", **values)
    User.objects.filter(pk=made.pk).update(created_at=Now() - timedelta(days=age))
    return made


def names() -> list[str]:
    return sorted(email.partition("@")[0] for email in User.objects.values_list("email", flat=True))


def test_an_account_goes_a_week_after_the_signup_if_nobody_has_ever_used_it(operator):
    User.objects.filter(pk=operator.pk).update(created_at=Now() - timedelta(days=99), email_verified_at=None)
    user("unused")
    user("young", age=6.9)
    user("verified", email_verified_at=Now())
    user("used", last_login=Now())
    user("staff", is_staff=True)
    user("superuser", is_superuser=True)
    user("switched-off", is_active=False)
    assert prune(ACCOUNTS).pruned == 1
    assert names() == ["operator", "staff", "superuser", "switched-off", "used", "verified", "young"]


def test_an_account_stays_to_which_an_administrator_has_given_another_address(operator_client):
    given, asked = user("given", email_verified_at=Now()), user("asked")
    EmailChange.objects.create(user=asked, old_email=asked.email, new_email="new@example.org")
    data = {"email": "other@example.org", "language": "en", "is_active": "on"}
    assert operator_client.post(f"/admin/accounts/user/{given.pk}/change/", data).status_code == 302
    assert User.objects.get(pk=given.pk).email_verified_at is None
    assert prune(ACCOUNTS).pruned == 1
    assert names() == ["operator", "other"]
    EmailChange.objects.all().delete()  # by their retention
    assert prune(ACCOUNTS).pruned == 1


def test_the_time_is_a_setting(settings):
    user("young", age=6.9)
    settings.RETENTION_UNVERIFIED_ACCOUNTS = 6 * 86_400
    assert ACCOUNTS.kept_in_words() == "6 days"
    assert prune(ACCOUNTS).pruned == 1


def test_what_a_user_has_goes_along_and_what_others_have_stays(operator):
    group, permission = Group.objects.create(name="readers"), Permission.objects.first()
    for somebody in (user("unused"), operator):
        somebody.groups.add(group)
        somebody.user_permissions.add(permission)
        LogEntry.objects.create(user=somebody, action_flag=2, object_repr="x")
    assert prune(ACCOUNTS).pruned == 1
    connection.check_constraints()
    assert list(User.groups.through.objects.values_list("user", flat=True)) == [operator.pk]
    assert list(User.user_permissions.through.objects.values_list("user", flat=True)) == [operator.pk]
    assert list(LogEntry.objects.values_list("user", flat=True)) == [operator.pk]
    assert Group.objects.count() == 1


def test_the_conditions_stand_in_the_delete_itself():
    """Whoever verified between the look and the DELETE stays."""
    unused, late = user("unused"), user("late")
    seen = ACCOUNTS.expired().filter(pk__in=[unused.pk, late.pk])
    late.verify_email()
    assert ACCOUNTS.delete(seen) == 1
    assert names() == ["late"]
    with connection.execute_wrapper(statements := Statements()):
        user("unused")
        prune(ACCOUNTS)
    (delete,) = [sql for sql in statements if sql.startswith('DELETE FROM "accounts_user" ')]
    for condition in ("email_verified_at", "last_login", "is_staff", "is_active", "created_at"):
        assert f'"{condition}"' in delete


class Statements(list[str]):
    """The statements that are executed."""

    def __call__(self, execute, sql, params, many, context):
        self.append(sql)
        return execute(sql, params, many, context)


@pytest.mark.skipif(
    "not connection.features.has_select_for_update_skip_locked", reason="SQLite has one writer at a time"
)
@pytest.mark.django_db(transaction=True)
def test_who_is_just_verifying_is_left_alone():
    late = user("late")
    user("unused")
    with transaction.atomic():
        late.verify_email()
        assert rows.in_another_thread(lambda: prune(ACCOUNTS)).pruned == 1
    assert prune(ACCOUNTS).pruned == 0
    assert names() == ["late"]


def test_an_account_that_something_holds_stays_and_is_in_nobodys_way():
    held = user("held")
    user("unused")

    def refuse(users: models.QuerySet[User]) -> int:
        if held in users:
            raise models.ProtectedError("held", {held})
        return users._raw_delete("default")

    table = Table(name="x", title="x", rows=ACCOUNTS.rows, column="created_at", kept=ACCOUNTS.kept, delete=refuse)
    run = prune(table)
    assert (run.pruned, run.held, names()) == (1, [held.pk], ["held"])
