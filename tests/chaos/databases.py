"""Databases that a scenario may break: a file, and a PostgreSQL server of its own."""

from __future__ import annotations

import getpass
import glob
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path


class SQLite:
    """A file in a directory of its own."""

    name = "SQLite"

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.path = self.directory / "chaos.sqlite3"
        self.url = f"sqlite:///{self.path}"

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


class PostgreSQL:
    """A server on a port of its own, with the durable settings it comes with. Root runs it as the user postgres."""

    name = "PostgreSQL"

    def __init__(self, max_connections: int = 60) -> None:
        programs = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [str(Path(shutil.which("initdb") or "").parent)]
        self.programs = Path(programs[-1])
        self.directory = Path(tempfile.mkdtemp(prefix="chaos-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.as_root = getpass.getuser() == "root"
        if self.as_root:
            shutil.chown(self.directory, "postgres")
        self.data = self.directory / "data"
        self._run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "-D", str(self.data))
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write(
                f"\nport = {self.port}\nlisten_addresses = '127.0.0.1'\nmax_connections = {max_connections}\n"
                f"unix_socket_directories = '{self.directory}'\n"
            )
        self.start()
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        if self.as_root:
            command = ["runuser", "-u", "postgres", "--", *command]
        with (self.directory / "log").open("ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd="/", env={**os.environ, "LC_ALL": "C"})

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-D", str(self.data), "-l", str(self.data / "server.log"), "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-w", "-D", str(self.data), "-m", mode, "stop")

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)
