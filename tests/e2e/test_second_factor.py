"""Second factors in Chromium: an authenticator app, and a passkey in a device that the browser pretends to have."""

from __future__ import annotations

import re
import time

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions

from accounts.factors import totp
from accounts.models import Passkey
from tests.conftest import PASSWORD
from tests.processes import until

pytestmark = pytest.mark.browser


@pytest.fixture
def site(make_site, mail_server):
    """Browsers take passkeys for a name, not for an address."""
    return make_site(mail_server.port, host="localhost", REQUIRE_MFA_FOR="staff")


def log_in(browser, site, user) -> None:
    browser.get(f"{site.url}/accounts/login/")
    browser.fill(username=user.email, password=PASSWORD)
    browser.press("Log in")


def log_out(browser) -> None:
    browser.find_element(By.XPATH, "//nav//button").click()
    assert browser.says("Sign up")


def fits(browser) -> bool:
    return browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_a_person_adds_a_passkey_and_logs_in_with_it(site, mail_server, browser, alice):
    options = VirtualAuthenticatorOptions(
        protocol=VirtualAuthenticatorOptions.Protocol.CTAP2,
        transport=VirtualAuthenticatorOptions.Transport.INTERNAL,
        has_resident_key=True,
        has_user_verification=True,
        is_user_verified=True,
    )
    browser.add_virtual_authenticator(options)
    log_in(browser, site, alice)
    browser.press("Set up a second factor")
    browser.press("Add a passkey")
    assert browser.find_element(By.NAME, "name").get_attribute("value") == "Chrome on Linux"
    browser.fill(name="This computer")
    browser.press("Add the passkey")
    assert browser.says("Your passkey is added.")
    assert len(browser.find_elements(By.CSS_SELECTOR, ".codes li")) == 10
    browser.set_window_size(400, 800)
    assert fits(browser)
    browser.press("I have kept them")
    assert browser.says("This computer")
    assert fits(browser)
    assert Passkey.objects.get().user == alice
    told = mail_server.mail_to(alice.email, subject="The second factors of your account")
    assert "A passkey was added to your account." in told.get_body(("plain",)).get_content()

    log_out(browser)
    browser.get(f"{site.url}/accounts/login/")
    browser.press("Log in with a passkey")  # and nothing else
    assert browser.is_at(f"{site.url}/accounts/")
    assert Passkey.objects.get().sign_count > 1

    log_out(browser)
    log_in(browser, site, alice)
    assert browser.is_at(f"{site.url}/accounts/login/second-factor/")
    browser.press("Use a passkey")
    assert browser.is_at(f"{site.url}/accounts/")

    log_out(browser)
    [authenticator] = [browser.get_credentials()]
    browser.remove_all_credentials()
    assert authenticator
    browser.get(f"{site.url}/accounts/login/")
    browser.press("Log in with a passkey")
    assert browser.says("No passkey was shown.")


def test_an_administrator_sets_up_an_app_before_anything_else_and_needs_it_from_then_on(site, browser, operator):
    browser.get(f"{site.url}/admin/tasks/task/")
    browser.fill(username=operator.email, password=PASSWORD)
    browser.press("Log in")
    assert browser.says("Your account needs a second factor.")
    assert browser.current_url == f"{site.url}/accounts/second-factor/"
    browser.press("Set up an app")
    picture = browser.find_element(By.CSS_SELECTOR, "img.qr")
    until(lambda: picture.get_property("naturalWidth"), what="the QR code is drawn")
    browser.set_window_size(400, 800)
    assert fits(browser)
    secret = browser.find_element(By.CSS_SELECTOR, "main code").text.replace(" ", "")
    assert re.fullmatch("[A-Z2-7]{32}", secret)
    step = int(time.time()) // totp.PERIOD
    browser.fill(code=totp.code_at(secret, step))
    browser.press("Set up the app")
    assert browser.says("Your authenticator app is set up.")
    assert fits(browser)

    log_out(browser)
    browser.get(f"{site.url}/admin/tasks/task/")
    browser.fill(username=operator.email, password=PASSWORD)
    browser.press("Log in")
    assert browser.is_at(f"{site.url}/accounts/login/second-factor/")
    assert fits(browser)
    browser.fill(code=totp.code_at(secret, step + 1))
    browser.press("Go on")
    assert browser.is_at(f"{site.url}/admin/tasks/task/")
