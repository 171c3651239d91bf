"""The rules for the values of a handshake, and networks."""

from datetime import timedelta

import pytest

from app.domain.errors import InvalidHandshake
from app.domain.model import Connection, Handshake, Network, clean, connection_id
from tests.builders import NOON, a_handshake


def opened(handshake: Handshake, *attribute_names: str) -> Connection:
    return Connection.opened(
        handshake,
        source_ip="203.0.113.24",
        at=NOON,
        until=NOON + timedelta(hours=24),
        attribute_names=attribute_names,
    )


def test_a_handshake_without_parameters_has_the_defaults() -> None:
    connection = opened(a_handshake(query={}))

    assert (connection.client_id, connection.account, connection.region) == ("unknown", "", "")
    assert connection.user_agent is None
    assert connection.attributes == {}


@pytest.mark.parametrize("client_id", ["x", "x" * 128, "관제 대시보드 7", "a b", "🛰"])
def test_a_client_id_may_be_any_printable_text(client_id: str) -> None:
    assert opened(a_handshake(query={"clientId": client_id})).client_id == client_id


@pytest.mark.parametrize("client_id", ["x" * 129, "a\nb", "\x00", "a\x7f", "\x85", "\ud800"])
def test_a_client_id_is_at_most_128_characters_without_control_characters(client_id: str) -> None:
    with pytest.raises(InvalidHandshake, match="^clientId must be 1 to 128") as refusal:
        opened(a_handshake(query={"clientId": client_id}))

    assert refusal.value.field == "clientId"
    assert client_id not in str(refusal.value)


@pytest.mark.parametrize(
    "account", ["1", "1234567890123", "12345678901a", "１２３４５６７８９０１２", "-" * 12]
)
def test_an_account_that_is_not_twelve_digits_is_refused(account: str) -> None:
    with pytest.raises(InvalidHandshake, match="^account must be") as refusal:
        opened(a_handshake(query={"account": account}))

    assert account not in str(refusal.value).split()


@pytest.mark.parametrize(
    "region",
    [
        "ap-northeast-2",
        "us-gov-west-1",
        "us-isob-east-1",
        "mx-central-1",
        "eusc-de-east-1",
        "eu-isoe-west-1",
        "cn-northwest-1",
        "us-east-10",
    ],
)
def test_a_region_of_any_partition_is_accepted(region: str) -> None:
    assert opened(a_handshake(query={"region": region})).region == region


@pytest.mark.parametrize(
    "region",
    ["EU-west-1", "eu", "eu-west", "eu-west-", "eu_west_1", "eu-west-1a", "eu-west-1\n", "-", "eu-west-١"],
)
def test_a_text_without_the_shape_of_a_region_is_refused(region: str) -> None:
    with pytest.raises(InvalidHandshake, match="^region must be") as refusal:
        opened(a_handshake(query={"region": region}))

    assert refusal.value.field == "region"


@pytest.mark.parametrize("since", ["m-41", "@1764412345678", "@now", "x" * 128, "a/b é 🛰"])
def test_what_a_client_that_comes_back_has_is_kept_as_it_says_it(since: str) -> None:
    assert opened(a_handshake(query={"since": since})).since == since


def test_a_client_that_does_not_say_what_it_has_has_nothing_to_be_caught_up_with() -> None:
    assert opened(a_handshake(query={"clientId": "wall-3"})).since is None


@pytest.mark.parametrize("since", ["", "x" * 129, "a\nb", "\x00", "a\x7f", "\x85", "\ud800"])
def test_what_a_client_has_is_at_most_128_characters_without_control_characters(since: str) -> None:
    with pytest.raises(InvalidHandshake, match="^since must be 1 to 128") as refusal:
        opened(a_handshake(query={"since": since}))

    assert refusal.value.field == "since"
    assert not since or since not in str(refusal.value)


def test_a_long_user_agent_is_cut_not_refused() -> None:
    assert opened(a_handshake(user_agent="x" * 600)).user_agent == "x" * 512


def test_only_the_listed_parameters_become_attributes() -> None:
    query = {"clientId": "c", "appVersion": "2.7", "token": "secret"}

    connection = opened(a_handshake(query=query), "fingerprint", "appVersion")

    assert connection.attributes == {"appVersion": "2.7"}


@pytest.mark.parametrize("value", ["x" * 257, "a\tb"])
def test_an_attribute_that_is_too_long_or_has_control_characters_is_refused(value: str) -> None:
    with pytest.raises(InvalidHandshake, match="^fingerprint must be at most 256") as refusal:
        opened(a_handshake(query={"fingerprint": value}), "fingerprint")

    assert refusal.value.field == "fingerprint"


def test_an_attribute_of_256_characters_is_kept_whole() -> None:
    connection = opened(a_handshake(query={"fingerprint": "x" * 256}), "fingerprint")

    assert connection.attributes == {"fingerprint": "x" * 256}


def test_a_connection_expires_at_a_whole_second() -> None:
    connection = Connection.opened(
        a_handshake(),
        source_ip="",
        at=NOON + timedelta(milliseconds=999),
        until=NOON + timedelta(hours=24, milliseconds=999),
    )

    assert connection.created_at == NOON + timedelta(milliseconds=999)
    assert connection.expires_at == NOON + timedelta(hours=24)


@pytest.mark.parametrize("text", ["", "x" * 129, "a\x00b"])
def test_a_connection_id_that_no_gateway_gives_is_refused(text: str) -> None:
    with pytest.raises(InvalidHandshake, match="^connectionId must be"):
        connection_id(text)


@pytest.mark.parametrize(
    ("text", "cleaned"), [(None, None), ("", None), ("\x00", None), ("a\x00b\ud800", "ab")]
)
def test_cleaning_removes_what_can_not_be_stored(text: str | None, cleaned: str | None) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("address", "is_contained"),
    [
        (bytes([10, 0, 0, 0]), True),
        (bytes([10, 127, 255, 255]), True),
        (bytes([10, 128, 0, 0]), False),
        (bytes([11, 0, 0, 0]), False),
        (bytes([10, 0, 0, 0]) + bytes(12), False),
    ],
    ids=["its first address", "its last address", "the next address", "another", "an IPv6 address"],
)
def test_a_network_contains_the_addresses_with_its_prefix(address: bytes, *, is_contained: bool) -> None:
    assert Network(bytes([10, 0, 0, 0]), 9).contains(address) is is_contained


def test_a_handshakes_query_and_headers_are_in_no_repr() -> None:
    handshake = a_handshake(query={"ticket": "a-secret"}, headers={"authorization": ["Bearer a-secret"]})

    assert repr(handshake) == "Handshake('c-1')"
    assert "a-secret" not in f"{handshake} {handshake!r}"
