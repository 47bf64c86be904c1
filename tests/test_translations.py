"""The German catalogue: complete, compiled, and with the placeholders that the code fills."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from babel.messages import Catalog, Message
from babel.messages.extract import extract
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.utils import translation
from django.utils.translation.template import templatize

from tests.processes import ROOT

MESSAGES = ROOT / "locale" / "de" / "LC_MESSAGES"
KEYWORDS = {
    name: specification
    for names, specification in {
        ("_", "gettext", "gettext_lazy", "gettext_noop"): None,
        ("ngettext", "ngettext_lazy"): (1, 2),
        ("pgettext", "pgettext_lazy"): ((1, "c"), 2),
        ("npgettext", "npgettext_lazy"): ((1, "c"), 2, 3),
    }.items()
    for name in names
}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    """The catalogue that translators edit."""
    return read_po(BytesIO((MESSAGES / "django.po").read_bytes()), locale="de", abort_invalid=True)


def messages(catalog: Catalog) -> list[Message]:
    return [message for message in catalog if message.id]


def forms(text: Any) -> list[str]:
    """Return the text, or the forms of a plural, as a list."""
    return [text] if isinstance(text, str) else list(text)


def sources() -> Iterator[Path]:
    for app in ("accounts", "config", "devmail", "examples", "mail", "tasks"):
        yield from (path for path in (ROOT / app).rglob("*.py") if "migrations" not in path.parts)
    yield from (path for suffix in ("html", "txt") for path in (ROOT / "templates").rglob(f"*.{suffix}"))


def texts_of(path: Path) -> set[str]:
    """Return the texts that a source file wants translated; of a plural, the singular."""
    code = path.read_text()
    if path.suffix != ".py":
        code = "\n".join(line.strip() for line in templatize(code).splitlines())
    found = extract("python", BytesIO(code.encode()), keywords=KEYWORDS, options={"encoding": "utf-8"})
    return {forms(text)[0] for _line, text, _comments, _context in found}


def test_every_text_of_the_sources_is_in_the_catalogue(catalog):
    known = {forms(message.id)[0] for message in messages(catalog)}
    missing = {path.relative_to(ROOT).as_posix(): texts_of(path) - known for path in sources()}
    assert {path: texts for path, texts in missing.items() if texts} == {}, "run `make messages` and translate"


def test_nothing_in_the_catalogue_is_out_of_use(catalog):
    used = set().union(*(texts_of(path) for path in sources()))
    assert {forms(message.id)[0] for message in messages(catalog)} - used == set()
    assert list(catalog.obsolete) == []


def test_every_text_is_translated_and_none_is_a_guess(catalog):
    assert len(messages(catalog)) > 100
    assert [message.id for message in messages(catalog) if not all(forms(message.string))] == []
    assert [message.id for message in messages(catalog) if message.fuzzy] == []
    plurals = [message for message in messages(catalog) if message.pluralizable]
    assert [len(forms(message.string)) for message in plurals] == [2] * len(plurals)


def test_the_compiled_catalogue_is_the_one_that_translators_edit(catalog):
    compiled = read_mo(BytesIO((MESSAGES / "django.mo").read_bytes()))
    expected = {(message.context, *forms(message.id)): forms(message.string) for message in messages(catalog)}
    assert {(m.context, *forms(m.id)): forms(m.string) for m in messages(compiled)} == expected


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\(\w+\)[sd]|\{\w*\}|%[sd%]", text))


def test_every_translation_has_the_placeholders_of_its_text(catalog):
    for message in messages(catalog):
        expected = [placeholders(text) for text in forms(message.id)]
        assert [placeholders(text) for text in forms(message.string)] == expected, message.id


def test_a_translation_begins_and_ends_as_its_text_does(catalog):
    for message in messages(catalog):
        for text, translated in zip(forms(message.id), forms(message.string), strict=True):
            assert translated == translated.strip(), text
            assert (text[-1] in ".:,?") == (translated[-1] in ".:,?"), text


def test_people_are_addressed_formally(catalog):
    informal = re.compile(r"\b([Dd]u|[Dd]ich|[Dd]ir|[Dd]ein\w*|[Ee]uch|[Ee]ure?\w*)\b")
    assert [text for message in messages(catalog) for text in forms(message.string) if informal.search(text)] == []


def test_django_finds_the_catalogue():
    with translation.override("de"):
        assert translation.gettext("Your account") == "Ihr Konto"
        assert translation.ngettext("%(what)s: %(count)d task.", "%(what)s: %(count)d tasks.", 2) == (
            "%(what)s: %(count)d Tasks."
        )
