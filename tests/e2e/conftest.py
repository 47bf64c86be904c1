"""The parts of an end-to-end test, all real: gunicorn, qcluster, an SMTP server, Chromium."""

from __future__ import annotations

import asyncio
import email.policy
import fcntl
import http.client
import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, WebDriverException
from selenium.webdriver.common.by import By

from tests.processes import ROOT, Process, database_url, until


@pytest.fixture(scope="session")
def static_files(testrun_uid: str) -> None:
    """Collect the static files as a deployment does, once for all processes of a run: others read them meanwhile."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "manage.py", "collectstatic", "--noinput", "-v0"]
    (ROOT / "var").mkdir(exist_ok=True)
    with (ROOT / "var" / "collectstatic.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        if lock.read() != testrun_uid:
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
            lock.truncate(0)
            lock.write(testrun_uid)


class HangingUp(Controller):
    """Ends the conversations that are going on before it stops; one that is left open is a warning later."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.conversations: list = []

    def factory(self):
        self.conversations.append(super().factory())
        return self.conversations[-1]

    def stop(self, no_assert: bool = False) -> None:
        asyncio.run_coroutine_threadsafe(self.hang_up(), self.loop).result(10)
        super().stop(no_assert)

    async def hang_up(self) -> None:
        assert self.server is not None
        self.server.close()
        while talking := [one.transport for one in self.conversations if one.transport is not None]:
            for transport in talking:
                transport.abort()
            await asyncio.sleep(0)  # until each has heard of its end


class MailServer:
    """A real SMTP server on a port of its own. It can go away and come back."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[EmailMessage] = []
        self.refuse_next = 0

    async def handle_DATA(self, server, session, envelope) -> str:
        if server.transport is None or server.transport.is_closing():  # read before the end, and nobody hears "250 OK"
            return "421 going away"
        if self.refuse_next:
            self.refuse_next -= 1
            return "451 try again later"
        self.mails.append(BytesParser(policy=email.policy.default).parsebytes(envelope.content))
        return "250 OK"

    def start(self) -> None:
        self.controller = HangingUp(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()

    def stop(self) -> None:
        self.controller.stop(no_assert=True)

    def mail_to(self, address: str, seconds: float = 20, subject: str = "") -> EmailMessage:
        """Wait for a mail to the address, whose subject begins so, and return the first."""

        def first() -> EmailMessage | None:
            return next((m for m in self.mails if m["To"] == address and m["Subject"].startswith(subject)), None)

        return until(first, seconds, f"a mail {subject!r}")


@pytest.fixture
def mail_server():
    server = MailServer()
    server.start()
    yield server
    server.stop()


@dataclass
class Site:
    """A site behind gunicorn, its cluster, and what both are told."""

    url: str
    port: int
    environment: dict[str, str]
    web: Process
    cluster: Process
    started: list[Process] = field(default_factory=list)

    def signup_json(self, **data: str) -> tuple[int, dict]:
        """Sign up as an API client does; return the status and the body."""
        return self.post_json("/accounts/signup/", **data)

    def post_json(self, path: str, **data: str) -> tuple[int, dict]:
        """Send JSON as an API client does; return the status and the body."""
        status, body = self.request("POST", path, json.dumps(data), "application/json")
        return status, json.loads(body)

    def request(self, method: str, path: str, body: str | None = None, kind: str = "") -> tuple[int, bytes]:
        """Send one request; return the status and the body."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, path, body, {"Content-Type": kind} if kind else {})
            with connection.getresponse() as response:
                return response.status, response.read()


@pytest.fixture
def make_site(transactional_db, static_files, tmp_path):
    """A function that starts a site, by default with its cluster."""
    started: list[Process] = []

    def make(
        smtp_port: int, wsgi: str = "config.wsgi", with_cluster: bool = True, host: str = "127.0.0.1", **more: str
    ) -> Site:
        port = free_port()
        url = f"http://{host}:{port}"
        environment = {
            "DATABASE_URL": database_url(),
            "EMAIL_URL": f"smtp://127.0.0.1:{smtp_port}",
            "SITE_URL": url,
            "TASKS_POLL": "0.05",
            "TASKS_SHUTDOWN_GRACE": "5",
            **more,
        }
        gunicorn = [
            sys.executable,
            "-m",
            "gunicorn",
            wsgi,
            "--bind",
            f"127.0.0.1:{port}",
            "--workers",
            "2",
            "--no-control-socket",
        ]
        web = Process(tmp_path / "web.log", *gunicorn, **environment)
        cluster = Process(tmp_path / "cluster.log", sys.executable, "manage.py", "qcluster", **environment)
        site = Site(url, port, environment, web, cluster)
        started.append(web.start())
        until(lambda: is_open(port), 20, "the site answers")
        if with_cluster:
            started.append(cluster.start())
        return site

    yield make
    for process in started:
        process.stop()
        print(process.log())


@pytest.fixture
def site(make_site, mail_server) -> Site:
    return make_site(mail_server.port)


class Browser(webdriver.Chrome):
    """Chromium, with the few words the tests need. Console errors fail the test, CSP violations of every kind too.

    Chromium itself writes most violations into its console, not all of them as errors; WATCH adds the event of each.
    """

    WATCH = """
        addEventListener("securitypolicyviolation", (event) => console.error(
          `CSP: ${event.effectiveDirective} (${event.disposition}) blocks ${event.blockedURI} ${event.sample}`), true);
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[str] = []
        self.execute_cdp_cmd("Page.enable", {})
        self.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": self.WATCH})

    def fill(self, **fields: str) -> None:
        for name, value in fields.items():
            element = self.find_element(By.NAME, name)
            element.clear()
            element.send_keys(value)

    def press(self, text: str) -> None:
        """Press the button or follow the link in the main part of the page."""
        path = (
            f"//main//*[(self::button or self::a or self::input) and (normalize-space()='{text}' or @value='{text}')]"
        )
        self.find_element(By.XPATH, path).click()

    @property
    def text(self) -> str:
        return self.find_element(By.TAG_NAME, "body").text

    def is_at(self, url: str) -> bool:
        """Wait until the address is this one: a click returns before the next page is there."""
        return until(lambda: self.current_url == url, what=f"at {url}, still at {self.current_url}")

    def says(self, text: str) -> bool:
        """Wait until the page says it."""

        def found() -> bool:
            try:
                return text in self.text.replace("\n", " ")
            except (NoSuchElementException, StaleElementReferenceException):  # between two pages
                return False
            except WebDriverException as error:  # the same, as Chromium says it when the page goes while it is read
                if "does not belong to the document" not in str(error.msg):
                    raise
                return False

        return until(found, what=f"the page says {text!r}")

    def errors(self) -> list[str]:
        """Return the errors in the console, of all pages so far."""
        self.seen += [entry["message"] for entry in self.get_log("browser") if entry["level"] == "SEVERE"]
        return self.seen

    def expect(self, status: int) -> None:
        """Take the error that a page of this status leaves in the console for none; nothing else."""
        text = f"Failed to load resource: the server responded with a status of {status} ("
        rest = [message for message in self.errors() if text not in message]
        assert len(rest) < len(self.seen), f"no page had the status {status}"
        self.seen = rest

    def assert_no_errors(self) -> None:
        """Fail if there were any."""
        assert self.errors() == []


@pytest.fixture
def browser(request, tmp_path: Path):
    options = webdriver.ChromeOptions()
    options.binary_location = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    for switch in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--lang=en",
        "--window-size=1280,1000", f"--user-data-dir={tmp_path / 'chromium'}",
    ):  # fmt: skip
        options.add_argument(switch)
    options.add_experimental_option("prefs", {"intl.accept_languages": "en"})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver"))
    driver = Browser(options=options, service=service)
    driver.implicitly_wait(5)
    yield driver
    try:
        if getattr(request.node, "failed", False) or driver.errors():
            driver.save_screenshot(str(tmp_path / "browser.png"))
            print(f"{driver.current_url}\n{driver.text}\nscreenshot: {tmp_path / 'browser.png'}")
        driver.assert_no_errors()
    finally:
        driver.quit()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.failed = report.failed
    return report


@pytest.fixture(autouse=True)
def _quick_settings() -> None:
    """Leave the settings as they are: users are made here and log in at the real site."""
