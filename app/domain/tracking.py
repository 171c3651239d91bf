"""What follows from a change of the table: presence events, expired and duplicate connections."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from app.domain.events import Expired, NotReplaced, Replaced, Revived
from app.domain.history import CatchUp
from app.domain.lifecycle import ConnectionRef, ProbeResult
from app.domain.model import Connection, Entry, Tombstone, is_older
from app.domain.operations import EvictConnection
from app.domain.ports import (
    CatchUps,
    Clock,
    ConnectionTable,
    EventPublisher,
    WorkerPool,
)
from app.domain.presence import Client, Presence
from app.domain.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one entry: what the id had before, and what it has now.

    ``expired`` is true if the store itself deleted the entry after its
    ``expires_at``.
    """

    before: Entry | None
    after: Entry | None
    expired: bool = False


@dataclass(frozen=True, slots=True)
class TrackPresence:
    """Update presence from the table's changes, and do what follows.

    Idempotent under ordered, at-least-once delivery: the changes of one id
    come in order, those of different ids in any order, and a change may come
    again, together with all later ones of its id. No event is lost, and no
    session begins or ends twice. If an item was changed in place, an event of
    its session may be published again.

    ``connections_per_client``: a client that has more connections has its oldest
    ones closed; ``None`` for any number. A client that comes back, and says what it
    has, is put into ``catch_ups``; ``None`` if no history is kept.
    """

    table: ConnectionTable
    sessions: Sessions
    publisher: EventPublisher
    evict: EvictConnection
    clock: Clock
    workers: WorkerPool
    connections_per_client: int | None = None
    catch_ups: CatchUps | None = None

    def __call__(self, change: Change, *, until: datetime) -> None:
        """Process *change*; from *until* on no connection is closed.

        Raises:
            EventsUnavailable: the bus did not take an event; the change has to come again.
            QueueUnavailable: the queue did not take a client that comes back; likewise.
            StorageUnavailable: a store did not confirm in time; likewise.
        """
        if isinstance(change.after, Tombstone):
            self._closed_early(change.after)
        before, after = _connection(change.before), _connection(change.after)
        if before is not None and after is not None and not _is_newer(after, before):
            self.sessions.move(Client.of(before), ConnectionRef.of(before), ConnectionRef.of(after))
            return
        if before is not None:
            self._disconnected(before, expired=change.expired)
        if after is not None:
            self._connected(after, until)

    def _closed_early(self, tombstone: Tombstone) -> None:
        """Record that the connection has left, in case it is still recorded later.

        Its tombstone may be gone by then: a newer connection may have had the
        id, and closed. Its client is not known from the tombstone.
        """
        if ref := ConnectionRef.of_tombstone(tombstone):
            self.sessions.disconnect(None, ref)

    def _disconnected(self, connection: Connection, *, expired: bool) -> None:
        client, ref = Client.of(connection), ConnectionRef.of(connection)
        if expired and not self.sessions.has_left(client, ref):
            self.publisher.publish(Expired(connection))
        self.sessions.disconnect(client, ref)

    def _connected(self, connection: Connection, until: datetime) -> None:
        client, ref = Client.of(connection), ConnectionRef.of(connection)
        if not self.sessions.connect(client, ref):
            self._delete_revived(connection)
            return
        if connection.since is not None and self.catch_ups is not None:
            self.catch_ups.put(CatchUp(ref, connection.since))
        if client is not None and self.connections_per_client is not None:
            self._replace_oldest(client, self.connections_per_client, until)

    def _delete_revived(self, connection: Connection) -> None:
        """Delete a connection that has left if a late write brought it back, and not a repeated change."""
        if self.table.get(connection.id) == connection:
            self.publisher.publish(Revived(connection))
            self.table.delete_exact(connection)

    def _replace_oldest(self, client: Client, kept: int, until: datetime) -> None:
        """Evict all of the client's connections but the newest ones, of which so many are *kept*.

        The refs come from the presence and not from an index: of two
        connections that open at once, the later one's presence has both.
        """
        oldest = sorted(self.sessions.connections(client), key=_by_age)[:-kept]
        replacing = [self.workers.start(partial(self._replace, client, ref, until)) for ref in oldest]
        for replaced in replacing:
            replaced.result()

    def _replace(self, client: Client, ref: ConnectionRef, until: datetime) -> None:
        connection = self.table.get(ref.connection_id)
        if connection is None or ConnectionRef.of(connection) != ref or Client.of(connection) != client:
            return
        if self.clock.now() >= until:
            self.publisher.publish(NotReplaced(connection, ProbeResult.FAILED))
            return
        eviction = self.evict.close(connection)
        if eviction.ended:
            self.publisher.publish(Replaced(connection, eviction.result))  # first: repeated rather than lost
            self.table.delete_exact(connection)
        else:
            self.publisher.publish(NotReplaced(connection, eviction.result))


@dataclass(frozen=True, slots=True)
class PublishPresence:
    """Publish the presence events that follow from a change of a client's presence.

    The store's own stream has each change of a client in order, at least once:
    so no event is lost, they come in order, and a repeated one has the same session.
    """

    publisher: EventPublisher

    def __call__(self, before: Presence, after: Presence) -> None:
        """Publish what the change from *before* to *after* means.

        Raises:
            EventsUnavailable: the bus did not take an event; the change has to come again.
        """
        for event in after.events_since(before):
            self.publisher.publish(event)


def _connection(entry: Entry | None) -> Connection | None:
    return entry if isinstance(entry, Connection) else None


def _is_newer(after: Connection, before: Connection) -> bool:
    """Return whether *after* is another connection: its time is later. Unknown or earlier: the same one."""
    return is_older(before.connected_at, after.connected_at)


def _by_age(ref: ConnectionRef) -> tuple[datetime, ConnectionRef]:
    return ref.began_at, ref
