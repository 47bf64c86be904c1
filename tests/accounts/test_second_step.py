"""The second step of a login, and who cannot do without."""

from __future__ import annotations

import time

import pytest
import time_machine
from django.db import OperationalError, connection
from django.db.models import F
from django.test import Client

from accounts import tokens
from accounts.models import RecoveryCode, SecurityEvent, Session, Throttle, User
from accounts.sessions import digest_of as digest_of_key
from accounts.throttle import SECOND_FACTOR, digest_of
from tasks.models import Task
from tasks.testing import run_enqueued
from tests.accounts.authenticator import code_now, give_app, give_codes
from tests.accounts.test_login import ELSEWHERE, is_logged_in, login
from tests.conftest import PASSWORD
from tests.test_pages import ADDRESSES, OPEN, asks_for_login, path_of, text

STEP = "/accounts/login/second-factor/"
WRONG = "This code is wrong, too old or was used before. Try again with the next one."


@pytest.fixture
def with_app(alice: User) -> User:
    """Alice, who has an authenticator app."""
    give_app(alice)
    return alice


@pytest.fixture
def pending(client: Client, with_app: User) -> Client:
    """A browser in which Alice has typed her password."""
    assert login(client)["Location"] == STEP
    return client


def step(client: Client, code: str, **data: str):
    return client.post(STEP, {"code": code} | data)


def events(kind: str) -> list[tuple[str, dict]]:
    return [(event.outcome, event.details) for event in SecurityEvent.objects.filter(kind=kind).order_by("pk")]


def changes(enqueued) -> list[list[object]]:
    return [args for name, args in enqueued() if name == "send_second_factor_changed_email"]


# The login -----------------------------------------------------------------------------------------------------------


def test_after_the_password_a_code_logs_in(pending, with_app):
    assert not is_logged_in(pending)
    page = text(pending.get(STEP))
    assert 'autocomplete="one-time-code"' in page
    response = step(pending, code_now())
    assert (response.status_code, response["Location"]) == (302, "/accounts/")
    assert is_logged_in(pending)
    assert pending.session["mfa"] == "app"
    assert "pending_login" not in pending.session
    assert events("second-factor") == [("succeeded", {"method": "app"})]
    assert events("login") == [("succeeded", {"second_factor": "app"})]


@pytest.mark.parametrize("spell", [lambda code: f"{code[:3]} {code[3:]}", lambda code: f" {code} "])
def test_a_code_may_have_spaces(pending, spell):
    assert step(pending, spell(code_now())).status_code == 302
    assert is_logged_in(pending)


def test_a_user_without_a_second_factor_logs_in_as_ever(client, alice):
    give_codes(alice)  # alone they are none
    assert login(client)["Location"] == "/accounts/"
    assert "mfa" not in client.session


def test_a_recovery_code_logs_in_once_and_its_user_is_told(pending, with_app, enqueued):
    code = give_codes(with_app)[0]
    page = text(pending.get(step(pending, code)["Location"]))
    assert "You have 9 recovery codes left." in page
    assert pending.session["mfa"] == "recovery-code"
    assert changes(enqueued) == [[with_app.pk, "code-used"]]
    again = Client()
    login(again)
    assert step(again, code).context["form"].errors == {"code": [WRONG]}
    assert not is_logged_in(again)


@pytest.mark.parametrize("wrong", ["000000", "12345", "1234567", "x", "zzzz-" * 6, "١٢٣٤٥٦", "'; --"])
def test_a_wrong_code_does_not(pending, with_app, wrong):
    give_codes(with_app)
    with time_machine.travel(1_800_000_000, tick=False):  # none of them is right then
        login(pending)
        assert step(pending, wrong).context["form"].errors == {"code": [WRONG]}
    assert not is_logged_in(pending)
    assert RecoveryCode.objects.filter(used_at=None).count() == 10
    assert events("second-factor") == [("failed", {})]


@pytest.mark.parametrize(("code", "error"), [("", "This field is required."), ("x" * 65, None), ("1\x00", None)])
def test_what_cannot_be_a_code_is_a_mistake_in_the_form(pending, code, error):
    errors = step(pending, code).context["form"].errors["code"]
    assert error is None or errors == [error]
    assert events("second-factor") == []


def test_the_code_of_somebody_else_does_not_count(pending, with_app):
    bob = User.objects.create_user("bob@example.org", PASSWORD)
    bob.verify_email()
    give_app(bob, "B" * 32)
    codes = give_codes(bob)
    for code in (code_now("B" * 32), codes[0]):
        step(pending, code, user=str(bob.pk))
    assert not is_logged_in(pending)


def test_after_five_wrong_codes_even_the_right_one_has_to_wait(pending):
    assert [step(pending, "x").status_code for _ in range(6)] == [200] * 5 + [429]
    response = step(pending, code_now())
    assert response.status_code == 429
    assert int(response["Retry-After"]) <= 60
    assert not is_logged_in(pending)


def test_a_new_login_gives_no_new_tries(pending):
    for _ in range(5):
        step(pending, "x")
    again = Client()
    login(again)
    assert step(again, code_now()).status_code == 429


# Somebody knows the password -----------------------------------------------------------------------------------------


def warnings(enqueued) -> list[list[object]]:
    return [args for name, args in enqueued() if name == "send_password_warning_email"]


def test_the_right_password_and_a_wrong_code_are_told_to_the_user_by_mail(with_app, enqueued, mailoutbox):
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    stranger = Client(headers={"User-Agent": firefox}, REMOTE_ADDR="203.0.113.7")
    login(stranger)
    assert warnings(enqueued) == []
    step(stranger, "000000")
    event = SecurityEvent.objects.get(kind="password-warning")
    assert (event.user, event.actor, event.address, event.details) == (with_app, None, "203.0.113.7", {})
    assert warnings(enqueued) == [[event.pk]]
    run_enqueued()
    [mail] = mailoutbox
    assert (mail.to, mail.subject) == ([with_app.email], "Somebody knows your password for Steward")
    assert "203.0.113.7\nBrowser: Firefox on Linux\n" in mail.body
    assert "http://testserver/accounts/password-reset/\n" in mail.body
    assert PASSWORD not in str(list(Task.objects.values())) + mail.body


def test_that_is_told_once_a_day_for_each_account(pending, with_app, enqueued):
    for _ in range(3):
        step(pending, "x")
    elsewhere = Client(REMOTE_ADDR="203.0.113.7")
    login(elsewhere)
    step(elsewhere, "x")
    assert len(warnings(enqueued)) == 1
    bob = User.objects.create_user("bob@example.org", PASSWORD)
    bob.verify_email()
    give_app(bob, "B" * 32)
    other = Client()
    login(other, username=bob.email)
    step(other, "x")
    assert len(warnings(enqueued)) == 2
    Throttle.objects.update(free_at_us=F("free_at_us") - 86_400_000_000)
    step(pending, "x")
    assert len(warnings(enqueued)) == 3


def test_a_code_that_is_refused_since_there_were_too_many_is_told_too(with_app, enqueued):
    for number in range(20):  # the limit of the account is used up
        browser = Client(REMOTE_ADDR=f"203.0.113.{number}")
        login(browser)
        step(browser, "x")
    Task.objects.all().delete()
    warning = digest_of(SECOND_FACTOR, "warning", f"user {with_app.pk}")
    Throttle.objects.filter(digest=warning).delete()  # as if the day were over for it alone
    browser = Client(REMOTE_ADDR="203.0.113.99")
    login(browser)
    assert step(browser, code_now()).status_code == 429
    assert len(warnings(enqueued)) == 1


def test_a_browser_that_its_user_knows_warns_nobody(with_app, enqueued):
    known = Client()
    login(known)
    assert step(known, code_now()).status_code == 302
    known.post("/accounts/logout/")
    login(known)
    assert [step(known, "x").status_code for _ in range(11)][-1] == 429
    assert warnings(enqueued) == []
    assert not SecurityEvent.objects.filter(kind="password-warning").exists()


def test_the_right_code_warns_nobody(pending, enqueued):
    assert step(pending, code_now()).status_code == 302
    assert warnings(enqueued) == []


def test_a_client_that_speaks_json_and_a_passkey_of_nobody_warn_too(with_app, enqueued):
    with_json = Client()
    login(with_json)
    assert with_json.post(STEP, {"code": "x"}, content_type="application/json").status_code == 401
    assert len(warnings(enqueued)) == 1
    Throttle.objects.all().delete()
    with_passkey = Client()
    login(with_passkey)
    with_passkey.post(STEP + "passkey/options/")
    assert with_passkey.post(STEP + "passkey/", {"credential": "{}"}).status_code == 302
    assert len(warnings(enqueued)) == 2


def test_a_warning_that_cannot_be_stored_is_sent_the_next_time(transactional_db, enqueued):
    def breaks(execute, sql, params, many, context):
        if "tasks_task" in sql:
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    alice = User.objects.create_user("alice@example.org", PASSWORD)
    alice.verify_email()
    give_app(alice)
    browser = Client(raise_request_exception=False)
    login(browser)
    with connection.execute_wrapper(breaks):
        assert step(browser, "x").status_code == 500
    assert not SecurityEvent.objects.filter(kind="password-warning").exists()
    step(browser, "x")
    assert len(warnings(enqueued)) == 1


# In between ----------------------------------------------------------------------------------------------------------


def test_whoever_reads_the_mails_gets_no_more_than_twenty_tries_a_day(with_app):
    looked_at = 0
    for number in range(3):
        browser, password = Client(), f"lamp number {number} by the lake"
        address = tokens.reset_url(User.objects.get()).removeprefix("http://testserver")
        browser.post(address, {"password": password})  # which makes it a known one
        login(browser, password=password)
        for _number in range(10):
            looked_at += step(browser, "no code of anybody").status_code == 200
            Throttle.objects.update(free_at_us=F("free_at_us") - 30_000_000)
    assert looked_at == 20


def test_a_pending_login_opens_nothing(pending):
    methods = ("get", "post")
    is_open = {
        address
        for address in ADDRESSES
        for method in methods
        if address != "/accounts/logout/"  # which ends it
        if not asks_for_login(getattr(pending, method)(path_of(address)))
    }
    assert sorted(is_open | {"/accounts/logout/"}) == OPEN
    assert "_auth_user_id" not in pending.session


def test_no_session_is_listed_for_the_user_yet(pending, with_app):
    assert list(Session.objects.values_list("user", flat=True)) == [None]
    step(pending, code_now())
    assert list(Session.objects.values_list("user", flat=True)) == [with_app.pk]


def test_without_a_password_there_is_no_second_step(client, with_app):
    assert client.get(STEP)["Location"] == "/accounts/login/"
    assert step(client, code_now())["Location"] == "/accounts/login/"
    assert not is_logged_in(client)


@pytest.mark.parametrize("minutes", [10, 60, -5])
def test_a_pending_login_ends_after_ten_minutes(pending, minutes):
    with time_machine.travel(time.time() + minutes * 60, tick=False):
        response = pending.post(STEP, {"code": code_now()}, follow=True)
        assert response.redirect_chain == [("/accounts/login/", 302)]
        assert "That took too long" in text(response)
    assert not is_logged_in(pending)


def test_it_is_good_for_nine(pending):
    with time_machine.travel(time.time() + 540, tick=False):
        assert step(pending, code_now())["Location"] == "/accounts/"


@pytest.mark.parametrize("change", ["password", "off", "gone"])
def test_it_ends_when_the_account_has_changed(pending, with_app, change):
    if change == "password":
        with_app.set_password("a new lamp by the lake")
        with_app.save()
    elif change == "off":
        User.objects.update(is_active=False)
    else:
        with_app.delete()
    assert step(pending, code_now())["Location"] == "/accounts/login/"
    assert not is_logged_in(pending)


def test_the_key_of_the_session_changes_with_each_step(client, with_app):
    session = client.session  # as if an attacker had planted it
    session["planted"] = True
    session.save()
    client.cookies["session"] = planted = session.session_key
    login(client)
    between = client.session.session_key
    step(client, code_now())
    keys = {planted, between, client.session.session_key}
    assert len(keys) == 3
    assert not Session.objects.filter(pk__in=[digest_of_key(planted), digest_of_key(between)]).exists()


def test_a_login_comes_back_to_its_page(client, with_app):
    login(client, next="/accounts/?tab=1")
    assert step(client, code_now())["Location"] == "/accounts/?tab=1"


@pytest.mark.parametrize("address", ELSEWHERE)
def test_a_second_step_never_leads_to_another_site(client, with_app, address):
    login(client, next=address)
    assert step(client, code_now(), next=address)["Location"] == "/accounts/"
    assert client.get(STEP, {"next": address})["Location"] == "/accounts/"


def test_the_form_needs_its_csrf_token(with_app):
    client = Client()
    login(client)
    client.handler.enforce_csrf_checks = True
    assert step(client, code_now()).status_code == 403
    assert not is_logged_in(client)


def test_a_reset_of_the_password_leaves_the_second_factor(client, with_app):
    from accounts import tokens

    new = "a new lamp by the lake"
    client.post(tokens.reset_url(with_app).removeprefix("http://testserver"), {"password": new})
    assert login(client, password=new)["Location"] == STEP
    assert not is_logged_in(client)


# Who cannot do without -----------------------------------------------------------------------------------------------

WITHOUT = [  # what somebody may open who needs a second factor and has none
    "/accounts/logout/",
    "/accounts/reauthenticate/",
    "/accounts/second-factor/",
    "/accounts/second-factor/app/",
    "/accounts/second-factor/app/qr.svg",
    "/accounts/second-factor/passkeys/add/",
    "/accounts/second-factor/passkeys/add/options/",
    "/accounts/second-factor/recovery-codes/",
    "/language/",
]
TO_SHOW_IT = [  # and who has one and has not shown it
    "/accounts/login/second-factor/",
    "/accounts/login/second-factor/passkey/",
    "/accounts/login/second-factor/passkey/options/",
    "/accounts/logout/",
    "/language/",
]
SET_UP = "/accounts/second-factor/"


def opened(client: Client, closed: str) -> list[str]:
    """Return the addresses that answer with anything but the way to the page that is asked for."""
    key = client.cookies["session"].value
    answers = set()
    for address in ADDRESSES:
        for method in ("get", "post"):
            if address == "/accounts/logout/" and method == "post":
                continue
            response = getattr(client, method)(path_of(address))
            client.cookies["session"] = key
            if not (response.status_code == 302 and response["Location"].startswith(closed)):
                answers.add(address)
    return sorted(answers)


@pytest.mark.parametrize(
    ("required", "who", "is_needed"),
    [
        ("none", "operator", False),
        ("staff", "alice", False),
        ("staff", "operator", True),
        ("all", "alice", True),
        ("all", "operator", True),
    ],
)
def test_who_needs_a_second_factor(client, settings, alice, operator, required, who, is_needed):
    settings.REQUIRE_MFA_FOR = required
    response = login(client, username=f"{who}@example.org")
    assert response["Location"] == "/accounts/"
    assert is_logged_in(client) is not is_needed
    if is_needed:
        page = text(client.get("/accounts/", follow=True))
        assert "Your account needs a second factor. Set one up to go on." in page


def test_without_one_staff_can_open_nothing_but_where_it_is_set_up(client, settings, operator):
    settings.REQUIRE_MFA_FOR = "staff"
    login(client, username=operator.email)
    # what is set up there redirects to the page itself
    assert [address for address in opened(client, SET_UP) if address not in WITHOUT] == []
    for address in WITHOUT[1:4]:
        assert client.get(address).status_code == 200, address


def test_with_one_staff_can_open_nothing_before_it_was_shown(client, settings, operator):
    client.force_login(operator)  # a session from the time before
    settings.REQUIRE_MFA_FOR = "staff"
    give_app(operator)
    assert [address for address in opened(client, STEP) if address not in TO_SHOW_IT] == []
    response = client.get("/admin/tasks/task/?q=1")
    assert response["Location"] == f"{STEP}?next=/admin/tasks/task/%3Fq%3D1"
    assert 'name="next" value="/admin/tasks/task/?q=1"' in text(client.get(response["Location"]))
    response = step(client, code_now(), next="/admin/tasks/task/?q=1")
    assert response["Location"] == "/admin/tasks/task/?q=1"
    assert client.get("/admin/").status_code == 200


def test_once_it_was_shown_staff_comes_in(client, settings, operator):
    settings.REQUIRE_MFA_FOR = "staff"
    give_app(operator)
    login(client, username=operator.email, next="/admin/")
    assert step(client, code_now())["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_what_becomes_staff_needs_it_from_then_on(client, settings, alice):
    settings.REQUIRE_MFA_FOR = "staff"
    client.force_login(alice)
    assert is_logged_in(client)
    User.objects.update(is_staff=True)
    assert client.get("/accounts/")["Location"] == SET_UP


def test_so_does_whoever_has_removed_the_one_there_was(client, settings, with_app):
    settings.REQUIRE_MFA_FOR = "staff"
    login(client)
    step(client, code_now())
    client.post("/accounts/second-factor/app/remove/")
    assert is_logged_in(client)
    User.objects.update(is_staff=True)
    assert client.get("/accounts/")["Location"] == SET_UP


def test_somebody_who_may_not_go_on_can_log_out_and_choose_the_language(client, settings, operator):
    settings.REQUIRE_MFA_FOR = "staff"
    client.force_login(operator)
    assert client.post("/language/", {"language": "de"}).status_code == 302
    assert client.cookies["language"].value == "de"
    assert client.post("/accounts/logout/")["Location"] == "/"
    assert "_auth_user_id" not in client.session


# The administration --------------------------------------------------------------------------------------------------


def test_the_administration_has_no_login_of_its_own(client, operator):
    response = client.get("/admin/login/?next=/admin/tasks/task/")
    assert (response.status_code, response["Location"]) == (302, "/accounts/login/?next=/admin/tasks/task/")
    assert client.get("/admin/login/")["Location"] == "/accounts/login/?next=/admin/"
    client.post("/admin/login/", {"username": operator.email, "password": PASSWORD})
    assert "_auth_user_id" not in client.session
    client.force_login(operator)
    assert client.get("/admin/login/?next=/admin/tasks/task/")["Location"] == "/admin/tasks/task/"
    assert client.get("/admin/login/?next=//evil.example.org/")["Location"] == "/admin/"


def test_a_logout_of_the_administration_whose_session_has_ended_already_leads_to_the_login(client, operator):
    answer = client.post("/admin/logout/", follow=True)
    assert answer.redirect_chain[-1] == ("/accounts/login/?next=/admin/", 302)


def test_somebody_who_is_not_staff_is_told_so_and_not_sent_in_a_circle(client, alice):
    client.force_login(alice)
    response = client.get("/admin/", follow=True)
    assert response.status_code == 403
    assert "<h1>Not allowed</h1>" in response.content.decode()


def test_the_administration_has_no_page_for_the_password_of_its_own(operator_client):
    assert operator_client.get("/admin/password_change/")["Location"] == "/accounts/password-change/"
