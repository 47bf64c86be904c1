"""The systems, each with two worker processes and the settings it comes with: their stores, commands, what is left."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg

from tests.benchmarks.report import DIRECTORY, logs
from tests.processes import ROOT, Process

PEERS = DIRECTORY / "peers" / "bin" / "python"
POSTGRES_URL = os.environ.get("POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/15")
RUN = f"bench_{os.getpid()}"


@dataclass
class System:
    """One system on one store."""

    name: str
    kind: str
    store: str
    command: list[str]
    left: str
    """SQL, or keys of Redis, that tell how many tasks are not finished."""
    package: str
    tasks: int = 2000
    processes: int = 1

    @property
    def like(self) -> str:
        """The name of this project on the same store; for Redis, on the other server."""
        return "steward-sqlite" if self.store == "sqlite" else "steward-postgresql"

    @property
    def url(self) -> str:
        if self.store == "redis":
            return REDIS_URL
        return f"sqlite:///{self.file}" if self.store == "sqlite" else postgres_url(self.database)

    @property
    def file(self) -> Path:
        return DIRECTORY / f"{RUN}-{self.name}.sqlite3"

    @property
    def database(self) -> str:
        return f"{RUN}_{self.name}".replace("-", "_")

    @property
    def python(self) -> str:
        return sys.executable if self.kind == "steward" else str(PEERS)

    @property
    def environment(self) -> dict[str, str]:
        if self.kind == "steward":
            return {"DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings", "DATABASE_URL": self.url}
        module = "tests.benchmarks.peers.apps.django_settings"
        return {"DJANGO_SETTINGS_MODULE": module, "BENCH_APP": self.kind, "BENCH_URL": self.url}

    def version(self) -> str:
        code = f"from importlib.metadata import version; print(version({self.package!r}))"
        return subprocess.run([self.python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()

    def prepare(self) -> None:
        """Make the tables once; `reset` copies them."""
        if self.store == "postgresql":
            admin(f'CREATE DATABASE "{self.database}"')
        if self.store != "redis":
            self.produce("setup")
        if self.store == "postgresql":
            admin(f'ALTER DATABASE "{self.database}" RENAME TO "{self.database}_empty"')
        elif self.file.exists():
            with sqlite3.connect(self.file) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.move(self.file, f"{self.file}.empty")

    def reset(self) -> None:
        """Have an empty store."""
        if self.store == "redis":
            redis("FLUSHDB")
        elif self.store == "postgresql":
            admin(f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')
            admin(f'CREATE DATABASE "{self.database}" TEMPLATE "{self.database}_empty"')
        else:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self.file}{suffix}").unlink(missing_ok=True)
            if Path(f"{self.file}.empty").exists():
                shutil.copy(f"{self.file}.empty", self.file)

    def remove(self) -> None:
        """Leave nothing behind."""
        if self.store == "redis":
            redis("FLUSHDB")
        elif self.store == "postgresql":
            for name in (self.database, f"{self.database}_empty"):
                admin(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        else:
            for file in DIRECTORY.glob(f"{self.file.name}*"):
                file.unlink()

    def produce(self, *arguments: Any) -> list[float]:
        """Run the producer; return what it prints."""
        command = [self.python, "-m", "tests.benchmarks.peers.producer", self.kind, *map(str, arguments)]
        with (logs() / f"{self.name}-producer.log").open("wb") as log:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, **self.environment},
                check=True,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout else []

    def workers(self) -> list[Process]:
        """Return its worker processes, not started."""
        return [
            Process(logs() / f"{self.name}-{number}.log", self.python, *self.command, **self.environment)
            for number in range(self.processes)
        ]

    def count_left(self) -> int:
        """Return how many tasks are not finished."""
        if self.store == "redis":
            return sum(redis(*command.split()) for command in self.left.split(";"))
        if self.store == "postgresql":
            with psycopg.connect(self.url) as connection:
                row = connection.execute(self.left).fetchone()
        else:
            file = sqlite3.connect(self.file, timeout=20)
            row = file.execute(self.left).fetchone()
            file.close()
        return row[0] if row else 0


def postgres_url(database: str) -> str:
    return urlunsplit(urlsplit(POSTGRES_URL)._replace(path=f"/{database}"))


def admin(statement: str) -> None:
    with psycopg.connect(POSTGRES_URL, autocommit=True) as connection:
        connection.execute(statement)


def redis(*words: str) -> int:
    """Send one command on a connection of its own; return the number that it is answered with (OK: 0)."""
    url = urlsplit(REDIS_URL)
    commands = [["AUTH", unquote(url.password)]] if url.password else []
    commands += [["SELECT", url.path.strip("/") or "0"], list(words)]
    with socket.create_connection((url.hostname or "127.0.0.1", url.port or 6379), timeout=5) as connection:
        answers = connection.makefile("rb")
        for command in commands:
            parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in command)
            connection.sendall(f"*{len(command)}\r\n{parts}".encode())
            answer = answers.readline().decode().strip()
            if answer.startswith("-"):
                raise OSError(f"Redis: {answer[1:]}")
    return int(answer[1:]) if answer.startswith(":") else 0


STEWARD: dict[str, Any] = {
    "kind": "steward",
    "command": ["manage.py", "qcluster", "--workers", "2"],
    "left": "SELECT count(*) FROM tasks_task WHERE finished_at IS NULL",
    "package": "django",
    "tasks": 10_000,
}
DJANGO_Q: dict[str, Any] = {
    "kind": "django_q",
    "command": ["-m", "django", "qcluster"],
    "left": "SELECT count(*) FROM django_q_ormq",
    "package": "django-q2",
    "tasks": 500,
}
DJANGO_TASKS: dict[str, Any] = {
    "kind": "django_tasks_db",
    "command": ["-m", "django", "db_worker"],
    "left": "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status IN ('READY', 'RUNNING')",
    "package": "django-tasks-db",
    "tasks": 1000,
    "processes": 2,
}
HUEY: dict[str, Any] = {
    "kind": "huey",
    "command": [
        "-m",
        "huey.bin.huey_consumer",
        "tests.benchmarks.peers.apps.huey_app.huey",
        "-w",
        "2",
        "-k",
        "process",
    ],
    "package": "huey",
    "tasks": 5000,
}
PROCRASTINATE = ["-m", "procrastinate", "--app=tests.benchmarks.peers.apps.procrastinate_app.app", "worker"]
PROCRASTINATE_LEFT = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"

SYSTEMS = [
    System("steward-sqlite", store="sqlite", **STEWARD),
    System("steward-postgresql", store="postgresql", **STEWARD),
    System("django-q2-sqlite", store="sqlite", **DJANGO_Q),
    System("django-q2-postgresql", store="postgresql", **DJANGO_Q),
    System("django-tasks-db-sqlite", store="sqlite", **DJANGO_TASKS),
    System("django-tasks-db-postgresql", store="postgresql", **DJANGO_TASKS),
    System(
        "procrastinate", "procrastinate", "postgresql", PROCRASTINATE, PROCRASTINATE_LEFT, "procrastinate", processes=2
    ),
    System(
        "procrastinate-concurrency-10", "procrastinate", "postgresql", [*PROCRASTINATE, "--concurrency", "10"],
        PROCRASTINATE_LEFT, "procrastinate", processes=2,
    ),
    System("huey-sqlite", store="sqlite", left="SELECT count(*) FROM task", **HUEY),
    System("huey-redis", store="redis", left="LLEN huey.redis.bench", **HUEY),
    System(
        "celery-redis", "celery", "redis",
        ["-m", "celery", "-A", "tests.benchmarks.peers.apps.celery_app", "worker", "-c", "2"],
        "LLEN celery;HLEN unacked", "celery", tasks=5000,
    ),
    System(
        "dramatiq-redis", "dramatiq", "redis",
        ["-m", "dramatiq", "tests.benchmarks.peers.apps.dramatiq_app", "-p", "2"],
        "LLEN dramatiq:default", "dramatiq", tasks=5000,
    ),
]  # fmt: skip
