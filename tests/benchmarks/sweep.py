"""The sweep beside the loop that everyone writes: the same rows, the same gateway, in turn.

As a program (``python -m tests.benchmarks.sweep``) it is this part of
``make bench`` alone.
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
from app.adapters.dynamodb_wire import row_of
from app.domain.model import MAX_ATTRIBUTE, MAX_ATTRIBUTES, MAX_USER_AGENT, Connection, ConnectionId
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
MEMORY_ROWS = (600, 6000)
"""Rows as large as the rules allow, so that the fewer are more than a page of DynamoDB's (1 MB)."""

_BATCH = 25  # DynamoDB's limit of a BatchWriteItem


class Sweeps(NamedTuple):
    """What was measured: the times by subject, what came of them, and bytes of memory by number of rows."""

    samples: dict[str, list[Sample]]
    comparisons: list[Comparison]
    memory: dict[int, int]


def measure_sweeps(pairs: int = PAIRS) -> Sweeps:
    """Sweep the same rows by either subject, in pairs; then a table, and one of ten times its rows."""
    with _environment(), dynamodb_local(SWEEP) as backend, management_api() as gateway:
        client = a_client(backend.endpoint)
        samples = _timed(client, backend.table, backend.endpoint, gateway, pairs)
        memory = {}
        for rows in MEMORY_ROWS:
            table = f"{backend.table}-{rows}"
            _create(client, table)
            _put(client, table, [_a_large_row(number) for number in range(rows)])
            memory[rows] = _peak_memory(backend.endpoint, table, gateway)
        client.close()
    return Sweeps(samples, compare(SWEEP, samples), memory)


def _timed(
    client: "DynamoDBClient", table: str, endpoint: str, gateway: str, pairs: int
) -> dict[str, list[Sample]]:
    """The samples by subject, in the order of the pairs; a first sweep of few rows is thrown away."""
    subjects = {SEED: _one_by_one(table, endpoint, gateway), OURS: _ours(client, table, gateway)}
    samples: dict[str, list[Sample]] = {name: [] for name in subjects}
    dead = [_a_row(f"gone-{number}=") for number in range(GONE)]
    for pair in range(pairs + 1):
        if pair == 1:
            _put(client, table, [_a_row(f"JKJcXeXAmPl-{number}=") for number in range(ALIVE)])
        for name in subjects if pair % 2 else reversed(subjects):
            _put(client, table, dead)
            began = time.perf_counter()
            removed = subjects[name]()
            took = time.perf_counter() - began
            assert removed == GONE, f"{name} removed {removed}"
            if pair:
                samples[name].append({"sweep_ms": took * 1e3})
    return samples


def _one_by_one(table_name: str, endpoint: str, gateway: str) -> Callable[[], int]:
    """The loop as everyone writes it; it returns how many it removed."""
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
        return swept(sweep).gone

    return run


@contextmanager
def _environment() -> Iterator[None]:
    """For the SDK, credentials that open nothing, and none of the caller's settings."""
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


def _a_row(name: str) -> Connection:
    began = SystemClock().now() - timedelta(minutes=10)
    return a_connection(
        id=ConnectionId(name),
        created_at=began,
        connected_at=began,
        expires_at=(began + timedelta(hours=24)).replace(microsecond=0),
    )


def _a_large_row(number: int) -> Connection:
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
        rows = [{"PutRequest": {"Item": row_of(it)}} for it in connections[first : first + _BATCH]]
        answer = client.batch_write_item(RequestItems={table: rows})  # type: ignore[dict-item]  # rows alike
        assert not answer["UnprocessedItems"]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(0, len(connections), _BATCH)))


def _create(client: "DynamoDBClient", name: str) -> None:
    client.create_table(**table_properties() | {"TableName": name})
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})


def _peak_memory(endpoint: str, table: str, gateway: str) -> int:
    """Bytes that a fresh process takes at most (resident) that sweeps *table* and does nothing else."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.sweep_once", endpoint, table, gateway],
        cwd=CHECKOUT,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    return int(told)


if __name__ == "__main__":
    a_terminal = a_console()
    found = measure_sweeps()
    show(a_terminal, found.comparisons)
    show_sweep_memory(a_terminal, found.memory)
