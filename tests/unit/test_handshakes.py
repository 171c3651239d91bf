"""The use cases of a handshake, in memory."""

from datetime import datetime, timedelta

import pytest

from app.adapters.ip import PeerFirstIpResolver
from app.adapters.memory import MemoryConnectionTable
from app.domain.admission import Reason
from app.domain.errors import AlreadyClosed, Denied, InvalidHandshake
from app.domain.handshakes import CloseConnection, OpenAdmission, OpenConnection
from app.domain.model import ConnectionId, Handshake, Removed, Tombstone
from tests.builders import NOON, a_connection, a_disconnect, a_handshake
from tests.fakes import FixedClock

C1 = ConnectionId("c-1")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store() -> MemoryConnectionTable:
    return MemoryConnectionTable()


@pytest.fixture
def open_connection(clock: FixedClock, store: MemoryConnectionTable) -> OpenConnection:
    return OpenConnection(
        clock,
        PeerFirstIpResolver(),
        OpenAdmission(),
        store,
        lifetime=timedelta(hours=24),
        attribute_names=("appVersion",),
    )


@pytest.fixture
def close_connection(clock: FixedClock, store: MemoryConnectionTable) -> CloseConnection:
    return CloseConnection(clock, store)


def test_an_opened_connection_is_stored(
    open_connection: OpenConnection, store: MemoryConnectionTable
) -> None:
    connection = open_connection(
        a_handshake(query={"clientId": "dashboard-7", "appVersion": "2.7"})
    ).connection

    assert store.get(C1) == connection
    assert connection.client_id == "dashboard-7"
    assert connection.source_ip == "203.0.113.24"
    assert connection.attributes == {"appVersion": "2.7"}


def test_a_connection_expires_after_the_lifetime(open_connection: OpenConnection) -> None:
    connection = open_connection(a_handshake()).connection

    assert connection.created_at == NOON
    assert connection.expires_at == NOON + timedelta(hours=24)


def test_a_repeated_open_returns_the_first_connection(
    open_connection: OpenConnection, clock: FixedClock
) -> None:
    first = open_connection(a_handshake(query={"clientId": "first"}))
    clock.advance(timedelta(seconds=1))

    second = open_connection(a_handshake(query={"clientId": "second"}))

    assert not first.repeated
    assert second.repeated
    assert second.connection == first.connection


class Admitting:
    """Admission with a principal and an end, of those who ask for one account."""

    def admit(self, handshake: Handshake, at: datetime) -> Handshake:
        if handshake.query.get("account") != "123456789012":
            raise Denied(Reason.ACCOUNT, "user-42")
        return handshake._replace(
            query={**handshake.query, "clientId": "user-42"},
            principal_id="user-42",
            admitted_until=at + timedelta(hours=1),
        )


def test_what_is_admitted_is_stored(clock: FixedClock, store: MemoryConnectionTable) -> None:
    open_connection = OpenConnection(
        clock, PeerFirstIpResolver(), Admitting(), store, lifetime=timedelta(hours=24)
    )

    connection = open_connection(
        a_handshake(query={"clientId": "somebody-else", "account": "123456789012"})
    ).connection

    assert (connection.client_id, connection.principal_id) == ("user-42", "user-42")
    assert connection.admitted_until == NOON + timedelta(hours=1)


def test_what_is_denied_is_not_stored_and_is_known_by_its_address(
    clock: FixedClock, store: MemoryConnectionTable
) -> None:
    open_connection = OpenConnection(
        clock, PeerFirstIpResolver(), Admitting(), store, lifetime=timedelta(hours=24)
    )

    with pytest.raises(Denied) as denied:
        open_connection(a_handshake(query={"account": "999999999999"}))

    assert (denied.value.reason, denied.value.source_ip) == (Reason.ACCOUNT, "203.0.113.24")
    assert list(store.scan(0, 1)) == []


def test_a_handshake_that_breaks_a_rule_stores_nothing(
    open_connection: OpenConnection, store: MemoryConnectionTable
) -> None:
    with pytest.raises(InvalidHandshake):
        open_connection(a_handshake(query={"account": "12"}))

    assert store.get(C1) is None


def test_a_closed_connection_is_removed_and_returned(
    close_connection: CloseConnection, store: MemoryConnectionTable
) -> None:
    store.add(a_connection())

    closed = close_connection(a_disconnect())

    assert closed.removed.connection == a_connection()
    assert store.get(C1) is None


def test_closing_an_unknown_connection_returns_none(close_connection: CloseConnection) -> None:
    closed = close_connection(a_disconnect())

    assert closed.removed.connection is None
    assert closed.duration is None


def test_the_duration_is_the_difference_of_the_gateways_times(
    close_connection: CloseConnection, store: MemoryConnectionTable
) -> None:
    store.add(a_connection(connected_at=NOON))

    closed = close_connection(a_disconnect(disconnected_at=NOON + timedelta(milliseconds=374362)))

    assert closed.duration == timedelta(milliseconds=374362)


def test_without_a_stored_connection_the_duration_comes_from_the_disconnect(
    close_connection: CloseConnection,
) -> None:
    closed = close_connection(a_disconnect(connected_at=NOON, disconnected_at=NOON + timedelta(seconds=9)))

    assert closed.duration == timedelta(seconds=9)


@pytest.mark.parametrize(
    ("stored_at", "event_at", "duration"),
    [(2, 2, 7), (1, 2, 8), (None, 2, 7), (1, None, 8), (None, None, 5)],
)
def test_the_beginning_is_the_stored_time_else_the_events_else_created_at(
    close_connection: CloseConnection,
    store: MemoryConnectionTable,
    stored_at: int | None,
    event_at: int | None,
    duration: int,
) -> None:
    def at(second: int | None) -> datetime | None:
        return None if second is None else NOON + timedelta(seconds=second)

    store.add(a_connection(connected_at=at(stored_at), created_at=at(4)))

    closed = close_connection(a_disconnect(connected_at=at(event_at), disconnected_at=at(9)))

    assert closed.duration == timedelta(seconds=duration)


def test_without_the_gateways_times_our_clock_is_used(
    close_connection: CloseConnection, store: MemoryConnectionTable, clock: FixedClock
) -> None:
    store.add(a_connection(connected_at=None, created_at=NOON))
    clock.advance(timedelta(minutes=3))

    assert close_connection(a_disconnect()).duration == timedelta(minutes=3)


def test_the_duration_is_never_negative(
    close_connection: CloseConnection, store: MemoryConnectionTable
) -> None:
    store.add(a_connection(connected_at=NOON))

    closed = close_connection(a_disconnect(disconnected_at=NOON - timedelta(seconds=1)))

    assert closed.duration == timedelta()


# ---- A close before its open's write


@pytest.mark.parametrize("age", [timedelta(), timedelta(seconds=119), timedelta(seconds=-5)])
def test_closing_a_young_connection_that_is_not_stored_refuses_its_later_open(
    open_connection: OpenConnection,
    close_connection: CloseConnection,
    store: MemoryConnectionTable,
    clock: FixedClock,
    age: timedelta,
) -> None:
    close_connection(a_disconnect(connected_at=clock.now() - age))

    with pytest.raises(AlreadyClosed):
        open_connection(a_handshake(connected_at=clock.now() - age))

    assert store.get(C1) is None


def test_a_tombstone_has_the_connections_times_and_expires_after_ten_minutes(
    close_connection: CloseConnection, store: MemoryConnectionTable
) -> None:
    close_connection(a_disconnect(connected_at=NOON))

    assert list(store.scan(0, of=1)) == [
        Tombstone(C1, connected_at=NOON, closed_at=NOON, expires_at=NOON + timedelta(minutes=10))
    ]


@pytest.mark.parametrize("connected_at", [NOON - timedelta(minutes=2), None])
def test_closing_an_older_connection_that_is_not_stored_writes_no_tombstone(
    close_connection: CloseConnection, store: MemoryConnectionTable, connected_at: datetime | None
) -> None:
    close_connection(a_disconnect(connected_at=connected_at))

    assert list(store.scan(0, of=1)) == []


@pytest.mark.parametrize("stored_at", [NOON, None])
def test_closing_a_stored_connection_writes_no_tombstone(
    close_connection: CloseConnection, store: MemoryConnectionTable, stored_at: datetime | None
) -> None:
    store.add(a_connection(connected_at=stored_at))

    close_connection(a_disconnect(connected_at=NOON))

    assert list(store.scan(0, of=1)) == []


def test_a_close_removes_an_older_connection_and_writes_its_own_tombstone(
    open_connection: OpenConnection, close_connection: CloseConnection, store: MemoryConnectionTable
) -> None:
    older = a_connection(connected_at=NOON - timedelta(hours=1))
    store.add(older)

    closed = close_connection(a_disconnect(connected_at=NOON))

    assert closed.removed.connection == older
    with pytest.raises(AlreadyClosed):
        open_connection(a_handshake(connected_at=NOON))


def test_a_late_close_leaves_a_newer_connection_with_the_id(
    close_connection: CloseConnection, store: MemoryConnectionTable
) -> None:
    newer = a_connection(connected_at=NOON)
    store.add(newer)

    closed = close_connection(a_disconnect(connected_at=NOON - timedelta(seconds=1)))

    assert closed.removed.connection is None
    assert store.get(C1) == newer


def test_an_open_between_the_removal_and_the_tombstone_is_found(clock: FixedClock) -> None:
    late = a_connection(connected_at=NOON)

    class Raced(MemoryConnectionTable):
        def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
            removed = super().remove(connection_id, connected_at)
            self.add(late)
            return removed

    store = Raced()

    closed = CloseConnection(clock, store)(a_disconnect(connected_at=NOON))

    assert closed.removed.connection == late
    assert store.get(C1) is None


def test_if_the_answer_to_the_tombstone_is_lost_the_outcome_is_unknown(
    clock: FixedClock,
) -> None:
    class Unanswered(MemoryConnectionTable):
        def tombstone(self, tombstone: Tombstone) -> Removed:
            super().tombstone(tombstone)
            return Removed(None, outcome_unknown=True)

    closed = CloseConnection(clock, Unanswered())(a_disconnect(connected_at=NOON))

    assert closed.removed == Removed(None, outcome_unknown=True)


def test_a_connection_that_the_tombstone_replaced_makes_the_outcome_known(clock: FixedClock) -> None:
    class Raced(MemoryConnectionTable):
        def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
            self.add(a_connection(connected_at=NOON))
            return Removed(None, outcome_unknown=True)

    closed = CloseConnection(clock, Raced())(a_disconnect(connected_at=NOON))

    assert closed.removed == Removed(a_connection(connected_at=NOON))
