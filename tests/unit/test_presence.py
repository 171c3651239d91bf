"""The value Presence: connections, departures, sessions, and the events of a change."""

from datetime import UTC, datetime, timedelta

from app.domain.lifecycle import ConnectionRef
from app.domain.model import AccountId, ClientId, ConnectionId, RegionName
from app.domain.presence import Client, Departure, Joined, Left, Presence, PresenceEvent, SessionId
from app.domain.sessions import ROOM
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


def a_presence(*refs: ConnectionRef, session: SessionId = S1, has_further: bool = False) -> Presence:
    """A presence without departures."""
    return Presence(DASHBOARD, frozenset(refs), session, has_further=has_further)


def departed(*refs: ConnectionRef, at: datetime = NOON) -> frozenset[Departure]:
    return frozenset(Departure(ref, at) for ref in refs)


def events(before: Presence, after: Presence) -> list[PresenceEvent]:
    return list(after.events_since(before))


# ---- Connections -------------------------------------------------------------------------------------------


def test_the_first_connection_begins_a_session() -> None:
    assert EMPTY.connected(C1, ROOM) == a_presence(C1)


def test_a_further_connection_belongs_to_the_same_session() -> None:
    one = a_presence(C1)

    assert one.connected(C2, ROOM) == a_presence(C1, C2)
    assert one.connected(C1, ROOM) == one


def test_the_last_connection_ends_the_session() -> None:
    both = a_presence(C1, C2)

    one = both.disconnected(C1, NOON, ROOM)

    assert one == Presence(DASHBOARD, frozenset({C2}), S1, departed(C1))
    assert one.disconnected(C2, NOON, ROOM) == Presence(DASHBOARD, departures=departed(C1, C2))


def test_a_connection_that_must_have_ended_is_dropped_when_its_client_connects_again() -> None:
    first, longest = a_ref("c-1"), timedelta(hours=2, minutes=5)
    at_the_limit, over_it = a_ref("c-2", longest), a_ref("c-2", longest + MILLISECOND)
    presence = EMPTY.connected(first, ROOM)

    assert presence.connected(at_the_limit, ROOM).connections == {first, at_the_limit}
    assert presence.connected(over_it, ROOM) == a_presence(over_it, session=session_of(over_it))


def test_dropping_a_connection_does_not_end_the_session_of_the_others() -> None:
    first, second, third = (a_ref(f"c-{hour}", timedelta(hours=hour)) for hour in (0, 2, 4))

    presence = EMPTY.connected(first, ROOM).connected(second, ROOM).connected(third, ROOM)

    assert presence.connections == {second, third}
    assert presence.session == session_of(first)


def test_a_connection_of_unknown_age_is_not_dropped() -> None:
    unknown = ConnectionRef(ConnectionId("c-1"), EPOCH)

    assert unknown in EMPTY.connected(unknown, ROOM).connected(a_ref("c-2"), ROOM).connections


def test_an_id_has_one_connection_at_a_time() -> None:
    reused = ConnectionRef(C1.connection_id, EPOCH + 7 * MILLISECOND)

    assert a_presence(C1, C2).connected(reused, ROOM) == a_presence(reused, C2)


def test_a_connection_that_must_have_ended_before_another_began_is_not_counted() -> None:
    later = a_presence(a_ref("c-2", timedelta(hours=3)))

    assert later.connected(a_ref("c-1"), ROOM) == later
    assert later.must_have_ended(a_ref("c-1"))


# ---- Departures --------------------------------------------------------------------------------------------


def test_a_connection_that_has_departed_is_not_counted_again() -> None:
    presence = a_presence(C1).disconnected(C1, NOON, ROOM)

    assert presence.connected(C1, ROOM) == presence
    assert presence.disconnected(C1, NOON + timedelta(hours=1), ROOM) == presence


def test_every_older_connection_of_an_id_has_left_with_a_newer_one() -> None:
    older, newest = a_ref("c-1"), a_ref("c-1", timedelta(hours=1))
    presence = EMPTY.disconnected(a_ref("c-1", timedelta(minutes=1)), NOON, ROOM)

    assert presence.has_left(older)
    assert not presence.has_left(newest)
    assert presence.disconnected(newest, NOON, ROOM).departures == departed(newest)


def test_a_departure_is_known_for_a_day() -> None:
    yesterday = EMPTY.disconnected(C1, NOON - timedelta(days=1), ROOM)
    within_a_day = EMPTY.disconnected(C1, NOON - timedelta(days=1, seconds=-1), ROOM)

    assert {it.ref for it in yesterday.disconnected(C2, NOON, ROOM).departures} == {C2}
    assert {it.ref for it in within_a_day.disconnected(C2, NOON, ROOM).departures} == {C1, C2}


def test_without_room_for_a_departure_nothing_changes_until_it_is_marked() -> None:
    full = a_presence(C1, C2).disconnected(C1, NOON, 1)

    assert full.disconnected(C2, NOON, 1) == full
    assert full.without(C2) == Presence(DASHBOARD, departures=departed(C1))


def test_there_is_room_again_after_a_day() -> None:
    full = EMPTY.disconnected(C1, NOON - timedelta(days=1), 1)

    assert full.disconnected(C2, NOON, 1).departures == departed(C2)


# ---- Further connections -----------------------------------------------------------------------------------


def test_without_room_a_connection_is_a_further_one() -> None:
    assert a_presence(C1).connected(C2, 1) == a_presence(C1, has_further=True)


def test_after_a_further_connection_every_other_is_one_too() -> None:
    """So a client with many connections does not have its item written by all of them at once."""
    emptied = a_presence(has_further=True)

    assert emptied.connected(C2, ROOM) == emptied


def test_a_session_with_further_connections_does_not_end_with_those_that_it_has_itself() -> None:
    presence = a_presence(C1, has_further=True)

    assert presence.disconnected(C1, NOON, ROOM) == presence  # to be marked one by one
    assert presence.without(C1) == a_presence(has_further=True)


def test_a_session_with_further_connections_is_marked_as_ending_and_then_ends() -> None:
    presence = a_presence(has_further=True)

    ending = presence.ending(S1)

    assert ending.is_ending
    assert ending.ended() == EMPTY
    assert ending.continued() == presence


def test_a_session_that_has_connections_itself_or_is_another_one_is_not_ending() -> None:
    has_one, other = a_presence(C1, has_further=True), a_presence(session=S2, has_further=True)

    assert has_one.ending(S1) == has_one
    assert other.ending(S1) == other


# ---- Events ------------------------------------------------------------------------------------------------


def test_a_session_that_begins_or_ends_is_an_event() -> None:
    one = a_presence(C1)

    assert events(EMPTY, one) == [Joined(DASHBOARD, S1)]
    assert events(one, a_presence(C1, C2)) == []
    assert events(one, one.without(C1)) == [Left(DASHBOARD, S1)]


def test_a_session_that_another_one_replaces_ends_first() -> None:
    assert events(a_presence(C1), a_presence(C2, session=S2)) == [Left(DASHBOARD, S1), Joined(DASHBOARD, S2)]
