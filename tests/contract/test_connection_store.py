"""What every ConnectionStore promises, in the same sentences for each."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws
from moto.server import ThreadedMotoServer

from app.adapters.dynamodb import DynamoDBConnectionStore
from app.adapters.dynamodb_direct import direct_store
from app.adapters.memory import MemoryConnectionStore
from app.domain.model import Connection, ConnectionId, Removed
from app.domain.ports import ConnectionStore
from tests.builders import NOON, a_bare_connection, a_connection
from tests.dynamodb_local import REGION, a_client, create_table

ADAPTERS = ("memory", "boto3-moto", "boto3-dynamodb-local", "direct-moto-server", "direct-dynamodb-local")

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
connections = st.builds(
    a_connection,
    id=st.builds(lambda: ConnectionId(uuid4().hex)),
    client_id=texts,
    account=st.just("") | st.from_regex("[0-9]{12}", fullmatch=True),
    source_ip=st.just("") | st.ip_addresses().map(str),
    created_at=st.integers(0, 4_102_444_800_000).map(lambda ms: NOON + timedelta(milliseconds=ms)),
    expires_at=st.integers(0, 4_102_444_800).map(lambda s: datetime.fromtimestamp(s, UTC)),
    user_agent=st.none() | texts,
    connected_at=st.none() | st.just(NOON),
    principal_id=st.none() | texts,
    attributes=st.dictionaries(texts, texts, max_size=8),
)


@contextmanager
def moto_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def a_direct_store(endpoint: str, table: str) -> ConnectionStore:
    return direct_store(
        table=table,
        region=REGION,
        endpoint=endpoint,
        connect_timeout=timedelta(seconds=2),
        read_timeout=timedelta(seconds=10),
        attempts=3,
    )


@pytest.fixture(params=ADAPTERS)
def store(request: pytest.FixtureRequest) -> Iterator[ConnectionStore]:
    match request.param:
        case "memory":
            yield MemoryConnectionStore()
        case "boto3-moto":
            request.getfixturevalue("credentials")
            with mock_aws():
                client = a_client(None)
                yield DynamoDBConnectionStore(client, create_table(client))
        case "boto3-dynamodb-local":
            client = request.getfixturevalue("dynamodb")
            yield DynamoDBConnectionStore(client, request.getfixturevalue("table"))
        case "direct-moto-server":  # moto's own patches don't reach an adapter without botocore
            request.getfixturevalue("credentials")
            with moto_server() as endpoint, closing(a_client(endpoint)) as client:
                yield a_direct_store(endpoint, create_table(client))
        case _:
            endpoint = request.getfixturevalue("dynamodb_local")
            yield a_direct_store(endpoint, request.getfixturevalue("table"))


@pytest.mark.parametrize("connection", [a_connection(), a_bare_connection()], ids=["whole", "bare"])
def test_a_connection_comes_back_as_it_was_added(store: ConnectionStore, connection: Connection) -> None:
    store.add(connection)

    assert store.get(connection.id) == connection


@given(connection=connections)
@settings(
    max_examples=60,
    deadline=None,
    # one store for all examples is meant: each connection has an id of its own
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_connection_comes_back_as_it_was_added(store: ConnectionStore, connection: Connection) -> None:
    assert store.add(connection) == connection
    assert store.get(connection.id) == connection
    assert store.remove(connection.id) == Removed(connection)


def test_adding_the_same_connection_twice_keeps_the_first(store: ConnectionStore) -> None:
    store.add(a_connection(source_ip="203.0.113.7"))

    assert store.add(a_connection(source_ip="198.51.100.9")) == a_connection(source_ip="203.0.113.7")
    assert store.get(ConnectionId("c-1")) == a_connection(source_ip="203.0.113.7")


def test_what_was_never_added_is_not_there(store: ConnectionStore) -> None:
    assert store.get(ConnectionId("c-1")) is None


def test_removing_tells_what_was_there(store: ConnectionStore) -> None:
    store.add(a_connection())

    assert store.remove(ConnectionId("c-1")) == Removed(a_connection())


def test_what_was_removed_is_there_no_more(store: ConnectionStore) -> None:
    store.add(a_connection())

    store.remove(ConnectionId("c-1"))

    assert store.get(ConnectionId("c-1")) is None


def test_removing_what_is_unknown_is_no_error(store: ConnectionStore) -> None:
    assert store.remove(ConnectionId("c-1")) == Removed(None)


def test_removing_twice_tells_what_was_there_only_once(store: ConnectionStore) -> None:
    store.add(a_connection())

    assert store.remove(ConnectionId("c-1")) is not None
    assert store.remove(ConnectionId("c-1")) == Removed(None)


def test_removing_one_connection_leaves_the_others(store: ConnectionStore) -> None:
    store.add(a_connection(id=ConnectionId("c-1")))
    store.add(a_connection(id=ConnectionId("c-2")))

    store.remove(ConnectionId("c-1"))

    assert store.get(ConnectionId("c-2")) == a_connection(id=ConnectionId("c-2"))


def test_an_id_that_was_removed_can_be_added_again(store: ConnectionStore) -> None:
    store.add(a_connection(source_ip="203.0.113.7"))
    store.remove(ConnectionId("c-1"))

    store.add(a_connection(source_ip="198.51.100.9"))

    assert store.get(ConnectionId("c-1")) == a_connection(source_ip="198.51.100.9")
