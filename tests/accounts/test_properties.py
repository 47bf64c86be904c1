"""What holds for any token, any next= and any address, tried with what Hypothesis makes up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pytest
from django.core.management.utils import get_random_secret_key
from django.db.models.functions import Now
from django.test import Client, override_settings
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts import tokens
from accounts.forms import AddressField, SignupForm
from accounts.models import EmailChange, Throttle, User
from accounts.tokens import user_of_reset, user_of_verification
from tests.accounts.conftest import browser_of
from tests.conftest import PASSWORD

common: dict[str, Any] = {"deadline": None, "derandomize": True, "database": None}
quick = settings(max_examples=200, suppress_health_check=list(HealthCheck), **common)
with_requests = settings(quick, max_examples=20)
SITE = "http://testserver"

anything = st.text(max_size=80)
in_a_path = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=80)


# Tokens --------------------------------------------------------------------------------------------------------------

URLS = {
    "verify": lambda user: tokens.verification_url(user),
    "disown": lambda user: tokens.disown_url(user),
    "password-reset": lambda user: tokens.reset_url(user),
    "email-change/confirm": lambda user: tokens.confirm_change_url(change_of(user)),
    "email-change/undo": lambda user: tokens.undo_change_url(change_of(user, confirmed_at=Now())),
}


def change_of(user: User, **fields: Any) -> EmailChange:
    return EmailChange.objects.create(user=user, old_email=user.email, new_email="new@example.org", **fields)


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, int, str]:
    """What to do to a token, where, and with which text."""
    how = draw(st.sampled_from(["replace", "insert", "delete", "cut", "swap case", "double", "re-time"]))
    return how, draw(st.integers(0, 200)), draw(st.text("AZaz09-_:=.~ %\u0660ä\x00", min_size=1, max_size=3))


def mutated(token: str, mutation: tuple[str, int, str]) -> str:
    how, place, text = mutation
    at = place % len(token)
    first, _colon, rest = token.partition(":")
    return {
        "replace": token[:at] + text + token[at + 1 :],
        "insert": token[:at] + text + token[at:],
        "delete": token[:at] + token[at + 1 :],
        "cut": token[:at],
        "swap case": token[:at] + token[at:].swapcase(),
        "double": token + token,
        "re-time": f"{first}:zzzzzz:{rest.partition(':')[2]}",
    }[how]


@pytest.mark.parametrize("kind", URLS)
def test_any_mutated_token_is_refused_and_never_a_fault(kind, alice):
    client = browser_of(alice)
    User.objects.update(email_verified_at=None)
    token = URLS[kind](User.objects.get()).rsplit("/", 2)[1]
    assert client.get(f"/accounts/{kind}/{token}/").status_code == 200
    before = User.objects.values().get()

    @with_requests
    @given(mutations())
    def check(mutation: tuple[str, int, str]) -> None:
        forged = mutated(token, mutation)
        if is_the_same(token, forged):
            return
        path = f"/accounts/{kind}/{quote(forged, safe='')}/"
        for response in (client.get(path), client.post(path, {"password": "a new lamp by the lake"})):
            assert response.status_code == 404, forged
        assert User.objects.values().get() == before

    check()


def is_the_same(token: str, forged: str) -> bool:
    """Return whether it only differs in the two last bits of base64, or an empty end, which mean nothing."""
    return token == forged or (token[:-1] == forged.rstrip("=")[:-1] and len(token) == len(forged.rstrip("=")))


@pytest.mark.parametrize("find", [user_of_verification, user_of_reset])
def test_any_text_is_no_token(find, alice):
    @quick
    @given(anything)
    @example(f"{alice.pk}:")
    @example("\ud800")
    @example("9" * 30 + ":a:b")
    @example(":" * 30)
    def check(text: str) -> None:
        assert find(text) is None

    check()


def test_a_token_of_another_key_is_refused(alice):
    with override_settings(SECRET_KEY=get_random_secret_key()):
        links = {kind: url(alice) for kind, url in URLS.items()}
    for kind, link in links.items():
        assert browser_of(alice).get(link.removeprefix(SITE)).status_code == 404, kind


def test_any_text_in_place_of_a_token_is_a_page_that_does_not_exist(alice):
    client = browser_of(alice)

    @with_requests
    @given(in_a_path, st.sampled_from(sorted(URLS)))
    def check(text: str, kind: str) -> None:
        path = f"/accounts/{kind}/{quote(text, safe='')}/"
        known = {"password-reset/check-inbox", "verify/resend"}
        if f"{kind}/{text}" in known or text in (".", ".."):
            return
        assert client.get(path).status_code in (301, 404)

    check()


# Where a login leads -------------------------------------------------------------------------------------------------

HOSTS = ["evil.example.org", "testserver.evil.example.org", "evil。example.org", "x@evil.example.org", "[::1]"]
PREFIXES = [
    "//", "///", "\\\\", "/\\", "\\/", "http://", "https://", "HTTPS:", "https:", "https:/", "https:\\\\",
    "javascript:", "JavaScript://", "data:text/html,", "vbscript:", "\t//", " //", "\x00//", "/\t/", "/\n/", "/\r\n/",
    "//\u2028", "\u3000//", "／／", "/／", "http:///", "ftp://", "//testserver:x@", "https://testserver\\@", "https://testserver#@",
    "//%2f", "/%2f/", "/%5c", "/.//", "/..//", "?//", "#//", "mailto:", "blob:",
]  # fmt: skip


@st.composite
def next_urls(draw: st.DrawFn) -> str:
    """Addresses that shall lead away, in all spellings."""
    prefix = draw(st.sampled_from(PREFIXES) | st.text("/\\:hHtTpPsS@?#.\t\r\n\x00 %", max_size=12))
    return prefix + draw(st.sampled_from(HOSTS) | anything) + draw(st.sampled_from(["", "/", "/a?b=c", "\\", "@"]))


def stays_here(location: str) -> bool:
    """Return whether a browser that gets this in answer to a request for SITE stays on it.

    Browsers take backslashes for slashes, and leave out tabs, ends of lines and what is blank around it.
    """
    seen = location.strip("".join(map(chr, range(33)))).replace("\\", "/")
    for ignored in "\t\r\n":
        seen = seen.replace(ignored, "")
    parts = urlsplit(urljoin(f"{SITE}/accounts/login/", seen))
    return parts.scheme in ("http", "https") and parts.netloc == "testserver"


def test_the_judge_of_next_urls_knows_what_leads_away():
    for away in (
        "//evil.example.org",
        "\\\\evil.example.org",
        "/\\evil",
        "https:evil",
        "javascript:a",
        "/\t/evil",
        " //e",
    ):
        assert not stays_here(away), away
    for here in ("/", "/accounts/?a=//b", "accounts/", "?a=b", "/%2f/evil", "http://testserver/a"):
        assert stays_here(here), here


def places(alice: User) -> Iterator[tuple[Client, str, dict[str, str]]]:
    """Yield who sends next= where, and with what else, so that the answer leads on."""
    yield Client(), "/accounts/login/", {"username": alice.email, "password": PASSWORD}
    yield browser_of(alice), "/accounts/reauthenticate/", {"password": PASSWORD}
    yield browser_of(alice), "/accounts/logout/", {}
    yield Client(), "/language/", {"language": "de"}
    yield browser_of(alice), "/accounts/login/passkey/", {}
    yield browser_of(alice), "/accounts/login/second-factor/", {}


@pytest.mark.parametrize("number", range(6))
def test_any_next_url_leads_to_this_site_only(number, alice):
    @with_requests
    @given(next_urls())
    @example("https://testserver@evil.example.org/")
    @example("/accounts/")
    def check(url: str) -> None:
        Throttle.objects.all().delete()
        client, path, data = list(places(alice))[number]
        response = client.post(path, data | {"next": url})
        assert response.status_code == 302
        assert stays_here(response["Location"]), response["Location"]

    check()


def test_the_login_page_keeps_no_next_url_that_leads_away(alice):
    client = browser_of(alice)

    @with_requests
    @given(next_urls())
    def check(url: str) -> None:
        response = client.get("/accounts/login/", {"next": url})
        assert response.status_code == 302
        assert stays_here(response["Location"]), response["Location"]

    check()


# Addresses -----------------------------------------------------------------------------------------------------------

locals_ = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9.+_-]{0,20}[a-zA-Z0-9+_-])?", fullmatch=True).filter(
    lambda s: ".." not in s
)
domains = st.sampled_from(
    ["example.org", "EXAMPLE.org", "sub.Example.co.uk", "münchen.de", "MÜNCHEN.de", "xn--mnchen-3ya.de"]
)
real = st.builds("{}@{}".format, locals_, domains)
nonsense = st.one_of(
    anything,
    st.text('@.a+ \x00\u0130\u00dfé\u2126\uff21\u200b\u202e,;<>"\\()', max_size=40),
    st.builds("{}@{}".format, st.text(max_size=90), st.text(max_size=200)),
    st.builds("{}@example.org".format, st.text("aÅſ\u212a", min_size=1, max_size=300)),
)


def cleaned(text: str) -> str | None:
    form = SignupForm({"email": text, "password": PASSWORD})
    form.full_clean()
    return form.cleaned_data.get("email")


def test_any_text_as_an_address_is_answered_and_never_a_fault(alice):
    paths = {
        "/accounts/signup/": {"password": PASSWORD},
        "/accounts/password-reset/": {},
        "/accounts/verify/resend/": {},
    }

    @with_requests
    @given(nonsense | real)
    @example("a@" + "b" * 300)
    @example("alice@example.org\r\nBcc: bob@example.org")
    @example("\U000e0041@example.org")
    def check(text: str) -> None:
        Throttle.objects.all().delete()
        for path, more in paths.items():
            assert Client().post(path, more | {"email": text}).status_code in (200, 302), path
            body = json.dumps(more | {"email": text})
            assert Client().post(path, body, content_type="application/json").status_code in (202, 400), path
        login = Client().post("/accounts/login/", {"username": text, "password": "an old lamp by the lake"})
        assert login.status_code == 200
        for user in User.objects.exclude(pk=alice.pk):
            assert user.email == user.email.lower()
            assert user.email.count("@") == 1
            assert user.email.isprintable()
            user.delete()

    check()


@quick
@given(nonsense | real)
def test_an_address_that_is_taken_is_taken_again_as_it_is(text):
    first = cleaned(text)
    if first is not None:
        assert cleaned(first) == first
        assert User._meta.get_field("email").get_prep_value(first) == first
        assert len(first) <= 254
        assert AddressField(max_length=254).clean(f"  {first} ") == first


@quick
@given(real, st.lists(st.booleans(), min_size=80, max_size=80))
def test_an_address_is_the_same_in_any_case(address, uppers):
    other = "".join(
        c.upper() if upper and len(c.upper()) == 1 else c for c, upper in zip(address, uppers, strict=False)
    )
    assert cleaned(other) == cleaned(address) is not None


def test_there_is_one_account_whatever_the_case(db):
    @with_requests
    @given(real)
    def check(address: str) -> None:
        for spelt in (address, address.upper(), address.lower(), f" {address.title()} "):
            Throttle.objects.all().delete()
            body = json.dumps({"email": spelt, "password": PASSWORD})
            assert Client().post("/accounts/signup/", body, content_type="application/json").status_code == 202
        user = User.objects.get()
        user.verify_email()
        for spelt in (address, address.upper()):
            client = Client()
            client.post("/accounts/login/", {"username": spelt, "password": PASSWORD})
            assert client.session["_auth_user_id"] == str(user.pk), spelt
        user.delete()

    check()


@pytest.mark.parametrize(
    ("one", "other"), [("a+b@example.org", "a@example.org"), ("a.b@example.org", "ab@example.org")]
)
def test_what_only_some_servers_take_for_the_same_are_two(one, other):
    assert cleaned(one) != cleaned(other)
