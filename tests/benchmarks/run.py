"""Run measures on one database, that of DATABASE_URL; print a line of JSON for each repeat.

`tests.benchmarks.__main__` starts this once for each database, since Django reads its settings once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import django

django.setup()

from django.db import connection  # noqa: E402 - after django.setup()

from tests.benchmarks import (  # noqa: E402 - after django.setup()
    accounts,
    calls,
    idle,
    latency,
    machine,
    profile,
    pruning,
    schedules,
    stage,
    throughput,
)
from tests.benchmarks.options import Figures, Options, parse  # noqa: E402 - after django.setup()

MEASURES: dict[str, Callable[[Options], Iterator[Figures]]] = {
    "drain": throughput.drain,
    "pickup": latency.pickup,
    "idle": idle.idle,
    "enqueue": calls.enqueue,
    "bulk": calls.bulk,
    "signup": calls.signup,
    "flat": throughput.flat,
    "scaling": throughput.scaling,
    "schedules": schedules.schedules,
    "prune": pruning.prune,
    "accounts": accounts.accounts,
    "profile": profile.profile,
}


def main() -> None:
    options = parse(sys.argv[1:])
    stage.migrate()
    for name in options.measures:
        if name == "scaling" and connection.vendor == "sqlite":
            continue  # its clusters share one file, on one machine
        row: dict[str, object] = {"measure": name, "others_percent": machine.others_percent()}
        troubles = stage.Troubles()
        try:
            for repeat, figures in enumerate(MEASURES[name](options), 1):
                print(json.dumps(row | {"repeat": repeat, "figures": figures}), flush=True)
        except Exception as error:
            print(json.dumps(row | {"error": f"{type(error).__name__}: {error}"}), flush=True)
        if lines := troubles.lines():
            print(json.dumps(row | {"troubles": len(lines)}), flush=True)
            print("\n".join(lines), file=sys.stderr)


if __name__ == "__main__":
    main()
