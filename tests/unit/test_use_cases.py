"""Opening and closing, on fakes."""

from datetime import datetime, timedelta

import pytest

from app.adapters.ip import PeerFirstIpResolver
from app.adapters.memory import MemoryConnectionStore
from app.domain.errors import AlreadyClosed, InvalidHandshake
from app.domain.model import ConnectionId, Removed
from app.domain.upkeep import Tombstone
from app.domain.use_cases import CloseConnection, OpenConnection
from tests.builders import NOON, FixedClock, a_connection, a_disconnect, a_handshake

C1 = ConnectionId("c-1")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store() -> MemoryConnectionStore:
    return MemoryConnectionStore()


@pytest.fixture
def open_connection(clock: FixedClock, store: MemoryConnectionStore) -> OpenConnection:
    return OpenConnection(
        clock, PeerFirstIpResolver(), store, timedelta(hours=24), attribute_names=("appVersion",)
    )


@pytest.fixture
def close_connection(clock: FixedClock, store: MemoryConnectionStore) -> CloseConnection:
    return CloseConnection(clock, store)


def test_an_opened_connection_is_in_the_store(
    open_connection: OpenConnection, store: MemoryConnectionStore
) -> None:
    connection = open_connection(
        a_handshake(query={"clientId": "dashboard-7", "appVersion": "2.7"})
    ).connection

    assert store.get(C1) == connection
    assert connection.client_id == "dashboard-7"
    assert connection.source_ip == "203.0.113.24"
    assert connection.attributes == {"appVersion": "2.7"}


def test_a_connection_is_kept_for_its_lifetime(open_connection: OpenConnection) -> None:
    connection = open_connection(a_handshake()).connection

    assert connection.created_at == NOON
    assert connection.expires_at == NOON + timedelta(hours=24)


def test_a_repeated_open_tells_what_the_first_one_left(
    open_connection: OpenConnection, clock: FixedClock
) -> None:
    first = open_connection(a_handshake(query={"clientId": "first"}))
    clock.advance(timedelta(seconds=1))

    second = open_connection(a_handshake(query={"clientId": "second"}))

    assert not first.repeated
    assert second.repeated
    assert second.connection == first.connection


def test_a_handshake_that_breaks_a_rule_leaves_nothing(
    open_connection: OpenConnection, store: MemoryConnectionStore
) -> None:
    with pytest.raises(InvalidHandshake):
        open_connection(a_handshake(query={"account": "12"}))

    assert store.get(C1) is None


def test_a_closed_connection_is_gone_and_told(
    close_connection: CloseConnection, store: MemoryConnectionStore
) -> None:
    store.add(a_connection())

    closed = close_connection(a_disconnect())

    assert closed.removed.connection == a_connection()
    assert store.get(C1) is None


def test_closing_what_is_unknown_finds_nothing(close_connection: CloseConnection) -> None:
    closed = close_connection(a_disconnect())

    assert closed.removed.connection is None
    assert closed.lasted is None


def test_how_long_it_lasted_is_the_gateways_to_say(
    close_connection: CloseConnection, store: MemoryConnectionStore
) -> None:
    store.add(a_connection(connected_at=NOON))

    closed = close_connection(a_disconnect(disconnected_at=NOON + timedelta(milliseconds=374362)))

    assert closed.lasted == timedelta(milliseconds=374362)


def test_where_no_row_tells_when_it_began_the_disconnect_may(close_connection: CloseConnection) -> None:
    closed = close_connection(a_disconnect(connected_at=NOON, disconnected_at=NOON + timedelta(seconds=9)))

    assert closed.lasted == timedelta(seconds=9)


@pytest.mark.parametrize(
    ("in_the_row", "in_the_event", "lasted"),
    [(2, 2, 7), (1, 2, 8), (None, 2, 7), (1, None, 8), (None, None, 5)],
)
def test_when_it_began_is_in_the_row_or_the_event_or_else_when_it_was_recorded(
    close_connection: CloseConnection,
    store: MemoryConnectionStore,
    in_the_row: int | None,
    in_the_event: int | None,
    lasted: int,
) -> None:
    def at(second: int | None) -> datetime | None:
        return None if second is None else NOON + timedelta(seconds=second)

    store.add(a_connection(connected_at=at(in_the_row), created_at=at(4)))

    closed = close_connection(a_disconnect(connected_at=at(in_the_event), disconnected_at=at(9)))

    assert closed.lasted == timedelta(seconds=lasted)


def test_where_the_gateway_says_nothing_our_own_clock_does(
    close_connection: CloseConnection, store: MemoryConnectionStore, clock: FixedClock
) -> None:
    store.add(a_connection(connected_at=None, created_at=NOON))
    clock.advance(timedelta(minutes=3))

    assert close_connection(a_disconnect()).lasted == timedelta(minutes=3)


def test_clocks_that_disagree_make_no_negative_time(
    close_connection: CloseConnection, store: MemoryConnectionStore
) -> None:
    store.add(a_connection(connected_at=NOON))

    closed = close_connection(a_disconnect(disconnected_at=NOON - timedelta(seconds=1)))

    assert closed.lasted == timedelta()


# ---- A close that comes before its open's write


@pytest.mark.parametrize("age", [timedelta(), timedelta(seconds=119), timedelta(seconds=-5)])
def test_a_young_connection_that_is_not_there_is_marked_and_its_open_refused(
    open_connection: OpenConnection,
    close_connection: CloseConnection,
    store: MemoryConnectionStore,
    clock: FixedClock,
    age: timedelta,
) -> None:
    close_connection(a_disconnect(connected_at=clock.now() - age))

    with pytest.raises(AlreadyClosed):
        open_connection(a_handshake(connected_at=clock.now() - age))

    assert store.get(C1) is None


def test_a_mark_says_what_it_stands_for_and_for_how_long(
    close_connection: CloseConnection, store: MemoryConnectionStore
) -> None:
    close_connection(a_disconnect(connected_at=NOON))

    assert list(store.segment(0, of=1)) == [
        Tombstone(C1, connected_at=NOON, closed_at=NOON, expires_at=NOON + timedelta(minutes=10))
    ]


@pytest.mark.parametrize("connected_at", [NOON - timedelta(minutes=2), None])
def test_a_connection_that_is_not_there_and_not_young_leaves_nothing(
    close_connection: CloseConnection, store: MemoryConnectionStore, connected_at: datetime | None
) -> None:
    close_connection(a_disconnect(connected_at=connected_at))

    assert list(store.segment(0, of=1)) == []


@pytest.mark.parametrize("in_the_row", [NOON, None])
def test_a_young_connection_that_is_there_leaves_nothing(
    close_connection: CloseConnection, store: MemoryConnectionStore, in_the_row: datetime | None
) -> None:
    store.add(a_connection(connected_at=in_the_row))

    close_connection(a_disconnect(connected_at=NOON))

    assert list(store.segment(0, of=1)) == []


def test_a_close_takes_out_the_older_connection_that_its_id_had_and_still_expects_its_own(
    open_connection: OpenConnection, close_connection: CloseConnection, store: MemoryConnectionStore
) -> None:
    older = a_connection(connected_at=NOON - timedelta(hours=1))
    store.add(older)

    closed = close_connection(a_disconnect(connected_at=NOON))

    assert closed.removed.connection == older
    with pytest.raises(AlreadyClosed):
        open_connection(a_handshake(connected_at=NOON))


def test_a_late_close_leaves_the_connection_that_has_its_id_by_now(
    close_connection: CloseConnection, store: MemoryConnectionStore
) -> None:
    newer = a_connection(connected_at=NOON)
    store.add(newer)

    closed = close_connection(a_disconnect(connected_at=NOON - timedelta(seconds=1)))

    assert closed.removed.connection is None
    assert store.get(C1) == newer


def test_an_open_that_comes_between_a_close_and_its_mark_is_found(clock: FixedClock) -> None:
    late = a_connection(connected_at=NOON)

    class Raced(MemoryConnectionStore):
        def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
            removed = super().remove(connection_id, connected_at)
            self.add(late)
            return removed

    store = Raced()

    closed = CloseConnection(clock, store)(a_disconnect(connected_at=NOON))

    assert closed.removed.connection == late
    assert store.get(C1) is None


def test_where_the_answer_to_a_mark_was_lost_nobody_knows_whether_it_took_a_row_out(
    clock: FixedClock,
) -> None:
    class Unheard(MemoryConnectionStore):
        def mark_closed(self, connection_id: ConnectionId, **times: datetime) -> Removed:
            super().mark_closed(connection_id, **times)
            return Removed(None, certain=False)

    closed = CloseConnection(clock, Unheard())(a_disconnect(connected_at=NOON))

    assert closed.removed == Removed(None, certain=False)


def test_what_a_mark_found_is_certain_whatever_the_removal_before_it_heard(clock: FixedClock) -> None:
    class Raced(MemoryConnectionStore):
        def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
            self.add(a_connection(connected_at=NOON))
            return Removed(None, certain=False)

    closed = CloseConnection(clock, Raced())(a_disconnect(connected_at=NOON))

    assert closed.removed == Removed(a_connection(connected_at=NOON))
