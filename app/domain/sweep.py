"""The sweep: find the connections whose disconnect was missed, and delete their entries."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial

from app.domain.errors import StorageUnavailable
from app.domain.lifecycle import (
    CLOCK_SKEW,
    MAX_CONNECTION_DURATION,
    ProbeResult,
    age_of,
    is_within_grace,
)
from app.domain.model import Connection, Entry, Tombstone
from app.domain.ports import Clock, ConnectionTable, Gateway, RateLimiter, WorkerPool

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
type _Task = Callable[[], Outcome]

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
    connection whose handshake is pending. All others are probed, within the
    rate limit, and deleted if the gateway does not have them.
    """

    table: ConnectionTable
    gateway: Gateway
    clock: Clock
    rate_limiter: RateLimiter
    workers: WorkerPool
    grace: timedelta

    def __call__(self, *, segment: int, of: int, until: datetime, dry_run: bool = False) -> Report:
        """Sweep a *segment*, counted from 0, *of* so many; from *until* on nothing is begun.

        Probes and deletes under way then are completed. If the store can't be
        read, the report has the fault.
        """
        progress = _Progress(until, dry_run)
        for outcome in self.workers.run(self._tasks(segment, of, progress)):
            progress.outcomes[outcome] += 1
        return Report(
            segment=segment,
            of=of,
            dry_run=dry_run,
            finished=progress.finished,
            fault=progress.fault,
            probed=progress.probed,
            outcomes=progress.outcomes,
        )

    def _tasks(self, segment: int, of: int, progress: "_Progress") -> Iterator[_Task]:
        """Yield what workers have to do; entries that need nothing are counted here."""
        try:
            for entry in self.table.scan(segment, of):
                if progress.has_failed:
                    return
                decision = self._decide(entry, progress)
                if not isinstance(decision, Outcome):
                    yield partial(_watched, decision, progress)
                    continue
                progress.outcomes[decision] += 1
                if decision is Outcome.LEFT_FOR_NEXT_TIME:
                    return
            progress.finished = True
        except StorageUnavailable as error:
            progress.fault = error.reason

    def _decide(self, entry: Entry, progress: "_Progress") -> Outcome | _Task:
        """Return what becomes of *entry*, or the task that finds out."""
        now = self.clock.now()
        if now >= progress.until:
            return Outcome.LEFT_FOR_NEXT_TIME
        if isinstance(entry, Tombstone):
            if now <= entry.expires_at:
                return Outcome.TOMBSTONE_KEPT
            return partial(self._delete, entry, Outcome.TOMBSTONE_REMOVED, progress)
        age = age_of(entry, now)
        if age is not None and age > MAX_CONNECTION_DURATION + CLOCK_SKEW:
            return partial(self._delete, entry, Outcome.REMOVED_BY_AGE, progress)
        return (
            Outcome.YOUNG if is_within_grace(entry, now, self.grace) else self._probe_in_time(entry, progress)
        )

    def _probe_in_time(self, connection: Connection, progress: "_Progress") -> Outcome | _Task:
        self.rate_limiter.wait()
        if self.clock.now() >= progress.until:
            return Outcome.LEFT_FOR_NEXT_TIME
        progress.probed += 1
        return partial(self._probe, connection, progress)

    def _probe(self, connection: Connection, progress: "_Progress") -> Outcome:
        outcome = _OUTCOMES[self.gateway.probe(connection)]
        return self._delete(connection, outcome, progress) if outcome is Outcome.GONE else outcome

    def _delete(self, entry: Entry, outcome: Outcome, progress: "_Progress") -> Outcome:
        if progress.dry_run:
            return outcome
        try:
            return outcome if self.table.delete_exact(entry) else Outcome.CHANGED_MEANWHILE
        except StorageUnavailable:
            return Outcome.NOT_REMOVED


def segment_at(moment: datetime, every: timedelta, of: int) -> int:
    """Return the segment whose turn it is at *moment*: one per *every*, in rotation."""
    return (moment - _EPOCH) // every % of


@dataclass(slots=True)
class _Progress:
    """A sweep under way."""

    until: datetime
    dry_run: bool
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    probed: int = 0
    finished: bool = False
    fault: str | None = None
    has_failed: bool = False


def _watched(task: _Task, progress: _Progress) -> Outcome:
    """Run *task* in a worker. A bug ends the scan, whose next task may be far away."""
    try:
        return task()
    except BaseException:
        progress.has_failed = True
        raise
