"""docs/security.md: each requirement of the standard is there, with tests that exist or with a reason."""

from __future__ import annotations

import re

import pytest

from tests.index import missing
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| \d+\.\d+\.\d+ \|", line)
]
# How many requirements of levels 1 and 2 each section of the chapters has that apply as a whole: {chapter: {section:
# numbers}}, of OWASP ASVS 5.0.0.
COMPLETE = {
    3: {2: [1, 2], 3: [1, 2, 3, 4], 4: [1, 2, 3, 4, 5, 6], 5: [1, 2, 3, 4, 5], 7: [1, 2]},
    6: {
        1: [1, 2, 3],
        2: list(range(1, 13)),
        3: [1, 2, 3, 4],
        4: [1, 2, 3, 4],
        5: [1, 2, 3, 4, 5],
        6: [1, 2, 3],
        8: [1, 2, 3, 4],
    },
    7: {1: [1, 2, 3], 2: [1, 2, 3, 4], 3: [1, 2], 4: [1, 2, 3, 4, 5], 5: [1, 2], 6: [1, 2]},
    8: {1: [1, 2], 2: [1, 2, 3], 3: [1], 4: [1]},
    9: {1: [1, 2, 3], 2: [1, 2, 3, 4]},
    14: {1: [1, 2], 2: [1, 2, 3, 4], 3: [1, 2, 3]},
    16: {1: [1], 2: [1, 2, 3, 4, 5], 3: [1, 2, 3, 4], 4: [1, 2, 3], 5: [1, 2, 3]},
}


def faults(row: list[str]) -> list[str]:
    """Return what is wrong with a row."""
    if len(row) != 5:
        return ["five cells"]
    _number, level, short, how, proof = row
    tests = re.findall(r"`([\w/]+\.py::\w+)`", proof)
    is_argued = re.match(r"argued: \w.{10}", proof) is not None
    return [
        *(["level"] if level not in ("1", "2") else []),
        *(["text"] if not short or not how else []),
        *(["a test or a reason"] if bool(tests) == is_argued else []),
        *(["nothing but tests"] if tests and re.sub(r"`[^`]+`", "", proof).strip() else []),
        *(f"no test {name}" for name in missing(tests)),
    ]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_requirement_has_a_test_that_exists_or_a_reason(row):
    assert faults(row) == []


@pytest.mark.parametrize(
    ("proof", "fault"),
    [
        ("`accounts/test_login.py::test_that_is_not_there`", "no test accounts/test_login.py::test_that_is_not_there"),
        ("`accounts/nowhere.py::test_a`", "no test accounts/nowhere.py::test_a"),
        ("", "a test or a reason"),
        ("argued:", "a test or a reason"),
        ("it is so", "a test or a reason"),
    ],
)
def test_a_row_without_proof_is_found(proof, fault):
    assert faults(["6.2.1", "1", "short", "how", proof]) == [fault]
    assert (
        faults(["6.2.1", "1", "short", "how", f"`test_security_docs.py::{test_no_row_is_there_twice.__name__}`"]) == []
    )


def test_no_requirement_of_a_chapter_that_applies_is_left_out():
    numbers = [row[0] for row in ROWS]
    expected = [f"{c}.{s}.{n}" for c, sections in COMPLETE.items() for s, found in sections.items() for n in found]
    assert [number for number in numbers if int(number.partition(".")[0]) in COMPLETE] == expected


def test_no_row_is_there_twice():
    numbers = [row[0] for row in ROWS]
    assert sorted(set(numbers)) == sorted(numbers)
    assert len(numbers) > 100


def test_what_the_page_links_to_and_names_exists():
    links = re.findall(r"\]\(([\w./-]+)\)", PAGE)
    files = re.findall(r"`((?:accounts|config|tests)/[\w/]+\.py)`", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    assert [file for file in files if not (ROOT / file).exists()] == []
