"""Names that look like an address, and those that do not."""

from __future__ import annotations

import pytest

from accounts.names import looks_like_address


@pytest.mark.parametrize(
    "name",
    [
        "www.evil.example",
        "WWW.1and1",
        "http://evil.example",
        "ftp://evil",
        "Alice evil.example",
        "Alice (evil.example/path?x=1)",
        "t.co",
        "Evil.Com",
        "evil.example.",
        "bob@evil.example",
        "bob@localhost",
        "mailto:bob@evil.example",
        "münchen.example",
        "пример.рф",
        "उदाहरण.भारत",
        "xn--80ak6aa92e.com",
        "i❤.ws",
        "evil．example",
        "ｅｖｉｌ.ｅｘａｍｐｌｅ",
        "evil。com",
        "evil｡com",
        "evil.\u200dexample",
        "evil\u200c.\u200cexample",
        "evil.e\u0301xample",
        "192.0.2.7",
        "\\\\evil\\share",
    ],
)
def test_what_could_become_a_link_looks_like_an_address(name):
    assert looks_like_address(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Alice",
        "Dr. O'Neill",
        "Dr. O’Neill",
        "Anna-Lena",
        "J. R. R. Tolkien",
        "J.R.R. Tolkien",
        "Müller GmbH & Co.",
        "Müller GmbH & Co. KG",
        "Sammy Davis Jr.",
        "Musikverein e.V.",
        "Jane Doe, Ph.D.",
        "Fiat S.p.A.",
        "Anna @ work",
        "@anna",
        "Bob...or so",
        "Bob…or so",
        "Version 2.10",
        "モーニング娘。",
        "田中。さん",
        "Zoë 🦊 علی",
        "علی\u200cرضا",
        "10/10",
        "AC/DC",
    ],
)
def test_a_name_does_not(name):
    assert not looks_like_address(name)
