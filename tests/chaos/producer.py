"""Enqueue in transactions of one to five tasks, a tenth of which roll back; print how many tasks were committed.

`python -m tests.chaos.producer TOTAL SECONDS NAME`: spread over so many seconds; the name is in the arguments.
"""

from __future__ import annotations

import random
import sys
import time

import django


class OnPurposeError(Exception):
    pass


def main(total: int, seconds: float, name: str) -> None:
    django.setup()
    from django.db import DatabaseError, connections, transaction  # here, since they want a Django that is set up

    from tests.work import tasks as work

    functions = [work.atomic_effect, work.effect, work.fail]
    random.seed(name)
    began = time.monotonic()
    committed = made = 0
    while committed < total:
        size = random.randint(1, 5)
        try:
            with transaction.atomic():
                for _index in range(size):
                    made += 1
                    random.choices(functions, [48, 48, 4])[0].enqueue(f"{name}-{made}")
                if random.random() < 0.1:
                    raise OnPurposeError
            committed += size
        except OnPurposeError:
            continue
        except DatabaseError as error:
            print(f"{name}: {error}", file=sys.stderr)
            connections.close_all()
            time.sleep(0.2)  # before it tries again
        ahead = seconds * committed / total - (time.monotonic() - began)
        time.sleep(max(0.0, ahead))  # the pace that was asked for
    print(committed)


main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
