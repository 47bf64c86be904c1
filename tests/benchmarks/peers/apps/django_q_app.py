from tests.benchmarks.page import page


def noop(number: int) -> int:
    page().mark(number)
    return number
