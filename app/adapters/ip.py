"""Two rules for telling a client's address from what the gateway and proxies say of it.

X-Forwarded-For is no standard; each proxy appends the address that it sees, so
the right-most entries come from the nearest hops and the left-most from
whoever wrote first, which may be the client itself.
"""

import re
from collections.abc import Iterator, Sequence
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import TYPE_CHECKING

from app.domain.model import Handshake

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

_IPV4_MAPPED = bytes(10) + b"\xff\xff"  # what such an IPv6 address begins with (RFC 4291, 2.5.5.2)

# '203.0.113.7:4711', '[2001:db8::7]:4711' or '[2001:db8::7]'; a bare address is tried as it stands.
_WITH_PORT = r"(?:\[(?P<bracketed>[^]]*)]|(?P<plain>[^:]*))(?::[0-9]{1,5})?"


class PeerFirstIpResolver:
    """IpResolver in the specification's order: the gateway's peer, else the left-most forwarded entry.

    The left-most entry is the client's own word: good enough to look at, not
    to decide on.
    """

    def resolve(self, handshake: Handshake) -> str:
        return _address(handshake.peer_address or "") or _address(next(_forwarded(handshake), ""))


class TrustedProxyIpResolver:
    """IpResolver for an API behind proxies of known networks.

    The forwarded list is believed only where the peer is a trusted proxy, and
    only up to the first hop, counted from the right, that is not one: that hop
    is the client, for a trusted proxy has seen it. Where the list ends or goes
    wrong before that, the last hop that was vouched for is the answer.
    """

    def __init__(self, trusted: "Sequence[IPv4Network | IPv6Network]") -> None:
        from ipaddress import ip_address  # noqa: PLC0415 - most functions trust no proxy, and need it not

        self._trusted = trusted
        self._parsed = ip_address

    def resolve(self, handshake: Handshake) -> str:
        vouched_for = _address(handshake.peer_address or "")
        for entry in reversed(list(_forwarded(handshake))):
            if not self._is_trusted(vouched_for) or not (hop := _address(entry)):
                break
            vouched_for = hop
        return vouched_for

    def _is_trusted(self, address: str) -> bool:
        return bool(address) and any(self._parsed(address) in network for network in self._trusted)


def _forwarded(handshake: Handshake) -> Iterator[str]:
    """The entries of all X-Forwarded-For headers as one list, empty ones passed over."""
    for header in handshake.headers.get("x-forwarded-for", ()):
        for entry in header.split(","):
            if entry := entry.strip():
                yield entry


def _address(entry: str) -> str:
    """The address in *entry*, without port, brackets and zone, an IPv4-mapped one as IPv4; empty if none.

    By the system's own functions: the module ipaddress does the same, but
    would cost a start 1 ms and a call 3 µs.
    """
    try:
        return _canonical(entry)
    except (OSError, ValueError):  # ValueError: characters that no address has
        pass
    match = re.fullmatch(_WITH_PORT, entry)
    try:
        return _canonical(match["bracketed"] or match["plain"] or "") if match else ""
    except (OSError, ValueError):
        return ""


def _canonical(address: str) -> str:
    if ":" not in address:
        return inet_ntop(AF_INET, inet_pton(AF_INET, address))
    packed = inet_pton(AF_INET6, address.partition("%")[0])
    if packed.startswith(_IPV4_MAPPED):
        return inet_ntop(AF_INET, packed[len(_IPV4_MAPPED) :])
    return inet_ntop(AF_INET6, packed)
