"""Which addresses a webhook may go to: public ones. Guards against server-side request forgery (SSRF).

A name is resolved once, all its addresses are judged, and the connection goes to a judged address: a name that
resolves to something else a moment later (DNS rebinding) gains nothing.
"""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.errors import InvalidInput, Unavailable

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: the address to connect to, and the name that the server is asked for and proves."""

    scheme: str
    host: str
    port: int
    address: str
    path: str


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not private, loopback, link-local, reserved or multicast."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64 or ip.sixtofour is not None or ip.teredo is not None:
            return False  # an IPv4 address in disguise
    return ip.is_global and not ip.is_multicast


def check_url(url: str, *, private: bool = False) -> None:
    """Raise InvalidInput for a URL that no webhook may have. Names are judged when sending."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("is no URL") from None
    if parts.scheme not in (("http", "https") if private else ("https",)):
        raise _refused("must begin with https://")
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise _refused("needs a host, and no user or password")
    if port is not None and not 1 <= port <= 65535:
        raise _refused("has no such port")
    if not private and _is_address(parts.hostname) and not is_public(parts.hostname):
        raise _refused("must not point to a private or special address")


async def resolve(url: str, *, private: bool = False) -> Target:
    """The target of a URL, its address judged. Raises InvalidInput (not allowed) and Unavailable (no such name now)."""
    check_url(url, private=private)
    parts = urlsplit(url)
    host = str(parts.hostname)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable("unknown-host", f"the host {host!r} cannot be resolved now") from error
    addresses = [str(entry[4][0]) for entry in found]
    # One bad address is enough: whoever mixes them means harm.
    if not private and not all(is_public(one) for one in addresses):
        raise _refused("leads to a private or special address")
    path = parts.path or "/"
    return Target(parts.scheme, host, port, addresses[0], f"{path}?{parts.query}" if parts.query else path)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refused(why: str) -> InvalidInput:
    return InvalidInput("webhook-refused", f"the webhook's URL {why}")
