"""Databases that a scenario may break: a file, and a PostgreSQL server of its own. Knows nothing of Django."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg


def need(program: str, package: str) -> str:
    """Return the path of a program; say which Debian package has it if this machine has not."""
    if path := shutil.which(program):
        return path
    raise RuntimeError(f"{program} is missing; Debian's package {package} has it")


def need_root(what: str) -> None:
    if os.geteuid() != 0:
        raise RuntimeError(f"{what} needs root")


class Disk:
    """A file system of its own, in memory: fast, and small enough to fill it."""

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path = path
        self.megabytes = megabytes

    def create(self) -> None:
        need_root("a file system of its own")
        self.path.mkdir()
        size = f"size={self.megabytes}m"
        subprocess.run([need("mount", "mount"), "-t", "tmpfs", "-o", size, "chaos", self.path], check=True)

    def fill(self, seconds: float) -> None:
        """Leave no byte free, for so long; what others free meanwhile is taken too."""
        deadline = time.monotonic() + seconds
        filler = self.path / "filler"
        with filler.open("wb", buffering=0) as file:
            while time.monotonic() < deadline:
                for size in (1 << 20, 1 << 12):
                    with suppress(OSError):
                        while True:
                            file.write(bytes(size))
                time.sleep(0.05)  # until somebody may have freed something
        filler.unlink()

    def remove(self) -> None:
        if self.path.is_mount():
            subprocess.run(["umount", "--lazy", self.path], check=True)


class Database:
    """What both have in common: a place below `home`, on a file system of `disk` megabytes of its own, if given."""

    name: str
    url: str
    disk: Disk | None = None

    def __init__(self, home: Path, disk: int = 0) -> None:
        self.home = self.logs = home
        if disk:
            self.disk = Disk(home / "disk", disk)
            self.home = home / "disk"

    def create(self) -> None:
        """Make it, and let it answer."""
        if self.disk:
            self.disk.create()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let nobody get anything done in the body."""
        raise NotImplementedError  # each database has its own way
        yield

    def ensure_running(self) -> None:
        """Start it if it went down by itself."""

    def remove(self) -> None:
        """Stop and remove what there is of it."""
        if self.disk:
            self.disk.remove()


class SQLite(Database):
    """A file."""

    name = "SQLite"

    def __init__(self, home: Path, disk: int = 0) -> None:
        super().__init__(home, disk)
        self.path = self.home / "chaos.sqlite3"
        self.url = f"sqlite:///{self.path}"

    @contextmanager
    def away(self) -> Iterator[None]:
        """Hold the write lock in the body."""
        with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield
            holder.execute("ROLLBACK")


class PostgreSQL(Database):
    """A server on a port of its own, with the durable settings it comes with. Root runs it as the user postgres."""

    name = "PostgreSQL"

    def __init__(self, home: Path, disk: int = 0) -> None:
        super().__init__(home, disk)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"
        self.data = self.home / "data"
        self.environment = {**os.environ, "LC_ALL": "C"}

    def create(self) -> None:
        super().create()
        if os.geteuid() == 0:
            for path in {self.home, self.logs}:
                shutil.chown(path, "postgres")
        options = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "--wal-segsize=1")
        self._run("initdb", *options, "-D", self.data)
        self.configure(
            port=self.port,
            listen_addresses="127.0.0.1",
            max_connections=100,
            unix_socket_directories=self.home,
            min_wal_size="8MB",
            max_wal_size="32MB",
        )
        self.start()

    def configure(self, **settings: object) -> None:
        """Add settings, which hold from the next start."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def listen(self, addresses: list[str]) -> None:
        """Answer on these addresses too, to everybody."""
        self.configure(listen_addresses=",".join(["127.0.0.1", *addresses]))
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write("host all all all trust\n")
        self.restart()

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-D", self.data, "-l", self.logs / "server.log", "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-w", "-D", self.data, "-m", mode, "stop")

    def restart(self) -> None:
        self.stop()
        self.start()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Have no server in the body."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres connect_timeout=5", autocommit=True)

    def is_running(self) -> bool:
        return self._run("pg_ctl", "-D", self.data, "status", check=False) == 0

    def ensure_running(self) -> None:
        """Start it if it went down by itself, and wait until it has recovered and answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                if not self.is_running():
                    self.start()
                self.connect().close()
            except (psycopg.OperationalError, subprocess.CalledProcessError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)  # between two questions
            else:
                return

    def remove(self) -> None:
        if self.data.exists() and self.is_running():
            self.stop("immediate")
        super().remove()

    def _run(self, program: str, *arguments: object, check: bool = True) -> int:
        command = [path_of(program), *map(str, arguments)]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        with (self.logs / "pg_ctl.log").open("ab") as log:
            return subprocess.run(
                command, check=check, stdout=log, stderr=log, cwd="/", env=self.environment
            ).returncode


def path_of(program: str) -> str:
    """Return where a program of the newest PostgreSQL on this machine is."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: float(path.parts[-3]))
    return str(found[-1]) if found else need(program, "postgresql")


KINDS: dict[str, type[SQLite] | type[PostgreSQL]] = {kind.name: kind for kind in (SQLite, PostgreSQL)}
