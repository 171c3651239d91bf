"""Our sweep of a whole table; as a program, once, and how much memory its process took at most, in bytes."""

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from app.adapters.clock import SystemClock
from app.adapters.dynamodb import DynamoDBConnectionRegistry, dynamodb_client
from app.adapters.gateway import ManagementApiGateway
from app.adapters.pace import SteadyPace
from app.domain.sweep import Report, SweepConnections
from app.settings import SweepSettings
from tests.benchmarks.driver import peak_memory

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
    """The sweep as the function has it where nothing is set, its pace included."""
    return SweepConnections(
        DynamoDBConnectionRegistry(client, table),
        ManagementApiGateway(region=_REGION, endpoint=gateway, connections=_SETTINGS.concurrency),
        SystemClock(),
        grace=_SETTINGS.grace,
        concurrency=_SETTINGS.concurrency,
        pace=SteadyPace(_SETTINGS.rate),
    )


def swept(sweep: SweepConnections) -> Report:
    report = sweep(segment=0, of=1, until=sweep.clock.now() + timedelta(minutes=5))
    assert report.finished
    assert report.asked == report.scanned == report.alive + report.gone, report
    return report


if __name__ == "__main__":
    swept(a_sweep(a_client(sys.argv[1]), *sys.argv[2:]))
    print(peak_memory() * 1024)
