"""What surrounds the functions while clients return, simulated: it is slow, fails, repeats, and kills.

All is by the seed. Every fault passes: whoever tries again as often as sending does
succeeds. The tables are real, behind a transport that fails, too.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any
from zlib import crc32

from app.adapters.dynamodb.items import connection_from, is_tombstone
from app.adapters.dynamodb.transport import Answer, Transport
from app.adapters.sqs import SENT_AT, SqsCatchUps
from app.domain.errors import EventsUnavailable, QueueUnavailable, StorageUnavailable
from app.domain.events import Event
from app.domain.ports import RecipientPages
from app.domain.selection import Page, Selection
from tests.builders import NOON
from tests.chaos.memory_tables import Item, name_of
from tests.chaos.turns import Turns

if TYPE_CHECKING:
    from app.domain.model import Connection

INDEX_LAG = 0.6
"""Seconds until the index shows a write, at most."""
CLOCK_SKEW = 1.5
"""Seconds by which a function's clock is wrong, at most."""

# Shares of all invocations, of all calls, and so on.
_INVOCATION_IS_KILLED = 0.04
_STORE_FAILS = 0.002
_CALL_IS_SLOW = 0.02
_QUEUE_FAILS = 0.005
_QUEUE_REPEATS = 0.03
_QUEUE_IS_SLOW = 0.1
_BUS_FAILS = 0.1
_STREAM_REPEATS = 0.1
_STREAM_DOUBLES = 0.1
_STREAM_IS_SLOW = 0.03

_LATENCIES = (0.001, 0.006), (0.02, 0.1), (0.05, 0.8)  # seconds of a call, by the invocation
_WEIGHTS = 55, 35, 10
_MOST_CALLS = 30  # before a kill
_SHARDS = 16
_BATCH = 20  # records of the stream
_LAG = (0, 30)  # seconds by which the second worker with a batch begins later
_MILLISECOND = timedelta(milliseconds=1)


class Killed(BaseException):
    """The process of an invocation is killed. No handler of the code under test catches it."""


class Execution:
    """An invocation, in a process of its own: with a clock that is wrong, and perhaps a kill. A Clock."""

    def __init__(self, turns: Turns, random: Random) -> None:
        self.random = random
        self._turns = turns
        self._skew = timedelta(seconds=random.uniform(-CLOCK_SKEW, CLOCK_SKEW))
        kills = random.random() < _INVOCATION_IS_KILLED
        self._calls_left = random.randint(1, _MOST_CALLS) if kills else -1
        self._latencies = random.choices(_LATENCIES, _WEIGHTS)[0]

    def now(self) -> datetime:
        return self._turns.time() + self._skew // _MILLISECOND * _MILLISECOND

    def call[T](self, act: Callable[[], T]) -> T:
        """Return what *act* returns, after a while.

        Raises:
            Killed: the process is killed before or after it.
        """
        is_before = self.random.random() < 0.5
        if is_before:
            self._turns.sleep(self._latency())
            self.survive()
        result = act()
        if not is_before:
            self.survive()
            self._turns.sleep(self._latency())
        return result

    def survive(self) -> None:
        """Count a call.

        Raises:
            Killed: the process is killed here, or was before.
        """
        if self._calls_left > 0:
            self._calls_left -= 1
        if self._calls_left == 0:
            raise Killed

    def _latency(self) -> float:
        is_slow = self.random.random() < _CALL_IS_SLOW
        return self.random.uniform(*(_LATENCIES[-1] if is_slow else self._latencies))


class FaultyTransport:
    """Transport of one invocation, by which a call fails now and then, carried out or not."""

    def __init__(self, transport: Transport, execution: Execution) -> None:
        self._transport = transport
        self._execution = execution

    def call(self, operation: str, request: Mapping[str, Any]) -> Answer:
        execution = self._execution
        fails = execution.random.random() < _STORE_FAILS
        if fails and execution.random.random() < 0.5:
            execution.call(_nothing)
            raise StorageUnavailable("Simulated", outcome_unknown=True)
        answer = execution.call(partial(self._transport.call, operation, request))
        if fails:
            raise StorageUnavailable("Simulated", outcome_unknown=True)
        return answer


type Changed = Callable[[Item | None, Item | None, bool], None]
"""Told of a change: the item before and after it, and whether the table itself deleted it as expired."""


class WatchedTransport:
    """Transport that tells of each change of some tables; *watched* has who is told, by the table's name."""

    def __init__(self, transport: Transport, watched: Mapping[str, Changed]) -> None:
        self.calls: Counter[str] = Counter()
        self.items: dict[str, dict[str, Item]] = {table: {} for table in watched}
        self._transport = transport
        self._watched = watched

    def call(self, operation: str, request: Mapping[str, Any]) -> Answer:
        self.calls[operation] += 1
        return self._call(operation, request, expired=False)

    def expire(self, table: str, key: Item) -> None:
        """Delete an item, if it is there, as DynamoDB does when it has expired."""
        if name_of(key) in self.items[table]:
            self._call("DeleteItem", {"TableName": table, "Key": key}, expired=True)

    def _call(self, operation: str, request: Mapping[str, Any], *, expired: bool) -> Answer:
        answer = self._transport.call(operation, request)  # a false condition is an exception
        table = request["TableName"]
        if table in self._watched and operation in {"PutItem", "DeleteItem"}:
            new = request.get("Item")
            name, items = name_of(new or request["Key"]), self.items[table]
            old = items.pop(name, None)
            if new is not None:
                items[name] = new
            if old != new:
                self._watched[table](old, new, expired)
        return answer


class LaggingIndex:
    """What an index shows that follows the table's writes within INDEX_LAG."""

    def __init__(self, turns: Turns, random: Random) -> None:
        self._turns = turns
        self._random = random
        self._shown_from: dict[str, float] = {}
        self._shown_until: dict[str, tuple[float, Connection]] = {}

    def changed(self, old: Item | None, new: Item | None) -> None:
        at = self._turns.now + self._random.uniform(0, INDEX_LAG)
        if old is not None and not is_tombstone(old):
            was = connection_from(old)
            if self._shown_from.pop(was.id, 0) <= self._turns.now:
                self._shown_until[was.id] = at, was
        if new is not None and not is_tombstone(new):
            self._shown_from[new["connectionId"]["S"]] = at

    def page(self, pages: RecipientPages, selection: Selection, after: str | None) -> Page:
        """Return a page as the index shows it: without what is too new, and with what was just deleted."""
        now = self._turns.now
        page = pages.page(selection, after)
        shown = [it for it in page.connections if self._shown_from.get(it.id, 0) <= now]
        if after is None:
            self._shown_until = {name: it for name, it in self._shown_until.items() if it[0] > now}
            shown += [it for _, it in self._shown_until.values() if selection.matches(it)]
        return Page(tuple(shown), page.next)


class LaggingPages:
    """RecipientPages of one invocation."""

    def __init__(self, index: LaggingIndex, pages: RecipientPages) -> None:
        self._index = index
        self._pages = pages

    def page(self, selection: Selection, after: str | None = None) -> Page:
        return self._index.page(self._pages, selection, after)


class SimulatedQueue:
    """A queue: at least once, in any order. *invoke* returns whether a record can be forgotten."""

    def __init__(
        self,
        turns: Turns,
        random: Random,
        invoke: Callable[[Mapping[str, Any]], bool],
        slow: tuple[float, float],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._turns = turns
        self._random = random
        self._invoke = invoke
        self._slow = slow
        self._numbers = count(1)

    def add(self, body: str, *, sent_at: datetime | None = None, delay: float = 0) -> None:
        """Add a message, which is given out after *delay* at the earliest."""
        self.counts["added"] += 1
        record: dict[str, Any] = {
            "messageId": str(next(self._numbers)),
            "body": body,
            "attributes": {"SentTimestamp": str((self._turns.time() - _EPOCH) // _MILLISECOND)},
        }
        if sent_at is not None:
            record["messageAttributes"] = {SENT_AT: {"stringValue": sent_at.isoformat()}}
        self._give_out(record, delay + self._takes())
        if self._random.random() < _QUEUE_REPEATS:
            self.counts["given out twice"] += 1
            self._give_out(record, delay + self._random.uniform(0, 30))

    def _takes(self) -> float:
        if self._random.random() < _QUEUE_IS_SLOW:
            return self._random.uniform(*self._slow)
        return self._random.uniform(0.005, 0.1)

    def _give_out(self, record: Mapping[str, Any], seconds: float) -> None:
        self._turns.after(seconds, partial(self._turns.start, partial(self._carry_out, record)))

    def _carry_out(self, record: Mapping[str, Any]) -> None:
        if not self._invoke(record):
            self.counts["given out again"] += 1
            self._give_out(record, self._random.uniform(2, 20))


class QueueClient:
    """MessageQueue of one invocation."""

    def __init__(self, queue: SimulatedQueue, execution: Execution) -> None:
        self._queue = queue
        self._execution = execution

    def put(self, body: str, *, sent_at: datetime | None = None) -> None:
        self.add(partial(self._queue.add, body, sent_at=sent_at))

    def add(self, add: Callable[[], None]) -> None:
        """Add a message, or fail, and perhaps add it all the same.

        Raises:
            QueueUnavailable: it fails.
        """
        _hand_over(add, self._execution, _QUEUE_FAILS, QueueUnavailable("Simulated"))


class BusClient:
    """EventPublisher of one invocation; *published* has the events in the order in which the bus got them."""

    def __init__(self, published: list[Event], execution: Execution) -> None:
        self._published = published
        self._execution = execution

    def publish(self, event: Event) -> None:
        put = partial(self._published.append, event)
        _hand_over(put, self._execution, _BUS_FAILS, EventsUnavailable("Simulated"))


class CatchUpsClient(SqsCatchUps):
    """CatchUps of one invocation, in the format that SQS is given."""

    def __init__(self, queue: SimulatedQueue, execution: Execution) -> None:  # without an SDK
        self._queue = queue
        self._adding = QueueClient(queue, execution)

    def send(self, body: str, attributes: Any = None, delay: timedelta = timedelta()) -> None:
        self._adding.add(partial(self._queue.add, body, delay=delay.total_seconds()))


class SimulatedStream:
    """The stream of a table with those *keys*: in order for each item, late, in batches, and some repeated.

    *invoke* returns how many records of a batch it has processed. A few batches are
    given to a second worker, too, which may fall behind the stream.
    """

    def __init__(
        self,
        turns: Turns,
        random: Random,
        keys: Sequence[str],
        invoke: Callable[[Sequence[Mapping[str, Any]]], int],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._turns = turns
        self._random = random
        self._keys = keys
        self._invoke = invoke
        self._shards: list[deque[Mapping[str, Any]]] = [deque() for _ in range(_SHARDS)]
        self._busy: set[int] = set()
        self._numbers = count(1)

    def changed(self, old: Item | None, new: Item | None, expired: bool) -> None:  # noqa: FBT001 - a callback
        item = new or old or {}
        images = {key: image for key, image in (("OldImage", old), ("NewImage", new)) if image is not None}
        keys = {"Keys": {name: item[name] for name in self._keys}, "SequenceNumber": str(next(self._numbers))}
        self.counts["changes"] += 1
        number = crc32(name_of(item).encode()) % _SHARDS
        kind = "MODIFY" if old and new else "INSERT" if new else "REMOVE"
        by = {"userIdentity": _TIME_TO_LIVE} if expired else {}
        self._shards[number].append({"eventName": kind, "dynamodb": keys | images} | by)
        if number not in self._busy:
            self._busy.add(number)
            self._read_after(self._takes(), number)

    def _takes(self) -> float:
        if self._random.random() < _STREAM_IS_SLOW:
            return self._random.uniform(1, 5)
        return self._random.uniform(0.01, 0.2)

    def _read_after(self, seconds: float, number: int) -> None:
        self._turns.after(seconds, partial(self._turns.start, partial(self._read, number)))

    def _read(self, number: int) -> None:
        records = self._shards[number]
        batch = [records[index] for index in range(min(_BATCH, len(records)))]
        if self._random.random() < _STREAM_DOUBLES:
            self.counts["batches given to two workers"] += 1
            second = partial(self._turns.start, partial(self._process_all, batch))
            self._turns.after(self._random.uniform(*_LAG), second)
        processed = self._invoke(batch)
        if processed < len(batch):
            self.counts["batches repeated after a failure"] += 1
        elif self._random.random() < _STREAM_REPEATS:
            self.counts["batches repeated without a failure"] += 1
            processed = 0
        for _ in range(processed):
            records.popleft()
        if records:
            self._read_after(self._takes(), number)
        else:
            self._busy.discard(number)

    def _process_all(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Process a batch as the stream does: what fails is given again, with all that follows."""
        while batch := batch[self._invoke(batch) :]:
            self._turns.sleep(self._takes())


def _hand_over(act: Callable[[], None], execution: Execution, fails: float, error: Exception) -> None:
    """Do *act*, or fail with that probability, and perhaps do it all the same.

    Raises:
        Exception: *error*, if it fails.
    """
    is_failure = execution.random.random() < fails
    if is_failure and execution.random.random() < 0.5:
        raise error
    execution.call(act)
    if is_failure:
        raise error


def _nothing() -> None:
    """Do nothing: the call does not reach the other side."""


_TIME_TO_LIVE = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
_EPOCH = NOON.replace(year=1970, month=1, day=1, hour=0)
