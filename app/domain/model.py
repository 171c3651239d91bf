"""The domain's values: handshakes, connections, tombstones, and the rules for what a client may send.

Times are aware, in UTC, and in whole milliseconds; ``expires_at`` is in whole seconds.

The values are NamedTuples, since every cold start pays for the definitions: a
dataclass takes six times as long, and the import of dataclasses 8 ms.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, NewType, Self

from app.domain.errors import InvalidHandshake

ConnectionId = NewType("ConnectionId", str)
ClientId = NewType("ClientId", str)
AccountId = NewType("AccountId", str)
RegionName = NewType("RegionName", str)

UNKNOWN_CLIENT = ClientId("unknown")

PROTOCOL = "switchboard"
"""Our subprotocol. It is accepted if a client offers it; a browser offers its token after it."""

MAX_NAME = 128
"""Characters in a connection id or a client id."""
MAX_USER_AGENT = 512
"""Characters kept of a user agent; a longer one is cut, since a client does not choose its browser's."""
MAX_ATTRIBUTES = 8
MAX_ATTRIBUTE = 256
"""Characters in one attribute; a longer one is refused, since a truncated fingerprint is another one."""

# C0, DEL and C1 controls, and lone surrogates, which JSON can carry and UTF-8 can't. Compiled on first use:
# printable text, which is the rule, never gets here.
_CONTROL = r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
_ACCOUNT_DIGITS = 12
# The shape only, since AWS adds regions: ap-northeast-2, us-gov-west-1, us-isob-east-1, eusc-de-east-1.
ORIGIN = r"([a-z][a-z0-9+.-]*)://(?:(\*\.)?([a-z0-9_-][a-z0-9._-]*)|(\[[0-9a-f:.]+\]))(?::([0-9]{1,5}))?"
"""The pattern of an origin, or of its subdomains: scheme, ``*.``, name or address, port (RFC 6454)."""
LAST_PORT = 65535
REGION = re.compile(r"[a-z]{2,8}(-[a-z]{2,16}){1,3}-[0-9]{1,2}")


_EMPTY: Mapping[str, Any] = {}


class Network(NamedTuple):
    """An IP network: its packed address (4 or 16 bytes), and the number of leading bits that identify it."""

    address: bytes
    prefix_length: int

    def contains(self, address: bytes) -> bool:
        """Return whether the packed *address* belongs to it; false for the other IP version."""
        host_bits = len(self.address) * 8 - self.prefix_length
        return len(address) == len(self.address) and (
            int.from_bytes(address) >> host_bits == int.from_bytes(self.address) >> host_bits
        )


class Handshake(NamedTuple):
    """A client's request to connect, as the gateway describes it.

    ``query`` has no empty values. ``headers`` maps lower-case names to all values
    in order. ``None`` means that the gateway did not say. ``admitted_until`` is
    known once it is admitted, and ``None`` if nothing limits the admission.
    """

    connection_id: ConnectionId
    query: Mapping[str, str] = _EMPTY
    headers: Mapping[str, Sequence[str]] = _EMPTY
    peer_address: str | None = None
    user_agent: str | None = None
    connected_at: datetime | None = None
    api_id: str | None = None
    domain_name: str | None = None
    stage: str | None = None
    principal_id: str | None = None
    admitted_until: datetime | None = None

    def __repr__(self) -> str:
        """Leave out the query and the headers: they may have a token."""
        return f"Handshake({self.connection_id!r})"

    def offered_protocols(self) -> list[str]:
        """Return the subprotocols that the client offers (RFC 6455, 11.3.4)."""
        offers = ",".join(self.headers.get("sec-websocket-protocol", ()))
        return [name for offer in offers.split(",") if (name := offer.strip())] if offers else []


class Connection(NamedTuple):
    """An open connection, as the store keeps it.

    ``created_at`` is when it was recorded, ``connected_at`` when the gateway
    accepted it. After ``expires_at`` the store may delete it by itself. After
    ``admitted_until``, if that is known, its admission is over. ``since`` is what a
    client that comes back says it has: its last message, or a position in the history.
    """

    id: ConnectionId
    client_id: ClientId
    account: AccountId
    region: RegionName
    source_ip: str
    created_at: datetime
    expires_at: datetime
    user_agent: str | None = None
    connected_at: datetime | None = None
    api_id: str | None = None
    domain_name: str | None = None
    stage: str | None = None
    principal_id: str | None = None
    attributes: Mapping[str, str] = _EMPTY
    admitted_until: datetime | None = None
    since: str | None = None

    @classmethod
    def opened(
        cls,
        handshake: Handshake,
        *,
        source_ip: str,
        at: datetime,
        until: datetime,
        attribute_names: Sequence[str] = (),
    ) -> Self:
        """Return the connection for *handshake*, recorded *at* a time and valid *until* another.

        Query parameters listed in *attribute_names* are kept as attributes.

        Raises:
            InvalidHandshake: a query parameter breaks its rule.
        """
        query = handshake.query
        return cls(
            id=handshake.connection_id,
            client_id=client_id(query.get("clientId", UNKNOWN_CLIENT)),
            account=account_id(query.get("account", "")),
            region=region_name(query.get("region", "")),
            source_ip=source_ip,
            created_at=at,
            expires_at=until.replace(microsecond=0),
            user_agent=clean(handshake.user_agent, MAX_USER_AGENT),
            connected_at=handshake.connected_at,
            api_id=clean(handshake.api_id),
            domain_name=clean(handshake.domain_name),
            stage=clean(handshake.stage),
            principal_id=clean(handshake.principal_id),
            attributes={name: _attribute(name, query[name]) for name in attribute_names if name in query},
            admitted_until=handshake.admitted_until,
            since=_name("since", query["since"]) if "since" in query else None,
        )


class Tombstone(NamedTuple):
    """A connection that closed before it was recorded: it is not to be added any more.

    ``connected_at`` is ``None`` only if another program wrote it. After
    ``expires_at`` it is not needed.
    """

    connection_id: ConnectionId
    connected_at: datetime | None
    closed_at: datetime
    expires_at: datetime


type Entry = Connection | Tombstone
"""What the store has under one id."""


class Disconnect(NamedTuple):
    """A client that left, as the gateway describes it; ``None`` means that it did not say.

    ``status_code`` is the WebSocket close code (RFC 6455, 7.4). It does not give
    the cause: 1001 comes from a closed tab and from the idle time-out.
    """

    connection_id: ConnectionId
    connected_at: datetime | None = None
    disconnected_at: datetime | None = None
    status_code: int | None = None
    reason: str | None = None


class Opened(NamedTuple):
    """The connection in the store; ``repeated`` if an earlier delivery of the same event had added it."""

    connection: Connection
    repeated: bool


class Removed(NamedTuple):
    """The connection that was deleted; ``None`` if there was none.

    ``outcome_unknown`` is true if none was found, but an earlier attempt of the
    same call was sent and not answered: it may have deleted one. An adapter that
    makes one attempt leaves it false.
    """

    connection: Connection | None
    outcome_unknown: bool = False


class Closed(NamedTuple):
    """What a disconnect deleted, and the connection's duration if it is known."""

    removed: Removed
    duration: timedelta | None


def connection_id(text: str) -> ConnectionId:
    """Return *text* as a connection id.

    Raises:
        InvalidHandshake: no gateway gives such an id.
    """
    return ConnectionId(_name("connectionId", text))


def client_id(text: str) -> ClientId:
    """Return *text* as a client id.

    Raises:
        InvalidHandshake: it is empty, too long, or has control characters.
    """
    return ClientId(_name("clientId", text))


def account_id(text: str) -> AccountId:
    """Return *text* as an AWS account id; empty means none.

    Raises:
        InvalidHandshake: it is neither empty nor 12 digits.
    """
    if text and not (len(text) == _ACCOUNT_DIGITS and text.isascii() and text.isdigit()):
        raise InvalidHandshake("account", f"must be empty or an AWS account id of {_ACCOUNT_DIGITS} digits")
    return AccountId(text)


def region_name(text: str) -> RegionName:
    """Return *text* as the name of an AWS region; empty means none.

    Raises:
        InvalidHandshake: it does not have the shape of one.
    """
    if text and not REGION.fullmatch(text):
        raise InvalidHandshake("region", "must be empty or the name of an AWS region")
    return RegionName(text)


def is_older(one: datetime | None, other: datetime | None) -> bool:
    """Return whether *one* is before *other*; false if either is unknown."""
    return one is not None and other is not None and one < other


def clean(text: str | None, limit: int | None = None) -> str | None:
    """Return *text* without control characters, cut to *limit* characters; ``None`` if nothing is left."""
    if text is not None and not text.isprintable():
        text = re.sub(_CONTROL, "", text)
    return text[:limit] or None if text else None


def _has_controls(text: str) -> bool:
    return not text.isprintable() and re.search(_CONTROL, text) is not None


def _name(field_name: str, value: str) -> str:
    if not 1 <= len(value) <= MAX_NAME or _has_controls(value):
        raise InvalidHandshake(field_name, f"must be 1 to {MAX_NAME} characters without control characters")
    return value


def _attribute(name: str, value: str) -> str:
    if len(value) > MAX_ATTRIBUTE or _has_controls(value):
        raise InvalidHandshake(name, f"must be at most {MAX_ATTRIBUTE} characters without control characters")
    return value
