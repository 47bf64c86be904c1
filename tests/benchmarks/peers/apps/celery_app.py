import os

from celery import Celery  # type: ignore[import-not-found]  # only in the environment of the peers

from tests.benchmarks.page import page

app = Celery("bench", broker=os.environ["BENCH_URL"])


@app.task(name="noop")
def noop(number: int) -> int:
    page().mark(number)
    return number
