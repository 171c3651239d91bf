"""What the use cases need of the world outside, as promises that adapters keep."""

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from app.domain.model import Connection, ConnectionId, Handshake, Removed

if TYPE_CHECKING:  # what no handshake waits for
    from collections.abc import Callable, Iterator

    from app.domain.upkeep import (
        Answer,
        Client,
        ConnectionRef,
        Entry,
        Page,
        Presence,
        Selection,
    )


class Clock(Protocol):
    """The time of day."""

    def now(self) -> datetime:
        """The current time: aware, in UTC, in whole milliseconds."""


class IpResolver(Protocol):
    """The rule by which a client's address is told from what the gateway and proxies say."""

    def resolve(self, handshake: Handshake) -> str:
        """The client's address in its canonical text form (RFC 5952 for IPv6), or empty if there is none.

        Never anything that is not an IP address, whatever the handshake says.
        """


class ConnectionStore(Protocol):
    """The set of open connections. Every adapter passes tests/contract.

    One id stands for one connection at a time, told from earlier and later
    ones by ``connected_at``, which the gateway says of each. Where that is not
    known of one of two, they count as the same.
    """

    def add(self, connection: Connection) -> Connection:
        """Remember *connection*, in place of an older one with its id; the same one stays as it is.

        Returns what is in the store then: *connection*, or what was there of it.

        Raises:
            AlreadyClosed: ``mark_closed`` came first, or a newer connection has the id.
            StorageUnavailable: the store did not confirm in time.
        """

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        """Forget the connection of *connected_at*, or an older one that has its id; a newer one stays.

        Without *connected_at*, whatever has the id goes. It tells what was
        known of what went; an unknown id is no error.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def mark_closed(
        self, connection_id: ConnectionId, *, connected_at: datetime, closed_at: datetime, until: datetime
    ) -> Removed:
        """Refuse every later ``add`` of the connection, at least until *until*; else as ``remove``.

        The mark is no connection: ``get`` does not find it. An ``add`` of a newer
        connection replaces it.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def get(self, connection_id: ConnectionId) -> Connection | None:
        """What is known of a connection, every earlier call of the methods above included.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """


class ConnectionRegistry(ConnectionStore, Protocol):
    """The set of open connections, to read and repair as a whole; several threads may call it at once."""

    def segment(self, number: int, of: int) -> "Iterator[Entry]":
        """All that is stored in part *number* (from 0) *of* so many, fetched as it is asked for.

        The parts are about equal, do not overlap, and together are everything.
        What changes meanwhile may or may not show.

        Raises:
            StorageUnavailable: the store did not answer in time; on any step of the iteration.
        """

    def page(self, selection: "Selection", after: str | None = None) -> "Page":
        """Connections of *selection*, from the start, or from where the page before ended (its ``next``).

        Marks are left out; what is past its time is not. Changes show within
        about a second.

        Raises:
            InvalidSelection: *after* is not what a page gave.
            StorageUnavailable: the store did not answer in time.
        """

    def forget(self, entry: "Entry") -> bool:
        """Remove exactly this connection or mark; what has its id since stays.

        Tells whether it was there, or may have been, where an answer was lost.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """


class Gateway(Protocol):
    """What holds the clients' connections; several threads may call it at once."""

    def ask(self, connection: Connection) -> "Answer":
        """Whether *connection* is alive; never raises for what the gateway says or fails to say."""

    def close(self, connection: Connection) -> "Answer":
        """End *connection*: ``CLOSED``, or why not; it raises as little as ``ask``."""


class PresenceStore(Protocol):
    """Which connections each client has, by the changes told so far. Every adapter passes tests/contract."""

    def change(self, client: "Client", step: "Callable[[Presence], Presence]") -> "Presence":
        """Replace the presence of *client* by what *step* makes of it, and return that.

        Atomic: *step* is called again where another change came between. A
        presence that is as it was is not written.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def mark_left(self, ref: "ConnectionRef") -> None:
        """Remember for a day that the connection has left, and with it every older one of its id.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def has_left(self, ref: "ConnectionRef") -> bool:
        """Whether that is known of the connection, from its own mark or a newer one's.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """
