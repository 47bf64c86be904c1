"""Real processes for tests: started, watched and stopped by id, their output kept for the report of a failure."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psycopg
from django.db import connection
from psycopg import sql

ROOT = Path(__file__).parent.parent
T = TypeVar("T")


def until(condition: Callable[[], T | None], seconds: float = 20, what: str = "") -> T:
    """Return the first true value of the condition; fail if there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.02)


def database_url() -> str:
    """Return DATABASE_URL for the database of this test, so that another process sees its rows."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    user = f"{database['USER']}:{database['PASSWORD']}" if database["PASSWORD"] else database["USER"]
    return f"postgres://{user}@{database['HOST']}:{database['PORT'] or 5432}/{database['NAME']}"


class Process:
    """A child in a process group of its own."""

    def __init__(self, log: Path, *command: str, **environment: str) -> None:
        self.log_path = log
        self.command = command
        self.environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONWARNINGS": "ignore"}
        self.environment |= environment

    def start(self) -> Process:
        with self.log_path.open("ab") as log:
            self.child = subprocess.Popen(
                self.command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        return self

    @property
    def pid(self) -> int:
        return self.child.pid

    def log(self) -> str:
        return self.log_path.read_text()

    def send(self, signum: int, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.pid, signum)

    def wait(self, seconds: float = 15) -> int:
        return self.child.wait(seconds)

    def stop(self, seconds: float = 15) -> None:
        """Ask it to stop, and make it; then end whatever is left of its group."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        if group_members(self.pid):
            with suppress(ProcessLookupError):  # the last of them ended by itself meanwhile
                os.killpg(self.pid, signal.SIGKILL)


def qcluster(log: Path, *arguments: str, **environment: str) -> Process:
    """Return a `manage.py qcluster` on the database of this test, not started."""
    environment = {"DATABASE_URL": database_url(), "TASKS_SHUTDOWN_GRACE": "5", "TASKS_POLL": "0.05"} | environment
    return Process(log, sys.executable, "manage.py", "qcluster", *arguments, **environment)


def group_members(group: int) -> list[int]:
    """Return the ids of the living processes of a group."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _parent, pgrp = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(pgrp) == group and state != "Z":
                members.append(int(entry.name))
    return members


def children(pid: int) -> list[int]:
    """Return the ids of the children of a process, oldest first; [] if it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def tree(process: Process, workers: int = 2) -> list[int]:
    """Return the ids below a qcluster: sentinel, and its children, oldest first; [] while one is missing.

    At first these are the workers, the pusher and the housekeeper; what is started again comes last.
    """
    sentinels = children(process.pid)
    below = children(sentinels[0]) if len(sentinels) == 1 else []
    return [*sentinels, *below] if len(below) == workers + 2 else []


@contextmanager
def no_database() -> Iterator[None]:
    """Take the database of this test away from every process: SQLite takes no writes, PostgreSQL no connections."""
    database = connection.settings_dict
    connection.close()
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(database["NAME"], isolation_level=None, timeout=20)) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            yield
            holder.execute("ROLLBACK")
        return
    with psycopg.connect(database_url().rpartition("/")[0] + "/postgres", autocommit=True) as server:
        name = sql.Identifier(database["NAME"])
        server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        try:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database["NAME"]]
            )
            yield
        finally:
            server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
