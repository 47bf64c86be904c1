"""Password fields in Chromium: they can be shown, pasted into and filled; and all of it without JavaScript too."""

from __future__ import annotations

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from accounts.models import User
from tests.conftest import PASSWORD

pytestmark = pytest.mark.browser


def password_field(browser):
    return browser.find_element(By.NAME, "password")


def show_button(browser):
    return browser.find_element(By.CSS_SELECTOR, "[data-show-password] button")


def press(browser, *keys: str) -> None:
    actions = ActionChains(browser)
    for key in keys[:-1]:
        actions.key_down(key)
    actions.send_keys(keys[-1])
    for key in reversed(keys[:-1]):
        actions.key_up(key)
    actions.perform()


def test_a_password_can_be_shown_and_hidden_by_mouse_and_keyboard(site, browser):
    browser.get(f"{site.url}/accounts/login/")
    password_field(browser).send_keys("what I type")
    button = show_button(browser)
    assert (button.accessible_name, button.aria_role) == ("Show Password", "button")
    assert button.text == browser.find_element(By.CSS_SELECTOR, ".password").get_attribute("data-show-password")
    assert (password_field(browser).get_attribute("type"), button.get_attribute("aria-pressed")) == (
        "password",
        "false",
    )
    button.click()
    assert (password_field(browser).get_attribute("type"), button.get_attribute("aria-pressed")) == ("text", "true")
    assert password_field(browser).get_attribute("value") == "what I type"
    assert password_field(browser).get_attribute("spellcheck") == "false"  # nor sent away to be checked
    assert browser.switch_to.active_element == button
    press(browser, Keys.SPACE)
    assert (password_field(browser).get_attribute("type"), button.get_attribute("aria-pressed")) == (
        "password",
        "false",
    )
    press(browser, Keys.ENTER)
    assert password_field(browser).get_attribute("type") == "text"
    assert browser.current_url == f"{site.url}/accounts/login/"  # the button sends no form


def test_a_shown_password_is_hidden_before_it_is_sent_and_when_the_page_is_left(site, browser, alice):
    browser.get(f"{site.url}/accounts/login/")
    browser.fill(username=alice.email, password=PASSWORD)
    show_button(browser).click()
    browser.execute_script("dispatchEvent(new Event('pagehide'))")
    assert password_field(browser).get_attribute("type") == "password"
    show_button(browser).click()
    browser.execute_script(
        "document.querySelector('main form').addEventListener('submit', () => {"
        "  sessionStorage.type = document.querySelector('[name=password]').type })"
    )
    browser.press("Log in")
    assert browser.says("Your account")
    assert browser.execute_script("return sessionStorage.type") == "password"


def test_each_password_field_has_a_button_of_its_own(site, browser, alice):
    browser.get(f"{site.url}/accounts/login/?next=/accounts/password-change/")
    browser.fill(username=alice.email, password=PASSWORD)
    browser.press("Log in")
    assert browser.says("Change your password")
    buttons = browser.find_elements(By.CSS_SELECTOR, "[data-show-password] button")
    assert [button.accessible_name for button in buttons] == ["Show Present password", "Show New password"]
    buttons[1].click()
    types = [browser.find_element(By.NAME, name).get_attribute("type") for name in ("old_password", "password")]
    assert types == ["password", "text"]


def test_a_password_can_be_pasted(site, browser, alice):
    browser.get(f"{site.url}/accounts/signup/")
    name = browser.find_element(By.NAME, "display_name")
    name.send_keys(PASSWORD)
    press(browser, Keys.CONTROL, "a")
    press(browser, Keys.CONTROL, "c")
    password_field(browser).click()
    press(browser, Keys.CONTROL, "v")
    assert password_field(browser).get_attribute("value") == PASSWORD


def test_all_can_be_done_without_javascript(site, mail_server, browser):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(f"{site.url}/accounts/signup/")
    assert browser.find_elements(By.CSS_SELECTOR, "[data-show-password] input")
    browser.implicitly_wait(0)
    assert browser.find_elements(By.CSS_SELECTOR, "[data-show-password] button") == []  # so no script has run
    browser.implicitly_wait(5)
    browser.fill(display_name="New", email="new@example.org", password=PASSWORD)
    browser.press("Sign up")
    assert browser.says("Check your inbox")

    text = mail_server.mail_to("new@example.org").get_body(("plain",)).get_content()
    (link,) = [line for line in text.splitlines() if "/accounts/verify/" in line]
    browser.get(link)
    browser.press("Verify my address")
    assert browser.says("Your email address is verified.")
    browser.fill(username="new@example.org", password=PASSWORD)
    browser.press("Log in")
    assert browser.is_at(f"{site.url}/accounts/")
    browser.press("Change password")
    browser.fill(old_password=PASSWORD, password="a new lamp by the lake")
    browser.press("Change my password")
    assert browser.says("Your password is changed.")
    assert User.objects.get().check_password("a new lamp by the lake")
    browser.find_element(By.XPATH, "//nav//button").click()
    assert browser.is_at(f"{site.url}/")
