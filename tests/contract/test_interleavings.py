"""Arbitrary interleavings of everything that can happen to connections, on every store, against a model."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.adapters.ip import PeerFirstIpResolver
from app.domain.errors import AlreadyClosed
from app.domain.model import Connection, ConnectionId, Removed
from app.domain.upkeep import LONGEST_CONNECTION, Answer, Tombstone, ref_of
from app.domain.use_cases import MARK_LASTS, CloseConnection, OpenConnection
from tests.builders import NOON, FixedClock, a_disconnect, a_handshake
from tests.races import GRACE, STORES, ToldTable, Upkeep, a_told_table
from tests.thoroughness import examples

PENDING = timedelta(seconds=25)  # Lambda ends the function by then, and the client is refused
AUTHORIZER = timedelta(seconds=28)  # what an authorizer may take, before which the gateway has taken its time
IDS = [ConnectionId("c-1"), ConnectionId("c-2"), ConnectionId("c-3")]
"""Few, so that ids are given anew soon."""


@dataclass(eq=False)
class Visitor:
    """One client that wants in, as the gateway knows it."""

    id: ConnectionId
    connected_at: datetime
    asked_at: datetime
    is_written: bool = False
    is_connected: bool = False
    has_left: bool = False
    is_told: bool = False  # its $disconnect was delivered
    is_dropped: bool = False  # ... or never will be


@dataclass
class Platform:
    """Gateway that knows who is really there."""

    clock: FixedClock
    visitors: list[Visitor] = field(default_factory=list)

    def live(self) -> list[Visitor]:
        return [visitor for visitor in self.visitors if visitor.is_connected and not visitor.has_left]

    def ask(self, connection: Connection) -> Answer:
        there = any(visitor.id == connection.id for visitor in self.live())
        return Answer.ALIVE if there else Answer.GONE

    def close(self, connection: Connection) -> Answer:
        raise AssertionError

    def move_on(self, by: timedelta) -> None:
        """Time passes: handshakes that nobody answered are refused, and nobody stays for longer than 2 h."""
        self.clock.advance(by)
        for visitor in self.visitors:
            now = self.clock.now()
            if visitor.is_connected:
                visitor.has_left |= now - visitor.connected_at >= LONGEST_CONNECTION
            else:
                visitor.has_left |= now - visitor.asked_at >= PENDING


class Interleavings(RuleBasedStateMachine):
    """What the platform does in whatever order, and the table beside it; ``table`` is set per store."""

    table: ToldTable
    visitors = Bundle("visitors")

    def __init__(self) -> None:
        super().__init__()
        for entry in self.table.entries():
            self.table.forget(entry)
        self.table.changes.clear()
        self.clock = FixedClock(NOON)
        self.platform = Platform(self.clock)
        self.upkeep = Upkeep(self.table, self.platform, self.clock)
        self.open = OpenConnection(self.clock, PeerFirstIpResolver(), self.table, timedelta(hours=24))

    @rule(target=visitors, id=st.sampled_from(IDS), authorizer=st.sampled_from([timedelta(), AUTHORIZER]))
    def a_client_comes(self, id: ConnectionId, authorizer: timedelta) -> Visitor:  # noqa: A002 - what it is
        for other in self.platform.visitors:
            if other.id == id:
                other.has_left = True  # the gateway gives an id anew only when it is free
        self.platform.move_on(timedelta(milliseconds=1))
        connected_at = self.clock.now()
        self.platform.move_on(authorizer)
        visitor = Visitor(id, connected_at, asked_at=self.clock.now())
        self.platform.visitors.append(visitor)
        return visitor

    @rule(visitor=visitors)
    def its_open_is_written(self, visitor: Visitor) -> None:
        """The first time or again, in time or late."""
        if self.clock.now() - visitor.asked_at >= PENDING:
            return
        is_expected = not visitor.has_left
        try:
            self.open(a_handshake(connection_id=visitor.id, connected_at=visitor.connected_at))
        except AlreadyClosed:
            assert not is_expected, "a client that waits was refused"
        else:
            visitor.is_written |= is_expected

    @rule(visitor=visitors)
    def its_handshake_is_answered(self, visitor: Visitor) -> None:
        """Until then the gateway calls it gone."""
        visitor.is_connected |= visitor.is_written and not visitor.has_left

    @rule(visitor=visitors)
    def it_leaves(self, visitor: Visitor) -> None:
        visitor.has_left = True

    @rule(visitor=visitors, late=visitors, in_between=st.booleans())
    def its_close_is_delivered(self, visitor: Visitor, late: Visitor, in_between: bool) -> None:  # noqa: FBT001
        """The first time or again; between its two writes there may be an open's."""
        if not visitor.has_left:
            return
        meanwhile = self.its_open_is_written if in_between else None
        table = self.table

        class Between(ToldTable):
            def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
                removed = super().remove(connection_id, connected_at)
                if meanwhile:
                    meanwhile(late)
                return removed

        store = Between(table.store, table.registry, table.changes)
        CloseConnection(self.clock, store)(
            a_disconnect(connection_id=visitor.id, connected_at=visitor.connected_at)
        )
        visitor.is_told = True

    @rule(visitor=consumes(visitors))
    def its_close_is_lost(self, visitor: Visitor) -> None:
        visitor.has_left = True
        visitor.is_dropped = not visitor.is_told

    @rule(by=st.sampled_from([1, 1000, 28_000, 60_000, 600_000, 3_600_000, 90_000_000]))
    def time_passes(self, by: int) -> None:
        self.platform.move_on(timedelta(milliseconds=by))

    @rule(data=st.data())
    def a_row_past_its_ttl_is_deleted(self, data: st.DataObject) -> None:
        past = [entry for entry in self.table.entries() if entry.expires_at < self.clock.now()]
        if past:
            self.table.expire(data.draw(st.sampled_from(sorted(past, key=str))))

    @precondition(lambda self: self.table.changes)
    @rule(most=st.integers(1, 5))
    def the_stream_is_followed(self, most: int) -> None:
        self.upkeep.follow(most)

    @rule()
    def the_list_is_swept(self) -> None:
        self.upkeep.sweep()

    @invariant()
    def whoever_is_connected_is_there(self) -> None:
        for visitor in self.platform.live():
            there = self.table.get(visitor.id)
            assert there is not None
            assert there.connected_at == visitor.connected_at

    def teardown(self) -> None:
        for visitor in self.platform.visitors:
            if visitor.has_left and not visitor.is_told and not visitor.is_dropped:
                self.its_close_is_delivered(visitor, visitor, in_between=False)
        self.upkeep.follow_all()
        if not any(visitor.is_dropped for visitor in self.platform.visitors):
            self._check()
        self.platform.move_on(GRACE)
        self.upkeep.sweep()
        self._check()
        self.platform.move_on(MARK_LASTS + timedelta(seconds=1))
        self.upkeep.sweep()
        self._check()
        assert not any(isinstance(entry, Tombstone) for entry in self.table.entries())

    def _check(self) -> None:
        now = self.clock.now()
        for visitor in self.platform.visitors:  # a handshake that is still pending may have its row or not
            if not visitor.has_left and not visitor.is_connected and now - visitor.asked_at < PENDING:
                return
        there = {ref_of(entry) for entry in self.table.entries() if isinstance(entry, Connection)}
        assert there == {f"{it.id}@{it.connected_at.timestamp() * 1000:.0f}" for it in self.platform.live()}


@pytest.fixture(params=STORES)
def table(request: pytest.FixtureRequest) -> Iterator[ToldTable]:
    with a_told_table(request.param, request) as table:
        yield table


def test_whatever_happens_the_list_is_who_is_connected(
    table: ToldTable, request: pytest.FixtureRequest
) -> None:
    in_memory = request.node.callspec.params["table"] == "memory"
    machine = type("Machine", (Interleavings,), {"table": table})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples(400 if in_memory else 25),
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )
