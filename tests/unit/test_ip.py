"""Who the client is, whatever it claims."""

from ipaddress import ip_network

import pytest

from app.adapters.ip import PeerFirstIpResolver, TrustedProxyIpResolver
from tests.builders import a_handshake

PROXIES = TrustedProxyIpResolver(
    [ip_network("10.0.0.0/8"), ip_network("198.51.100.0/24"), ip_network("2001:db8:aaaa::/48")]
)
CLIENT = "203.0.113.77"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        pytest.param("192.0.2.1", ["203.0.113.7"], "192.0.2.1", id="the peer goes first"),
        pytest.param(None, ["203.0.113.7, 198.51.100.1"], "203.0.113.7", id="else the left-most entry"),
        pytest.param("", ["203.0.113.7"], "203.0.113.7", id="an empty peer is none"),
        pytest.param("not an address", ["203.0.113.7"], "203.0.113.7", id="nor is nonsense"),
        pytest.param(None, ["203.0.113.7:4711, 10.0.0.1"], "203.0.113.7", id="a port is cut off"),
        pytest.param(None, ["[2001:db8::7]:443"], "2001:db8::7", id="brackets and port are cut off"),
        pytest.param(None, ["unknown, 203.0.113.7"], "", id="a left-most entry that is no address is none"),
        pytest.param(None, [""], "", id="an empty header says nothing"),
        pytest.param(None, ["[]"], "", id="nor do empty brackets"),
        pytest.param("[]:80", ["[]:80"], "", id="nor with a port"),
        pytest.param(None, ["", "203.0.113.7"], "203.0.113.7", id="repeated headers are one list"),
        pytest.param(None, [], "", id="no header says nothing"),
    ],
)
def test_by_default_the_peer_is_the_client(peer: str | None, forwarded: list[str], expected: str) -> None:
    handshake = a_handshake(peer_address=peer, headers={"x-forwarded-for": forwarded})

    assert PeerFirstIpResolver().resolve(handshake) == expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        pytest.param("10.0.0.1", [CLIENT], CLIENT, id="a trusted peer is believed"),
        pytest.param("192.0.2.1", [CLIENT], "192.0.2.1", id="any other peer is the client itself"),
        pytest.param("10.0.0.1", [f"1.1.1.1, {CLIENT}"], CLIENT, id="a spoofed left-most entry loses"),
        pytest.param("10.0.0.1", [f"10.9.9.9, {CLIENT}"], CLIENT, id="even one that looks trusted"),
        pytest.param(
            "10.0.0.1", [f"1.1.1.1, {CLIENT}, 198.51.100.4, 10.0.0.7"], CLIENT, id="trusted hops are passed"
        ),
        pytest.param(
            "198.51.100.200", [f"{CLIENT}, 198.51.100.200"], CLIENT, id="a list that ends in the peer itself"
        ),
        pytest.param("10.0.0.1", ["1.1.1.1", f"{CLIENT}, 10.0.0.2"], CLIENT, id="repeated headers: one list"),
        pytest.param("10.0.0.1", [f"1.1.1.1, {CLIENT}", "10.0.0.2"], CLIENT, id="split anywhere"),
        pytest.param("10.0.0.1", [f"{CLIENT}:61234"], CLIENT, id="an entry with a port"),
        pytest.param("10.0.0.1", ["[2001:db8:bbbb::7]:443"], "2001:db8:bbbb::7", id="brackets and a port"),
        pytest.param("10.0.0.1", ["2001:db8:bbbb::7"], "2001:db8:bbbb::7", id="IPv6 behind IPv4"),
        pytest.param("2001:db8:aaaa::1", [CLIENT], CLIENT, id="IPv4 behind IPv6"),
        pytest.param("::ffff:10.0.0.1", [CLIENT], CLIENT, id="a trusted peer in IPv4-mapped form"),
        pytest.param("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3", id="a client inside the network"),
        pytest.param("10.0.0.1", [f"{CLIENT}, unknown, 10.0.0.2"], "10.0.0.2", id="nothing left of nonsense"),
        pytest.param("10.0.0.1", [f"{CLIENT}, <script>"], "10.0.0.1", id="nonsense right away"),
        pytest.param("10.0.0.1", [f"{CLIENT}:port"], "10.0.0.1", id="a port that is no number"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="a proxy that forwards nothing"),
        pytest.param(None, [CLIENT], "", id="no peer, nobody to believe"),
        pytest.param("10.0.0.1", [f"{CLIENT}, ,"], CLIENT, id="empty entries are passed over"),
    ],
)
def test_behind_trusted_proxies_the_first_hop_that_is_none_is_the_client(
    peer: str | None, forwarded: list[str], expected: str
) -> None:
    handshake = a_handshake(peer_address=peer, headers={"x-forwarded-for": forwarded})

    assert PROXIES.resolve(handshake) == expected
