"""What a storage promises that several processes share, as the functions of a stream do."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

import pytest

from app.domain.errors import AlreadyClosed
from app.domain.model import Connection, ConnectionId, Removed, Tombstone
from tests.builders import NOON, a_connection
from tests.stores import SHARED, Storage, a_storage
from tests.writers import WRITERS, Writers, run_and_end

IDS = [ConnectionId(f"c-{number}") for number in range(25)]

pytestmark = pytest.mark.xdist_group("processes")  # they share the writers


@pytest.fixture(params=SHARED)
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    with a_storage(request.param, request) as storage:
        yield storage


@pytest.fixture
def environ(storage: Storage) -> Mapping[str, str]:
    """The settings by which another process opens the storage; without any, the test is skipped."""
    if storage.environ is None:
        pytest.skip("each process has a storage of its own")
    return storage.environ


def a_tombstone(connection: Connection) -> Tombstone:
    return Tombstone(
        connection.id,
        connection.connected_at,
        closed_at=NOON + timedelta(minutes=1),
        expires_at=NOON + timedelta(minutes=11),
    )


def older_and_newer() -> tuple[list[Connection], list[Connection]]:
    """Two connections for each id."""
    older = [a_connection(id=it, connected_at=NOON) for it in IDS]
    return older, [a_connection(id=it, connected_at=NOON + timedelta(milliseconds=1)) for it in IDS]


def test_a_confirmed_write_outlives_its_process(storage: Storage, environ: Mapping[str, str]) -> None:
    kept, removed, closed = (a_connection(id=ConnectionId(name)) for name in ("kept", "removed", "closed"))
    storage.add(removed)

    run_and_end(
        environ,
        [("add", kept), ("remove", removed.id, NOON), ("tombstone", a_tombstone(closed))],
        killed=True,
    )

    assert storage.get(kept.id) == kept
    assert storage.get(removed.id) is None
    with pytest.raises(AlreadyClosed):
        storage.add(closed)


def test_of_concurrent_adds_to_one_id_the_newest_connection_stays(
    storage: Storage, environ: Mapping[str, str], writers: Writers
) -> None:
    def connection(writer: int, number: int) -> Connection:
        rank = (writer + number) % WRITERS  # each writer has the newest connection of some ids
        return a_connection(id=IDS[number], connected_at=NOON + timedelta(milliseconds=rank))

    connections = [[connection(writer, number) for number in range(len(IDS))] for writer in range(WRITERS)]
    results = writers(environ, [[("add", it) for it in its] for its in connections])

    newest = [max(its, key=lambda it: it.connected_at or NOON) for its in zip(*connections, strict=True)]
    assert [storage.get(it.id) for it in newest] == newest
    for added, its in zip(results, connections, strict=True):
        assert all(result in (it, AlreadyClosed) for result, it in zip(added, its, strict=True))
        assert all(result == it for result, it in zip(added, its, strict=True) if it in newest)


def test_a_newer_connection_survives_concurrent_removals_and_tombstones_of_an_older_one(
    storage: Storage, environ: Mapping[str, str], writers: Writers
) -> None:
    older, newer = older_and_newer()
    for connection in older:
        storage.add(connection)

    results = writers(
        environ,
        [
            [("add", it) for it in newer],
            [("remove", it.id, it.connected_at) for it in older],
            [("remove", it.id, it.connected_at) for it in older],
            [("tombstone", a_tombstone(it)) for it in older],
        ],
    )

    assert [storage.get(connection_id) for connection_id in IDS] == newer
    assert results[0] == newer
    for connection, removed in zip(older, zip(*results[1:], strict=True), strict=True):
        assert removed.count(Removed(connection)) <= 1
        assert set(map(str, removed)) <= {str(Removed(connection)), str(Removed(None))}


def test_a_newer_connection_survives_concurrent_exact_deletes_of_an_older_one(
    storage: Storage, environ: Mapping[str, str], writers: Writers
) -> None:
    older, newer = older_and_newer()
    for connection in older:
        storage.add(connection)
    assert len(list(storage.scan(0, of=1))) == len(older)

    results = writers(
        environ,
        [[("add", it) for it in newer], *[[("delete_exact", it) for it in older]] * (WRITERS - 1)],
    )

    assert [storage.get(connection_id) for connection_id in IDS] == newer
    assert all(deleted.count(True) <= 1 for deleted in zip(*results[1:], strict=True))


def test_concurrent_adds_of_one_connection_return_what_is_stored(
    storage: Storage, environ: Mapping[str, str], writers: Writers
) -> None:
    def addition(writer: int, connection_id: ConnectionId) -> tuple[str, Connection]:
        created_at = NOON + timedelta(milliseconds=writer)
        return "add", a_connection(id=connection_id, created_at=created_at)

    results = writers(environ, [[addition(writer, it) for it in IDS] for writer in range(WRITERS)])

    stored = [storage.get(connection_id) for connection_id in IDS]
    assert None not in stored
    assert results == [stored] * WRITERS


def test_only_one_of_concurrent_removals_returns_the_connection(
    storage: Storage, environ: Mapping[str, str], writers: Writers
) -> None:
    connections = [storage.add(a_connection(id=connection_id)) for connection_id in IDS]

    results = writers(environ, [[("remove", it, NOON) for it in IDS]] * WRITERS)

    for connection, removed in zip(connections, zip(*results, strict=True), strict=True):
        assert removed.count(Removed(connection)) == 1
        assert removed.count(Removed(None)) == WRITERS - 1
    assert [storage.get(connection_id) for connection_id in IDS] == [None] * len(IDS)


def test_of_concurrent_adds_and_tombstones_the_tombstones_stay(
    storage: Storage, environ: Mapping[str, str], writers: Writers
) -> None:
    connections = [a_connection(id=connection_id) for connection_id in IDS]
    adding = [("add", it) for it in connections]
    closing = [("tombstone", a_tombstone(it)) for it in connections]

    results = writers(environ, [adding, closing, adding, closing])

    for connection, answers in zip(connections, zip(*results, strict=True), strict=True):
        added = [answer for answer in answers if not isinstance(answer, Removed)]
        assert all(answer in (connection, AlreadyClosed) for answer in added)
        assert answers.count(Removed(connection)) == (connection in added)
        with pytest.raises(AlreadyClosed):
            storage.add(connection)
