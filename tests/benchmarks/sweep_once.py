"""Our sweep of a whole table; as a program, it sweeps once and prints its peak memory in bytes."""

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.sdk import SdkTransport, dynamodb_client
from app.adapters.dynamodb.table import DynamoDBConnectionTable
from app.adapters.gateway import ManagementApiGateway
from app.adapters.threads import ThreadWorkers
from app.domain.sweep import Outcome, Report, SweepConnections
from app.settings import SweepSettings
from tests.benchmarks.driver import peak_memory
from tests.fakes import RecordingPublisher

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_REGION = "eu-central-1"
_SETTINGS = SweepSettings()


def a_client(endpoint: str) -> "DynamoDBClient":
    return dynamodb_client(
        region=_REGION,
        endpoint=endpoint,
        connect_timeout=timedelta(seconds=2),
        read_timeout=timedelta(seconds=10),
        attempts=3,
        connections=_SETTINGS.concurrency,
    )


def a_sweep(client: "DynamoDBClient", table: str, gateway: str) -> SweepConnections:
    """Return the sweep with the function's default settings, its rate limit included."""
    return SweepConnections(
        DynamoDBConnectionTable(SdkTransport(client), table),
        ManagementApiGateway(region=_REGION, endpoint=gateway, connections=_SETTINGS.concurrency),
        SystemClock(),
        ThreadWorkers(_SETTINGS.concurrency),
        _SETTINGS.grace,
        _SETTINGS.rate,
        RecordingPublisher(),
    )


def swept(sweep: SweepConnections) -> Report:
    report = sweep(segment=0, of=1, until=sweep.clock.now() + timedelta(minutes=5))
    assert report.finished
    settled = report.outcomes[Outcome.ALIVE] + report.outcomes[Outcome.GONE]
    assert report.probed == report.scanned == settled, report
    return report


if __name__ == "__main__":
    swept(a_sweep(a_client(sys.argv[1]), *sys.argv[2:]))
    print(peak_memory() * 1024)
