"""Which clients are present: a client's connections, its session, and the events to publish."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NewType, Self

from app.domain.lifecycle import ConnectionRef
from app.domain.model import UNKNOWN_CLIENT, AccountId, ClientId, Connection, RegionName

MAX_CONNECTIONS = 5_000
"""Connections kept per client, so that a presence fits into one item of the store. More are not counted."""

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


@dataclass(frozen=True, slots=True)
class Presence:
    """A client's connections, the session that they form, and its outbox.

    There is a session exactly while there are connections. The outbox holds
    the events that are recorded and not yet published, oldest first.
    """

    client: Client
    connections: frozenset[ConnectionRef] = frozenset()
    session: SessionId | None = None
    outbox: tuple[PresenceEvent, ...] = ()

    def is_empty(self) -> bool:
        """Return whether there is nothing to keep of it."""
        return not (self.connections or self.session or self.outbox)

    def connected(self, ref: ConnectionRef) -> Self:
        """Return it with the connection *ref*; the first one begins a session.

        Connections that must have ended before *ref* began are dropped, and so
        is *ref* if a later one shows that it must have ended. An id has one
        connection at a time, so *ref* replaces any other ref of its id. Above
        MAX_CONNECTIONS it is not counted.
        """
        ended = frozenset(other for other in self.connections if other.must_have_ended_by(ref.began_at))
        if ended:
            return self._without(ended).connected(ref)
        if any(ref.must_have_ended_by(other.began_at) for other in self.connections):
            return self
        others = frozenset(other for other in self.connections if other.connection_id != ref.connection_id)
        if len(others) >= MAX_CONNECTIONS:
            return self
        connections = others | {ref}
        if self.session is not None:
            return replace(self, connections=connections)
        session = _session(ref)
        return replace(
            self,
            connections=connections,
            session=session,
            outbox=(*self.outbox, Joined(self.client, session)),
        )

    def disconnected(self, ref: ConnectionRef) -> Self:
        """Return it without the connection *ref*; the last one ends the session."""
        return self._without(frozenset({ref}))

    def _without(self, refs: frozenset[ConnectionRef]) -> Self:
        connections = self.connections - refs
        if self.session is None or connections:
            return replace(self, connections=connections)
        return replace(
            self,
            connections=connections,
            session=None,
            outbox=(*self.outbox, Left(self.client, self.session)),
        )

    def mark_published(self, events: Collection[PresenceEvent]) -> Self:
        """Return it with *events* taken out of the outbox."""
        return replace(self, outbox=tuple(event for event in self.outbox if event not in events))


def _session(first: ConnectionRef) -> SessionId:
    return SessionId(f"{first.connection_id}@{(first.began_at - _EPOCH) // timedelta(milliseconds=1)}")
