"""The sweep: find the connections whose disconnect was missed, and delete their entries."""

from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial

from app.domain.errors import StorageUnavailable
from app.domain.events import Ended
from app.domain.history import position
from app.domain.lifecycle import (
    CLOCK_SKEW,
    MAX_CONNECTION_DURATION,
    ProbeResult,
    age_of,
    is_within_grace,
)
from app.domain.model import Connection, Entry, Tombstone
from app.domain.pace import Pace
from app.domain.ports import Clock, ConnectionTable, EventPublisher, Gateway, Pending, WorkerPool
from app.domain.reading import read_ahead

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Outcome(StrEnum):
    """What became of an entry that a sweep scanned. In a dry run, what would have become of it."""

    YOUNG = "young"
    """Within its grace, so not probed."""
    ALIVE = "alive"
    REMOVED_BY_AGE = "removedByAge"
    """Older than any connection can be; deleted without a probe."""
    GONE = "gone"
    """Not found by the gateway; deleted."""
    ADMISSION_ENDED = "admissionEnded"
    """Its token had expired; closed and deleted."""
    THROTTLED = "throttled"
    FORBIDDEN = "forbidden"
    FAILED = "failed"
    NOT_REMOVED = "notRemoved"
    """To be deleted, but the store did not confirm."""
    CHANGED_MEANWHILE = "changedMeanwhile"
    """To be deleted, but something else had its id by then."""
    TOMBSTONE_REMOVED = "marksRemoved"
    TOMBSTONE_KEPT = "marksKept"
    LEFT_FOR_NEXT_TIME = "leftForNextTime"
    """Scanned when the time was up."""


_OUTCOMES = {
    ProbeResult.ALIVE: Outcome.ALIVE,
    ProbeResult.GONE: Outcome.GONE,
    ProbeResult.THROTTLED: Outcome.THROTTLED,
    ProbeResult.FORBIDDEN: Outcome.FORBIDDEN,
    ProbeResult.FAILED: Outcome.FAILED,
}
_MAX_TASKS = 64  # deletes and closings under way
_CHUNK = 256  # entries that are read at once, while as many are probed

_OPEN = (Outcome.YOUNG, Outcome.ALIVE, Outcome.THROTTLED, Outcome.FORBIDDEN, Outcome.FAILED)
_MISSED = (Outcome.REMOVED_BY_AGE, Outcome.GONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a sweep of one segment did: each scanned entry is counted once in ``outcomes``.

    ``finished`` is true if the whole segment was scanned; ``fault`` is the
    reason if the store ended the scan.
    """

    segment: int
    of: int
    dry_run: bool
    finished: bool
    fault: str | None
    probed: int
    outcomes: Mapping[Outcome, int]

    @property
    def scanned(self) -> int:
        """All entries that were read."""
        return sum(self.outcomes.values())

    @property
    def open(self) -> int:
        """The entries that still count as connections."""
        return sum(self.outcomes[outcome] for outcome in _OPEN)

    @property
    def missed_disconnects(self) -> int:
        """The connections that had ended without a disconnect."""
        return sum(self.outcomes[outcome] for outcome in _MISSED)


@dataclass(frozen=True, slots=True)
class SweepConnections:
    """Delete the entries of a segment whose connections have ended.

    An entry older than any connection can be is deleted without a probe. One
    within its *grace* is left alone: the gateway also says gone of a
    connection whose handshake is pending. One whose admission is over is closed,
    and deleted. All others are probed, and deleted if the gateway does not have
    them. There are at most *rate* calls of the gateway per second.

    With *keep_alive* a connection is sent a notice in the place of a probe: that
    proves as much, and the gateway does not close it as idle. The notice has the time
    at which the sweep begins, so that a client without messages knows where it is.
    """

    table: ConnectionTable
    gateway: Gateway
    clock: Clock
    workers: WorkerPool
    grace: timedelta
    rate: int
    publisher: EventPublisher
    keep_alive: bool = False

    def __call__(self, *, segment: int, of: int, until: datetime, dry_run: bool = False) -> Report:
        """Sweep a *segment*, counted from 0, *of* so many; from *until* on nothing is begun.

        Probes and deletes under way then are completed. If the store can't be
        read, the report has the fault. A dry run sends nothing: it probes.
        """
        chunks = read_ahead(_chunks(self.table.scan(segment, of)), self.workers)
        run = _Run(self, chunks, until, dry_run=dry_run)
        if self.keep_alive and not dry_run:
            results = self.gateway.keep_alive(run.connections(), position(self.clock.now()))
        else:
            results = self.gateway.probe(run.connections())
        for connection, result in results:
            run.settle(connection, result)
        run.complete()
        return Report(
            segment=segment,
            of=of,
            dry_run=dry_run,
            finished=run.finished,
            fault=run.fault,
            probed=run.probed,
            outcomes=run.outcomes,
        )


class _Run:
    """A sweep under way."""

    def __init__(
        self,
        use_case: SweepConnections,
        chunks: Generator[list[Entry] | None],
        until: datetime,
        *,
        dry_run: bool,
    ) -> None:
        self._use_case = use_case
        self._chunks = chunks
        self._clock = use_case.clock
        self._pace = Pace(use_case.rate)
        self._until = until
        self._dry_run = dry_run
        self._tasks: deque[Pending[Outcome]] = deque()
        self.outcomes: Counter[Outcome] = Counter()
        self.probed = 0
        self.finished = False
        self.fault: str | None = None

    def connections(self) -> Iterator[Connection | None]:
        """Yield the connections to probe, and ``None`` if that is nobody now; settle all other entries."""
        try:
            for chunk in self._chunks:
                for entry in chunk or ():
                    yield from self._examined(entry)
                    if self.outcomes[Outcome.LEFT_FOR_NEXT_TIME]:
                        return
                yield None  # for the answers of those under way, however many entries need no probe
            self.finished = True
        except StorageUnavailable as error:
            self.fault = error.reason

    def settle(self, connection: Connection, result: ProbeResult) -> None:
        """Count the result of a probe, and delete the entry of a connection that is gone."""
        outcome = _OUTCOMES[result]
        if outcome is Outcome.GONE:
            self._delete(connection, outcome)
        else:
            self.outcomes[outcome] += 1

    def complete(self) -> None:
        """Wait for the workers, and count what was under way."""
        self._chunks.close()
        while self._tasks:
            self._count_task()

    def _examined(self, entry: Entry) -> Iterator[Connection | None]:
        """Yield *entry* if it is to be probed, once the pace allows it; else settle it."""
        while len(self._tasks) >= _MAX_TASKS and not self._tasks[0].done():
            yield None
        while self._tasks and self._tasks[0].done():
            self._count_task()
        now = self._clock.now()
        if now >= self._until:
            self.outcomes[Outcome.LEFT_FOR_NEXT_TIME] += 1
            return
        decision = self._decision(entry, now)
        if decision in (Outcome.TOMBSTONE_REMOVED, Outcome.REMOVED_BY_AGE):
            self._delete(entry, Outcome(decision))
            return
        if isinstance(decision, Outcome):
            self.outcomes[decision] += 1
            return
        while not self._pace.take(now := self._clock.now()):
            yield None
        if now >= self._until:
            self.outcomes[Outcome.LEFT_FOR_NEXT_TIME] += 1
            return
        self.probed += 1
        if decision.admitted_until is not None and now >= decision.admitted_until:
            self._end(decision)
        else:
            yield decision

    def _decision(self, entry: Entry, now: datetime) -> Outcome | Connection:
        """Return what becomes of *entry*, or the connection itself if that takes a call of the gateway."""
        if isinstance(entry, Tombstone):
            return Outcome.TOMBSTONE_KEPT if now <= entry.expires_at else Outcome.TOMBSTONE_REMOVED
        age = age_of(entry, now)
        if age is not None and age > MAX_CONNECTION_DURATION + CLOCK_SKEW:
            return Outcome.REMOVED_BY_AGE
        return Outcome.YOUNG if is_within_grace(entry, now, self._use_case.grace) else entry

    def _delete(self, entry: Entry, outcome: Outcome) -> None:
        if self._dry_run:
            self.outcomes[outcome] += 1
        else:
            self._tasks.append(self._use_case.workers.start(partial(self._deleted, entry, outcome)))

    def _end(self, connection: Connection) -> None:
        if self._dry_run:
            self.outcomes[Outcome.ADMISSION_ENDED] += 1
        else:
            self._tasks.append(self._use_case.workers.start(partial(self._ended, connection)))

    def _ended(self, connection: Connection) -> Outcome:
        """Close *connection* unless the time is up by now, and return what became of it."""
        if self._clock.now() >= self._until:
            return Outcome.LEFT_FOR_NEXT_TIME
        result = self._use_case.gateway.close(connection)
        if result is ProbeResult.GONE:
            return self._deleted(connection, Outcome.GONE)
        if result is not ProbeResult.CLOSED:
            return _OUTCOMES[result]
        self._use_case.publisher.publish(Ended(connection))
        self._deleted(connection, Outcome.ADMISSION_ENDED)  # or its $disconnect is as fast
        return Outcome.ADMISSION_ENDED

    def _deleted(self, entry: Entry, outcome: Outcome) -> Outcome:
        """Delete *entry*, and return *outcome* if it was there."""
        try:
            return outcome if self._use_case.table.delete_exact(entry) else Outcome.CHANGED_MEANWHILE
        except StorageUnavailable:
            return Outcome.NOT_REMOVED

    def _count_task(self) -> None:
        self.outcomes[self._tasks.popleft().result()] += 1


def _chunks(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Yield *entries* in lists; those before an error, too."""
    chunk: list[Entry] = []
    try:
        for entry in entries:
            chunk.append(entry)
            if len(chunk) == _CHUNK:
                yield chunk
                chunk = []
    except StorageUnavailable:
        yield chunk
        raise
    yield chunk


def segment_at(moment: datetime, every: timedelta, of: int) -> int:
    """Return the segment whose turn it is at *moment*: one per *every*, in rotation."""
    return (moment - _EPOCH) // every % of
