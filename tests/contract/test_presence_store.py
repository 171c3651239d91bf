"""What every PresenceStore promises, in the same sentences for each; then the items of DynamoDB's."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from app.adapters.dynamodb.presence import DynamoDBPresenceStore
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.memory import MemoryConnectionTable, MemoryPresenceStore
from app.adapters.threads import ThreadWorkers
from app.domain.errors import StorageUnavailable
from app.domain.lifecycle import ConnectionRef
from app.domain.model import UNKNOWN_CLIENT, AccountId, ClientId, ConnectionId, RegionName
from app.domain.operations import EvictConnection
from app.domain.ports import PresenceStore
from app.domain.presence import Client, Joined, Left, Presence, SessionId
from app.domain.tracking import Change, TrackPresence
from tests.builders import NEVER, NOON, NOON_MS, a_connection
from tests.dynamodb_local import a_client, create_table
from tests.fakes import FakeGateway, FixedClock, RecordingPublisher
from tests.stores import TABLES, moto_client
from tests.thoroughness import examples

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def a_ref(name: str, milliseconds: int) -> ConnectionRef:
    """The ref of a connection that began so many milliseconds after the epoch."""
    return ConnectionRef(ConnectionId(name), EPOCH + timedelta(milliseconds=milliseconds))


C1, C2, C3 = a_ref("c-1", NOON_MS), a_ref("c-2", NOON_MS + 1), a_ref("c@3", 1)
S1, S2, S3 = SessionId(f"c-1@{NOON_MS}"), SessionId(f"c-2@{NOON_MS + 1}"), SessionId("c@3@1")
DASHBOARD = Client(ClientId("dashboard-7"), AccountId("123456789012"), RegionName("ap-northeast-2"))
EMPTY = Presence(DASHBOARD)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
milliseconds = st.integers(0, 4_102_444_800_000)
refs = st.builds(a_ref, texts, milliseconds)
sessions = st.builds("{}@{}".format, texts, milliseconds).map(SessionId)
presences = st.builds(
    Presence,
    client=st.just(DASHBOARD),
    connections=st.frozensets(refs, max_size=5),
    session=st.none() | sessions,
    outbox=st.lists(
        st.builds(Joined, st.just(DASHBOARD), sessions) | st.builds(Left, st.just(DASHBOARD), sessions),
        max_size=4,
        unique=True,
    ).map(tuple),
)


def of_client(client: Client, presence: Presence) -> Presence:
    """*presence*, of another client."""
    outbox = tuple(replace(event, client=client) for event in presence.outbox)
    return replace(presence, client=client, outbox=outbox)


def a_store(client: "DynamoDBClient", table: str, **changes: Any) -> DynamoDBPresenceStore:
    return DynamoDBPresenceStore(SdkTransport(client), table, **{"clock": FixedClock()} | changes)


@pytest.fixture(params=TABLES)
def store(request: pytest.FixtureRequest) -> Iterator[PresenceStore]:
    match request.param:
        case "memory":
            yield MemoryPresenceStore()
        case "dynamodb-boto3-moto":
            with mock_aws():
                client = moto_client()
                yield a_store(client, create_table(client, "PresenceTable"))
        case "dynamodb-boto3":
            client = request.getfixturevalue("dynamodb")
            yield a_store(client, create_table(client, "PresenceTable"))
        case _:
            pytest.fail(f"there is no adapter {request.param}")


def current(store: PresenceStore, client: Client = DASHBOARD) -> Presence:
    return store.change(client, lambda presence: presence)


def connects(ref: ConnectionRef) -> Callable[[Presence], Presence]:
    return lambda presence: presence.connected(ref)


def disconnects(ref: ConnectionRef) -> Callable[[Presence], Presence]:
    return lambda presence: presence.disconnected(ref)


def becomes(presence: Presence) -> Callable[[Presence], Presence]:
    return lambda _: presence


def interrupted(
    step: Callable[[Presence], Presence], meanwhile: Callable[[], object], seen: list[Presence]
) -> Callable[[Presence], Presence]:
    """*step*, noting each presence in *seen*; *meanwhile* is called before it first returns."""

    def interrupted_step(presence: Presence) -> Presence:
        if not seen:
            meanwhile()
        seen.append(presence)
        return step(presence)

    return interrupted_step


def test_the_presence_of_an_unknown_client_is_empty(store: PresenceStore) -> None:
    assert current(store) == EMPTY


def test_a_presence_comes_back_as_it_was_changed(store: PresenceStore) -> None:
    changed = store.change(DASHBOARD, lambda presence: presence.connected(C1).connected(C2))

    assert changed == Presence(DASHBOARD, frozenset({C1, C2}), S1, (Joined(DASHBOARD, S1),))
    assert current(store) == changed


@given(presence=presences, other=presences, name=texts)
@settings(
    max_examples=examples(15),
    # all examples share one store on purpose: each client has its own name
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_presence_comes_back_as_it_was_changed(
    store: PresenceStore, presence: Presence, other: Presence, name: str
) -> None:
    client = Client(ClientId(f"{name}{uuid4().hex}"), AccountId(""), RegionName(""))
    presence, other = of_client(client, presence), of_client(client, other)

    assert store.change(client, becomes(presence)) == presence
    assert current(store, client) == presence
    assert store.change(client, becomes(other)) == other
    assert current(store, client) == other


def test_a_step_is_given_the_result_of_the_step_before(store: PresenceStore) -> None:
    store.change(DASHBOARD, connects(C1))
    seen: list[Presence] = []

    def step(presence: Presence) -> Presence:
        seen.append(presence)
        return presence.connected(C2)

    store.change(DASHBOARD, step)

    assert seen == [Presence(DASHBOARD, frozenset({C1}), S1, (Joined(DASHBOARD, S1),))]


def test_the_outbox_is_kept_when_no_connection_is_left(store: PresenceStore) -> None:
    store.change(DASHBOARD, lambda presence: presence.connected(C1).disconnected(C1))

    assert current(store) == Presence(DASHBOARD, outbox=(Joined(DASHBOARD, S1), Left(DASHBOARD, S1)))


def test_a_session_can_begin_after_another_has_ended(store: PresenceStore) -> None:
    store.change(DASHBOARD, connects(C1))
    store.change(DASHBOARD, becomes(EMPTY))

    store.change(DASHBOARD, connects(C2))

    assert current(store) == Presence(DASHBOARD, frozenset({C2}), S2, (Joined(DASHBOARD, S2),))


@pytest.mark.parametrize(
    "other",
    [
        ("dashboard-8", "123456789012", "ap-northeast-2"),
        ("dashboard-7", "210987654321", "ap-northeast-2"),
        ("dashboard-7", "123456789012", "eu-central-1"),
        ("dashboard-7", "123456789012", ""),
        ("dashboard-7", "", "ap-northeast-2"),
        ('dashboard-7","123456789012', "", "ap-northeast-2"),
        ("dashboard-7#123456789012", "", "ap-northeast-2"),
    ],
)
def test_each_client_has_its_own_presence(store: PresenceStore, other: tuple[str, str, str]) -> None:
    store.change(DASHBOARD, connects(C1))

    client = Client(ClientId(other[0]), AccountId(other[1]), RegionName(other[2]))

    assert current(store, client) == Presence(client)


def test_a_connection_has_left_once_it_is_marked_as_left(store: PresenceStore) -> None:
    assert not store.has_left(C3)

    store.mark_left(C3)
    store.mark_left(C3)

    assert store.has_left(C3)
    assert not store.has_left(C1)


@pytest.mark.parametrize("order", [(2, 4), (4, 2)], ids=["older first", "newer first"])
def test_every_older_connection_of_an_id_has_left_with_a_newer_one(
    store: PresenceStore, order: tuple[int, int]
) -> None:
    for began in order:
        store.mark_left(a_ref("c-1", began))

    left = [began for began in range(1, 7) if store.has_left(a_ref("c-1", began))]
    assert left == [1, 2, 3, 4]


def test_marking_a_connection_as_left_changes_no_presence(store: PresenceStore) -> None:
    store.change(DASHBOARD, connects(C1))

    store.mark_left(C1)

    assert current(store).connections == {C1}


def test_a_step_that_fails_changes_nothing(store: PresenceStore) -> None:
    store.change(DASHBOARD, connects(C1))

    def step(presence: Presence) -> Presence:
        raise KeyError(presence.session)

    with pytest.raises(KeyError):
        store.change(DASHBOARD, step)

    assert current(store).connections == {C1}


concurrently = pytest.mark.parametrize("store", ["memory", "dynamodb-boto3"], indirect=True)
"""Not moto: it checks a condition and writes in two steps, and another thread may come between."""


@concurrently
def test_no_concurrent_change_is_lost(store: PresenceStore) -> None:
    workers, each = 4, 5
    start = Barrier(workers, timeout=30)

    def connect(worker: int) -> None:
        start.wait()
        for number in range(each):
            store.change(DASHBOARD, connects(a_ref(f"c-{worker}-{number}", 1)))

    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(connect, range(workers)))

    presence = current(store)
    assert len(presence.connections) == workers * each
    assert presence.session is not None
    assert presence.outbox == (Joined(DASHBOARD, presence.session),)
    assert presence.session in {f"{ref.connection_id}@1" for ref in presence.connections}


@concurrently
def test_each_of_several_concurrent_sessions_begins_and_ends_once(store: PresenceStore) -> None:
    workers, each = 4, 3
    start = Barrier(workers, timeout=30)

    def connect_and_disconnect(worker: int) -> None:
        start.wait()
        for number in range(each):
            ref = a_ref(f"c-{worker}-{number}", 1)
            store.change(DASHBOARD, connects(ref))
            store.change(DASHBOARD, disconnects(ref))

    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(connect_and_disconnect, range(workers)))

    presence = current(store)
    joined, left = presence.outbox[::2], presence.outbox[1::2]
    assert not presence.connections
    assert {type(event) for event in joined} == {Joined}
    assert {type(event) for event in left} == {Left}
    assert [event.session for event in joined] == [event.session for event in left]
    assert len({event.session for event in joined}) == len(joined)


# ---- DynamoDB only -----------------------------------------------------------------------------------------


@pytest.fixture
def presence_table(dynamodb: "DynamoDBClient") -> str:
    return create_table(dynamodb, "PresenceTable")


def items(client: "DynamoDBClient", table: str) -> list[Any]:
    return client.scan(TableName=table, ConsistentRead=True)["Items"]


def test_a_presence_is_one_readable_item(dynamodb: "DynamoDBClient", presence_table: str) -> None:
    store = a_store(dynamodb, presence_table)

    store.change(DASHBOARD, lambda presence: presence.connected(C2).connected(C1))

    (item,) = items(dynamodb, presence_table)
    assert len(item.pop("version")["S"]) == 16
    assert item == {
        "id": {"S": 'client#["dashboard-7","123456789012","ap-northeast-2"]'},
        "connections": {"SS": [S1, S2]},
        "visit": {"S": S2},
        "outbox": {"L": [{"S": f"joined {S2}"}]},
    }


def test_an_empty_presence_has_no_item(dynamodb: "DynamoDBClient", presence_table: str) -> None:
    store = a_store(dynamodb, presence_table)

    changed = store.change(DASHBOARD, lambda presence: presence.connected(C1).disconnected(C1))
    store.change(DASHBOARD, lambda presence: presence.mark_published(changed.outbox))

    assert items(dynamodb, presence_table) == []


def test_a_connection_is_marked_as_left_for_a_day(dynamodb: "DynamoDBClient", presence_table: str) -> None:
    a_store(dynamodb, presence_table).mark_left(C1)

    ends = int((NOON + timedelta(days=1)).timestamp())
    assert items(dynamodb, presence_table) == [
        {"id": {"S": "left#c-1"}, "began": {"N": str(NOON_MS)}, "ttl": {"N": str(ends)}}
    ]


def test_an_unchanged_presence_is_not_written(dynamodb: "DynamoDBClient", presence_table: str) -> None:
    store = a_store(dynamodb, presence_table)
    store.change(DASHBOARD, connects(C1))
    (before,) = items(dynamodb, presence_table)

    store.change(DASHBOARD, connects(C1))

    assert items(dynamodb, presence_table) == [before]


@pytest.mark.parametrize(
    "there", [EMPTY, Presence(DASHBOARD, frozenset({C3}), S3)], ids=["no item", "an item"]
)
def test_a_concurrent_change_is_not_overwritten(
    dynamodb: "DynamoDBClient", presence_table: str, there: Presence
) -> None:
    pauses: list[float] = []
    store, other = a_store(dynamodb, presence_table, pause=pauses.append), a_store(dynamodb, presence_table)
    store.change(DASHBOARD, becomes(there))
    seen: list[Presence] = []

    changed = store.change(
        DASHBOARD, interrupted(connects(C1), lambda: other.change(DASHBOARD, connects(C2)), seen)
    )

    assert seen == [there, there.connected(C2)]
    assert changed == there.connected(C2).connected(C1) == current(store)
    assert len(pauses) == 1


def test_a_concurrent_deletion_is_not_overwritten(dynamodb: "DynamoDBClient", presence_table: str) -> None:
    store, other = a_store(dynamodb, presence_table), a_store(dynamodb, presence_table)
    there = Presence(DASHBOARD, frozenset({C1}), S1)
    store.change(DASHBOARD, becomes(there))
    seen: list[Presence] = []

    store.change(DASHBOARD, interrupted(connects(C2), lambda: other.change(DASHBOARD, becomes(EMPTY)), seen))

    assert seen == [there, EMPTY]
    assert current(store).session == S2


def test_a_concurrent_deletion_and_recreation_is_not_overwritten(
    dynamodb: "DynamoDBClient", presence_table: str
) -> None:
    """A version that counts from 1 would be the same again."""
    store, other = a_store(dynamodb, presence_table), a_store(dynamodb, presence_table)
    store.change(DASHBOARD, becomes(Presence(DASHBOARD, frozenset({C1}), S1)))

    def delete_and_recreate() -> None:
        other.change(DASHBOARD, becomes(EMPTY))
        other.change(DASHBOARD, becomes(Presence(DASHBOARD, frozenset({C2}), S2)))

    store.change(DASHBOARD, interrupted(disconnects(C1), delete_and_recreate, []))

    assert current(store) == Presence(DASHBOARD, frozenset({C2}), S2)


def test_it_gives_up_if_another_change_always_comes_first(
    dynamodb: "DynamoDBClient", presence_table: str
) -> None:
    pauses: list[float] = []
    store, other = a_store(dynamodb, presence_table, pause=pauses.append), a_store(dynamodb, presence_table)

    def step(presence: Presence) -> Presence:
        other.change(DASHBOARD, connects(a_ref(uuid4().hex, 1)))
        return presence.connected(C1)

    with pytest.raises(StorageUnavailable, match="Contended") as raised:
        store.change(DASHBOARD, step)

    assert not raised.value.outcome_unknown
    assert len(pauses) == 20
    assert max(pauses) <= 0.1
    assert C1 not in current(store).connections


@pytest.mark.parametrize(
    "call",
    [
        current,
        lambda store: store.change(DASHBOARD, connects(C1)),
        lambda store: store.mark_left(C1),
        lambda store: store.has_left(C1),
    ],
    ids=["read", "change", "mark_left", "has_left"],
)
def test_an_answer_that_does_not_come_from_dynamodb_is_refused(
    own_dynamodb: "DynamoDBClient", presence_table: str, call: Callable[[PresenceStore], object]
) -> None:
    def without_request_id(parsed: dict[str, Any], **_: object) -> None:
        del parsed["ResponseMetadata"]["RequestId"]

    own_dynamodb.meta.events.register("after-call.dynamodb", without_request_id)

    with pytest.raises(StorageUnavailable, match="NotDynamoDB"):
        call(a_store(own_dynamodb, presence_table))


def test_an_unreachable_database_is_reported_by_the_name_of_its_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        closing(a_client(f"http://127.0.0.1:{server.getsockname()[1]}")) as client,
    ):
        server.close()
        with pytest.raises(StorageUnavailable, match="EndpointConnectionError") as raised:
            a_store(client, "presence").has_left(C1)

    assert not raised.value.outcome_unknown


class Meter:
    """Adds up the read and write units that a client's calls consume."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self._read = self._written = 0.0
        events = client.meta.events
        events.register("provide-client-params.dynamodb.*", self._request_units)  # type: ignore[arg-type]  # it may return parameters
        events.register("after-call.dynamodb.GetItem", self._add_read)
        events.register("after-call.dynamodb.PutItem", self._add_written)
        events.register("after-call.dynamodb.DeleteItem", self._add_written)

    def units(self) -> tuple[float, float]:
        """Return the units since the last reading."""
        units = self._read, self._written
        self._read = self._written = 0.0
        return units

    def _request_units(self, params: dict[str, Any], **_: object) -> dict[str, Any]:
        return params | {"ReturnConsumedCapacity": "TOTAL"}

    def _add_read(self, parsed: dict[str, Any], **_: object) -> None:
        self._read += parsed["ConsumedCapacity"]["CapacityUnits"]

    def _add_written(self, parsed: dict[str, Any], **_: object) -> None:
        self._written += parsed["ConsumedCapacity"]["CapacityUnits"]


def test_what_each_path_costs_in_read_and_write_units(
    own_dynamodb: "DynamoDBClient", presence_table: str
) -> None:
    store, meter = a_store(own_dynamodb, presence_table), Meter(own_dynamodb)
    table, gateway, clock = MemoryConnectionTable(), FakeGateway(), FixedClock()
    track = TrackPresence(
        table,
        store,
        RecordingPublisher(),
        EvictConnection(table, gateway, clock, timedelta(seconds=30)),
        clock,
        ThreadWorkers(1),
    )
    first, second = a_connection(), a_connection(id=ConnectionId("c-2"))
    unknown = a_connection(id=ConnectionId("c-3"), client_id=UNKNOWN_CLIENT)
    costs = {}

    for name, change in {
        "first connects": Change(None, first),
        "second connects": Change(None, second),
        "first disconnects": Change(first, None),
        "last disconnects": Change(second, None),
        "unknown client connects": Change(None, unknown),
        "unknown client disconnects": Change(unknown, None),
    }.items():
        track(change, until=NEVER)
        costs[name] = meter.units()

    assert costs == {
        "first connects": (4, 2),
        "second connects": (3, 1),
        "first disconnects": (1, 2),
        "last disconnects": (2, 3),
        "unknown client connects": (1, 0),
        "unknown client disconnects": (0, 1),
    }
    assert gateway.probed == gateway.closed == []
