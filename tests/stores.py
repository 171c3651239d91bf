"""The storage adapters, each on a table of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

import pytest
from moto import mock_aws
from moto.server import ThreadedMotoServer

from app.adapters.dynamodb import DynamoDBConnectionRegistry
from app.adapters.dynamodb_direct import direct_store
from app.adapters.dynamodb_direct.store import DirectDynamoDBConnectionStore
from app.adapters.memory import MemoryConnectionStore
from app.domain.ports import ConnectionRegistry
from tests.dynamodb_local import REGION, a_client, create_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

REGISTRIES = ("memory", "boto3-moto", "boto3-dynamodb-local")


@contextmanager
def a_registry(
    name: str, request: pytest.FixtureRequest, page_size: int = 100
) -> Iterator[ConnectionRegistry]:
    """The registry of that *name*, empty."""
    match name:
        case "memory":
            yield MemoryConnectionStore(page_size=page_size)
        case "boto3-moto":
            with mock_aws():
                client = moto_client()
                yield DynamoDBConnectionRegistry(client, create_table(client), page_size=page_size)
        case _:
            client = request.getfixturevalue("dynamodb")
            yield DynamoDBConnectionRegistry(client, request.getfixturevalue("table"), page_size=page_size)


@cache
def moto_client() -> "DynamoDBClient":
    """A client of whatever moto mocks at the time; to make one takes longer than most tests do."""
    return a_client(None)


def a_direct_store(endpoint: str, table: str) -> DirectDynamoDBConnectionStore:
    return direct_store(
        table=table,
        region=REGION,
        endpoint=endpoint,
        connect_timeout=timedelta(seconds=2),
        read_timeout=timedelta(seconds=10),
        attempts=3,
    )


@contextmanager
def moto_server() -> Iterator[str]:
    """Moto over HTTP, for its own patches don't reach an adapter without botocore; its endpoint URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
