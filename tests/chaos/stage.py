"""What a scenario is given, and the settings that all of them share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.databases import Database, PostgreSQL

LEASE = 5
"""TASKS_LEASE of all clusters, in seconds."""

GRACE = 5
"""TASKS_SHUTDOWN_GRACE of all clusters, in seconds."""


@dataclass
class Stage:
    """What a scenario is given: its database, a directory for logs and files, and where it notes what is wrong."""

    name: str
    database: Database
    home: Path
    is_short: bool
    problems: list[str] = field(default_factory=list)

    def check(self, holds: object, problem: str) -> None:
        """Note the problem unless it holds."""
        if not holds:
            self.problems.append(problem)

    @property
    def postgres(self) -> PostgreSQL:
        assert isinstance(self.database, PostgreSQL), f"{self.name} runs on PostgreSQL, not on {self.database.name}"
        return self.database
