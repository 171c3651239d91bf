"""The operators' use cases: list connections, get one, evict one; on a table in memory."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.memory import MemoryConnectionTable
from app.domain.errors import InvalidSelection, StorageUnavailable
from app.domain.lifecycle import ProbeResult
from app.domain.model import AccountId, ClientId, Connection, ConnectionId, Entry, RegionName, Tombstone
from app.domain.operations import EvictConnection, Eviction, GetConnection, ListConnections
from app.domain.selection import Page, Selection
from tests.builders import NOON, a_connection
from tests.fakes import FakeGateway, FixedClock

C1 = ConnectionId("c-1")
HOURS_2 = timedelta(hours=2)
SECOND = timedelta(seconds=1)
UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)


class UnconfirmedDeletes(MemoryConnectionTable):
    """A table that does not confirm a delete."""

    def delete_exact(self, entry: Entry) -> bool:
        raise StorageUnavailable("ReadTimeoutError", outcome_unknown=True)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def table() -> MemoryConnectionTable:
    return MemoryConnectionTable(page_size=2)


@pytest.fixture
def list_connections(table: MemoryConnectionTable, clock: FixedClock) -> ListConnections:
    return ListConnections(table, clock)


@pytest.fixture
def get_connection(table: MemoryConnectionTable, clock: FixedClock) -> GetConnection:
    return GetConnection(table, clock)


def add(table: MemoryConnectionTable, *ids: str, **changes: Any) -> None:
    for name in ids:
        table.add(a_connection(id=ConnectionId(name), **changes))


def ids(page: Page) -> list[str]:
    return [connection.id for connection in page.connections]


def test_connections_are_listed_page_by_page(
    list_connections: ListConnections, table: MemoryConnectionTable
) -> None:
    add(table, "c-1", "c-2", "c-3")

    first = list_connections(Selection())
    second = list_connections(Selection(), first.next)

    assert (ids(first), ids(second)) == (["c-1", "c-2"], ["c-3"])
    assert second.next is None


def test_a_page_may_be_empty_and_not_the_last(
    list_connections: ListConnections, table: MemoryConnectionTable
) -> None:
    add(table, "c-1", "c-2", expires_at=NOON - SECOND)
    add(table, "c-3")

    page = list_connections(Selection())

    assert page.connections == ()
    assert page.next is not None


def test_all_skips_empty_pages(list_connections: ListConnections, table: MemoryConnectionTable) -> None:
    add(table, "c-1", "c-2", "c-3", "c-4", expires_at=NOON - SECOND)
    add(table, "c-0", "c-5")

    assert [it.id for it in list_connections.all(Selection())] == ["c-0", "c-5"]


def test_all_of_an_empty_table_is_nothing(list_connections: ListConnections) -> None:
    assert list(list_connections.all(Selection())) == []


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["c-1", "c-2", "c-3"]),
        (Selection(account=AccountId("111111111111")), ["c-1", "c-2"]),
        (Selection(account=AccountId("111111111111"), region=RegionName("eu-central-1")), ["c-2"]),
        (Selection(client_id=ClientId("wall-3")), ["c-2", "c-3"]),
        (Selection(account=AccountId("111111111111"), client_id=ClientId("wall-3")), ["c-2"]),
        (Selection(client_id=ClientId("nobody")), []),
    ],
)
def test_only_selected_connections_are_listed(
    list_connections: ListConnections,
    table: MemoryConnectionTable,
    selection: Selection,
    expected: list[str],
) -> None:
    add(table, "c-1", account="111111111111", region="us-east-1", client_id="wall-1")
    add(table, "c-2", account="111111111111", region="eu-central-1", client_id="wall-3")
    add(table, "c-3", account="222222222222", region="eu-central-1", client_id="wall-3")

    assert [it.id for it in list_connections.all(selection)] == expected


def test_a_token_that_no_page_gave_is_refused(list_connections: ListConnections) -> None:
    with pytest.raises(InvalidSelection):
        list_connections(Selection(), "somewhere")


BEGAN = [
    pytest.param({"connected_at": NOON}, HOURS_2 - SECOND, id="the gateway's time"),
    pytest.param({"connected_at": None, "created_at": NOON}, HOURS_2 - SECOND, id="our time"),
    pytest.param(
        {"connected_at": UNKNOWN, "created_at": NOON}, HOURS_2 - SECOND, id="the gateway's time is unusable"
    ),
]


@pytest.mark.parametrize(("times", "last_listed"), BEGAN)
def test_a_connection_is_listed_for_the_longest_duration_that_the_gateway_allows(
    list_connections: ListConnections,
    get_connection: GetConnection,
    table: MemoryConnectionTable,
    clock: FixedClock,
    times: dict[str, datetime | None],
    last_listed: timedelta,
) -> None:
    add(table, "c-1", **times)

    clock.advance(last_listed)
    assert ids(list_connections(Selection())) == ["c-1"]
    assert get_connection(C1) is not None

    clock.advance(SECOND)
    assert ids(list_connections(Selection())) == []
    assert get_connection(C1) is None


def test_a_connection_is_listed_until_it_expires(
    list_connections: ListConnections,
    get_connection: GetConnection,
    table: MemoryConnectionTable,
    clock: FixedClock,
) -> None:
    add(table, "c-1", expires_at=NOON + 2 * SECOND)

    clock.advance(SECOND)
    assert ids(list_connections(Selection())) == ["c-1"]
    assert get_connection(C1) is not None

    clock.advance(SECOND)
    assert ids(list_connections(Selection())) == []
    assert get_connection(C1) is None


@pytest.mark.parametrize(
    "times",
    [
        {"connected_at": None, "created_at": UNKNOWN},
        {"connected_at": UNKNOWN, "created_at": UNKNOWN},
        {"expires_at": UNKNOWN},
    ],
    ids=["began, by our clock", "began, by either clock", "expires"],
)
def test_a_connection_of_unknown_age_or_end_is_not_listed(
    list_connections: ListConnections, table: MemoryConnectionTable, times: dict[str, datetime | None]
) -> None:
    add(table, "c-1", **times)

    assert ids(list_connections(Selection())) == []


def test_a_tombstone_is_not_listed(
    list_connections: ListConnections, get_connection: GetConnection, table: MemoryConnectionTable
) -> None:
    table.tombstone(Tombstone(C1, connected_at=NOON, closed_at=NOON, expires_at=NOON + HOURS_2))

    assert ids(list_connections(Selection())) == []
    assert get_connection(C1) is None


def test_an_unknown_connection_is_none(get_connection: GetConnection) -> None:
    assert get_connection(C1) is None


moments = st.integers(-4 * 3600, 4 * 3600).map(lambda seconds: NOON + timedelta(seconds=seconds))


@given(st.lists(st.tuples(moments, moments, st.none() | moments), max_size=12))
def test_exactly_the_live_connections_are_listed(
    times: list[tuple[datetime, datetime, datetime | None]],
) -> None:
    table = MemoryConnectionTable(page_size=3)
    for number, (created_at, expires_at, connected_at) in enumerate(times):
        add(
            table,
            f"c-{number:02}",
            created_at=created_at,
            expires_at=expires_at,
            connected_at=connected_at,
        )

    listed = {it.id for it in ListConnections(table, FixedClock()).all(Selection())}

    assert listed == {
        f"c-{number:02}"
        for number, (created_at, expires_at, connected_at) in enumerate(times)
        if expires_at > NOON and (connected_at or created_at) > NOON - HOURS_2
    }


def evict_connection(
    table: MemoryConnectionTable, gateway: FakeGateway, *, after: timedelta
) -> EvictConnection:
    return EvictConnection(table, gateway, FixedClock(NOON + after), grace=timedelta(seconds=30))


def a_gateway(result: ProbeResult) -> FakeGateway:
    return FakeGateway({C1: result})


def test_evicting_a_connection_closes_it_and_deletes_its_entry(table: MemoryConnectionTable) -> None:
    add(table, "c-1")
    gateway = FakeGateway()

    eviction = evict_connection(table, gateway, after=SECOND)(C1)

    assert eviction == Eviction(a_connection(), ProbeResult.CLOSED, ended=True, deleted=True)
    assert gateway.closed == [C1]
    assert table.get(C1) is None


def test_the_gateway_is_asked_to_close_the_connection_that_the_table_has(
    table: MemoryConnectionTable,
) -> None:
    add(table, "c-1", stage="beta")
    asked: list[Connection] = []

    evict_connection(table, FakeGateway(before=asked.append), after=SECOND)(C1)

    assert asked == [a_connection(stage="beta")]


def test_closing_a_connection_leaves_its_entry_to_the_caller(table: MemoryConnectionTable) -> None:
    add(table, "c-1")

    eviction = evict_connection(table, FakeGateway(), after=SECOND).close(a_connection())

    assert eviction == Eviction(a_connection(), ProbeResult.CLOSED, ended=True, deleted=False)
    assert table.get(C1) == a_connection()


def test_a_connection_that_is_not_live_can_be_evicted(table: MemoryConnectionTable) -> None:
    add(table, "c-1", expires_at=NOON - SECOND)

    evict = evict_connection(table, FakeGateway(), after=SECOND)

    assert evict.find(C1) == a_connection(expires_at=NOON - SECOND)
    assert evict(C1) is not None
    assert evict.find(C1) is None


def test_a_closed_connection_whose_delete_was_not_confirmed_is_not_reported_as_deleted() -> None:
    table = UnconfirmedDeletes()
    table.add(a_connection())

    eviction = evict_connection(table, FakeGateway(), after=SECOND)(C1)

    assert eviction == Eviction(a_connection(), ProbeResult.CLOSED, ended=True, deleted=False)


def test_an_unconfirmed_delete_is_an_error_if_nothing_was_closed() -> None:
    table = UnconfirmedDeletes()
    table.add(a_connection())

    with pytest.raises(StorageUnavailable):
        evict_connection(table, a_gateway(ProbeResult.GONE), after=timedelta(minutes=1))(C1)


@pytest.mark.parametrize("connected_at", [NOON, None, UNKNOWN])
@pytest.mark.parametrize(("age", "ended"), [(29, False), (30, True)])
def test_a_gone_connection_is_deleted_once_it_is_past_its_grace(
    table: MemoryConnectionTable, connected_at: datetime | None, age: int, *, ended: bool
) -> None:
    connection = a_connection(connected_at=connected_at, created_at=NOON)
    table.add(connection)

    eviction = evict_connection(table, a_gateway(ProbeResult.GONE), after=age * SECOND)(C1)

    assert eviction == Eviction(connection, ProbeResult.GONE, ended=ended, deleted=ended)
    assert (table.get(C1) is None) == ended


def test_a_gone_connection_of_unknown_age_has_no_grace(table: MemoryConnectionTable) -> None:
    add(table, "c-1", connected_at=None, created_at=UNKNOWN)

    evict_connection(table, a_gateway(ProbeResult.GONE), after=SECOND)(C1)

    assert table.get(C1) is None


@pytest.mark.parametrize(
    "result", [ProbeResult.ALIVE, ProbeResult.THROTTLED, ProbeResult.FORBIDDEN, ProbeResult.FAILED]
)
def test_on_any_other_result_the_connection_stays(table: MemoryConnectionTable, result: ProbeResult) -> None:
    add(table, "c-1")

    eviction = evict_connection(table, a_gateway(result), after=timedelta(hours=1))(C1)

    assert eviction == Eviction(a_connection(), result, ended=False, deleted=False)
    assert table.get(C1) == a_connection()


def test_an_unknown_connection_can_not_be_evicted(table: MemoryConnectionTable) -> None:
    gateway = FakeGateway()

    assert evict_connection(table, gateway, after=SECOND)(C1) is None
    assert gateway.closed == []
