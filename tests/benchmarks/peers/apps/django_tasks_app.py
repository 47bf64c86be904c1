from django_tasks import task

from tests.benchmarks.page import page


@task
def noop(number: int) -> int:
    page().mark(number)
    return number
