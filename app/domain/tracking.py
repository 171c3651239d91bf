"""What follows from a change of the table: presence events, expired and duplicate connections."""

from collections.abc import Callable
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
    PresenceStore,
    WorkerPool,
)
from app.domain.presence import Client, Presence


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
    """Update presence from the table's changes, and publish what follows.

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
    presence: PresenceStore
    publisher: EventPublisher
    evict: EvictConnection
    clock: Clock
    workers: WorkerPool
    connections_per_client: int | None = None
    catch_ups: CatchUps | None = None

    def __call__(self, change: Change, *, until: datetime) -> None:
        """Process *change*; from *until* on no connection is closed.

        Raises:
            QueueUnavailable: the queue did not take a client that comes back; the change has to come again.
            StorageUnavailable: a store did not confirm in time; likewise.
        """
        if isinstance(change.after, Tombstone):
            self._closed_early(change.after)
        before, after = _connection(change.before), _connection(change.after)
        if before is not None and after is not None and not _is_newer(after, before):
            self._changed_in_place(before, after)
            return
        if before is not None:
            self._disconnected(before, expired=change.expired)
        if after is not None:
            self._connected(after, until)

    def _closed_early(self, tombstone: Tombstone) -> None:
        """Record that the connection has left, in case it is still recorded later.

        Its tombstone may be gone by then: a newer connection may have had the
        id, and closed.
        """
        if ref := ConnectionRef.of_tombstone(tombstone):
            self.presence.mark_left(ref)

    def _disconnected(self, connection: Connection, *, expired: bool) -> None:
        ref = ConnectionRef.of(connection)
        if expired and not self.presence.has_left(ref):
            self.publisher.publish(Expired(connection))
        self.presence.mark_left(ref)  # first, or a repeated change before this one would begin a session
        if client := Client.of(connection):
            self._update(client, lambda presence: presence.disconnected(ref))

    def _changed_in_place(self, before: Connection, after: Connection) -> None:
        """Give the connection its new ref; it stays connected."""
        old, new = ConnectionRef.of(before), ConnectionRef.of(after)
        client = Client.of(before)
        if client is None or old == new:
            return
        if not self._has_left(old, new):
            self._update(client, lambda presence: presence.connected(new))
        # It may have left meanwhile: this is a repeated change, or another worker is ahead.
        if self._has_left(old, new):
            self._update(client, lambda presence: presence.disconnected(old).disconnected(new))

    def _has_left(self, *refs: ConnectionRef) -> bool:
        return any(self.presence.has_left(ref) for ref in refs)

    def _connected(self, connection: Connection, until: datetime) -> None:
        ref = ConnectionRef.of(connection)
        if self.presence.has_left(ref):
            self._connected_late(connection)
            return
        client = Client.of(connection)
        if client is None:
            self._catch_up(connection)
            return
        presence = self._update(client, lambda presence: presence.connected(ref))
        # Checked again: another worker with the same batch may have processed the disconnect since.
        if self.presence.has_left(ref):
            self._connected_late(connection)
            return
        self._catch_up(connection)
        if self.connections_per_client is not None:
            self._replace_oldest(client, presence.connections, self.connections_per_client, until)

    def _catch_up(self, connection: Connection) -> None:
        if connection.since is not None and self.catch_ups is not None:
            self.catch_ups.put(CatchUp(ConnectionRef.of(connection), connection.since))

    def _connected_late(self, connection: Connection) -> None:
        """Undo a connection that has left: its change is repeated, or a late write brought it back."""
        ref = ConnectionRef.of(connection)
        if client := Client.of(connection):
            self._update(client, lambda presence: presence.disconnected(ref))
        if self.table.get(connection.id) == connection:
            self.publisher.publish(Revived(connection))
            self.table.delete_exact(connection)

    def _update(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        """Change the client's presence, publish its outbox, and only then clear it."""
        presence = self.presence.change(client, step)
        if events := presence.outbox:
            for event in events:
                self.publisher.publish(event)
            self.presence.change(client, lambda presence: presence.mark_published(events))
        return presence

    def _replace_oldest(
        self, client: Client, refs: frozenset[ConnectionRef], kept: int, until: datetime
    ) -> None:
        """Evict all of the client's connections but the newest ones, of which so many are *kept*.

        The refs come from the presence and not from an index: of two
        connections that open at once, the later one's presence has both.
        """
        oldest = sorted(refs, key=_by_age)[:-kept]
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


def _connection(entry: Entry | None) -> Connection | None:
    return entry if isinstance(entry, Connection) else None


def _is_newer(after: Connection, before: Connection) -> bool:
    """Return whether *after* is another connection: its time is later. Unknown or earlier: the same one."""
    return is_older(before.connected_at, after.connected_at)


def _by_age(ref: ConnectionRef) -> tuple[datetime, ConnectionRef]:
    return ref.began_at, ref
