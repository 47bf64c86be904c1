"""The order of the modules, read from the syntax tree of each file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("accounts", "config", "devmail", "examples", "mail", "tasks")
TASKS_ARE_FOR = ("accounts", "examples")
LONGEST = 400

LEVELS = {
    "tasks": 0,
    "tasks.exceptions": 0,
    "tasks.backoff": 0,
    "tasks.models": 1,
    "tasks.models.clusters": 1,
    "tasks.models.schedules": 1,
    "tasks.models.tasks": 1,
    "tasks.functions": 1,
    "tasks.statements": 1,
    "tasks.retention": 1,
    "tasks.progress": 2,
    "tasks.subjects": 2,
    "tasks.leases": 2,
    "tasks.rescue": 3,
    "tasks.holding": 3,
    "tasks.pings": 3,
    "tasks.recurrence": 0,
    "tasks.schedules": 1,
    "tasks.ticks": 3,
    "tasks.timetable": 4,
    "tasks.cleanup": 3,
    "tasks.signals": 2,
    "tasks.sentry": 3,
    "tasks.worker": 2,
    "tasks.housekeeper": 4,
    "tasks.driver": 1,
    "tasks.libpq": 0,
    "tasks.outage": 0,
    "tasks.context": 3,
    "tasks.failures": 3,
    "tasks.runner": 3,
    "tasks.backend": 3,
    "tasks.metrics": 3,
    "tasks.audit": 3,
    "tasks.testing": 4,
    "tasks.shared": 3,
    "tasks.wakeup": 3,
    "tasks.checkpoints": 0,
    "tasks.broker": 4,
    "tasks.cluster": 4,
    "tasks.tasks": 4,
    "tasks.admin": 5,
    "tasks.admin.schedule_form": 5,
    "tasks.admin.schedules": 5,
    "tasks.admin.ticks": 5,
    "tasks.admin.tasks": 5,
    "tasks.admin.retention": 5,
    "tasks.apps": 5,
    "tasks.checks": 5,
    "tasks.urls": 5,
    "tasks.views": 5,
    "tasks.management": 5,
}
FOR_EVERYBODY = {
    "tasks.backoff",
    "tasks.exceptions",
    "tasks.progress",
    "tasks.retention",
    "tasks.schedules",
    "tasks.signals",
    "tasks.subjects",
}


def files() -> list[Path]:
    found = [path for app in OURS for path in (ROOT / app).rglob("*.py") if "migrations" not in path.parts]
    return sorted([*found, ROOT / "manage.py"])


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, importer: str = "", is_package: bool = False) -> Iterator[tuple[str, int]]:
    """Yield each module that is imported anywhere in the file, and the line; `from a import b` yields a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = importer.split(".")
            base = ".".join(parts[: len(parts) - node.level + is_package]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            yield module, node.lineno
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def level(module: str) -> int | None:
    """Return the level of a module of `tasks`, or of the module that the imported name is in."""
    while module:
        if module in LEVELS:
            return LEVELS[module]
        module = module.rpartition(".")[0]
    return None


def is_module(dotted: str) -> bool:
    path = ROOT / Path(*dotted.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def breaches(importer: str, tree: ast.AST, is_package: bool = False) -> list[str]:
    """Return what the file imports against the rules."""
    app = importer.partition(".")[0]
    found = []
    for module, line in imports(tree, importer, is_package):
        target = module.partition(".")[0]
        if target not in (*OURS, "tests") or not is_module(module):
            continue
        where = f"{importer}:{line} imports {module}"
        if target == "tests":
            found.append(f"{where}: a test")
        elif app in ("config", "manage") and target != "config":
            found.append(f"{where}: config names what is ours in strings only")
        elif app in TASKS_ARE_FOR and target == "tasks":
            if module != "tasks" and ".".join(module.split(".")[:2]) not in FOR_EVERYBODY:
                found.append(f"{where}: {app} may import {' and '.join(sorted(FOR_EVERYBODY))} of tasks")
        elif app not in ("config", "manage") and target != app:
            found.append(f"{where}: {app} does not know {target}")
        elif app == target == "tasks" and (level(importer) or 0) < (level(module) or 0):
            found.append(f"{where}: level {level(importer)} imports level {level(module)}")
    return found


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_a_module_imports_only_what_is_below_it(path):
    tree = ast.parse(path.read_text())
    assert breaches(name_of(path), tree, path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("importer", "code"),
    [
        ("tasks.models", "from tasks import leases"),
        ("tasks.models", "from tasks.leases import claim"),
        ("tasks.models", "import tasks.leases"),
        ("tasks.models", "from . import leases"),
        ("tasks.models", "from .leases import claim"),
        ("tasks.models", "def late():\n    from tasks.runner import run"),
        ("tasks.backoff", "from tasks.models import Task"),
        ("tasks.leases", "from tasks.backend import DatabaseBackend"),
        ("tasks.runner", "from tasks.broker import DatabaseBroker"),
        ("tasks.broker", "from tasks.admin import TaskAdmin"),
        ("tasks.broker", "from tasks.management.commands.qcluster import Command"),
        ("tasks.runner", "from accounts.models import User"),
        ("tasks.runner", "import devmail.backend"),
        ("tasks.runner", "from tests.work import tasks"),
        ("accounts.views", "from tasks.models import Task"),
        ("accounts.views", "from tasks import models"),
        ("accounts.views", "import devmail.backend"),
        ("accounts.emails", "from mail.backend import KeptConnectionBackend"),
        ("accounts.tasks", "from examples import tasks"),
        ("examples.tasks", "from accounts import emails"),
        ("examples.tasks", "from tasks.models import Task"),
        ("mail.backend", "from tasks.worker import Worker"),
        ("config.urls", "from accounts import views"),
        ("config.settings", "import tasks.backend"),
        ("devmail.views", "from accounts.models import User"),
        ("devmail.views", "from tasks.models import Task"),
    ],
)
def test_an_import_against_the_rules_is_found(importer, code):
    assert breaches(importer, ast.parse(code))


@pytest.mark.parametrize(
    ("importer", "code"),
    [
        ("tasks.leases", "from tasks.models import Task"),
        ("tasks.runner", "from tasks.context import TaskContext"),
        ("tasks.admin", "from tasks.leases import claim"),
        ("accounts.tasks", "from tasks.backoff import exponential"),
        ("accounts.tasks", "from tasks.exceptions import Discard"),
        ("accounts.tasks", "from tasks.retention import retain"),
        ("accounts.views", "from django_tasks import task"),
        ("examples.tasks", "from tasks.exceptions import Retry"),
        ("config.urls", "from config.context import site"),
    ],
)
def test_an_import_within_the_rules_passes(importer, code):
    assert breaches(importer, ast.parse(code)) == []


def test_every_module_of_the_app_tasks_has_a_level():
    modules = [name_of(path) for path in files() if path.is_relative_to(ROOT / "tasks")]
    assert [name for name in modules if name.partition("tasks.management")[1] == "" and name not in LEVELS] == []
    assert [name for name in LEVELS if not is_module(name)] == []


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_a_module_and_what_it_offers_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{name_of(path)} has no docstring"
    assert list(undocumented(tree)) == []


def undocumented(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    """Yield the public functions, classes and methods without a docstring; Django's inner Meta and Media need none."""
    for part in node.body:
        if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        is_setter = any(isinstance(mark, ast.Attribute) and mark.attr == "setter" for mark in part.decorator_list)
        if part.name.startswith("_") or part.name in ("Meta", "Media") or is_setter or part.name == "main":
            continue
        if not ast.get_docstring(part):
            yield prefix + part.name
        if isinstance(part, ast.ClassDef):
            yield from undocumented(part, f"{part.name}.")


def test_a_missing_docstring_is_found():
    lines = [
        "class Task:",
        '    """A task."""',
        "    class Meta: ...",
        "    def run(self): ...",
        "    def _go(self): ...",
    ]
    assert list(undocumented(ast.parse("\n".join([*lines, "def f(): ..."])))) == ["Task.run", "f"]


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_a_module_is_one_concept_and_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST
