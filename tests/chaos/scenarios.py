"""All scenarios: where each is, on which databases it runs, what belongs to the short form."""

from __future__ import annotations

from dataclasses import dataclass, field

BOTH = ("SQLite", "PostgreSQL")


IN_MEMORY = 1024
"""Megabytes of a file system in memory: it is as fast at any time, and no scenario cuts the power."""


@dataclass(frozen=True)
class Scenario:
    """One scenario. Its function takes a Stage and returns its row of the table."""

    name: str
    module: str
    databases: tuple[str, ...] = BOTH
    short: tuple[str, ...] = ()
    """Databases on which it is part of the short form."""
    disk: int = IN_MEMORY
    """Megabytes of the file system that the database is on."""
    deadline: int = 180
    """Seconds after which it has failed."""
    environment: dict[str, str] = field(default_factory=dict)


DRAIN_QUEUES = ",".join(f"drain-{number}" for number in range(12))

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("conservation", "conservation", short=BOTH, deadline=300),
        Scenario("restart", "recovery", ("PostgreSQL",), short=("PostgreSQL",)),
        Scenario("crash", "crash", ("PostgreSQL",)),
        Scenario("backends", "recovery", ("PostgreSQL",)),
        Scenario("connections", "recovery", ("PostgreSQL",)),
        Scenario("cluster", "recovery", short=("PostgreSQL",)),
        Scenario("kills", "recovery", short=("SQLite",)),
        Scenario("locked", "recovery", ("SQLite",)),
        Scenario("disk", "recovery", disk=160),
        Scenario("late", "late"),
        Scenario("hosts", "hosts", ("PostgreSQL",), short=("PostgreSQL",)),
        Scenario("hosts_atomic", "hosts", ("PostgreSQL",)),
        Scenario("clock", "clock", short=BOTH),
        Scenario(
            "drain",
            "drain",
            short=BOTH,
            environment={"TASKS_QUEUES": f"default,mail,maintenance,{DRAIN_QUEUES}"},
        ),
    )
}
