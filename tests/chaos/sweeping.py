"""The real sweep, through the proxy and with the fake gateway's management API."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from app.adapters.clock import SystemClock
from app.adapters.dynamodb import DynamoDBConnectionRegistry, dynamodb_client
from app.adapters.gateway import ManagementApiGateway
from app.domain.model import Connection
from app.domain.sweep import Report, SweepConnections
from app.domain.upkeep import Entry
from tests.chaos.flaws import gateway_with_flaw
from tests.chaos.truth import HANDSHAKE_TAKES
from tests.dynamodb_local import REGION

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SEGMENTS = 4
GRACE = timedelta(seconds=HANDSHAKE_TAKES + 1)

_AT_ONCE = 8
_LONGEST = timedelta(minutes=1)


class Sweeper:
    """Sweeps a segment at the time of day, or at a later one; ``removed`` is what it had removed."""

    def __init__(self, registry: "_NotingRegistry", gateway: ManagementApiGateway, flaw: str) -> None:
        self._registry = registry
        self._gateway = gateway_with_flaw(gateway, flaw)

    @property
    def removed(self) -> list[tuple[str, int]]:
        """The connections, by id and ``connectedAt``; one whose removal was not confirmed is in it, too."""
        return self._registry.noted

    def sweep(self, segment: int, *, later: timedelta = timedelta()) -> Report:
        """Sweep it as if it were so much *later*."""
        clock = _LaterClock(later)
        sweep = SweepConnections(
            self._registry, self._gateway, clock, GRACE, concurrency=_AT_ONCE, pace=lambda: None
        )
        return sweep(segment=segment, of=SEGMENTS, until=clock.now() + _LONGEST)


@contextmanager
def a_sweeper(database: str, table: str, gateway: str, *, flaw: str) -> Iterator[Sweeper]:
    """One that knows the database and the gateway by their endpoints."""
    client = dynamodb_client(
        region=REGION,
        endpoint=database,
        connect_timeout=timedelta(seconds=0.5),
        read_timeout=timedelta(seconds=1),
        attempts=3,
        connections=_AT_ONCE,
    )
    try:
        yield Sweeper(
            _NotingRegistry(client, table),
            ManagementApiGateway(region=REGION, endpoint=gateway, connections=_AT_ONCE),
            flaw,
        )
    finally:
        client.close()


class _NotingRegistry(DynamoDBConnectionRegistry):
    """Notes the connections that it is to forget."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        super().__init__(client, table)
        self.noted: list[tuple[str, int]] = []

    def forget(self, entry: Entry) -> bool:
        if isinstance(entry, Connection):
            assert entry.connected_at
            self.noted.append((entry.id, round(entry.connected_at.timestamp() * 1000)))
        return super().forget(entry)


class _LaterClock:
    def __init__(self, later: timedelta) -> None:
        self._clock = SystemClock()
        self._later = later

    def now(self) -> datetime:
        return self._clock.now() + self._later
