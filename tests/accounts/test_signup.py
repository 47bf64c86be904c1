"""Signup: the form of the browser and the JSON of an API client."""

from __future__ import annotations

import json
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.forms import SignupForm
from accounts.models import SecurityEvent, User
from tasks.models import Task
from tests.accounts.hashers import WatchedHasher
from tests.conftest import PASSWORD

URL = "/accounts/signup/"
NEW = {"email": "new@example.org", "display_name": "New", "password": PASSWORD}
ACCEPTED = {"status": "accepted", "detail": "We have sent you an email. Open the link in it."}
INVALID_ADDRESS = "Enter a valid email address."
INVALID_NAME = "Enter a name without links or control characters."
LIKE_AN_ADDRESS = "Enter a name that does not look like a web or mail address. Leave a space after a full stop."
NUL = "Null characters are not allowed."


def post_form(client: Client, **data: str):
    return client.post(URL, NEW | data)


def post_json(client: Client, data: object = None, content_type: str = "application/json", **changes: object):
    body = data if isinstance(data, str | bytes) else json.dumps(data if data is not None else NEW | changes)
    return client.post(URL, body, content_type=content_type)


def stored() -> tuple[int, int]:
    return User.objects.count(), Task.objects.count()


# What a signup stores ------------------------------------------------------------------------------------------------


def test_the_form_stores_the_user_and_the_task_that_mails_them(client, db, enqueued):
    response = post_form(client)
    assert (response.status_code, response["Location"]) == (302, "/accounts/signup/check-inbox/")
    user = User.objects.get()
    assert (user.email, user.display_name, user.language) == ("new@example.org", "New", "en")
    assert (user.email_verified_at, user.is_active, user.is_staff, user.is_superuser) == (None, True, False, False)
    assert user.check_password(PASSWORD)
    assert enqueued() == [("send_welcome_email", [user.pk])]
    task = Task.objects.get()
    assert (task.queue_name, task.status, task.attempts, task.kwargs) == ("mail", "READY", 0, {})


def test_json_stores_the_same(client, db, enqueued):
    response = post_json(client)
    assert (response.status_code, response.json()) == (202, ACCEPTED)
    assert response["Content-Type"] == "application/json"
    user = User.objects.get()
    assert (user.email, user.display_name, user.check_password(PASSWORD)) == ("new@example.org", "New", True)
    assert enqueued() == [("send_welcome_email", [user.pk])]


def test_nobody_is_logged_in_by_a_signup(client, db):
    post_form(client)
    assert client.get("/accounts/").status_code == 302


def test_the_page_after_it_says_the_same_to_everyone(client, db):
    page = client.get("/accounts/signup/check-inbox/")
    assert page.status_code == 200
    assert "We have sent you an email. Open the link in it to verify your address." in page.content.decode()


@pytest.mark.parametrize("language", ["de", "fr"])
def test_mails_will_be_in_the_language_of_the_signup(client, db, language):
    client.post(URL, NEW, headers={"Accept-Language": f"{language}-CH,{language};q=0.9"})
    assert User.objects.get().language == language


def test_a_language_that_the_site_does_not_speak_becomes_english(client, db):
    client.post(URL, NEW, headers={"Accept-Language": "fi"})
    assert User.objects.get().language == "en"


def test_fields_that_are_not_in_the_form_are_ignored(client, db):
    extra = {"is_staff": "1", "is_superuser": "1", "email_verified_at": "2030-01-01", "id": "99", "is_active": ""}
    post_form(client, **extra)
    post_json(client, email="two@example.org", is_staff=True, is_superuser=True, language="de", id=99)
    rows = User.objects.values_list("is_staff", "is_superuser", "is_active", "email_verified_at", "language")
    assert list(rows) == [(False, False, True, None, "en")] * 2
    assert not User.objects.filter(pk=99).exists()


# Both or neither -----------------------------------------------------------------------------------------------------


def test_a_rollback_leaves_neither_user_nor_task(transactional_db):
    form = SignupForm(NEW)
    assert form.is_valid()
    with transaction.atomic():
        form.save()
        assert stored() == (1, 1)
        transaction.set_rollback(True)
    assert stored() == (0, 0)


@pytest.mark.parametrize("table", ["accounts_user", "tasks_task"])
def test_a_database_that_breaks_halfway_leaves_neither_user_nor_task(transactional_db, table):
    def breaks(execute, sql, params, many, context):
        if table in sql and sql.startswith("INSERT"):
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    client = Client(raise_request_exception=False)
    with connection.execute_wrapper(breaks):
        assert post_form(client).status_code == 500
        assert post_json(client).status_code == 500
    assert stored() == (0, 0)
    assert post_json(client).status_code == 202
    assert stored() == (1, 1)


def test_the_password_is_hashed_once_and_before_the_transaction_begins(transactional_db, client, settings):
    settings.PASSWORD_HASHERS = ["tests.accounts.hashers.WatchedHasher"]
    for data in (NEW, NEW, NEW | {"email": "two@example.org"}):
        WatchedHasher.in_transaction.clear()
        assert post_json(client, data).status_code == 202
        assert WatchedHasher.in_transaction == [False]


@pytest.mark.parametrize("post", [post_form, post_json])
def test_a_signup_marks_its_browser_in_a_cookie_that_no_script_can_read(client, db, post):
    cookie = post(client).cookies["signup"]
    assert (cookie["max-age"], cookie["httponly"], cookie["samesite"], cookie["path"]) == (3 * 86_400, True, "Lax", "/")
    assert "signup" not in post(client, email="nonsense").cookies


def test_the_log_of_security_events_has_both_signups(client, alice, db):
    post_form(client, email="new@example.org")
    post_form(client, email=alice.email)
    events = SecurityEvent.objects.order_by("pk")
    assert [(event.kind, event.outcome, event.user.email, event.actor) for event in events] == [
        ("signup", "succeeded", "new@example.org", None),
        ("signup", "refused", "alice@example.org", None),
    ]
    assert {event.address for event in events} == {"127.0.0.1"}


# A known address -----------------------------------------------------------------------------------------------------


def test_a_known_address_gets_a_mail_and_nothing_else_changes(client, alice, enqueued):
    before = User.objects.values().get()
    post_form(client, email="alice@example.org", password="another lamp by the sea")
    assert User.objects.values().get() == before
    assert enqueued() == [("send_already_registered_email", [alice.pk])]


@pytest.mark.parametrize("address", ["ALICE@EXAMPLE.ORG", "Alice@example.org", " alice@example.org "])
def test_a_known_address_is_recognised_however_it_is_spelt(client, alice, enqueued, address):
    assert post_json(client, email=address).status_code == 202
    assert User.objects.get() == alice
    assert enqueued() == [("send_already_registered_email", [alice.pk])]


def test_the_same_password_does_not_make_a_known_address_a_new_one(client, alice, enqueued):
    post_json(client, email=alice.email, password=PASSWORD)
    assert enqueued() == [("send_already_registered_email", [alice.pk])]


def test_a_new_address_is_stored_in_lower_case(client, db):
    post_form(client, email=" New@Example.ORG ")
    assert User.objects.get().email == "new@example.org"


def answer(response) -> tuple[int, dict[str, str], bytes]:
    """Return all of it but what the clock has written, and of the mark of a signup what can be seen."""
    headers = {name: value for name, value in response.headers.items() if name != "Expires"}
    cookies = {name: cookie.OutputString([*cookie]) for name, cookie in response.cookies.items()}
    cookies = {
        name: re.sub(r"(?<==1:)\w{6}:[\w-]{43}(?=;)|(?<=expires=)[^;]+", "?", text) for name, text in cookies.items()
    }
    return response.status_code, headers | cookies, response.content


@pytest.mark.parametrize("post", [post_form, post_json])
def test_a_known_address_gets_the_same_answer_as_a_new_one(client, alice, post):
    assert answer(post(Client(), email=alice.email)) == answer(post(Client(), email="new@example.org"))
    assert User.objects.count() == 2


@pytest.mark.parametrize("post", [post_form, post_json])
def test_a_known_address_runs_the_same_statements_as_a_new_one(alice, post):
    def statements(address: str) -> list[str]:
        with CaptureQueriesContext(connection) as queries:
            post(Client(), email=address)
        return [re.sub(r"'(?:[^']|'')*'|\bs\d+_x\d+\b|\b\d+\b", "?", query["sql"]) for query in queries]

    known, new = statements("alice@example.org"), statements("new@example.org")
    assert known == new
    counted = ["SELECT"] + ["INSERT"] * 3  # a look; by account and network, by network, by account
    act = ["SAVEPOINT", "INSERT", "SELECT", "INSERT", "INSERT", "RELEASE"]
    assert [shape.split()[0] for shape in known] == [*counted, *act]


def test_two_signups_that_race_with_one_address_make_one_user_and_two_tasks(transactional_db):
    barrier = threading.Barrier(2, timeout=30)

    def signup(address: str) -> None:
        try:
            form = SignupForm(NEW | {"email": address})
            assert form.is_valid()
            connection.ensure_connection()
            barrier.wait()
            form.save()
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for number in range(10):
            for done in [pool.submit(signup, f"{name}{number}@example.org") for name in ("race", "RACE")]:
                done.result()
    assert list(User.objects.order_by("pk").values_list("email", flat=True)) == [
        f"race{number}@example.org" for number in range(10)
    ]
    for user in User.objects.all():
        names = Task.objects.filter(args=[user.pk]).values_list("task_path", flat=True)
        assert sorted(name.rpartition(".")[2] for name in names) == [
            "send_already_registered_email",
            "send_welcome_email",
        ]


def test_an_account_that_goes_in_the_same_moment_makes_room_for_the_new_one(transactional_db, client, alice, enqueued):
    def goes(execute, sql, params, many, context):
        answer = execute(sql, params, many, context)
        if sql.startswith("INSERT") and "accounts_user" in sql:
            User.objects.filter(pk=alice.pk).delete()
        return answer

    with connection.execute_wrapper(goes):
        assert post_form(client, email=alice.email).status_code == 302
    assert enqueued() == [("send_welcome_email", [User.objects.get().pk])]
    assert User.objects.get().pk != alice.pk


# The password --------------------------------------------------------------------------------------------------------


def test_the_password_is_nowhere_but_in_its_hash(transactional_db, caplog):
    def breaks(execute, sql, params, many, context):
        if "tasks_task" in sql:
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    caplog.set_level(logging.DEBUG)
    client = Client(raise_request_exception=False)
    with connection.execute_wrapper(breaks):
        assert post_form(client).status_code == 500
        assert post_json(client).status_code == 500
    post_form(client)
    post_json(client)
    post_json(client, email="")
    assert "the disk is full" in caplog.text
    assert PASSWORD not in caplog.text
    assert PASSWORD not in str(list(Task.objects.values()))
    assert PASSWORD not in str(list(User.objects.values()))


def test_the_password_is_not_sent_back_with_a_form_that_has_a_mistake(client, db):
    page = post_form(client, email="nonsense").content.decode()
    assert INVALID_ADDRESS in page
    assert 'value="nonsense"' in page
    assert PASSWORD not in page


# Mistakes ------------------------------------------------------------------------------------------------------------

MISTAKES = [
    ({"email": ""}, {"email": ["This field is required."]}),
    ({"email": "alice"}, {"email": [INVALID_ADDRESS]}),
    ({"email": "alice@"}, {"email": [INVALID_ADDRESS]}),
    ({"email": "alice@example.org, bob@example.org"}, {"email": [INVALID_ADDRESS]}),
    ({"email": "alice@example.org\nBcc: bob@example.org"}, {"email": [INVALID_ADDRESS]}),
    ({"email": "ålice@example.org"}, {"email": [INVALID_ADDRESS]}),
    ({"email": "al\u0130ce@example.org"}, {"email": [INVALID_ADDRESS]}),
    ({"email": "\u0130" * 242 + "@example.org"}, {"email": [INVALID_ADDRESS]}),
    (
        {"email": "alice@" + "㍱㍱㍱㍱." * 20 + "org"},
        {"email": ["Ensure this value has at most 254 characters (it has 269)."]},
    ),
    ({"email": "alice@" + "ü" * 60 + ".example.org"}, {"email": [INVALID_ADDRESS]}),
    (
        {"email": "a" * 288 + "@example.org"},
        {"email": ["Ensure this value has at most 254 characters (it has 300)."]},
    ),
    ({"email": "alice\x00@example.org"}, {"email": [INVALID_ADDRESS, NUL]}),
    ({"display_name": "A\x00lice"}, {"display_name": [NUL]}),
    ({"display_name": "A\x07lice"}, {"display_name": [INVALID_NAME]}),
    ({"display_name": "A\u202elice"}, {"display_name": [INVALID_NAME]}),
    ({"display_name": "https://evil.example.org"}, {"display_name": [INVALID_NAME]}),
    ({"display_name": "www.evil.example"}, {"display_name": [LIKE_AN_ADDRESS]}),
    ({"display_name": "Alice \u200c bob@evil.example"}, {"display_name": [LIKE_AN_ADDRESS]}),
    ({"display_name": "A" * 101}, {"display_name": ["Ensure this value has at most 100 characters (it has 101)."]}),
    ({"password": ""}, {"password": ["This field is required."]}),
    ({"password": "an old\x00 lamp by the sea"}, {"password": [NUL]}),
    ({"password": "x" * 2000}, {"password": ["Ensure this value has at most 1024 characters (it has 2000)."]}),
    (
        {"password": "eleven char"},
        {"password": ["This password is too short. It must contain at least 12 characters."]},
    ),
    ({"password": "q1w2e3r4t5y6"}, {"password": ["This password is too common."]}),
    (
        {"email": "alice.wonder.land@example.org", "password": "alice.wonder.land"},
        {"password": ["The password is too similar to the email address."]},
    ),
    (
        {"display_name": "Alice Wonderland", "password": "alice wonderland"},
        {"password": ["The password is too similar to the name."]},
    ),
]


@pytest.mark.parametrize(("wrong", "errors"), MISTAKES)
def test_a_mistake_in_the_form_is_named_and_nothing_is_stored(client, db, wrong, errors):
    response = post_form(client, **wrong)
    assert response.status_code == 200
    assert response.context["form"].errors == errors
    assert 'role="alert"' in response.content.decode()
    assert stored() == (0, 0)


@pytest.mark.parametrize(("wrong", "errors"), MISTAKES)
def test_a_mistake_in_json_is_named_and_nothing_is_stored(client, db, wrong, errors):
    response = post_json(client, **wrong)
    assert (response.status_code, response.json()) == (400, {"errors": errors})
    assert stored() == (0, 0)


def test_all_mistakes_are_named_at_once(client, db):
    response = post_json(client, {})
    required = ["This field is required."]
    assert (response.status_code, response.json()) == (400, {"errors": {"email": required, "password": required}})


@pytest.mark.parametrize("address", ["alice@example.org", "nobody@example.org"])
def test_a_mistake_beside_a_known_address_does_not_tell_that_it_is_known(client, alice, address):
    response = post_json(client, email=address, password="short")
    assert response.json() == {
        "errors": {"password": ["This password is too short. It must contain at least 12 characters."]}
    }


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Zoë 🦊", "Zoë 🦊"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("علی\u200cرضا", "علی\u200cرضا"),
        ("Alice\nBcc: Bob", "Alice Bcc: Bob"),
        ("  Alice \t of\u00a0Example ", "Alice of Example"),
        ("<b>Alice</b>", "<b>Alice</b>"),
        ("A" * 100, "A" * 100),
        ("", ""),
    ],
)
@pytest.mark.parametrize("post", [post_form, post_json])
def test_a_name_may_be_nearly_anything_on_one_line(client, db, post, given, kept):
    assert post(client, display_name=given).status_code in {202, 302}
    assert User.objects.get().display_name == kept


def test_a_name_is_optional(client, db):
    data = {name: value for name, value in NEW.items() if name != "display_name"}
    assert post_json(client, data).status_code == 202
    assert User.objects.get().display_name == ""


@pytest.mark.parametrize("password", ["x y" * 341, "  spaces count  ", "пароль из слов", "pass🦊word and more"])
def test_a_password_is_taken_as_it_is(client, db, password):
    assert post_json(client, password=password).status_code == 202
    user = User.objects.get()
    assert user.check_password(password)
    assert not user.check_password(password.strip() + "!")


def test_an_address_with_a_unicode_domain_is_stored_in_one_spelling_and_can_log_in(client, db, enqueued):
    for address in ("alice@MÜNCHEN.example.org", "alice@mu\u0308nchen.example.org", "alice@ｍünchen.example.org"):
        assert post_json(client, email=address).status_code == 202
    user = User.objects.get()
    assert user.email == "alice@münchen.example.org"
    assert [name for name, _args in enqueued()] == ["send_welcome_email"] + 2 * ["send_already_registered_email"]
    user.verify_email()
    client.post("/accounts/login/", {"username": "alice@Mu\u0308nchen.example.org", "password": PASSWORD})
    assert client.session["_auth_user_id"] == str(user.pk)


# JSON ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [" ", "{", "nonsense", '{"email": }', "[]", '"text"', "1", "null", "true", "NaN", b"\xff\xfe\x00", "[" * 100_000],
)
def test_a_body_that_is_no_json_object_is_refused(client, db, body):
    response = post_json(client, body)
    assert (response.status_code, response.json()) == (
        400,
        {"errors": {"__all__": ["The body is not a JSON object."]}},
    )
    assert stored() == (0, 0)


@pytest.mark.parametrize("headers", [{}, {"Accept": "text/html"}])
def test_an_empty_body_is_refused_in_json(client, db, headers):
    response = client.generic("POST", URL, "", headers=headers | {"Content-Type": "application/json"})
    assert response["Content-Type"] == "application/json"
    assert (response.status_code, response.json()) == (
        400,
        {"errors": {"__all__": ["The body is not a JSON object."]}},
    )
    assert stored() == (0, 0)


@pytest.mark.parametrize("field", ["email", "display_name", "password"])
@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], ["text"], {}, {"a": 1}, "\ud800", "an old lamp \udfff"])
def test_a_value_that_is_no_string_is_refused(client, db, field, value):
    response = post_json(client, **{field: value})
    assert (response.status_code, response.json()) == (400, {"errors": {field: ["Enter a string."]}})
    assert stored() == (0, 0)


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
def test_json_with_another_method_is_refused(client, db, method):
    response = getattr(client, method)(URL, headers={"Content-Type": "application/json"})
    if method in {"get", "head"}:
        response = client.generic(method.upper(), URL, json.dumps(NEW), content_type="application/json")
    assert response.status_code == 405
    assert "POST" in response["Allow"]
    if method == "get":
        assert response.json() == {"errors": {"__all__": ["Send the signup with POST."]}}
    assert stored() == (0, 0)


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"']
)
def test_json_may_name_its_charset(client, db, content_type):
    body = json.dumps(NEW | {"display_name": "Zoë"}, ensure_ascii=False).encode()
    assert post_json(client, body, content_type).status_code == 202
    assert User.objects.get().display_name == "Zoë"


def test_json_that_is_too_large_is_refused(client, db, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    assert post_json(client, display_name="x" * 1000).status_code == 400
    assert stored() == (0, 0)


@pytest.mark.parametrize("language", ["de", "fr"])
def test_json_speaks_the_language_that_was_asked_for(client, db, language):
    response = client.post(URL, "[]", content_type="application/json", headers={"Accept-Language": language})
    assert response["Content-Language"] == language
    assert response["Vary"] == "Accept-Language, Cookie"


# Other sites ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_what_a_form_of_another_site_can_send_is_refused(db, content_type):
    client = Client(enforce_csrf_checks=True)
    body = "email=new%40example.org&password=an+old+lamp+by+the+sea"
    response = client.generic("POST", URL, body, content_type=content_type)
    assert response.status_code == 403
    assert "<h1>Not allowed</h1>" in response.content.decode()
    assert stored() == (0, 0)


def test_json_under_the_content_type_of_a_form_is_not_taken_for_json(db):
    response = post_json(Client(enforce_csrf_checks=True), content_type="text/plain")
    assert response.status_code == 403
    assert stored() == (0, 0)


def test_json_needs_no_csrf_token(db):
    client = Client(enforce_csrf_checks=True, headers={"Origin": "https://client.example.org"})
    response = post_json(client)
    assert (response.status_code, response.json()) == (202, ACCEPTED)
    assert "Access-Control-Allow-Origin" not in response
    assert stored() == (1, 1)


def test_the_form_with_its_csrf_token_is_taken(db):
    client = Client(enforce_csrf_checks=True)
    page = client.get(URL)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.content.decode())
    assert token is not None
    assert post_form(client, csrfmiddlewaretoken=token[1]).status_code == 302
    assert stored() == (1, 1)


def test_the_page_is_not_kept_by_caches(client, db):
    assert "no-store" in client.get(URL)["Cache-Control"]


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_are_refused(client, db, method):
    response = getattr(client, method)(URL)
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, POST")
