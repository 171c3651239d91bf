"""What each path costs in DynamoDB's write units, as DynamoDB itself counts them.

Of a write that its condition forbids DynamoDB tells no units; it charges them
all the same (its developer guide, 'Condition expressions').
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from app.adapters.dynamodb import DynamoDBConnectionStore
from app.adapters.ip import PeerFirstIpResolver
from app.domain.model import ConnectionId
from app.domain.use_cases import CloseConnection, OpenConnection
from tests.builders import NOON, FixedClock, a_disconnect, a_handshake

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

QUERY = {"clientId": "wall-3", "account": "123456789012", "region": "eu-central-1"}
LATER = NOON + timedelta(seconds=1)


class Meter:
    """Adds up what a client's writes consume: in the table, and in its indexes together."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self._table = self._indexes = 0.0
        client.meta.events.register("provide-client-params.dynamodb.*", self._ask)  # type: ignore[arg-type]  # it may return parameters
        client.meta.events.register("after-call.dynamodb.*", self._add)

    def read(self) -> tuple[float, float]:
        """The units since the last reading."""
        units = self._table, self._indexes
        self._table = self._indexes = 0.0
        return units

    def _ask(self, params: dict[str, Any], **_: object) -> dict[str, Any]:
        return params | {"ReturnConsumedCapacity": "INDEXES"}

    def _add(self, parsed: dict[str, Any], **_: object) -> None:
        consumed = parsed.get("ConsumedCapacity", {})
        self._table += consumed.get("Table", {}).get("CapacityUnits", 0)
        indexes = consumed.get("GlobalSecondaryIndexes", {})
        self._indexes += sum(index["CapacityUnits"] for index in indexes.values())


class Paths:
    """Opens and closes one connection, and tells what each costs."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._store = store = DynamoDBConnectionStore(client, table)
        clock = FixedClock()
        self._open = OpenConnection(clock, PeerFirstIpResolver(), store, timedelta(hours=24))
        self._close = CloseConnection(clock, store)
        self._meter = Meter(client)

    def open(self, query: dict[str, str] = QUERY, connected_at: Any = NOON) -> tuple[float, float]:
        self._open(a_handshake(query=query, connected_at=connected_at))
        return self._meter.read()

    def mark(self) -> tuple[float, float]:
        self._store.mark_closed(ConnectionId("c-1"), connected_at=NOON, closed_at=LATER, until=LATER)
        return self._meter.read()

    def close(self, connected_at: Any = NOON) -> tuple[float, float]:
        self._close(a_disconnect(connected_at=connected_at))
        return self._meter.read()


@pytest.fixture
def paths(own_dynamodb: "DynamoDBClient", table: str) -> Paths:
    return Paths(own_dynamodb, table)


def test_the_ordinary_path_is_one_write_each_and_one_in_each_index(paths: Paths) -> None:
    assert paths.open() == (1, 2)
    assert paths.close() == (1, 2)


def test_a_client_that_says_nothing_of_itself_is_in_no_index(paths: Paths) -> None:
    assert paths.open(query={}) == (1, 0)
    assert paths.close() == (1, 0)


def test_a_close_that_finds_nothing_is_one_write(paths: Paths) -> None:
    assert paths.close(NOON - timedelta(hours=1)) == (1, 0)


def test_a_close_that_leaves_a_mark_is_two(paths: Paths) -> None:
    assert paths.close() == (2, 0)


def test_an_open_in_the_place_of_an_older_row_takes_that_out_of_the_indexes_too(paths: Paths) -> None:
    paths.open(query={"clientId": "other", "account": "111122223333"}, connected_at=NOON)

    assert paths.open(connected_at=LATER) == (1, 4)


def test_a_mark_that_takes_a_row_out_takes_it_out_of_the_indexes(paths: Paths) -> None:
    paths.open()

    assert paths.mark() == (1, 2)
