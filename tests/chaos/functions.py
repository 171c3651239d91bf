"""The functions of a stack on real tables, among simulated surroundings. Each invocation has its own kill."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from app.adapters.dynamodb.deliveries import DynamoDBDeliveries
from app.adapters.dynamodb.history import DynamoDBHistory
from app.adapters.dynamodb.items import MILLISECOND, entry_from, time_from
from app.adapters.dynamodb.presence import DynamoDBPresenceStore, presence_from
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.dynamodb.table import RECIPIENT, DynamoDBConnectionTable
from app.adapters.dynamodb.transport import Transport
from app.adapters.ip import PeerFirstIpResolver
from app.adapters.messages import JsonNotices, message_from
from app.adapters.sqs import catch_up_from
from app.domain.catching_up import CATCH_UP_RATE, CatchUpClient
from app.domain.delivery import Audience, Delivery, Message
from app.domain.errors import AlreadyClosed, StorageUnavailable
from app.domain.handshakes import CloseConnection, OpenAdmission, OpenConnection
from app.domain.history import CatchUp
from app.domain.lifecycle import ConnectionRef
from app.domain.model import Connection, ConnectionId, Disconnect, Handshake
from app.domain.operations import EvictConnection
from app.domain.pace import Pace
from app.domain.ports import Clock
from app.domain.presence import Client, SessionId
from app.domain.sending import DeliverMessage
from app.domain.sessions import Sessions
from app.domain.tracking import PublishPresence, TrackPresence
from app.entrypoints.catch_up import RESERVE, CatchUpHandler
from app.entrypoints.presence import PresenceHandler
from app.entrypoints.records import BatchResponse
from app.entrypoints.send import SendHandler
from app.entrypoints.stream import StreamHandler
from tests.builders import Invocation
from tests.chaos.courier import Look, SimulatedCourier, SimulatedGateway
from tests.chaos.flaws import (
    catch_up_with_flaw,
    history_with_flaw,
    presence_store,
    publisher_with_flaw,
)
from tests.chaos.memory_tables import Item
from tests.chaos.simulated import (
    BusClient,
    CatchUpsClient,
    Execution,
    FaultyTransport,
    Killed,
    LaggingIndex,
    LaggingPages,
    QueueClient,
    SimulatedQueue,
    SimulatedStream,
    WatchedTransport,
)
from tests.chaos.turns import Turns
from tests.fakes import FakeGateway, FixedClock, InlineWorkers

if TYPE_CHECKING:
    from app.domain.events import Event

KEPT_FOR = timedelta(minutes=2)
"""For how long the history is kept."""
INDEX_LAG = timedelta(seconds=1)
"""What the functions are told of the index; it is a little faster."""

_GRACE = timedelta(seconds=8)
_LIFETIME = timedelta(hours=24)
_PAGE = 50  # recipients
_RATE = 1000
_TIME_IS_SHORT = 0.1  # share of invocations
_ROOM = 2  # connections in a client's presence, so that some have further ones
_ROOM_FOR_DEPARTURES = 20  # more than its item has, and fewer than some clients have


class Tables(NamedTuple):
    """The names of the tables."""

    connections: str
    deliveries: str
    history: str
    presence: str


class Finishing(NamedTuple):
    """An attempt to finish a delivery: when it began, and the time that it gives, by the function's clock."""

    began: datetime
    at: datetime


class Seen:
    """What is seen of the deliveries, of the looks into the history, and of the bus."""

    def __init__(self) -> None:
        self.started: dict[str, datetime] = {}
        self.finishing: defaultdict[str, list[Finishing]] = defaultdict(list)
        self.finished: dict[str, datetime] = {}
        self.looks: list[Look] = []
        self.expired: list[ConnectionRef] = []
        self.published: list[Event] = []


class Functions:
    """The functions, their queues and their stream; with a *flaw*, if it is one of theirs."""

    def __init__(self, turns: Turns, random: Random, tables: Tables, transport: Transport, flaw: str) -> None:
        self.invocations: Counter[str] = Counter()
        self.seen = Seen()
        self.gateway = SimulatedGateway(turns, random)
        self.messages = SimulatedQueue(turns, random, self._deliver, slow=(0.1, 5))
        self.catch_ups = SimulatedQueue(turns, random, self._catch_up, slow=(1, 40))
        self.stream = SimulatedStream(turns, random, ["connectionId"], self._track)
        self.presence_stream = SimulatedStream(turns, random, ["id", "part"], self._publish)
        watched = {tables.connections: self._changed, tables.presence: self.presence_stream.changed}
        self.database = WatchedTransport(transport, watched)
        self._index = LaggingIndex(turns, random)
        self._turns = turns
        self._random = random
        self._tables = tables
        self._flaw = flaw

    def connect(self, handshake: Handshake) -> bool:
        """Carry out ``$connect``, and return whether the client may come in."""

        def opened(execution: Execution) -> bool:
            open_connection = OpenConnection(
                execution,
                PeerFirstIpResolver(),
                OpenAdmission(),
                self._store(execution),
                lifetime=_LIFETIME,
            )
            try:
                open_connection(handshake)
            except (AlreadyClosed, StorageUnavailable):
                return False
            return True

        return self._invoke("$connect", opened) or False

    def disconnect(self, disconnect: Disconnect) -> None:
        """Carry out ``$disconnect``."""

        def close(execution: Execution) -> None:
            try:
                CloseConnection(execution, self._store(execution))(disconnect)
            except StorageUnavailable:
                return

        self._invoke("$disconnect", close)

    def send(self, body: str) -> None:
        """Put a message into the queue."""
        self.messages.add(body)

    def expire(self, connection_id: ConnectionId) -> None:
        """Delete the item of a connection that has ended, if its ``$disconnect`` has not."""
        item = self.database.items[self._tables.connections].get(connection_id)
        if item is not None and isinstance(connection := entry_from(item), Connection):
            self.seen.expired.append(ConnectionRef.of(connection))
            self.database.expire(self._tables.connections, {"connectionId": {"S": connection_id}})

    def connections(self) -> frozenset[ConnectionRef]:
        """Return the connections in their table."""
        entries = map(entry_from, self.database.items[self._tables.connections].values())
        return frozenset(ConnectionRef.of(entry) for entry in entries if isinstance(entry, Connection))

    def session(self, client: Client) -> tuple[SessionId | None, frozenset[ConnectionRef]]:
        """Return the session of *client*, and its connections."""
        store = self._presence(self.database, FixedClock())
        session = store.change(client, lambda presence: presence).session
        return session, frozenset(Sessions(store, FixedClock(), _ROOM).connections(client))

    def _deliver(self, record: Mapping[str, Any]) -> bool:
        """Return whether the queue can forget the message."""

        def delivered(execution: Execution) -> bool:
            transport = FaultyTransport(self.database, execution)
            pages = DynamoDBConnectionTable(
                transport,
                self._tables.connections,
                page_size=_PAGE,
                attributes=RECIPIENT,
                index_unscoped=True,
            )
            deliver_message = DeliverMessage(
                LaggingPages(self._index, pages),
                DynamoDBConnectionTable(transport, self._tables.connections),
                SimulatedCourier(self.gateway, self._turns, execution),
                _SeenDeliveries(transport, self._tables.deliveries, execution, self.seen),
                execution,
                InlineWorkers(),
                Pace(_RATE),
                _GRACE,
                unscoped=True,
                history=history_with_flaw(self._history(transport, execution), self._flaw),
            )
            queue = QueueClient(self.messages, execution)
            handler = SendHandler(message_from, deliver_message, queue, execution)
            return not handler({"Records": [record]}, self._context())["batchItemFailures"]

        return self._invoke("send", delivered) or False

    def _catch_up(self, record: Mapping[str, Any]) -> bool:
        """Return whether the queue can forget the request."""

        def caught_up(execution: Execution) -> bool:
            transport = FaultyTransport(self.database, execution)
            courier = SimulatedCourier(self.gateway, self._turns, execution)

            def read(body: str) -> CatchUp:
                request = catch_up_from(body)
                item = self.database.items[self._tables.connections].get(request.ref.connection_id, {})
                created_at = time_from(item, "createdAt", MILLISECOND)
                courier.look = Look(request, self._turns.time(), execution.now(), created_at)
                self.seen.looks.append(courier.look)
                return request

            catch_up_client = CatchUpClient(
                DynamoDBConnectionTable(transport, self._tables.connections),
                DynamoDBDeliveries(transport, self._tables.deliveries, clock=execution),
                self._history(transport, execution),
                courier,
                JsonNotices(),
                CatchUpsClient(self.catch_ups, execution),
                execution,
                Pace(CATCH_UP_RATE),
                KEPT_FOR,
                INDEX_LAG,
                _GRACE,
                unscoped=True,
            )
            flawed = catch_up_with_flaw(catch_up_client, self._flaw)
            handler = CatchUpHandler(read, flawed, execution, InlineWorkers())
            return not handler({"Records": [record]}, self._context())["batchItemFailures"]

        return self._invoke("catch-up", caught_up) or False

    def _track(self, records: Sequence[Mapping[str, Any]]) -> int:
        """Return how many of *records* are processed."""

        def track(execution: Execution) -> int:
            transport = FaultyTransport(self.database, execution)
            table = DynamoDBConnectionTable(transport, self._tables.connections)
            track_presence = TrackPresence(
                table,
                Sessions(self._presence(transport, execution), execution, _ROOM, _ROOM_FOR_DEPARTURES),
                BusClient(self.seen.published, execution),
                EvictConnection(table, FakeGateway(), execution, _GRACE),
                execution,
                InlineWorkers(),
                catch_ups=CatchUpsClient(self.catch_ups, execution),
            )
            handler = StreamHandler(track_presence, entry_from, execution)
            return _processed(records, handler({"Records": records}, Invocation()))

        return self._invoke("stream", track) or 0

    def _publish(self, records: Sequence[Mapping[str, Any]]) -> int:
        """Return how many of *records* are processed."""

        def publish(execution: Execution) -> int:
            publisher = publisher_with_flaw(BusClient(self.seen.published, execution), self._flaw)
            handler = PresenceHandler(PublishPresence(publisher), presence_from, execution)
            return _processed(records, handler({"Records": records}, Invocation()))

        return self._invoke("presence", publish) or 0

    def _changed(self, old: Item | None, new: Item | None, expired: bool) -> None:  # noqa: FBT001 - a callback
        self._index.changed(old, new)
        self.stream.changed(old, new, expired)

    def _invoke[T](self, function: str, act: Callable[[Execution], T]) -> T | None:
        """Return what *act* returns; ``None`` if it is killed."""
        self.invocations[function] += 1
        try:
            return act(Execution(self._turns, self._random))
        except Killed:
            self.invocations[f"{function}, killed"] += 1
            return None

    def _context(self) -> Invocation:
        seconds = self._random.uniform(0.2, 3) if self._random.random() < _TIME_IS_SHORT else 30
        return Invocation(RESERVE + timedelta(seconds=seconds))

    def _store(self, execution: Execution) -> DynamoDBConnectionStore:
        transport = FaultyTransport(self.database, execution)
        return DynamoDBConnectionStore(transport, self._tables.connections, index_unscoped=True)

    def _presence(self, transport: Transport, clock: Clock) -> DynamoDBPresenceStore:
        store = presence_store(self._flaw)
        return store(transport, self._tables.presence, clock=clock, pause=self._turns.sleep)

    def _history(self, transport: Transport, execution: Execution) -> "_SeenHistory":
        return _SeenHistory(transport, self._tables.history, execution, self._turns, self.seen)


def _processed(records: Sequence[Mapping[str, Any]], response: BatchResponse) -> int:
    """Return how many of *records* are processed by a handler that gives that response."""
    failures = response["batchItemFailures"]
    numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
    return numbers.index(failures[0]["itemIdentifier"]) if failures else len(records)


class _SeenDeliveries(DynamoDBDeliveries):
    def __init__(self, transport: Transport, table: str, clock: Execution, seen: Seen) -> None:
        super().__init__(transport, table, clock=clock)
        self._seen = seen

    def claim(self, message: Message, audience: str, *, until: datetime) -> Delivery:
        delivery = super().claim(message, audience, until=until)
        self._seen.started[message.id] = delivery.started_at
        return delivery


class _SeenHistory(DynamoDBHistory):
    def __init__(self, transport: Transport, table: str, clock: Execution, turns: Turns, seen: Seen) -> None:
        super().__init__(transport, table, clock=clock, kept_for=KEPT_FOR, unscoped=True)
        self._turns = turns
        self._seen = seen

    def finish(self, message: Message, audience: Audience, at: datetime) -> None:
        self._seen.finishing[message.id].append(Finishing(self._turns.time(), at))
        super().finish(message, audience, at)
        self._seen.finished[message.id] = self._turns.time()
