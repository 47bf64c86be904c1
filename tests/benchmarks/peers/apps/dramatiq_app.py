import os

import dramatiq  # type: ignore[import-not-found]  # only in the environment of the peers
from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found]  # likewise

from tests.benchmarks.page import page

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_URL"]))


@dramatiq.actor
def noop(number: int) -> int:
    page().mark(number)
    return number
