"""A copy of all that is stored about a user: gathered in the background, downloaded once."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.test import Client, RequestFactory
from django.utils import timezone

from accounts import archive, export, tasks
from accounts.models import (
    EmailChange,
    Export,
    KnownBrowser,
    Passkey,
    RecoveryCode,
    SecurityEvent,
    Session,
    Totp,
    User,
)
from accounts.personal_data import meant_by, personal_data, registered
from tasks.functions import registry
from tasks.models import Task
from tasks.testing import run_enqueued
from tests.accounts.conftest import browser_of, just_before_a_commit
from tests.conftest import PASSWORD

URL = "/accounts/export/"
PROGRESS = "/accounts/export/progress/"


def text(response) -> str:
    return response.content.decode()


def files(content: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert opened.testzip() is None
        return {name: json.loads(opened.read(name).decode()) for name in opened.namelist()}


def made(user: User) -> bytes:
    """Ask for an export, let it be made, return it."""
    assert export.ask(user, RequestFactory().post(URL))
    run_enqueued()
    return bytes(Export.objects.get(user=user, downloaded_at=None).content or b"")


# Asked for ------------------------------------------------------------------------------------------------------------


def test_the_page_asks_for_the_password_where_it_was_not_typed_lately(alice):
    client = Client()
    client.force_login(alice)
    for response in (client.get(URL), client.post(URL), client.post(URL, {"download": ""})):
        assert response["Location"] == f"/accounts/reauthenticate/?next={URL}"
    assert Export.objects.count() == 0
    assert f'href="{URL}"' in text(client.get("/accounts/"))


def test_an_export_and_its_task_are_stored_together(alice, enqueued):
    assert browser_of(alice).post(URL)["Location"] == URL
    stored = Export.objects.get()
    assert enqueued() == [("gather_export", [stored.pk])]
    assert stored.task_id == str(Task.objects.get().pk)
    assert SecurityEvent.objects.values_list("kind", "user").get() == ("export-asked", alice.pk)


def test_one_at_a_time(alice, enqueued):
    browser = browser_of(alice)
    browser.post(URL)
    for _state in ("being made", "ready"):
        page = browser.post(URL, follow=True)
        assert "There is a copy already, or one is being made." in text(page)
        run_enqueued()
    assert Export.objects.count() == 1
    assert browser.post(URL, {"download": ""}).status_code == 200
    assert "There is a copy" not in text(browser.post(URL, follow=True))
    assert Export.objects.count() == 2


def test_five_a_day_and_no_more(alice):
    browser = browser_of(alice)
    for number in range(5):
        assert browser.post(URL).status_code == 302
        run_enqueued()
        if number < 4:
            assert browser.post(URL).status_code == 302  # there is one: that counts nothing
        assert browser.post(URL, {"download": ""}).status_code == 200
    refused = browser.post(URL)
    assert (refused.status_code, Export.objects.count()) == (429, 5)
    assert 3600 < int(refused["Retry-After"]) <= 5 * 3600


def test_of_two_that_are_asked_for_at_once_one_is_made(transactional_db):
    alice = User.objects.create_user("alice@example.org", PASSWORD)
    ask = partial(export.ask, alice, RequestFactory().post(URL))
    assert just_before_a_commit(ask, ask) == (True, False)
    assert (Export.objects.count(), Task.objects.count()) == (1, 1)


def test_after_one_that_failed_another_can_be_asked_for(alice):
    browser = browser_of(alice)
    browser.post(URL)
    Task.objects.all().cancel("somebody")
    page = text(browser.get(URL))
    assert "The last copy of your data could not be made. Please ask for it again." in page
    assert "Make a copy" in page
    browser.post(URL)
    assert "is being made" in text(browser.get(URL))
    assert Export.objects.count() == 1


# While it runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [URL, "/accounts/"])
def test_a_bar_shows_how_far_it_is(alice, path):
    browser = browser_of(alice)
    browser.post(URL)
    page = text(browser.get(path))
    assert "A copy of your data is being made." in page
    assert f'<progress id="export-progress" data-from="{PROGRESS}" >' in page
    assert '<a href="">Look again</a>' in page
    assert browser.get(PROGRESS).json() == {"is_running": True, "done": 0, "total": 0, "message": ""}
    Task.objects.update(progress={"done": 2, "total": 8, "message": "sessions"})
    assert 'value="2" max="8"></progress>' in text(browser.get(path))
    assert browser.get(PROGRESS).json() == {"is_running": True, "done": 2, "total": 8, "message": "sessions"}
    run_enqueued()
    assert browser.get(PROGRESS).json() == {"is_running": False}
    assert "A copy of your data is ready." in text(browser.get(path))


def test_the_task_tells_how_far_it_is_in_the_language_of_the_user(alice):
    User.objects.update(language="de")
    export.ask(alice, RequestFactory().post(URL))
    told = []
    personal_data("spy", "spy", lambda user: told.append(Task.objects.get().progress) or [])
    try:
        run_enqueued()
    finally:
        del registered["spy"]
    assert told == [{"done": len(registered), "total": len(registered) + 1, "message": "spy"}]
    assert Task.objects.filter(status="SUCCESSFUL").count() == 2


# What is in it --------------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(alice, operator) -> User:
    """Alice, with a row of everything, of which another has too."""
    now = timezone.now()
    for user in (alice, operator):
        browser_of(user)
        KnownBrowser.objects.create(user=user, digest="digest", user_agent=f"Browser of {user.display_name} ü")
        EmailChange.objects.create(user=user, old_email=f"old-{user.email}", new_email=user.email, confirmed_at=now)
        Totp.objects.create(user=user, secret="hidden secret")
        RecoveryCode.objects.create(user=user, digest="digest")
        Passkey.objects.create(user=user, name=f"Key of {user.email}", credential_id=user.email, public_key=b"k")
        SecurityEvent.objects.create(kind="login", outcome="succeeded", user=user, actor=user, address="192.0.2.7")
    SecurityEvent.objects.create(
        kind="changed-by-administrator", outcome="succeeded", user=alice, actor=operator, address="192.0.2.99"
    )
    tasks.send_password_reset_email.enqueue(alice.email)
    tasks.send_password_reset_email.enqueue(operator.email)
    return alice


def test_it_has_a_file_for_each_kind_of_data(busy):
    found = files(made(busy))
    assert list(found) == [f"{name}.json" for name in registered]
    assert {name: len(rows) for name, rows in found.items()} == {
        "profile.json": 1, "sessions.json": 1, "known-browsers.json": 1, "security-events.json": 4,
        "second-factors.json": 3, "email-changes.json": 1, "exports.json": 1, "administration.json": 0,
        "tasks.json": 2,
    }  # fmt: skip
    [profile] = found["profile.json"]
    assert (profile["email"], profile["display_name"], profile["groups"]) == ("alice@example.org", "Alice", [])
    assert datetime.fromisoformat(profile["created_at"]).utcoffset() == timedelta(0)
    assert found["known-browsers.json"][0]["user_agent"] == "Browser of Alice ü"
    assert [task["task_path"].rpartition(".")[2] for task in found["tasks.json"]] == [
        "send_password_reset_email", "gather_export",
    ]  # fmt: skip


def test_there_is_nothing_of_others_in_it_and_no_secret(busy, operator):
    content = made(busy)
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        everything = b"".join(opened.read(name) for name in opened.namelist()).decode()
    key = Session.objects.filter(user=busy).get().session_key
    for secret in ("operator@example.org", "192.0.2.99", "hidden secret", "digest", busy.password, key):
        assert secret not in everything
    assert "192.0.2.7" in everything


def test_the_json_is_for_people_too(busy):
    with zipfile.ZipFile(io.BytesIO(made(busy))) as opened:
        for name in opened.namelist():
            written = opened.read(name).decode()
            assert written == json.dumps(json.loads(written), ensure_ascii=False, indent=2) + "\n", name


def test_no_table_with_rows_of_users_is_left_out():
    tables = {relation.related_model._meta.label for relation in User._meta.related_objects}
    assert tables == {
        "accounts.Session", "accounts.KnownBrowser", "accounts.SecurityEvent", "accounts.EmailChange",
        "accounts.Export", "accounts.Totp", "accounts.RecoveryCode", "accounts.Passkey", "admin.LogEntry",
    }, "a new table: declare it in accounts.personal_data"  # fmt: skip


def test_each_argument_of_a_task_of_accounts_tells_whom_it_is_about(alice):
    known = {*meant_by(alice), "change", "is_undoable"}  # these two tell what, not whose
    for path, function in registry.items():
        if path.startswith("accounts."):
            assert set(function.signature.parameters) <= known, f"{path}: tell accounts.personal_data.meant_by"


def test_another_app_adds_what_it_keeps(alice):
    personal_data("orders", "orders", lambda user: [{"number": 7, "at": timezone.now(), "of": user.email}])
    try:
        [order] = files(made(alice))["orders.json"]
    finally:
        del registered["orders"]
    assert (order["number"], order["of"]) == (7, "alice@example.org")


def test_a_kind_of_data_is_named_once_and_plainly():
    with pytest.raises(ValueError, match=r"^There is personal data 'profile' already\.$"):
        personal_data("profile", "x", lambda user: [])
    with pytest.raises(ValueError, match=r"^personal_data got the name '\.\./x'; allowed: letters, digits and hyphens"):
        personal_data("../x", "x", lambda user: [])


def test_many_rows_pass_through_one_at_a_time(alice):
    count = 5_000
    personal_data("many", "many", lambda user: ({"number": number, "text": "x" * 1000} for number in range(count)))
    context = type("Context", (), {"progress": lambda *told: None, "should_stop": False})()
    tracemalloc.start()
    try:
        content = archive.make(alice, context)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        del registered["many"]
    assert len(files(content)["many.json"]) == count  # 5 MB of rows
    assert peak < 1_500_000


def test_too_much_is_refused_in_words_for_the_user(alice, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 1000)
    browser = browser_of(alice)
    browser.post(URL)
    [task] = run_enqueued()
    assert (task.status, task.attempts) == ("FAILED", 1)
    page = text(browser.get(URL))
    assert "There is more about you than fits into one file. Please write to whoever runs this site." in page
    assert Export.objects.get().content is None


def test_a_task_that_runs_twice_makes_one_copy_and_one_mail(alice, mailoutbox):
    content = made(alice)
    tasks.gather_export.enqueue(Export.objects.get().pk)
    run_enqueued()
    assert bytes(Export.objects.get().content) == content
    assert [mail.subject for mail in mailoutbox] == ["The copy of your data at Steward is ready"]


def test_an_export_that_is_gone_is_no_failure(alice):
    tasks.gather_export.enqueue(7)
    tasks.send_export_ready_email.enqueue(7)
    assert [task.status for task in run_enqueued()] == ["SUCCESSFUL"] * 2


# Downloaded -----------------------------------------------------------------------------------------------------------


def test_the_mail_leads_to_the_page_and_holds_no_key(alice, mailoutbox):
    made(alice)
    [mail] = mailoutbox
    assert mail.to == ["alice@example.org"]
    assert "http://testserver/accounts/export/\n" in mail.body
    assert Client().get(URL)["Location"] == f"/accounts/login/?next={URL}"


def test_it_can_be_downloaded_once_and_is_then_forgotten(alice):
    content = made(alice)
    browser = browser_of(alice)
    assert "no-store" in browser.get(URL)["Cache-Control"]
    response = browser.post(URL, {"download": ""})
    assert (response.status_code, response.content) == (200, content)
    assert response["Content-Type"] == "application/zip"
    assert response["Content-Disposition"] == f'attachment; filename="steward-{timezone.localdate()}.zip"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in response["Cache-Control"]
    stored = Export.objects.get()
    assert stored.content is None
    assert stored.downloaded_at is not None
    page = browser.post(URL, {"download": ""}, follow=True)
    assert "This copy was downloaded before, or its time is over." in text(page)
    kinds = SecurityEvent.objects.order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["export-asked", "export-downloaded"]


def test_of_two_downloads_at_once_one_gets_it(transactional_db):
    alice = User.objects.create_user("alice@example.org", PASSWORD)
    content = made(alice)
    take = partial(export.take, alice, RequestFactory().post(URL))
    assert just_before_a_commit(take, take) == (content, None)


def test_it_can_be_downloaded_for_seven_days_after_it_was_made(alice):
    made(alice)
    left = Export.objects.get().expires_at - timezone.now()
    assert timedelta(days=7) - timedelta(minutes=1) < left <= timedelta(days=7)
    browser = browser_of(alice)
    Export.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "data is ready" not in text(browser.get(URL))
    assert browser.post(URL, {"download": ""})["Location"] == URL
    assert "Make a copy" in text(browser.get(URL))


def test_it_is_for_its_user_only(alice, operator):
    made(alice)
    browser = browser_of(operator)
    assert "data is ready" not in text(browser.get(URL))
    assert browser.post(URL, {"download": ""})["Location"] == URL
    assert browser.get(PROGRESS).json() == {"is_running": False}
    assert Export.objects.get().downloaded_at is None


def test_the_csrf_token_is_asked_for(alice):
    made(alice)
    careful = browser_of(alice)
    careful.handler.enforce_csrf_checks = True
    assert careful.post(URL, {"download": ""}).status_code == 403
    assert Export.objects.get().content is not None
