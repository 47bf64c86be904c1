"""Every page by everybody: axe-core finds nothing on it, it fits a telephone, and the keyboard reaches all of it.

PAGES is the table of them. A new page is one more line; the first test fails while it has none.
"""

from __future__ import annotations

import mailbox
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from accounts import tokens
from accounts.door import MFA, PROVED_AT
from accounts.emails import preview
from accounts.events import Kind
from accounts.mail_list import MAILS
from accounts.models import EmailChange, Export, Passkey, SecurityEvent, User
from tasks.models import Tick
from tests.accounts.authenticator import give_app, give_codes
from tests.conftest import PASSWORD
from tests.e2e import axe
from tests.processes import until
from tests.tasks import rows
from tests.test_pages import addresses, path_of

WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")
HALFWAY = ", halfway"
"""Who has typed the password and not taken the second step."""


@dataclass
class Stage:
    """What the pages are about."""

    alice: User
    new: User
    carol: User
    leaving: User
    operator: User
    changes: dict[str, EmailChange] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def user(self, who: str) -> User:
        return getattr(self, who.removesuffix(HALFWAY))


@dataclass(frozen=True)
class Page:
    """A page: its address as the URLconf has it, with what goes into it, who looks, and what was typed and sent."""

    address: str
    path: str | Callable[[Stage], str] = ""
    who: str = ""
    sends: dict[str, str] | None = None
    says: str = ""
    status: int = 200

    def path_in(self, stage: Stage) -> str:
        if callable(self.path):
            return self.path(stage).removeprefix(settings.SITE_URL)
        return (self.path or self.address).format_map(stage.ids)


def link(make: Callable[[User], str], who: str) -> Callable[[Stage], str]:
    return lambda stage: make(stage.user(who))


def change(make: Callable[[EmailChange], str], name: str) -> Callable[[Stage], str]:
    return lambda stage: make(stage.changes[name])


NEW = "/accounts/verify/<token>/"
RESET = "/accounts/password-reset/<token>/"
DISOWN = "/accounts/disown/<token>/"
KEY = "/accounts/second-factor/passkeys/<passkey_id>/"
CONFIRM = "/accounts/email-change/confirm/<token>/"
UNDO = "/accounts/email-change/undo/<token>/"
SAMPLE = "/admin/accounts/user/mails/<mail>/<language>/"
EVENT = "/admin/accounts/securityevent/<object_id>/"
TASK = "/admin/tasks/task/<object_id>/change/"

PAGES = [
    Page("/"),
    Page("/", who="alice"),
    Page("/accounts/signup/"),
    Page("/accounts/signup/", sends={"email": "alice@", "password": "short"}, says="That did not work yet."),
    Page("/accounts/signup/check-inbox/"),
    Page("/accounts/login/"),
    Page("/accounts/login/", sends={"username": "alice@example.org", "password": "x"}, says="do not match"),
    Page(NEW, link(tokens.verification_url, "new"), says="Type the password that you chose"),
    Page(NEW, link(tokens.verification_url, "new"), sends={"password": "x"}, says="That did not work yet."),
    Page(NEW, link(tokens.verification_url, "alice"), says="Already verified"),
    Page(NEW, "/accounts/verify/x/", says="This link does not work", status=404),
    Page("/accounts/verify/resend/"),
    Page("/accounts/verify/resend/", sends={"email": "alice"}, says="That did not work yet."),
    Page("/accounts/verify/resend/check-inbox/"),
    Page("/accounts/password-reset/"),
    Page("/accounts/password-reset/", sends={"email": "alice"}, says="That did not work yet."),
    Page("/accounts/password-reset/check-inbox/"),
    Page(RESET, link(tokens.reset_url, "alice"), says="Choose a new password"),
    Page(RESET, link(tokens.reset_url, "alice"), sends={"password": "short"}, says="too short"),
    Page(RESET, "/accounts/password-reset/x/", says="This link does not work", status=404),
    Page("/accounts/", who="alice", says="verified"),
    Page("/accounts/", who="new", says="not verified yet"),
    Page("/accounts/password-change/", who="alice"),
    Page("/accounts/password-change/", who="alice", sends={"old_password": "x"}, says="not your present password"),
    Page("/accounts/reauthenticate/", who="alice"),
    Page("/accounts/reauthenticate/", who="alice", sends={"password": "x"}, says="This is not your password."),
    Page(DISOWN, link(tokens.disown_url, "new"), says="This was not me"),
    Page(DISOWN, link(tokens.disown_url, "alice"), says="This account is in use"),
    Page(DISOWN, "/accounts/disown/x/", says="This link does not work", status=404),
    Page("/accounts/", who="carol", says="Logging in takes a second step"),
    Page("/accounts/", who="leaving", says="You have asked for the deletion of your account."),
    Page("/accounts/email-change/", who="alice", says="Change your email address"),
    Page("/accounts/email-change/", who="alice", sends={"email": "alice@example.org"}, says="your address already"),
    Page(CONFIRM, change(tokens.confirm_change_url, "asked"), who="alice", says="Confirm your new address"),
    Page(CONFIRM, change(tokens.confirm_change_url, "asked"), who="new", says="This link is for another account"),
    Page(CONFIRM, "/accounts/email-change/confirm/x/", who="alice", says="This link does not work", status=404),
    Page(UNDO, change(tokens.undo_change_url, "done"), says="Undo the change of your address"),
    Page(UNDO, "/accounts/email-change/undo/x/", says="This link does not work", status=404),
    Page("/accounts/sessions/", who="alice", says="this one"),
    Page("/accounts/security/", who="alice"),
    Page("/accounts/export/", who="new", says="Make a copy"),
    Page("/accounts/export/", who="carol", says="A copy of your data is being made."),
    Page("/accounts/export/", who="alice", says="A copy of your data is ready."),
    Page("/accounts/export/", who="alice", sends={}, says="There is a copy already"),
    Page("/accounts/delete/", who="alice", says="Delete my account"),
    Page("/accounts/delete/", who="leaving", says="You have asked for it already."),
    Page("/accounts/reauthenticate/", who="carol"),
    Page("/accounts/login/second-factor/", who="carol, halfway", says="Your password is right."),
    Page("/accounts/login/second-factor/", who="carol, halfway", sends={"code": "x"}, says="Try again"),
    Page("/accounts/second-factor/", who="alice", says="There is none yet."),
    Page("/accounts/second-factor/", who="carol", says="Remove the app"),
    Page("/accounts/second-factor/app/", who="alice", says="Point the app at this picture."),
    Page("/accounts/second-factor/app/", who="alice", sends={"code": "123"}, says="not the code"),
    Page("/accounts/second-factor/app/remove/", who="carol", says="Remove the authenticator app?"),
    Page("/accounts/second-factor/passkeys/add/", who="alice", says="A passkey lives in your device"),
    Page(KEY, "/accounts/second-factor/passkeys/{passkey}/", who="carol", says="Rename the passkey"),
    Page(KEY + "remove/", "/accounts/second-factor/passkeys/{passkey}/remove/", who="carol", says="Remove the passkey"),
    Page("/accounts/second-factor/recovery-codes/", who="carol", says="codes are left"),
    Page("/accounts/second-factor/recovery-codes/", who="carol", sends={}, says="Keep these codes"),
    Page("/dev/mail/", says="Mails sent"),
    Page("/dev/mail/<key>/", "/dev/mail/{welcome}/"),
    *(Page("/dev/mail/<key>/html/", f"/dev/mail/{{{name}}}/html/", says="Steward") for name in MAILS),
    Page("/error/<status>/", "/error/400/", says="That request makes no sense", status=400),
    Page("/error/<status>/", "/error/403/", says="Not allowed", status=403),
    Page("/error/<status>/", "/error/404/", says="There is no such page", status=404),
    Page("/error/<status>/", "/error/429/", says="That was too often", status=429),
    Page("/error/<status>/", "/error/500/", says="That is our fault", status=500),
    Page("/admin/", who="operator"),
    Page("/admin/<app_label>/", "/admin/tasks/", who="operator"),
    Page("/admin/password_change/done/", who="operator"),
    Page("/admin/accounts/user/", who="operator"),
    Page("/admin/accounts/user/add/", who="operator"),
    Page("/admin/accounts/user/add/", who="operator", sends={"email": ""}, says="Please correct"),
    Page("/admin/accounts/user/<object_id>/change/", "/admin/accounts/user/{user}/change/", who="operator"),
    Page("/admin/accounts/user/<object_id>/history/", "/admin/accounts/user/{user}/history/", who="operator"),
    Page("/admin/accounts/user/<object_id>/delete/", "/admin/accounts/user/{user}/delete/", who="operator"),
    Page("/admin/accounts/user/<id>/password/", "/admin/accounts/user/{user}/password/", who="operator"),
    Page("/admin/accounts/user/mails/", who="operator"),
    Page(SAMPLE, "/admin/accounts/user/mails/welcome/de/", who="operator"),
    Page("/admin/accounts/securityevent/", who="operator"),
    Page(EVENT + "change/", "/admin/accounts/securityevent/{event}/change/", who="operator"),
    Page(EVENT + "history/", "/admin/accounts/securityevent/{event}/history/", who="operator"),
    Page("/admin/auth/group/", who="operator"),
    Page("/admin/auth/group/add/", who="operator"),
    Page("/admin/auth/group/<object_id>/change/", "/admin/auth/group/{group}/change/", who="operator"),
    Page("/admin/auth/group/<object_id>/history/", "/admin/auth/group/{group}/history/", who="operator"),
    Page("/admin/auth/group/<object_id>/delete/", "/admin/auth/group/{group}/delete/", who="operator"),
    Page("/admin/tasks/task/", who="operator"),
    Page(TASK, "/admin/tasks/task/{ready}/change/", who="operator"),
    Page(TASK, "/admin/tasks/task/{running}/change/", who="operator"),
    Page(TASK, "/admin/tasks/task/{successful}/change/", who="operator"),
    Page(TASK, "/admin/tasks/task/{failed}/change/", who="operator"),
    Page("/admin/tasks/task/<object_id>/history/", "/admin/tasks/task/{failed}/history/", who="operator"),
    Page("/admin/tasks/failedtask/", who="operator"),
    Page("/admin/tasks/failedtask/<object_id>/change/", "/admin/tasks/failedtask/{failed}/change/", who="operator"),
    Page("/admin/tasks/failedtask/<object_id>/history/", "/admin/tasks/failedtask/{failed}/history/", who="operator"),
    Page("/admin/tasks/schedule/", who="operator"),
    Page("/admin/tasks/schedule/add/", who="operator"),
    Page("/admin/tasks/schedule/<object_id>/change/", "/admin/tasks/schedule/{schedule}/change/", who="operator"),
    Page("/admin/tasks/schedule/<object_id>/history/", "/admin/tasks/schedule/{schedule}/history/", who="operator"),
    Page("/admin/tasks/tick/", who="operator"),
    Page("/admin/tasks/tick/<object_id>/change/", "/admin/tasks/tick/{tick}/change/", who="operator"),
    Page("/admin/tasks/tick/<object_id>/history/", "/admin/tasks/tick/{tick}/history/", who="operator"),
    Page("/admin/tasks/retention/", who="operator"),
]

NO_PAGES = {
    "/accounts/logout/": "takes a POST only",
    "/admin/accounts/user/mails/<mail>/<language>/html/": "a mail in a sandbox; /dev/mail/ has all of them",
    "/accounts/keep/": "sends on to the account",
    **{f"/accounts/{name}/passkey/": "takes a POST only" for name in ("login", "login/second-factor")},
    "/accounts/reauthenticate/passkey/": "sends on",
    "/accounts/login/passkey/options/": "takes a POST only",
    "/accounts/login/second-factor/passkey/options/": "takes a POST only",
    "/accounts/reauthenticate/passkey/options/": "takes a POST only",
    "/accounts/second-factor/passkeys/add/options/": "takes a POST only",
    "/accounts/second-factor/app/qr.svg": "a picture",
    "/accounts/export/progress/": "JSON",
    "/admin/login/": "sends on to the login of everybody",
    "/admin/password_change/": "sends on to the page of everybody",
    "/admin/logout/": "takes a POST only",
    "/language/": "takes a POST only",
    "/admin/<url>": "there is no such page",
    "/admin/autocomplete/": "JSON",
    "/admin/jsi18n/": "a script",
    "/admin/r/<content_type_id>/<object_id>/": "sends on",
    "/examples/visits/<name>/": "JSON",
    "/health/live": "JSON",
    "/health/ready": "JSON",
    "/admin/accounts/securityevent/add/": "nobody may",
    EVENT + "delete/": "nobody may",
    EVENT: "sends on to change/",
    **{f"/admin/tasks/{name}/add/": "nobody may" for name in ("task", "failedtask", "tick")},
    **{f"/admin/tasks/{name}/<object_id>/delete/": "nobody may" for name in ("task", "failedtask", "tick", "schedule")},
    **{f"/admin/{name}/<object_id>/": "sends on to change/" for name in ("accounts/user", "auth/group")},
    **{
        f"/admin/tasks/{name}/<object_id>/": "sends on to change/"
        for name in ("task", "failedtask", "tick", "schedule")
    },
}
"""Addresses without a page, and why."""

NOT_OURS: dict[str, str] = {}
"""Rules of axe-core that a page of Django's own breaks where we cannot mend it, and why."""


def stage_of(mailbox_dir: Path, operator: User, alice: User) -> Stage:
    """Put something on every page."""
    new, carol, leaving = (
        User.objects.create_user(f"{name}@example.org", PASSWORD) for name in ("new", "carol", "leaving")
    )
    leaving.delete_after = timezone.now() + timedelta(days=14)
    leaving.save()
    User.objects.filter(pk=carol.pk).update(display_name="W" * 100)  # as long as it may be, and nowhere to break it
    stage = Stage(alice, new, carol, leaving, operator)
    asked = {"user": alice, "old_email": alice.email, "new_email": "elsewhere@example.org"}
    stage.changes["asked"] = EmailChange.objects.create(**asked)
    stage.changes["done"] = EmailChange.objects.create(
        user=carol, old_email="old@example.org", new_email=carol.email, confirmed_at=timezone.now()
    )
    give_app(carol)
    give_codes(carol)
    passkey = Passkey.objects.create(user=carol, name="W" * 60, credential_id="x", public_key=b"x")
    week = timezone.now() + timedelta(days=7)
    Export.objects.create(user=alice, finished_at=timezone.now(), expires_at=week, content=b"x")
    gathering = rows.running(progress={"done": 2, "total": 6, "message": "2 of 6"})
    Export.objects.create(user=carol, task_id=str(gathering.pk), expires_at=week)
    schedule = rows.schedule()
    ran = rows.successful()
    tick = Tick.objects.create(schedule=schedule, due_at=timezone.now(), outcome="ran", task_id=ran.pk)
    Tick.objects.create(schedule=schedule, due_at=timezone.now(), outcome="skipped", reason="overlap")
    with closing(mailbox.Maildir(mailbox_dir)) as box:
        stage.ids |= {name: box.add(preview(name, "en").message().as_bytes()) for name in MAILS}
    stage.ids |= {
        "user": str(alice.pk),
        "passkey": str(passkey.pk),
        "event": str(SecurityEvent.objects.create(kind=Kind.LOGIN, outcome="failed", user=alice).pk),
        "group": str(Group.objects.create(name="Editors").pk),
        "ready": rows.ready().pk,
        "running": rows.running().pk,
        "successful": ran.pk,
        "failed": rows.failed(errors=2).pk,
        "schedule": str(schedule.pk),
        "tick": str(tick.pk),
    }
    return stage


# The table ------------------------------------------------------------------------------------------------------------


def test_the_table_has_every_address_of_the_site():
    known = {page.address for page in PAGES} | set(NO_PAGES)
    assert set(addresses(get_resolver("tests.e2e.urls").url_patterns)) ^ known == set()
    assert {page.address for page in PAGES} & set(NO_PAGES) == set()


@pytest.mark.parametrize("address", NO_PAGES)
def test_an_address_that_is_said_to_have_no_page_has_none(operator_client, static_files, address):
    response = operator_client.get(path_of(address))
    is_page = response.status_code == 200 and response["Content-Type"].startswith("text/html")
    assert not is_page or "; sandbox" in response["Content-Security-Policy"]


# Pages as a browser sees them ----------------------------------------------------------------------------------------


@pytest.fixture
def pages(make_site, browser, operator, alice, tmp_path) -> Callable[[Page], None]:
    """A function that opens a page of the table, by somebody who is logged in if it says so."""
    site = make_site(
        1,
        with_cluster=False,
        host="localhost",  # passkeys need a name
        DJANGO_SETTINGS_MODULE="tests.e2e.settings",
        MAILBOX_DIR=str(tmp_path / "mail"),
    )
    stage = stage_of(tmp_path / "mail", operator, alice)

    def open_(page: Page) -> None:
        browser.delete_all_cookies()
        if page.who:
            log_in(browser, site.url, stage.user(page.who), page.who.endswith(HALFWAY))
        path = page.path_in(stage)
        browser.get(site.url + path)
        if page.sends is not None:
            browser.fill(**page.sends)
            name = next(iter(page.sends), "csrfmiddlewaretoken")
            field = browser.find_element(By.CSS_SELECTOR, f"main form [name={name}]")
            browser.execute_script(
                "const form = arguments[0].form; form.noValidate = true; form.requestSubmit()", field
            )
        assert browser.says(page.says), page
        assert urlsplit(browser.current_url).path == urlsplit(path).path, page
        if page.status != 200:
            browser.expect(page.status)

    return open_


def log_in(browser, url: str, user: User, is_halfway: bool = False) -> None:
    """Give the browser a session of the user, in which the password was typed just now, and the second step taken."""
    client = Client()
    client.force_login(user)
    session = client.session
    session[PROVED_AT] = time.time()
    if not is_halfway:
        session[MFA] = "app"
    session.save()
    cookie = {"name": settings.SESSION_COOKIE_NAME, "value": client.cookies[settings.SESSION_COOKIE_NAME].value}
    browser.execute_cdp_cmd("Network.setCookie", cookie | {"url": url, "httpOnly": True})


def look(browser, width: int, scheme: str) -> None:
    """Let the browser have a window of this width and prefer a scheme of colours."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    query = f"(width: {width}px) and (prefers-color-scheme: {scheme})"
    until(lambda: browser.execute_script("return matchMedia(arguments[0]).matches", query), what=query)


FITS = """
  const {scrollWidth, clientWidth} = document.documentElement;
  const isCutOff = (box) => box.left < -1 && box.right > 1;
  return [
    ...(scrollWidth > clientWidth ? [`${scrollWidth - clientWidth} px do not fit`] : []),
    ...[...document.querySelectorAll("body *")].filter((one) => isCutOff(one.getBoundingClientRect()))
      .map((one) => `cut off at the left: ${one.outerHTML.slice(0, 100)}`),
  ];
"""


@pytest.mark.browser
@pytest.mark.timeout(600)
@pytest.mark.parametrize("who", sorted({page.who for page in PAGES}), ids=lambda who: who or "nobody")
def test_axe_finds_nothing_on_any_page_in_light_and_dark_on_a_desk_and_a_telephone(pages, browser, who):
    script = axe.source()
    found: defaultdict[str, list[str]] = defaultdict(list)
    for page in [page for page in PAGES if page.who == who]:
        pages(page)
        browser.execute_script(script)
        for width, scheme in product(WIDTHS, SCHEMES):
            look(browser, width, scheme)
            where = f"{page.address} {page.says} ({width} px, {scheme})"
            for violation in browser.execute_async_script(axe.RUN):
                if violation["id"] not in NOT_OURS or not page.address.startswith("/admin/"):
                    found[axe.told(violation)].append(where)
            for problem in browser.execute_script(FITS):
                found[problem].append(where)
        for error in browser.errors():
            found[error].append(page.address)
        browser.seen.clear()
    assert not found, "\n".join(f"{text}\n  on {', '.join(where)}" for text, where in found.items())


@pytest.mark.browser
def test_axe_finds_what_is_wrong_with_a_page(pages, browser):
    pages(Page("/accounts/login/"))
    browser.execute_script(axe.source())
    assert browser.execute_async_script(axe.RUN) == []
    browser.execute_script(
        "document.querySelector('label').remove(); document.documentElement.lang = '';"
        "document.querySelector('h1').style.color = 'var(--line)'"
    )
    rules = {violation["id"]: axe.told(violation) for violation in browser.execute_async_script(axe.RUN)}
    assert set(rules) == {"label", "html-has-lang", "color-contrast"}
    assert '<input type="email" name="username"' in rules["label"]


def test_another_archive_than_the_one_that_was_looked_at_is_refused(monkeypatch, tmp_path):
    archive = tmp_path / "axe-core.tgz"
    archive.write_bytes(b"another")
    monkeypatch.setattr(axe, "ARCHIVE", archive)
    with pytest.raises(RuntimeError, match="its SHA-512 is"):
        axe.source()


def test_without_npm_the_reason_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(axe, "ARCHIVE", tmp_path / "axe-core.tgz")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="npm is missing"):
        axe.source()


# The keyboard ---------------------------------------------------------------------------------------------------------

FOCUSABLE = "a[href], button, input:not([type=hidden], [hidden]), select, textarea, summary, iframe, progress[tabindex]"
REACHED = """
  const all = [...document.querySelectorAll(arguments[0])].filter((one) => one.checkVisibility());
  const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
  const isSeen = style.outlineStyle != "none" && parseFloat(style.outlineWidth) >= 2
      && box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  return [all.indexOf(one), all.length, isSeen, one.outerHTML.slice(0, 100)];
"""


def tab(browser, back: bool = False) -> tuple[int, int, bool, str]:
    """Press Tab; return which of how many elements has the focus now, whether that can be seen, and its HTML."""
    keys = ActionChains(browser)
    (keys.key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT) if back else keys.send_keys(Keys.TAB)).perform()
    return tuple(browser.execute_script(REACHED, FOCUSABLE))


def missed(browser, numbers: Iterable[int], back: bool = False) -> list[str]:
    """Press Tab for each of these elements, by number; return those that did not get the focus, or not visibly."""
    steps = [(number, *tab(browser, back)) for number in numbers]
    return [f"{number}: {html}" for number, at, _count, is_seen, html in steps if (at, is_seen) != (number, True)]


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_tab_reaches_all_that_can_be_used_in_order_and_shows_where_it_is(pages, browser):
    look(browser, 400, "light")
    for page in [page for page in PAGES if not page.address.startswith(("/admin/", "/dev/"))]:
        pages(page)
        browser.execute_script("document.querySelector('.skip').focus()")
        first, count, *_rest = browser.execute_script(REACHED, FOCUSABLE)
        assert (first, count >= 4) == (0, True), page
        assert missed(browser, range(1, count)) == [], page


@pytest.mark.browser
@pytest.mark.parametrize("path", ["signup", "login"])
def test_tab_goes_there_and_back_through_a_form_on_a_desk_too(pages, browser, path):
    look(browser, 1280, "dark")
    pages(Page(f"/accounts/{path}/"))
    browser.execute_script("document.querySelector('.skip').focus()")
    count = browser.execute_script(REACHED, FOCUSABLE)[1]
    assert missed(browser, range(1, count)) == []
    assert missed(browser, range(count - 2, -1, -1), back=True) == []


@pytest.mark.browser
def test_a_focus_that_cannot_be_seen_is_found(pages, browser):
    pages(Page("/accounts/signup/"))
    script = (
        "for (const it of document.querySelectorAll('*')) it.style.outline = 'none'"  # CSSOM, which no policy stops
    )
    browser.execute_script(script)
    assert tab(browser)[2] is False


@pytest.mark.browser
def test_the_skip_link_leads_past_the_navigation(pages, browser):
    pages(Page("/accounts/signup/"))
    tab(browser)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert until(lambda: browser.execute_script("return document.activeElement.id") == "main")
    tab(browser)
    assert browser.switch_to.active_element.get_attribute("name") == "display_name"


@pytest.mark.browser
def test_enter_submits_a_signup_and_a_login(pages, browser):
    pages(Page("/accounts/signup/"))
    browser.fill(display_name="Enter", email="enter@example.org", password=PASSWORD)
    browser.find_element(By.NAME, "password").send_keys(Keys.ENTER)
    assert browser.says("Check your inbox")
    User.objects.get(email="enter@example.org").verify_email()
    pages(Page("/accounts/login/"))
    assert browser.switch_to.active_element.get_attribute("name") == "username"
    browser.fill(username="enter@example.org", password=PASSWORD)
    browser.find_element(By.NAME, "password").send_keys(Keys.ENTER)
    assert browser.says("Your account")
