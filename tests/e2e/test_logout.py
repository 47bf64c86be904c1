"""What is left of an account in a browser after a logout."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By

from tests.conftest import PASSWORD

pytestmark = pytest.mark.browser


def test_the_back_button_shows_nothing_of_an_account_after_a_logout(make_site, mail_server, browser, alice):
    site = make_site(mail_server.port, with_cluster=False)
    browser.get(f"{site.url}/accounts/login/")
    browser.fill(username=alice.email, password=PASSWORD)
    browser.press("Log in")
    assert browser.is_at(f"{site.url}/accounts/")
    assert browser.says(alice.email)
    browser.execute_script("localStorage.setItem('left', 'behind')")
    before = {cookie["name"] for cookie in browser.get_cookies()}

    browser.find_element(By.XPATH, "//nav//button").click()
    assert browser.is_at(f"{site.url}/")
    assert before - {cookie["name"] for cookie in browser.get_cookies()} == {"session"}
    assert browser.execute_script("return localStorage.length") == 0
    browser.back()
    assert browser.says("Log in")
    assert alice.email not in browser.text
    assert browser.current_url.startswith(f"{site.url}/accounts/login/")
    complaints = [entry["message"] for entry in browser.get_log("browser") if "olicy" in entry["message"]]
    assert complaints == []  # of a header that it does not understand
