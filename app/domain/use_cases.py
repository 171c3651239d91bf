"""What Switchboard does: open a connection, close a connection."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.model import Closed, Connection, Disconnect, Handshake, Opened, Removed
from app.domain.ports import Clock, ConnectionStore, IpResolver

OPENING_TAKES = timedelta(minutes=2)
"""At most: API Gateway waits up to 29 s for an authorizer and as long for the function; clocks differ."""
MARK_LASTS = timedelta(minutes=10)
"""How long a connection that closed before it was recorded stays marked: five times what an open takes."""


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """Register a client whose handshake the gateway holds open."""

    clock: Clock
    ip_resolver: IpResolver
    store: ConnectionStore
    lifetime: timedelta
    attribute_names: tuple[str, ...] = ()

    def __call__(self, handshake: Handshake) -> Opened:
        """Record the connection; what is returned is in the store.

        Raises:
            InvalidHandshake: the client sent something that can't be recorded.
            AlreadyClosed: the client had left before.
            StorageUnavailable: the store did not confirm in time.
        """
        now = self.clock.now()
        connection = Connection.opened(
            handshake,
            source_ip=self.ip_resolver.resolve(handshake),
            at=now,
            until=now + self.lifetime,
            attribute_names=self.attribute_names,
        )
        stored = self.store.add(connection)
        return Opened(stored, repeated=stored != connection)


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Remove a client that has left; one that is not there is gone already."""

    clock: Clock
    store: ConnectionStore

    def __call__(self, disconnect: Disconnect) -> Closed:
        """Remove the connection and tell what it was.

        Where it is not there and is so young that its open may still be on the
        way, it is marked as closed, so that the open is refused when it comes.

        How long it lasted is reckoned from the gateway's own times where they
        are known, since two clocks may differ, and from ours where not.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """
        now = self.clock.now()
        connected_at = disconnect.connected_at
        removed = self.store.remove(disconnect.connection_id, connected_at)
        if (
            connected_at is not None
            and now - connected_at < OPENING_TAKES
            and not _is_of(connected_at, removed.connection)
        ):
            late = self.store.mark_closed(
                disconnect.connection_id, connected_at=connected_at, closed_at=now, until=now + MARK_LASTS
            )
            found = late.connection or removed.connection
            removed = Removed(found, certain=found is not None or (removed.certain and late.certain))
        began = connected_at
        if removed.connection is not None:
            began = removed.connection.connected_at or began or removed.connection.created_at
        ended = disconnect.disconnected_at or now
        lasted = max(ended - began, timedelta()) if began is not None else None
        return Closed(removed, lasted)


def _is_of(began: datetime, connection: Connection | None) -> bool:
    """Whether *connection* is the one that began then, as far as it is known."""
    return connection is not None and connection.connected_at in (None, began)
