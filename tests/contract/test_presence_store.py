"""What every PresenceStore promises, in the same sentences for each; then the items of DynamoDB's."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from operator import methodcaller
from threading import Barrier
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from app.adapters.dynamodb.presence import DynamoDBPresenceStore, presence_from
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.memory import MemoryConnectionTable, MemoryPresenceStore
from app.adapters.threads import ThreadWorkers
from app.domain.errors import StorageUnavailable
from app.domain.lifecycle import ConnectionRef
from app.domain.model import UNKNOWN_CLIENT, AccountId, ClientId, Connection, ConnectionId, RegionName
from app.domain.operations import EvictConnection
from app.domain.ports import PresenceStore
from app.domain.presence import Client, Departure, Joined, Left, Presence, SessionId
from app.domain.sessions import ROOM, ROOM_FOR_DEPARTURES, Sessions
from app.domain.tracking import Change, PublishPresence, TrackPresence
from app.entrypoints.presence import PresenceHandler
from tests.builders import NEVER, NOON, NOON_MS, Invocation, a_connection
from tests.dynamodb_local import a_client, create_table, stream_records
from tests.fakes import FakeGateway, FixedClock, RecordingPublisher
from tests.stores import TABLES, moto_client
from tests.thoroughness import examples

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
A_DAY_AFTER_NOON = NOON_MS // 1000 + 86_400


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
seconds = st.integers(0, 4_102_444_800).map(lambda second: EPOCH + timedelta(seconds=second))
presences = st.builds(
    Presence,
    client=st.just(DASHBOARD),
    connections=st.frozensets(refs, max_size=5),
    session=st.none() | sessions,
    departures=st.lists(st.builds(Departure, refs, seconds), max_size=4, unique_by=lambda it: it.ref).map(
        frozenset
    ),
    has_further=st.booleans(),
    is_ending=st.booleans(),
)


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
    return lambda presence: presence.connected(ref, ROOM)


def disconnects(ref: ConnectionRef) -> Callable[[Presence], Presence]:
    return lambda presence: presence.disconnected(ref, NOON, ROOM)


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
    changed = store.change(DASHBOARD, lambda presence: presence.connected(C1, ROOM).connected(C2, ROOM))

    assert changed == Presence(DASHBOARD, frozenset({C1, C2}), S1)
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
    presence, other = replace(presence, client=client), replace(other, client=client)

    assert store.change(client, becomes(presence)) == presence
    assert current(store, client) == presence
    assert store.change(client, becomes(other)) == other
    assert current(store, client) == other


def test_a_step_is_given_the_result_of_the_step_before(store: PresenceStore) -> None:
    store.change(DASHBOARD, connects(C1))
    seen: list[Presence] = []

    def step(presence: Presence) -> Presence:
        seen.append(presence)
        return presence.connected(C2, ROOM)

    store.change(DASHBOARD, step)

    assert seen == [Presence(DASHBOARD, frozenset({C1}), S1)]


def test_departures_are_kept_when_no_connection_is_left(store: PresenceStore) -> None:
    store.change(DASHBOARD, connects(C1))
    store.change(DASHBOARD, disconnects(C1))

    assert current(store) == Presence(DASHBOARD, departures=frozenset({Departure(C1, NOON)}))


def test_each_change_gives_a_version_that_never_was(store: PresenceStore) -> None:
    versions = [
        store.change(DASHBOARD, step).version
        for step in (
            connects(C1),
            becomes(EMPTY),
            connects(C1),
            disconnects(C1),
            becomes(EMPTY),
            connects(C1),
        )
    ]

    assert len(set(versions)) == len(versions)


def test_a_change_of_what_was_empty_fails_if_it_is_empty_again(store: PresenceStore) -> None:
    """Else a worker that lags behind would count a connection that has come and gone."""
    seen: list[Presence] = []

    def come_and_go() -> None:
        store.change(DASHBOARD, connects(C1))
        store.change(DASHBOARD, becomes(EMPTY))

    store.change(DASHBOARD, interrupted(connects(C1), come_and_go, seen))

    assert seen == [EMPTY, EMPTY]
    assert len({presence.version for presence in seen}) == 2


def test_a_change_that_changes_nothing_keeps_the_version(store: PresenceStore) -> None:
    changed = store.change(DASHBOARD, connects(C1))

    assert store.change(DASHBOARD, connects(C1)).version == changed.version == current(store).version


# ---- Further connections -----------------------------------------------------------------------------------

UNKNOWN_AGE, OLD, NEW = a_ref("c-0", 0), a_ref("c/1@2", NOON_MS), a_ref("c-2", NOON_MS + 1)


def test_a_session_has_the_further_connections_that_were_added_and_not_removed(store: PresenceStore) -> None:
    for ref in (UNKNOWN_AGE, OLD, NEW, OLD):
        store.add_further(S1, ref)
    store.add_further(S2, C1)
    store.remove_further(S1, NEW)
    store.remove_further(S1, C1)

    assert set(store.further(S1)) == {UNKNOWN_AGE, OLD}
    assert set(store.further(S2)) == {C1}
    assert set(store.further(S3)) == set()


@pytest.mark.parametrize("order", [(OLD, NEW), (NEW, OLD)], ids=["older first", "newer first"])
def test_the_newest_further_connection_began_last(
    store: PresenceStore, order: tuple[ConnectionRef, ConnectionRef]
) -> None:
    assert store.newest_further(S1) is None

    for ref in order:
        store.add_further(S1, ref)
    assert store.newest_further(S1) == NEW

    store.remove_further(S1, NEW)
    assert store.newest_further(S1) == OLD


def test_a_further_connection_of_unknown_age_is_newer_than_any_other(store: PresenceStore) -> None:
    for ref in (UNKNOWN_AGE, NEW):
        store.add_further(S1, ref)

    assert store.newest_further(S1) == UNKNOWN_AGE


def test_an_id_may_be_among_the_further_connections_twice(store: PresenceStore) -> None:
    both = a_ref("c-1", NOON_MS), a_ref("c-1", NOON_MS + 1)
    for ref in both:
        store.add_further(S1, ref)

    assert set(store.further(S1)) == set(both)


# ---- Changes -----------------------------------------------------------------------------------------------


def test_a_session_can_begin_after_another_has_ended(store: PresenceStore) -> None:
    store.change(DASHBOARD, connects(C1))
    store.change(DASHBOARD, becomes(EMPTY))

    store.change(DASHBOARD, connects(C2))

    assert current(store) == Presence(DASHBOARD, frozenset({C2}), S2)


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
            ref = a_ref(f"c-{worker}-{number}", 1)
            store.change(DASHBOARD, methodcaller("connected", ref, room=workers * each))

    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(connect, range(workers)))

    presence = current(store)
    assert len(presence.connections) == workers * each
    assert presence.session in {f"{ref.connection_id}@1" for ref in presence.connections}


@concurrently
def test_sessions_of_a_client_whose_connections_come_and_go_at_once_end_with_them(
    store: PresenceStore,
) -> None:
    workers, each = 4, 5
    start = Barrier(workers, timeout=30)
    sessions = Sessions(store, FixedClock(), room=2)

    def connect_and_disconnect(worker: int) -> None:
        start.wait()
        for number in range(each):
            ref = a_ref(f"c-{worker}-{number}", NOON_MS)
            assert sessions.connect(DASHBOARD, ref)
            assert ref in sessions.connections(DASHBOARD)
            sessions.disconnect(DASHBOARD, ref)

    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(connect_and_disconnect, range(workers)))

    assert sessions.connections(DASHBOARD) == set()
    assert current(store).session is None


# ---- DynamoDB only -----------------------------------------------------------------------------------------


@pytest.fixture
def presence_table(dynamodb: "DynamoDBClient") -> str:
    return create_table(dynamodb, "PresenceTable")


def items(client: "DynamoDBClient", table: str) -> list[Any]:
    return client.scan(TableName=table, ConsistentRead=True)["Items"]


def test_a_presence_is_one_readable_item(dynamodb: "DynamoDBClient", presence_table: str) -> None:
    store = a_store(dynamodb, presence_table)
    store.change(DASHBOARD, disconnects(C3))

    store.change(DASHBOARD, lambda presence: presence.connected(C2, ROOM).connected(C1, ROOM))

    (item,) = items(dynamodb, presence_table)
    assert len(item.pop("version")["S"]) == 16
    assert item == {
        "id": {"S": 'client#["dashboard-7","123456789012","ap-northeast-2"]'},
        "part": {"S": "presence"},
        "connections": {"SS": [S1, S2]},
        "visit": {"S": S2},
        "left": {"M": {S3: {"N": str(NOON_MS // 1000)}}},
    }


def test_a_further_connection_is_an_item_for_a_day(dynamodb: "DynamoDBClient", presence_table: str) -> None:
    a_store(dynamodb, presence_table).add_further(S1, C2)

    assert items(dynamodb, presence_table) == [
        {
            "id": {"S": f"further#{S1}"},
            "part": {"S": f"{NOON_MS + 1:015}/c-2"},
            "ttl": {"N": str(A_DAY_AFTER_NOON)},
        }
    ]


def test_further_connections_are_read_by_pages(own_dynamodb: "DynamoDBClient", presence_table: str) -> None:
    def by_threes(params: dict[str, Any], **_: object) -> dict[str, Any]:
        return params | {"Limit": 3}

    store = a_store(own_dynamodb, presence_table)
    refs = {a_ref(f"c-{number}", NOON_MS) for number in range(10)}
    for ref in refs:
        store.add_further(S1, ref)
    own_dynamodb.meta.events.register("provide-client-params.dynamodb.Query", by_threes)  # type: ignore[arg-type]  # it may return parameters

    assert set(store.further(S1)) == refs


@pytest.mark.parametrize("last", [becomes(EMPTY), disconnects(C1)], ids=["empty", "departure"])
def test_a_presence_without_a_session_is_kept_for_a_day(
    dynamodb: "DynamoDBClient", presence_table: str, last: Callable[[Presence], Presence]
) -> None:
    store = a_store(dynamodb, presence_table)
    store.change(DASHBOARD, connects(C1))

    store.change(DASHBOARD, last)
    (item,) = items(dynamodb, presence_table)
    assert item["ttl"] == {"N": str(A_DAY_AFTER_NOON)}

    store.change(DASHBOARD, connects(C3))
    (item,) = items(dynamodb, presence_table)
    assert "ttl" not in item


def test_departures_that_the_item_has_no_room_for_are_in_items_beside_it_for_a_day(
    dynamodb: "DynamoDBClient", presence_table: str
) -> None:
    clock = FixedClock()
    store = a_store(dynamodb, presence_table, clock=clock)
    gone = [a_ref(f"c-{number}", NOON_MS) for number in range(20)]
    for ref in gone:
        store.change(DASHBOARD, methodcaller("disconnected", ref, NOON, room=100))

    sizes = {it["part"]["S"][:9]: len(it["left"]["M"]) for it in items(dynamodb, presence_table)}
    assert {it.ref for it in current(store).departures} == set(gone)
    assert sizes == {"presence": 4, "presence/": 8}
    assert {it["ttl"]["N"] for it in items(dynamodb, presence_table)} == {str(A_DAY_AFTER_NOON)}

    clock.advance(timedelta(days=1))
    assert len(current(store).departures) == 4  # DynamoDB deletes late


def test_departures_that_are_moved_are_lost_by_no_crash(
    own_dynamodb: "DynamoDBClient", presence_table: str
) -> None:
    store = a_store(own_dynamodb, presence_table)
    gone = [a_ref(f"c-{number}", NOON_MS) for number in range(9)]
    for ref in gone[:8]:
        store.change(DASHBOARD, methodcaller("disconnected", ref, NOON, room=100))

    def crash(params: dict[str, Any], **_: object) -> None:
        if params["Item"]["part"]["S"] == "presence":
            raise KeyboardInterrupt

    own_dynamodb.meta.events.register("provide-client-params.dynamodb.PutItem", crash)
    with pytest.raises(KeyboardInterrupt):
        store.change(DASHBOARD, methodcaller("disconnected", gone[8], NOON, room=100))
    assert {it.ref for it in current(store).departures} == set(gone[:8])

    own_dynamodb.meta.events.unregister("provide-client-params.dynamodb.PutItem", crash)
    store.change(DASHBOARD, methodcaller("disconnected", gone[8], NOON, room=100))
    assert {it.ref for it in current(store).departures} == set(gone)


def test_a_connection_is_marked_as_left_for_a_day(dynamodb: "DynamoDBClient", presence_table: str) -> None:
    a_store(dynamodb, presence_table).mark_left(C1)

    assert items(dynamodb, presence_table) == [
        {
            "id": {"S": "left#c-1"},
            "part": {"S": "left"},
            "began": {"N": str(NOON_MS)},
            "ttl": {"N": str(A_DAY_AFTER_NOON)},
        }
    ]


def test_the_tables_stream_has_the_presences_before_and_after_each_change(
    dynamodb: "DynamoDBClient", presence_table: str
) -> None:
    store = a_store(dynamodb, presence_table)
    store.change(DASHBOARD, connects(C1))
    store.add_further(S1, C2)
    store.change(DASHBOARD, connects(C1))
    store.change(DASHBOARD, disconnects(C1))
    store.mark_left(C2)

    publisher = RecordingPublisher()
    handler = PresenceHandler(PublishPresence(publisher), presence_from, FixedClock())
    records = stream_records(dynamodb, presence_table)

    assert handler({"Records": records}, Invocation()) == {"batchItemFailures": []}
    assert publisher.events == [Joined(DASHBOARD, S1), Left(DASHBOARD, S1)]
    assert len(records) == 4  # nothing is written where nothing changes


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

    assert seen == [there, there.connected(C2, ROOM)]
    assert changed == there.connected(C2, ROOM).connected(C1, ROOM) == current(store)
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

    assert current(store) == Presence(DASHBOARD, frozenset({C2}), S2, frozenset({Departure(C1, NOON)}))


def test_it_gives_up_if_another_change_always_comes_first(
    dynamodb: "DynamoDBClient", presence_table: str
) -> None:
    pauses: list[float] = []
    store, other = a_store(dynamodb, presence_table, pause=pauses.append), a_store(dynamodb, presence_table)

    def step(presence: Presence) -> Presence:
        other.change(DASHBOARD, methodcaller("disconnected", a_ref(uuid4().hex, 1), NOON, room=100))
        return presence.connected(C1, ROOM)

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
        lambda store: store.add_further(S1, C1),
        lambda store: store.remove_further(S1, C1),
        lambda store: store.newest_further(S1),
        lambda store: list(store.further(S1)),
        lambda store: store.mark_left(C1),
        lambda store: store.has_left(C1),
    ],
    ids=["read", "change", "add", "remove", "newest", "further", "mark_left", "has_left"],
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
        closing(a_client("http://127.0.0.1:1")) as client,
        pytest.raises(StorageUnavailable, match="EndpointConnectionError") as raised,
    ):
        a_store(client, "presence").has_left(C1)

    assert not raised.value.outcome_unknown


class Meter:
    """Adds up the read and write units that a client's calls consume."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self._read = self._written = 0.0
        events = client.meta.events
        events.register("provide-client-params.dynamodb.*", self._request_units)  # type: ignore[arg-type]  # it may return parameters
        for operation in ("GetItem", "Query"):
            events.register(f"after-call.dynamodb.{operation}", self._add_read)
        for operation in ("PutItem", "DeleteItem"):
            events.register(f"after-call.dynamodb.{operation}", self._add_written)

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


class Metered:
    """TrackPresence on a metered store."""

    def __init__(self, client: "DynamoDBClient", presence_table: str) -> None:
        self._meter = Meter(client)
        table, clock = MemoryConnectionTable(), FixedClock()
        self._track = TrackPresence(
            table,
            Sessions(a_store(client, presence_table), clock),
            RecordingPublisher(),
            EvictConnection(table, FakeGateway(), clock, timedelta(seconds=30)),
            clock,
            ThreadWorkers(1),
        )

    def units(self, *changes: Change) -> tuple[float, float]:
        """Return the read and write units that *changes* take."""
        for change in changes:
            self._track(change, until=NEVER)
        return self._meter.units()


@pytest.fixture
def metered(own_dynamodb: "DynamoDBClient", presence_table: str) -> Metered:
    return Metered(own_dynamodb, presence_table)


def tabs(number: int) -> list[Connection]:
    """So many connections of the dashboard, with ids as API Gateway's."""
    return [
        a_connection(
            id=ConnectionId(f"JKJaXeXAmPl{each:04}="), connected_at=NOON + timedelta(milliseconds=each)
        )
        for each in range(number)
    ]


def test_a_session_of_one_connection_costs_half_of_what_a_set_of_connections_and_an_outbox_cost(
    metered: Metered,
) -> None:
    """That took 6 read and 5 write units."""
    former, tab = tabs(2)
    metered.units(
        Change(None, former), Change(former, None)
    )  # DynamoDB Local's queries of nothing cost nothing

    assert metered.units(Change(None, tab)) == (2, 1)
    assert metered.units(Change(tab, None)) == (1, 1)


def test_with_all_that_a_presence_has_room_for_a_change_costs_one_unit_of_each(metered: Metered) -> None:
    gone, there = tabs(ROOM_FOR_DEPARTURES + ROOM)[:-ROOM], tabs(ROOM_FOR_DEPARTURES + ROOM)[-ROOM:]
    metered.units(*(Change(None, tab) for tab in gone[:ROOM]), *(Change(tab, None) for tab in gone[:ROOM]))
    for tab in gone[ROOM:]:
        metered.units(Change(None, tab), Change(tab, None))

    costs = [metered.units(Change(None, tab)) for tab in there]

    assert costs == [(2, 1)] * ROOM


def test_a_session_of_one_connection_costs_a_ninth_of_a_write_unit_more_after_many_others(
    metered: Metered,
) -> None:
    sessions = [(Change(None, tab), Change(tab, None)) for tab in tabs(ROOM_FOR_DEPARTURES)]
    metered.units(*sessions[0])

    costs = [metered.units(*session) for session in sessions[1:]]

    assert set(costs) == {(3, 2), (3, 3)}
    assert costs.count((3, 3)) == (ROOM_FOR_DEPARTURES - 1) // ROOM


@pytest.mark.parametrize("number", [1, 100])
def test_what_a_further_connection_costs_does_not_grow_with_their_number(
    metered: Metered, number: int
) -> None:
    *others, last = tabs(ROOM + number + 1)
    metered.units(*(Change(None, tab) for tab in others))

    assert metered.units(Change(None, last)) == (3, 1)
    assert metered.units(Change(last, None)) == (2, 2)


@pytest.mark.parametrize("number", [1, 100])
def test_nor_does_it_once_the_connections_in_the_presence_itself_have_left(
    metered: Metered, number: int
) -> None:
    *others, last = tabs(ROOM + number + 1)
    metered.units(*(Change(None, tab) for tab in others), *(Change(tab, None) for tab in others[:ROOM]))

    assert metered.units(Change(None, last)) == (4, 1)
    assert metered.units(Change(last, None)) == (4, 2)


def test_a_departure_that_a_presence_has_no_room_for_costs_one_unit_of_each_more(metered: Metered) -> None:
    *others, last = tabs(ROOM_FOR_DEPARTURES + 1)
    for tab in others:
        metered.units(Change(None, tab), Change(tab, None))

    assert metered.units(Change(None, last)) == (2, 1)
    assert metered.units(Change(last, None)) == (2, 2)


def test_a_connection_of_an_unknown_client_costs_one_unit_of_each(metered: Metered) -> None:
    unknown = a_connection(client_id=UNKNOWN_CLIENT)

    assert metered.units(Change(None, unknown)) == (1, 0)
    assert metered.units(Change(unknown, None)) == (0, 1)
