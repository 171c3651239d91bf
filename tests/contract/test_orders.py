"""Every order of the primitive writes of two connections that share an id, on every store."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

import pytest

from app.adapters.ip import PeerFirstIpResolver
from app.adapters.memory import MemoryConnectionStore
from app.domain.errors import AlreadyClosed
from app.domain.model import Connection, ConnectionId, Removed
from app.domain.upkeep import Answer
from app.domain.use_cases import CloseConnection, OpenConnection
from tests.builders import NOON, FixedClock, a_disconnect, a_handshake
from tests.races import GRACE, STORES, ToldTable, Upkeep, a_told_table
from tests.thoroughness import sampled

C1 = ConnectionId("c-1")
EARLIER, LATER = NOON, NOON + timedelta(seconds=1)

type Step = Callable[[], object]


@pytest.fixture(params=STORES)
def table(request: pytest.FixtureRequest) -> Iterator[ToldTable]:
    with a_told_table(request.param, request) as table:
        yield table


class OneConnection:
    """What happens to a connection, in single writes; and what its client has a right to expect."""

    def __init__(self, table: ToldTable, connected_at: datetime) -> None:
        clock = FixedClock(LATER)
        self.connected_at = connected_at
        self.is_live = False
        self._has_left = False
        self._open = OpenConnection(clock, PeerFirstIpResolver(), table, timedelta(hours=24))
        self._table = table
        self._clock = clock

    def open(self) -> None:
        """The write of its open."""
        with suppress(AlreadyClosed):
            self._open(a_handshake(connected_at=self.connected_at))
            self.is_live = not self._has_left

    def close(self) -> Sequence[Step]:
        """The two writes of one close, the second one where the first one asks for it."""
        postponed: list[Step] = []

        class Postponing(ToldTable):
            def mark_closed(
                self,
                connection_id: ConnectionId,
                *,
                connected_at: datetime,
                closed_at: datetime,
                until: datetime,
            ) -> Removed:
                mark = super().mark_closed
                postponed.append(
                    lambda: mark(connection_id, connected_at=connected_at, closed_at=closed_at, until=until)
                )
                return Removed(None)

        table = Postponing(self._table.store, self._table.registry, self._table.changes)

        def remove() -> None:
            self._has_left, self.is_live = True, False
            CloseConnection(self._clock, table)(a_disconnect(connected_at=self.connected_at))

        def mark() -> None:
            for write in postponed:
                write()

        return remove, mark


def orders(programs: Sequence[int]) -> Iterator[Sequence[int]]:
    """Every order of the steps of programs of so many steps, each step named by its program's number."""
    if not any(programs):
        yield []
    for number, left in enumerate(programs):
        if left:
            rest = [steps - (other == number) for other, steps in enumerate(programs)]
            for order in orders(rest):
                yield [number, *order]


class TheirGateway:
    """Gateway that has the newer connection for as long as its client has not left, and no other."""

    def __init__(self, newer: OneConnection) -> None:
        self._newer = newer

    def ask(self, connection: Connection) -> Answer:
        return Answer.ALIVE if self._newer.is_live else Answer.GONE

    def close(self, connection: Connection) -> Answer:
        raise AssertionError


@dataclass(frozen=True)
class Deliveries:
    """How often each event comes; a close is two writes, an open is one."""

    older_opens: int
    older_closes: int
    newer_opens: int
    newer_closes: int
    orders: int

    def __str__(self) -> str:
        return "-".join(map(str, astuple(self)))


ONCE = Deliveries(1, 1, 1, 1, orders=180)
ONCE_AND_THE_NEWER_STAYS = Deliveries(1, 1, 1, 0, orders=12)
REPEATED = [
    Deliveries(2, 1, 2, 1, orders=2520),
    Deliveries(2, 2, 1, 1, orders=22680),
    Deliveries(1, 1, 2, 2, orders=22680),
    Deliveries(2, 2, 2, 0, orders=2520),
]


@pytest.mark.parametrize("deliveries", [ONCE, ONCE_AND_THE_NEWER_STAYS], ids=str)
def test_in_every_order_the_table_is_right_in_the_end(table: ToldTable, deliveries: Deliveries) -> None:
    counted = put_into_every_order(table, deliveries, Upkeep.follow_all, one_in=12)

    assert counted == deliveries.orders


@pytest.mark.parametrize("deliveries", REPEATED, ids=str)
def test_so_it_is_where_events_are_delivered_twice(deliveries: Deliveries) -> None:
    store = MemoryConnectionStore()

    counted = put_into_every_order(ToldTable(store, store), deliveries, Upkeep.follow_all, one_in=12)

    assert counted == deliveries.orders


@pytest.mark.parametrize("deliveries", [ONCE, ONCE_AND_THE_NEWER_STAYS, REPEATED[0]], ids=str)
def test_where_the_stream_is_not_followed_a_sweep_does_as_well(deliveries: Deliveries) -> None:
    store = MemoryConnectionStore()

    counted = put_into_every_order(ToldTable(store, store), deliveries, Upkeep.sweep, one_in=6)

    assert counted == deliveries.orders


def test_without_repair_only_an_open_that_comes_after_a_later_close_is_ever_left() -> None:
    """What the stream and the sweep are for: nothing is left to tell such a write that it is late."""
    store = MemoryConnectionStore()
    table = ToldTable(store, store)
    left = []
    for order in orders([1, 2, 1, 2]):
        older_open, newer_close = order.index(0), order.index(3)
        play(table, ONCE, order)
        if table.connections():
            left.append(order)
            assert older_open > newer_close
        clear(table)

    assert 0 < len(left) < ONCE.orders / 4


def put_into_every_order(
    table: ToldTable, deliveries: Deliveries, repaired_by: Callable[[Upkeep], object], *, one_in: int
) -> int:
    """Check each order, or every day some of them, and tell how many there are."""
    every_order = list(orders(lengths(deliveries)))
    for order in sampled(every_order, one_in):
        newer = play(table, deliveries, order)
        clock = FixedClock(LATER + GRACE)
        repaired_by(Upkeep(table, TheirGateway(newer), clock))
        assert table.connections() == ({C1} if deliveries.newer_closes == 0 else set()), order
        clear(table)
    return len(every_order)


def play(table: ToldTable, deliveries: Deliveries, order: Sequence[int]) -> OneConnection:
    """Have the writes come in *order*; whoever was told 'connected' and has not left is always there."""
    older, newer = OneConnection(table, EARLIER), OneConnection(table, LATER)
    programs: list[list[Step]] = [[older.open] * deliveries.older_opens]
    programs += [list(older.close()) for _ in range(deliveries.older_closes)]
    newer_opens = len(programs)
    programs += [[newer.open] * deliveries.newer_opens]
    programs += [list(newer.close()) for _ in range(deliveries.newer_closes)]
    newer_came = False
    for number in order:
        programs[number].pop(0)()
        newer_came |= number >= newer_opens
        if newer.is_live or (older.is_live and not newer_came):  # an id is given anew when nobody has it
            there = table.get(C1)
            assert there is not None, order
            assert there.connected_at == (LATER if newer.is_live else EARLIER), order
    return newer


def lengths(deliveries: Deliveries) -> list[int]:
    it = deliveries
    return [it.older_opens, *[2] * it.older_closes, it.newer_opens, *[2] * it.newer_closes]


def clear(table: ToldTable) -> None:
    for entry in table.entries():
        table.forget(entry)
    table.changes.clear()
