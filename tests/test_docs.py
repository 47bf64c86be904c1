"""docs/background-work.md: its code is code of the project, its examples and its tests exist."""

from __future__ import annotations

import re
from textwrap import dedent, indent

import pytest

from examples.management.commands.example import EXAMPLES
from tests.index import missing
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "background-work.md").read_text()
BLOCKS = re.findall(r"^```python\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def is_part(code: str, source: str) -> bool:
    """Return whether the lines of code are lines of the source that follow each other, indented by any depth."""
    return any(f"\n{indent(code, ' ' * depth)}" in source for depth in (0, 4, 8))


@pytest.mark.parametrize(("path", "code"), BLOCKS, ids=[code.splitlines()[0] for _path, code in BLOCKS])
def test_code_on_the_page_is_a_piece_of_the_file_that_it_names(path, code):
    assert code == dedent(code)
    assert is_part(code, (ROOT / path).read_text())


def test_every_block_of_python_names_its_file():
    assert len(BLOCKS) == len(re.findall(r"^```python", PAGE, re.MULTILINE)) > 5


def test_code_that_is_not_in_the_file_is_found():
    assert is_part("a = 1\nb = 2\n", "\nif x:\n    a = 1\n    b = 2\n")
    assert not is_part("a = 1\nb = 2\n", "\na = 1\nb = 3\n")
    assert not is_part("a = 1\nb = 2\n", "\na = 1\n\nb = 2\n")


def test_the_page_shows_each_example_and_no_other():
    assert set(re.findall(r"manage\.py example ([a-z]+)", PAGE)) == {*EXAMPLES}


def test_each_section_names_tests_and_they_exist():
    sections = re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]
    tests = {section.splitlines()[0]: re.findall(r"`(\w[\w/]+\.py::\w+)`", section) for section in sections}
    without = [name for name, named in tests.items() if not named]
    assert without == ["Share state with a task"]  # which has sections of its own
    assert missing(name for named in tests.values() for name in named) == []


def test_every_file_that_the_page_links_to_exists():
    links = re.findall(r"\]\(([\w./-]+)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
