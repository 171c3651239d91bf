"""The value Presence: connections, sessions, and the outbox."""

from datetime import UTC, datetime, timedelta

from app.domain.lifecycle import ConnectionRef
from app.domain.model import AccountId, ClientId, ConnectionId, RegionName
from app.domain.presence import Client, Joined, Left, Presence, SessionId
from tests.builders import NOON

DASHBOARD = Client(ClientId("dashboard-7"), AccountId("123456789012"), RegionName("ap-northeast-2"))
EMPTY = Presence(DASHBOARD)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

C1 = ConnectionRef(ConnectionId("c-1"), EPOCH + 1 * MILLISECOND)
C2 = ConnectionRef(ConnectionId("c-2"), EPOCH + 2 * MILLISECOND)
S1, S2 = SessionId("c-1@1"), SessionId("c-2@2")


def a_ref(name: str, began: timedelta = timedelta()) -> ConnectionRef:
    """The ref of a connection that began so long after noon."""
    return ConnectionRef(ConnectionId(name), NOON + began)


def session_of(first: ConnectionRef) -> SessionId:
    """The session that *first* begins."""
    return SessionId(f"{first.connection_id}@{(first.began_at - EPOCH) // MILLISECOND}")


def a_presence(*refs: ConnectionRef, session: SessionId = S1) -> Presence:
    """A presence with an empty outbox."""
    return Presence(DASHBOARD, frozenset(refs), session)


def a_full_presence() -> Presence:
    """A presence with as many connections as are counted, all begun at noon."""
    return a_presence(*(a_ref(f"c-{number}") for number in range(5000)))


def test_the_first_connection_begins_a_session() -> None:
    assert EMPTY.connected(C1) == Presence(DASHBOARD, frozenset({C1}), S1, (Joined(DASHBOARD, S1),))


def test_a_further_connection_belongs_to_the_same_session() -> None:
    one = a_presence(C1)

    assert one.connected(C2) == a_presence(C1, C2)
    assert one.connected(C1) == one


def test_the_last_connection_ends_the_session() -> None:
    both = a_presence(C1, C2)

    assert both.disconnected(C1) == a_presence(C2)
    assert both.disconnected(C1).disconnected(C2) == Presence(DASHBOARD, outbox=(Left(DASHBOARD, S1),))


def test_a_connection_that_must_have_ended_is_dropped_when_its_client_connects_again() -> None:
    first, longest = a_ref("c-1"), timedelta(hours=2, minutes=5)
    at_the_limit, over_it = a_ref("c-2", longest), a_ref("c-2", longest + MILLISECOND)

    assert EMPTY.connected(first).connected(at_the_limit).connections == {first, at_the_limit}
    assert EMPTY.connected(first).connected(over_it) == Presence(
        DASHBOARD,
        connections=frozenset({over_it}),
        session=session_of(over_it),
        outbox=(
            Joined(DASHBOARD, session_of(first)),
            Left(DASHBOARD, session_of(first)),
            Joined(DASHBOARD, session_of(over_it)),
        ),
    )


def test_dropping_a_connection_does_not_end_the_session_of_the_others() -> None:
    first, second, third = (a_ref(f"c-{hour}", timedelta(hours=hour)) for hour in (0, 2, 4))

    presence = EMPTY.connected(first).connected(second).connected(third)

    assert presence.connections == {second, third}
    assert presence.session == session_of(first)


def test_a_connection_of_unknown_age_is_not_dropped() -> None:
    unknown = ConnectionRef(ConnectionId("c-1"), EPOCH)

    assert unknown in EMPTY.connected(unknown).connected(a_ref("c-2")).connections


def test_connections_above_the_maximum_are_not_counted() -> None:
    full = a_full_presence()

    assert full.connected(a_ref("c-5000")) == full


def test_a_full_presence_counts_again_once_its_connections_must_have_ended() -> None:
    later = a_ref("c-5000", timedelta(hours=3))

    assert a_full_presence().connected(later).connections == {later}


def test_an_id_has_one_connection_at_a_time() -> None:
    reused = ConnectionRef(C1.connection_id, EPOCH + 7 * MILLISECOND)

    assert a_presence(C1, C2).connected(reused) == a_presence(reused, C2)


def test_a_connection_that_must_have_ended_before_another_began_is_not_counted() -> None:
    later = a_presence(a_ref("c-2", timedelta(hours=3)))

    assert later.connected(a_ref("c-1")) == later


def test_disconnecting_an_unknown_connection_changes_nothing() -> None:
    assert EMPTY.disconnected(C1) == EMPTY
    assert a_presence(C1).disconnected(C2) == a_presence(C1)


def test_events_stay_in_the_outbox_in_order_until_they_are_published() -> None:
    presence = EMPTY.connected(C1).disconnected(C1).connected(C2)

    assert presence.outbox == (Joined(DASHBOARD, S1), Left(DASHBOARD, S1), Joined(DASHBOARD, S2))
    assert presence.mark_published(presence.outbox[:2]).outbox == (Joined(DASHBOARD, S2),)
