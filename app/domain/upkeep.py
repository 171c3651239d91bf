"""The words of the list's upkeep: marks, questions to the gateway, pages, changes, who is present.

No handshake waits for any of it, so ``$connect`` and ``$disconnect`` don't
import it.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NewType, Self

from app.domain.errors import SwitchboardError
from app.domain.model import UNKNOWN_CLIENT, AccountId, ClientId, Connection, ConnectionId, RegionName

LONGEST_CONNECTION = timedelta(hours=2)
"""How long API Gateway lets a WebSocket connection last (its quotas page: 'Connection duration')."""
SLACK = timedelta(minutes=5)
"""How much longer than that a connection is believed to last, since clocks differ."""

# WebSocket APIs came on this day, so an earlier time is none: an unknown one reads as 1970, and so does one
# that somebody wrote in seconds.
_FIRST_DAY = datetime(2018, 12, 18, tzinfo=UTC)
_CLOCKS_DIFFER_BY = timedelta(minutes=1)  # at most; what is further ahead is no time


class InvalidSelection(SwitchboardError):
    """A question about the list that can't be answered as it is asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The mark of a connection that ended before it was recorded; after ``expires_at`` nobody needs it."""

    connection_id: ConnectionId
    connected_at: datetime | None
    closed_at: datetime
    expires_at: datetime


type Entry = Connection | Tombstone
"""What one id has in the store."""


class Answer(Enum):
    """What the gateway says of a connection that it is asked about, or that it is to close."""

    ALIVE = "alive"
    CLOSED = "closed"
    GONE = "gone"
    """Not there; said of one whose handshake is not answered yet, too."""
    THROTTLED = "throttled"
    FORBIDDEN = "forbidden"
    FAILED = "failed"
    """No answer, or none that can be read, or there is no telling where to ask, or no time to."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which connections; ``None`` is any. A region goes with its account.

    Raises:
        InvalidSelection: a region without an account.
    """

    account: AccountId | None = None
    region: RegionName | None = None
    client_id: ClientId | None = None

    def __post_init__(self) -> None:
        if self.region is not None and self.account is None:
            raise InvalidSelection("A region is looked up within an account: name the account too.")

    def holds(self, connection: Connection) -> bool:
        """Whether *connection* is one of them."""
        return (
            self.account in (None, connection.account)
            and self.region in (None, connection.region)
            and self.client_id in (None, connection.client_id)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list, and where the next one begins; ``None`` where this is the last."""

    connections: tuple[Connection, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one id: what it had before and what it has now.

    *expired* where the store itself forgot it, its time being over.
    """

    before: Entry | None
    after: Entry | None
    expired: bool = False


ConnectionRef = NewType("ConnectionRef", str)
"""One connection among all that ever had its id."""

VisitId = NewType("VisitId", str)
"""One visit of a client, from when it has its first connection to when it has none: that first one's ref."""


def began_at(connection: Connection) -> datetime | None:
    """When *connection* began, by the gateway or else by our own clock; ``None`` where neither can be."""
    for began in (connection.connected_at, connection.created_at):
        if began is not None and began >= _FIRST_DAY:
            return began
    return None


def age_of(connection: Connection, now: datetime) -> timedelta | None:
    """How old *connection* is at *now*, negative where clocks differ; ``None`` where nobody knows."""
    began = began_at(connection)
    return None if began is None else now - began


def is_young(connection: Connection, now: datetime, grace: timedelta) -> bool:
    """Whether its handshake may not be answered yet: it began, or was recorded, less than *grace* ago.

    When it began says too little: the gateway takes that time before it asks
    an authorizer, which may take half a minute itself.
    """
    times = (connection.connected_at, connection.created_at)
    return any(at is not None and -_CLOCKS_DIFFER_BY <= now - at < grace for at in times)


def ref_of(connection: Connection) -> ConnectionRef:
    """The id with the time at which it began (epoch milliseconds), by the gateway where that is known."""
    return _ref(connection.id, connection.connected_at or connection.created_at)


def ref_marked(mark: Tombstone) -> ConnectionRef | None:
    """The ref of the connection that *mark* stands for, where it says when that began."""
    return _ref(mark.connection_id, mark.connected_at) if mark.connected_at else None


def parts_of(ref: ConnectionRef) -> tuple[ConnectionId, int]:
    """The id, and when the connection began, in epoch milliseconds."""
    connection_id, _, began = ref.rpartition("@")
    return ConnectionId(connection_id), int(began)


def _is_over(ref: ConnectionRef, by: ConnectionRef) -> bool:
    """Whether the first one must have ended when the second one began, as far as that is known."""
    began, began_then = parts_of(ref)[1], parts_of(by)[1]
    is_known = began >= _FIRST_DAY.timestamp() * 1000
    return is_known and timedelta(milliseconds=began_then - began) > LONGEST_CONNECTION + SLACK


def _ref(connection_id: ConnectionId, began: datetime) -> ConnectionRef:
    return ConnectionRef(f"{connection_id}@{began.timestamp() * 1000:.0f}")


@dataclass(frozen=True, slots=True)
class Client:
    """Who a client says it is."""

    client_id: ClientId
    account: AccountId
    region: RegionName

    @classmethod
    def of(cls, connection: Connection) -> Self | None:
        """The client whose connection it is; ``None`` for one that did not say."""
        if connection.client_id == UNKNOWN_CLIENT:
            return None
        return cls(connection.client_id, connection.account, connection.region)


class Turn(Enum):
    """What a visit begins and ends with."""

    JOINED = "joined"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class VisitEvent:
    """A visit's beginning or end; it may be told more than once, and is the same each time."""

    turn: Turn
    visit: VisitId


MOST_CONNECTIONS = 5_000
"""That one client is known to have: so that its presence is not more than a store can keep."""


@dataclass(frozen=True, slots=True)
class Presence:
    """The connections that a client has, the visit that they make, and what of it has to be told yet.

    There is a visit just as long as there are connections. An event stays in
    ``untold`` until it was told: what is told late is not lost, and what is
    told first is first in it.
    """

    connections: frozenset[ConnectionRef] = frozenset()
    visit: VisitId | None = None
    untold: tuple[VisitEvent, ...] = ()

    def came(self, ref: ConnectionRef) -> Self:
        """With that connection; the first one begins a visit.

        Those that began so long before it that the gateway has ended them are
        gone, whether or not anybody could tell so of them; so is it itself,
        beside one that began so long after it. An id is one connection's at a
        time: another ref of it is the same connection's, by another time. Beyond
        the most that are kept, further ones don't count.
        """
        if over := frozenset(other for other in self.connections if _is_over(other, ref)):
            return self._without(over).came(ref)
        if any(_is_over(ref, other) for other in self.connections):
            return self
        connection_id = parts_of(ref)[0]
        others = frozenset(other for other in self.connections if parts_of(other)[0] != connection_id)
        if len(others) >= MOST_CONNECTIONS:
            return self
        connections = others | {ref}
        if self.visit is not None:
            return replace(self, connections=connections)
        visit = VisitId(ref)
        return replace(
            self, connections=connections, visit=visit, untold=(*self.untold, VisitEvent(Turn.JOINED, visit))
        )

    def went(self, ref: ConnectionRef) -> Self:
        """Without that connection; the last one ends the visit."""
        return self._without(frozenset({ref}))

    def _without(self, refs: frozenset[ConnectionRef]) -> Self:
        connections = self.connections - refs
        if self.visit is None or connections:
            return replace(self, connections=connections)
        return replace(
            self,
            connections=connections,
            visit=None,
            untold=(*self.untold, VisitEvent(Turn.LEFT, self.visit)),
        )

    def told(self, events: Collection[VisitEvent]) -> Self:
        """Now that *events* were told."""
        return replace(self, untold=tuple(event for event in self.untold if event not in events))
