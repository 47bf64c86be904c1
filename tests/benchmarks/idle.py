"""What a cluster costs that has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.benchmarks import machine, stage
from tests.benchmarks.options import Figures, Options

SECONDS = 30


def idle(options: Options) -> Iterator[Figures]:
    """CPU time of half a minute and memory at its end, of the whole tree."""
    seconds = 2 if options.quick else SECONDS
    for _repeat in range(options.repeats or 1):
        stage.fresh()
        with stage.Clusters(workers=options.workers) as clusters:
            clusters.wait_until_ready()
            time.sleep(1)  # what the first tasks set going comes to rest; nothing shows when
            before = clusters.cpu()
            time.sleep(seconds)  # this is the measure
            used = clusters.cpu_since(before)
            tree = clusters.roles()
            memory = machine.pss_megabytes(tree)
        server = used.pop("PostgreSQL", None)
        figures = {
            f"CPU s in {seconds} s": sum(used.values()),
            "memory MB (PSS)": memory,
            "processes": len(tree),
        }
        figures |= {f"CPU s in {seconds} s: {role}": spent for role, spent in used.items()}
        yield figures | ({} if server is None else {f"CPU s in {seconds} s: PostgreSQL": server})
