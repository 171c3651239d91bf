"""What every IpResolver promises."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.ip import PeerFirstIpResolver, TrustedProxyIpResolver
from app.domain.ports import IpResolver
from tests.builders import a_handshake

RESOLVERS: list[IpResolver] = [
    PeerFirstIpResolver(),
    TrustedProxyIpResolver([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]),
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
def test_only_an_address_or_nothing_is_ever_the_answer(
    resolver: IpResolver, peer: str | None, headers: list[str]
) -> None:
    answer = resolver.resolve(a_handshake(peer_address=peer, headers={"x-forwarded-for": headers}))

    assert answer == "" or ip_address(answer).version in {4, 6}
    assert answer == answer.lower()


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
def test_the_peer_is_told_in_its_canonical_form(resolver: IpResolver, peer: str, canonical: str) -> None:
    assert resolver.resolve(a_handshake(peer_address=peer)) == canonical


@resolvers
def test_who_says_nothing_has_no_address(resolver: IpResolver) -> None:
    assert resolver.resolve(a_handshake(peer_address=None)) == ""
