"""Enqueue in transactions of one to five tasks, a tenth of which roll back; print how many tasks were committed."""

from __future__ import annotations

import random
import sys
import time

import django

django.setup()

from django.db import DatabaseError, connections, transaction  # noqa: E402 - after django.setup()

from tests.work import tasks as work  # noqa: E402


class OnPurposeError(Exception):
    pass


def main(number: int, total: int) -> None:
    random.seed(number)
    committed = made = 0
    while committed < total:
        size = random.randint(1, 5)
        try:
            with transaction.atomic():
                for _index in range(size):
                    made += 1
                    function = random.choice([work.atomic_effect, work.effect])
                    function.enqueue(f"{number}-{made}")
                if random.random() < 0.1:
                    raise OnPurposeError
            committed += size
        except OnPurposeError:
            continue
        except DatabaseError as error:
            print(f"producer {number}: {error}", file=sys.stderr)
            connections.close_all()
            time.sleep(0.2)
    print(committed)


main(int(sys.argv[1]), int(sys.argv[2]))
