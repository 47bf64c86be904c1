"""The catalogues: complete, compiled, and with the placeholders that the code fills."""

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
from django.conf import settings
from django.contrib import admin
from django.utils import translation
from django.utils.functional import Promise
from django.utils.translation.template import templatize

from tests.processes import ROOT

LANGUAGES = [code for code, _name in settings.LANGUAGES if code != "en"]
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
INFORMAL = {
    "de": r"\b([Dd]u|[Dd]ich|[Dd]ir|[Dd]ein\w*|[Ee]uch|[Ee]u(?:er|re[mnrs]?))\b",
    "fr": r"\b([Tt]u|[Tt]e|[Tt]oi|[Tt]on|[Tt]a|[Tt]es|[Tt]ien\w*)\b|\b[Tt][’']",
}
# What typesetters of the language would mark.
MISSET = {
    "de": r"[“‘][\w%]|[\w%][”’](?!\w)| [;:!?]",
    "fr": r"[^\u202f:;!?][;!?]|[^\u202f\x22]:(?=\s|$)|«(?!\u202f)|[^\u202f]»|[“”„‘]|\w'\w",
}


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def catalog(language: str) -> Catalog:
    """The catalogue that translators edit."""
    return read_po(BytesIO(messages_of(language, "po")), locale=language, abort_invalid=True)


def messages_of(language: str, kind: str) -> bytes:
    return (ROOT / "locale" / language / "LC_MESSAGES" / f"django.{kind}").read_bytes()


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


def key_of(message: Message) -> tuple[Any, ...]:
    """Return what gettext looks a message up by; the context of a compiled one is bytes."""
    context: Any = message.context
    return (context.decode() if isinstance(context, bytes) else context, *forms(message.id))


def test_the_compiled_catalogue_is_the_one_that_translators_edit(catalog, language):
    compiled = read_mo(BytesIO(messages_of(language, "mo")))
    expected = {key_of(message): forms(message.string) for message in messages(catalog)}
    assert {key_of(message): forms(message.string) for message in messages(compiled)} == expected


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\(\w+\)[sdr]|\{\w*\}|%[sdr%]|<[^>]*>|&\w+;", text))


def test_every_translation_has_the_placeholders_and_the_tags_of_its_text(catalog):
    for message in messages(catalog):
        expected = [placeholders(text) for text in forms(message.id)]
        assert [placeholders(text) for text in forms(message.string)] == expected, message.id


def test_a_translation_begins_and_ends_as_its_text_does(catalog):
    for message in messages(catalog):
        for text, translated in zip(forms(message.id), forms(message.string), strict=True):
            assert translated == translated.strip(), text
            assert (text[-1] in ".:,?") == (translated[-1] in ".:,?"), text


def test_people_are_addressed_formally(catalog, language):
    informal = re.compile(INFORMAL[language])
    assert [text for message in messages(catalog) for text in forms(message.string) if informal.search(text)] == []


def test_a_text_is_set_as_its_language_sets_texts(catalog, language):
    misset = re.compile(MISSET[language])
    assert [text for message in messages(catalog) for text in forms(message.string) if misset.search(text)] == []


@pytest.mark.parametrize(
    ("language", "wrong"),
    [("de", "“so”"), ("de", "Frage ?"), ("fr", "Vous ?"), ("fr", "Vous?"), ("fr", "« ici »"), ("fr", "“ici”")],
)
def test_what_is_set_wrong_is_found(language, wrong):
    assert re.search(MISSET[language], wrong)


def test_every_catalogue_is_of_a_language_that_the_site_speaks():
    assert sorted(path.name for path in (ROOT / "locale").iterdir()) == sorted(LANGUAGES)


@pytest.mark.parametrize(
    ("language", "account", "counts"),
    [
        ("de", "Ihr Konto", {0: "0 Tage", 1: "1 Tag", 2: "2 Tage"}),
        ("fr", "Votre compte", {0: "0 jour", 1: "1 jour", 2: "2 jours"}),
    ],
)
def test_django_finds_the_catalogue_and_its_plurals(language, account, counts):
    with translation.override(language):
        assert translation.gettext("Your account") == account
        for count, text in counts.items():
            assert translation.ngettext("%(count)d day", "%(count)d days", count) % {"count": count} == text


def test_every_column_that_the_administration_shows_has_a_marked_name():
    unmarked = []
    for model, page in admin.site._registry.items():
        if model.__module__.partition(".")[0] in ("accounts", "tasks"):
            shown = {*page.list_display, *page.list_filter, *(page.fields or ())}
            shown |= {name for _title, options in page.fieldsets or () for name in options["fields"]}
            columns = (field for field in model._meta.get_fields() if field.name in shown)
            unmarked += [column for column in columns if not isinstance(column.verbose_name, Promise)]
    assert unmarked == []
