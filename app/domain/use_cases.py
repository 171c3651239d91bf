"""What Switchboard does: open a connection, close a connection."""

from dataclasses import dataclass
from datetime import timedelta

from app.domain.model import Closed, Connection, Disconnect, Handshake, Opened
from app.domain.ports import Clock, ConnectionStore, IpResolver


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

        How long it lasted is reckoned from the gateway's own times where they
        are known, since two clocks may differ, and from ours where not.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """
        removed = self.store.remove(disconnect.connection_id)
        began = disconnect.connected_at
        if removed.connection is not None:
            began = removed.connection.connected_at or began or removed.connection.created_at
        ended = disconnect.disconnected_at or self.clock.now()
        lasted = max(ended - began, timedelta()) if began is not None else None
        return Closed(removed, lasted)
