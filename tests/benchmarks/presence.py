"""``make bench ARGS=presence``: what presence costs in read and write units, and the busiest partition.

Each request to the presence table returns what it has consumed, on DynamoDB Local.
All else is in memory, and the changes come one after the other.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import fmean, median
from typing import Any, NamedTuple

from app.adapters.dynamodb.presence import DynamoDBPresenceStore
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.dynamodb.transport import Answer, ConditionFailed, Transport
from app.adapters.memory import MemoryConnectionTable
from app.domain.model import ClientId, Connection, ConnectionId
from app.domain.operations import EvictConnection
from app.domain.sessions import Sessions
from app.domain.tracking import Change, TrackPresence
from tests.builders import NEVER, NOON, a_connection
from tests.dynamodb_local import a_client, create_table, running_dynamodb_local
from tests.environment import clear_user_settings
from tests.fakes import FakeGateway, FixedClock, InlineWorkers, RecordingPublisher
from tests.sending.checks import Verdict, only

_CONNECTIONS = 10_000
_SIZES = 1, 100, 1_000, _CONNECTIONS
_SESSIONS = 20
_TIMES = 5  # that a connection comes and goes at each size
_STEP = 1_000  # connections, until the user is told how far it is

# Of one partition, per second (DynamoDB's developer guide, 'Designing partition keys').
_MOST_READ, _MOST_WRITTEN = 3_000, 1_000


class Units(NamedTuple):
    """Read and write units."""

    read: float
    written: float

    def __str__(self) -> str:
        return f"{self.read:,.10g} read, {self.written:,.10g} write"


@dataclass(frozen=True, slots=True)
class Consumption:
    """The units that requests have consumed, and the requests, by partition key."""

    read: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    def total(self) -> Units:
        return Units(self.read.total(), self.written.total())

    def busiest(self) -> Units:
        """Return the units of the key that is read most, and of the one that is written most."""
        return Units(max(self.read.values()), max(self.written.values()))


class Meter:
    """Transport that adds what each request consumes to ``consumption``."""

    def __init__(self, transport: Transport) -> None:
        self.consumption = Consumption()
        self._transport = transport

    def call(self, operation: str, request: Mapping[str, Any]) -> Answer:
        consumption = self.consumption
        units = consumption.read if operation in {"GetItem", "Query"} else consumption.written
        key = _partition_key(request)
        consumption.calls[key] += 1
        try:
            answer = self._transport.call(operation, {**request, "ReturnConsumedCapacity": "TOTAL"})
        except ConditionFailed:
            units[key] += 1  # not returned, and for an item up to 1 KB
            raise
        units[key] += answer.body["ConsumedCapacity"]["CapacityUnits"]
        return answer


class Tracked:
    """The clients of a new presence table, whose connections come and go."""

    def __init__(self, transport: Transport, table: str) -> None:
        self._meter = Meter(transport)
        connections, clock = MemoryConnectionTable(), FixedClock(NOON + timedelta(minutes=1))
        self._track = TrackPresence(
            connections,
            Sessions(DynamoDBPresenceStore(self._meter, table, clock=clock), clock),
            RecordingPublisher(),
            EvictConnection(connections, FakeGateway(), clock, timedelta(seconds=30)),
            clock,
            InlineWorkers(),
        )

    def connect(self, connection: Connection, consumption: Consumption) -> None:
        self._process(Change(None, connection), consumption)

    def disconnect(self, connection: Connection, consumption: Consumption) -> None:
        self._process(Change(connection, None), consumption)

    def _process(self, change: Change, consumption: Consumption) -> None:
        self._meter.consumption = consumption
        self._track(change, until=NEVER)


def measure_presence(say: Callable[[str], None]) -> list[Verdict]:
    """Measure all figures; *say* is told how far it is."""
    clear_user_settings(os.environ)
    with running_dynamodb_local() as endpoint, closing(a_client(endpoint)) as client:
        tracked = Tracked(SdkTransport(client), create_table(client, "PresenceTable"))
        return [*_sessions(tracked), *_one_client(tracked, say)]


def _sessions(tracked: Tracked) -> list[Verdict]:
    """Let a client come and go, again and again, with one connection at a time.

    The first time is left out: DynamoDB Local takes nothing for a query that finds nothing.
    """
    units = []
    for number in range(_SESSIONS):
        consumption, connection = Consumption(), _a_connection(number, "dashboard-1")
        tracked.connect(connection, consumption)
        tracked.disconnect(connection, consumption)
        units.append(consumption.total())
    return [
        only("a session of one connection", str(units[1])),
        only(f"  on average, of {_SESSIONS - 1} within a day", str(_average(units[1:]))),
    ]


def _average(units: Sequence[Units]) -> Units:
    return Units(fmean(it.read for it in units), round(fmean(it.written for it in units), 2))


def _one_client(tracked: Tracked, say: Callable[[str], None]) -> list[Verdict]:
    """Let all connections of one client come, and then all of them go, in the same order."""
    consumption, changes = Consumption(), []
    for number in range(1, _CONNECTIONS + 1):
        tracked.connect(_a_connection(number), consumption)
        if number in _SIZES:
            changes += _changes(tracked, number)
        if number % _STEP == 0:
            say(f"{number:,} of {_CONNECTIONS:,} connections have come")
    for number in range(1, _CONNECTIONS + 1):
        tracked.disconnect(_a_connection(number), consumption)
        if number % _STEP == 0:
            say(f"{number:,} of {_CONNECTIONS:,} connections have gone")
    total, busiest = consumption.total(), consumption.busiest()
    seconds = busiest.read / _MOST_READ, busiest.written / _MOST_WRITTEN
    return [
        *changes,
        only(f"{_CONNECTIONS:,} connections of one client come and go", str(total)),
        only("  of the busiest partition key", str(busiest)),
        only("  one partition takes for that", "{:.1f} s to read, {:.1f} s to write".format(*seconds)),
    ]


def _changes(tracked: Tracked, connections: int) -> list[Verdict]:
    """Return the medians of a connect and a disconnect of a client with so many *connections*."""
    connects: list[Units] = []
    disconnects: list[Units] = []
    for number in range(_TIMES):
        connection = _a_connection(_CONNECTIONS + connections + number)
        for change, all_units in ((tracked.connect, connects), (tracked.disconnect, disconnects)):
            consumption = Consumption()
            change(connection, consumption)
            all_units.append(consumption.total())
    return [
        only(f"{change} of a client that has {connections:,} open, median of {_TIMES}", str(_median(units)))
        for change, units in (("a connect", connects), ("a disconnect", disconnects))
    ]


def _median(units: list[Units]) -> Units:
    return Units(*map(median, zip(*units, strict=True)))


def _a_connection(number: int, client: str = "dashboard-7") -> Connection:
    """Return a connection whose id is as long as the gateway's."""
    began = NOON + timedelta(milliseconds=number)
    return a_connection(
        id=ConnectionId(f"JKJcX{number:010}="),
        client_id=ClientId(client),
        connected_at=began,
        created_at=began,
    )


def _partition_key(request: Mapping[str, Any]) -> str:
    """Return the ``id`` of the items that *request* reads or writes."""
    if "KeyConditionExpression" in request:
        words = request["KeyConditionExpression"].split()
        key = request["ExpressionAttributeValues"][words[words.index("id") + 2]]
    else:
        key = (request.get("Key") or request["Item"])["id"]
    text: str = key["S"]
    return text
