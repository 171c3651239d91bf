"""The sweep compared with the usual loop: the same items, the same gateway, in turn.

``python -m tests.benchmarks.sweep`` runs only this part of ``make bench``.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import boto3

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.items import item_of
from app.domain.model import MAX_ATTRIBUTE, MAX_ATTRIBUTES, MAX_USER_AGENT, Connection, ConnectionId
from app.domain.sweep import Outcome
from tests.benchmarks.assemble import CHECKOUT
from tests.benchmarks.figures import SWEEP, Comparison, compare
from tests.benchmarks.measure import Sample
from tests.benchmarks.report import a_console, show, show_sweep_memory
from tests.benchmarks.servers import dynamodb_local, management_api
from tests.benchmarks.subjects import ACCESS_KEY, OURS, REGION, SEED, SESSION_TOKEN
from tests.benchmarks.sweep_once import a_client, a_sweep, swept
from tests.builders import a_connection
from tests.template import table_properties

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PAIRS = 3
ALIVE, GONE = 990, 10
MEMORY_ITEMS = (600, 6000)
"""Items as large as the rules allow, so that even the smaller table is more than a page (1 MB)."""

_BATCH = 25  # DynamoDB's limit of a BatchWriteItem


class Sweeps(NamedTuple):
    """The times by subject, their comparison, and bytes of memory by number of items."""

    samples: dict[str, list[Sample]]
    comparisons: list[Comparison]
    memory: dict[int, int]


def measure_sweeps(pairs: int = PAIRS) -> Sweeps:
    """Sweep the same items with both subjects, in pairs; then one table, and another ten times as large."""
    with _environment(), dynamodb_local(SWEEP) as backend, management_api() as gateway:
        client = a_client(backend.endpoint)
        samples = _timed(client, backend.table, backend.endpoint, gateway, pairs)
        memory = {}
        for items in MEMORY_ITEMS:
            table = f"{backend.table}-{items}"
            _create(client, table)
            _put(client, table, [_a_large_connection(number) for number in range(items)])
            memory[items] = _peak_memory(backend.endpoint, table, gateway)
        client.close()
    return Sweeps(samples, compare(SWEEP, samples), memory)


def _timed(
    client: "DynamoDBClient", table: str, endpoint: str, gateway: str, pairs: int
) -> dict[str, list[Sample]]:
    """Return the samples by subject, in the order of the pairs; the first sweep is discarded."""
    subjects = {SEED: _one_by_one(table, endpoint, gateway), OURS: _ours(client, table, gateway)}
    samples: dict[str, list[Sample]] = {name: [] for name in subjects}
    gone = [_a_connection(f"gone-{number}=") for number in range(GONE)]
    for pair in range(pairs + 1):
        if pair == 1:
            _put(client, table, [_a_connection(f"JKJcXeXAmPl-{number}=") for number in range(ALIVE)])
        for name in subjects if pair % 2 else reversed(subjects):
            _put(client, table, gone)
            began = time.perf_counter()
            removed = subjects[name]()
            took = time.perf_counter() - began
            assert removed == GONE, f"{name} removed {removed}"
            if pair:
                samples[name].append({"sweep_ms": took * 1e3})
    return samples


def _one_by_one(table_name: str, endpoint: str, gateway: str) -> Callable[[], int]:
    """Return the usual loop; it returns the number of items that it deleted."""
    session = boto3.session.Session(region_name=REGION)
    table = session.resource("dynamodb", endpoint_url=endpoint).Table(table_name)
    management = session.client("apigatewaymanagementapi", endpoint_url=gateway)

    def run() -> int:
        removed = 0
        page = table.scan()
        while True:
            for item in page["Items"]:
                try:
                    management.get_connection(ConnectionId=str(item["connectionId"]))
                except management.exceptions.GoneException:
                    table.delete_item(Key={"connectionId": item["connectionId"]})
                    removed += 1
            if "LastEvaluatedKey" not in page:
                return removed
            page = table.scan(ExclusiveStartKey=page["LastEvaluatedKey"])

    return run


def _ours(client: "DynamoDBClient", table: str, gateway: str) -> Callable[[], int]:
    sweep = a_sweep(client, table, gateway)

    def run() -> int:
        return swept(sweep).outcomes[Outcome.GONE]

    return run


@contextmanager
def _environment() -> Iterator[None]:
    """Give the SDK invalid credentials, and none of the caller's settings, until the block ends."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
        "AWS_SESSION_TOKEN": SESSION_TOKEN,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def _a_connection(name: str) -> Connection:
    began = SystemClock().now() - timedelta(minutes=10)
    return a_connection(
        id=ConnectionId(name),
        created_at=began,
        connected_at=began,
        expires_at=(began + timedelta(hours=24)).replace(microsecond=0),
    )


def _a_large_connection(number: int) -> Connection:
    began = SystemClock().now() - timedelta(minutes=10)
    return a_connection(
        id=ConnectionId(f"JKJcXeXAmPl-{number}="),
        created_at=began,
        connected_at=began,
        user_agent="u" * MAX_USER_AGENT,
        attributes={f"attribute{at}": "a" * MAX_ATTRIBUTE for at in range(MAX_ATTRIBUTES)},
    )


def _put(client: "DynamoDBClient", table: str, connections: Sequence[Connection]) -> None:
    def put(first: int) -> None:
        puts = [{"PutRequest": {"Item": item_of(it)}} for it in connections[first : first + _BATCH]]
        answer = client.batch_write_item(RequestItems={table: puts})  # type: ignore[dict-item]  # only puts
        assert not answer["UnprocessedItems"]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(0, len(connections), _BATCH)))


def _create(client: "DynamoDBClient", name: str) -> None:
    client.create_table(**table_properties() | {"TableName": name})
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})


def _peak_memory(endpoint: str, table: str, gateway: str) -> int:
    """Return the peak resident memory, in bytes, of a new process that only sweeps *table*."""
    output = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.sweep_once", endpoint, table, gateway],
        cwd=CHECKOUT,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    return int(output)


if __name__ == "__main__":
    a_terminal = a_console()
    found = measure_sweeps()
    show(a_terminal, found.comparisons)
    show_sweep_memory(a_terminal, found.memory)
