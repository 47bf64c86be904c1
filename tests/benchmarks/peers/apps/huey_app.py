import os

from huey import RedisHuey, SqliteHuey  # type: ignore[import-not-found]  # only in the environment of the peers

from tests.benchmarks.page import page

_url = os.environ["BENCH_URL"]
if _url.startswith("sqlite"):
    huey = SqliteHuey("bench", filename=_url.removeprefix("sqlite:///"))
else:
    huey = RedisHuey("bench", url=_url)


@huey.task()
def noop(number: int) -> int:
    page().mark(number)
    return number
