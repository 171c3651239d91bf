"""Which clients are present: a client's connections, the session that they form, and its events."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, NewType, Self

from app.domain.lifecycle import ConnectionRef
from app.domain.model import UNKNOWN_CLIENT, AccountId, ClientId, Connection, RegionName

LEFT_FOR = timedelta(days=1)
"""How long it is known that a connection has left: a table's stream keeps a record for so long.

Source: DynamoDB's developer guide, 'Change data capture for DynamoDB Streams'.
"""

SessionId = NewType("SessionId", str)
"""A client's session, from its first connection to its last: the first connection's id and time.

Published as it is, as ``CONNECTION_ID@EPOCH_MILLISECONDS``.
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Client:
    """Who a client says it is."""

    client_id: ClientId
    account: AccountId
    region: RegionName

    @classmethod
    def of(cls, connection: Connection) -> Self | None:
        """Return the client of *connection*; ``None`` if it did not name itself."""
        if connection.client_id == UNKNOWN_CLIENT:
            return None
        return cls(connection.client_id, connection.account, connection.region)


@dataclass(frozen=True, slots=True)
class Joined:
    """The client opened its first connection. A session's event may be published more than once."""

    client: Client
    session: SessionId


@dataclass(frozen=True, slots=True)
class Left:
    """The client's last connection ended. A session's event may be published more than once."""

    client: Client
    session: SessionId


type PresenceEvent = Joined | Left


class Departure(NamedTuple):
    """A connection that has left, and when that was recorded, in whole seconds."""

    ref: ConnectionRef
    at: datetime


@dataclass(frozen=True, slots=True)
class Presence:
    """A client's session, and those of its connections for which there is room in it.

    It has room for a few connections, so that a change costs the same however many
    the client has. If ``has_further``, there may be further connections, which the
    store keeps one by one. There is a session exactly while there are connections
    or ``has_further``. ``is_ending`` says that no further connection has been
    found. Each change of a stored presence gives it another ``version``.
    """

    client: Client
    connections: frozenset[ConnectionRef] = frozenset()
    session: SessionId | None = None
    departures: frozenset[Departure] = frozenset()
    has_further: bool = False
    is_ending: bool = False
    version: str = field(default="", compare=False)

    @property
    def further_session(self) -> SessionId | None:
        """Its session, if there may be further connections of that."""
        return self.session if self.has_further else None

    def events_since(self, former: "Presence") -> Iterator[PresenceEvent]:
        """Yield what a change from *former* to this presence means, in order."""
        if former.session == self.session:
            return
        if former.session is not None:
            yield Left(self.client, former.session)
        if self.session is not None:
            yield Joined(self.client, self.session)

    def has_left(self, ref: ConnectionRef) -> bool:
        """Return whether *ref*, or a newer connection of its id, is among the departures."""
        return any(
            it.ref.connection_id == ref.connection_id and ref.began_at <= it.ref.began_at
            for it in self.departures
        )

    def must_have_ended(self, ref: ConnectionRef) -> bool:
        """Return whether a later one of its connections shows that *ref* can't be open."""
        return any(ref.must_have_ended_by(other.began_at) for other in self.connections)

    def connected(self, ref: ConnectionRef, room: int) -> Self:
        """Return it with the connection *ref*, if it has *room*; the first one begins a session.

        Without room, ``has_further`` is set, and the store has to add *ref*.
        Connections that must have ended before *ref* began are dropped, and so
        is *ref* if a later one shows that it must have ended, or if it has left.
        An id has one connection at a time, so *ref* replaces any other ref of its id.
        """
        if self.has_left(ref):
            return self
        open_ = frozenset(it for it in self.connections if not it.must_have_ended_by(ref.began_at))
        if len(open_) < len(self.connections):
            return self._with(open_).connected(ref, room)
        others = frozenset(it for it in self.connections if it.connection_id != ref.connection_id)
        if self.must_have_ended(ref):
            return self
        if len(others) == len(self.connections) and (self.has_further or len(others) >= room):
            return replace(self, has_further=True)
        return replace(self, connections=others | {ref}, session=self.session or _session(ref))

    def disconnected(self, ref: ConnectionRef, at: datetime, room: int) -> Self:
        """Return it without *ref*, which departs *at* a time, if it has *room* for a departure.

        Without room, or if it ``has_further``, it is unchanged: mark *ref* as left in
        the store, and then take it ``without`` *ref*.
        """
        if self.has_left(ref):
            return self
        departures = frozenset(
            it
            for it in self.departures
            if at - it.at < LEFT_FOR and it.ref.connection_id != ref.connection_id
        )
        if self.has_further or len(departures) >= room:
            return self
        return replace(self.without(ref), departures=departures | {Departure(ref, at)})

    def without(self, ref: ConnectionRef) -> Self:
        """Return it without *ref*; the last connection ends the session, unless it ``has_further``."""
        return self._with(self.connections - {ref})

    def ending(self, session: SessionId) -> Self:
        """Return it with its *session* about to end, unless that has connections in it."""
        if self.session != session or self.connections:
            return self
        return replace(self, is_ending=True)

    def continued(self) -> Self:
        """Return it with its session not about to end: a further connection has been added."""
        return replace(self, is_ending=False)

    def ended(self) -> Self:
        """Return it without the session, which has no further connection."""
        return replace(self, session=None, has_further=False, is_ending=False)

    def _with(self, connections: frozenset[ConnectionRef]) -> Self:
        session = self.session if connections or self.has_further else None
        return replace(self, connections=connections, session=session)


def _session(first: ConnectionRef) -> SessionId:
    return SessionId(f"{first.connection_id}@{(first.began_at - _EPOCH) // timedelta(milliseconds=1)}")
