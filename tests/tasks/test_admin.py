"""Tasks in the administration."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_q import models as django_q_models

from accounts.models import User
from tasks.admin.tasks import HIDDEN, note, readable
from tasks.models import FailedTask, Queue, Task
from tests.tasks import rows

pytestmark = pytest.mark.django_db

TASKS, FAILED = "/admin/tasks/task/", "/admin/tasks/failedtask/"
HOSTILE = "<script>alert(1)</script>\"'&{% now %}"


@pytest.fixture
def clerk(db) -> User:
    """Staff who may look at tasks and nothing else."""
    return User.objects.create_user("clerk@example.org", is_staff=True, email_verified_at=timezone.now())


def client_of(user: User, *permissions: str) -> Client:
    """The browser of a user who has these permissions of the app `tasks`."""
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="tasks", codename__in=permissions))
    assert user.user_permissions.count() == len(permissions)
    client = Client()
    client.force_login(user)
    return client


def text_of(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


def cells(response) -> list[list[str]]:
    """The texts of a list, row by row, without the box that selects the row."""
    found = []
    for row in re.findall(r"<tr>(.*?)</tr>", text_of(response).partition("<tbody>")[2], re.DOTALL):
        columns = re.findall(r'<t[hd] class="field-[^>]*>(.*?)</t[hd]>', row, re.DOTALL)
        found.append([" ".join(unescape(re.sub(r"<[^>]*>", "", column)).split()) for column in columns])
    return found


def headings(response) -> list[str]:
    found = re.findall(
        r'<th scope="col" class="[^"]*column-[^>]*>.*?class="text">(.*?)</div>', text_of(response), re.DOTALL
    )
    return [re.sub(r"<[^>]*>", "", heading).strip() for heading in found]


def offered(response) -> set[str]:
    return {
        name for name, label in response.context["cl"].model_admin.get_action_choices(response.wsgi_request) if name
    }


def act(client: Client, action: str, *tasks: Task, url: str = TASKS):
    data = {"action": action, "_selected_action": [task.pk for task in tasks], "index": 0}
    return client.post(url, data, follow=True)


def said(response) -> list[tuple[str, str]]:
    return [(message.level_tag, message.message) for message in response.context["messages"]]


# Pages ---------------------------------------------------------------------------------------------------------------


BUILDS: list[Any] = [rows.ready, rows.claimed, rows.running, rows.successful, rows.failed]


@pytest.mark.parametrize("build", BUILDS)
def test_a_task_in_any_state_has_a_page_and_a_line(operator_client, build):
    task = build()
    assert len(cells(operator_client.get(TASKS))) == 1
    page = text_of(operator_client.get(f"{TASKS}{task.pk}/change/"))
    assert task.task_path in page
    assert task.status in page


@pytest.mark.parametrize("forged", ["x", "-1", "1_0", "٣", "9" * 30, ""])
@pytest.mark.parametrize(
    ("url", "action"), [(TASKS, "retry"), (FAILED, "discard"), ("/admin/tasks/schedule/", "pause")]
)
def test_ids_that_no_row_can_have_are_refused(forged, url, action, operator_client):
    task = rows.failed()
    before = rows.state(task)
    data = {"action": action, "_selected_action": [task.pk, forged], "index": 0}
    says = "What was selected does not exist. Select rows of the list."
    assert says in text_of(operator_client.post(url, data, follow=True))
    assert rows.state(task) == before


def test_empty_lists_have_pages(operator_client):
    for url in (TASKS, FAILED, "/admin/", "/admin/tasks/"):
        assert operator_client.get(url).status_code == 200


def test_a_task_of_a_function_that_is_gone_has_a_page(operator_client):
    task = rows.ready("gone", args=[1], kwargs={"b": 2})
    page = unescape(text_of(operator_client.get(f"{TASKS}{task.pk}/change/")))
    assert "0 = 1\nb = 2" in page
    assert "This release has no such task function. It waits for a release that has it; or cancel it." in page


def test_the_list_of_tasks_has_its_columns(operator_client):
    rows.failed(errors=2, args=["x"])
    Task.objects.update(last_attempted_at=Now() - timedelta(seconds=90), enqueued_at=Now() - timedelta(days=2))
    page = operator_client.get(TASKS)
    assert headings(page) == ["Task", "Status", "Queue", "Attempts", "Age", "Duration", "Latest error"]
    ((name, status, queue, attempts, age, duration, error),) = cells(page)
    assert name == f"#{Task.objects.get().pk} fail tests.work.tasks"
    assert (status, queue, attempts, age, duration) == ("FAILED", "default", "2 / 2", "2 d 0 h", "1 min 30 s")
    assert error.startswith("ValueError: no luck 2Traceback (most recent call last):")


def test_the_list_of_failures_shows_why_and_leaves_out_what_was_discarded(operator_client):
    failure = rows.failed()
    Task.objects.update(finished_at=Now() - timedelta(minutes=5))
    rows.failed(discarded_at=Now())
    for build in BUILDS[:4]:
        build()
    page = operator_client.get(FAILED)
    assert headings(page) == ["Task", "Queue", "Attempts", "Failed", "Latest error"]
    ((name, queue, attempts, failed, error),) = cells(page)
    assert (name, queue, attempts) == (f"#{failure.pk} fail tests.work.tasks", "default", "1 / 1")
    assert re.fullmatch(r"5 min \d s ago", failed)
    assert "ValueError: no luck 1" in error


def test_the_latest_failure_comes_first(operator_client):
    old, new = rows.failed(), rows.failed()
    Task.objects.filter(pk=new.pk).update(finished_at=Now() - timedelta(hours=1))
    assert [row[0].split()[0] for row in cells(operator_client.get(FAILED))] == [f"#{old.pk}", f"#{new.pk}"]


@pytest.mark.parametrize("url", [TASKS, FAILED])
def test_the_page_of_a_failed_task_shows_every_error_with_its_traceback(operator_client, url):
    task = rows.failed(errors=2)
    rows.error(task, 3, "lost", exception_path="", message="The worker ended without a word.", traceback="")
    page = unescape(text_of(operator_client.get(f"{url}{task.pk}/change/")))
    for number in (1, 2):
        assert f"Traceback (most recent call last):\nValueError: no luck {number}" in page
    assert "The worker ended without a word." in page
    for words in ("raised an exception", "its worker was lost", rows.WORKER):
        assert words in page


def test_a_discarded_task_has_no_page_among_the_failures(operator_client):
    task = rows.failed(discarded_at=Now())
    assert operator_client.get(f"{FAILED}{task.pk}/change/").status_code == 302
    assert operator_client.get(f"{TASKS}{task.pk}/change/").status_code == 200


def test_the_return_value_is_shown_of_a_successful_task(operator_client):
    task = rows.successful(return_value={"sent": ["ä", None]})
    assert '"ä",' in unescape(text_of(operator_client.get(f"{TASKS}{task.pk}/change/")))


@pytest.mark.parametrize(
    ("build", "note_"),
    [
        (rows.ready, ""),
        (rows.claimed, "claimed"),
        (lambda: rows.ready(attempts=1), "retrying"),
        (lambda: rows.ready(due_in=60), "scheduled"),
        (rows.failed, ""),
        (lambda: rows.failed(discarded_at=Now()), "discarded"),
        (rows.running, ""),
    ],
)
def test_a_note_says_what_the_status_does_not(build, note_):
    assert str(note(build())) == note_


def why(client: Client, task: Task) -> str:
    page = text_of(client.get(f"{TASKS}{task.pk}/change/"))
    (found,) = re.findall(r'field-why.*?class="readonly">(.*?)</div>', page, re.DOTALL)
    return unescape(found).strip()


def test_the_page_says_why_a_task_waits(operator_client):
    task, later, paused = rows.ready(), rows.ready(due_in=60), rows.ready(queue_name="mail")
    Queue.objects.pause("mail", by="operator", reason="the mail server moves")
    assert why(operator_client, later) == "It is to run later."
    assert why(operator_client, paused) == (
        "Its queue was paused by operator: the mail server moves. Resume it: manage.py resumequeue"
    )
    assert why(operator_client, task) == "No cluster serves its queue. Start one: manage.py qcluster"
    rows.cluster_row(queues=["mail"])
    assert why(operator_client, task) == "No cluster serves its queue. Start one: manage.py qcluster"
    rows.cluster_row(queues=["default"])
    assert why(operator_client, task) == "For a free worker."
    assert why(operator_client, rows.failed()) == "–"


@pytest.mark.parametrize("build", BUILDS)
def test_nobody_adds_edits_or_deletes_a_task(operator_client, build):
    task = build()
    before = rows.state(task)
    assert operator_client.get(f"{TASKS}add/").status_code == 403
    assert operator_client.post(f"{TASKS}{task.pk}/change/", {"status": "READY"}).status_code == 403
    assert operator_client.post(f"{TASKS}{task.pk}/delete/", {"post": "yes"}).status_code == 403
    act(operator_client, "delete_selected", task)
    assert rows.state(task) == before


def test_the_tables_of_django_q2_are_not_offered():
    registered = set(admin.site._registry)
    assert {Task, FailedTask} <= registered
    assert not registered & {django_q_models.Schedule, django_q_models.Success, django_q_models.Failure}


@pytest.mark.parametrize("url", [TASKS, FAILED])
def test_pages_are_for_those_who_may_see_tasks(clerk, alice, url):
    task = rows.failed(args=["s3cret"])
    for client in (client_of(clerk, "retry_task"), client_of(clerk)):
        for page in (url, f"{url}{task.pk}/change/"):
            answer = client.get(page)
            assert answer.status_code == 403
            assert "no luck" not in answer.content.decode()
    for client in (client_of(alice), Client()):
        assert client.get(url).status_code == 302
    assert client_of(clerk, "view_task").get(url).status_code == 200


# Search --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("urgent", ["urgent_mail"]),
        ("no luck", ["fail"]),
        ("17", ["add"]),
        ("zebra", []),
        ("9" * 30, []),
        ("_dd", []),
    ],
)
@pytest.mark.parametrize("url", [TASKS])
def test_tasks_are_found_by_id_by_path_and_by_error(operator_client, url, term, found):
    rows.ready("add", pk=17)
    rows.ready("urgent_mail", pk=1)
    rows.failed(pk=2, errors=2)
    assert [row[0].split()[1] for row in cells(operator_client.get(url, {"q": term}))] == found


@pytest.mark.parametrize(
    "filters", [{"status": "FAILED"}, {"queue_name": "mail"}, {"task_path": "tests.work.tasks.add"}]
)
def test_lists_are_filtered(operator_client, filters):
    match = rows.failed("add", queue_name="mail")
    rows.ready("effect")
    assert [row[0].split()[0] for row in cells(operator_client.get(TASKS, filters))] == [f"#{match.pk}"]


# Actions -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [TASKS, FAILED])
def test_retry_makes_failed_tasks_ready_and_leaves_others_alone(operator_client, url):
    first, second, other = rows.failed(), rows.failed(), rows.failed()
    answer = act(operator_client, "retry", first, second, url=url)
    assert said(answer) == [("success", "Retried by hand: 2 tasks.")]
    assert set(Task.objects.filter(status="READY")) == {first, second}
    assert set(Task.objects.failed()) == {other}


def test_retry_says_how_many_it_left_alone_and_logs_only_what_it_did(operator_client, operator):
    failed, done, runs = rows.failed(), rows.successful(), rows.running()
    before = rows.state(done), rows.state(runs)
    answer = act(operator_client, "retry", failed, done, runs)
    assert said(answer) == [
        ("success", "Retried by hand: 1 task."),
        ("warning", "2 tasks were left alone: their status does not allow it (any more)."),
    ]
    assert (rows.state(done), rows.state(runs)) == before
    assert [(entry.user, entry.object_id, entry.change_message) for entry in LogEntry.objects.all()] == [
        (operator, str(failed.pk), "Retried by hand.")
    ]


def test_retry_of_two_failures_with_one_key_takes_the_latest(operator_client):
    older, latest = [rows.failed("add", idempotency_key="once") for _ in range(2)]
    answer = act(operator_client, "retry", older, latest, url=FAILED)
    assert said(answer) == [
        ("success", "Retried by hand: 1 task."),
        ("warning", "1 task was left alone: its status does not allow it (any more)."),
    ]
    assert list(Task.objects.filter(status="READY")) == [latest]


@pytest.mark.parametrize("url", [TASKS, FAILED])
def test_who_acted_is_in_the_history_of_the_task_wherever_it_was_done(operator_client, url):
    task = rows.failed()
    act(operator_client, "retry", task, url=url)
    history = text_of(operator_client.get(f"{TASKS}{task.pk}/history/"))
    assert "Retried by hand." in history
    assert "Operator" in history


def test_cancel_stops_waiting_and_running_tasks_and_says_who_did_it(operator_client, operator):
    waiting, failed, runs = rows.ready(), rows.failed(), rows.running()
    before = rows.state(failed)
    answer = act(operator_client, "cancel", waiting, failed, runs)
    assert said(answer) == [
        ("success", "Cancelled by hand: 2 tasks."),
        ("warning", "1 task was left alone: its status does not allow it (any more)."),
    ]
    assert rows.state(failed) == before
    assert rows.errors_of(waiting) == [(0, "cancelled", f"Cancelled by {operator} before it ran.")]
    assert rows.state(runs)["cancel_requested_by"] == str(operator)
    assert set(LogEntry.objects.values_list("object_id", "change_message")) == {
        (str(task.pk), "Cancelled by hand.") for task in (waiting, runs)
    }
    assert "is being cancelled" in text_of(operator_client.get(TASKS))


def test_discard_takes_failed_tasks_out_of_the_list_and_leaves_others_alone(operator_client):
    waiting, failed = rows.ready(), rows.failed()
    answer = act(operator_client, "discard", waiting, failed)
    assert said(answer) == [
        ("success", "Discarded by hand: 1 task."),
        ("warning", "1 task was left alone: its status does not allow it (any more)."),
    ]
    assert list(Task.objects.filter(discarded_at__isnull=False)) == [failed]
    assert set(LogEntry.objects.values_list("object_id", "change_message")) == {(str(failed.pk), "Discarded by hand.")}


def test_actions_are_offered_to_those_who_may_use_them(clerk):
    rows.failed()
    for permissions, actions in [
        (("view_task",), set()),
        (("view_task", "retry_task"), {"retry"}),
        (("view_task", "discard_task"), {"discard"}),
        (("view_task", "cancel_task"), {"cancel"}),
        (("view_task", "retry_task", "discard_task"), {"retry", "discard"}),
    ]:
        for url in (TASKS, FAILED):
            assert offered(client_of(clerk, *permissions).get(url)) == actions


@pytest.mark.parametrize("url", [TASKS, FAILED])
@pytest.mark.parametrize(("action", "permission"), [("retry", "discard_task"), ("discard", "retry_task")])
def test_an_action_without_its_permission_changes_nothing(clerk, url, action, permission):
    task = rows.failed()
    before = rows.state(task)
    act(client_of(clerk, "view_task"), action, task, url=url)
    act(client_of(clerk, "view_task", permission), action, task, url=url)
    assert rows.state(task) == before
    assert not LogEntry.objects.exists()


def test_an_action_without_the_right_to_see_tasks_is_forbidden(clerk):
    task = rows.failed()
    before = rows.state(task)
    assert act(client_of(clerk, "retry_task", "discard_task"), "retry", task).status_code == 403
    assert rows.state(task) == before


# What may be seen ----------------------------------------------------------------------------------------------------


def secret_task(**values) -> Task:
    return rows.failed("with_a_secret", **{"args": [7], "kwargs": {"secret": "s3cret"}} | values)


@pytest.mark.parametrize("url", [TASKS, FAILED])
def test_sensitive_arguments_are_hidden_from_those_who_may_not_see_them(clerk, url):
    task = secret_task()
    page = unescape(text_of(client_of(clerk, "view_task").get(f"{url}{task.pk}/change/")))
    assert f"user_id = 7\nsecret = {HIDDEN}" in page
    assert "s3cret" not in page
    page = unescape(text_of(client_of(clerk, "view_task", "view_task_arguments").get(f"{url}{task.pk}/change/")))
    assert 'user_id = 7\nsecret = "s3cret"' in page


@pytest.mark.parametrize(
    "values",
    [
        {"args": [7, "s3cret"], "kwargs": {}},
        {"args": [7, "s3cret", "one too many"], "kwargs": {}},
        {"args": ["s3cret"], "kwargs": {"token": 7}},
        {"args": [], "kwargs": {"old_secret": "s3cret"}},
        {"task_path": "tests.work.tasks.gone", "args": ["s3cret"]},
    ],
    ids=["by position", "one too many", "another name", "an old name", "a function that is gone"],
)
def test_sensitive_arguments_are_hidden_however_they_were_passed(clerk, operator_client, values):
    task = secret_task()
    Task.objects.filter(pk=task.pk).update(**values)
    url = f"{TASKS}{task.pk}/change/"
    page = unescape(text_of(client_of(clerk, "view_task").get(url)))
    assert HIDDEN in page
    assert "s3cret" not in page
    assert "s3cret" in unescape(text_of(operator_client.get(url)))


def test_arguments_are_not_in_the_lists(operator_client):
    secret_task()
    for url in (TASKS, FAILED):
        assert "s3cret" not in text_of(operator_client.get(url))


def test_hostile_text_is_escaped_wherever_it_is_shown(operator_client):
    task = rows.failed(
        "add", args=[HOSTILE], kwargs={"b": {HOSTILE: 1}}, idempotency_key=HOSTILE, worker_ids=[HOSTILE],
        checkpoint=HOSTILE, progress={"message": HOSTILE}, queue_name=HOSTILE,
    )  # fmt: skip
    rows.error(task, 2, message=HOSTILE, traceback=HOSTILE)
    rows.error(task, 3, exception_path=HOSTILE, message=HOSTILE, traceback="")
    strange = rows.successful(return_value=HOSTILE)
    Task.objects.filter(pk=strange.pk).update(task_path=HOSTILE)
    for url in (
        TASKS,
        FAILED,
        f"{TASKS}{task.pk}/change/",
        f"{FAILED}{task.pk}/change/",
        f"{TASKS}{strange.pk}/change/",
    ):
        page = text_of(operator_client.get(url))
        assert "alert(1)" in page
        assert "<script>alert" not in page


# Queries -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [TASKS, FAILED])
def test_the_number_of_queries_does_not_grow_with_the_number_of_rows(operator_client, url):
    def queries(count: int) -> int:
        for _ in range(count):
            rows.failed(errors=2)
        with CaptureQueriesContext(connection) as captured:
            operator_client.get(url)
        return len(captured)

    operator_client.get(url)
    assert queries(1) == queries(10)


def test_the_number_of_queries_of_a_page_does_not_grow_with_its_errors(operator_client):
    def queries(errors: int) -> int:
        task = rows.failed(errors=errors)
        with CaptureQueriesContext(connection) as captured:
            operator_client.get(f"{TASKS}{task.pk}/change/")
        return len(captured)

    assert queries(1) == queries(10)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 ms"),
        (0.0123, "12 ms"),
        (0.9999, "1.0 s"),
        (3.44, "3.4 s"),
        (59.97, "1 min 0 s"),
        (306, "5 min 6 s"),
        (2 * 3600 + 3 * 60, "2 h 3 min"),
        (4 * 86400 + 5 * 3600, "4 d 5 h"),
    ],
)
def test_a_duration_is_told_as_people_say_it(seconds, text):
    assert readable(timedelta(seconds=seconds)) == text
