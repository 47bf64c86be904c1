"""The harness itself: a benchmark that nobody runs for a while would stop working without a word."""

import json
import re
import subprocess
import sys
import threading
import time

import pytest

from tests.benchmarks import machine, report
from tests.benchmarks.options import MEASURES, parse
from tests.benchmarks.page import Page
from tests.benchmarks.profile import shares
from tests.processes import ROOT, Process, children, until


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,346"), (123.4, "123"), (56.78, "56.8"), (5.678, "5.68"), (0.5678, "0.568"), (0, "0")],
)
def test_a_number_is_shown_with_three_digits_that_say_something(value, text):
    assert report.number(value) == text


def test_a_percentile_is_a_value_that_was_measured():
    values = [*range(100, 0, -1)]
    assert [report.percentile(values, share) for share in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]


def test_the_steady_rate_leaves_out_start_and_end():
    starts = [0.0, *(10 + number / 100 for number in range(98)), 100.0]
    assert report.steady_rate(starts) == pytest.approx(100)


def test_the_table_has_a_line_for_each_figure_and_a_column_for_each_database():
    rows = [
        {"measure": "drain", "database": "SQLite", "figures": {"tasks/s": 10}},
        {"measure": "drain", "database": "SQLite", "figures": {"tasks/s": 30}},
        {"measure": "drain", "database": "SQLite", "figures": {"tasks/s": 20}},
        {"measure": "idle", "database": "SQLite", "figures": {"CPU s": 0.5}},
        {"measure": "drain", "database": "PostgreSQL", "figures": {"CPU ms": 2}},
    ]
    assert report.table(rows, ["SQLite", "PostgreSQL"]).splitlines()[2:] == [
        "| drain | tasks/s | 20.0 (10.0 – 30.0) |  |",
        "| drain | CPU ms |  | 2.00 |",
        "| idle | CPU s | 0.500 |  |",
    ]


def test_failures_errors_in_logs_and_a_busy_machine_are_told():
    rows = [
        {"measure": "drain", "database": "SQLite", "others_percent": 50, "error": "AssertionError: no task starts"},
        {"measure": "idle", "database": "SQLite", "others_percent": 0, "troubles": 3},
    ]
    assert report.notes(rows) == [
        "drain, SQLite: no figure: AssertionError: no task starts",
        "idle, SQLite: 3 errors in the logs of clusters or server",
        "Other programs used up to 50 % of the machine: these figures are noise.",
    ]


def test_the_page_shows_starts_and_whether_all_have_come(tmp_path):
    writer, reader = Page(str(tmp_path / "page")), Page(str(tmp_path / "page"))
    assert not reader.wait(3, seconds=0)
    before = time.time()
    later = threading.Timer(0.1, lambda: [writer.mark(number) for number in range(3)])
    later.start()
    assert reader.wait(3, seconds=10)
    later.join()
    assert all(before <= start <= time.time() for start in reader.starts(3))
    reader.clear()
    assert writer.starts(3) == [0, 0, 0]


def test_the_tree_of_a_process_and_its_cpu_time_are_seen(tmp_path):
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    parent = Process(tmp_path / "log", sys.executable, "-c", code).start()
    try:
        child = until(lambda: children(parent.pid))[0]
        assert machine.tree(parent.pid) == [parent.pid, child]
        until(lambda: machine.cpu_seconds(child) > 0.1)
        assert machine.pss_megabytes([parent.pid, child]) > 1
    finally:
        parent.stop()


def test_samples_become_shares_by_role():
    stack = 'process 1:"python";process 2:"python";run (tasks/runner.py:1);{} 3'
    samples = "\n".join(stack.format(leaf) for leaf in ("call (a.py:5)", "call (a.py:5)", "wait (b.py:7)"))
    figures = shares(samples + '\nprocess 1:"python";process 2:"python";main (m.py:1) 1', {1: "parent", 2: "workers"})
    assert figures == {
        "% of workers in call (a.py)": 60,
        "% of workers in wait (b.py)": 30,
        "% of workers in main (m.py)": 10,
        "% of workers below run (tasks/runner.py)": 90,
    }


def test_a_measure_that_is_not_known_is_refused_with_those_that_are(capsys):
    with pytest.raises(SystemExit):
        parse(["speed"])
    assert f"there is no measure speed. Known: {', '.join(MEASURES)}." in capsys.readouterr().err


def test_a_run_gives_figures_and_leaves_lines_of_json():
    file = report.DIRECTORY / "own.jsonl"
    already = len(file.read_text().splitlines()) if file.exists() else 0
    measures = ["drain", "pickup", "enqueue", "bulk", "signup", "prune"]
    command = [sys.executable, "-m", "tests.benchmarks", *measures, "--quick", "--database", "SQLite"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = ["drain | tasks/s", "pickup | 300/s: p99 ms", "enqueue | ratio", "bulk | ratio", "signup | ratio"]
    for figure in [*figures, "prune | longest statement ms"]:
        assert f"| {figure} | " in done.stdout
    rows = [json.loads(line) for line in file.read_text().splitlines()[already:]]
    assert [row["measure"] for row in rows] == measures
    assert all(row["figures"] and row["facts"]["commit"] for row in rows)


def test_an_attack_on_an_account_is_refused_while_others_go_on():
    command = [sys.executable, "-m", "tests.benchmarks", "accounts", "--quick", "--database", "SQLite"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(re.findall(r"\| accounts \| beside 1,000 users, (.*?) \| ([\d.,]+) \|", done.stdout))
    assert (figures["1 network attack: logins"], figures["1 network attack: looked at"]) == ("100", "5.00")
    assert {"at rest: owner's login p99 ms", "1 network attack: owner's login p99 ms"} < figures.keys()
