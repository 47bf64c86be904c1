"""The page of all tables in the administration."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone
from django.utils.formats import date_format

from accounts.models import Session, User
from tasks.admin import retention as retention_page
from tasks.models import Task
from tasks.retention import tables
from tasks.tasks import prune
from tests.tasks import rows

pytestmark = pytest.mark.django_db

URL = "/admin/tasks/retention/"


def cells(client: Client) -> dict[str, list[str]]:
    """The texts of each line of the page, by the name of its table."""
    page = client.get(URL).content.decode()
    (body,) = re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL)
    found = {}
    for line in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL):
        parts = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.DOTALL)
        texts = [" ".join(unescape(re.sub(r"<[^>]*>", "", part)).split()) for part in parts]
        found[texts[0].split()[-1]] = texts
    return found


@pytest.fixture
def clerk(db) -> User:
    """Staff without any permission."""
    return User.objects.create_user("clerk@example.org", "x", is_staff=True)


def client_of(user: User, *permissions: str) -> Client:
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_every_table_has_a_line_with_its_figures(operator_client):
    now = timezone.now()
    Session.objects.create(
        session_key="a", session_data="", expire_date=now, created_at=now - timedelta(days=16, minutes=1)
    )
    rows.failed(errors=2, expires_at=Now())
    Task.objects.update(enqueued_at=Now() - timedelta(days=15))
    found = cells(operator_client)
    assert [*found] == [*tables]
    assert found["sessions"] == [
        "Sessions sessions", "2", "2 weeks, 2 days", "14 days after their last use", "1", "never", "Prune now",
    ]  # fmt: skip
    assert found["tasks"][1:5] == ["1", "2 weeks, 1 day", "successful 7 days, failed 90 days", "1"]
    assert found["task-errors"][1:] == ["2", "0 minutes", "as long as the task", "–", "with tasks", ""]
    assert found["clusters"][1:] == ["0", "–", "1 day", "0", "never", "Prune now"]


def test_the_last_run_is_told_with_its_outcome_and_leads_to_its_task(operator_client):
    prunes = {"task_path": "tasks.tasks.prune", "queue_name": "maintenance"}
    for name, build, values in [
        ("sessions", rows.failed, {}),
        ("sessions", rows.successful, {"return_value": {"pruned": 1234, "more": True}}),
        ("clusters", rows.running, {"progress": {"done": 5, "total": 9, "message": ""}}),
        ("admin-log", rows.failed, {}),
    ]:
        task = build(args=[name], idempotency_key=name, **values)
        Task.objects.filter(pk=task.pk).update(**prunes)
    found = {name: line[5] for name, line in cells(operator_client).items()}
    finished = date_format(Task.objects.order_by("pk")[1].finished_at, "SHORT_DATETIME_FORMAT")
    assert found["sessions"] == f"SUCCESSFUL {finished} · pruned: 1234 · more is left"
    assert found["clusters"] == "RUNNING · pruned: 5"
    assert found["admin-log"] == f"FAILED {finished}"
    assert found["unverified-accounts"] == "never"
    for task in Task.objects.order_by("pk")[1:]:
        assert f'href="/admin/tasks/task/{task.pk}/change/"' in operator_client.get(URL).content.decode()


def test_the_last_run_is_found_by_its_index():
    last = Task.objects.filter(task_path=prune.module_path, idempotency_key="sessions").order_by("-pk")[:1]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    assert "tasks_task_prunes" in last.explain()


def test_the_button_enqueues_one_prune_however_often_it_is_pressed(operator_client, operator):
    for _press in range(2):
        page = operator_client.post(URL, {"table": "sessions"}, follow=True)
        task = Task.objects.get()
        assert [str(message) for message in page.context["messages"]] == [
            f'Task <a href="/admin/tasks/task/{task.pk}/change/">#{task.pk}</a> prunes this table: sessions.'
        ]
    assert (task.task_path, task.args, task.queue_name) == ("tasks.tasks.prune", ["sessions"], "maintenance")
    assert set(LogEntry.objects.values_list("user", "object_id", "change_message")) == {
        (operator.pk, str(task.pk), "Enqueued by hand.")
    }


@pytest.mark.parametrize("name", ["", "users", "task-errors"])
def test_a_table_that_is_not_pruned_cannot_be(operator_client, name):
    assert operator_client.post(URL, {"table": name}).status_code == 404
    assert not Task.objects.exists()


def test_the_page_is_for_those_who_may_see_tasks_and_its_button_for_those_who_may_prune(clerk, alice):
    Session.objects.create(session_key="a", session_data="", expire_date=timezone.now())
    for client in (client_of(clerk), client_of(clerk, "prune_retention")):
        assert client.get(URL).status_code == 403
        assert client.post(URL, {"table": "sessions"}).status_code == 403
    for client in (client_of(alice), Client()):
        assert client.get(URL).status_code == 302
        assert client.post(URL, {"table": "sessions"}).status_code == 302
    client = client_of(clerk, "view_task")
    assert len(cells(client)["sessions"]) == 6
    assert client.post(URL, {"table": "sessions"}).status_code == 403
    assert not Task.objects.exists()
    client = client_of(clerk, "view_task", "prune_retention")
    assert cells(client)["sessions"][6] == "Prune now"
    assert client.post(URL, {"table": "sessions"}).status_code == 302
    assert Task.objects.get().args == ["sessions"]


def test_the_administration_leads_to_the_page(operator_client, clerk):
    link = f'<a href="{URL}"'
    for page in ("/admin/", "/admin/tasks/", "/admin/tasks/task/"):
        assert link in operator_client.get(page).content.decode()
    assert link not in client_of(clerk, "view_user").get("/admin/").content.decode()


def test_many_rows_are_not_counted(operator_client, monkeypatch):
    monkeypatch.setattr(retention_page, "COUNTED", 3)
    for number in range(5):
        Session.objects.create(session_key=f"{number}", session_data="", expire_date=timezone.now())
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE accounts_session")
        many = "about 6"  # and the operator's own
    else:
        many = "more than 3"
    line = cells(operator_client)["sessions"]
    assert (line[1], line[4]) == (many, "more than 3")
