"""The sweep: who left without a word is found and removed, one segment of the list at a time."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import partial
from threading import Lock, Semaphore

from app.domain.errors import StorageUnavailable
from app.domain.model import Connection
from app.domain.ports import Clock, ConnectionRegistry, Gateway
from app.domain.upkeep import LONGEST_CONNECTION, SLACK, Answer, Entry, Tombstone, age_of, is_young

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a sweep saw and did; in a dry run, what it would have done.

    Everything *scanned* is counted once more, by what became of it:

    - ``young``, ``alive``: nothing, since they live
    - ``removed_by_age``: removed without a question; ``gone``: removed since the gateway does not have it
    - ``throttled``, ``forbidden``, ``failed``: nothing, since the gateway did not say
    - ``not_removed``: to be removed, which the store did not confirm
    - ``changed_meanwhile``: no more what it was when it was to be removed
    - ``marks_removed``, ``marks_kept``: of connections that ended before they were recorded
    - ``left_for_next_time``: fetched when the time was up

    ``finished`` where the whole segment was scanned; where the store ended
    the scan, ``fault`` is its reason.
    """

    segment: int
    of: int
    dry_run: bool
    finished: bool
    fault: str | None
    scanned: int
    asked: int
    young: int
    alive: int
    removed_by_age: int
    gone: int
    throttled: int
    forbidden: int
    failed: int
    not_removed: int
    changed_meanwhile: int
    marks_removed: int
    marks_kept: int
    left_for_next_time: int

    @property
    def open(self) -> int:
        """The rows left that count as connections: what lives, and of what nobody knows better."""
        return self.young + self.alive + self.throttled + self.forbidden + self.failed

    @property
    def missed(self) -> int:
        """The connections that had ended and were in the list still."""
        return self.removed_by_age + self.gone


@dataclass(frozen=True, slots=True)
class SweepConnections:
    """Remove from a segment of the list what the gateway has no more.

    Past the platform's longest connection a row is dead without a question.
    Younger than *grace* it is left alone, since the gateway calls a
    connection gone before its handshake is answered, too. Of all others the
    gateway is asked, by *concurrency* threads in parallel, each question after
    *pace* has let it go. No more entries are held than there are threads,
    beside what the registry has fetched ahead.
    """

    registry: ConnectionRegistry
    gateway: Gateway
    clock: Clock
    grace: timedelta
    concurrency: int
    pace: Callable[[], None]

    def __call__(self, *, segment: int, of: int, until: datetime, dry_run: bool = False) -> Report:
        """Sweep part *segment* (from 0) *of* so many; from *until* on nothing is begun.

        What had been begun by then is ended: a question, a removal. Where the
        store can't be read any further the report says how far it went.
        """
        run = _Run(self, segment, of, until, dry_run=dry_run)
        run.sweep()
        return run.report()


def segment_at(moment: datetime, every: timedelta, of: int) -> int:
    """The segment whose turn it is at *moment*, where each has one in turn, *every* so long."""
    return (moment - _EPOCH) // every % of


class _Fate(Enum):
    YOUNG = auto()
    ALIVE = auto()
    REMOVED_BY_AGE = auto()
    GONE = auto()
    THROTTLED = auto()
    FORBIDDEN = auto()
    FAILED = auto()
    NOT_REMOVED = auto()
    CHANGED_MEANWHILE = auto()
    MARK_REMOVED = auto()
    MARK_KEPT = auto()
    LEFT_FOR_NEXT_TIME = auto()


_FATES = {
    Answer.ALIVE: _Fate.ALIVE,
    Answer.GONE: _Fate.GONE,
    Answer.THROTTLED: _Fate.THROTTLED,
    Answer.FORBIDDEN: _Fate.FORBIDDEN,
    Answer.FAILED: _Fate.FAILED,
}

type _Task = Callable[[], _Fate]


class _Run:
    """A sweep under way: one thread reads, and hands what is to be done to those that have nothing to do.

    A task is made only once a thread is free for it: so none waits in a queue
    for longer than anyone reckoned with. That one thread reads is for the
    allocator: it keeps for each thread what that took at most, and a page is
    large.
    """

    def __init__(
        self, sweep: SweepConnections, segment: int, of: int, until: datetime, *, dry_run: bool
    ) -> None:
        self._sweep = sweep
        self._segment, self._of = segment, of
        self._until = until
        self._dry_run = dry_run
        self._entries = sweep.registry.segment(segment, of)
        self._free = Semaphore(sweep.concurrency)
        self._counting = Lock()
        self._counted: Counter[_Fate] = Counter()
        self._scanned = self._asked = 0
        self._finished = self._over = False
        self._fault: str | None = None
        self._bug: BaseException | None = None

    def sweep(self) -> None:
        """See to the entries until there are no more, or the time is up."""
        with ThreadPoolExecutor(self._sweep.concurrency, thread_name_prefix="sweep") as pool:
            while task := self._next():
                pool.submit(self._do, task)
        if self._bug is not None:
            raise self._bug

    def report(self) -> Report:
        count = self._counted
        return Report(
            segment=self._segment,
            of=self._of,
            dry_run=self._dry_run,
            finished=self._finished,
            fault=self._fault,
            scanned=self._scanned,
            asked=self._asked,
            young=count[_Fate.YOUNG],
            alive=count[_Fate.ALIVE],
            removed_by_age=count[_Fate.REMOVED_BY_AGE],
            gone=count[_Fate.GONE],
            throttled=count[_Fate.THROTTLED],
            forbidden=count[_Fate.FORBIDDEN],
            failed=count[_Fate.FAILED],
            not_removed=count[_Fate.NOT_REMOVED],
            changed_meanwhile=count[_Fate.CHANGED_MEANWHILE],
            marks_removed=count[_Fate.MARK_REMOVED],
            marks_kept=count[_Fate.MARK_KEPT],
            left_for_next_time=count[_Fate.LEFT_FOR_NEXT_TIME],
        )

    def _next(self) -> _Task | None:
        """What is to be done about the next entry that needs something; ``None`` where it is over."""
        self._free.acquire()
        while not self._over:
            entry = self._fetched()
            if entry is None:
                break
            task = self._due(entry)
            if not isinstance(task, _Fate):
                return task
            self._count(task)
        return None

    def _do(self, task: _Task) -> None:
        try:
            self._count(task())
        except BaseException as bug:  # noqa: BLE001 - raised again, once the others have ended what they are at
            self._bug = bug
            self._over = True
        finally:
            self._free.release()

    def _fetched(self) -> Entry | None:
        try:
            entry = next(self._entries, None)
        except StorageUnavailable as error:
            self._fault = error.reason
            return None
        if entry is None:
            self._finished = True
        else:
            self._scanned += 1
        return entry

    def _due(self, entry: Entry) -> _Task | _Fate:
        """What is to be done about *entry*, or what becomes of it without that."""
        if self._is_time_up():
            return self._left()
        now = self._sweep.clock.now()
        if isinstance(entry, Tombstone):
            if now <= entry.expires_at:
                return _Fate.MARK_KEPT
            return partial(self._remove, entry, _Fate.MARK_REMOVED)
        age = age_of(entry, now)
        if age is not None and age > LONGEST_CONNECTION + SLACK:
            return partial(self._remove, entry, _Fate.REMOVED_BY_AGE)
        if is_young(entry, now, self._sweep.grace):
            return _Fate.YOUNG
        return self._question(entry)

    def _question(self, connection: Connection) -> _Task | _Fate:
        self._sweep.pace()
        if self._is_time_up():
            return self._left()
        self._asked += 1
        return partial(self._ask, connection)

    def _is_time_up(self) -> bool:
        return self._sweep.clock.now() >= self._until

    def _left(self) -> _Fate:
        self._over = True
        return _Fate.LEFT_FOR_NEXT_TIME

    def _ask(self, connection: Connection) -> _Fate:
        fate = _FATES[self._sweep.gateway.ask(connection)]
        return self._remove(connection, fate) if fate is _Fate.GONE else fate

    def _remove(self, entry: Entry, fate: _Fate) -> _Fate:
        if self._dry_run:
            return fate
        try:
            return fate if self._sweep.registry.forget(entry) else _Fate.CHANGED_MEANWHILE
        except StorageUnavailable:
            return _Fate.NOT_REMOVED

    def _count(self, fate: _Fate) -> None:
        with self._counting:
            self._counted[fate] += 1
