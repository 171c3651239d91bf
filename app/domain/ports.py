"""The ports: what the use cases need, as promises that every adapter keeps."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from app.domain.model import Connection, ConnectionId, Handshake, Removed, Tombstone

if TYPE_CHECKING:  # not needed by the handshakes
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from app.domain.admission import Grant
    from app.domain.delivery import Audience, Delivery, Message, MessageId, Progress, SendResult
    from app.domain.events import Event
    from app.domain.history import CatchUp, KeptMessage, Place, Scope
    from app.domain.lifecycle import ConnectionRef, ProbeResult
    from app.domain.model import Entry
    from app.domain.presence import Client, Presence, SessionId
    from app.domain.selection import Page, Selection
    from app.domain.tickets import Ticket
    from app.domain.tokens import Key, KeySet, VerifiedToken


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


class Admission(Protocol):
    """The rule of who may come in."""

    def admit(self, handshake: Handshake, at: datetime) -> Handshake:
        """Return *handshake* as it is admitted: with what is granted in the place of what it asks for.

        Raises:
            Denied: it may not come in.
            KeysUnavailable: there are no keys to check its token with.
            StorageUnavailable: the store of tickets did not confirm in time.
        """


class Tokens(Protocol):
    """The tokens that admit a client."""

    def grant(self, token: str, at: datetime) -> "Grant":
        """Return what *token* grants.

        Raises:
            Denied: the token is not good.
            KeysUnavailable: there are no keys to check it with.
        """


class Signatures(Protocol):
    """The signatures of an issuer."""

    def verify(self, token: str, at: datetime) -> "VerifiedToken":
        """Return what is in *token*, whose signature holds.

        Raises:
            Denied: it is no token, or its signature does not hold.
            KeysUnavailable: there are no keys to check it with.
        """


class KeyStore(Protocol):
    """Where the keys of one issuer are kept. Every adapter passes tests/contract."""

    def load(self) -> "KeySet | None":
        """Return the keys, consistent with every earlier write; ``None`` if there are none yet.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """

    def save(self, issued: "KeySet") -> None:
        """Keep the keys in the place of those that were fetched earlier; later ones stay.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """


class Issuer(Protocol):
    """The identity provider that issues tokens."""

    def keys(self) -> "Mapping[str, Key]":
        """Fetch the keys that are usable here, by their ids; there is one at least.

        Raises:
            IssuerUnavailable: they could not be fetched, or none is usable.
        """


class Tickets(Protocol):
    """The tickets that admit a client once. Every adapter passes tests/contract."""

    def redeem(self, secret: str, at: datetime) -> "Grant":
        """Delete the ticket and return what it granted. Of calls at the same time, one succeeds.

        Raises:
            Denied: there is no such ticket, or not any more.
            StorageUnavailable: the store did not confirm in time; the ticket may be spent.
        """


class TicketStore(Protocol):
    """Where tickets are kept until they are redeemed."""

    def add(self, ticket: "Ticket") -> None:
        """Keep *ticket*.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """


class ConnectionStore(Protocol):
    """The writes of the handshakes. Every adapter passes ``make contract``.

    An id has one connection at a time. ``connected_at``, which the gateway
    gives with every event, tells it from earlier and later ones. If it is
    unknown for one of two, they count as the same connection. What has expired
    counts until it is deleted; the sweep deletes it if the storage does not.

    A call ends within 22 s, by a result or an error: see LONGEST_STORE_CALL in
    app/settings.
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


class RecipientPages(Protocol):
    """The connections to which a message may go; a ConnectionTable has them, too."""

    def page(self, selection: "Selection", after: str | None = None) -> "Page":
        """Return a page like ``ConnectionTable.page``.

        ``source_ip``, ``user_agent``, ``principal_id``, ``attributes`` and ``since`` may
        be left out of its connections.

        Raises:
            InvalidSelection: *after* is not the token of a page of this selection.
            StorageUnavailable: the store did not answer in time.
        """


class Gateway(Protocol):
    """The API that holds the clients' connections. Thread-safe. Every adapter passes tests/contract."""

    def probe(self, connections: "Iterable[Connection | None]") -> "Iterator[tuple[Connection, ProbeResult]]":
        """Ask about many connections at once, and yield each with the result as they come.

        The next connection is asked for when there is room for one. ``None`` stands
        for 'none now', and is asked again within milliseconds. Never raises for an
        answer or the lack of one.
        """

    def keep_alive(
        self, connections: "Iterable[Connection | None]", since: str
    ) -> "Iterator[tuple[Connection, ProbeResult]]":
        """Send many connections a notice, so that none is idle; otherwise like ``probe``.

        It has *since*, a position in the history until which a client that is caught
        up has every message. ``ALIVE`` says that it was sent. It may be sent twice.
        """

    def close(self, connection: Connection) -> "ProbeResult":
        """Close *connection* and return ``CLOSED``, or why it is not. Never raises, like ``probe``."""


class Courier(Protocol):
    """The API that sends to clients. Thread-safe. Every adapter passes tests/contract."""

    def deliver(
        self, frame: bytes, connections: "Iterable[Connection | None]"
    ) -> "Iterator[tuple[Connection, SendResult]]":
        """Send *frame* to many connections at once, and yield each with the result as they come.

        Each is sent once, and may come again. The connections are asked for as by
        ``Gateway.probe``. Never raises for an answer or the lack of one.
        """


class Deliveries(Protocol):
    """What became of each message. Every adapter passes tests/contract.

    A delivery is kept for at least ``KEPT_FOR`` after its last change.
    """

    def claim(self, message: "Message", audience: str, *, until: datetime) -> "Delivery":
        """Begin the delivery of *message*, or go on with what another invocation has left of it.

        Nobody else can claim it before *until*, unless it is saved.

        Raises:
            AlreadyDelivered: it is finished.
            DeliveryClaimed: another invocation has claimed it.
            InvalidMessage: its id has been used for another message.
            StorageUnavailable: the store did not confirm in time.
        """

    def record(self, delivery: "Delivery", progress: "Progress") -> None:
        """Record how far it has come; the claim stays.

        Raises:
            DeliveryClaimed: another invocation has claimed it since.
            StorageUnavailable: the store did not confirm in time.
        """

    def release(self, delivery: "Delivery", progress: "Progress", finished_at: datetime | None) -> "Delivery":
        """Record how far it has come, and give up the claim; return that delivery.

        With *finished_at* it is finished, and can't be claimed again.

        Raises:
            DeliveryClaimed: another invocation has claimed it since.
            StorageUnavailable: the store did not confirm in time.
        """

    def get(self, message_id: "MessageId") -> "Delivery | None":
        """Return the delivery of a message, as it was last recorded; ``None`` if it is unknown.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """


class History(Protocol):
    """Messages that are being delivered, and those that were. Every adapter passes tests/contract.

    From ``begin`` on a message is in it without a break: it is under way until it
    is finished, and kept for some minutes then. Reads are consistent with every
    earlier write. What has expired is passed over. Thread-safe.
    """

    def begin(self, message: "Message", audience: "Audience") -> None:
        """Keep *message* as one whose delivery is under way. Idempotent.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def finish(self, message: "Message", audience: "Audience", at: datetime) -> None:
        """Keep *message* as one whose delivery finished *at* a time.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def under_way(self, scope: "Scope") -> "Iterator[KeptMessage]":
        """Yield the messages of *scope* whose delivery is under way, for ``UNDER_WAY_FOR`` at most.

        Raises:
            StorageUnavailable: the store did not answer in time; on any step of the iteration.
        """

    def finished(self, scope: "Scope", after: "Place") -> "Iterator[tuple[Place, KeptMessage]]":
        """Yield the finished messages of *scope* *after* a place, in order, fetched by pages on demand.

        Raises:
            StorageUnavailable: the store did not answer in time; on any step of the iteration.
        """


class CatchUps(Protocol):
    """The queue of those that have come back."""

    def put(self, request: "CatchUp", *, delay: timedelta = timedelta()) -> None:
        """Add *request*, to be carried out after *delay*, at least once.

        Raises:
            QueueUnavailable: the queue did not take it in time.
        """


class CatchUpReader(Protocol):
    """The format in which the queue carries a request."""

    def __call__(self, body: str, /) -> "CatchUp":
        """Return the request in *body*."""


class Notices(Protocol):
    """The format of what Switchboard itself tells a client."""

    def gap(self, since: str) -> bytes:
        """Return what says that messages after *since* are not kept any more."""

    def caught_up(self, since: str) -> bytes:
        """Return what says that the client has every message until *since*."""


class MessageReader(Protocol):
    """The format in which the queue carries a message."""

    def __call__(self, body: str, sent_at: datetime, /) -> "tuple[Message, Audience]":
        """Return the message in *body*, and its audience; *sent_at* is when it was put into the queue.

        Raises:
            InvalidMessage: there is none that could be sent.
        """


class MessageQueue(Protocol):
    """The queue from which messages are delivered."""

    def put(self, body: str, *, sent_at: datetime | None = None) -> None:
        """Add a message; *sent_at*, if it is known already, is when it was first sent.

        Raises:
            QueueUnavailable: the queue did not take it in time.
        """


class Pending[T](Protocol):
    """A task's result, which may still be to come."""

    def done(self) -> bool:
        """Return whether ``result`` returns at once."""

    def result(self) -> T:
        """Return the task's result once it is done, or raise its exception."""


class WorkerPool(Protocol):
    """A bounded worker pool."""

    def start[T](self, task: "Callable[[], T]") -> Pending[T]:
        """Run *task* as soon as a worker is free, and return its result to come."""


class PresenceStore(Protocol):
    """Presences, further connections, and what has left. Every adapter passes tests/contract.

    Each change of a presence is a record of the store's own stream: presence
    events come of it. Reads are consistent with every earlier write.
    """

    def change(self, client: "Client", step: "Callable[[Presence], Presence]") -> "Presence":
        """Replace the presence of *client* by the result of *step*, and return that. Atomic.

        *step* is called again if another change came first. It may add departures, and
        drop those that are older than ``LEFT_FOR``. An unchanged presence is not
        written; any other has a version that it never had.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def add_further(self, session: "SessionId", ref: "ConnectionRef") -> None:
        """Keep *ref* as a further connection of *session*, for ``LEFT_FOR`` at least. Idempotent.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def remove_further(self, session: "SessionId", ref: "ConnectionRef") -> None:
        """Delete *ref* from the further connections of *session*. Idempotent.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def newest_further(self, session: "SessionId") -> "ConnectionRef | None":
        """Return the further connection of *session* that began last; one of unknown age before any other.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """

    def further(self, session: "SessionId") -> "Iterator[ConnectionRef]":
        """Yield the further connections of *session*, in any order, fetched by pages on demand.

        Raises:
            StorageUnavailable: the store did not answer in time; on any step of the iteration.
        """

    def mark_left(self, ref: "ConnectionRef") -> None:
        """Record for ``LEFT_FOR`` that the connection, and every older one of its id, has left.

        Raises:
            StorageUnavailable: the store did not confirm in time.
        """

    def has_left(self, ref: "ConnectionRef") -> bool:
        """Return whether the connection, or a newer one of its id, is marked as left.

        Raises:
            StorageUnavailable: the store did not answer in time.
        """


class EventPublisher(Protocol):
    """Where domain events go. Thread-safe. Every adapter passes tests/contract."""

    def publish(self, event: "Event") -> None:
        """Publish *event*; it may be published again.

        Raises:
            EventsUnavailable: it was not taken in time.
        """


class ImageReader(Protocol):
    """The format in which the table's stream carries an entry."""

    def __call__(self, image: "Mapping[str, Any]", /) -> "Entry":
        """Return the entry that *image* holds."""


class PresenceReader(Protocol):
    """The format in which the presence store's own stream carries a presence."""

    def __call__(self, key: "Mapping[str, Any]", image: "Mapping[str, Any] | None", /) -> "Presence | None":
        """Return the presence in an *image* of the item of that *key*, empty if the item was not there.

        ``None`` if it is not the item of a presence.
        """
