"""Fakes of ports. The contract tests of their ports run on most of them, too."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from threading import Lock

from app.domain.admission import Grant, Reason
from app.domain.delivery import Audience, Message, MessageId, SendResult
from app.domain.errors import Denied
from app.domain.events import Event
from app.domain.history import (
    KEPT_LONGER,
    UNDER_WAY_FOR,
    CatchUp,
    KeptMessage,
    Place,
    Scope,
    scopes_of,
)
from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection
from app.domain.ports import Clock
from app.domain.tickets import MAX_SKEW, MAX_TICKET_LIFETIME, Ticket
from app.domain.tokens import KeySet
from tests.builders import NOON


class FixedClock:
    """Clock that stands still until it is advanced."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        self._now += by


class TickingClock(FixedClock):
    """Clock that advances by *tick* whenever it is read."""

    def __init__(self, tick: timedelta, now: datetime = NOON) -> None:
        super().__init__(now)
        self._tick = tick

    def now(self) -> datetime:
        self.advance(self._tick)
        return super().now()


class FakeGateway:
    """Gateway on which every connection is open until it is closed.

    ``results`` overrides the result by connection id. ``before`` is called first
    with each connection, to simulate a concurrent change.
    """

    def __init__(
        self,
        results: Mapping[str, ProbeResult] | None = None,
        *,
        before: Callable[[Connection], object] = lambda _: None,
    ) -> None:
        self.results = dict(results or {})
        self.before = before
        self.probed: list[str] = []
        self.kept_alive: list[str] = []
        self.positions: list[str] = []
        self.closed: list[str] = []

    def probe(self, connections: Iterable[Connection | None]) -> Iterator[tuple[Connection, ProbeResult]]:
        return self._called(connections, self.probed)

    def keep_alive(
        self, connections: Iterable[Connection | None], since: str
    ) -> Iterator[tuple[Connection, ProbeResult]]:
        self.positions.append(since)
        return self._called(connections, self.kept_alive)

    def close(self, connection: Connection) -> ProbeResult:
        self.before(connection)
        result = self._result_of(connection, ProbeResult.CLOSED)
        self.closed.append(connection.id)
        return result

    def _called(
        self, connections: Iterable[Connection | None], names: list[str]
    ) -> Iterator[tuple[Connection, ProbeResult]]:
        for connection in connections:
            if connection is None:
                time.sleep(0)  # a worker's turn
                continue
            self.before(connection)
            result = self._result_of(connection, ProbeResult.ALIVE)
            names.append(connection.id)
            yield connection, result

    def _result_of(self, connection: Connection, success: ProbeResult) -> ProbeResult:
        if result := self.results.get(connection.id):
            return result
        return ProbeResult.GONE if connection.id in self.closed else success


class FakeCourier:
    """Courier on which every connection gets what it is sent.

    ``results`` has other results by connection id, one per attempt; the last one
    stays. Each takes *takes* by *clock*, which advances while there is nothing to
    send. ``frames`` has what each connection got, ``attempts`` every attempt.
    """

    def __init__(
        self,
        clock: FixedClock,
        results: Mapping[str, Sequence[SendResult]] | None = None,
        *,
        takes: timedelta = timedelta(milliseconds=10),
        most: int = 128,
    ) -> None:
        self.results = {name: list(those) for name, those in (results or {}).items()}
        self.attempts: list[str] = []
        self.frames: dict[str, list[bytes]] = {}
        self.most_under_way = 0
        self._clock = clock
        self._takes = takes
        self._most = most

    def deliver(
        self, frame: bytes, connections: Iterable[Connection | None]
    ) -> Iterator[tuple[Connection, SendResult]]:
        source = iter(connections)
        under_way: deque[tuple[datetime, Connection, SendResult]] = deque()
        more = True
        while more or under_way:
            while more and len(under_way) < self._most:
                try:
                    connection = next(source)
                except StopIteration:
                    more = False
                    break
                if connection is None:
                    break
                under_way.append((self._clock.now() + self._takes, connection, self._send(connection, frame)))
                self.most_under_way = max(self.most_under_way, len(under_way))
            self._clock.advance(timedelta(milliseconds=1))
            time.sleep(0)  # a worker's turn
            while under_way and under_way[0][0] <= self._clock.now():
                _, connection, result = under_way.popleft()
                yield connection, result

    def _send(self, connection: Connection, frame: bytes) -> SendResult:
        self.attempts.append(connection.id)
        results = self.results.get(connection.id, [SendResult.DELIVERED])
        result = results.pop(0) if len(results) > 1 else results[0]
        if result is SendResult.DELIVERED:
            self.frames.setdefault(connection.id, []).append(frame)
        return result


class FakeQueue:
    """MessageQueue that keeps what is put into it."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, datetime | None]] = []

    def put(self, body: str, *, sent_at: datetime | None = None) -> None:
        self.messages.append((body, sent_at))


class FakeCatchUps:
    """CatchUps that keeps each request with its delay."""

    def __init__(self) -> None:
        self.requests: list[tuple[CatchUp, timedelta]] = []

    def put(self, request: CatchUp, *, delay: timedelta = timedelta()) -> None:
        self.requests.append((request, delay))


class MemoryHistory:
    """History in dictionaries. Thread-safe."""

    def __init__(self, clock: Clock, *, kept_for: timedelta, unscoped: bool = False) -> None:
        self._clock = clock
        self._kept_for = kept_for
        self._unscoped = unscoped
        self._under_way: dict[tuple[Scope, MessageId], tuple[KeptMessage, datetime]] = {}
        self._finished: dict[tuple[Scope, Place], KeptMessage] = {}
        self._lock = Lock()

    def begin(self, message: Message, audience: Audience) -> None:
        kept = KeptMessage(message.id, message.frame, audience, message.expires_at)
        until = self._clock.now() + UNDER_WAY_FOR
        with self._lock:
            for scope in scopes_of(audience, unscoped=self._unscoped):
                self._under_way[scope, message.id] = kept, until

    def finish(self, message: Message, audience: Audience, at: datetime) -> None:
        kept = KeptMessage(message.id, message.frame, audience, message.expires_at)
        with self._lock:
            for scope in scopes_of(audience, unscoped=self._unscoped):
                self._finished[scope, Place(at, message.id)] = kept
                self._under_way.pop((scope, message.id), None)

    def under_way(self, scope: Scope) -> Iterator[KeptMessage]:
        now = self._clock.now()
        with self._lock:
            those = list(self._under_way.items())
        return (kept for (kept_in, _), (kept, until) in those if kept_in == scope and now < until)

    def finished(self, scope: Scope, after: Place) -> Iterator[tuple[Place, KeptMessage]]:
        after = max(after, Place(self._clock.now() - self._kept_for - KEPT_LONGER))
        with self._lock:
            found = [
                (place, kept)
                for (kept_in, place), kept in self._finished.items()
                if kept_in == scope and place > after
            ]
        return iter(sorted(found, key=itemgetter(0)))


class FakeKeyStore:
    """KeyStore that counts its ``reads``. While there is an ``error``, each call raises it."""

    def __init__(self, issued: KeySet | None = None) -> None:
        self.issued = issued
        self.reads = 0
        self.error: Exception | None = None

    def load(self) -> KeySet | None:
        self.reads += 1
        self._fail()
        return self.issued

    def save(self, issued: KeySet) -> None:
        self._fail()
        if self.issued is None or issued.fetched_at >= self.issued.fetched_at:
            self.issued = issued

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


_LONGEST_TICKET = MAX_TICKET_LIFETIME + MAX_SKEW


class FakeTickets:
    """Tickets and TicketStore. While there is an ``error``, each call raises it.

    ``added`` has all tickets that were ever added. Thread-safe.
    """

    def __init__(self, *tickets: Ticket) -> None:
        self.added: list[Ticket] = []
        self.error: Exception | None = None
        self._kept: dict[str, Ticket] = {}
        for ticket in tickets:
            self.add(ticket)

    def add(self, ticket: Ticket) -> None:
        self._fail()
        self.added.append(ticket)
        self._kept[ticket.secret] = ticket

    def redeem(self, secret: str, at: datetime) -> Grant:
        self._fail()
        ticket = self._kept.pop(secret, None)
        if ticket is not None and at < ticket.expires_at.replace(microsecond=0) <= at + _LONGEST_TICKET:
            return ticket.grant()
        raise Denied(Reason.TICKET)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class DonePending[T]:
    """Pending of a task that was run."""

    def __init__(self, task: Callable[[], T]) -> None:
        self._error: Exception | None = None
        try:
            self._value = task()
        except Exception as error:  # noqa: BLE001 - raised by result()
            self._error = error

    def done(self) -> bool:
        return True

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value


class LazyWorkers:
    """WorkerPool whose tasks are done only when they have been asked about twice."""

    def start[T](self, task: Callable[[], T]) -> "LazyPending[T]":
        return LazyPending(task)


class LazyPending[T](DonePending[T]):
    """Pending that is not done at first."""

    def __init__(self, task: Callable[[], T]) -> None:
        super().__init__(task)
        self._asked = 0

    def done(self) -> bool:
        self._asked += 1
        return self._asked > 2


class InlineWorkers:
    """WorkerPool that runs each task at once, in the caller's thread."""

    def start[T](self, task: Callable[[], T]) -> DonePending[T]:
        return DonePending(task)


class RecordingPublisher:
    """EventPublisher that keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)
