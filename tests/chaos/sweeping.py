"""The real sweep, through the proxy and with the fake gateway's management API."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.sdk import SdkTransport, dynamodb_client
from app.adapters.dynamodb.table import DynamoDBConnectionTable
from app.adapters.dynamodb.transport import Transport
from app.adapters.gateway import ManagementApiGateway
from app.adapters.threads import ThreadWorkers
from app.domain.model import Connection, Entry
from app.domain.sweep import Report, SweepConnections
from tests.chaos.flaws import gateway_with_flaw
from tests.chaos.truth import MAX_HANDSHAKE
from tests.dynamodb_local import REGION
from tests.fakes import RecordingPublisher

SEGMENTS = 4
GRACE = timedelta(seconds=MAX_HANDSHAKE + 1)

_WORKERS = 8
_LONGEST = timedelta(minutes=1)
_NO_LIMIT = 10**9  # probes per second


class Sweeper:
    """Sweeps a segment, with the real time or a later one; ``removed`` has its deletes."""

    def __init__(self, table: "_RecordingTable", gateway: ManagementApiGateway, flaw: str) -> None:
        self._table = table
        self._gateway = gateway_with_flaw(gateway, flaw)

    @property
    def removed(self) -> list[tuple[str, int]]:
        """The connections by id and ``connectedAt``, those whose delete was not confirmed included."""
        return self._table.deleted

    def sweep(self, segment: int, *, later: timedelta = timedelta()) -> Report:
        """Sweep it as if it were so much *later*."""
        clock = _LaterClock(later)
        sweep = SweepConnections(
            self._table, self._gateway, clock, ThreadWorkers(_WORKERS), GRACE, _NO_LIMIT, RecordingPublisher()
        )
        return sweep(segment=segment, of=SEGMENTS, until=clock.now() + _LONGEST)


@contextmanager
def a_sweeper(database: str, table: str, gateway: str, *, flaw: str) -> Iterator[Sweeper]:
    """A sweeper that calls the database and the gateway at these endpoints."""
    client = dynamodb_client(
        region=REGION,
        endpoint=database,
        connect_timeout=timedelta(seconds=0.5),
        read_timeout=timedelta(seconds=1),
        attempts=3,
        connections=_WORKERS,
    )
    try:
        yield Sweeper(
            _RecordingTable(SdkTransport(client), table),
            ManagementApiGateway(region=REGION, endpoint=gateway, connections=_WORKERS),
            flaw,
        )
    finally:
        client.close()


class _RecordingTable(DynamoDBConnectionTable):
    """Records the connections that are passed to ``delete_exact``."""

    def __init__(self, transport: Transport, table: str) -> None:
        super().__init__(transport, table)
        self.deleted: list[tuple[str, int]] = []

    def delete_exact(self, entry: Entry) -> bool:
        if isinstance(entry, Connection):
            assert entry.connected_at
            self.deleted.append((entry.id, round(entry.connected_at.timestamp() * 1000)))
        return super().delete_exact(entry)


class _LaterClock:
    def __init__(self, later: timedelta) -> None:
        self._clock = SystemClock()
        self._later = later

    def now(self) -> datetime:
        return self._clock.now() + self._later
