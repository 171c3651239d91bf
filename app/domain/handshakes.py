"""The use cases of a handshake: open a connection, close a connection."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from app.domain.errors import Denied
from app.domain.model import Closed, Connection, Disconnect, Handshake, Opened, Removed, Tombstone

if TYPE_CHECKING:  # a start does not wait for their definitions
    from app.domain.ports import Admission, Clock, ConnectionStore, IpResolver

MAX_HANDSHAKE = timedelta(minutes=2)
"""Longer than any handshake: API Gateway allows 29 s for an authorizer and 29 s for the function."""
TOMBSTONE_TTL = timedelta(minutes=10)
"""How long a tombstone is kept: five times MAX_HANDSHAKE."""


class OpenAdmission:
    """Admission of everybody: who may come in was decided before, or nobody decides."""

    def admit(self, handshake: Handshake, at: datetime) -> Handshake:  # noqa: ARG002 - the port's
        return handshake


class OpenConnection:
    """Record a client whose handshake is pending."""

    def __init__(  # noqa: PLR0913 - the parts of the work
        self,
        clock: "Clock",
        ip_resolver: "IpResolver",
        admission: "Admission",
        store: "ConnectionStore",
        *,
        lifetime: timedelta,
        attribute_names: tuple[str, ...] = (),
    ) -> None:
        self._clock = clock
        self._ip_resolver = ip_resolver
        self._admission = admission
        self._store = store
        self._lifetime = lifetime
        self._attribute_names = attribute_names

    def __call__(self, handshake: Handshake) -> Opened:
        """Record the connection and return what is stored.

        Raises:
            Denied: the client may not come in.
            KeysUnavailable: there are no keys to check its token with.
            InvalidHandshake: a query parameter breaks its rule.
            AlreadyClosed: the client left before it was recorded.
            StorageUnavailable: the store did not confirm in time.
        """
        now = self._clock.now()
        source_ip = self._ip_resolver.resolve(handshake)
        try:
            admitted = self._admission.admit(handshake, now)
        except Denied as denied:
            denied.source_ip = source_ip
            raise
        connection = Connection.opened(
            admitted,
            source_ip=source_ip,
            at=now,
            until=now + self._lifetime,
            attribute_names=self._attribute_names,
        )
        stored = self._store.add(connection)
        return Opened(stored, repeated=stored != connection)


class CloseConnection:
    """Remove a client that has left. Idempotent."""

    def __init__(self, clock: "Clock", store: "ConnectionStore") -> None:
        self._clock = clock
        self._store = store

    def __call__(self, disconnect: Disconnect) -> Closed:
        """Remove the connection and return it with its duration.

        Not found and under two minutes old: a tombstone is written, so that a
        delayed ``$connect`` is refused.

        The duration is the difference of the gateway's own times if both are
        known. Otherwise our clock stands in for the missing one.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """
        now = self._clock.now()
        began_at = disconnect.connected_at
        removed = self._store.remove(disconnect.connection_id, began_at)
        if (
            began_at is not None
            and now - began_at < MAX_HANDSHAKE
            and not _is_of(began_at, removed.connection)
        ):
            tombstone = Tombstone(
                disconnect.connection_id,
                connected_at=began_at,
                closed_at=now,
                expires_at=(now + TOMBSTONE_TTL).replace(microsecond=0),
            )
            removed = _combined(removed, self._store.tombstone(tombstone))
        if removed.connection is not None:
            began_at = removed.connection.connected_at or began_at or removed.connection.created_at
        ended_at = disconnect.disconnected_at or now
        duration = max(ended_at - began_at, timedelta()) if began_at is not None else None
        return Closed(removed, duration)


def _is_of(began_at: datetime, connection: Connection | None) -> bool:
    """Return whether *connection* is the one that began then, as far as that is known."""
    return connection is not None and connection.connected_at in (None, began_at)


def _combined(first: Removed, second: Removed) -> Removed:
    """Return what two writes deleted together; the second one's connection is the newer."""
    connection = second.connection or first.connection
    unknown = connection is None and (first.outcome_unknown or second.outcome_unknown)
    return Removed(connection, outcome_unknown=unknown)
