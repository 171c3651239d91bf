"""The client's address, whatever the client claims."""

import pytest

from app.adapters.ip import PeerFirstIpResolver, TrustedProxyIpResolver
from app.domain.model import Network
from tests.builders import a_handshake

PROXIES = TrustedProxyIpResolver(
    [
        Network(bytes([10, 0, 0, 0]), 8),
        Network(bytes([198, 51, 100, 0]), 24),
        Network(bytes.fromhex("20010db8aaaa") + bytes(10), 48),
    ]
)
CLIENT = "203.0.113.77"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        pytest.param("192.0.2.1", ["203.0.113.7"], "192.0.2.1", id="the peer comes first"),
        pytest.param(
            None, ["203.0.113.7, 198.51.100.1"], "203.0.113.7", id="without a peer the left-most entry"
        ),
        pytest.param("", ["203.0.113.7"], "203.0.113.7", id="an empty peer is none"),
        pytest.param("2001:DB8:0:0::7", [], "2001:db8::7", id="an IPv6 peer, in its shortest form"),
        pytest.param("not an address", ["203.0.113.7"], "203.0.113.7", id="an invalid peer is none"),
        pytest.param(None, ["203.0.113.7:4711, 10.0.0.1"], "203.0.113.7", id="a port is cut off"),
        pytest.param(None, ["[2001:db8::7]:443"], "2001:db8::7", id="brackets and port are cut off"),
        pytest.param(None, ["unknown, 203.0.113.7"], "", id="a left-most entry that is no address"),
        pytest.param(None, [""], "", id="an empty header has no entry"),
        pytest.param(None, ["[]"], "", id="empty brackets are no address"),
        pytest.param("[]:80", ["[]:80"], "", id="empty brackets with a port are no address"),
        pytest.param(None, ["", "203.0.113.7"], "203.0.113.7", id="repeated headers are one list"),
        pytest.param(None, [], "", id="no header"),
    ],
)
def test_by_default_the_client_is_the_peer(peer: str | None, forwarded: list[str], expected: str) -> None:
    handshake = a_handshake(peer_address=peer, headers={"x-forwarded-for": forwarded})

    assert PeerFirstIpResolver().resolve(handshake) == expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        pytest.param("10.0.0.1", [CLIENT], CLIENT, id="a trusted peer vouches for the entry"),
        pytest.param("192.0.2.1", [CLIENT], "192.0.2.1", id="another peer is the client"),
        pytest.param("10.0.0.1", [f"1.1.1.1, {CLIENT}"], CLIENT, id="a spoofed left-most entry is ignored"),
        pytest.param(
            "10.0.0.1", [f"10.9.9.9, {CLIENT}"], CLIENT, id="a spoofed entry of a trusted network is ignored"
        ),
        pytest.param(
            "10.0.0.1", [f"1.1.1.1, {CLIENT}, 198.51.100.4, 10.0.0.7"], CLIENT, id="trusted hops are skipped"
        ),
        pytest.param(
            "198.51.100.200", [f"{CLIENT}, 198.51.100.200"], CLIENT, id="a list that ends in the peer itself"
        ),
        pytest.param("10.0.0.1", ["1.1.1.1", f"{CLIENT}, 10.0.0.2"], CLIENT, id="repeated headers: one list"),
        pytest.param(
            "10.0.0.1", [f"1.1.1.1, {CLIENT}", "10.0.0.2"], CLIENT, id="repeated headers, split elsewhere"
        ),
        pytest.param("10.0.0.1", [f"{CLIENT}:61234"], CLIENT, id="an entry with a port"),
        pytest.param("10.0.0.1", ["[2001:db8:bbbb::7]:443"], "2001:db8:bbbb::7", id="brackets and a port"),
        pytest.param("10.0.0.1", ["2001:db8:bbbb::7"], "2001:db8:bbbb::7", id="IPv6 behind IPv4"),
        pytest.param("2001:db8:aaaa::1", [CLIENT], CLIENT, id="IPv4 behind IPv6"),
        pytest.param("::ffff:10.0.0.1", [CLIENT], CLIENT, id="a trusted peer in IPv4-mapped form"),
        pytest.param("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3", id="a client inside the network"),
        pytest.param(
            "10.0.0.1", [f"{CLIENT}, unknown, 10.0.0.2"], "10.0.0.2", id="nothing left of an invalid entry"
        ),
        pytest.param("10.0.0.1", [f"{CLIENT}, <script>"], "10.0.0.1", id="an invalid last entry"),
        pytest.param("10.0.0.1", [f"{CLIENT}:port"], "10.0.0.1", id="a port that is no number"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="a proxy that forwards nothing"),
        pytest.param(None, [CLIENT], "", id="no peer, so no entry is trusted"),
        pytest.param("10.0.0.1", [f"{CLIENT}, ,"], CLIENT, id="empty entries are skipped"),
    ],
)
def test_behind_trusted_proxies_the_client_is_the_first_untrusted_hop(
    peer: str | None, forwarded: list[str], expected: str
) -> None:
    handshake = a_handshake(peer_address=peer, headers={"x-forwarded-for": forwarded})

    assert PROXIES.resolve(handshake) == expected
