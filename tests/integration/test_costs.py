"""What each path costs in DynamoDB's write units, as DynamoDB itself counts them.

A write whose condition is false costs its units all the same (DynamoDB's
developer guide, 'Condition expressions'); DynamoDB does not report them.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from app.adapters.dynamodb.deliveries import DynamoDBDeliveries
from app.adapters.dynamodb.history import DynamoDBHistory
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.dynamodb.table import RECIPIENT, RECIPIENT_PAGE, DynamoDBConnectionTable
from app.adapters.ip import PeerFirstIpResolver
from app.domain.delivery import Audience, MessageId, Progress
from app.domain.handshakes import CloseConnection, OpenAdmission, OpenConnection
from app.domain.history import Place, Scope
from app.domain.model import AccountId, ConnectionId, Tombstone
from app.domain.selection import Selection
from tests.builders import NOON, a_connection, a_disconnect, a_handshake, a_message
from tests.dynamodb_local import create_table
from tests.fakes import FixedClock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

QUERY = {"clientId": "wall-3", "account": "123456789012", "region": "eu-central-1"}
LATER = NOON + timedelta(seconds=1)


class Meter:
    """Adds up the units that a client consumes: in the table, and in all its indexes."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self._table = self._indexes = 0.0
        client.meta.events.register("provide-client-params.dynamodb.*", self._request_units)  # type: ignore[arg-type]  # it may return parameters
        client.meta.events.register("after-call.dynamodb.*", self._add)

    def read(self) -> tuple[float, float]:
        """Return the units since the last reading."""
        units = self._table, self._indexes
        self._table = self._indexes = 0.0
        return units

    def _request_units(self, params: dict[str, Any], **_: object) -> dict[str, Any]:
        return params | {"ReturnConsumedCapacity": "INDEXES"}

    def _add(self, parsed: dict[str, Any], **_: object) -> None:
        consumed = parsed.get("ConsumedCapacity", {})
        self._table += consumed.get("Table", {}).get("CapacityUnits", 0)
        indexes = consumed.get("GlobalSecondaryIndexes", {})
        self._indexes += sum(index["CapacityUnits"] for index in indexes.values())


class Paths:
    """The paths of one connection; each returns what it costs in the table and in the indexes."""

    def __init__(self, client: "DynamoDBClient", table_name: str, *, index_unscoped: bool = False) -> None:
        self._store = store = DynamoDBConnectionStore(
            SdkTransport(client), table_name, index_unscoped=index_unscoped
        )
        clock = FixedClock()
        self._open = OpenConnection(
            clock, PeerFirstIpResolver(), OpenAdmission(), store, lifetime=timedelta(hours=24)
        )
        self._close = CloseConnection(clock, store)
        self._meter = Meter(client)

    def open(self, query: dict[str, str] = QUERY, connected_at: Any = NOON) -> tuple[float, float]:
        self._open(a_handshake(query=query, connected_at=connected_at))
        return self._meter.read()

    def tombstone(self) -> tuple[float, float]:
        self._store.tombstone(Tombstone(ConnectionId("c-1"), NOON, closed_at=LATER, expires_at=LATER))
        return self._meter.read()

    def close(self, connected_at: Any = NOON) -> tuple[float, float]:
        self._close(a_disconnect(connected_at=connected_at))
        return self._meter.read()


class Sending:
    """A message to two recipients; what each part of its delivery costs in the tables and in the indexes."""

    def __init__(self, client: "DynamoDBClient", table_name: str) -> None:
        transport, clock = SdkTransport(client), FixedClock()
        store = DynamoDBConnectionStore(transport, table_name)
        for name in ("c-1", "c-2"):
            store.add(a_connection(id=ConnectionId(name)))
        self._recipients = DynamoDBConnectionTable(
            transport, table_name, page_size=RECIPIENT_PAGE, attributes=RECIPIENT
        )
        self._deliveries = DynamoDBDeliveries(transport, create_table(client, "DeliveriesTable"), clock=clock)
        self._meter = Meter(client)

    def read(self) -> tuple[float, float]:
        self._recipients.page(Selection(account=AccountId("123456789012")))
        return self._meter.read()

    def claim(self) -> tuple[float, float]:
        self._delivery = self._deliveries.claim(a_message(), "everyone", until=LATER)
        return self._meter.read()

    def record(self) -> tuple[float, float]:
        self._deliveries.record(self._delivery, Progress(selection=1))
        return self._meter.read()

    def release(self) -> tuple[float, float]:
        self._deliveries.release(self._delivery, Progress(selection=1), LATER)
        return self._meter.read()


def test_a_message_costs_a_write_at_its_beginning_at_its_end_and_after_each_page(
    own_dynamodb: "DynamoDBClient", table_name: str
) -> None:
    sending = Sending(own_dynamodb, table_name)

    assert sending.read() == (0, 0.5)
    assert sending.claim() == (1, 0)
    assert sending.record() == (1, 0)
    assert sending.release() == (1, 0)


class Keeping:
    """A message of so many bytes in the history; what each part costs in the history's table."""

    def __init__(self, client: "DynamoDBClient", size: int, *, unscoped: bool = False) -> None:
        table, clock = create_table(client, "HistoryTable"), FixedClock()
        self._message = a_message(frame=b"x" * size)
        self._audience = Audience(account=AccountId("123456789012"))
        self._history = DynamoDBHistory(
            SdkTransport(client), table, clock=clock, kept_for=timedelta(minutes=15), unscoped=unscoped
        )
        self._meter = Meter(client)

    def begin(self) -> float:
        self._history.begin(self._message, self._audience)
        return self._meter.read()[0]

    def finish(self) -> float:
        self._history.finish(self._message, self._audience, LATER)
        return self._meter.read()[0]

    def read_under_way(self) -> float:
        list(self._history.under_way(Scope("account 123456789012")))
        return self._meter.read()[0]

    def read_finished(self, after: Place) -> float:
        list(self._history.finished(Scope("account 123456789012"), after))
        return self._meter.read()[0]


@pytest.mark.parametrize(("size", "kilobytes"), [(700, 1), (1800, 2), (128 * 1024, 129)])
def test_keeping_a_message_costs_a_unit_per_kilobyte_at_its_beginning_and_two_at_its_end(
    own_dynamodb: "DynamoDBClient", size: int, kilobytes: int
) -> None:
    keeping = Keeping(own_dynamodb, size)

    assert keeping.begin() == kilobytes
    assert keeping.finish() == 2 * kilobytes


def test_keeping_a_message_costs_twice_as_much_if_connections_without_an_account_get_it(
    own_dynamodb: "DynamoDBClient",
) -> None:
    keeping = Keeping(own_dynamodb, size=700, unscoped=True)

    assert keeping.begin() == 2
    assert keeping.finish() == 4


@pytest.mark.parametrize(("size", "units"), [(700, 1), (5000, 2), (128 * 1024, 33)])
def test_looking_into_the_history_costs_a_unit_per_4_kilobytes_found(
    own_dynamodb: "DynamoDBClient", size: int, units: int
) -> None:
    keeping = Keeping(own_dynamodb, size)
    keeping.begin()

    assert keeping.read_under_way() == units
    keeping.finish()
    assert keeping.read_finished(Place(NOON)) == units


def test_what_is_before_a_look_costs_nothing(own_dynamodb: "DynamoDBClient") -> None:
    keeping = Keeping(own_dynamodb, size=128 * 1024)
    keeping.begin()
    keeping.finish()

    assert keeping.read_finished(Place(LATER, MessageId("m-2"))) == 0


@pytest.fixture
def paths(own_dynamodb: "DynamoDBClient", table_name: str) -> Paths:
    return Paths(own_dynamodb, table_name)


def test_an_ordinary_open_and_close_write_once_each_to_the_table_and_to_each_index(paths: Paths) -> None:
    assert paths.open() == (1, 2)
    assert paths.close() == (1, 2)


def test_a_client_that_does_not_name_itself_is_in_no_index(paths: Paths) -> None:
    assert paths.open(query={}) == (1, 0)
    assert paths.close() == (1, 0)


def test_a_connection_without_an_account_may_be_in_the_index_by_account(
    own_dynamodb: "DynamoDBClient", table_name: str
) -> None:
    paths = Paths(own_dynamodb, table_name, index_unscoped=True)

    assert paths.open(query={}) == (1, 1)
    assert paths.close() == (1, 1)


def test_a_close_that_finds_nothing_is_one_write(paths: Paths) -> None:
    assert paths.close(NOON - timedelta(hours=1)) == (1, 0)


def test_a_close_that_writes_a_tombstone_is_two_writes(paths: Paths) -> None:
    assert paths.close() == (2, 0)


def test_an_open_that_replaces_an_older_connection_also_deletes_it_from_the_indexes(paths: Paths) -> None:
    paths.open(query={"clientId": "other", "account": "111122223333"}, connected_at=NOON)

    assert paths.open(connected_at=LATER) == (1, 4)


def test_a_tombstone_that_replaces_a_connection_deletes_it_from_the_indexes(paths: Paths) -> None:
    paths.open()

    assert paths.tombstone() == (1, 2)
