"""Where a request comes from: proxies that are trusted, headers that anybody can write, addresses of any shape."""

from __future__ import annotations

import ipaddress

import pytest
from django.test import RequestFactory, override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from accounts.network import address_of, client_of, network_of

PROXY = "192.0.2.1"
IPS = st.ip_addresses().map(lambda ip: str(getattr(ip, "ipv4_mapped", None) or ip).partition("%")[0])
WRITTEN = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=60)


def request(forwarded: str | None = None, remote: str = PROXY, **headers: str):
    headers |= {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return RequestFactory().get("/", headers=headers, REMOTE_ADDR=remote)


@given(forwarded=WRITTEN | IPS | st.lists(IPS).map(",".join), remote=IPS)
def test_without_a_trusted_proxy_it_is_the_address_of_the_connection_whatever_the_header_says(forwarded, remote):
    assert address_of(request(forwarded, remote)) == remote


@given(st.integers(1, 4), st.lists(WRITTEN, max_size=5), IPS, st.data())
def test_each_trusted_proxy_adds_one_address_and_what_stands_before_was_written_by_anybody(count, forged, client, data):
    hops = data.draw(st.lists(IPS, min_size=count - 1, max_size=count - 1))  # of the proxies in front of the last one
    with override_settings(TRUSTED_PROXY_COUNT=count):
        assert address_of(request(", ".join([*forged, client, *hops]))) == client


@given(st.integers(1, 4), st.data())
def test_a_header_that_is_too_short_is_not_believed(count, data):
    hops = data.draw(st.lists(IPS, max_size=count - 1))
    with override_settings(TRUSTED_PROXY_COUNT=count):
        assert address_of(request(", ".join(hops))) == PROXY
        assert address_of(request()) == PROXY


@given(WRITTEN, WRITTEN, st.integers(0, 4))
@example("::1%eth0", "", 1)
@example("[::1", "]:80", 1)
@example(",,,", ":", 4)
@example("１.2.3.4", "1.2.3", 1)
def test_garbage_raises_nothing_and_what_comes_out_is_an_address(forwarded, remote, count):
    with override_settings(TRUSTED_PROXY_COUNT=count):
        address = address_of(request(forwarded, remote))
    assert address is None or str(ipaddress.ip_address(address)) == address
    assert network_of(address) == "" or ipaddress.ip_network(network_of(address))


@given(IPS, st.integers(0, 65_535))
def test_a_port_is_left_out(ip, port):
    with_port = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    with override_settings(TRUSTED_PROXY_COUNT=1):
        assert address_of(request(with_port)) == ip


@pytest.mark.parametrize(
    ("given_address", "address"),
    [
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:443", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("203.0.113.7:", None),
        ("203.0.113.7:123456", None),
        ("203.0.113.07", None),
        ("localhost", None),
        ("", None),
    ],
)
def test_an_address_has_one_spelling(given_address, address):
    assert address_of(request(remote=given_address)) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (None, ""),
        ("", ""),
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
    ],
)
def test_a_network_is_an_ipv4_address_or_what_one_household_has_of_ipv6(address, network):
    assert network_of(address) == network


@given(st.text(st.characters(codec="latin-1"), max_size=600))
def test_the_name_of_a_browser_is_cut_to_what_can_be_stored_and_shown(name):
    stored = client_of(request(remote=PROXY, **{"User-Agent": name})).user_agent
    assert len(stored) <= 300
    assert stored.isprintable()
