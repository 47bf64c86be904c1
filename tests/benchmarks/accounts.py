"""An attack on one account: what it gets, and what those notice who log in, sign up or ask for a reset meanwhile.

The site is gunicorn behind one trusted proxy, which the measure plays; its cluster runs and its mail server is away.
Requests are sent when they are due, whether or not those before have been answered, and their time counts from then.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from ipaddress import IPv4Address
from urllib.parse import urlencode

from django.core.management import call_command
from django.db import connection

from accounts.models import SecurityEvent, User
from tasks.models import Task
from tests.benchmarks import stage
from tests.benchmarks.options import Figures, Options
from tests.benchmarks.report import logs, percentile
from tests.processes import Process, until

RATE = 50
"""Logins of the attack in a second."""

PAUSE = 1.0
"""Seconds between two requests of one of the others."""

NETWORKS = (0, 1, 1000)
OWNER, PASSWORD = "owner@example.org", "an old lamp by the sea"
CSRF = "c" * 32
"""Cookie and form have to agree; no page has to be read for it."""


def accounts(options: Options) -> Iterator[Figures]:
    """Everybody at rest, then beside an attack from one network, then beside one from 1,000."""
    seconds = 2 if options.quick else 30
    for users in [1_000] + ([1_000_000] if options.large else []):
        for _repeat in range(options.repeats or 1):
            figures: Figures = {}
            for networks in (0, 1) if options.quick else NETWORKS:
                stage.fresh()
                fill(users)
                with site() as port:
                    cookie = owners_cookie(port)
                    name = f"{networks:,} network{'s' * (networks > 1)} attack" if networks else "at rest"
                    measured = measure(port, cookie, networks, seconds)
                    figures |= {
                        f"beside {users:,} users, {name}: {figure}": value for figure, value in measured.items()
                    }
            yield figures


NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %s)",
    "postgresql": "WITH numbers AS (SELECT generate_series(1, %s) AS n)",
}
USERS = """
    INSERT INTO accounts_user (email, password, display_name, language, is_active, is_staff, is_superuser)
    SELECT 'user' || n || '@example.org', %s, '', 'en', true, false, false FROM numbers"""
BROWSERS = """
    INSERT INTO accounts_knownbrowser (user_id, digest, user_agent)
    SELECT id, 'browser of ' || id, '' FROM accounts_user"""


def fill(count: int) -> None:
    """Store so many users, each with a browser, and the owner of the account that is attacked."""
    User.objects.create_user(OWNER, PASSWORD).verify_email()
    hashed = User.objects.get().password
    with connection.cursor() as cursor:  # a million objects would take minutes
        cursor.execute(NUMBERS[connection.vendor] + USERS, [count, hashed])
        cursor.execute(BROWSERS)
        cursor.execute("ANALYZE")
    stage.settle()


@contextmanager
def site() -> Iterator[int]:
    """Start the site and its cluster; yield its port."""
    call_command("collectstatic", interactive=False, verbosity=0)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
        "TRUSTED_PROXY_COUNT": "1",
        "EMAIL_URL": "smtp://127.0.0.1:9",
        "LOG_LEVEL": "ERROR",
        "WEB_CONCURRENCY": str(os.cpu_count() or 1),
    }
    address = f"127.0.0.1:{port}"
    gunicorn = [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", address, "--no-control-socket"]
    processes = [
        Process(logs() / "accounts-web.log", *gunicorn, **environment),
        Process(logs() / "accounts-cluster.log", sys.executable, "manage.py", "qcluster", **environment),
    ]
    try:
        for process in processes:
            process.start()
        until(lambda: is_open(port), 30, "the site answers")
        yield port
    finally:
        for process in processes:
            process.stop(30)


def is_open(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def post(port: int, path: str, network: int, cookie: str = "", **data: str) -> tuple[int, str]:
    """Send a form from a network; return the status and the cookie of a known browser, if it is given one."""
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": f"csrf={CSRF}; browser={cookie}",
        "X-Forwarded-For": str(IPv4Address("10.0.0.0") + network),
    }
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as link:
        link.request("POST", path, urlencode(data | {"csrfmiddlewaretoken": CSRF}), headers)
        with link.getresponse() as response:
            response.read()
            given = [value for name, value in response.getheaders() if name == "Set-Cookie"]
    browser = [value for value in given if value.startswith("browser=")]
    return response.status, browser[0].partition("=")[2].partition(";")[0] if browser else ""


def owners_cookie(port: int) -> str:
    """Log the owner in for the first time, from a network where nothing else happens."""
    status, cookie = post(port, "/accounts/login/", 2**20, username=OWNER, password=PASSWORD)
    assert (status, bool(cookie)) == (302, True)
    return cookie


def measure(port: int, cookie: str, networks: int, seconds: float) -> Figures:
    """Send the attack from so many networks for so long, and the requests of the others beside it."""

    def attack(number: int) -> int:
        guess = {"username": OWNER, "password": f"guess number {number}"}
        return post(port, "/accounts/login/", number % networks, **guess)[0]

    def login(_number: int) -> int:
        return post(port, "/accounts/login/", 0, cookie, username=OWNER, password=PASSWORD)[0]  # beside an attacker

    def signup(number: int) -> int:
        data = {"display_name": "Somebody", "email": f"new{number}@example.com", "password": PASSWORD}
        return post(port, "/accounts/signup/", 2**21 + number, **data)[0]

    def reset(number: int) -> int:
        return post(port, "/accounts/password-reset/", 2**22 + number, email=f"user{number}@example.org")[0]

    acts = {"owner's login": Stream(login, PAUSE), "signup": Stream(signup, PAUSE), "reset": Stream(reset, PAUSE)}
    attackers = Stream(attack, 1 / RATE)
    streams = [*acts.values(), *([attackers] if networks else [])]
    threads = [threading.Thread(target=stream.send, args=(seconds,)) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figures: Figures = {}
    if networks:
        assert set(attackers.statuses) <= {200, 429}, attackers.statuses
        figures = {"logins": len(attackers.seconds), "looked at": attackers.statuses[200]}
        figures["refused with 429 %"] = 100 * attackers.statuses[429] / len(attackers.seconds)
        figures |= attackers.latency("attacker's answer")
        figures["events refused"] = SecurityEvent.objects.filter(outcome="refused").count()
    for name, stream in acts.items():
        assert set(stream.statuses) == {302}, f"{name}: {stream.statuses}"
        figures |= stream.latency(name)
    assert Task.objects.filter(task_path__endswith="send_welcome_email").count() == len(acts["signup"].seconds)
    return figures


class Stream:
    """Requests of one kind, each sent when it is due; how long each took, and what it got."""

    def __init__(self, act: Callable[[int], int], pause: float) -> None:
        self.act, self.pause = act, pause
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()

    def send(self, seconds: float) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(128) as pool:
            for number in range(int(seconds / self.pause)):
                due = began + number * self.pause
                time.sleep(max(0, due - time.monotonic()))  # until it is due
                pool.submit(self.one, number, due)

    def one(self, number: int, due: float) -> None:
        try:
            status = self.act(number)
        except (OSError, http.client.HTTPException):
            status = 0
        self.seconds.append(time.monotonic() - due)
        self.statuses[status] += 1

    def latency(self, name: str) -> Figures:
        return {f"{name} p{share} ms": 1000 * percentile(self.seconds, share / 100) for share in (50, 99)}
