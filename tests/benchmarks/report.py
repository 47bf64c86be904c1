"""What a run leaves behind: lines of JSON to compare with later, and one table to read now."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.processes import ROOT

DIRECTORY = ROOT / "var" / "bench"

BUSY = 10
"""Percent of the machine that others used before a measure, from which on its figures are called noise."""


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that so large a share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def steady_rate(starts: Sequence[float]) -> float:
    """Return the tasks started in a second, without the first and the last tenth of them."""
    ordered = sorted(starts)
    first, last = len(ordered) // 10, len(ordered) - 1 - len(ordered) // 10
    return (last - first) / max(ordered[last] - ordered[first], 1e-6)


def number(value: float) -> str:
    """Return it with three digits that say something: 12,340 · 56.7 · 0.891 · 0."""
    before_the_point = len(str(int(value))) if value >= 1 else 0
    return f"{value:,.{max(0, 3 - before_the_point)}f}" if value else "0"


def summary(values: Sequence[float]) -> str:
    """Return the median, and the least and the greatest if there are several."""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} – {number(max(values))})"


def table(rows: list[dict[str, Any]], columns: Sequence[str], column: str = "database") -> str:
    """Return the figures of all rows in one table: a line for each figure, a column for each database or system."""
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        for figure, value in row.get("figures", {}).items():
            values.setdefault((row["measure"], figure), {}).setdefault(row[column], []).append(value)
    lines = [f"| measure | figure | {' | '.join(columns)} |", "|---|---|" + "---:|" * len(columns)]
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    for (measure, figure), of in sorted(values.items(), key=lambda item: measures.index(item[0][0])):
        cells = [summary(of[name]) if name in of else "" for name in columns]
        lines.append(f"| {measure} | {figure} | {' | '.join(cells)} |")
    return "\n".join(lines)


def notes(rows: list[dict[str, Any]], column: str = "database") -> list[str]:
    """Return what a reader of the table has to know besides: failures, errors in logs, a busy machine."""
    said = []
    for row in rows:
        where = f"{row['measure']}, {row[column]}"
        if "error" in row:
            said.append(f"{where}: no figure: {row['error']}")
        if row.get("troubles"):
            said.append(f"{where}: {row['troubles']} errors in the logs of clusters or server")
    busy = [row["others_percent"] for row in rows if "others_percent" in row]
    if busy and max(busy) > BUSY:
        said.append(f"Other programs used up to {max(busy):.0f} % of the machine: these figures are noise.")
    return said


class Results:
    """The file to which each row is added as it comes, with the commit and the machine that it is true of."""

    def __init__(self, name: str, facts: dict[str, str]) -> None:
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        self.path = DIRECTORY / f"{name}.jsonl"
        self.rows: list[dict[str, Any]] = []
        self.facts = facts | {"commit": commit()}

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row | {"facts": self.facts}) + "\n")

    def print(self, columns: Sequence[str], column: str = "database") -> None:
        print(f"\n{table(self.rows, columns, column)}\n")
        print(" · ".join(f"{name}: {value}" for name, value in self.facts.items()))
        for note in notes(self.rows, column):
            print(note)


def commit() -> str:
    """Return the commit of the checkout, with a + if files differ from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.stdout.strip() + ("+" if changed.stdout else "")


def logs() -> Path:
    """Return the directory of the logs."""
    path = DIRECTORY / "logs"
    path.mkdir(parents=True, exist_ok=True)
    return path
