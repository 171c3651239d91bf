"""Every order of the single writes of two connections that share an id, on every store."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

import pytest

from app.adapters.ip import PeerFirstIpResolver
from app.adapters.memory import MemoryConnectionTable
from app.domain.errors import AlreadyClosed
from app.domain.handshakes import CloseConnection, OpenAdmission, OpenConnection
from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection, ConnectionId, Removed, Tombstone
from tests.builders import NOON, a_disconnect, a_handshake
from tests.fakes import FakeGateway, FixedClock
from tests.races import GRACE, STORES, Operations, StreamedTable, a_streamed_table
from tests.thoroughness import sampled

C1 = ConnectionId("c-1")
EARLIER, LATER = NOON, NOON + timedelta(seconds=1)

type Step = Callable[[], object]


@pytest.fixture(params=STORES)
def table(request: pytest.FixtureRequest) -> Iterator[StreamedTable]:
    with a_streamed_table(request.param, request) as table:
        yield table


class OneConnection:
    """The events of a connection as single writes, and whether its client is connected."""

    def __init__(self, table: StreamedTable, connected_at: datetime) -> None:
        clock = FixedClock(LATER)
        self.connected_at = connected_at
        self.is_live = False
        self._has_left = False
        self._open = OpenConnection(
            clock, PeerFirstIpResolver(), OpenAdmission(), table, lifetime=timedelta(hours=24)
        )
        self._table = table
        self._clock = clock

    def open(self) -> None:
        """The write of its open."""
        with suppress(AlreadyClosed):
            self._open(a_handshake(connected_at=self.connected_at))
            self.is_live = not self._has_left

    def close(self) -> Sequence[Step]:
        """The two writes of one close; the second one does nothing if the first one did not ask for it."""
        postponed: list[Step] = []

        class Postponing(StreamedTable):
            def tombstone(self, tombstone: Tombstone) -> Removed:
                write = super().tombstone
                postponed.append(lambda: write(tombstone))
                return Removed(None)

        table = Postponing(self._table.store, self._table.table, changes=self._table.changes)

        def remove() -> None:
            self._has_left, self.is_live = True, False
            CloseConnection(self._clock, table)(a_disconnect(connected_at=self.connected_at))

        def write_tombstone() -> None:
            for write in postponed:
                write()

        return remove, write_tombstone


def orders(programs: Sequence[int]) -> Iterator[Sequence[int]]:
    """Every order of the steps of programs with so many steps, each step named by its program's number."""
    if not any(programs):
        yield []
    for number, left in enumerate(programs):
        if left:
            rest = [steps - (other == number) for other, steps in enumerate(programs)]
            for order in orders(rest):
                yield [number, *order]


def a_gateway_of(newer: OneConnection) -> FakeGateway:
    """A gateway that has the newer connection while it is live, and no other."""
    gateway = FakeGateway()

    def look_up(connection: Connection) -> None:
        gateway.results[connection.id] = ProbeResult.ALIVE if newer.is_live else ProbeResult.GONE

    gateway.before = look_up
    return gateway


@dataclass(frozen=True)
class Deliveries:
    """How often each event is delivered, and in how many orders; a close is two writes, an open is one."""

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
def test_after_every_order_the_table_is_right(
    table: StreamedTable, deliveries: Deliveries, request: pytest.FixtureRequest
) -> None:
    # what the orders try are the conditions of the writes, which the SDK sends as the direct transport does
    by_sdk = request.node.callspec.params["table"].startswith("dynamodb-boto3")
    counted = check_every_order(
        table, deliveries, Operations.track_all, one_in=12, one_in_ci=12 if by_sdk else 1
    )

    assert counted == deliveries.orders


@pytest.mark.parametrize("deliveries", REPEATED, ids=str)
def test_after_every_order_of_repeated_deliveries_the_table_is_right(deliveries: Deliveries) -> None:
    memory = MemoryConnectionTable()

    counted = check_every_order(
        StreamedTable(memory, memory), deliveries, Operations.track_all, one_in=12, one_in_ci=3
    )

    assert counted == deliveries.orders


@pytest.mark.parametrize("table", dict.fromkeys([STORES[0], STORES[-1]]), indirect=True)  # two are enough
@pytest.mark.parametrize("deliveries", [ONCE, ONCE_AND_THE_NEWER_STAYS], ids=str)
def test_after_every_order_a_sweep_makes_the_table_right(
    table: StreamedTable, deliveries: Deliveries, request: pytest.FixtureRequest
) -> None:
    one_in_ci = 1 if request.node.callspec.params["table"] == "memory" else 6
    counted = check_every_order(table, deliveries, Operations.sweep, one_in=12, one_in_ci=one_in_ci)

    assert counted == deliveries.orders


def test_after_every_order_of_repeated_deliveries_a_sweep_makes_the_table_right() -> None:
    memory = MemoryConnectionTable()

    counted = check_every_order(StreamedTable(memory, memory), REPEATED[0], Operations.sweep, one_in=6)

    assert counted == REPEATED[0].orders


def test_without_repair_only_an_open_after_a_later_close_leaves_a_connection() -> None:
    """This is what the stream and the sweep are for: no entry is left that shows such an open to be late."""
    memory = MemoryConnectionTable()
    table = StreamedTable(memory, memory)
    left = []
    for order in orders([1, 2, 1, 2]):
        older_open, newer_close = order.index(0), order.index(3)
        play(table, ONCE, order)
        if table.connections():
            left.append(order)
            assert older_open > newer_close
        clear(table)

    assert 0 < len(left) < ONCE.orders / 4


def check_every_order(
    table: StreamedTable,
    deliveries: Deliveries,
    repair: Callable[[Operations], object],
    *,
    one_in: int,
    one_in_ci: int = 1,
) -> int:
    """Check each order, or by default a sample of them, and return how many there are."""
    every_order = list(orders([len(program) for program in writes(deliveries)]))
    for order in sampled(every_order, one_in, one_in_ci=one_in_ci):
        newer = play(table, deliveries, order)
        clock = FixedClock(LATER + GRACE)
        repair(Operations(table, a_gateway_of(newer), clock))
        expected = {C1} if deliveries.newer_closes == 0 else set()
        assert table.connections() == expected, in_words(deliveries, order)
        clear(table)
    return len(every_order)


def play(table: StreamedTable, deliveries: Deliveries, order: Sequence[int]) -> OneConnection:
    """Make the writes in *order*; a client that is connected and has not left is always in the table."""
    older, newer = OneConnection(table, EARLIER), OneConnection(table, LATER)
    programs: list[list[Step]] = [[older.open] * deliveries.older_opens]
    programs += [list(older.close()) for _ in range(deliveries.older_closes)]
    newer_opens = len(programs)
    programs += [[newer.open] * deliveries.newer_opens]
    programs += [list(newer.close()) for _ in range(deliveries.newer_closes)]
    newer_has_begun = False
    for number in order:
        programs[number].pop(0)()
        newer_has_begun |= number >= newer_opens
        # The gateway reuses an id only when no connection has it.
        if newer.is_live or (older.is_live and not newer_has_begun):
            stored = table.get(C1)
            assert stored is not None, in_words(deliveries, order)
            assert stored.connected_at == (LATER if newer.is_live else EARLIER), in_words(deliveries, order)
    return newer


def writes(deliveries: Deliveries) -> list[list[str]]:
    """What each program writes, in words."""
    return [
        ["add of the older"] * deliveries.older_opens,
        *[["remove of the older", "tombstone of the older"]] * deliveries.older_closes,
        ["add of the newer"] * deliveries.newer_opens,
        *[["remove of the newer", "tombstone of the newer"]] * deliveries.newer_closes,
    ]


def in_words(deliveries: Deliveries, order: Sequence[int]) -> str:
    programs = [iter(program) for program in writes(deliveries)]
    return f"after {', '.join(next(programs[number]) for number in order)}"


def clear(table: StreamedTable) -> None:
    for entry in table.entries():
        table.delete_exact(entry)
    table.changes.clear()
