"""What every ConnectionStore promises, in the same sentences for each."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.errors import AlreadyClosed
from app.domain.model import Connection, ConnectionId, Removed, Tombstone
from tests.builders import NOON, a_bare_connection, a_connection
from tests.stores import STORES, Storage, a_storage
from tests.thoroughness import examples

# what a handshake lets through: no control characters and no lone surrogates
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
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


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Storage]:
    with a_storage(request.param, request) as storage:
        yield storage


@pytest.mark.parametrize("connection", [a_connection(), a_bare_connection()], ids=["whole", "bare"])
def test_a_connection_comes_back_as_it_was_added(store: Storage, connection: Connection) -> None:
    store.add(connection)

    assert store.get(connection.id) == connection


@given(connection=connections)
@settings(
    max_examples=examples(60),
    # all examples share one store on purpose: each connection has its own id
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_connection_comes_back_as_it_was_added(store: Storage, connection: Connection) -> None:
    assert store.add(connection) == connection
    assert store.get(connection.id) == connection
    assert store.remove(connection.id, None) == Removed(connection)


def test_adding_a_connection_twice_keeps_the_first(store: Storage) -> None:
    store.add(a_connection(source_ip="203.0.113.7"))

    assert store.add(a_connection(source_ip="198.51.100.9")) == a_connection(source_ip="203.0.113.7")
    assert store.get(ConnectionId("c-1")) == a_connection(source_ip="203.0.113.7")


def test_a_connection_that_was_never_added_is_not_found(store: Storage) -> None:
    assert store.get(ConnectionId("c-1")) is None


def test_removing_returns_the_connection(store: Storage) -> None:
    store.add(a_connection())

    assert store.remove(ConnectionId("c-1"), None) == Removed(a_connection())


def test_a_removed_connection_is_not_found(store: Storage) -> None:
    store.add(a_connection())

    store.remove(ConnectionId("c-1"), None)

    assert store.get(ConnectionId("c-1")) is None


def test_removing_an_unknown_id_is_no_error(store: Storage) -> None:
    assert store.remove(ConnectionId("c-1"), None) == Removed(None)


def test_removing_twice_returns_the_connection_only_once(store: Storage) -> None:
    store.add(a_connection())

    assert store.remove(ConnectionId("c-1"), None) == Removed(a_connection())
    assert store.remove(ConnectionId("c-1"), None) == Removed(None)


def test_removing_one_connection_leaves_the_others(store: Storage) -> None:
    store.add(a_connection(id=ConnectionId("c-1")))
    store.add(a_connection(id=ConnectionId("c-2")))

    store.remove(ConnectionId("c-1"), None)

    assert store.get(ConnectionId("c-2")) == a_connection(id=ConnectionId("c-2"))


def test_a_removed_id_can_be_added_again(store: Storage) -> None:
    store.add(a_connection(source_ip="203.0.113.7"))
    store.remove(ConnectionId("c-1"), None)

    store.add(a_connection(source_ip="198.51.100.9"))

    assert store.get(ConnectionId("c-1")) == a_connection(source_ip="198.51.100.9")


# ---- One id, several connections, told apart by connectedAt

C1 = ConnectionId("c-1")
EARLIER, LATER = NOON - timedelta(milliseconds=1), NOON + timedelta(milliseconds=1)


def a_tombstone(connected_at: datetime = NOON) -> Tombstone:
    return Tombstone(
        C1,
        connected_at=connected_at,
        closed_at=NOON + timedelta(seconds=1),
        expires_at=NOON + timedelta(minutes=10),
    )


def test_a_newer_connection_replaces_an_older_one(store: Storage) -> None:
    store.add(a_connection(connected_at=NOON, source_ip="203.0.113.7"))
    newer = a_connection(connected_at=LATER, source_ip="198.51.100.9")

    assert store.add(newer) == newer
    assert store.get(C1) == newer


def test_an_older_connection_does_not_replace_a_newer_one(store: Storage) -> None:
    store.add(a_connection(connected_at=NOON))

    with pytest.raises(AlreadyClosed):
        store.add(a_connection(connected_at=EARLIER))

    assert store.get(C1) == a_connection(connected_at=NOON)


@pytest.mark.parametrize(("existing_at", "added_at"), [(None, NOON), (NOON, None), (None, None)])
def test_two_connections_of_which_one_has_no_time_count_as_the_same(
    store: Storage, existing_at: datetime | None, added_at: datetime | None
) -> None:
    store.add(a_connection(connected_at=existing_at, source_ip="203.0.113.7"))

    stored = store.add(a_connection(connected_at=added_at, source_ip="198.51.100.9"))

    assert stored == a_connection(connected_at=existing_at, source_ip="203.0.113.7")
    assert store.get(C1) == stored


@pytest.mark.parametrize("removed_at", [NOON, LATER, None])
@pytest.mark.parametrize("existing_at", [NOON, None])
def test_a_removal_with_the_time_of_the_connection_or_a_later_one_or_no_time_removes_it(
    store: Storage, existing_at: datetime | None, removed_at: datetime | None
) -> None:
    store.add(a_connection(connected_at=existing_at))

    assert store.remove(C1, removed_at) == Removed(a_connection(connected_at=existing_at))
    assert store.get(C1) is None


def test_a_late_removal_leaves_a_newer_connection_with_the_id(store: Storage) -> None:
    store.add(a_connection(connected_at=NOON))

    assert store.remove(C1, EARLIER) == Removed(None)
    assert store.get(C1) == a_connection(connected_at=NOON)


@pytest.mark.parametrize("connected_at", [NOON, EARLIER, None])
def test_a_connection_with_a_tombstone_is_not_added(store: Storage, connected_at: datetime | None) -> None:
    assert store.tombstone(a_tombstone()) == Removed(None)

    with pytest.raises(AlreadyClosed):
        store.add(a_connection(connected_at=connected_at))

    assert store.get(C1) is None


def test_a_tombstone_is_not_found(store: Storage) -> None:
    store.tombstone(a_tombstone())

    assert store.get(C1) is None


def test_a_newer_connection_replaces_a_tombstone(store: Storage) -> None:
    store.tombstone(a_tombstone())

    assert store.add(a_connection(connected_at=LATER)) == a_connection(connected_at=LATER)
    assert store.get(C1) == a_connection(connected_at=LATER)


@pytest.mark.parametrize("existing_at", [NOON, EARLIER, None])
def test_a_tombstone_replaces_a_connection_and_returns_it(
    store: Storage, existing_at: datetime | None
) -> None:
    store.add(a_connection(connected_at=existing_at))

    assert store.tombstone(a_tombstone()) == Removed(a_connection(connected_at=existing_at))
    assert store.get(C1) is None


def test_a_tombstone_does_not_replace_a_newer_connection(store: Storage) -> None:
    store.add(a_connection(connected_at=LATER))

    assert store.tombstone(a_tombstone()) == Removed(None)
    assert store.get(C1) == a_connection(connected_at=LATER)


def test_a_tombstone_does_not_replace_a_newer_tombstone(store: Storage) -> None:
    store.tombstone(a_tombstone(LATER))
    store.tombstone(a_tombstone(NOON))

    with pytest.raises(AlreadyClosed):
        store.add(a_connection(connected_at=LATER))


@pytest.mark.parametrize("removed_at", [EARLIER, NOON, LATER, None])
def test_removing_leaves_a_tombstone(store: Storage, removed_at: datetime | None) -> None:
    store.tombstone(a_tombstone())

    assert store.remove(C1, removed_at) == Removed(None)
    with pytest.raises(AlreadyClosed):
        store.add(a_connection(connected_at=NOON))


def test_a_tombstone_of_an_unknown_time_is_refused(store: Storage) -> None:
    store.add(a_connection())

    with pytest.raises(ValueError):  # noqa: PT011 - its sentence is the adapter's own
        store.tombstone(a_tombstone()._replace(connected_at=None))
    assert store.get(ConnectionId("c-1")) == a_connection()


def test_writing_a_tombstone_twice_is_the_same_as_once(store: Storage) -> None:
    store.tombstone(a_tombstone())

    assert store.tombstone(a_tombstone()) == Removed(None)
    with pytest.raises(AlreadyClosed):
        store.add(a_connection(connected_at=NOON))
