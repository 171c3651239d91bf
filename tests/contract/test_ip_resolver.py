"""What every IpResolver promises."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.ip import PeerFirstIpResolver, TrustedProxyIpResolver
from app.domain.model import Network
from app.domain.ports import IpResolver
from tests.builders import a_handshake

RESOLVERS: list[IpResolver] = [
    PeerFirstIpResolver(),
    TrustedProxyIpResolver(
        [Network(bytes([10, 0, 0, 0]), 8), Network(bytes.fromhex("20010db8") + bytes(12), 32)]
    ),
]
resolvers = pytest.mark.parametrize("resolver", RESOLVERS, ids=lambda resolver: type(resolver).__name__)

entries = (
    st.ip_addresses().map(str)
    | st.ip_addresses(network="10.0.0.0/8").map(str)
    | st.ip_addresses(v=6).map(lambda address: f"[{address}]:443")
    | st.text(max_size=20)
    | st.text("[]:.%0123456789af ", max_size=20)
)
forwarded = st.lists(st.lists(entries, max_size=4).map(", ".join), max_size=3)


@resolvers
@given(peer=st.none() | entries, headers=forwarded)
def test_the_result_is_always_an_address_or_empty(
    resolver: IpResolver, peer: str | None, headers: list[str]
) -> None:
    address = resolver.resolve(a_handshake(peer_address=peer, headers={"x-forwarded-for": headers}))

    assert address == "" or ip_address(address).version in {4, 6}
    assert address == address.lower()


@resolvers
@pytest.mark.parametrize(
    ("peer", "canonical"),
    [
        ("203.0.113.24", "203.0.113.24"),
        ("2001:DB9:0:0:0:0:0:7", "2001:db9::7"),
        ("::ffff:203.0.113.24", "203.0.113.24"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_the_peer_is_returned_in_its_canonical_form(resolver: IpResolver, peer: str, canonical: str) -> None:
    assert resolver.resolve(a_handshake(peer_address=peer)) == canonical


@resolvers
def test_without_a_peer_and_a_header_the_result_is_empty(resolver: IpResolver) -> None:
    assert resolver.resolve(a_handshake(peer_address=None)) == ""
