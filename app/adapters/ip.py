"""Two rules for finding a client's address.

X-Forwarded-For has no standard. Each proxy appends the address that it sees, so
the last entries come from the nearest proxies. The client itself may have
written the first ones.
"""

import re
from collections.abc import Iterator, Sequence
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from app.domain.model import Handshake, Network

_IPV4_MAPPED = bytes(10) + b"\xff\xff"  # the prefix of such an IPv6 address (RFC 4291, 2.5.5.2)

# '203.0.113.7:4711', '[2001:db8::7]:4711' or '[2001:db8::7]'; a bare address is tried as it is.
_WITH_PORT = r"(?:\[(?P<bracketed>[^]]*)]|(?P<plain>[^:]*))(?::[0-9]{1,5})?"


class PeerFirstIpResolver:
    """IpResolver in the specification's order: the gateway's peer, else the first forwarded entry.

    The client itself may have written that entry: good enough to display, not
    to decide on.
    """

    def resolve(self, handshake: Handshake) -> str:
        return _address(handshake.peer_address or "") or _address(next(_forwarded(handshake), ""))


class TrustedProxyIpResolver:
    """IpResolver for an API behind proxies of known networks.

    The forwarded entries are read from the last to the first, as long as the
    address before is a *trusted* proxy. The result is the first one that is
    not, or the last one reached if the list ends or an entry is no address.
    """

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted

    def resolve(self, handshake: Handshake) -> str:
        vouched_for = _address(handshake.peer_address or "")
        for entry in reversed(list(_forwarded(handshake))):
            if not self._is_trusted(vouched_for) or not (hop := _address(entry)):
                break
            vouched_for = hop
        return vouched_for

    def _is_trusted(self, address: str) -> bool:
        if not address:
            return False
        packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
        return any(network.contains(packed) for network in self._trusted)


def _forwarded(handshake: Handshake) -> Iterator[str]:
    """Yield the entries of all X-Forwarded-For headers as one list, without empty ones."""
    for header in handshake.headers.get("x-forwarded-for", ()):
        for entry in header.split(","):
            if entry := entry.strip():
                yield entry


def _address(entry: str) -> str:
    """Return the address in *entry* without port, brackets and zone, an IPv4-mapped one as IPv4; else empty.

    It uses the system's functions: the module ipaddress costs a start 1 ms.
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
