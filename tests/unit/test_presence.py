"""What follows from a change, rule by rule; then all of it at once, under crashes and repeated deliveries."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from threading import Barrier, Semaphore, Thread
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.adapters.memory import MemoryConnectionStore
from app.adapters.memory_presence import MemoryPresenceStore
from app.domain.errors import AlreadyClosed, StorageUnavailable
from app.domain.model import (
    UNKNOWN_CLIENT,
    AccountId,
    ClientId,
    Connection,
    ConnectionId,
    RegionName,
    Removed,
)
from app.domain.presence import Expired, Fact, FollowChanges, Joined, Left, NotReplaced, Replaced, Revived
from app.domain.upkeep import (
    Answer,
    Change,
    Client,
    ConnectionRef,
    Entry,
    Presence,
    Tombstone,
    Turn,
    VisitEvent,
    VisitId,
    ref_of,
)
from tests.builders import NEVER, NOON, NOON_MS, FixedClock, a_connection
from tests.thoroughness import examples

DASHBOARD = Client(ClientId("dashboard-7"), AccountId("123456789012"), RegionName("ap-northeast-2"))
GRACE = timedelta(seconds=30)


def at(second: float) -> timedelta:
    return timedelta(seconds=second)


def a_tab(name: str, second: float = 0, **changes: Any) -> Connection:
    """A connection of the dashboard, begun so many seconds after noon."""
    began = NOON + at(second)
    return a_connection(**{"id": ConnectionId(name), "connected_at": began, "created_at": began} | changes)


def came(connection: Connection) -> Change:
    return Change(None, connection)


def went(connection: Connection, *, expired: bool = False) -> Change:
    return Change(connection, None, expired)


def a_mark(connection: Connection) -> Tombstone:
    return Tombstone(connection.id, connection.connected_at, closed_at=NOON, expires_at=NOON + at(900))


class FakeGateway:
    """Gateway that closes what it is told to, unless it is to answer otherwise."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.answers: dict[str, Answer] = {}

    def ask(self, connection: Connection) -> Answer:
        return Answer.ALIVE

    def close(self, connection: Connection) -> Answer:
        self.closed.append(connection.id)
        return self.answers.get(connection.id, Answer.CLOSED)


class World:
    """The use case with all that it needs, and what it told."""

    def __init__(self, *, replaces_duplicates: bool = False) -> None:
        self.registry = MemoryConnectionStore()
        self.presence = MemoryPresenceStore()
        self.gateway = FakeGateway()
        self.clock = FixedClock(NOON + timedelta(minutes=10))
        self.until = NEVER
        self.told: list[Fact] = []
        self.follow = FollowChanges(
            self.registry, self.presence, self.gateway, self.clock, GRACE, replaces_duplicates
        )

    def follows(self, *changes: Change) -> list[Fact]:
        """What it tells of *changes*."""
        before = len(self.told)
        for change in changes:
            self.follow(change, self.tell, until=self.until)
        return self.told[before:]

    def tell(self, fact: Fact) -> None:
        if isinstance(self.presence, FragilePresence):
            self.presence.call()
        self.told.append(fact)

    def opens(self, *connections: Connection) -> list[Fact]:
        for connection in connections:
            self.registry.add(connection)
        return self.follows(*map(came, connections))

    def present(self, client: Client = DASHBOARD) -> frozenset[ConnectionRef]:
        return self.presence.change(client, lambda presence: presence).connections


@pytest.fixture
def world() -> World:
    return World()


# ---- The value ---------------------------------------------------------------------------------------------

C1, C2 = ConnectionRef("c-1@1"), ConnectionRef("c-2@2")
V1, V2 = VisitId(C1), VisitId(C2)


def test_the_first_connection_begins_a_visit() -> None:
    assert Presence().came(C1) == Presence(frozenset({C1}), V1, (VisitEvent(Turn.JOINED, V1),))


def test_a_further_connection_is_of_the_same_visit() -> None:
    one = Presence(frozenset({C1}), V1)

    assert one.came(C2) == Presence(frozenset({C1, C2}), V1)
    assert one.came(C1) == one


def test_the_last_connection_ends_the_visit() -> None:
    both = Presence(frozenset({C1, C2}), V1)

    assert both.went(C1) == Presence(frozenset({C2}), V1)
    assert both.went(C1).went(C2) == Presence(untold=(VisitEvent(Turn.LEFT, V1),))


def ref_at(name: str, began: timedelta) -> ConnectionRef:
    return ConnectionRef(f"{name}@{(NOON + began).timestamp() * 1000:.0f}")


def test_a_connection_that_must_have_ended_is_gone_when_its_client_comes_again() -> None:
    first, longest = ref_at("c-1", timedelta()), timedelta(hours=2, minutes=5)
    still, over = ref_at("c-2", longest), ref_at("c-2", longest + timedelta(milliseconds=1))

    assert Presence().came(first).came(still).connections == {first, still}
    assert Presence().came(first).came(over) == Presence(
        connections=frozenset({over}),
        visit=VisitId(over),
        untold=(
            VisitEvent(Turn.JOINED, VisitId(first)),
            VisitEvent(Turn.LEFT, VisitId(first)),
            VisitEvent(Turn.JOINED, VisitId(over)),
        ),
    )


def test_what_must_have_ended_does_not_end_a_visit_that_others_make() -> None:
    first, young, later = (ref_at(f"c-{hour}", timedelta(hours=hour)) for hour in (0, 2, 4))

    present = Presence().came(first).came(young).came(later)

    assert present.connections == {young, later}
    assert present.visit == VisitId(first)


def test_of_a_connection_whose_time_nobody_knows_nobody_knows_that_it_has_ended() -> None:
    unknown = ConnectionRef("c-1@0")

    assert unknown in Presence().came(unknown).came(ref_at("c-2", timedelta())).connections


def test_beyond_the_most_connections_further_ones_do_not_count() -> None:
    full = Presence(frozenset(ref_at(f"c-{number}", timedelta()) for number in range(5000)), V1)

    assert full.came(ref_at("c-5000", timedelta())) == full


def test_a_presence_at_its_most_goes_on_once_its_connections_must_have_ended() -> None:
    full = Presence(frozenset(ref_at(f"c-{number}", timedelta()) for number in range(5000)), V1)
    later = ref_at("c-5000", timedelta(hours=3))

    assert full.came(later).connections == {later}


def test_an_id_is_one_connections_at_a_time() -> None:
    one = Presence(frozenset({C1, C2}), V1)
    renamed = ConnectionRef("c-1@7")

    assert one.came(renamed) == Presence(frozenset({renamed, C2}), V1)


def test_a_connection_that_must_have_ended_when_another_began_does_not_count() -> None:
    later = Presence(frozenset({ref_at("c-2", timedelta(hours=3))}), V1)

    assert later.came(ref_at("c-1", timedelta())) == later


def test_what_was_not_there_ends_nothing() -> None:
    assert Presence().went(C1) == Presence()
    assert Presence(frozenset({C1}), V1).went(C2) == Presence(frozenset({C1}), V1)


def test_what_is_untold_stays_in_its_order_until_it_was_told() -> None:
    presence = Presence().came(C1).went(C1).came(C2)

    assert presence.untold == (
        VisitEvent(Turn.JOINED, V1),
        VisitEvent(Turn.LEFT, V1),
        VisitEvent(Turn.JOINED, V2),
    )
    assert presence.told(presence.untold[:2]).untold == (VisitEvent(Turn.JOINED, V2),)


# ---- Visits ------------------------------------------------------------------------------------------------


def test_a_client_with_its_first_connection_has_joined(world: World) -> None:
    assert world.opens(a_tab("c-1")) == [Joined(DASHBOARD, VisitId(f"c-1@{NOON_MS}"))]


def test_a_client_without_its_last_connection_has_left(world: World) -> None:
    world.opens(a_tab("c-1"))

    assert world.follows(went(a_tab("c-1"))) == [Left(DASHBOARD, VisitId(f"c-1@{NOON_MS}"))]


def test_a_client_with_several_tabs_is_present_until_the_last_one_leaves(world: World) -> None:
    (joined,) = world.opens(a_tab("c-1"), a_tab("c-2"))

    assert joined == Joined(DASHBOARD, VisitId(f"c-1@{NOON_MS}"))
    assert world.follows(went(a_tab("c-1"))) == []
    assert world.follows(went(a_tab("c-2"))) == [Left(DASHBOARD, VisitId(f"c-1@{NOON_MS}"))]


def test_a_client_that_comes_again_makes_another_visit(world: World) -> None:
    world.opens(a_tab("c-1"))
    world.follows(went(a_tab("c-1")))

    assert world.opens(a_tab("c-2", 60)) == [Joined(DASHBOARD, VisitId(f"c-2@{NOON_MS + 60_000}"))]


@pytest.mark.parametrize("other", [{"account": AccountId("")}, {"region": RegionName("eu-central-1")}])
def test_of_another_account_or_region_is_another_client(world: World, other: dict[str, Any]) -> None:
    world.opens(a_tab("c-1"))

    (joined,) = world.opens(a_tab("c-2", **other))

    assert isinstance(joined, Joined)
    assert joined.visit == f"c-2@{NOON_MS}"


def test_a_client_that_did_not_say_who_it_is_makes_no_visits(world: World) -> None:
    unknown = a_tab("c-1", client_id=UNKNOWN_CLIENT)

    assert world.opens(unknown) == []
    assert world.follows(went(unknown)) == []


def test_a_row_that_changes_otherwise_is_the_same_connection(world: World) -> None:
    world.opens(a_tab("c-1"))

    assert world.follows(Change(a_tab("c-1"), a_tab("c-1", user_agent="Mozilla/6.0"))) == []


IN_PLACE = [
    pytest.param({"connected_at": None, "created_at": NOON + at(1)}, {"created_at": NOON + at(1)}, id="told"),
    pytest.param(
        {"created_at": NOON + at(1)}, {"connected_at": None, "created_at": NOON + at(1)}, id="taken"
    ),
    pytest.param(
        {"connected_at": None, "created_at": NOON + at(1)},
        {"connected_at": None, "created_at": NOON},
        id="recorded anew",
    ),
    pytest.param({"connected_at": NOON + at(1)}, {"connected_at": NOON}, id="set back"),
]


@pytest.mark.parametrize(("before", "after"), IN_PLACE)
def test_a_row_whose_time_is_changed_in_place_is_the_same_connection(
    world: World, before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = a_tab("c-1", **before), a_tab("c-1", **after)
    (joined,) = world.opens(old)
    world.registry.remove(old.id, None)
    world.registry.add(new)

    assert world.follows(Change(old, new)) == []
    assert world.present() == {ref_of(new)}
    assert world.registry.get(new.id) == new
    assert isinstance(joined, Joined)
    assert world.follows(went(new)) == [Left(DASHBOARD, joined.visit)]


@pytest.mark.parametrize(("before", "after"), IN_PLACE)
@pytest.mark.parametrize("number", range(1, 14))
def test_wherever_it_stops_a_change_in_place_deletes_nothing_and_ends_no_visit(
    fragile: World, number: int, before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = a_tab("c-1", **before), a_tab("c-1", **after)
    fragile.registry.add(new)
    history = came(old), Change(old, new), came(a_tab("c-2"))
    before_call(fragile, number)
    with pytest.raises(Crash):
        fragile.follows(*history)

    fragile.follows(*history)

    assert list(dict.fromkeys(fragile.told)) == [Joined(DASHBOARD, VisitId(ref_of(old)))]
    assert fragile.present() == {ref_of(new), ref_of(a_tab("c-2"))}
    assert fragile.registry.get(new.id) == new


@pytest.mark.parametrize(("before", "after"), IN_PLACE)
def test_a_change_in_place_that_comes_again_after_the_end_leaves_nobody_present(
    world: World, before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = a_tab("c-1", **before), a_tab("c-1", **after)
    history = came(old), Change(old, new), went(new)
    world.follows(*history)

    for begin in range(len(history)):
        world.follows(*history[begin:])

    assert world.present() == frozenset()
    assert {fact.visit for fact in world.told if isinstance(fact, Joined | Left)} == {VisitId(ref_of(old))}


def test_a_row_without_a_client_that_is_changed_in_place_makes_no_visit(world: World) -> None:
    unknown = a_tab("c-1", client_id=UNKNOWN_CLIENT, connected_at=None, created_at=NOON + at(1))
    world.registry.add(unknown)

    assert world.follows(came(unknown), Change(unknown, replace(unknown, connected_at=NOON))) == []
    assert world.registry.get(unknown.id) == unknown


@pytest.mark.parametrize("number", range(1, 4))
def test_a_worker_that_goes_on_with_a_change_in_place_leaves_nobody_present(
    fragile: World, number: int
) -> None:
    """Meanwhile another one has followed the connection's end."""
    old = a_tab("c-1", connected_at=None, created_at=NOON + at(1))
    new = replace(old, connected_at=NOON)
    fragile.follows(came(old))

    def another() -> None:
        fragile.follows(Change(old, new), went(new))

    before_call(fragile, number, another)
    fragile.follows(Change(old, new))

    assert fragile.present() == frozenset()


def test_an_id_that_goes_to_a_newer_connection_ends_one_and_begins_another(world: World) -> None:
    world.opens(a_tab("c-1"))

    assert world.follows(Change(a_tab("c-1"), a_tab("c-1", 60))) == [
        Left(DASHBOARD, VisitId(f"c-1@{NOON_MS}")),
        Joined(DASHBOARD, VisitId(f"c-1@{NOON_MS + 60_000}")),
    ]


def test_a_mark_is_nobody(world: World) -> None:
    mark = a_mark(a_tab("c-1"))

    assert world.follows(Change(None, mark), Change(mark, None, expired=True)) == []
    assert world.present() == frozenset()


def test_a_mark_in_the_place_of_a_connection_is_its_end(world: World) -> None:
    world.opens(a_tab("c-1"))

    assert world.follows(Change(a_tab("c-1"), a_mark(a_tab("c-1")))) == [
        Left(DASHBOARD, VisitId(f"c-1@{NOON_MS}"))
    ]


def test_a_newer_connection_in_the_place_of_a_mark_is_a_beginning(world: World) -> None:
    assert world.follows(Change(a_mark(a_tab("c-1")), a_tab("c-1", 60))) == [
        Joined(DASHBOARD, VisitId(f"c-1@{NOON_MS + 60_000}"))
    ]


# ---- Expiry ------------------------------------------------------------------------------------------------


def test_a_connection_that_expired_is_told_beside_the_end_of_its_visit(world: World) -> None:
    world.opens(a_tab("c-1"))

    assert world.follows(went(a_tab("c-1"), expired=True)) == [
        Expired(a_tab("c-1")),
        Left(DASHBOARD, VisitId(f"c-1@{NOON_MS}")),
    ]


def test_a_connection_that_expired_is_told_whoever_the_client_is(world: World) -> None:
    unknown = a_tab("c-1", client_id=UNKNOWN_CLIENT)

    assert world.follows(went(unknown, expired=True)) == [Expired(unknown)]


def test_of_what_had_left_already_no_disconnect_was_missed(world: World) -> None:
    world.opens(a_tab("c-1"))
    world.follows(went(a_tab("c-1"), expired=True))

    assert world.follows(went(a_tab("c-1"), expired=True)) == []


# ---- Again -------------------------------------------------------------------------------------------------


def test_a_coming_that_comes_again_is_not_told_again(world: World) -> None:
    world.opens(a_tab("c-1"))

    assert world.follows(came(a_tab("c-1"))) == []
    assert world.present() == {ref_of(a_tab("c-1"))}


def test_a_coming_and_going_that_come_again_are_no_visit(world: World) -> None:
    history = came(a_tab("c-1")), went(a_tab("c-1"))
    world.follows(*history)

    assert world.follows(*history) == []
    assert world.present() == frozenset()


def test_an_old_coming_that_comes_again_does_not_join_a_new_visit(world: World) -> None:
    world.follows(came(a_tab("c-1")), went(a_tab("c-1")))
    world.opens(a_tab("c-2", 60))

    assert world.follows(came(a_tab("c-1"))) == []
    assert world.present() == {ref_of(a_tab("c-2", 60))}


class Crash(Exception):
    """The function is gone, just before a call."""


class FragilePresence(MemoryPresenceStore):
    """A presence store before whose n-th call, from 1, the function is gone; to tell counts as a call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls_left = -1
        self.between: Callable[[], None] | None = None

    def call(self) -> None:
        self.calls_left -= 1
        if self.calls_left == 0:
            if self.between is None:
                raise Crash
            self.between()

    def change(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        self.call()
        return super().change(client, step)

    def mark_left(self, ref: ConnectionRef) -> None:
        self.call()
        super().mark_left(ref)

    def has_left(self, ref: ConnectionRef) -> bool:
        self.call()
        return super().has_left(ref)


@pytest.fixture
def fragile() -> World:
    world = World()
    world.presence = FragilePresence()
    world.follow = FollowChanges(world.registry, world.presence, world.gateway, world.clock, GRACE)
    return world


def before_call(world: World, number: int, between: Callable[[], None] | None = None) -> None:
    assert isinstance(world.presence, FragilePresence)
    world.presence.calls_left, world.presence.between = number, between


@pytest.mark.parametrize("number", range(1, 10))
def test_wherever_it_stops_the_next_delivery_tells_what_is_missing(fragile: World, number: int) -> None:
    history = came(a_tab("c-1")), went(a_tab("c-1"))
    before_call(fragile, number)
    with pytest.raises(Crash):
        fragile.follows(*history)

    fragile.follows(*history)

    assert list(dict.fromkeys(fragile.told)) == [
        Joined(DASHBOARD, VisitId(f"c-1@{NOON_MS}")),
        Left(DASHBOARD, VisitId(f"c-1@{NOON_MS}")),
    ]
    assert fragile.present() == frozenset()


@pytest.mark.parametrize("number", range(1, 7))
def test_wherever_it_stops_a_missed_disconnect_is_told(fragile: World, number: int) -> None:
    fragile.opens(a_tab("c-1"))
    before_call(fragile, number)
    expired = Change(a_tab("c-1"), None, expired=True)
    with pytest.raises(Crash):
        fragile.follows(expired)

    fragile.follows(expired)

    assert Expired(a_tab("c-1")) in fragile.told


@pytest.mark.parametrize("number", range(1, 6))
def test_a_worker_that_was_given_up_and_goes_on_leaves_nobody_present(fragile: World, number: int) -> None:
    """Meanwhile another one had the same changes, and those after them."""

    def another() -> None:
        fragile.follows(came(a_tab("c-1")), went(a_tab("c-1")))

    before_call(fragile, number, another)

    fragile.follows(came(a_tab("c-1")))

    assert fragile.present() == frozenset()
    assert len(set(fragile.told)) == 2


def test_a_connection_is_marked_before_anybody_can_see_that_it_left(fragile: World) -> None:
    fragile.opens(a_tab("c-1"))
    before_call(fragile, 2)
    with pytest.raises(Crash):
        fragile.follows(went(a_tab("c-1")))

    assert fragile.presence.has_left(ref_of(a_tab("c-1")))
    assert fragile.present() == {ref_of(a_tab("c-1"))}


# ---- Revivals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_id", ["dashboard-7", UNKNOWN_CLIENT])
def test_a_row_that_a_late_write_brought_back_is_forgotten_again(world: World, client_id: str) -> None:
    dead = a_tab("c-1", client_id=ClientId(client_id))
    world.follows(came(dead), went(dead))

    assert world.opens(dead) == [Revived(dead)]
    assert world.registry.get(dead.id) is None
    assert world.present() == frozenset()


def test_what_had_closed_before_it_was_recorded_is_forgotten_as_soon_as_it_is(world: World) -> None:
    """Its mark would have refused it; but that may have gone with a newer connection that had the id."""
    late = a_tab("c-1")
    world.follows(Change(None, a_mark(late)))

    assert world.opens(late) == [Revived(late)]
    assert world.registry.get(late.id) is None


def test_an_older_connection_of_an_id_whose_newer_one_has_left_is_dead_too(world: World) -> None:
    late, newer = a_tab("c-1"), a_tab("c-1", 60)
    world.follows(came(newer), went(newer))

    assert world.opens(late) == [Revived(late)]
    assert world.registry.get(late.id) is None
    assert world.present() == frozenset()


def test_a_mark_that_does_not_say_of_which_connection_it_is_marks_nobody(world: World) -> None:
    world.follows(Change(None, a_mark(a_tab("c-1", connected_at=None))))

    (joined,) = world.opens(a_tab("c-1"))

    assert isinstance(joined, Joined)


def test_a_newer_connection_that_has_the_id_since_is_no_revival(world: World) -> None:
    dead, newer = a_tab("c-1"), a_tab("c-1", 60)
    world.follows(came(dead), went(dead))
    world.opens(newer)

    assert world.follows(came(dead)) == []
    assert world.registry.get(newer.id) == newer


# ---- Duplicates --------------------------------------------------------------------------------------------


@pytest.fixture
def replacing() -> World:
    return World(replaces_duplicates=True)


def test_a_client_may_keep_its_older_connections(world: World) -> None:
    world.opens(a_tab("c-1"), a_tab("c-2", 60))

    assert world.gateway.closed == []
    assert world.registry.get(ConnectionId("c-1")) == a_tab("c-1")


def test_of_a_client_that_connects_again_the_older_connections_are_ended(replacing: World) -> None:
    old, older, new = a_tab("c-2", 2), a_tab("c-1", 1), a_tab("c-3", 3)
    replacing.opens(old)

    assert replacing.opens(older) == [Replaced(older, Answer.CLOSED)]
    assert replacing.opens(new) == [Replaced(old, Answer.CLOSED)]
    assert replacing.gateway.closed == ["c-1", "c-2"]
    assert replacing.registry.get(new.id) == new
    assert replacing.registry.get(old.id) is None


def test_of_two_that_began_at_once_one_stays_whichever_is_told_of_first() -> None:
    for order in (("c-1", "c-2"), ("c-2", "c-1")):
        replacing = World(replaces_duplicates=True)

        replacing.opens(*map(a_tab, order))

        assert replacing.gateway.closed == ["c-1"]


def test_to_end_an_older_connection_is_no_end_of_the_visit(replacing: World) -> None:
    replacing.opens(a_tab("c-1", 1), a_tab("c-2", 2))

    assert replacing.follows(went(a_tab("c-1", 1))) == []
    assert replacing.present() == {ref_of(a_tab("c-2", 2))}


def test_a_client_that_did_not_say_who_it_is_is_many(replacing: World) -> None:
    replacing.opens(a_tab("c-1", client_id=UNKNOWN_CLIENT), a_tab("c-2", 1, client_id=UNKNOWN_CLIENT))

    assert replacing.gateway.closed == []


def test_an_older_connection_that_is_gone_is_forgotten(replacing: World) -> None:
    replacing.gateway.answers["c-1"] = Answer.GONE

    assert replacing.opens(a_tab("c-1"), a_tab("c-2", 1))[1:] == [Replaced(a_tab("c-1"), Answer.GONE)]
    assert replacing.registry.get(ConnectionId("c-1")) is None


def test_gone_is_not_believed_of_one_whose_handshake_may_not_be_answered_yet(replacing: World) -> None:
    young = a_connection(
        id=ConnectionId("c-1"),
        connected_at=None,
        created_at=replacing.clock.now() - GRACE + timedelta(seconds=1),
    )
    replacing.gateway.answers["c-1"] = Answer.GONE

    assert replacing.opens(young, a_tab("c-2", 600))[1:] == [NotReplaced(young, Answer.GONE)]
    assert replacing.registry.get(young.id) == young


@pytest.mark.parametrize("answer", [Answer.THROTTLED, Answer.FORBIDDEN, Answer.FAILED])
def test_an_older_connection_that_the_gateway_does_not_end_stays(replacing: World, answer: Answer) -> None:
    replacing.gateway.answers["c-1"] = answer

    assert replacing.opens(a_tab("c-1"), a_tab("c-2", 1))[1:] == [NotReplaced(a_tab("c-1"), answer)]
    assert replacing.registry.get(ConnectionId("c-1")) == a_tab("c-1")


def test_an_older_connection_that_is_not_in_the_list_any_more_is_left_alone(replacing: World) -> None:
    replacing.opens(a_tab("c-1"))
    replacing.registry.remove(ConnectionId("c-1"), None)

    replacing.opens(a_tab("c-2", 1))

    assert replacing.gateway.closed == []


def test_another_connection_that_has_an_older_ones_id_since_is_left_alone(replacing: World) -> None:
    replacing.opens(a_tab("c@1"))
    replacing.registry.remove(ConnectionId("c@1"), None)
    replacing.registry.add(a_tab("c@1", 60, client_id=ClientId("dashboard-8")))

    replacing.opens(a_tab("c-2", 30))

    assert replacing.gateway.closed == []


def test_a_connection_that_was_given_to_another_client_is_not_replaced(replacing: World) -> None:
    replacing.opens(a_tab("c-1"))
    replacing.registry.remove(ConnectionId("c-1"), None)
    given = replacing.registry.add(a_tab("c-1", client_id=ClientId("dashboard-8")))

    replacing.opens(a_tab("c-2", 1))

    assert replacing.gateway.closed == []
    assert replacing.registry.get(given.id) == given


@pytest.mark.parametrize(("before", "after"), IN_PLACE)
def test_a_connection_that_is_changed_in_place_does_not_replace_itself(
    replacing: World, before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = a_tab("c-1", **before), a_tab("c-1", **after)
    replacing.registry.add(new)

    replacing.follows(*[came(old), Change(old, new)] * 2)

    assert replacing.gateway.closed == []
    assert replacing.registry.get(new.id) == new


def test_after_a_failure_no_further_connection_is_closed() -> None:
    class Unavailable(MemoryConnectionStore):
        def get(self, connection_id: ConnectionId) -> Connection | None:
            asked.append(connection_id)
            raise StorageUnavailable("ReadTimeoutError", outcome_unknown=False)

    asked: list[ConnectionId] = []
    world = World()
    world.opens(*(a_tab(f"c-{number}") for number in range(9)))
    follow = FollowChanges(
        Unavailable(), world.presence, world.gateway, world.clock, GRACE, replaces_duplicates=True
    )

    with pytest.raises(StorageUnavailable):
        follow(came(a_tab("c-9", 1)), world.tell, until=NEVER)

    assert asked == ["c-0"]


def test_when_its_time_is_up_nothing_more_is_closed_and_each_is_told(replacing: World) -> None:
    replacing.opens(a_tab("c-1"))
    replacing.until = replacing.clock.now()

    assert replacing.opens(a_tab("c-2", 1)) == [NotReplaced(a_tab("c-1"), Answer.FAILED)]
    assert replacing.gateway.closed == []
    assert replacing.registry.get(ConnectionId("c-1")) == a_tab("c-1")


class TogetherGateway(FakeGateway):
    """Gateway that answers only once so many closings are under way."""

    def __init__(self, together: int) -> None:
        super().__init__()
        self._together = Barrier(together, timeout=10)

    def close(self, connection: Connection) -> Answer:
        self._together.wait()
        return super().close(connection)


def test_several_connections_are_closed_at_once() -> None:
    world = World()
    world.opens(*(a_tab(f"c-{number}") for number in range(4)))
    gateway = TogetherGateway(together=4)
    world.follow = FollowChanges(
        world.registry, world.presence, gateway, world.clock, GRACE, replaces_duplicates=True, concurrency=4
    )

    world.opens(a_tab("c-4", 1))

    assert sorted(gateway.closed) == ["c-0", "c-1", "c-2", "c-3"]


def test_a_store_that_fails_while_connections_are_closed_has_the_change_come_again(replacing: World) -> None:
    class Unavailable(MemoryConnectionStore):
        def forget(self, entry: Entry) -> bool:
            raise StorageUnavailable("ReadTimeoutError", outcome_unknown=True)

    replacing.registry = Unavailable()
    replacing.follow = FollowChanges(
        replacing.registry,
        replacing.presence,
        replacing.gateway,
        replacing.clock,
        GRACE,
        replaces_duplicates=True,
    )
    replacing.opens(a_tab("c-1"))

    with pytest.raises(StorageUnavailable, match="ReadTimeoutError"):
        replacing.opens(a_tab("c-2", 1))


def test_what_came_too_late_replaces_nothing(replacing: World) -> None:
    replacing.follows(came(a_tab("c-9", 99)), went(a_tab("c-9", 99)))
    replacing.opens(a_tab("c-1", 1))

    replacing.opens(a_tab("c-9", 99))

    assert replacing.gateway.closed == []


# ---- All at once -------------------------------------------------------------------------------------------
#
# A table whose stream has several shards. Each shard has the changes of the rows that fall to it, and one
# function at a time follows them, in batches. Each call that the function makes of the presence store is a
# step, and so is each fact that it tells. Before any step the functions of other shards may go on, or the
# function may be killed; then its whole batch is delivered again.

CLIENTS = [DASHBOARD, Client(ClientId("dashboard-8"), AccountId(""), RegionName(""))]
SHARDS, ROWS = 2, 2


class Table(MemoryConnectionStore):
    """Connections, each change of which goes into the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stream: list[list[Change]] = [[] for _ in range(SHARDS)]

    def add(self, connection: Connection) -> Connection:
        with self._streamed(connection.id):
            return super().add(connection)

    def mark_closed(
        self, connection_id: ConnectionId, *, connected_at: datetime, closed_at: datetime, until: datetime
    ) -> Removed:
        with self._streamed(connection_id):
            return super().mark_closed(
                connection_id, connected_at=connected_at, closed_at=closed_at, until=until
            )

    def put(self, connection: Connection) -> Connection:
        with self._streamed(connection.id):
            self._entries[connection.id] = connection
        return connection

    def forget(self, entry: Entry) -> bool:
        with self._streamed(entry.id if isinstance(entry, Connection) else entry.connection_id):
            return super().forget(entry)

    def expire(self, entry: Entry) -> None:
        with self._streamed(entry.id if isinstance(entry, Connection) else entry.connection_id, expired=True):
            super().forget(entry)

    def entries(self) -> list[Entry]:
        return list(self.segment(0, 1))

    @contextmanager
    def _streamed(self, connection_id: ConnectionId, *, expired: bool = False) -> Iterator[None]:
        before = self._entries.get(connection_id)
        yield
        after = self._entries.get(connection_id)
        if before != after:
            self.stream[int(connection_id[0])].append(Change(before, after, expired))


class Killed(BaseException):
    """The function is gone: nothing catches it."""


class Worker:
    """A function at work on a batch, in a thread that runs only while somebody waits for its next step."""

    def __init__(self, machine: "PresenceMachine", batch: list[Change]) -> None:
        self.batch = batch
        self.finished = False
        self._machine = machine
        self._killed = False
        self._failure: Exception | None = None
        self._go, self._waits = Semaphore(0), Semaphore(0)
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()
        self._waits.acquire()

    def step(self) -> None:
        """Let it go on until it is about to make another step, or has finished."""
        self._go.release()
        self._waits.acquire()
        if self._failure is not None:
            raise self._failure

    def kill(self) -> None:
        self._killed = True
        self.step()
        self._thread.join()

    def wait(self) -> None:
        """Before each step of its own."""
        self._waits.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def _run(self) -> None:
        try:
            self.wait()
            presence = StepwisePresence(self._machine.presence, self)
            follow = FollowChanges(self._machine.table, presence, FakeGateway(), FixedClock(), GRACE)
            for change in self.batch:
                follow(change, self._tell, until=NEVER)
            self.finished = True
        except Killed:
            pass
        except Exception as failure:  # noqa: BLE001 - it is raised again where it is waited for
            self._failure = failure
        finally:
            self._waits.release()

    def _tell(self, fact: Fact) -> None:
        self.wait()
        self._machine.told.append(fact)


class StepwisePresence:
    """The one PresenceStore, as a worker sees it."""

    def __init__(self, shared: MemoryPresenceStore, worker: Worker) -> None:
        self._shared = shared
        self._worker = worker

    def change(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        self._worker.wait()
        return self._shared.change(client, step)

    def mark_left(self, ref: ConnectionRef) -> None:
        self._worker.wait()
        self._shared.mark_left(ref)

    def has_left(self, ref: ConnectionRef) -> bool:
        self._worker.wait()
        return self._shared.has_left(ref)


shards = st.integers(0, SHARDS - 1)


class PresenceMachine(RuleBasedStateMachine):
    """Connections come and go; what is told of them is right, however their changes are delivered."""

    gives_up_workers = False

    def __init__(self) -> None:
        super().__init__()
        self.table, self.presence = Table(), MemoryPresenceStore()
        self.told: list[Fact] = []
        self.followed = [0] * SHARDS
        self.workers: list[Worker | None] = [None] * SHARDS
        self.given_up: list[Worker] = []
        self.open: dict[ConnectionId, Connection] = {}
        self.ended: list[Connection] = []
        self.second = 0

    @rule(
        shard=shards,
        row=st.integers(0, ROWS - 1),
        client=st.sampled_from([*CLIENTS, DASHBOARD]),
        closes_first=st.booleans(),
    )
    def a_client_connects(self, shard: int, row: int, client: Client, *, closes_first: bool) -> None:
        """Whatever had the id before has ended, though nobody said so. It may close before it is recorded."""
        former = self.open.get(ConnectionId(f"{shard}-{row}"))
        if former is not None and former.connected_at is None:
            return  # the two would count as the same
        self.second += 1
        began = NOON + at(self.second)
        connection = a_tab(
            f"{shard}-{row}",
            self.second,
            client_id=client.client_id,
            account=client.account,
            region=client.region,
        )
        if former is not None:
            self.ended.append(self.open.pop(connection.id))
        if closes_first:
            self.ended.append(connection)
            self.table.mark_closed(connection.id, connected_at=began, closed_at=began, until=began)
        else:
            self.open[connection.id] = self.table.add(connection)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), expired=st.booleans())
    def a_connection_ends(self, data: st.DataObject, *, expired: bool) -> None:
        connection = self.open.pop(data.draw(st.sampled_from(sorted(self.open))))
        if connection.connected_at is not None:  # no $connect writes one without
            self.ended.append(connection)
        if expired:
            self.table.expire(connection)
        else:
            self.table.forget(connection)

    @precondition(lambda self: self.open and not self.gives_up_workers)
    @rule(data=st.data())
    def an_item_is_changed_in_place(self, data: st.DataObject) -> None:
        """Its time is told or taken, which shows as another ref.

        A worker that was given up may write the old ref once more, which is
        then taken for a connection until the client comes again after 2 hours.
        """
        there = self.open[data.draw(st.sampled_from(sorted(self.open)))]
        if there.connected_at is None:
            began = there.created_at - at(0.5)
            changed = replace(there, connected_at=began, created_at=began)
        else:
            changed = replace(there, connected_at=None, created_at=there.created_at + at(0.5))
        self.open[there.id] = self.table.put(changed)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def a_late_write_brings_one_back(self, data: st.DataObject) -> None:
        """Unless its mark, or a newer connection, stands in the way."""
        with suppress(AlreadyClosed):
            self.table.add(data.draw(st.sampled_from(self.ended)))

    @precondition(lambda self: self.marks())
    @rule(data=st.data(), expired=st.booleans())
    def a_mark_goes(self, data: st.DataObject, *, expired: bool) -> None:
        mark = data.draw(st.sampled_from(self.marks()))
        if expired:
            self.table.expire(mark)
        else:
            self.table.forget(mark)

    def marks(self) -> list[Tombstone]:
        return [entry for entry in self.table.entries() if isinstance(entry, Tombstone)]

    @rule(shard=shards, size=st.integers(1, 6), steps=st.integers(1, 9))
    def a_shard_goes_on(self, shard: int, size: int, steps: int) -> None:
        batch = self.table.stream[shard][self.followed[shard] :][:size]
        if batch and self.workers[shard] is None:
            self.workers[shard] = Worker(self, batch)
        for _ in range(steps):
            if worker := self.workers[shard]:
                worker.step()
                if worker.finished:
                    self.followed[shard] += len(worker.batch)
                    self.workers[shard] = None

    @precondition(lambda self: any(self.workers))
    @rule(data=st.data())
    def a_worker_is_killed(self, data: st.DataObject) -> None:
        shard = data.draw(st.sampled_from([it for it in range(SHARDS) if self.workers[it]]))
        worker, self.workers[shard] = self.workers[shard], None
        assert worker is not None
        worker.kill()

    @rule(shard=shards, records=st.integers(1, 8))
    def earlier_records_come_again(self, shard: int, records: int) -> None:
        if self.workers[shard] is None:
            self.followed[shard] = max(0, self.followed[shard] - records)

    @precondition(lambda self: self.gives_up_workers and any(self.workers))
    @rule(data=st.data())
    def a_worker_is_taken_for_gone(self, data: st.DataObject) -> None:
        shard = data.draw(st.sampled_from([it for it in range(SHARDS) if self.workers[it]]))
        worker, self.workers[shard] = self.workers[shard], None
        assert worker is not None
        self.given_up.append(worker)

    @invariant()
    def visits_begin_and_end_in_turn(self) -> None:
        if not self.gives_up_workers:
            for client in CLIENTS:
                self.visits(client)

    def visits(self, client: Client) -> list[Joined | Left]:
        """What was told of the client's visits, each fact counted once."""
        told = [fact for fact in self.told if isinstance(fact, Joined | Left) and fact.client == client]
        visits = list(dict.fromkeys(told))
        for joined, left in zip(visits[::2], visits[1::2], strict=False):
            assert isinstance(left, Left), visits
            assert joined == Joined(client, left.visit), visits
        assert len(visits) % 2 == 0 or isinstance(visits[-1], Joined), visits
        return visits

    def teardown(self) -> None:
        """All is delivered in the end."""
        try:
            while self._is_behind():
                for shard in range(SHARDS):
                    self.a_shard_goes_on(shard, size=3, steps=1)
                for worker in [it for it in self.given_up if not it.finished]:
                    worker.step()
            self._check_the_end()
        finally:
            for worker in [it for it in (*self.given_up, *self.workers) if it and not it.finished]:
                worker.kill()

    def _is_behind(self) -> bool:
        streams = zip(self.followed, self.table.stream, strict=True)
        return any(number < len(stream) for number, stream in streams) or not all(
            worker.finished for worker in self.given_up
        )

    def _check_the_end(self) -> None:
        connections = [entry for entry in self.table.entries() if isinstance(entry, Connection)]
        assert {it.id: it for it in connections} == self.open
        for client in CLIENTS:
            refs = {ref_of(it) for it in self.open.values() if Client.of(it) == client}
            presence = self.presence.change(client, lambda presence: presence)
            assert presence.connections == refs
            assert presence.untold == ()
            if not self.gives_up_workers:
                assert len(self.visits(client)) % 2 == bool(refs)
        changes = chain.from_iterable(self.table.stream)
        missed = [it.before for it in changes if it.expired and isinstance(it.before, Connection)]
        told = [it.connection for it in self.told if isinstance(it, Expired)]
        assert set(map(ref_of, told)) == set(map(ref_of, missed))


class GivingUpMachine(PresenceMachine):
    """A worker that was taken for gone may go on, too: in the end, who is present is right all the same."""

    gives_up_workers = True


@pytest.mark.parametrize("machine", [PresenceMachine, GivingUpMachine])
def test_who_is_present_is_right_however_the_changes_are_delivered(machine: type[PresenceMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=examples(100), stateful_step_count=40))
