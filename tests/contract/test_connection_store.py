"""What every ConnectionStore promises, in the same sentences for each."""

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.errors import AlreadyClosed
from app.domain.model import Connection, ConnectionId, Removed
from app.domain.ports import ConnectionStore
from tests.builders import NOON, a_bare_connection, a_connection
from tests.dynamodb_local import a_client, create_table
from tests.stores import REGISTRIES, a_direct_store, a_registry, moto_server
from tests.thoroughness import examples

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ADAPTERS = (*REGISTRIES, "direct-moto-server", "direct-dynamodb-local")

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
connections = st.builds(
    a_connection,
    id=st.builds(lambda: ConnectionId(uuid4().hex)),
    client_id=texts,
    account=st.just("") | st.from_regex("[0-9]{12}", fullmatch=True),
    source_ip=st.just("") | st.ip_addresses().map(str),
    created_at=st.integers(0, 4_102_444_800_000).map(lambda ms: NOON + timedelta(milliseconds=ms)),
    expires_at=st.integers(0, 4_102_444_800).map(lambda s: NOON + timedelta(seconds=s)),
    user_agent=st.none() | texts,
    connected_at=st.none() | st.just(NOON),
    principal_id=st.none() | texts,
    attributes=st.dictionaries(texts, texts, max_size=8),
)


@pytest.fixture(scope="module")
def moto() -> "Iterator[DynamoDBClient]":
    with moto_server() as endpoint, closing(a_client(endpoint)) as client:
        yield client


@pytest.fixture(params=ADAPTERS)
def store(request: pytest.FixtureRequest) -> Iterator[ConnectionStore]:
    match request.param:
        case "direct-moto-server":
            client = request.getfixturevalue("moto")
            with closing(a_direct_store(client.meta.endpoint_url, create_table(client))) as it:
                yield it
        case "direct-dynamodb-local":
            table = request.getfixturevalue("table")
            with closing(a_direct_store(request.getfixturevalue("dynamodb_local"), table)) as it:
                yield it
        case name:
            with a_registry(name, request) as registry:
                yield registry


@pytest.mark.parametrize("connection", [a_connection(), a_bare_connection()], ids=["whole", "bare"])
def test_a_connection_comes_back_as_it_was_added(store: ConnectionStore, connection: Connection) -> None:
    store.add(connection)

    assert store.get(connection.id) == connection


@given(connection=connections)
@settings(
    max_examples=examples(60),
    # one store for all examples is meant: each connection has an id of its own
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_connection_comes_back_as_it_was_added(store: ConnectionStore, connection: Connection) -> None:
    assert store.add(connection) == connection
    assert store.get(connection.id) == connection
    assert store.remove(connection.id, None) == Removed(connection)


def test_adding_the_same_connection_twice_keeps_the_first(store: ConnectionStore) -> None:
    store.add(a_connection(source_ip="203.0.113.7"))

    assert store.add(a_connection(source_ip="198.51.100.9")) == a_connection(source_ip="203.0.113.7")
    assert store.get(ConnectionId("c-1")) == a_connection(source_ip="203.0.113.7")


def test_what_was_never_added_is_not_there(store: ConnectionStore) -> None:
    assert store.get(ConnectionId("c-1")) is None


def test_removing_tells_what_was_there(store: ConnectionStore) -> None:
    store.add(a_connection())

    assert store.remove(ConnectionId("c-1"), None) == Removed(a_connection())


def test_what_was_removed_is_there_no_more(store: ConnectionStore) -> None:
    store.add(a_connection())

    store.remove(ConnectionId("c-1"), None)

    assert store.get(ConnectionId("c-1")) is None


def test_removing_what_is_unknown_is_no_error(store: ConnectionStore) -> None:
    assert store.remove(ConnectionId("c-1"), None) == Removed(None)


def test_removing_twice_tells_what_was_there_only_once(store: ConnectionStore) -> None:
    store.add(a_connection())

    assert store.remove(ConnectionId("c-1"), None) is not None
    assert store.remove(ConnectionId("c-1"), None) == Removed(None)


def test_removing_one_connection_leaves_the_others(store: ConnectionStore) -> None:
    store.add(a_connection(id=ConnectionId("c-1")))
    store.add(a_connection(id=ConnectionId("c-2")))

    store.remove(ConnectionId("c-1"), None)

    assert store.get(ConnectionId("c-2")) == a_connection(id=ConnectionId("c-2"))


def test_an_id_that_was_removed_can_be_added_again(store: ConnectionStore) -> None:
    store.add(a_connection(source_ip="203.0.113.7"))
    store.remove(ConnectionId("c-1"), None)

    store.add(a_connection(source_ip="198.51.100.9"))

    assert store.get(ConnectionId("c-1")) == a_connection(source_ip="198.51.100.9")


# ---- One id, several connections: told apart by connectedAt

C1 = ConnectionId("c-1")
EARLIER, LATER = NOON - timedelta(milliseconds=1), NOON + timedelta(milliseconds=1)


def marked(store: ConnectionStore, connected_at: datetime = NOON) -> Removed:
    return store.mark_closed(
        C1,
        connected_at=connected_at,
        closed_at=NOON + timedelta(seconds=1),
        until=NOON + timedelta(minutes=10),
    )


def test_a_newer_connection_takes_the_place_of_an_older_one(store: ConnectionStore) -> None:
    store.add(a_connection(connected_at=NOON, source_ip="203.0.113.7"))
    newer = a_connection(connected_at=LATER, source_ip="198.51.100.9")

    assert store.add(newer) == newer
    assert store.get(C1) == newer


def test_an_older_connection_does_not_take_the_place_of_a_newer_one(store: ConnectionStore) -> None:
    store.add(a_connection(connected_at=NOON))

    with pytest.raises(AlreadyClosed):
        store.add(a_connection(connected_at=EARLIER))

    assert store.get(C1) == a_connection(connected_at=NOON)


@pytest.mark.parametrize(("there", "added"), [(None, NOON), (NOON, None), (None, None)])
def test_where_one_of_two_has_no_time_they_count_as_the_same(
    store: ConnectionStore, there: datetime | None, added: datetime | None
) -> None:
    store.add(a_connection(connected_at=there, source_ip="203.0.113.7"))

    standing = store.add(a_connection(connected_at=added, source_ip="198.51.100.9"))

    assert standing == a_connection(connected_at=there, source_ip="203.0.113.7")
    assert store.get(C1) == standing


@pytest.mark.parametrize("told", [NOON, LATER, None])
@pytest.mark.parametrize("there", [NOON, None])
def test_a_connection_is_removed_by_its_own_time_or_a_later_one_or_none(
    store: ConnectionStore, there: datetime | None, told: datetime | None
) -> None:
    store.add(a_connection(connected_at=there))

    assert store.remove(C1, told) == Removed(a_connection(connected_at=there))
    assert store.get(C1) is None


def test_a_late_removal_leaves_the_connection_that_has_the_id_by_now(store: ConnectionStore) -> None:
    store.add(a_connection(connected_at=NOON))

    assert store.remove(C1, EARLIER) == Removed(None)
    assert store.get(C1) == a_connection(connected_at=NOON)


@pytest.mark.parametrize("connected_at", [NOON, EARLIER, None])
def test_what_was_marked_as_closed_is_not_added_any_more(
    store: ConnectionStore, connected_at: datetime | None
) -> None:
    assert marked(store) == Removed(None)

    with pytest.raises(AlreadyClosed):
        store.add(a_connection(connected_at=connected_at))

    assert store.get(C1) is None


def test_a_newer_connection_takes_the_place_of_a_mark(store: ConnectionStore) -> None:
    marked(store)

    assert store.add(a_connection(connected_at=LATER)) == a_connection(connected_at=LATER)
    assert store.get(C1) == a_connection(connected_at=LATER)


@pytest.mark.parametrize("there", [NOON, EARLIER, None])
def test_a_mark_tells_which_connection_it_took_the_place_of(
    store: ConnectionStore, there: datetime | None
) -> None:
    store.add(a_connection(connected_at=there))

    assert marked(store) == Removed(a_connection(connected_at=there))
    assert store.get(C1) is None


def test_a_mark_does_not_take_the_place_of_a_newer_connection(store: ConnectionStore) -> None:
    store.add(a_connection(connected_at=LATER))

    assert marked(store) == Removed(None)
    assert store.get(C1) == a_connection(connected_at=LATER)


def test_a_mark_does_not_take_the_place_of_a_newer_mark(store: ConnectionStore) -> None:
    marked(store, LATER)
    marked(store, NOON)

    with pytest.raises(AlreadyClosed):
        store.add(a_connection(connected_at=LATER))


@pytest.mark.parametrize("told", [EARLIER, NOON, LATER, None])
def test_a_mark_is_nothing_to_remove(store: ConnectionStore, told: datetime | None) -> None:
    marked(store)

    assert store.remove(C1, told) == Removed(None)
    with pytest.raises(AlreadyClosed):
        store.add(a_connection(connected_at=NOON))


def test_marking_twice_is_as_marking_once(store: ConnectionStore) -> None:
    marked(store)

    assert marked(store) == Removed(None)
    with pytest.raises(AlreadyClosed):
        store.add(a_connection(connected_at=NOON))
