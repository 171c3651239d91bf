"""What every PresenceStore promises, in the same sentences for each; and what DynamoDB alone makes of it."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from app.adapters.dynamodb import DynamoDBPresenceStore
from app.adapters.memory import MemoryConnectionStore
from app.adapters.memory_presence import MemoryPresenceStore
from app.domain.errors import StorageUnavailable
from app.domain.model import UNKNOWN_CLIENT, AccountId, ClientId, Connection, ConnectionId, RegionName
from app.domain.ports import PresenceStore
from app.domain.presence import FollowChanges
from app.domain.upkeep import (
    Answer,
    Change,
    Client,
    ConnectionRef,
    Presence,
    Turn,
    VisitEvent,
    VisitId,
)
from tests.builders import NEVER, NOON, NOON_MS, FixedClock, a_connection
from tests.dynamodb_local import a_client, create_table
from tests.stores import moto_client
from tests.thoroughness import examples

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ADAPTERS = ("memory", "moto", "dynamodb-local")

C1, C2, C3 = ConnectionRef(f"c-1@{NOON_MS}"), ConnectionRef(f"c-2@{NOON_MS + 1}"), ConnectionRef("c@3@1")
V1, V2 = VisitId(C1), VisitId(C2)
DASHBOARD = Client(ClientId("dashboard-7"), AccountId("123456789012"), RegionName("ap-northeast-2"))

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
refs = st.builds("{}@{}".format, texts, st.integers(0, 4_102_444_800_000)).map(ConnectionRef)
presences = st.builds(
    Presence,
    connections=st.frozensets(refs, max_size=5),
    visit=st.none() | refs.map(VisitId),
    untold=st.lists(
        st.builds(VisitEvent, st.sampled_from(Turn), refs.map(VisitId)), max_size=4, unique=True
    ).map(tuple),
)


def a_store(client: "DynamoDBClient", table: str, **changes: Any) -> DynamoDBPresenceStore:
    return DynamoDBPresenceStore(client, table, **{"clock": FixedClock()} | changes)


@pytest.fixture(params=ADAPTERS)
def store(request: pytest.FixtureRequest) -> Iterator[PresenceStore]:
    match request.param:
        case "memory":
            yield MemoryPresenceStore()
        case "moto":
            with mock_aws():
                client = moto_client()
                yield a_store(client, create_table(client, "PresenceTable"))
        case _:
            client = request.getfixturevalue("dynamodb")
            yield a_store(client, create_table(client, "PresenceTable"))


def current(store: PresenceStore, client: Client = DASHBOARD) -> Presence:
    return store.change(client, lambda presence: presence)


def comes(ref: ConnectionRef) -> Callable[[Presence], Presence]:
    return lambda presence: presence.came(ref)


def goes(ref: ConnectionRef) -> Callable[[Presence], Presence]:
    return lambda presence: presence.went(ref)


def becomes(presence: Presence) -> Callable[[Presence], Presence]:
    return lambda _: presence


def disturbed(
    step: Callable[[Presence], Presence], meanwhile: Callable[[], object], seen: list[Presence]
) -> Callable[[Presence], Presence]:
    """*step*, which has *seen* what it is given; when it is first asked, something happens *meanwhile*."""

    def asked(presence: Presence) -> Presence:
        if not seen:
            meanwhile()
        seen.append(presence)
        return step(presence)

    return asked


def test_of_an_unknown_client_nothing_is_present(store: PresenceStore) -> None:
    assert current(store) == Presence()


def test_a_presence_comes_back_as_it_was_left(store: PresenceStore) -> None:
    changed = store.change(DASHBOARD, lambda presence: presence.came(C1).came(C2))

    assert changed == Presence(frozenset({C1, C2}), V1, (VisitEvent(Turn.JOINED, V1),))
    assert current(store) == changed


@given(presence=presences, other=presences, name=texts)
@settings(
    max_examples=examples(15),
    # one store for all examples is meant: each client has a name of its own
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_presence_comes_back_as_it_was_left(
    store: PresenceStore, presence: Presence, other: Presence, name: str
) -> None:
    client = Client(ClientId(f"{name}{uuid4().hex}"), AccountId(""), RegionName(""))

    assert store.change(client, becomes(presence)) == presence
    assert current(store, client) == presence
    assert store.change(client, becomes(other)) == other
    assert current(store, client) == other


def test_a_step_is_given_what_the_step_before_made(store: PresenceStore) -> None:
    store.change(DASHBOARD, comes(C1))
    seen: list[Presence] = []

    def step(presence: Presence) -> Presence:
        seen.append(presence)
        return presence.came(C2)

    store.change(DASHBOARD, step)

    assert seen == [Presence(frozenset({C1}), V1, (VisitEvent(Turn.JOINED, V1),))]


def test_what_has_to_be_told_outlasts_the_connections(store: PresenceStore) -> None:
    store.change(DASHBOARD, lambda presence: presence.came(C1).went(C1))

    assert current(store) == Presence(
        untold=(VisitEvent(Turn.JOINED, V1), VisitEvent(Turn.LEFT, V1)),
    )


def test_a_presence_can_end_and_another_begin(store: PresenceStore) -> None:
    store.change(DASHBOARD, comes(C1))
    store.change(DASHBOARD, becomes(Presence()))

    store.change(DASHBOARD, comes(C2))

    assert current(store) == Presence(frozenset({C2}), V2, (VisitEvent(Turn.JOINED, V2),))


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
def test_clients_do_not_mix(store: PresenceStore, other: tuple[str, str, str]) -> None:
    store.change(DASHBOARD, comes(C1))

    client = Client(ClientId(other[0]), AccountId(other[1]), RegionName(other[2]))

    assert current(store, client) == Presence()


def test_a_connection_has_left_once_it_is_marked_so(store: PresenceStore) -> None:
    assert not store.has_left(C3)

    store.mark_left(C3)
    store.mark_left(C3)

    assert store.has_left(C3)
    assert not store.has_left(C1)


@pytest.mark.parametrize("order", [(2, 4), (4, 2)], ids=["older first", "newer first"])
def test_with_a_connection_every_older_one_of_its_id_has_left(
    store: PresenceStore, order: tuple[int, int]
) -> None:
    for began in order:
        store.mark_left(ConnectionRef(f"c-1@{began}"))

    left = [began for began in range(1, 7) if store.has_left(ConnectionRef(f"c-1@{began}"))]
    assert left == [1, 2, 3, 4]


def test_a_mark_is_no_presence(store: PresenceStore) -> None:
    store.change(DASHBOARD, comes(C1))

    store.mark_left(C1)

    assert current(store).connections == {C1}


def test_a_step_that_fails_changes_nothing(store: PresenceStore) -> None:
    store.change(DASHBOARD, comes(C1))

    def step(presence: Presence) -> Presence:
        raise KeyError(presence.visit)

    with pytest.raises(KeyError):
        store.change(DASHBOARD, step)

    assert current(store).connections == {C1}


at_once = pytest.mark.parametrize("store", ["memory", "dynamodb-local"], indirect=True)
"""Not moto: it looks at a condition first and writes then, and another thread may come between."""


@at_once
def test_of_changes_at_once_none_is_lost(store: PresenceStore) -> None:
    workers, each = 4, 5
    start = Barrier(workers, timeout=30)

    def come_and_stay(worker: int) -> None:
        start.wait()
        for number in range(each):
            store.change(DASHBOARD, comes(ConnectionRef(f"c-{worker}-{number}@1")))

    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(come_and_stay, range(workers)))

    presence = current(store)
    assert len(presence.connections) == workers * each
    (joined,) = presence.untold
    assert joined == VisitEvent(Turn.JOINED, VisitId(str(presence.visit)))
    assert joined.visit in {VisitId(ref) for ref in presence.connections}


@at_once
def test_of_visits_at_once_each_begins_and_ends_once(store: PresenceStore) -> None:
    workers, each = 4, 3
    start = Barrier(workers, timeout=30)

    def come_and_go(worker: int) -> None:
        start.wait()
        for number in range(each):
            ref = ConnectionRef(f"c-{worker}-{number}@1")
            store.change(DASHBOARD, comes(ref))
            store.change(DASHBOARD, goes(ref))

    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(come_and_go, range(workers)))

    presence = current(store)
    joined, left = presence.untold[::2], presence.untold[1::2]
    assert not presence.connections
    assert {event.turn for event in joined} == {Turn.JOINED}
    assert {event.turn for event in left} == {Turn.LEFT}
    assert [event.visit for event in joined] == [event.visit for event in left]
    assert len({event.visit for event in joined}) == len(joined)


# ---- DynamoDB's own ----------------------------------------------------------------------------------------


@pytest.fixture
def presence_table(dynamodb: "DynamoDBClient") -> str:
    return create_table(dynamodb, "PresenceTable")


def rows(client: "DynamoDBClient", table: str) -> list[Any]:
    return client.scan(TableName=table, ConsistentRead=True)["Items"]


def test_the_item_of_a_presence_can_be_read(dynamodb: "DynamoDBClient", presence_table: str) -> None:
    store = a_store(dynamodb, presence_table)

    store.change(DASHBOARD, lambda presence: presence.came(C2).came(C1))

    (item,) = rows(dynamodb, presence_table)
    assert len(item.pop("version")["S"]) == 16
    assert item == {
        "id": {"S": 'client#["dashboard-7","123456789012","ap-northeast-2"]'},
        "connections": {"SS": [C1, C2]},
        "visit": {"S": C2},
        "untold": {"L": [{"S": f"joined {C2}"}]},
    }


def test_a_presence_of_nothing_leaves_no_item(dynamodb: "DynamoDBClient", presence_table: str) -> None:
    store = a_store(dynamodb, presence_table)

    changed = store.change(DASHBOARD, lambda presence: presence.came(C1).went(C1))
    store.change(DASHBOARD, lambda presence: presence.told(changed.untold))

    assert rows(dynamodb, presence_table) == []


def test_a_mark_lasts_a_day(dynamodb: "DynamoDBClient", presence_table: str) -> None:
    a_store(dynamodb, presence_table).mark_left(C1)

    ends = int((NOON + timedelta(days=1)).timestamp())
    assert rows(dynamodb, presence_table) == [
        {"id": {"S": "left#c-1"}, "began": {"N": str(NOON_MS)}, "ttl": {"N": str(ends)}}
    ]


def test_what_stays_as_it_is_is_not_written(dynamodb: "DynamoDBClient", presence_table: str) -> None:
    store = a_store(dynamodb, presence_table)
    store.change(DASHBOARD, comes(C1))
    (before,) = rows(dynamodb, presence_table)

    store.change(DASHBOARD, comes(C1))

    assert rows(dynamodb, presence_table) == [before]


@pytest.mark.parametrize("there", [Presence(), Presence(frozenset({C3}), VisitId(C3))], ids=["new", "there"])
def test_a_change_that_comes_between_is_not_overwritten(
    dynamodb: "DynamoDBClient", presence_table: str, there: Presence
) -> None:
    pauses: list[float] = []
    store, other = a_store(dynamodb, presence_table, pause=pauses.append), a_store(dynamodb, presence_table)
    store.change(DASHBOARD, becomes(there))
    seen: list[Presence] = []

    changed = store.change(DASHBOARD, disturbed(comes(C1), lambda: other.change(DASHBOARD, comes(C2)), seen))

    assert seen == [there, there.came(C2)]
    assert changed == there.came(C2).came(C1) == current(store)
    assert len(pauses) == 1


def test_an_end_that_comes_between_is_not_overwritten(
    dynamodb: "DynamoDBClient", presence_table: str
) -> None:
    store, other = a_store(dynamodb, presence_table), a_store(dynamodb, presence_table)
    store.change(DASHBOARD, becomes(Presence(frozenset({C1}), V1)))
    seen: list[Presence] = []

    store.change(DASHBOARD, disturbed(comes(C2), lambda: other.change(DASHBOARD, becomes(Presence())), seen))

    assert seen == [Presence(frozenset({C1}), V1), Presence()]
    assert current(store).visit == V2


def test_an_end_and_a_new_beginning_that_come_between_are_not_overwritten(
    dynamodb: "DynamoDBClient", presence_table: str
) -> None:
    """A version that counts from 1 would be the same again."""
    store, other = a_store(dynamodb, presence_table), a_store(dynamodb, presence_table)
    store.change(DASHBOARD, becomes(Presence(frozenset({C1}), V1)))

    def ends_and_begins() -> None:
        other.change(DASHBOARD, becomes(Presence()))
        other.change(DASHBOARD, becomes(Presence(frozenset({C2}), V2)))

    store.change(DASHBOARD, disturbed(goes(C1), ends_and_begins, []))

    assert current(store) == Presence(frozenset({C2}), V2)


def test_where_others_always_come_between_it_gives_up(
    dynamodb: "DynamoDBClient", presence_table: str
) -> None:
    pauses: list[float] = []
    store, other = a_store(dynamodb, presence_table, pause=pauses.append), a_store(dynamodb, presence_table)

    def step(presence: Presence) -> Presence:
        other.change(DASHBOARD, lambda presence: presence.came(ConnectionRef(f"{uuid4().hex}@1")))
        return presence.came(C1)

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
        lambda store: store.change(DASHBOARD, comes(C1)),
        lambda store: store.mark_left(C1),
        lambda store: store.has_left(C1),
    ],
    ids=["read", "change", "mark_left", "has_left"],
)
def test_an_answer_that_is_not_dynamodbs_is_not_believed(
    own_dynamodb: "DynamoDBClient", presence_table: str, call: Callable[[PresenceStore], object]
) -> None:
    def without_request_id(parsed: dict[str, Any], **_: object) -> None:
        del parsed["ResponseMetadata"]["RequestId"]

    own_dynamodb.meta.events.register("after-call.dynamodb", without_request_id)

    with pytest.raises(StorageUnavailable, match="NotDynamoDB"):
        call(a_store(own_dynamodb, presence_table))


def test_a_database_that_can_not_be_reached_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        closing(a_client(f"http://127.0.0.1:{server.getsockname()[1]}")) as client,
    ):
        server.close()
        with pytest.raises(StorageUnavailable, match="EndpointConnectionError") as raised:
            a_store(client, "presence").has_left(C1)

    assert not raised.value.outcome_unknown


class Meter:
    """Adds up the units that a client's calls consume: those that read, and those that write."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self._read = self._written = 0.0
        events = client.meta.events
        events.register("provide-client-params.dynamodb.*", self._ask)  # type: ignore[arg-type]  # it may return parameters
        events.register("after-call.dynamodb.GetItem", self._add_read)
        events.register("after-call.dynamodb.PutItem", self._add_written)
        events.register("after-call.dynamodb.DeleteItem", self._add_written)

    def units(self) -> tuple[float, float]:
        """Since the last time."""
        units = self._read, self._written
        self._read = self._written = 0.0
        return units

    def _ask(self, params: dict[str, Any], **_: object) -> dict[str, Any]:
        return params | {"ReturnConsumedCapacity": "TOTAL"}

    def _add_read(self, parsed: dict[str, Any], **_: object) -> None:
        self._read += parsed["ConsumedCapacity"]["CapacityUnits"]

    def _add_written(self, parsed: dict[str, Any], **_: object) -> None:
        self._written += parsed["ConsumedCapacity"]["CapacityUnits"]


def test_what_each_path_costs_in_units_of_reading_and_writing(
    own_dynamodb: "DynamoDBClient", presence_table: str
) -> None:
    store, meter = a_store(own_dynamodb, presence_table), Meter(own_dynamodb)
    follow = FollowChanges(
        MemoryConnectionStore(), store, UnusedGateway(), FixedClock(), timedelta(seconds=30)
    )
    first, second = a_connection(), a_connection(id=ConnectionId("c-2"))
    unknown = a_connection(id=ConnectionId("c-3"), client_id=UNKNOWN_CLIENT)
    costs = {}

    for name, change in {
        "first comes": Change(None, first),
        "second comes": Change(None, second),
        "first goes": Change(first, None),
        "last goes": Change(second, None),
        "nobody comes": Change(None, unknown),
        "nobody goes": Change(unknown, None),
    }.items():
        follow(change, lambda _: None, until=NEVER)
        costs[name] = meter.units()

    assert costs == {
        "first comes": (4, 2),
        "second comes": (3, 1),
        "first goes": (1, 2),
        "last goes": (2, 3),
        "nobody comes": (1, 0),
        "nobody goes": (0, 1),
    }


class UnusedGateway:
    """Gateway that is not to be asked."""

    def ask(self, connection: Connection) -> Answer:
        raise NotImplementedError

    def close(self, connection: Connection) -> Answer:
        raise NotImplementedError
