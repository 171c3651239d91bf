"""Two rules for telling a client's address from what the gateway and proxies say of it.

X-Forwarded-For is no standard; each proxy appends the address that it sees, so
the right-most entries come from the nearest hops and the left-most from
whoever wrote first, which may be the client itself.
"""

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from app.domain.model import Handshake

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# '203.0.113.7:4711', '[2001:db8::7]:4711' or '[2001:db8::7]'; a bare address is tried as it stands.
_WITH_PORT = re.compile(r"(?:\[(?P<bracketed>[^]]*)]|(?P<plain>[^:]*))(?::[0-9]{1,5})?")


class PeerFirstIpResolver:
    """IpResolver in the specification's order: the gateway's peer, else the left-most forwarded entry.

    The left-most entry is the client's own word: good enough to look at, not
    to decide on.
    """

    def resolve(self, handshake: Handshake) -> str:
        address = _address(handshake.peer_address or "")
        if address is None:
            address = _address(next(_forwarded(handshake), ""))
        return _text(address)


class TrustedProxyIpResolver:
    """IpResolver for an API behind proxies of known networks.

    The forwarded list is believed only where the peer is a trusted proxy, and
    only up to the first hop, counted from the right, that is not one: that hop
    is the client, for a trusted proxy has seen it. Where the list ends or goes
    wrong before that, the last hop that was vouched for is the answer.
    """

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted

    def resolve(self, handshake: Handshake) -> str:
        vouched_for = _address(handshake.peer_address or "")
        if vouched_for is None:
            return ""
        for entry in reversed(list(_forwarded(handshake))):
            if not self._is_trusted(vouched_for):
                break
            hop = _address(entry)
            if hop is None:
                break
            vouched_for = hop
        return _text(vouched_for)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _forwarded(handshake: Handshake) -> Iterator[str]:
    """The entries of all X-Forwarded-For headers as one list, empty ones passed over."""
    for header in handshake.headers.get("x-forwarded-for", ()):
        for entry in header.split(","):
            if entry := entry.strip():
                yield entry


def _address(entry: str) -> Address | None:
    """The address in *entry*, without port, brackets and zone; an IPv4-mapped one as IPv4."""
    if match := _WITH_PORT.fullmatch(entry):
        entry = match["bracketed"] or match["plain"] or ""
    try:
        address = ip_address(entry.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _text(address: Address | None) -> str:
    return "" if address is None else str(address)
