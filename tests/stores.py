"""The storage adapters under test, each on a new table.

They have the names that STORE gives them. DynamoDB is DynamoDB Local, or moto.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from traceback import format_exc
from typing import TYPE_CHECKING, Any, NoReturn, get_protocol_members

import pytest
from moto import mock_aws
from moto.server import ThreadedMotoServer

from app.adapters.dynamodb.direct import direct_transport
from app.adapters.dynamodb.direct.transport import DirectTransport
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.dynamodb.table import DynamoDBConnectionTable
from app.adapters.memory import MemoryConnectionTable
from app.containers.imports import storage
from app.domain.model import Connection, ConnectionId, Entry, Removed, Tombstone
from app.domain.ports import ConnectionStore, ConnectionTable
from app.domain.selection import Page, Selection
from app.settings import InvalidSetting, Settings
from tests.dynamodb_local import REGION, a_client, create_table
from tests.environment import UNHURRIED, USERS
from tests.promises import CHOSEN

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from app.adapters.dynamodb.transport import Transport

_CHOSEN = os.environ.get(CHOSEN)

TABLES: tuple[str, ...] = (_CHOSEN,) if _CHOSEN else ("memory", "dynamodb-boto3-moto", "dynamodb-boto3")
"""The thread-safe adapters. moto is a second implementation of conditional writes."""

STORES: tuple[str, ...] = TABLES if _CHOSEN else (*TABLES, "dynamodb-moto", "dynamodb")
"""These, and those whose ConnectionStore is not thread-safe."""

SHARED: tuple[str, ...] = (_CHOSEN,) if _CHOSEN else ("dynamodb", "dynamodb-boto3")
"""The adapters of a storage that several processes share; one from outside is, if it has a reset()."""

_MOST = 1000  # entries; no test has so many


@dataclass
class Storage:
    """ConnectionStore and ConnectionTable on the same table."""

    store: ConnectionStore
    table: ConnectionTable
    page_size: int | None = None
    """The most connections of a page; ``None`` if the adapter does not let the tests choose it."""
    environ: Mapping[str, str] | None = field(default=None, repr=False)
    """The settings by which another process opens the storage; ``None`` if each has one of its own."""

    def add(self, connection: Connection) -> Connection:
        return self.store.add(connection)

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return self.store.remove(connection_id, connected_at)

    def tombstone(self, tombstone: Tombstone) -> Removed:
        return self.store.tombstone(tombstone)

    def get(self, connection_id: ConnectionId) -> Connection | None:
        return self.table.get(connection_id)

    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        for count, entry in enumerate(self.table.scan(segment, of)):
            assert count < _MOST, f"the scan does not end: {_MOST} entries, and no test has so many"
            yield entry

    def page(self, selection: Selection, after: str | None = None) -> Page:
        return self.table.page(selection, after)

    def delete_exact(self, entry: Entry) -> bool:
        return self.table.delete_exact(entry)


@contextmanager
def a_storage(name: str, request: pytest.FixtureRequest, page_size: int = 100) -> Iterator[Storage]:
    """Yield the adapter of that *name*, on an empty table."""
    match name:
        case "memory":
            memory = MemoryConnectionTable(page_size=page_size)
            yield Storage(memory, memory, page_size)
        case "dynamodb-boto3-moto":
            with mock_aws():
                client = moto_client()
                yield on_dynamodb(SdkTransport(client), create_table(client), page_size)
        case "dynamodb-boto3":
            transport = SdkTransport(request.getfixturevalue("dynamodb"))
            storage = on_dynamodb(transport, request.getfixturevalue("table_name"), page_size)
            yield replace(storage, environ=_environ(name, request))
        case "dynamodb-moto":
            client = request.getfixturevalue("moto")
            with closing(a_direct_transport(client.meta.endpoint_url)) as direct:
                yield on_dynamodb(direct, create_table(client), page_size)
        case "dynamodb":
            table_name = request.getfixturevalue("table_name")
            repairs = on_dynamodb(SdkTransport(request.getfixturevalue("dynamodb")), table_name, page_size)
            with closing(a_direct_transport(request.getfixturevalue("dynamodb_local"))) as direct:
                store = DynamoDBConnectionStore(direct, table_name)
                yield replace(repairs, store=store, environ=_environ(name, request))
        case path:
            with from_outside(path, page_size) as storage:
                yield storage


def on_dynamodb(transport: "Transport", table_name: str, page_size: int = 100) -> Storage:
    """Return both adapters over one *transport*."""
    return Storage(
        DynamoDBConnectionStore(transport, table_name),
        DynamoDBConnectionTable(transport, table_name, page_size=page_size),
        page_size,
    )


def _environ(store: str, request: pytest.FixtureRequest) -> dict[str, str]:
    return {
        "STORE": store,
        "CONNECTIONS_TABLE": request.getfixturevalue("table_name"),
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL_DYNAMODB": request.getfixturevalue("dynamodb_local"),
        **UNHURRIED,
    }


@contextmanager
def from_outside(path: str, page_size: int) -> Iterator[Storage]:
    """Yield the adapter that *path* names, empty: after its ``reset``, or else from its factory."""
    adapter = _resettable(path) or _made(path)
    reset: Callable[[], object] | None = getattr(adapter, "reset", None)
    if reset:
        reset()
    if _has_entries(adapter):
        reason = "reset() left it so" if reset else "what the factory returns has no reset()"
        pytest.exit(f"STORE={path}: a test needs an empty storage, it is not empty, and {reason}.", 2)
    environ = {**USERS, "STORE": path} if reset else None
    if not hasattr(adapter, "scan"):
        yield Storage(adapter, _HandshakesOnly(adapter), environ=environ)
    elif _takes_page_size(adapter, page_size):
        yield Storage(adapter, adapter, page_size, environ)
    else:
        yield Storage(adapter, adapter, environ=environ)
    if reset:
        reset()


def _has_entries(adapter: Any) -> bool:
    return hasattr(adapter, "scan") and next(iter(adapter.scan(0, 1)), None) is not None


def _takes_page_size(adapter: Any, page_size: int) -> bool:
    if not hasattr(adapter, "page_size"):
        return False
    try:
        adapter.page_size = page_size
    except AttributeError:  # it can be read only
        return False
    return True


class _HandshakesOnly:
    """ConnectionTable for an adapter without one: ``get`` by writes; a test that needs more is skipped."""

    def __init__(self, store: ConnectionStore) -> None:
        self._store = store

    def get(self, connection_id: ConnectionId) -> Connection | None:
        found = self._store.remove(connection_id, None).connection
        return found and self._store.add(found)

    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        _no_table()

    def page(self, selection: Selection, after: str | None = None) -> Page:
        _no_table()

    def delete_exact(self, entry: Entry) -> bool:
        _no_table()


def _no_table() -> NoReturn:
    pytest.skip("the adapter has no method of ConnectionTable")


@cache
def _resettable(path: str) -> Any:
    """Return one adapter for all tests if it can be reset; ``None`` if each test needs its own."""
    adapter = _made(path)
    if not hasattr(adapter, "reset"):
        return None
    is_in_use = False
    with suppress(Exception):  # before the first reset there may be nothing to read
        is_in_use = _has_entries(adapter)
    if is_in_use:
        pytest.exit(f"STORE={path}: the storage is not empty, and the tests would delete what it has.", 2)
    return adapter


def _made(path: str) -> Any:
    try:
        Settings.from_environ({"STORE": path})
        adapter = storage(path, USERS, ConnectionStore, "$connect and $disconnect")
    except InvalidSetting as error:
        pytest.exit(str(error), 2)
    except Exception:  # noqa: BLE001 - whatever it is, each test would fail by it
        pytest.exit(f"STORE={path} can't be loaded:\n{format_exc()}", 2)
    others = get_protocol_members(ConnectionTable)
    missing = sorted(name for name in others if not hasattr(adapter, name))
    if 0 < len(missing) < len(others):
        kind, names = type(adapter).__name__, ", ".join(missing)
        pytest.exit(f"STORE={path}: {kind} has a part of ConnectionTable and lacks {names}.", 2)
    return adapter


@cache
def moto_client() -> "DynamoDBClient":
    """Return a client for any ``mock_aws`` block; it is cached since creating one is slow."""
    return a_client(None)


def a_direct_transport(endpoint: str) -> DirectTransport:
    return direct_transport(
        region=REGION,
        endpoint=endpoint,
        connect_timeout=timedelta(seconds=2),
        read_timeout=timedelta(seconds=10),
        attempts=3,
    )


@pytest.fixture(scope="session")
def moto() -> "Iterator[DynamoDBClient]":
    """A client of moto's HTTP server, for adapters that do not use botocore."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with closing(a_client(f"http://{host}:{port}")) as client:
            yield client
    finally:
        server.stop()
