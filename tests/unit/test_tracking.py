"""TrackPresence rule by rule; then all of it at once, with crashes and repeated deliveries."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from itertools import chain, count
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

from app.adapters.memory import MemoryConnectionTable, MemoryPresenceStore
from app.adapters.threads import ThreadWorkers
from app.domain.errors import AlreadyClosed, QueueUnavailable, StorageUnavailable
from app.domain.events import Event, Expired, NotReplaced, Replaced, Revived
from app.domain.history import CatchUp
from app.domain.lifecycle import ConnectionRef, ProbeResult
from app.domain.model import (
    UNKNOWN_CLIENT,
    AccountId,
    ClientId,
    Connection,
    ConnectionId,
    Entry,
    RegionName,
    Removed,
    Tombstone,
)
from app.domain.operations import EvictConnection
from app.domain.presence import Client, Joined, Left, Presence, SessionId
from app.domain.sessions import ROOM, Sessions
from app.domain.tracking import Change, PublishPresence, TrackPresence
from tests.builders import NEVER, NOON, NOON_MS, a_connection
from tests.fakes import FakeCatchUps, FakeGateway, FixedClock, RecordingPublisher
from tests.thoroughness import examples

DASHBOARD = Client(ClientId("dashboard-7"), AccountId("123456789012"), RegionName("ap-northeast-2"))
GRACE = timedelta(seconds=30)


def at(second: float) -> timedelta:
    return timedelta(seconds=second)


def a_tab(name: str, second: float = 0, **changes: Any) -> Connection:
    """A connection of the dashboard that began so many seconds after noon."""
    began = NOON + at(second)
    return a_connection(**{"id": ConnectionId(name), "connected_at": began, "created_at": began} | changes)


def a_tombstone(connection: Connection) -> Tombstone:
    return Tombstone(connection.id, connection.connected_at, closed_at=NOON, expires_at=NOON + at(900))


def connected(connection: Connection) -> Change:
    return Change(None, connection)


def disconnected(connection: Connection, *, expired: bool = False) -> Change:
    return Change(connection, None, expired)


def session_of(first: Connection) -> SessionId:
    """The session that *first* begins."""
    began = first.connected_at or first.created_at
    return SessionId(f"{first.id}@{NOON_MS + (began - NOON) // timedelta(milliseconds=1)}")


class World:
    """The use case on fakes, and the events that it published."""

    def __init__(
        self,
        *,
        table: MemoryConnectionTable | None = None,
        presence: MemoryPresenceStore | None = None,
        publisher: RecordingPublisher | None = None,
        connections_per_client: int | None = None,
        catch_ups: FakeCatchUps | None = None,
        room: int = ROOM,
    ) -> None:
        self.table = table or MemoryConnectionTable()
        self.publisher = publisher or RecordingPublisher()
        self.presence = presence or MemoryPresenceStore(PublishPresence(self.publisher))
        self.gateway = FakeGateway()
        self.clock = FixedClock(NOON + timedelta(minutes=10))
        self.until = NEVER
        self.sessions = Sessions(self.presence, self.clock, room, room)
        self.track = TrackPresence(
            self.table,
            self.sessions,
            self.publisher,
            EvictConnection(self.table, self.gateway, self.clock, GRACE),
            self.clock,
            ThreadWorkers(1),
            connections_per_client,
            catch_ups,
        )

    @property
    def events(self) -> list[Event]:
        return self.publisher.events

    def process(self, *changes: Change) -> list[Event]:
        """Process *changes*, and return the events that were published for them."""
        before = len(self.events)
        for change in changes:
            self.track(change, until=self.until)
        return self.events[before:]

    def connect(self, *connections: Connection) -> list[Event]:
        """Add *connections* to the table, and process that."""
        for connection in connections:
            self.table.add(connection)
        return self.process(*map(connected, connections))

    def present(self, client: Client = DASHBOARD) -> frozenset[ConnectionRef]:
        return self.sessions.connections(client)


@pytest.fixture(params=[ROOM, 1], ids=["room", "no room"])
def world(request: pytest.FixtureRequest) -> World:
    return World(room=request.param)


# ---- Sessions ----------------------------------------------------------------------------------------------


def test_a_client_joins_with_its_first_connection(world: World) -> None:
    assert world.connect(a_tab("c-1")) == [Joined(DASHBOARD, SessionId(f"c-1@{NOON_MS}"))]


def test_a_client_leaves_with_its_last_connection(world: World) -> None:
    world.connect(a_tab("c-1"))

    assert world.process(disconnected(a_tab("c-1"))) == [Left(DASHBOARD, SessionId(f"c-1@{NOON_MS}"))]


def test_a_client_with_several_tabs_is_present_until_the_last_one_disconnects(world: World) -> None:
    (joined,) = world.connect(a_tab("c-1"), a_tab("c-2"))

    assert joined == Joined(DASHBOARD, SessionId(f"c-1@{NOON_MS}"))
    assert world.process(disconnected(a_tab("c-1"))) == []
    assert world.process(disconnected(a_tab("c-2"))) == [Left(DASHBOARD, SessionId(f"c-1@{NOON_MS}"))]


def test_a_client_that_connects_again_begins_another_session(world: World) -> None:
    world.connect(a_tab("c-1"))
    world.process(disconnected(a_tab("c-1")))

    assert world.connect(a_tab("c-2", 60)) == [Joined(DASHBOARD, SessionId(f"c-2@{NOON_MS + 60_000}"))]


@pytest.mark.parametrize("other", [{"account": AccountId("")}, {"region": RegionName("eu-central-1")}])
def test_a_client_id_in_another_account_or_region_is_another_client(
    world: World, other: dict[str, Any]
) -> None:
    world.connect(a_tab("c-1"))

    (joined,) = world.connect(a_tab("c-2", **other))

    assert isinstance(joined, Joined)
    assert joined.session == f"c-2@{NOON_MS}"


def test_a_client_that_does_not_name_itself_has_no_session(world: World) -> None:
    unknown = a_tab("c-1", client_id=UNKNOWN_CLIENT)

    assert world.connect(unknown) == []
    assert world.process(disconnected(unknown)) == []


def test_a_change_of_another_attribute_leaves_the_connection_the_same(world: World) -> None:
    world.connect(a_tab("c-1"))

    assert world.process(Change(a_tab("c-1"), a_tab("c-1", user_agent="Mozilla/6.0"))) == []


IN_PLACE = [
    pytest.param(
        {"connected_at": None, "created_at": NOON + at(1)}, {"created_at": NOON + at(1)}, id="time added"
    ),
    pytest.param(
        {"created_at": NOON + at(1)}, {"connected_at": None, "created_at": NOON + at(1)}, id="time removed"
    ),
    pytest.param(
        {"connected_at": None, "created_at": NOON + at(1)},
        {"connected_at": None, "created_at": NOON},
        id="recorded again",
    ),
    pytest.param({"connected_at": NOON + at(1)}, {"connected_at": NOON}, id="time set back"),
]


@pytest.mark.parametrize(("before", "after"), IN_PLACE)
def test_an_item_whose_time_is_changed_in_place_is_the_same_connection(
    world: World, before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = a_tab("c-1", **before), a_tab("c-1", **after)
    (joined,) = world.connect(old)
    world.table.remove(old.id, None)
    world.table.add(new)

    assert world.process(Change(old, new)) == []
    assert world.present() == {ConnectionRef.of(new)}
    assert world.table.get(new.id) == new
    assert isinstance(joined, Joined)
    assert world.process(disconnected(new)) == [Left(DASHBOARD, joined.session)]


@pytest.mark.parametrize(("before", "after"), IN_PLACE)
@pytest.mark.parametrize("room", [ROOM, 1])
@pytest.mark.parametrize("tabs", [("c-1", "c-2"), ("c-0", "c-1")], ids=["first tab", "further tab"])
def test_a_change_in_place_deletes_nothing_and_ends_no_session_wherever_it_crashes(
    room: int, tabs: tuple[str, str], before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = a_tab("c-1", **before), a_tab("c-1", **after)
    history = [connected(old if name == "c-1" else a_tab(name)) for name in tabs]
    history.insert(tabs.index("c-1") + 1, Change(old, new))
    first = history[0].after
    assert isinstance(first, Connection)
    for fragile in worlds_that_crash(room, [], *history, table=[new]):
        fragile.process(*history)

        (other,) = (name for name in tabs if name != "c-1")
        assert list(dict.fromkeys(fragile.events)) == [Joined(DASHBOARD, session_of(first))]
        assert fragile.present() == {ConnectionRef.of(new), ConnectionRef.of(a_tab(other))}
        assert fragile.table.get(new.id) == new


@pytest.mark.parametrize(("before", "after"), IN_PLACE)
def test_a_change_in_place_that_is_repeated_after_the_disconnect_leaves_nobody_present(
    world: World, before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = a_tab("c-1", **before), a_tab("c-1", **after)
    history = connected(old), Change(old, new), disconnected(new)
    world.process(*history)

    for begin in range(len(history)):
        world.process(*history[begin:])

    assert world.present() == frozenset()
    assert {event.session for event in world.events if isinstance(event, Joined | Left)} == {session_of(old)}


@pytest.mark.parametrize(("before", "after"), IN_PLACE)
def test_a_change_in_place_of_a_connection_that_has_left_begins_no_session(
    world: World, before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = a_tab("c-1", **before), a_tab("c-1", **after)
    world.process(connected(old), disconnected(old))

    assert world.process(Change(old, new)) == []
    assert world.present() == frozenset()


def test_a_change_in_place_of_an_unknown_client_begins_no_session(world: World) -> None:
    unknown = a_tab("c-1", client_id=UNKNOWN_CLIENT, connected_at=None, created_at=NOON + at(1))
    world.table.add(unknown)

    assert world.process(connected(unknown), Change(unknown, unknown._replace(connected_at=NOON))) == []
    assert world.table.get(unknown.id) == unknown


@pytest.mark.parametrize("room", [ROOM, 1])
@pytest.mark.parametrize("others", [[], [a_tab("c-0")]], ids=["only tab", "further tab"])
def test_a_worker_that_is_overtaken_at_a_change_in_place_leaves_nobody_present(
    room: int, others: list[Connection]
) -> None:
    """Meanwhile another worker processes the connection's disconnect."""
    old = a_tab("c-1", connected_at=None, created_at=NOON + at(1))
    new = old._replace(connected_at=NOON)
    for number in count(1):
        fragile = Fragile(room)
        overtaken: list[Fragile] = []
        fragile.process(*map(connected, [*others, old]))

        def another(fragile: Fragile = fragile, overtaken: list[Fragile] = overtaken) -> None:
            overtaken.append(fragile)
            fragile.process(Change(old, new), disconnected(new))

        fragile.countdown.start(number, another)
        fragile.process(Change(old, new))
        if not overtaken:
            break

        assert fragile.present() == {ConnectionRef.of(other) for other in others}


def test_a_newer_connection_with_the_same_id_ends_one_session_and_begins_another(world: World) -> None:
    world.connect(a_tab("c-1"))

    assert world.process(Change(a_tab("c-1"), a_tab("c-1", 60))) == [
        Left(DASHBOARD, SessionId(f"c-1@{NOON_MS}")),
        Joined(DASHBOARD, SessionId(f"c-1@{NOON_MS + 60_000}")),
    ]


def test_a_tombstone_makes_nobody_present(world: World) -> None:
    tombstone = a_tombstone(a_tab("c-1"))

    assert world.process(Change(None, tombstone), Change(tombstone, None, expired=True)) == []
    assert world.present() == frozenset()


def test_a_tombstone_that_replaces_a_connection_disconnects_it(world: World) -> None:
    world.connect(a_tab("c-1"))

    assert world.process(Change(a_tab("c-1"), a_tombstone(a_tab("c-1")))) == [
        Left(DASHBOARD, SessionId(f"c-1@{NOON_MS}"))
    ]


def test_a_newer_connection_that_replaces_a_tombstone_begins_a_session(world: World) -> None:
    assert world.process(Change(a_tombstone(a_tab("c-1")), a_tab("c-1", 60))) == [
        Joined(DASHBOARD, SessionId(f"c-1@{NOON_MS + 60_000}"))
    ]


# ---- Expiry ------------------------------------------------------------------------------------------------


def test_an_expired_connection_is_published_and_so_is_the_end_of_its_session(world: World) -> None:
    world.connect(a_tab("c-1"))

    assert world.process(disconnected(a_tab("c-1"), expired=True)) == [
        Expired(a_tab("c-1")),
        Left(DASHBOARD, SessionId(f"c-1@{NOON_MS}")),
    ]


def test_an_expired_connection_of_an_unknown_client_is_published(world: World) -> None:
    unknown = a_tab("c-1", client_id=UNKNOWN_CLIENT)

    assert world.process(disconnected(unknown, expired=True)) == [Expired(unknown)]


def test_an_expiry_of_a_connection_that_has_left_is_not_published(world: World) -> None:
    world.connect(a_tab("c-1"))
    world.process(disconnected(a_tab("c-1"), expired=True))

    assert world.process(disconnected(a_tab("c-1"), expired=True)) == []


# ---- Repeated deliveries and crashes -----------------------------------------------------------------------


def test_a_repeated_connect_is_not_published_again(world: World) -> None:
    world.connect(a_tab("c-1"))

    assert world.process(connected(a_tab("c-1"))) == []
    assert world.present() == {ConnectionRef.of(a_tab("c-1"))}


def test_a_repeated_connect_and_disconnect_are_no_new_session(world: World) -> None:
    history = connected(a_tab("c-1")), disconnected(a_tab("c-1"))
    world.process(*history)

    assert world.process(*history) == []
    assert world.present() == frozenset()


def test_a_repeated_old_connect_does_not_join_a_newer_session(world: World) -> None:
    world.process(connected(a_tab("c-1")), disconnected(a_tab("c-1")))
    world.connect(a_tab("c-2", 60))

    assert world.process(connected(a_tab("c-1"))) == []
    assert world.present() == {ConnectionRef.of(a_tab("c-2", 60))}


class Crash(Exception):
    """The function crashed, just before a call."""


class Countdown:
    """Counts the calls of the presence store and the publisher; something happens before the n-th, from 1."""

    def __init__(self) -> None:
        self._calls_left = -1
        self._happens: Callable[[], None] | None = None

    def start(self, number: int, happens: Callable[[], None] | None = None) -> None:
        """Have *happens* called before the call of that *number*; without it, the function crashes."""
        self._calls_left, self._happens = number, happens

    def call(self) -> None:
        self._calls_left -= 1
        if self._calls_left == 0:
            if self._happens is None:
                raise Crash
            self._happens()


class FragilePresence(MemoryPresenceStore):
    """A presence store whose every call counts."""

    def __init__(self, countdown: Countdown, publisher: RecordingPublisher) -> None:
        super().__init__(lambda before, after: publisher.events.extend(after.events_since(before)))
        self._countdown = countdown

    def change(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        self._countdown.call()
        return super().change(client, step)

    def add_further(self, session: SessionId, ref: ConnectionRef) -> None:
        self._countdown.call()
        super().add_further(session, ref)

    def remove_further(self, session: SessionId, ref: ConnectionRef) -> None:
        self._countdown.call()
        super().remove_further(session, ref)

    def newest_further(self, session: SessionId) -> ConnectionRef | None:
        self._countdown.call()
        return super().newest_further(session)

    def mark_left(self, ref: ConnectionRef) -> None:
        self._countdown.call()
        super().mark_left(ref)

    def has_left(self, ref: ConnectionRef) -> bool:
        self._countdown.call()
        return super().has_left(ref)


class FragilePublisher(RecordingPublisher):
    """A publisher whose every call counts."""

    def __init__(self, countdown: Countdown) -> None:
        super().__init__()
        self._countdown = countdown

    def publish(self, event: Event) -> None:
        self._countdown.call()
        super().publish(event)


class Fragile(World):
    """A world in which something happens before one of the calls of the presence store and the publisher."""

    def __init__(self, room: int) -> None:
        self.countdown = Countdown()
        publisher = FragilePublisher(self.countdown)
        super().__init__(presence=FragilePresence(self.countdown, publisher), publisher=publisher, room=room)


def worlds_that_crash(
    room: int, before: Sequence[Change], *changes: Change, table: Sequence[Connection] = ()
) -> Iterator[Fragile]:
    """Yield a world for each call at which it crashed while it processed *changes*, after those *before*."""
    for number in count(1):
        fragile = Fragile(room)
        for connection in table:
            fragile.table.add(connection)
        fragile.process(*before)
        fragile.countdown.start(number)
        try:
            fragile.process(*changes)
        except Crash:
            yield fragile
        else:
            assert number > 1
            return


with_and_without_room = pytest.mark.parametrize("room", [ROOM, 1])


TWO_TABS = a_tab("c-1"), a_tab("c-2", 1)
HISTORIES = [
    pytest.param([connected(a_tab("c-1")), disconnected(a_tab("c-1"))], id="one tab"),
    pytest.param([*map(connected, TWO_TABS), *map(disconnected, TWO_TABS)], id="first tab first"),
    pytest.param([*map(connected, TWO_TABS), *map(disconnected, TWO_TABS[::-1])], id="last tab first"),
]


@with_and_without_room
@pytest.mark.parametrize("history", HISTORIES)
def test_the_next_delivery_publishes_what_is_missing_wherever_it_crashes(
    room: int, history: list[Change]
) -> None:
    for fragile in worlds_that_crash(room, [], *history):
        fragile.process(*history)

        assert list(dict.fromkeys(fragile.events)) == [
            Joined(DASHBOARD, SessionId(f"c-1@{NOON_MS}")),
            Left(DASHBOARD, SessionId(f"c-1@{NOON_MS}")),
        ]
        assert fragile.present() == frozenset()


@with_and_without_room
@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("begin", range(4))
def test_a_repeated_part_of_a_history_changes_nothing_wherever_it_crashes(
    room: int, history: list[Change], begin: int
) -> None:
    for fragile in worlds_that_crash(room, history, *history[begin % len(history) :]):
        fragile.process(*history[begin % len(history) :])

        assert len(fragile.events) == 2
        assert fragile.present() == frozenset()


@with_and_without_room
def test_a_missed_disconnect_is_published_wherever_it_crashes(room: int) -> None:
    expired = Change(a_tab("c-1"), None, expired=True)
    for fragile in worlds_that_crash(room, [connected(a_tab("c-1"))], expired):
        fragile.process(expired)

        assert Expired(a_tab("c-1")) in fragile.events


@with_and_without_room
@pytest.mark.parametrize("history", HISTORIES)
def test_a_worker_that_goes_on_after_it_was_given_up_leaves_nobody_present(
    room: int, history: list[Change]
) -> None:
    """Meanwhile another worker processes the same changes and the later ones."""
    for connects in range(1, 1 + len(history) // 2):
        for number in count(1):
            fragile = Fragile(room)
            overtaken: list[Fragile] = []

            def another(fragile: Fragile = fragile, overtaken: list[Fragile] = overtaken) -> None:
                overtaken.append(fragile)
                fragile.process(*history)

            fragile.countdown.start(number, another)
            fragile.process(*history[:connects])
            if not overtaken:
                break

            assert fragile.present() == frozenset()
            assert len(set(fragile.events)) == 2


def test_a_further_connection_is_marked_as_left_before_it_is_removed() -> None:
    """Else a repeated change before this one would count it again."""
    further = ConnectionRef.of(TWO_TABS[1])

    crashed = [
        (fragile.presence.has_left(further), further in fragile.present())
        for fragile in worlds_that_crash(1, [*map(connected, TWO_TABS)], disconnected(TWO_TABS[1]))
    ]

    assert list(dict.fromkeys(crashed)) == [(False, True), (True, True), (True, False)]


# ---- Revived connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("client_id", ["dashboard-7", UNKNOWN_CLIENT])
def test_a_connection_that_a_late_write_revived_is_deleted_again(world: World, client_id: str) -> None:
    dead = a_tab("c-1", client_id=ClientId(client_id))
    world.process(connected(dead), disconnected(dead))

    assert world.connect(dead) == [Revived(dead)]
    assert world.table.get(dead.id) is None
    assert world.present() == frozenset()


def test_a_connection_that_closed_before_it_was_recorded_is_deleted_when_it_is_recorded(world: World) -> None:
    """Its tombstone would have refused it, but a newer connection of the id may have replaced that."""
    late = a_tab("c-1")
    world.process(Change(None, a_tombstone(late)))

    assert world.connect(late) == [Revived(late)]
    assert world.table.get(late.id) is None


def test_an_older_connection_is_deleted_if_a_newer_one_of_its_id_has_left(world: World) -> None:
    late, newer = a_tab("c-1"), a_tab("c-1", 60)
    world.process(connected(newer), disconnected(newer))

    assert world.connect(late) == [Revived(late)]
    assert world.table.get(late.id) is None
    assert world.present() == frozenset()


def test_a_tombstone_without_a_time_marks_no_connection_as_left(world: World) -> None:
    world.process(Change(None, a_tombstone(a_tab("c-1", connected_at=None))))

    (joined,) = world.connect(a_tab("c-1"))

    assert isinstance(joined, Joined)


def test_a_newer_connection_with_the_same_id_is_not_revived(world: World) -> None:
    dead, newer = a_tab("c-1"), a_tab("c-1", 60)
    world.process(connected(dead), disconnected(dead))
    world.connect(newer)

    assert world.process(connected(dead)) == []
    assert world.table.get(newer.id) == newer


# ---- Duplicates --------------------------------------------------------------------------------------------


@pytest.fixture
def replacing() -> World:
    return World(connections_per_client=1)


def test_a_client_keeps_its_older_connections_by_default(world: World) -> None:
    world.connect(a_tab("c-1"), a_tab("c-2", 60))

    assert world.gateway.closed == []
    assert world.table.get(ConnectionId("c-1")) == a_tab("c-1")


def test_all_connections_of_a_client_but_the_newest_are_evicted(replacing: World) -> None:
    old, older, new = a_tab("c-2", 2), a_tab("c-1", 1), a_tab("c-3", 3)
    replacing.connect(old)

    assert replacing.connect(older) == [Replaced(older, ProbeResult.CLOSED)]
    assert replacing.connect(new) == [Replaced(old, ProbeResult.CLOSED)]
    assert replacing.gateway.closed == ["c-1", "c-2"]
    assert replacing.table.get(new.id) == new
    assert replacing.table.get(old.id) is None


def test_a_client_may_keep_so_many_connections() -> None:
    replacing = World(connections_per_client=2)
    tabs = [a_tab(f"c-{number}", number) for number in range(5)]

    replacing.connect(*tabs)

    assert replacing.gateway.closed == ["c-0", "c-1", "c-2"]
    assert replacing.present() == {ConnectionRef.of(tab) for tab in tabs}  # until their changes come
    assert [tab.id for tab in tabs if replacing.table.get(tab.id)] == ["c-3", "c-4"]


def test_of_two_connections_that_began_at_once_the_same_one_stays_in_either_order() -> None:
    for order in (("c-1", "c-2"), ("c-2", "c-1")):
        replacing = World(connections_per_client=1)

        replacing.connect(*map(a_tab, order))

        assert replacing.gateway.closed == ["c-1"]


def test_evicting_an_older_connection_does_not_end_the_session(replacing: World) -> None:
    replacing.connect(a_tab("c-1", 1), a_tab("c-2", 2))

    assert replacing.process(disconnected(a_tab("c-1", 1))) == []
    assert replacing.present() == {ConnectionRef.of(a_tab("c-2", 2))}


def test_connections_of_unknown_clients_do_not_replace_each_other(replacing: World) -> None:
    replacing.connect(a_tab("c-1", client_id=UNKNOWN_CLIENT), a_tab("c-2", 1, client_id=UNKNOWN_CLIENT))

    assert replacing.gateway.closed == []


def test_an_older_connection_that_is_gone_is_deleted(replacing: World) -> None:
    replacing.gateway.results["c-1"] = ProbeResult.GONE

    assert replacing.connect(a_tab("c-1"), a_tab("c-2", 1))[1:] == [Replaced(a_tab("c-1"), ProbeResult.GONE)]
    assert replacing.table.get(ConnectionId("c-1")) is None


def test_gone_proves_nothing_while_the_handshake_may_be_pending(replacing: World) -> None:
    young = a_connection(
        id=ConnectionId("c-1"),
        connected_at=None,
        created_at=replacing.clock.now() - GRACE + timedelta(seconds=1),
    )
    replacing.gateway.results["c-1"] = ProbeResult.GONE

    assert replacing.connect(young, a_tab("c-2", 600))[1:] == [NotReplaced(young, ProbeResult.GONE)]
    assert replacing.table.get(young.id) == young


@pytest.mark.parametrize("result", [ProbeResult.THROTTLED, ProbeResult.FORBIDDEN, ProbeResult.FAILED])
def test_an_older_connection_that_the_gateway_does_not_close_stays(
    replacing: World, result: ProbeResult
) -> None:
    replacing.gateway.results["c-1"] = result

    assert replacing.connect(a_tab("c-1"), a_tab("c-2", 1))[1:] == [NotReplaced(a_tab("c-1"), result)]
    assert replacing.table.get(ConnectionId("c-1")) == a_tab("c-1")


def test_an_older_connection_that_is_not_in_the_table_any_more_is_not_closed(replacing: World) -> None:
    replacing.connect(a_tab("c-1"))
    replacing.table.remove(ConnectionId("c-1"), None)

    replacing.connect(a_tab("c-2", 1))

    assert replacing.gateway.closed == []


def test_a_newer_connection_that_has_the_id_of_an_older_one_is_not_closed(replacing: World) -> None:
    replacing.connect(a_tab("c@1"))
    replacing.table.remove(ConnectionId("c@1"), None)
    replacing.table.add(a_tab("c@1", 60, client_id=ClientId("dashboard-8")))

    replacing.connect(a_tab("c-2", 30))

    assert replacing.gateway.closed == []


def test_a_connection_whose_item_names_another_client_by_now_is_not_closed(replacing: World) -> None:
    replacing.connect(a_tab("c-1"))
    replacing.table.remove(ConnectionId("c-1"), None)
    changed = replacing.table.add(a_tab("c-1", client_id=ClientId("dashboard-8")))

    replacing.connect(a_tab("c-2", 1))

    assert replacing.gateway.closed == []
    assert replacing.table.get(changed.id) == changed


@pytest.mark.parametrize(("before", "after"), IN_PLACE)
def test_a_connection_that_is_changed_in_place_does_not_replace_itself(
    replacing: World, before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = a_tab("c-1", **before), a_tab("c-1", **after)
    replacing.table.add(new)

    replacing.process(*[connected(old), Change(old, new)] * 2)

    assert replacing.gateway.closed == []
    assert replacing.table.get(new.id) == new


def test_after_a_failure_no_further_connection_is_closed(world: World) -> None:
    class Unavailable(MemoryConnectionTable):
        def get(self, connection_id: ConnectionId) -> Connection | None:
            requested.append(connection_id)
            raise StorageUnavailable("ReadTimeoutError", outcome_unknown=False)

    requested: list[ConnectionId] = []
    world.connect(*(a_tab(f"c-{number}") for number in range(9)))
    world.track = replace(world.track, table=Unavailable(), connections_per_client=1)

    with pytest.raises(StorageUnavailable):
        world.process(connected(a_tab("c-9", 1)))

    assert requested == ["c-0"]


def test_at_the_deadline_no_connection_is_closed_and_each_is_published(replacing: World) -> None:
    replacing.connect(a_tab("c-1"))
    replacing.until = replacing.clock.now()

    assert replacing.connect(a_tab("c-2", 1)) == [NotReplaced(a_tab("c-1"), ProbeResult.FAILED)]
    assert replacing.gateway.closed == []
    assert replacing.table.get(ConnectionId("c-1")) == a_tab("c-1")


def test_several_connections_are_closed_concurrently(world: World) -> None:
    world.connect(*(a_tab(f"c-{number}") for number in range(4)))
    together = Barrier(4, timeout=10)
    world.gateway.before = lambda _: together.wait()
    world.track = replace(world.track, workers=ThreadWorkers(4), connections_per_client=1)

    world.connect(a_tab("c-4", 1))

    assert sorted(world.gateway.closed) == ["c-0", "c-1", "c-2", "c-3"]


def test_a_store_that_fails_during_an_eviction_fails_the_change() -> None:
    class Unavailable(MemoryConnectionTable):
        def delete_exact(self, entry: Entry) -> bool:
            raise StorageUnavailable("ReadTimeoutError", outcome_unknown=True)

    replacing = World(table=Unavailable(), connections_per_client=1)
    replacing.connect(a_tab("c-1"))

    with pytest.raises(StorageUnavailable, match="ReadTimeoutError"):
        replacing.connect(a_tab("c-2", 1))


def test_a_connection_that_has_left_replaces_nothing(replacing: World) -> None:
    replacing.process(connected(a_tab("c-9", 99)), disconnected(a_tab("c-9", 99)))
    replacing.connect(a_tab("c-1", 1))

    replacing.connect(a_tab("c-9", 99))

    assert replacing.gateway.closed == []


# ---- Clients that come back --------------------------------------------------------------------------------


def a_returning_tab(name: str = "c-1", second: float = 0, **changes: Any) -> Connection:
    """A connection of a client that says what it has."""
    return a_tab(name, second, **{"since": "m-41"} | changes)


class Returning(World):
    """The use case with a queue of those that come back."""

    def __init__(self, queue: FakeCatchUps | None = None, **parts: Any) -> None:
        self.queue = queue or FakeCatchUps()
        super().__init__(catch_ups=self.queue, **parts)

    @property
    def put(self) -> list[CatchUp]:
        """The requests that were put into the queue; each to be carried out at once."""
        assert all(delay == timedelta() for _, delay in self.queue.requests)
        return [request for request, _ in self.queue.requests]


@pytest.fixture
def returning() -> Returning:
    return Returning()


def test_a_client_that_comes_back_is_put_into_the_queue_with_what_it_has(returning: Returning) -> None:
    returning.connect(a_returning_tab("c-1"), a_returning_tab("c-2", 1, since="@now"))

    assert returning.put == [
        CatchUp(ConnectionRef(ConnectionId("c-1"), NOON), "m-41"),
        CatchUp(ConnectionRef(ConnectionId("c-2"), NOON + at(1)), "@now"),
    ]


def test_a_client_that_does_not_name_itself_may_come_back_too(returning: Returning) -> None:
    returning.connect(a_returning_tab(client_id=UNKNOWN_CLIENT))

    assert returning.put == [CatchUp(ConnectionRef(ConnectionId("c-1"), NOON), "m-41")]


def test_a_client_that_does_not_say_what_it_has_is_not_put_into_the_queue(returning: Returning) -> None:
    tab = a_tab("c-1", since=None)

    assert returning.connect(tab) == [Joined(DASHBOARD, session_of(tab))]
    assert returning.put == []


def test_without_a_queue_a_client_that_comes_back_is_like_any_other(world: World) -> None:
    assert world.connect(a_returning_tab()) == [Joined(DASHBOARD, session_of(a_tab("c-1")))]


def test_a_connection_that_ends_is_not_put_into_the_queue(returning: Returning) -> None:
    returning.connect(a_returning_tab())

    returning.process(disconnected(a_returning_tab()), disconnected(a_returning_tab(), expired=True))

    assert len(returning.put) == 1


@pytest.mark.parametrize(("before", "after"), IN_PLACE)
def test_a_connection_that_is_changed_in_place_is_not_put_into_the_queue_again(
    returning: Returning, before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = a_returning_tab(**before), a_returning_tab(**after)
    returning.connect(old)

    returning.process(Change(old, new), Change(new, new._replace(since="m-42")))

    assert returning.put == [CatchUp(ConnectionRef.of(old), "m-41")]


def test_a_newer_connection_with_the_same_id_is_put_into_the_queue_too(returning: Returning) -> None:
    returning.connect(a_returning_tab())

    returning.process(Change(a_returning_tab(), a_returning_tab("c-1", 60, since="m-42")))

    assert [(request.ref.began_at, request.since) for request in returning.put] == [
        (NOON, "m-41"),
        (NOON + at(60), "m-42"),
    ]


def test_a_connection_that_replaces_a_tombstone_is_put_into_the_queue(returning: Returning) -> None:
    returning.process(Change(a_tombstone(a_tab("c-1")), a_returning_tab("c-1", 60)))

    assert [request.ref.began_at for request in returning.put] == [NOON + at(60)]


def test_a_tombstone_is_not_put_into_the_queue(returning: Returning) -> None:
    returning.process(Change(None, a_tombstone(a_tab("c-1"))))

    assert returning.put == []


def test_a_connection_that_has_left_is_not_put_into_the_queue(returning: Returning) -> None:
    """Its change is repeated, or a late write has brought it back."""
    returning.process(connected(a_returning_tab()), disconnected(a_returning_tab()))
    returning.queue.requests.clear()

    returning.connect(a_returning_tab())

    assert returning.put == []
    assert returning.events[-1] == Revived(a_returning_tab())


def test_a_connection_whose_tombstone_came_first_is_not_put_into_the_queue(returning: Returning) -> None:
    returning.process(Change(None, a_tombstone(a_tab("c-1"))), connected(a_returning_tab()))

    assert returning.put == []


def test_a_change_that_is_repeated_puts_the_same_request_again(returning: Returning) -> None:
    returning.connect(a_returning_tab())

    returning.process(connected(a_returning_tab()))

    assert returning.put == [CatchUp(ConnectionRef(ConnectionId("c-1"), NOON), "m-41")] * 2


def test_a_queue_that_does_not_take_a_client_fails_the_change_and_takes_it_the_next_time() -> None:
    class FullAtFirst(FakeCatchUps):
        is_full = True

        def put(self, request: CatchUp, *, delay: timedelta = timedelta()) -> None:
            if self.is_full:
                self.is_full = False
                raise QueueUnavailable("RequestThrottled")
            super().put(request, delay=delay)

    returning = Returning(FullAtFirst())

    with pytest.raises(QueueUnavailable, match="RequestThrottled"):
        returning.connect(a_returning_tab())
    assert returning.events == [Joined(DASHBOARD, session_of(a_tab("c-1")))]
    assert returning.process(connected(a_returning_tab())) == []
    assert len(returning.put) == 1


def test_connections_that_are_replaced_are_put_into_the_queue_all_the_same() -> None:
    returning = Returning(connections_per_client=1)

    returning.connect(a_returning_tab("c-1"), a_returning_tab("c-2", 1))

    assert [request.ref.connection_id for request in returning.put] == ["c-1", "c-2"]
    assert returning.gateway.closed == ["c-1"]


# ---- All at once -------------------------------------------------------------------------------------------
#
# A table whose stream has several shards. Each shard has the changes of its items, and one worker at a time
# processes them, in batches. Each call of the presence store is a step, and so is each published event, and
# each client that is put into the queue of those that come back. Before any step the workers of other shards
# may go on, or the worker may be killed; then its whole batch is delivered again. The presence store has a
# stream, too: each client's changes, in order, from which presence events are published.

CLIENTS = [DASHBOARD, Client(ClientId("dashboard-8"), AccountId(""), RegionName(""))]
SHARDS, ITEMS = 2, 2


class Table(MemoryConnectionTable):
    """A table that records each change in its shard's stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stream: list[list[Change]] = [[] for _ in range(SHARDS)]

    def add(self, connection: Connection) -> Connection:
        with self._streamed(connection.id):
            return super().add(connection)

    def tombstone(self, tombstone: Tombstone) -> Removed:
        with self._streamed(tombstone.connection_id):
            return super().tombstone(tombstone)

    def put(self, connection: Connection) -> Connection:
        with self._streamed(connection.id):
            self._entries[connection.id] = connection
        return connection

    def delete_exact(self, entry: Entry) -> bool:
        with self._streamed(entry.id if isinstance(entry, Connection) else entry.connection_id):
            return super().delete_exact(entry)

    def expire(self, entry: Entry) -> None:
        with self._streamed(entry.id if isinstance(entry, Connection) else entry.connection_id, expired=True):
            super().delete_exact(entry)

    def entries(self) -> list[Entry]:
        return list(self.scan(0, of=1))

    @contextmanager
    def _streamed(self, connection_id: ConnectionId, *, expired: bool = False) -> Iterator[None]:
        before = self._entries.get(connection_id)
        yield
        after = self._entries.get(connection_id)
        if before != after:
            self.stream[int(connection_id[0])].append(Change(before, after, expired))


class Killed(BaseException):
    """The worker was killed: nothing catches it."""


class Worker:
    """A function that processes a batch; its thread runs only while the test waits for its next step."""

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
        """Wait until it may make the next step; called in its own thread before each."""
        self._waits.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def _run(self) -> None:
        try:
            self.wait()
            table, clock = self._machine.table, FixedClock()
            track = TrackPresence(
                table,
                self._machine.sessions(StepwisePresence(self._machine.presence, self)),
                StepwisePublisher(self._machine.publisher, self),
                EvictConnection(table, FakeGateway(), clock, GRACE),
                clock,
                ThreadWorkers(1),
                catch_ups=StepwiseCatchUps(self._machine.catch_ups, self),
            )
            for change in self.batch:
                track(change, until=NEVER)
            self.finished = True
        except Killed:
            pass
        except Exception as failure:  # noqa: BLE001 - raised again in step, where the test waits for it
            self._failure = failure
        finally:
            self._waits.release()


class StepwisePresence:
    """The shared PresenceStore, as one worker sees it."""

    def __init__(self, shared: MemoryPresenceStore, worker: Worker) -> None:
        self._shared = shared
        self._worker = worker

    def change(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        self._worker.wait()
        return self._shared.change(client, step)

    def add_further(self, session: SessionId, ref: ConnectionRef) -> None:
        self._worker.wait()
        self._shared.add_further(session, ref)

    def remove_further(self, session: SessionId, ref: ConnectionRef) -> None:
        self._worker.wait()
        self._shared.remove_further(session, ref)

    def newest_further(self, session: SessionId) -> ConnectionRef | None:
        self._worker.wait()
        return self._shared.newest_further(session)

    def further(self, session: SessionId) -> Iterator[ConnectionRef]:
        self._worker.wait()
        return self._shared.further(session)

    def mark_left(self, ref: ConnectionRef) -> None:
        self._worker.wait()
        self._shared.mark_left(ref)

    def has_left(self, ref: ConnectionRef) -> bool:
        self._worker.wait()
        return self._shared.has_left(ref)


class StepwisePublisher:
    """The shared EventPublisher, as one worker sees it."""

    def __init__(self, shared: RecordingPublisher, worker: Worker) -> None:
        self._shared = shared
        self._worker = worker

    def publish(self, event: Event) -> None:
        self._worker.wait()
        self._shared.publish(event)


class StepwiseCatchUps:
    """The shared queue of clients that come back, as one worker sees it."""

    def __init__(self, shared: FakeCatchUps, worker: Worker) -> None:
        self._shared = shared
        self._worker = worker

    def put(self, request: CatchUp, *, delay: timedelta = timedelta()) -> None:
        self._worker.wait()
        self._shared.put(request, delay=delay)


shards = st.integers(0, SHARDS - 1)


class PresenceMachine(RuleBasedStateMachine):
    """Clients connect and disconnect; the published events are right, however the changes are delivered."""

    gives_up_workers = stops_workers = False
    room = ROOM

    def __init__(self) -> None:
        super().__init__()
        self.table, self.publisher, self.catch_ups = Table(), RecordingPublisher(), FakeCatchUps()
        self.changes: dict[Client, list[tuple[Presence, Presence]]] = {client: [] for client in CLIENTS}
        self.published = dict.fromkeys(CLIENTS, 0)
        self.presence = MemoryPresenceStore(
            lambda before, after: self.changes[after.client].append((before, after))
        )
        self.processed = [0] * SHARDS
        self.workers: list[Worker | None] = [None] * SHARDS
        self.given_up: list[Worker] = []
        self.open: dict[ConnectionId, Connection] = {}
        self.ended: list[Connection] = []
        self.second = 0

    @rule(
        shard=shards,
        item=st.integers(0, ITEMS - 1),
        client=st.sampled_from([*CLIENTS, DASHBOARD]),
        closes_first=st.booleans(),
    )
    def a_client_connects(self, shard: int, item: int, client: Client, *, closes_first: bool) -> None:
        """The id's open connection, if any, ends silently. The new one may close before it is recorded."""
        former = self.open.get(ConnectionId(f"{shard}-{item}"))
        if former is not None and former.connected_at is None:
            return  # the two would count as the same
        self.second += 1
        began = NOON + at(self.second)
        connection = a_tab(
            f"{shard}-{item}",
            self.second,
            client_id=client.client_id,
            account=client.account,
            region=client.region,
            since=f"m-{self.second}",
        )
        if former is not None:
            self.ended.append(self.open.pop(connection.id))
        if closes_first:
            self.ended.append(connection)
            self.table.tombstone(Tombstone(connection.id, began, closed_at=began, expires_at=began))
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
            self.table.delete_exact(connection)

    @precondition(lambda self: self.open and not self.gives_up_workers)
    @rule(data=st.data())
    def an_item_is_changed_in_place(self, data: st.DataObject) -> None:
        """Its time is added or removed, so its ref changes.

        A worker that was given up may write the old ref again. That counts as
        a connection until the client connects again after 2 hours.
        """
        there = self.open[data.draw(st.sampled_from(sorted(self.open)))]
        if there.connected_at is None:
            began = there.created_at - at(0.5)
            changed = there._replace(connected_at=began, created_at=began)
        else:
            changed = there._replace(connected_at=None, created_at=there.created_at + at(0.5))
        self.open[there.id] = self.table.put(changed)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def a_late_write_revives_a_connection(self, data: st.DataObject) -> None:
        """Unless its tombstone, or a newer connection, refuses it."""
        with suppress(AlreadyClosed):
            self.table.add(data.draw(st.sampled_from(self.ended)))

    @precondition(lambda self: self.tombstones())
    @rule(data=st.data(), expired=st.booleans())
    def a_tombstone_is_deleted(self, data: st.DataObject, *, expired: bool) -> None:
        tombstone = data.draw(st.sampled_from(self.tombstones()))
        if expired:
            self.table.expire(tombstone)
        else:
            self.table.delete_exact(tombstone)

    def tombstones(self) -> list[Tombstone]:
        return [entry for entry in self.table.entries() if isinstance(entry, Tombstone)]

    @rule(shard=shards, size=st.integers(1, 6), steps=st.integers(1, 9))
    def a_shard_goes_on(self, shard: int, size: int, steps: int) -> None:
        batch = self.table.stream[shard][self.processed[shard] :][:size]
        if batch and self.workers[shard] is None:
            self.workers[shard] = Worker(self, batch)
        for _ in range(steps):
            if worker := self.workers[shard]:
                worker.step()
                if worker.finished:
                    self.processed[shard] += len(worker.batch)
                    self.workers[shard] = None

    @precondition(lambda self: any(self.workers))
    @rule(data=st.data())
    def a_worker_is_killed(self, data: st.DataObject) -> None:
        shard = data.draw(st.sampled_from([it for it in range(SHARDS) if self.workers[it]]))
        worker, self.workers[shard] = self.workers[shard], None
        assert worker is not None
        worker.kill()

    @rule(shard=shards, records=st.integers(1, 8))
    def earlier_records_are_repeated(self, shard: int, records: int) -> None:
        if self.workers[shard] is None:
            self.processed[shard] = max(0, self.processed[shard] - records)

    @rule(client=st.sampled_from(CLIENTS), records=st.integers(1, 5), repeated=st.integers(0, 3))
    def presence_is_published(self, client: Client, records: int, repeated: int) -> None:
        begin = max(0, self.published[client] - repeated)
        batch = self.changes[client][begin : begin + records]
        for before, after in batch:
            PublishPresence(self.publisher)(before, after)
        self.published[client] = max(self.published[client], begin + len(batch))

    @precondition(lambda self: self.stops_workers and self.given_up)
    @rule(data=st.data())
    def a_worker_that_was_given_up_is_stopped(self, data: st.DataObject) -> None:
        """Its batch has been delivered again already: what it has left undone nobody does."""
        worker = data.draw(st.sampled_from(self.given_up))
        self.given_up.remove(worker)
        if not worker.finished:
            worker.kill()

    @precondition(lambda self: self.gives_up_workers and any(self.workers))
    @rule(data=st.data())
    def a_worker_is_given_up(self, data: st.DataObject) -> None:
        shard = data.draw(st.sampled_from([it for it in range(SHARDS) if self.workers[it]]))
        worker, self.workers[shard] = self.workers[shard], None
        assert worker is not None
        self.given_up.append(worker)

    def sessions(self, store: "MemoryPresenceStore | StepwisePresence") -> Sessions:
        return Sessions(store, FixedClock(), self.room, self.room)

    @invariant()
    def sessions_begin_and_end_in_turn(self) -> None:
        for client in CLIENTS:
            self.events(client)

    def events(self, client: Client) -> list[Joined | Left]:
        """The events of the client's sessions, each counted once."""
        events = self.publisher.events
        published = [it for it in events if isinstance(it, Joined | Left) and it.client == client]
        sessions = list(dict.fromkeys(published))
        for joined, left in zip(sessions[::2], sessions[1::2], strict=False):
            assert isinstance(left, Left), sessions
            assert joined == Joined(client, left.session), sessions
        assert len(sessions) % 2 == 0 or isinstance(sessions[-1], Joined), sessions
        return sessions

    def teardown(self) -> None:
        """Deliver everything in the end."""
        try:
            while self._is_behind():
                for shard in range(SHARDS):
                    self.a_shard_goes_on(shard, size=3, steps=1)
                for worker in [it for it in self.given_up if not it.finished]:
                    worker.step()
            for client, changes in self.changes.items():
                self.presence_is_published(client, records=len(changes), repeated=2)
            self._check_the_end()
        finally:
            for worker in [it for it in (*self.given_up, *self.workers) if it and not it.finished]:
                worker.kill()

    def _is_behind(self) -> bool:
        streams = zip(self.processed, self.table.stream, strict=True)
        return any(number < len(stream) for number, stream in streams) or not all(
            worker.finished for worker in self.given_up
        )

    def _check_the_end(self) -> None:
        connections = [entry for entry in self.table.entries() if isinstance(entry, Connection)]
        assert {it.id: it for it in connections} == self.open
        came_back = {request.since for request, _ in self.catch_ups.requests}
        assert came_back >= {it.since for it in self.open.values()}
        for client in CLIENTS:
            refs = {ConnectionRef.of(it) for it in self.open.values() if Client.of(it) == client}
            assert len(self.events(client)) % 2 == bool(refs)
            if not self.stops_workers:
                assert self.sessions(self.presence).connections(client) == refs
        changes = chain.from_iterable(self.table.stream)
        missed = [it.before for it in changes if it.expired and isinstance(it.before, Connection)]
        published = [it.connection for it in self.publisher.events if isinstance(it, Expired)]
        assert set(map(ConnectionRef.of, published)) == set(map(ConnectionRef.of, missed))


class GivingUpMachine(PresenceMachine):
    """A worker that was given up may go on, too; in the end, presence is right all the same."""

    gives_up_workers = True


class StoppingMachine(GivingUpMachine):
    """Such a worker may be stopped at any call; whether a client is present is right all the same."""

    stops_workers = True


@pytest.mark.parametrize("room", [ROOM, 1])
@pytest.mark.parametrize("machine", [PresenceMachine, GivingUpMachine, StoppingMachine])
def test_presence_is_right_however_the_changes_are_delivered(
    machine: type[PresenceMachine], room: int
) -> None:
    run_state_machine_as_test(
        type("Machine", (machine,), {"room": room}),
        settings=settings(max_examples=examples(100), stateful_step_count=40),
    )
