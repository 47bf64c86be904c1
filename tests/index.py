"""Indexes of tests: what has to be proved, and the tests that prove it, named as `folder/test_file.py::test_name`."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache

from tests.processes import ROOT


def missing(names: Iterable[str]) -> list[str]:
    """Return the names of which there is no such test."""
    return [name for name in names if name.partition("::")[2] not in names_in(name.partition("::")[0])]


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of the tests in a file below tests/; none if there is no such file."""
    file = ROOT / "tests" / path
    body = ast.parse(file.read_text()).body if file.is_file() else []
    return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))
