"""The main job in Chromium."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone
from selenium.webdriver.common.by import By

from accounts import tokens
from accounts.models import Session, User
from tasks.models import Task
from tasks.tasks import prune
from tests.conftest import PASSWORD
from tests.processes import until
from tests.work import tasks as work

pytestmark = pytest.mark.browser


def test_a_person_signs_up_verifies_the_address_and_logs_in(site, mail_server, browser):
    browser.get(site.url)
    browser.press("Create an account")
    browser.fill(display_name="New", email="New@Example.org", password=PASSWORD)
    browser.press("Sign up")
    assert browser.is_at(f"{site.url}/accounts/signup/check-inbox/")
    assert browser.says("Check your inbox")

    text = mail_server.mail_to("new@example.org").get_body(("plain",)).get_content()
    (link,) = [line for line in text.splitlines() if "/accounts/verify/" in line]
    browser.get(link)
    assert User.objects.get().email_verified_at is None  # opening the link is not enough
    browser.press("Verify my address")
    assert browser.says("Your email address is verified.")
    assert User.objects.get().email_verified_at is not None

    browser.fill(username="new@example.org", password=PASSWORD)
    browser.press("Log in")
    assert browser.is_at(f"{site.url}/accounts/")
    assert browser.says("new@example.org verified")

    browser.get(link)
    assert browser.says("Already verified")
    browser.find_element(By.XPATH, "//nav//button").click()
    assert browser.is_at(f"{site.url}/")


def test_a_person_who_forgot_the_password_gets_a_mail_and_logs_in_with_a_new_one(site, mail_server, browser, alice):
    browser.get(f"{site.url}/accounts/login/")
    browser.press("Forgot your password?")
    browser.fill(email="Alice@Example.org")
    browser.press("Send the mail")
    assert browser.is_at(f"{site.url}/accounts/password-reset/check-inbox/")
    assert browser.says("If this address has an account, we have sent an email to it.")

    text = mail_server.mail_to(alice.email).get_body(("plain",)).get_content()
    (link,) = [line for line in text.splitlines() if "/accounts/password-reset/" in line]
    browser.set_window_size(400, 800)
    browser.get(link)
    assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0
    browser.fill(password="short")
    browser.press("Change my password")
    assert browser.says("This password is too short.")
    browser.fill(password="a new lamp by the lake")
    browser.press("Change my password")
    assert browser.is_at(f"{site.url}/accounts/login/")
    assert browser.says("Your password is changed. Log in with the new one.")
    told = mail_server.mail_to(alice.email, subject="Your password for Steward was changed")
    assert f"{site.url}/accounts/password-reset/" in told.get_body(("plain",)).get_content()

    browser.fill(username=alice.email, password="a new lamp by the lake")
    browser.press("Log in")
    assert browser.is_at(f"{site.url}/accounts/")
    browser.press("Change password")
    browser.fill(old_password="a new lamp by the lake", password=PASSWORD)
    browser.press("Change my password")
    assert browser.is_at(f"{site.url}/accounts/")
    assert browser.says("Your password is changed. Your other sessions have ended.")
    browser.get(link)
    assert browser.says("This link does not work")
    browser.expect(404)


def test_a_form_with_mistakes_comes_back_with_what_was_typed_and_what_is_missing(site, browser):
    browser.get(f"{site.url}/accounts/signup/")
    browser.fill(display_name="New", email="new@example.org", password="short")
    browser.press("Sign up")
    assert browser.says("That did not work yet.")
    password = browser.find_element(By.NAME, "password")
    assert password.get_attribute("aria-invalid") == "true"
    assert password.get_attribute("value") == ""
    described_by = (password.get_attribute("aria-describedby") or "").split()
    texts = [browser.find_element(By.ID, id_).text for id_ in described_by]
    assert "This password is too short. It must contain at least 12 characters." in texts
    assert browser.find_element(By.NAME, "email").get_attribute("value") == "new@example.org"
    assert browser.find_element(By.CSS_SELECTOR, "[role=alert]").is_displayed()
    assert User.objects.count() == 0


def test_pages_fit_a_telephone_and_have_one_heading_and_a_label_for_each_field(site, browser):
    browser.set_window_size(400, 800)
    for path in (
        "/",
        "/accounts/signup/",
        "/accounts/login/",
        "/accounts/signup/check-inbox/",
        "/accounts/password-reset/",
        "/accounts/verify/resend/",
        "/nowhere/",
    ):
        browser.get(site.url + path)
        wider = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        assert wider <= 0, path
        assert len(browser.find_elements(By.TAG_NAME, "h1")) == 1, path
        for field in browser.find_elements(By.CSS_SELECTOR, "main input:not([type=hidden])"):
            label = browser.find_element(By.CSS_SELECTOR, f"label[for='{field.get_attribute('id')}']")
            assert label.text, path
    browser.expect(404)


def test_no_request_of_a_page_behind_a_link_names_the_page(site, browser, alice):
    link = site.url + tokens.reset_url(alice).removeprefix(settings.SITE_URL)
    asked = watched(browser, link)
    assert len(asked) > 2  # the page, its style, its script
    assert {referer for referer in asked.values() if referer} == {f"{site.url}/"}


def watched(browser, url: str) -> dict[str, str]:
    """Open a page; return the Referer of each request that it took."""
    browser.execute_cdp_cmd("Network.enable", {})
    browser.get_log("performance")
    browser.get(url)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"]["request"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {request["url"]: request["headers"].get("Referer", "") for request in sent}


def test_a_long_address_fits_a_telephone_too(site, browser):
    address = "a" * 64 + "@" + "b" * 60 + ".example.org"
    user = User.objects.create_user(address, PASSWORD)
    browser.set_window_size(400, 800)
    browser.get(site.url + tokens.reset_url(user).removeprefix(settings.SITE_URL))
    assert browser.says("Choose a new password")
    assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_an_operator_reads_why_a_task_failed_retries_it_and_it_succeeds(site, browser, operator, tmp_path):
    cause = tmp_path / "missing.txt"
    result = work.fail_while_missing.enqueue(str(cause))
    until(lambda: Task.objects.get(pk=result.id).status == "FAILED")

    browser.get(f"{site.url}/admin/tasks/failedtask/")
    browser.fill(username=operator.email, password=PASSWORD)
    browser.press("Log in")
    summary = browser.find_element(By.CSS_SELECTOR, "details.task-error summary")
    assert summary.text.startswith("FileNotFoundError: ")
    summary.click()
    traceback = browser.find_element(By.CSS_SELECTOR, "details.task-error pre")
    assert "return Path(path).read_text()" in traceback.text
    assert "tasks/runner.py" not in traceback.text

    cause.write_text("here it is")
    browser.find_element(By.NAME, "_selected_action").click()
    browser.find_element(By.CSS_SELECTOR, "select[name=action] option[value=retry]").click()
    browser.find_element(By.CSS_SELECTOR, "button[name=index]").click()
    assert browser.says("Retried by hand: 1 task.")
    task = until(lambda: Task.objects.filter(pk=result.id, status="SUCCESSFUL").first())
    assert (task.return_value, task.attempts) == ("here it is", 4)
    browser.get(f"{site.url}/admin/tasks/task/{task.pk}/change/")
    assert browser.says("here it is")


def test_an_operator_prunes_a_table_and_reads_how_it_went(site, browser, operator):
    ended = timezone.now() - timedelta(seconds=1)
    Session.objects.bulk_create(
        Session(session_key=f"{number:032}", session_data="", expire_date=ended) for number in range(3)
    )
    browser.get(f"{site.url}/admin/tasks/retention/")
    browser.fill(username=operator.email, password=PASSWORD)
    browser.press("Log in")
    assert browser.says("Every table that grows.")
    browser.find_element(By.CSS_SELECTOR, "button[name=table][value=sessions]").click()
    assert browser.says("prunes this table: sessions.")
    until(lambda: Task.objects.filter(task_path=prune.module_path, status="SUCCESSFUL").exists(), 20, "it is pruned")
    browser.refresh()
    assert browser.says("pruned: 3")
    assert not Session.objects.filter(expire_date__lte=ended).exists()
    browser.set_window_size(400, 800)
    assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0
