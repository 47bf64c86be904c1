"""A copy of one's data, the end of an account, and the samples of mails, in Chromium."""

from __future__ import annotations

import json
import zipfile
from datetime import timedelta

import pytest
from django.utils import timezone
from selenium.webdriver.common.by import By

from accounts.mail_list import MAILS
from accounts.models import Export, User
from tasks.models import Task
from tests.conftest import PASSWORD
from tests.processes import until

pytestmark = pytest.mark.browser


def log_in(browser, site, email: str) -> None:
    browser.get(f"{site.url}/accounts/login/")
    browser.fill(username=email, password=PASSWORD)
    browser.press("Log in")
    assert browser.is_at(f"{site.url}/accounts/")


def fits(browser) -> bool:
    return browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_a_person_waits_for_a_copy_of_the_data_and_downloads_it(make_site, mail_server, browser, alice, tmp_path):
    site = make_site(mail_server.port, with_cluster=False)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    browser.set_window_size(400, 800)
    log_in(browser, site, alice.email)
    browser.press("A copy of your data")
    browser.press("Make a copy")
    assert browser.says("A copy of your data is being made.")
    assert browser.find_element(By.TAG_NAME, "progress").accessible_name == "A copy of your data is being made."
    assert fits(browser)
    Task.objects.update(progress={"done": 3, "total": 9, "message": "known browsers"})
    assert browser.says("known browsers")  # nobody has loaded the page again
    assert browser.find_element(By.TAG_NAME, "progress").get_attribute("value") == "3"

    site.cluster.start()
    try:
        assert browser.says("A copy of your data is ready.")
        mail = mail_server.mail_to(alice.email, subject="The copy of your data")
        assert f"{site.url}/accounts/export/" in mail.get_body(("plain",)).get_content()
        browser.press("Download")
        [file] = until(lambda: list(downloads.glob("*.zip")), what="the file is there")
        with zipfile.ZipFile(file) as opened:
            [profile] = json.loads(opened.read("profile.json"))
        assert profile["email"] == alice.email
        assert Export.objects.get().content is None
        browser.press("Download")
        assert browser.says("This copy was downloaded before")
    finally:
        site.cluster.stop()


def test_a_person_deletes_the_account_changes_their_mind_and_leaves_after_all(site, mail_server, browser, alice):
    log_in(browser, site, alice.email)
    browser.press("Delete your account")
    browser.press("Delete my account")
    assert browser.says("Your account will be deleted on ")
    mail_server.mail_to(alice.email, subject="Your account at Steward will be deleted")
    browser.press("Keep my account")
    assert browser.says("Your account stays.")

    browser.press("Delete your account")
    browser.press("Delete my account")
    assert browser.says("Your account will be deleted on ")
    past = timezone.now() - timedelta(seconds=1)
    User.objects.update(delete_after=past)
    Task.objects.filter(task_path="accounts.tasks.erase_account", finished_at=None).update(run_after=past)
    mail_server.mail_to(alice.email, subject="Your account at Steward is deleted")
    until(lambda: not User.objects.exists(), what="the user is gone")
    browser.get(f"{site.url}/accounts/")
    assert browser.is_at(f"{site.url}/accounts/login/?next=/accounts/")


def test_an_administrator_sees_a_sample_of_each_mail_as_it_looks(make_site, mail_server, browser, operator):
    site = make_site(mail_server.port, with_cluster=False)
    log_in(browser, site, operator.email)
    for name in MAILS:
        browser.get(f"{site.url}/admin/accounts/user/mails/{name}/en/")
        browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
        card = browser.find_element(By.CLASS_NAME, "card")
        assert card.value_of_css_property("border-radius") == "10px"
        browser.switch_to.default_content()
