import os

import procrastinate  # type: ignore[import-not-found]  # only in the environment of the peers

from tests.benchmarks.page import page

_is_producer = "BENCH_PRODUCER" in os.environ
_connector = procrastinate.SyncPsycopgConnector if _is_producer else procrastinate.PsycopgConnector
app = procrastinate.App(connector=_connector(conninfo=os.environ["BENCH_URL"]))


@app.task(name="noop")
def noop(number: int) -> int:
    page().mark(number)
    return number
