"""Where a request comes from."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from django.conf import settings
from django.http import HttpRequest

from accounts.models.sessions import USER_AGENT_LENGTH

_WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")


class Client(NamedTuple):
    """What a request shows of its sender. The browser's name is whatever it says."""

    address: str | None = None
    user_agent: str = ""


def client_of(request: HttpRequest) -> Client:
    """Return who sends the request: the address, and the browser's name as far as it can be stored and shown."""
    name = "".join(filter(str.isprintable, request.headers.get("User-Agent", "")))
    return Client(address_of(request), name[:USER_AGENT_LENGTH])


def address_of(request: HttpRequest) -> str | None:
    """Return the address of the client; None if it has none, as behind a Unix socket.

    Each of TRUSTED_PROXY_COUNT proxies adds the address that it sees to the end of X-Forwarded-For. What stands before
    these was written by the client. A header that is too short or wrong was not written by our proxies: then it is the
    address of the connection.
    """
    given = request.META.get("REMOTE_ADDR", "")
    if count := settings.TRUSTED_PROXY_COUNT:
        hops = request.headers.get("X-Forwarded-For", "").split(",")
        if len(hops) >= count:
            given = _parse(hops[-count]) or given
    return _parse(given)


def network_of(address: str | None) -> str:
    """Return what counts as one place: an IPv4 address, the /64 of an IPv6 address, "" for none."""
    if not address:
        return ""
    ip = ipaddress.ip_address(address)
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


def _parse(text: str) -> str | None:
    match = _WITH_PORT.fullmatch(text.strip())  # some proxies add the port
    try:
        ip = ipaddress.ip_address(match[1] or match[2] if match else text.strip())
    except ValueError:
        return None
    mapped = getattr(ip, "ipv4_mapped", None)
    return str(mapped or ip).partition("%")[0]  # without the zone of a link-local address
