"""The log of security events: what is written, who may read it, and when it forgets from where."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import security_log, tasks
from accounts.events import Kind, Outcome, record
from accounts.models import SecurityEvent, User
from tasks.schedules import declared
from tasks.testing import run_enqueued
from tests.accounts.conftest import logged_in
from tests.conftest import PASSWORD

URL = "/accounts/security/"
LIST = "/admin/accounts/securityevent/"
USERS = "/admin/accounts/user/"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"


def text(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


def event(user: User | None, kind: str = "login", age: timedelta = timedelta(0), **values) -> SecurityEvent:
    given = {"outcome": "succeeded", "address": "192.0.2.7", "user_agent": FIREFOX} | values
    return SecurityEvent.objects.create(user=user, kind=kind, at=timezone.now() - age, **given)


def logged(kind: str) -> list[tuple[str | None, str | None, str, Any]]:
    events = SecurityEvent.objects.filter(kind=kind).order_by("pk").select_related("user", "actor")
    return [(address_of(event.user), address_of(event.actor), event.outcome, event.details) for event in events]


def address_of(user: User | None) -> str | None:
    return None if user is None else user.email


# The page ------------------------------------------------------------------------------------------------------------


def test_a_user_reads_what_happened_to_the_account_the_latest_first_and_nothing_of_others(alice, operator):
    client = logged_in(alice, user_agent=FIREFOX)
    event(alice, "password-changed", timedelta(hours=2), actor=operator, user_agent="curl/8.5.0")
    event(alice, "signup", timedelta(days=1), outcome="refused", address=None, user_agent="")
    event(operator, "login", address="203.0.113.9")
    assert f'<a href="{URL}">What happened to your account</a>' in text(client.get("/accounts/"))
    page = text(client.get(URL))
    assert "no-store" in client.get(URL)["Cache-Control"]
    rows = page.split("<tr>")[2:]
    assert len(rows) == 3
    for row, parts in zip(
        rows,
        [
            ("Login", "succeeded", "Firefox on Linux", "127.0.0.1", ">you<"),
            ("Password changed", "succeeded", "curl", "192.0.2.7", ">an administrator<"),
            ("Signup", "refused", ">–<", ">not logged in<"),
        ],
        strict=True,
    ):
        assert [part for part in parts if part not in row] == []
    assert "203.0.113.9" not in page
    assert "operator@example.org" not in page


def test_who_it_was_is_told_as_far_as_the_owner_may_know(alice, operator):
    stranger = User.objects.create_user("stranger@example.org", PASSWORD)
    words = [security_log.who_in_words(event(alice, actor=actor), alice) for actor in (None, alice, operator, stranger)]
    assert words == ["not logged in", "you", "an administrator", "another user"]


def test_a_browser_is_text_and_a_kind_of_another_release_is_shown(alice):
    client = logged_in(alice)
    event(alice, "kind-of-tomorrow", user_agent="<img src=x>")
    page = text(client.get(URL))
    assert "Kind-of-tomorrow" in page
    assert "&lt;img src=x&gt;" in page
    assert "<img src=x>" not in page


def test_the_log_has_pages_and_a_page_that_does_not_exist_is_the_nearest(alice):
    client = logged_in(alice)
    for number in range(60):
        event(alice, f"kind-{number}", timedelta(minutes=number + 1))
    first, second = text(client.get(URL)), text(client.get(URL, {"page": 2}))
    assert (first.count("<tr>"), second.count("<tr>")) == (51, 12)
    assert '<a href="?page=2" rel="next">Earlier</a>' in first
    assert '<a href="?page=1" rel="prev">Later</a>' in second
    assert "Page 2 of 2" in second
    assert ("Kind-0<" in first, "Kind-59<" in second) == (True, True)
    for wrong in ("3", "-1", "x", "9" * 30):
        assert client.get(URL, {"page": wrong}).status_code == 200


def test_a_page_takes_as_many_statements_for_fifty_events_as_for_one(alice, operator):
    client = logged_in(alice)

    def statements() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(URL).status_code == 200
        return len(queries)

    one = statements()
    for _number in range(60):
        event(alice, actor=operator)
    assert statements() == one == 4


def test_the_page_asks_for_a_login_and_changes_nothing(client, alice):
    assert client.get(URL)["Location"] == f"/accounts/login/?next={URL}"
    assert logged_in(alice).post(URL).status_code == 405


# What is written -----------------------------------------------------------------------------------------------------


def test_a_logout_is_written_and_one_without_a_session_is_not(alice):
    client = logged_in(alice)
    client.post("/accounts/logout/")
    client.post("/accounts/logout/")
    assert logged("logout") == [(alice.email, alice.email, "succeeded", {})]


def test_a_mail_for_a_reset_is_written_where_the_user_is_known(client, alice, newcomer):
    for address in (alice.email, "nobody@example.org"):
        client.post("/accounts/password-reset/", {"email": address})
        client.post("/accounts/verify/resend/", {"email": address})
    assert logged("reset-asked") == logged("resend-asked") == []
    run_enqueued()
    assert logged("reset-asked") == logged("resend-asked") == [(alice.email, None, "succeeded", {})]


def test_what_an_administrator_changes_is_written_with_the_names_of_the_fields(operator_client, alice):
    page = f"{USERS}{alice.pk}/change/"
    data = {"email": alice.email, "display_name": "Alice", "language": "en", "is_active": "on"}
    assert operator_client.post(page, data).status_code == 302
    assert logged("changed-by-administrator") == []
    operator_client.post(page, data | {"display_name": "Alice Two", "is_staff": "on"})
    assert logged("changed-by-administrator") == [
        (alice.email, "operator@example.org", "succeeded", {"fields": ["display_name", "is_staff"]})
    ]


def test_a_password_that_an_administrator_sets_is_written_and_ends_the_sessions(operator_client, alice):
    client = logged_in(alice)
    new = {"password1": "a new lamp by the lake", "password2": "a new lamp by the lake", "usable_password": "true"}
    operator_client.post(f"{USERS}{alice.pk}/password/", new | {"password2": "other"})
    assert alice.sessions.count() == 1
    assert operator_client.post(f"{USERS}{alice.pk}/password/", new).status_code == 302
    assert alice.sessions.count() == 0
    assert client.get("/accounts/").status_code == 302
    assert logged("changed-by-administrator") == [
        (alice.email, "operator@example.org", "succeeded", {"fields": ["password"]})
    ]
    assert "lake" not in str(list(SecurityEvent.objects.values()))


def test_a_new_user_and_deleted_ones_are_written(operator_client, alice):
    data = {"email": "new@example.org", "language": "en", "password1": PASSWORD, "password2": PASSWORD}
    assert operator_client.post(f"{USERS}add/", data).status_code == 302
    assert logged("changed-by-administrator") == [
        ("new@example.org", "operator@example.org", "succeeded", {"is_new": True})
    ]
    new = User.objects.get(email="new@example.org")
    operator_client.post(f"{USERS}{alice.pk}/delete/", {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": [new.pk], "post": "yes"}
    operator_client.post(USERS, chosen)
    assert logged("deletion-asked") == [
        (email, "operator@example.org", "succeeded", {}) for email in (alice.email, new.email)
    ]
    run_enqueued()
    assert User.objects.count() == 1
    assert logged("deletion-asked") == [(None, "operator@example.org", "succeeded", {})] * 2
    assert logged("account-deleted") == [(None, None, "succeeded", {})] * 2


# The administration --------------------------------------------------------------------------------------------------


def test_administrators_read_the_log_and_find_the_events_of_a_user(operator_client, alice, operator):
    event(alice, "login", outcome="failed")
    event(operator, "password-changed", address="203.0.113.9")
    page = text(operator_client.get(LIST))
    assert ("192.0.2.7" in page, "203.0.113.9" in page, "Firefox on Linux" in page) == (True, True, True)
    for question in ({"q": "ALICE@example.org"}, {"kind": "login"}, {"outcome__exact": "failed"}):
        page = text(operator_client.get(LIST, question))
        assert ("192.0.2.7" in page, "203.0.113.9" in page) == (True, False), question
    for question in ({"q": "alice"}, {"q": "' OR 1=1"}, {"kind": "logout"}):
        assert "192.0.2.7" not in text(operator_client.get(LIST, question))
    assert operator_client.get(LIST, {"kind": "nonsense"}).status_code == 200


def test_nobody_adds_changes_or_deletes_an_event(operator_client, alice):
    old = event(alice)
    page = text(operator_client.get(f"{LIST}{old.pk}/change/"))
    assert "192.0.2.7" in page
    assert 'name="_save"' not in page
    assert 'name="outcome"' not in page
    assert operator_client.get(f"{LIST}add/").status_code == 403
    assert operator_client.post(f"{LIST}{old.pk}/change/", {"outcome": "failed"}).status_code == 403
    assert operator_client.post(f"{LIST}{old.pk}/delete/", {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [old.pk], "post": "yes"}
    operator_client.post(LIST, chosen)
    assert SecurityEvent.objects.get(pk=old.pk).outcome == "succeeded"


def test_staff_without_the_permission_and_users_do_not_read_the_log(alice):
    client = Client()
    client.force_login(alice)
    assert client.get(LIST).status_code == 302
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    assert client.get(LIST).status_code == 403


def test_the_list_takes_as_many_statements_for_a_hundred_events_as_for_one(operator_client, alice, operator):
    def statements() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert operator_client.get(LIST).status_code == 200
        return len(queries)

    event(alice, actor=operator)
    one = statements()
    for _number in range(100):
        event(alice, actor=operator)
    assert statements() == one


# Forgetting from where -----------------------------------------------------------------------------------------------


def places() -> list[tuple[str | None, str]]:
    return list(SecurityEvent.objects.order_by("pk").values_list("address", "user_agent"))


def test_addresses_and_browsers_are_forgotten_after_ninety_days_and_the_events_stay(alice):
    for days in (91, 90.01, 89.9, 0):
        event(alice, age=timedelta(days=days))
    assert security_log.cut_addresses() == 2
    assert places() == [(None, "")] * 2 + [("192.0.2.7", FIREFOX)] * 2
    assert security_log.cut_addresses() == 0


def test_a_browser_whose_address_nobody_knew_is_forgotten_too(alice):
    for address, agent in ((None, FIREFOX), ("192.0.2.7", ""), (None, "")):
        event(alice, age=timedelta(days=91), address=address, user_agent=agent)
    assert security_log.cut_addresses() == 2
    assert places() == [(None, "")] * 3


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_they_are_forgotten_in_batches_until_none_is_left(alice, monkeypatch, count):
    monkeypatch.setattr(security_log, "BATCH", 2)
    for _number in range(count):
        event(alice, age=timedelta(days=100))
    with CaptureQueriesContext(connection) as queries:
        assert security_log.cut_addresses() == count
    assert places() == [(None, "")] * count
    assert sum(query["sql"].startswith("UPDATE") for query in queries) == -(-count // 2)


def test_it_is_done_every_night_and_the_rows_are_found_by_an_index(db):
    schedule = declared["accounts.tasks.cut_addresses_of_events"]
    assert schedule.times["timing"] == "40 3 * * *"
    tasks.cut_addresses_of_events.enqueue()
    [task] = run_enqueued()
    assert (task.status, task.return_value, task.queue_name) == ("SUCCESSFUL", 0, "maintenance")
    cut = [SecurityEvent(kind=Kind.LOGIN, outcome=Outcome.SUCCEEDED) for _ in range(3000)]
    SecurityEvent.objects.bulk_create(cut)  # so many that the other index by time would be read in vain
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE accounts_securityevent")
    old = SecurityEvent.objects.with_origin().filter(at__lte=Now() - security_log.ADDRESSES_KEPT)
    plan = old.order_by("at").values_list("pk", flat=True)[:1000].explain()
    assert "accounts_event_with_origin" in plan


def test_an_event_is_never_changed_otherwise(alice):
    kept = record(Kind.LOGIN, user=alice, outcome=Outcome.FAILED)
    for change in (kept.save, kept.delete, SecurityEvent.objects.all().delete):
        with pytest.raises(TypeError):
            change()
    with pytest.raises(TypeError):
        SecurityEvent.objects.update(outcome="succeeded")
    again = SecurityEvent(pk=kept.pk, kind=Kind.LOGIN, outcome=Outcome.SUCCEEDED)
    with pytest.raises(TypeError):
        SecurityEvent.objects.bulk_create(
            [again], update_conflicts=True, unique_fields=["id"], update_fields=["outcome"]
        )
    assert SecurityEvent.objects.get().outcome == Outcome.FAILED


# The table -----------------------------------------------------------------------------------------------------------


def test_one_index_finds_the_events_of_a_user_and_no_second_one_is_written(db):
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, SecurityEvent._meta.db_table)
    of_user = [name for name, found in found.items() if found["index"] and found["columns"][0] == "user_id"]
    assert of_user == ["accounts_event_of_user"]
