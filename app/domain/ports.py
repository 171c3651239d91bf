"""The ports: what the use cases need, as promises that every adapter keeps."""

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from app.domain.model import Connection, ConnectionId, Handshake, Removed, Tombstone

if TYPE_CHECKING:  # not needed by the handshakes
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from app.domain.events import Event
    from app.domain.lifecycle import ConnectionRef, ProbeResult
    from app.domain.model import Entry
    from app.domain.presence import Client, Presence
    from app.domain.selection import Page, Selection


class Clock(Protocol):
    """The time of day."""

    def now(self) -> datetime:
        """Return the current time: aware, in UTC, in whole milliseconds."""


class IpResolver(Protocol):
    """The rule that finds the client's address in a handshake."""

    def resolve(self, handshake: Handshake) -> str:
        """Return the client's address in canonical form (RFC 5952 for IPv6), or empty if there is none.

        The result is an IP address or empty, whatever the handshake contains.
        """


class ConnectionStore(Protocol):
    """The writes of the handshakes. Every adapter passes ``make contract``.

    An id has one connection at a time. ``connected_at``, which the gateway
    gives with every event, tells it from earlier and later ones. If it is
    unknown for one of two, they count as the same connection. What has expired
    counts until it is deleted; the sweep deletes it if the storage does not.

    A call ends within 22 s, by a result or an error: see LONGEST_STORE_CALL in
    app/settings.py.
    """

    def add(self, connection: Connection) -> Connection:
        """Add *connection*, replacing an older one with its id. Idempotent.

        Returns:
            What is stored: *connection*, or what an earlier call had added of it.

        Raises:
            AlreadyClosed: there is a tombstone for it, or a newer connection with its id.
            StorageUnavailable: the store did not confirm in time.
        """

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        """Delete the connection of *connected_at*, or an older one with its id; a newer one stays.

        Without *connected_at*, any connection with the id is deleted. An
        unknown id is no error, and a tombstone stays.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def tombstone(self, tombstone: Tombstone) -> Removed:
        """Write *tombstone*, replacing whatever is not newer: the connection, or an older entry.

        Until its ``expires_at`` at least, ``add`` refuses the connection. An
        ``add`` of a newer connection replaces the tombstone.

        Returns:
            The connection that it replaced.

        Raises:
            ValueError: its ``connected_at`` is unknown.
            StorageUnavailable: the store did not confirm in time.
        """


class ConnectionTable(Protocol):
    """The whole table, to read and to repair. Thread-safe. Every adapter passes ``make contract``."""

    def get(self, connection_id: ConnectionId) -> Connection | None:
        """Return the connection, consistent with every earlier write; ``None`` for a tombstone.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """

    def scan(self, segment: int, of: int) -> "Iterator[Entry]":
        """Yield the entries of one segment of the table, fetched by pages on demand.

        The table has *of* segments, numbered from 0: about equal, disjoint, and
        together complete. Concurrent changes may or may not show.

        Raises:
            StorageUnavailable: the store did not answer in time; on any step of the iteration.
        """

    def page(self, selection: "Selection", after: str | None = None) -> "Page":
        """Return a page of selected connections: the first, or the one *after* a page's ``next``.

        Tombstones are left out, and what has expired may be. The order is the
        adapter's. A page may be empty, and have a next one. Changes show within
        about a second.

        Raises:
            InvalidSelection: *after* is not the token of a page of this selection.
            StorageUnavailable: the store did not answer in time.
        """

    def delete_exact(self, entry: "Entry") -> bool:
        """Delete *entry* unless something else has its id by now.

        Something else is a tombstone where *entry* is a connection or the
        reverse, or has another ``connected_at``, ``created_at`` or ``closed_at``.

        Returns:
            Whether it was there; true also if an earlier attempt may have deleted it.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """


class Gateway(Protocol):
    """The API that holds the clients' connections. Thread-safe. Every adapter passes tests/contract."""

    def probe(self, connection: Connection) -> "ProbeResult":
        """Return whether *connection* is alive. Never raises for an answer or the lack of one."""

    def close(self, connection: Connection) -> "ProbeResult":
        """Close *connection* and return ``CLOSED``, or why it is not. Never raises, like ``probe``."""


class RateLimiter(Protocol):
    """A limit on calls per second. Thread-safe."""

    def wait(self) -> None:
        """Return when the next call may be made."""


class WorkerPool(Protocol):
    """A bounded worker pool."""

    def run[T](self, tasks: "Iterable[Callable[[], T]]") -> "Iterator[T]":
        """Run *tasks* concurrently and yield their results as they are done, in any order.

        The caller's thread reads *tasks*, and reads the next one only when a
        worker is free. Once an exception is noticed no task is read; those under
        way are completed, and the exception is raised.
        """


class PresenceStore(Protocol):
    """Each client's presence, and which connections have left. Every adapter passes tests/contract."""

    def change(self, client: "Client", step: "Callable[[Presence], Presence]") -> "Presence":
        """Replace the presence of *client* by the result of *step*, and return that. Atomic.

        *step* is called again if another change came first. An unchanged
        presence is not written.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def mark_left(self, ref: "ConnectionRef") -> None:
        """Record for a day that the connection, and every older one of its id, has left.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def has_left(self, ref: "ConnectionRef") -> bool:
        """Return whether the connection, or a newer one of its id, is recorded as left.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """


class EventPublisher(Protocol):
    """Where domain events go. Thread-safe."""

    def publish(self, event: "Event") -> None:
        """Publish *event*; it may be published again."""


class ImageReader(Protocol):
    """The format in which the table's stream carries an entry."""

    def __call__(self, image: "Mapping[str, Any]", /) -> "Entry":
        """Return the entry that *image* holds."""
