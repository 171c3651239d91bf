"""Arbitrary interleavings of all that can happen to connections, on every store, checked against a model."""

from collections.abc import Iterator
from dataclasses import dataclass
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
from app.domain.handshakes import TOMBSTONE_TTL, CloseConnection, OpenAdmission, OpenConnection
from app.domain.lifecycle import MAX_CONNECTION_DURATION, ConnectionRef, ProbeResult
from app.domain.model import Connection, ConnectionId, Removed, Tombstone
from tests.builders import NOON, a_disconnect, a_handshake
from tests.fakes import FakeGateway, FixedClock
from tests.races import GRACE, STORES, Operations, StreamedTable, a_streamed_table
from tests.thoroughness import examples

PENDING = timedelta(seconds=25)  # then Lambda stops the function, and the gateway refuses the client
AUTHORIZER = timedelta(seconds=28)  # what an authorizer may take; connectedAt is from before it
IDS = [ConnectionId("c-1"), ConnectionId("c-2"), ConnectionId("c-3")]
"""Few, so that ids are reused soon."""


@dataclass(eq=False)
class SimulatedClient:
    """A client that connects, as the gateway knows it."""

    id: ConnectionId
    connected_at: datetime
    invoked_at: datetime
    is_written: bool = False
    is_connected: bool = False
    has_left: bool = False
    is_close_delivered: bool = False
    is_close_lost: bool = False  # it was not delivered, and never will be


class SimulatedGateway(FakeGateway):
    """Gateway that knows which clients are connected."""

    def __init__(self, clock: FixedClock) -> None:
        super().__init__(before=self._look_up)
        self.clock = clock
        self.clients: list[SimulatedClient] = []

    def live(self) -> list[SimulatedClient]:
        return [client for client in self.clients if client.is_connected and not client.has_left]

    def _look_up(self, connection: Connection) -> None:
        is_live = any(client.id == connection.id for client in self.live())
        self.results[connection.id] = ProbeResult.ALIVE if is_live else ProbeResult.GONE

    def advance(self, by: timedelta) -> None:
        """Advance the clock; unanswered handshakes are refused, and connections end after two hours."""
        self.clock.advance(by)
        for client in self.clients:
            now = self.clock.now()
            if client.is_connected:
                client.has_left |= now - client.connected_at >= MAX_CONNECTION_DURATION
            else:
                client.has_left |= now - client.invoked_at >= PENDING


class Interleavings(RuleBasedStateMachine):
    """What the gateway does, in any order, and the table beside it; ``table`` is set per store."""

    table: StreamedTable
    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        for entry in self.table.entries():
            self.table.delete_exact(entry)
        self.table.changes.clear()
        self.clock = FixedClock(NOON)
        self.gateway = SimulatedGateway(self.clock)
        self.operations = Operations(self.table, self.gateway, self.clock)
        self.open = OpenConnection(
            self.clock, PeerFirstIpResolver(), OpenAdmission(), self.table, lifetime=timedelta(hours=24)
        )

    @rule(target=clients, id=st.sampled_from(IDS), authorizer=st.sampled_from([timedelta(), AUTHORIZER]))
    def a_client_connects(
        self,
        id: ConnectionId,  # noqa: A002 - the field's name
        authorizer: timedelta,
    ) -> SimulatedClient:
        return self._new_client(id, authorizer)

    @rule(target=clients, id=st.sampled_from(IDS))
    def a_client_connects_without_delay(self, id: ConnectionId) -> SimulatedClient:  # noqa: A002 - as above
        client = self._new_client(id, timedelta())
        self.its_open_is_written(client)
        self.its_handshake_is_answered(client)
        return client

    def _new_client(self, connection_id: ConnectionId, authorizer: timedelta) -> SimulatedClient:
        for other in self.gateway.clients:
            if other.id == connection_id:
                other.has_left = True  # the gateway reuses an id only when it is free
        self.gateway.advance(timedelta(milliseconds=1))
        connected_at = self.clock.now()
        self.gateway.advance(authorizer)
        client = SimulatedClient(connection_id, connected_at, invoked_at=self.clock.now())
        self.gateway.clients.append(client)
        return client

    @rule(client=clients)
    def its_open_is_written(self, client: SimulatedClient) -> None:
        """For the first time or again, in time or late."""
        if self.clock.now() - client.invoked_at >= PENDING:
            return
        is_expected = not client.has_left
        try:
            self.open(a_handshake(connection_id=client.id, connected_at=client.connected_at))
        except AlreadyClosed:
            assert not is_expected, "a waiting client was refused"
        else:
            client.is_written |= is_expected

    @rule(client=clients)
    def its_handshake_is_answered(self, client: SimulatedClient) -> None:
        """Until then the gateway says that it is gone."""
        client.is_connected |= client.is_written and not client.has_left

    @rule(client=clients)
    def it_leaves(self, client: SimulatedClient) -> None:
        client.has_left = True

    @rule(client=clients, late=clients, in_between=st.booleans())
    def its_close_is_delivered(
        self,
        client: SimulatedClient,
        late: SimulatedClient,
        in_between: bool,  # noqa: FBT001 - Hypothesis gives a rule's parameters by name
    ) -> None:
        """For the first time or again; an open may be written between its two writes."""
        if not client.has_left:
            return
        meanwhile = self.its_open_is_written if in_between else None
        table = self.table

        class Between(StreamedTable):
            def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
                removed = super().remove(connection_id, connected_at)
                if meanwhile:
                    meanwhile(late)
                return removed

        store = Between(table.store, table.table, changes=table.changes)
        CloseConnection(self.clock, store)(
            a_disconnect(connection_id=client.id, connected_at=client.connected_at)
        )
        client.is_close_delivered = True

    @rule(client=consumes(clients))
    def its_close_is_lost(self, client: SimulatedClient) -> None:
        client.has_left = True
        client.is_close_lost = not client.is_close_delivered

    @rule(by=st.sampled_from([1, 1000, 28_000, 60_000, 600_000, 3_600_000, 90_000_000]))
    def time_passes(self, by: int) -> None:
        self.gateway.advance(timedelta(milliseconds=by))

    @rule(data=st.data())
    def an_expired_item_is_deleted(self, data: st.DataObject) -> None:
        expired = [entry for entry in self.table.entries() if entry.expires_at < self.clock.now()]
        if expired:
            self.table.expire(data.draw(st.sampled_from(sorted(expired, key=str))))

    @precondition(lambda self: self.table.changes)
    @rule(most=st.integers(1, 5))
    def the_stream_is_tracked(self, most: int) -> None:
        self.operations.track(most)

    @rule()
    def the_table_is_swept(self) -> None:
        self.operations.sweep()

    @invariant()
    def every_connected_client_is_in_the_table(self) -> None:
        for client in self.gateway.live():
            stored = self.table.get(client.id)
            assert stored is not None
            assert stored.connected_at == client.connected_at

    def teardown(self) -> None:
        for client in self.gateway.clients:
            if client.has_left and not client.is_close_delivered and not client.is_close_lost:
                self.its_close_is_delivered(client, client, in_between=False)
        self.operations.track_all()
        if not any(client.is_close_lost for client in self.gateway.clients):
            self._check()
        self.gateway.advance(GRACE)
        self.operations.sweep()
        self._check()
        self.gateway.advance(TOMBSTONE_TTL + timedelta(seconds=1))
        self.operations.sweep()
        self._check()
        assert not any(isinstance(entry, Tombstone) for entry in self.table.entries())

    def _check(self) -> None:
        now = self.clock.now()
        for client in self.gateway.clients:  # the item of a pending handshake may be written or not
            if not client.has_left and not client.is_connected and now - client.invoked_at < PENDING:
                return
        stored = {ConnectionRef.of(entry) for entry in self.table.entries() if isinstance(entry, Connection)}
        assert stored == {ConnectionRef(it.id, it.connected_at) for it in self.gateway.live()}


_EXAMPLES = {"dynamodb": 25, "dynamodb-boto3": 10, "dynamodb-boto3-moto": 10}  # those are slow


@pytest.fixture(params=STORES)
def table(request: pytest.FixtureRequest) -> Iterator[StreamedTable]:
    with a_streamed_table(request.param, request) as table:
        yield table


def test_whatever_happens_the_table_has_exactly_the_connected_clients(
    table: StreamedTable, request: pytest.FixtureRequest
) -> None:
    store = request.node.callspec.params["table"]
    machine = type("Machine", (Interleavings,), {"table": table})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples(_EXAMPLES.get(store, 400)),
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )
