"""The use case of sending: deliver a message to its audience, each recipient once if it can be had."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from itertools import batched, count

from app.domain.delivery import (
    Audience,
    Delivery,
    DeliveryReport,
    Message,
    Outcome,
    Progress,
    Retry,
    SendResult,
    checked,
    delay_step,
)
from app.domain.errors import DeliveryClaimed, StorageUnavailable
from app.domain.lifecycle import grace_ends_at, is_within_grace
from app.domain.model import Connection, ConnectionId
from app.domain.pace import Pace, pause_after
from app.domain.ports import (
    Clock,
    ConnectionTable,
    Courier,
    Deliveries,
    History,
    Pending,
    RecipientPages,
    WorkerPool,
)
from app.domain.reading import read_ahead
from app.domain.recipients import ReadRecipients, live

MAX_THROTTLED = 5
"""Attempts for a recipient that are throttled."""
MAX_FAILED = 3
"""Attempts that fail or are not answered."""
MAX_WAITING = 1000
"""Recipients that wait to be tried again; further ones are sent nothing until there are fewer."""
MAX_YOUNG = 5000
"""Those besides whose handshake may be pending: they wait for longer, up to their grace."""

_MAX_EVICTIONS = 64  # under way
_LOOKED_UP_AT_ONCE = 50  # recipients that another invocation has left, one after the other by one worker
_LONGEST_YOUNG_PAUSE = timedelta(seconds=2)
_LAST_YOUNG_ATTEMPT = timedelta(milliseconds=200)  # before the end of the grace
_RECORDED_AFTER = 200  # outcomes, once all pages are read


@dataclass(frozen=True, slots=True)
class DeliverMessage:
    """Deliver a message to its audience, at least once and as a rule exactly once.

    Recipients are read in pages, the next one while the last is being sent, and
    the progress is recorded after each page. So memory does not grow with the
    audience. An invocation that follows a killed one repeats two pages at most, and
    those of the pages before that were in flight or waited to be tried again.

    A recipient is tried again after it was throttled, after a failure, without
    an answer, and for as long as its handshake may be pending. Only a connection
    that is past its *grace* and not found by the gateway is evicted.
    """

    recipients: RecipientPages
    table: ConnectionTable
    courier: Courier
    deliveries: Deliveries
    clock: Clock
    workers: WorkerPool
    pace: Pace
    grace: timedelta
    unscoped: bool = False
    history: History | None = None

    def __call__(
        self, message: Message, audience: Audience, *, until: datetime, claimed_until: datetime
    ) -> Delivery:
        """Deliver *message*, and return what became of it; from *until* on no request is begun.

        If that leaves some of the audience, the delivery is not finished: call again.

        Raises:
            InvalidMessage: it is too long, or its id has been used for another message.
            AlreadyDelivered: it is finished.
            DeliveryClaimed: another invocation has claimed it.
            StorageUnavailable: a store did not answer in time; call again to go on.
        """
        checked(message)
        delivery = self.deliveries.claim(message, str(audience), until=claimed_until)
        self._keep(message, audience, delivery)
        run = _Run(self, message, audience, delivery, until)
        try:
            for connection, result in self.courier.deliver(message.frame, run.connections()):
                run.settle(connection, result)
        finally:
            run.close()
        finished_at = self.clock.now() if run.is_complete else None
        if self.history is not None and finished_at is not None:
            try:
                self.history.finish(message, audience, finished_at)
            except StorageUnavailable as error:  # the next invocation finishes it, and sends no more
                run.fault, finished_at = error, None
        released = self.deliveries.release(delivery, run.progress(), finished_at)
        if run.fault is not None:
            raise run.fault
        return released

    def _keep(self, message: Message, audience: Audience, delivery: Delivery) -> None:
        """Keep the message before a recipient is read: who comes back from now on finds it.

        If it can't be kept, it must not be sent: a client whose index entry comes late
        would get it neither now nor later.
        """
        if self.history is None:
            return
        try:
            self.history.begin(message, audience)
        except StorageUnavailable:
            self.deliveries.release(delivery, delivery.progress, None)
            raise


@dataclass(slots=True)
class _Attempts:
    """A recipient that has been tried, and the answers so far."""

    connection: Connection
    throttled: int = 0
    failed: int = 0
    young: int = 0
    unknown: bool = False

    def as_retry(self, *, unknown: bool = False) -> Retry:
        return Retry(
            self.connection.id, self.throttled, self.failed, self.young, unknown=self.unknown or unknown
        )


class _Run:
    """One invocation's work on a delivery."""

    def __init__(
        self,
        use_case: DeliverMessage,
        message: Message,
        audience: Audience,
        delivery: Delivery,
        until: datetime,
    ) -> None:
        self._use_case = use_case
        self._clock = use_case.clock
        self._pace = use_case.pace
        self._message = message
        self._audience = audience
        self._delivery = delivery
        self._until = until
        report = delivery.progress.report
        self._selected = report.selected
        self._outcomes = Counter(report.outcomes)
        del self._outcomes[Outcome.LEFT]
        self._delays = Counter(report.delays)
        self._in_flight: dict[ConnectionId, Connection] = {}
        self._tried: dict[ConnectionId, _Attempts] = {}
        """Those in flight or waiting whose first attempt was answered."""
        self._waiting: list[tuple[datetime, int, _Attempts]] = []
        self._young = 0  # of those that wait
        self._settled = 0  # since the progress was recorded
        self._recording: Pending[None] | None = None
        self._numbers = count()
        self._unsent: list[Retry] = []
        self._evictions: deque[Pending[bool]] = deque()
        self._place = delivery.progress.selection, delivery.progress.after
        read = ReadRecipients(use_case.recipients, use_case.table, use_case.clock, use_case.unscoped)
        self._pages = read_ahead(read.pages(audience, delivery.progress), use_case.workers)
        self.is_complete = False
        """Whether every recipient was read, and has its outcome."""
        self.fault: StorageUnavailable | None = None
        """Why the recipients could not be read to their end, or the history not be written."""

    def connections(self) -> Iterator[Connection | None]:
        """Yield whom to send to next, and ``None`` if that is nobody now."""
        try:
            yield from self._read()
        except StorageUnavailable as error:
            self.fault = error
        is_ending = self.fault is not None
        while self._in_flight or (self._waiting and not is_ending and not self._is_over()):
            yield self._due(is_ending=is_ending)
            if self._settled >= _RECORDED_AFTER and not is_ending:
                yield from self._recorded()
        self.is_complete &= not self._waiting and not self._unsent
        with suppress(StorageUnavailable):  # the end is recorded after it
            yield from self._last_record()

    def _read(self) -> Iterator[Connection | None]:
        """Yield all recipients, page by page, and those due again between them."""
        yield from self._resumed()
        for page in self._pages:
            if self._is_over():
                return
            if page is None:
                yield self._due()
                continue
            yield from self._sent(page.connections)
            self._place = page.selection, page.after
            if not page.is_last or self._waiting or self._in_flight:
                yield from self._recorded()
        self.is_complete = True

    def settle(self, connection: Connection, result: SendResult) -> None:
        """Note an answer: it is an outcome, or the recipient has to be tried again."""
        now = self._clock.now()
        self._settled += 1
        self._in_flight.pop(connection.id, None)
        tried = self._tried.pop(connection.id, None)
        if tried is None or not tried.throttled:  # a client whose buffer is full is throttled again and again
            self._pace.answered(now, throttled=result is SendResult.THROTTLED)
        if result is SendResult.DELIVERED:
            self._outcomes[Outcome.DELIVERED] += 1
            self._delays[delay_step(now - self._message.time)] += 1
            return
        tried = tried or _Attempts(connection)
        outcome = self._outcome(tried, result, now)
        if outcome is None:
            return
        if outcome is Outcome.GONE:
            self._evict(connection)
        self._outcomes[Outcome.UNKNOWN if tried.unknown else outcome] += 1

    def close(self) -> None:
        """Wait for what the workers are doing: the next invocation must not meet it."""
        self._pages.close()
        if self._recording is not None:
            with suppress(DeliveryClaimed, StorageUnavailable):
                self._recording.result()
        while self._evictions:
            self._evicted(self._evictions.popleft())

    def _outcome(self, tried: _Attempts, result: SendResult, now: datetime) -> Outcome | None:
        """Return what became of a recipient that did not get it; ``None`` if it is tried again."""
        match result:
            case SendResult.FORBIDDEN | SendResult.TOO_LARGE:
                return Outcome(result.value)
            case SendResult.GONE:
                if not self._is_young(tried, now):
                    return Outcome.GONE
                tried.young += 1
                due, is_last = self._young_due(tried, now)
                outcome = Outcome.YOUNG_GONE
            case SendResult.THROTTLED:
                tried.throttled += 1
                due = now + pause_after(tried.throttled)
                outcome, is_last = Outcome.THROTTLED, tried.throttled == MAX_THROTTLED
            case _:
                tried.unknown |= result is SendResult.UNANSWERED
                tried.failed += 1
                due = now + pause_after(tried.failed)
                outcome, is_last = Outcome.FAILED, tried.failed == MAX_FAILED
        if is_last:
            return outcome
        self._wait_until(due, tried)
        return None

    def _young_due(self, tried: _Attempts, now: datetime) -> tuple[datetime, bool]:
        """Return when to try again, just before the end of the grace at the latest, and if it was that."""
        last = grace_ends_at(tried.connection, self._use_case.grace) - _LAST_YOUNG_ATTEMPT
        return min(now + min(pause_after(tried.young), _LONGEST_YOUNG_PAUSE), last), now >= last

    def _is_young(self, tried: _Attempts, at: datetime) -> bool:
        return is_within_grace(tried.connection, at, self._use_case.grace)

    def _wait_until(self, due: datetime, tried: _Attempts) -> None:
        self._tried[tried.connection.id] = tried
        self._young += tried.young > 0
        heappush(self._waiting, (due, next(self._numbers), tried))

    def _resumed(self) -> Iterator[Connection | None]:
        """Put the recipients that another invocation has left among those that wait, once they are found."""
        retries = self._delivery.progress.retries
        chunks = list(batched(retries, _LOOKED_UP_AT_ONCE, strict=False))
        found = [self._use_case.workers.start(partial(self._found, chunk)) for chunk in chunks]
        left = list(retries)
        try:
            for chunk, pending in zip(chunks, found, strict=True):
                while not pending.done():
                    yield self._due()
                if self._is_over():
                    return
                connections = pending.result()
                del left[: len(chunk)]
                for retry, connection in zip(chunk, connections, strict=True):
                    if connection is None:
                        self._outcomes[Outcome.UNKNOWN if retry.unknown else Outcome.GONE] += 1
                    else:
                        self._wait_until(self._clock.now(), _Attempts(connection, *retry[1:]))
        finally:
            self._unsent += left  # if there was no time, or the store did not answer

    def _found(self, retries: Sequence[Retry]) -> list[Connection | None]:
        """Return the recipients, and ``None`` for those that are none any more."""
        use_case, now = self._use_case, self._clock.now()
        connections = (live(use_case.table.get(retry.connection_id), now) for retry in retries)
        return [
            it if it is not None and self._audience.includes(it, unscoped=use_case.unscoped) else None
            for it in connections
        ]

    def _sent(self, connections: Sequence[Connection]) -> Iterator[Connection | None]:
        """Yield *connections*, and between them those due again; when the time is up, leave the rest."""
        expires_at = self._message.expires_at
        for connection in connections:
            self._selected += 1
            while True:
                now = self._clock.now()
                if now >= self._until:
                    self._unsent.append(Retry(connection.id))
                    break
                if expires_at is not None and now >= expires_at:
                    self._outcomes[Outcome.EXPIRED] += 1
                    break
                if (again := self._due_at(now)) is not None:
                    yield again
                elif self._has_room() and self._pace.take(now):
                    self._in_flight[connection.id] = connection
                    yield connection
                    break
                else:
                    yield None

    def _has_room(self) -> bool:
        while self._evictions and self._evictions[0].done():
            self._evicted(self._evictions.popleft())
        return (
            len(self._waiting) - self._young < MAX_WAITING
            and self._young < MAX_YOUNG
            and len(self._evictions) < _MAX_EVICTIONS
        )

    def _due(self, *, is_ending: bool = False) -> Connection | None:
        return None if is_ending else self._due_at(self._clock.now())

    def _due_at(self, now: datetime) -> Connection | None:
        """Return a recipient that is due again, if there is one and the pace allows it."""
        while self._waiting and self._waiting[0][0] <= now < self._until:
            _, _, tried = self._waiting[0]
            expires_at = self._message.expires_at
            if expires_at is not None and now >= expires_at:
                self._take(tried)
                self._tried.pop(tried.connection.id, None)
                self._outcomes[Outcome.UNKNOWN if tried.unknown else Outcome.EXPIRED] += 1
                continue
            if not self._pace.take(now):
                return None
            self._take(tried)
            self._in_flight[tried.connection.id] = tried.connection
            return tried.connection
        return None

    def _take(self, tried: _Attempts) -> None:
        """Take the first of those that wait."""
        heappop(self._waiting)
        self._young -= tried.young > 0

    def _is_over(self) -> bool:
        return self._clock.now() >= self._until

    def _recorded(self) -> Iterator[Connection | None]:
        """Record the progress while sending goes on; once the record before is done."""
        yield from self._last_record()
        use_case = self._use_case
        self._settled = 0
        self._recording = use_case.workers.start(
            partial(use_case.deliveries.record, self._delivery, self.progress())
        )

    def _last_record(self) -> Iterator[Connection | None]:
        """Wait for the last record."""
        while self._recording is not None and not self._recording.done():
            yield self._due()
        if self._recording is not None:
            self._recording.result()

    def progress(self) -> Progress:
        """Return how far it has come."""
        flying = (
            self._tried.get(name, _Attempts(connection)).as_retry(unknown=True)
            for name, connection in self._in_flight.items()
        )
        waiting = (tried.as_retry() for _, _, tried in self._waiting)
        retries = (*flying, *waiting, *self._unsent)
        outcomes = +self._outcomes
        if retries:
            outcomes[Outcome.LEFT] = len(retries)
        report = DeliveryReport(selected=self._selected, outcomes=outcomes, delays=dict(self._delays))
        return Progress(report, *self._place, retries)

    def _evict(self, connection: Connection) -> None:
        use_case = self._use_case
        self._evictions.append(use_case.workers.start(partial(use_case.table.delete_exact, connection)))

    def _evicted(self, eviction: Pending[bool]) -> None:
        with suppress(StorageUnavailable):  # the entry stays until a sweep
            eviction.result()
