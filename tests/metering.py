"""What each path costs in DynamoDB's calls and units, as DynamoDB itself counts them.

A write whose condition is false costs its units all the same (DynamoDB's
developer guide, 'Condition expressions'); DynamoDB does not report them.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from app.adapters.dynamodb.deliveries import DynamoDBDeliveries
from app.adapters.dynamodb.history import DynamoDBHistory
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.dynamodb.table import RECIPIENT, RECIPIENT_PAGE, DynamoDBConnectionTable
from app.adapters.ip import PeerFirstIpResolver
from app.domain.delivery import Audience, DeliveryReport, Progress
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
NOBODY = DeliveryReport()


class Meter:
    """Adds up the units that a client consumes, in the table and in all its indexes, and counts its calls."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self._table = self._indexes = 0.0
        self._calls = 0
        client.meta.events.register("provide-client-params.dynamodb.*", self._request_units)  # type: ignore[arg-type]  # it may return parameters
        client.meta.events.register("after-call.dynamodb.*", self._add)

    def read(self) -> tuple[float, float]:
        """Return the units since the last reading."""
        units = self._table, self._indexes
        self._table = self._indexes = 0.0
        return units

    def calls(self) -> int:
        """Return the number of calls since the last time."""
        calls, self._calls = self._calls, 0
        return calls

    def _request_units(self, params: dict[str, Any], **_: object) -> dict[str, Any]:
        return params | {"ReturnConsumedCapacity": "INDEXES"}

    def _add(self, parsed: dict[str, Any], **_: object) -> None:
        self._calls += 1
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
        self.calls = self._meter.calls

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
    """A message to some recipients; what each part of its delivery costs in the tables and in the indexes."""

    def __init__(
        self, client: "DynamoDBClient", table_name: str, recipients: Iterable[str] = ("c-1", "c-2")
    ) -> None:
        transport, clock = SdkTransport(client), FixedClock()
        store = DynamoDBConnectionStore(transport, table_name)
        for name in recipients:
            store.add(a_connection(id=ConnectionId(name)))
        self._table = DynamoDBConnectionTable(
            transport, table_name, page_size=RECIPIENT_PAGE, attributes=RECIPIENT
        )
        deliveries = create_table(client, "DeliveriesTable")
        self._deliveries = DynamoDBDeliveries(transport, deliveries, clock=clock)
        self._meter = Meter(client)
        self.calls = self._meter.calls

    def read(self) -> tuple[float, float]:
        self._table.page(Selection(account=AccountId("123456789012")))
        return self._meter.read()

    def scan(self) -> tuple[float, float]:
        list(self._table.scan(segment=0, of=1))
        return self._meter.read()

    def claim(self) -> tuple[float, float]:
        self._delivery = self._deliveries.claim(a_message(), "everyone", until=LATER)
        return self._meter.read()

    def record(self, report: DeliveryReport = NOBODY) -> tuple[float, float]:
        self._deliveries.record(self._delivery, Progress(report, selection=1))
        return self._meter.read()

    def release(self, report: DeliveryReport = NOBODY) -> tuple[float, float]:
        self._deliveries.release(self._delivery, Progress(report, selection=1), LATER)
        return self._meter.read()


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
        self.calls = self._meter.calls

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
