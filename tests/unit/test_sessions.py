"""Sessions of clients with many connections: rule by rule, then in every order of the workers' steps."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from random import randrange

import pytest

from app.adapters.memory import MemoryPresenceStore
from app.domain.lifecycle import ConnectionRef
from app.domain.model import AccountId, ClientId, ConnectionId, RegionName
from app.domain.presence import Client, Joined, Left, Presence, PresenceEvent, SessionId
from app.domain.sessions import Sessions
from tests.builders import NOON
from tests.fakes import FixedClock
from tests.steps import Actor, Step, every_order, in_order, some_orders
from tests.thoroughness import examples, is_thorough

DASHBOARD = Client(ClientId("dashboard-7"), AccountId("123456789012"), RegionName("ap-northeast-2"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def a_ref(name: str, began: timedelta = timedelta()) -> ConnectionRef:
    """The ref of a connection that began so long after noon."""
    return ConnectionRef(ConnectionId(name), NOON + began)


def session_of(first: ConnectionRef) -> SessionId:
    """The session that *first* begins."""
    return SessionId(f"{first.connection_id}@{(first.began_at - EPOCH) // timedelta(milliseconds=1)}")


C1, C2, C3, C4 = (a_ref(f"c-{number}", timedelta(seconds=number)) for number in range(1, 5))


class World:
    """Sessions on a store in memory, with room for one connection and departure, and all their events."""

    def __init__(self, room: int = 1) -> None:
        self.events: list[PresenceEvent] = []
        self.writes = 0
        self.store = MemoryPresenceStore(self._changed)
        self.sessions = Sessions(self.store, FixedClock(), room, room)

    def _changed(self, before: Presence, after: Presence) -> None:
        self.writes += 1
        self.events += after.events_since(before)

    def connect(self, *refs: ConnectionRef) -> None:
        for ref in refs:
            assert self.sessions.connect(DASHBOARD, ref)

    def disconnect(self, *refs: ConnectionRef) -> None:
        for ref in refs:
            self.sessions.disconnect(DASHBOARD, ref)

    def present(self) -> frozenset[ConnectionRef]:
        return self.sessions.connections(DASHBOARD)


@pytest.fixture
def world() -> World:
    return World()


def test_a_session_goes_on_until_its_last_further_connection_has_left(world: World) -> None:
    world.connect(C1, C2, C3)
    world.disconnect(C1, C3)

    assert world.present() == {C2}
    assert world.events == [Joined(DASHBOARD, session_of(C1))]

    world.disconnect(C2)

    assert world.present() == frozenset()
    assert world.events[1:] == [Left(DASHBOARD, session_of(C1))]


def test_another_session_begins_after_one_that_had_further_connections(world: World) -> None:
    world.connect(C1, C2)
    world.disconnect(C1, C2)

    world.connect(C3)

    assert world.events[2:] == [Joined(DASHBOARD, session_of(C3))]
    assert world.present() == {C3}


def test_with_further_connections_the_presence_is_not_written_at_each_change() -> None:
    """Nor do workers that connect the same client get in each other's way."""
    world = World()
    many = [a_ref(f"c-{number}", timedelta(seconds=number)) for number in range(100)]
    world.connect(*many)
    world.disconnect(*many[:-1])

    assert world.present() == {many[-1]}
    assert world.writes == 3  # the first connects, there are further ones, the first disconnects


def test_a_further_connection_that_has_left_is_not_counted_again(world: World) -> None:
    world.connect(C1, C2)
    world.disconnect(C2)

    assert not world.sessions.connect(DASHBOARD, C2)
    assert world.present() == {C1}


def test_what_left_without_room_for_its_departure_is_not_counted_again(world: World) -> None:
    for ref in (C1, C2, C3):
        world.connect(ref)
        world.disconnect(ref)

    assert not any(world.sessions.connect(DASHBOARD, ref) for ref in (C1, C2, C3))
    assert len(world.events) == 6


LATER = timedelta(hours=2, minutes=6)  # then a connection must have ended


def test_a_session_whose_further_connections_must_have_ended_is_replaced_when_its_client_connects(
    world: World,
) -> None:
    """Their disconnects were never delivered."""
    world.connect(C1, C2, C3)

    world.connect(late := a_ref("c-9", LATER))

    assert world.events[1:] == [Left(DASHBOARD, session_of(C1)), Joined(DASHBOARD, session_of(late))]
    assert world.present() == {late}


def test_a_session_with_one_further_connection_that_may_be_open_goes_on(world: World) -> None:
    world.connect(C1, C2, middle := a_ref("c-8", LATER / 2))

    world.connect(late := a_ref("c-9", LATER))

    assert world.events == [Joined(DASHBOARD, session_of(C1))]
    assert world.present() >= {middle, late}


def test_a_session_ends_if_its_other_connections_must_have_ended(world: World) -> None:
    world.connect(C1, C2, middle := a_ref("c-8", LATER / 2), late := a_ref("c-9", LATER))
    world.disconnect(middle)

    world.disconnect(late)

    assert world.events[1:] == [Left(DASHBOARD, session_of(C1))]


def test_a_further_connection_of_unknown_age_keeps_the_session(world: World) -> None:
    unknown = ConnectionRef(ConnectionId("c-0"), EPOCH)
    world.connect(C1, unknown, late := a_ref("c-9", LATER))

    world.disconnect(late)

    assert world.events == [Joined(DASHBOARD, session_of(C1))]
    assert unknown in world.present()


def test_a_connection_that_must_have_ended_keeps_no_session(world: World) -> None:
    """Its change is over two hours late; the connections before it have come and gone."""
    world.connect(C1, middle := a_ref("c-7", LATER / 2), late := a_ref("c-9", LATER + LATER / 2))
    world.disconnect(C1, middle)
    world.connect(C2)

    world.disconnect(late)

    assert world.events[-1] == Left(DASHBOARD, world.events[-2].session)
    assert world.events[-2] == Joined(DASHBOARD, session_of(late))


def test_a_departure_in_the_presence_is_known_once_there_are_further_connections(world: World) -> None:
    world.connect(C1)
    world.disconnect(C1)
    world.connect(C2, C3)

    assert not world.sessions.connect(DASHBOARD, C1)
    assert world.present() == {C2, C3}


def test_a_further_connection_that_a_stopped_worker_has_left_behind_keeps_no_session(world: World) -> None:
    """Another worker had processed its disconnect before it was added."""
    world.connect(C1, C2, C3)
    world.disconnect(C3)
    world.store.add_further(session_of(C1), C3)

    world.disconnect(C1, C2)

    assert world.events == [Joined(DASHBOARD, session_of(C1)), Left(DASHBOARD, session_of(C1))]
    assert world.present() == frozenset()


def test_a_client_that_did_not_name_itself_has_no_session(world: World) -> None:
    assert world.sessions.connect(None, C1)
    world.sessions.disconnect(None, C1)

    assert not world.sessions.connect(None, C1)
    assert world.events == []


# ---- Every order -------------------------------------------------------------------------------------------
#
# Each worker is an actor, and each call of the store is one of its steps. A worker may crash before any, and
# then processes its records from the first again.


class Crash(Exception):
    """The worker crashed, just before a call."""


class Stepwise:
    """The world's store, as one worker sees it, which crashes after so many *calls*."""

    def __init__(self, store: MemoryPresenceStore, step: Step, calls: float = math.inf) -> None:
        self._store = store
        self._turn = step
        self._calls_left = calls

    def _step(self) -> None:
        if self._calls_left == 0:
            raise Crash
        self._calls_left -= 1
        self._turn()

    def change(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        self._step()
        return self._store.change(client, step)

    def add_further(self, session: SessionId, ref: ConnectionRef) -> None:
        self._step()
        self._store.add_further(session, ref)

    def remove_further(self, session: SessionId, ref: ConnectionRef) -> None:
        self._step()
        self._store.remove_further(session, ref)

    def newest_further(self, session: SessionId) -> ConnectionRef | None:
        self._step()
        return self._store.newest_further(session)

    def further(self, session: SessionId) -> Iterator[ConnectionRef]:
        self._step()
        return self._store.further(session)

    def mark_left(self, ref: ConnectionRef) -> None:
        self._step()
        self._store.mark_left(ref)

    def has_left(self, ref: ConnectionRef) -> bool:
        self._step()
        return self._store.has_left(ref)


SCENES = {
    # the numbers of those that are connected at first; what each worker does: +1 connects, -1 disconnects
    "the last further one leaves while another connects": ("1 2", "-1 -2", "+3"),
    "the last two leave at once": ("1 2", "-1", "-2"),
    "the last three leave at once": ("1 2 3", "-1", "-2", "-3"),
    "two further ones leave while another connects": ("1 2 3", "-1 -2", "-3", "+4"),
    "one connects and leaves while the last leaves": ("1", "-1", "+2 -2"),
    "two connect at once": ("", "+1", "+2"),
    "two workers have the same records": ("1", "+2 -2", "+2 -2"),
    "two workers have the same record of the last one": ("1 2", "-1 -2", "-2", "+3"),
    "a worker that was given up connects again": ("1", "+2 -2 -1", "+2"),
}
FEW_ORDERS = {"two connect at once", "the last two leave at once"}
MOST_CALLS = 20
"""A worker makes about so many in the longest scene."""


class Scene:
    """A world in which several workers act."""

    def __init__(self, name: str, *, crashes: bool) -> None:
        present, *workers = SCENES[name]
        self._workers = [worker.split() for worker in workers]
        self._crashes = crashes
        acts = [act for worker in self._workers for act in worker]
        numbers = {*present.split(), *(act[1:] for act in acts if act[0] == "+")}
        self.stay = {_ref(number) for number in numbers if f"-{number}" not in acts}
        self.world = World()
        self.world.connect(*map(_ref, present.split()))

    def actors(self) -> Mapping[str, Actor]:
        return {f"{number}: {acts}": partial(self._act, acts) for number, acts in enumerate(self._workers)}

    def _act(self, acts: list[str], step: Step) -> None:
        if self._crashes:
            calls = randrange(MOST_CALLS)  # noqa: S311 - repeated by the seed
            with suppress(Crash):
                process(acts, Stepwise(self.world.store, step, calls))
        _take_turns(self.world, acts, step)

    def check(self) -> None:
        assert self.world.present() == self.stay
        events = self.world.events
        for joined, left in zip(events[::2], events[1::2], strict=False):
            assert isinstance(joined, Joined)
            assert left == Left(DASHBOARD, joined.session)
        assert len(events) % 2 == bool(self.stay)
        assert isinstance(events[-1], Joined if self.stay else Left)
        assert len(set(events)) == len(events)


def _take_turns(world: World, acts: list[str], step: Step) -> None:
    process(acts, Stepwise(world.store, step))


def process(acts: list[str], store: Stepwise) -> None:
    sessions = Sessions(store, FixedClock(), 1, 1)
    for act in acts:
        if act[0] == "+":
            sessions.connect(DASHBOARD, _ref(act[1:]))
        else:
            sessions.disconnect(DASHBOARD, _ref(act[1:]))


def _ref(number: str) -> ConnectionRef:
    return a_ref(f"c-{number}", timedelta(seconds=int(number)))


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("crashes", [False, True], ids=["no crash", "crashes"])
def test_whatever_the_order_a_session_lasts_as_long_as_there_are_connections(
    name: str, *, crashes: bool
) -> None:
    scenes: list[Scene] = []

    def actors() -> Mapping[str, Actor]:
        scenes.append(Scene(name, crashes=crashes))
        return scenes[-1].actors()

    is_enumerated = is_thorough() and name in FEW_ORDERS and not crashes
    for order in every_order(actors) if is_enumerated else some_orders(actors, examples(300)):
        try:
            scenes.pop().check()
        except AssertionError as error:
            error.add_note(f"after {order}")
            raise


def test_a_session_does_not_end_if_it_was_continued_and_is_ending_again() -> None:
    world = World()
    world.connect(C1, C2)
    world.disconnect(C1)
    acts = {"C2 leaves": "-2", "C3 connects": "+3", "C3 leaves": "-3", "C4 connects": "+4"}
    in_order(
        {name: partial(_take_turns, world, [act]) for name, act in acts.items()},
        [
            *["C3 connects"] * 2,  # it has seen C2
            *["C4 connects"] * 2,
            *["C2 leaves"] * 7,  # the session is ending, and nothing further is found
            *["C3 connects"] * 3,  # it is continued
            *["C3 leaves"] * 5,  # nothing further is found
            *["C4 connects"] * 3,  # there is nothing to continue yet
            *["C3 leaves"] * 2,  # the session is ending again, but C4 is found
        ],
    )

    assert world.present() == {C4}
    assert world.events == [Joined(DASHBOARD, session_of(C1))]
