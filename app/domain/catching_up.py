"""The use case of coming back: deliver to a client what it missed while it was away."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import merge
from operator import itemgetter
from typing import NamedTuple

from app.domain.delivery import MessageId, SendResult
from app.domain.errors import NotCaughtUp
from app.domain.history import (
    KEPT_LONGER,
    NOW,
    OVERLAP,
    CatchUp,
    KeptMessage,
    Place,
    moment,
    position,
    scopes_for,
)
from app.domain.lifecycle import ConnectionRef, is_within_grace
from app.domain.model import Connection
from app.domain.pace import Pace, pause_after
from app.domain.ports import CatchUps, Clock, ConnectionTable, Courier, Deliveries, History, Notices
from app.domain.recipients import live

MAX_TOLD = 100
"""Ids in a request, which has to fit into a message of the queue (256 KB); beyond it, some come twice."""

CATCH_UP_RATE = 200
"""Messages per second of one function: of the template's ten together a fifth of an account's calls."""
LONGEST_LOOK = timedelta(seconds=5)
"""After sending for so long a look goes on in another invocation, behind those of other clients."""

_MOST_ATTEMPTS = 5  # for a message, with the same answer
_AFTER_FAILURES = timedelta(seconds=10)  # before the next look: a client's buffer may be full


class CaughtUp(NamedTuple):
    """What a look has done.

    ``ended`` is true if the connection is not there any more. ``rest`` is what was put
    into the queue: the second look, or what the time did not suffice for.
    """

    sent: int = 0
    has_gap: bool = False
    ended: bool = False
    rest: CatchUp | None = None


@dataclass(frozen=True, slots=True)
class CatchUpClient:
    """Deliver to a client that has come back what it missed, oldest first, and say when it is caught up.

    A message that is being sent meanwhile reaches the client once or twice. It is in
    the history before its recipients are read. If the first look does not find it, its
    recipients are read later. They are read from an index that may lag behind by
    *index_lag*; a second look after that finds those which the index missed.

    What is sent is chosen by the rules of sending, and by what the connection may get
    today. ``kept_for`` is how far the history reaches back. Several looks at the same
    time share *pace*.
    """

    table: ConnectionTable
    deliveries: Deliveries
    history: History
    courier: Courier
    notices: Notices
    catch_ups: CatchUps
    clock: Clock
    pace: Pace
    kept_for: timedelta
    index_lag: timedelta
    grace: timedelta
    unscoped: bool = False

    def __call__(self, request: CatchUp, *, until: datetime) -> CaughtUp:
        """Carry out *request*, and put what follows from it into the queue; from *until* on nothing is sent.

        Raises:
            NotCaughtUp: the gateway did not take a message; the request has to come again.
            QueueUnavailable: the queue did not take the rest; likewise.
            StorageUnavailable: a store did not answer in time; likewise.
        """
        now = self.clock.now()
        connection = live(self.table.get(request.ref.connection_id), now)
        if connection is None or ConnectionRef.of(connection) != request.ref:
            return CaughtUp(ended=True)
        return _Look(self, request, connection, now, until).carry_out()


class _Ended(Exception):
    """The connection, or its admission, has ended."""


class _Interrupted(Exception):
    """The look goes on after a delay: its time is up, or the client is slow to read."""

    def __init__(self, delay: timedelta) -> None:
        super().__init__()
        self.delay = delay


class _Look:
    """One look into the history, for one client."""

    def __init__(
        self,
        use_case: CatchUpClient,
        request: CatchUp,
        connection: Connection,
        now: datetime,
        until: datetime,
    ) -> None:
        self._use_case = use_case
        self._request = request
        self._connection = connection
        self._began = now
        self._until = until
        self._after = request.after
        self._told = {*request.told, MessageId(request.since)}
        self._horizon = Place(now - OVERLAP)
        self._again = dict.fromkeys(request.told)
        """Those told that another look finds again, in the order in which they were found."""
        self._sent = 0
        self._ends_at: datetime | None = None
        self._has_gap = False

    def carry_out(self) -> CaughtUp:
        use_case, rest = self._use_case, None
        try:
            self._send_missed(self._beginning() if self._after is None else self._continuation(self._after))
            if self._request.is_second:
                self._send(use_case.notices.caught_up(position(self._began)))
            else:
                rest = self._rest()._replace(after=self._horizon, is_second=True)
                use_case.catch_ups.put(rest, delay=use_case.index_lag)
        except _Interrupted as interruption:
            rest = self._rest()
            use_case.catch_ups.put(rest, delay=interruption.delay)
        except _Ended:
            return CaughtUp(self._sent, has_gap=self._has_gap, ended=True)
        return CaughtUp(self._sent, has_gap=self._has_gap, rest=rest)

    def _beginning(self) -> Place:
        """Return the place after which the client has missed messages; if that is too old, say so first."""
        since, reach = self._since(), self._began - self._use_case.kept_for
        if since is None or since < reach:
            self._tell_gap()
            since = reach
        return Place(since - OVERLAP)

    def _continuation(self, after: Place) -> Place:
        """Return *after*; if the look comes so late that messages are not kept any more, say so first."""
        if after.finished_at < self._began - self._use_case.kept_for - KEPT_LONGER:
            self._tell_gap()
        return after

    def _tell_gap(self) -> None:
        self._send(self._use_case.notices.gap(self._request.since))
        self._has_gap = True

    def _since(self) -> datetime | None:
        """Return a moment until which the client has every message; ``None`` if it is unknown."""
        since, created_at = self._request.since, self._connection.created_at
        if since == NOW:
            return created_at
        at = moment(since)
        if at is None and (delivery := self._use_case.deliveries.get(MessageId(since))):
            at = delivery.started_at
        return None if at is None else min(at, created_at)

    def _send_missed(self, after: Place) -> None:
        self._after = after
        history = self._use_case.history
        scopes = scopes_for(self._connection, unscoped=self._use_case.unscoped)
        # First: what is under way now may be finished when the others are read, but not the reverse.
        under_way = {kept.id: kept for scope in scopes for kept in history.under_way(scope)}
        for place, kept in merge(*(history.finished(scope, after) for scope in scopes), key=itemgetter(0)):
            self._tell(kept, again=place > self._horizon or kept.id in under_way)
            self._after = place
        for kept in under_way.values():
            self._tell(kept, again=True)

    def _tell(self, kept: KeptMessage, *, again: bool) -> None:
        """Send *kept* if the client may get it and has not; *again*: another look finds it, too."""
        if kept.id not in self._told:
            expires_at = kept.expires_at
            if not kept.audience.includes(self._connection, unscoped=self._use_case.unscoped) or (
                expires_at is not None and self._use_case.clock.now() >= expires_at
            ):
                return
            self._send(kept.frame)
            self._sent += 1
            self._told.add(kept.id)
        if again:
            self._again[kept.id] = None

    def _rest(self) -> CatchUp:
        """Return the request for what is missing after this look."""
        # What is under way now may come to be before *after*: no later look passes over it.
        after = self._after and min(self._after, self._horizon)
        return self._request._replace(after=after, told=tuple(self._again)[-MAX_TOLD:])

    def _send(self, frame: bytes) -> None:
        """Send *frame*, again if need be.

        Raises:
            NotCaughtUp: the gateway does not take it.
            _Ended: the connection has ended.
            _Interrupted: likewise.
        """
        clock, due = self._use_case.clock, self._use_case.clock.now()
        # from the first message on: each look sends something, however slow the reads are
        self._ends_at = self._ends_at or min(self._until, due + LONGEST_LOOK)
        answers: Counter[SendResult] = Counter()
        while True:
            result, now = self._answer(frame, due, self._ends_at), clock.now()
            if result is None:
                if live(self._connection, now) is None:
                    raise _Ended
                raise _Interrupted(_AFTER_FAILURES if answers else timedelta())
            answers[result] += 1
            match result:
                case SendResult.DELIVERED | SendResult.TOO_LARGE:
                    return
                case SendResult.GONE if not is_within_grace(self._connection, now, self._use_case.grace):
                    raise _Ended
                case SendResult.GONE:  # its handshake may be pending
                    pass
                case SendResult.FORBIDDEN:
                    raise NotCaughtUp(result.value)
                case SendResult.THROTTLED if answers[result] == _MOST_ATTEMPTS:
                    raise _Interrupted(_AFTER_FAILURES)
                case _ if answers[result] == _MOST_ATTEMPTS:
                    raise NotCaughtUp(result.value)
            due = now + pause_after(answers.total())

    def _answer(self, frame: bytes, due: datetime, ends_at: datetime) -> SendResult | None:
        """Send *frame* when it is due, and return the answer; ``None`` if it may not be sent any more."""
        clock, pace = self._use_case.clock, self._use_case.pace

        def when_due() -> Iterator[Connection | None]:
            while (now := clock.now()) < ends_at:
                if now >= due and pace.take(now):
                    yield live(self._connection, now)
                    return
                yield None

        answers = [result for _, result in self._use_case.courier.deliver(frame, when_due())]
        if answers:
            pace.answered(clock.now(), throttled=answers[0] is SendResult.THROTTLED)
            return answers[0]
        return None
