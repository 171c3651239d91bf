"""The words of the domain, and their value rules."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NewType, Self

from app.domain.errors import InvalidHandshake

ConnectionId = NewType("ConnectionId", str)
ClientId = NewType("ClientId", str)
AccountId = NewType("AccountId", str)
RegionName = NewType("RegionName", str)

UNKNOWN_CLIENT = ClientId("unknown")

MAX_NAME = 128
"""Characters in a connection id or a client id."""
MAX_USER_AGENT = 512
"""Characters kept of a user agent; longer ones are cut, for no client chooses its browser's."""
MAX_ATTRIBUTES = 8
MAX_ATTRIBUTE = 256
"""Characters in one attribute; a longer one is refused, for a cut fingerprint is another fingerprint."""

# C0, DEL and C1 controls, and lone surrogates, which JSON can carry and UTF-8 cannot. Most text is printable
# and never looked at with it, so it is compiled only when it is needed.
_CONTROL = r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
_ACCOUNT_DIGITS = 12
# By shape, since AWS adds regions every year: ap-northeast-2, us-gov-west-1, us-isob-east-1, eusc-de-east-1.
REGION = re.compile(r"[a-z]{2,8}(-[a-z]{2,16}){1,3}-[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class Handshake:
    """What the gateway tells of a client that wants in.

    ``query`` holds what the client gave, empty values left out. ``headers``
    has lower-case names, each with all its values in the order they came.
    ``None`` is what the gateway did not tell.
    """

    connection_id: ConnectionId
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    peer_address: str | None = None
    user_agent: str | None = None
    connected_at: datetime | None = None
    api_id: str | None = None
    domain_name: str | None = None
    stage: str | None = None
    principal_id: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """What the registry keeps of an open connection.

    ``created_at`` is when it was recorded, ``connected_at`` when the gateway
    took it on; both count in whole milliseconds. After ``expires_at``, in
    whole seconds, the store may forget it unasked.
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
    attributes: Mapping[str, str] = field(default_factory=dict)

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
        """The connection that *handshake* asks for.

        Of the query's other parameters it keeps those in *attribute_names*.

        Raises:
            InvalidHandshake: a value that the client sent breaks its rule.
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
        )


@dataclass(frozen=True, slots=True)
class Disconnect:
    """What the gateway tells of a client that left; ``None`` is what it did not tell.

    ``status_code`` is the WebSocket close code (RFC 6455, 7.4). It does not
    tell the cause: 1001 comes from a closed tab and from the idle time-out.
    """

    connection_id: ConnectionId
    connected_at: datetime | None = None
    disconnected_at: datetime | None = None
    status_code: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """What an open left in the store; *repeated* where it had been there before, from an earlier delivery."""

    connection: Connection
    repeated: bool


@dataclass(frozen=True, slots=True)
class Removed:
    """What a store forgot; ``None`` where it found nothing.

    *certain* is false where it found nothing, but an earlier attempt of the
    same call, of which no word came back, may have.
    """

    connection: Connection | None
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Closed:
    """What a close removed, and how long that had lasted, as far as it is known."""

    removed: Removed
    lasted: timedelta | None


def connection_id(text: str) -> ConnectionId:
    """The id that *text* is.

    Raises:
        InvalidHandshake: no gateway gives such an id.
    """
    return ConnectionId(_name("connectionId", text))


def client_id(text: str) -> ClientId:
    """The name of a client that *text* is.

    Raises:
        InvalidHandshake: no handshake is recorded with it.
    """
    return ClientId(_name("clientId", text))


def account_id(text: str) -> AccountId:
    """The account that *text* is, or none where it is empty.

    Raises:
        InvalidHandshake: no handshake is recorded with it.
    """
    if text and not (len(text) == _ACCOUNT_DIGITS and text.isascii() and text.isdigit()):
        raise InvalidHandshake("account", f"must be empty or an AWS account id of {_ACCOUNT_DIGITS} digits")
    return AccountId(text)


def region_name(text: str) -> RegionName:
    """The region that *text* is, or none where it is empty.

    Raises:
        InvalidHandshake: no handshake is recorded with it.
    """
    if text and not REGION.fullmatch(text):
        raise InvalidHandshake("region", "must be empty or the name of an AWS region")
    return RegionName(text)


def is_older(one: datetime | None, other: datetime | None) -> bool:
    """Whether *one* is the older, as far as both are known."""
    return one is not None and other is not None and one < other


def clean(text: str | None, limit: int | None = None) -> str | None:
    """*text* without control characters, at most *limit* characters of it; ``None`` where nothing is left."""
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
