"""A DynamoDB Local that is stopped and started and keeps what it has, and a look at a table in it."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from botocore.exceptions import BotoCoreError, ClientError
from testcontainers.core.container import DockerContainer

from infra.process import free_port
from tests.deadline import eventually
from tests.dynamodb_local import IMAGE, Jvm, answers
from tests.lanes import image_is_missing, leave_out, missing_commands

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PORT = 8000
_READY_WITHIN = timedelta(seconds=60)
_COMMAND = ("-jar", "DynamoDBLocal.jar", "-sharedDb", "-disableTelemetry", "-dbPath", "/tmp")  # noqa: S108


class Database(Protocol):
    """A database at the same *port* of loopback whenever it is up; a stop loses nothing that it confirmed."""

    port: int

    def stop(self) -> None:
        """End it, whatever it is at."""

    def start(self) -> None:
        """Start it again; it answers when this returns."""


def a_database() -> AbstractContextManager[Database]:
    """A DynamoDB Local of one's own, on disk: a container, or a plain JVM."""
    if (no_image := image_is_missing(IMAGE)) is None:
        return _container()
    if (no_java := missing_commands("java", "npm")) is None:
        return _jvm()
    return leave_out(f"DynamoDB Local can't run: {no_image}, and {no_java}")


class Rows(NamedTuple):
    """A table's rows: what ``connectedAt`` each connection's has, by id, and the ids of the marks."""

    connections: dict[str, int]
    marks: frozenset[str]


class Table:
    """The table behind the adapters' back: up to date, and patient while the database is down."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self.name = name
        self._client = client

    def connected_at(self, connection_id: str) -> int | None:
        """What the connection's row says; ``None`` where there is none."""
        key: Any = {"connectionId": {"S": connection_id}}
        answer = _patiently(lambda: self._client.get_item(TableName=self.name, Key=key, ConsistentRead=True))
        row = answer.get("Item", {})
        return None if "closedAt" in row or not row else int(row["connectedAt"]["N"])

    def rows(self) -> Rows:
        """All of them."""
        pages = self._client.get_paginator("scan")
        found = _patiently(
            lambda: [
                row
                for page in pages.paginate(TableName=self.name, ConsistentRead=True)
                for row in page["Items"]
            ]
        )
        return Rows(
            {
                row["connectionId"]["S"]: int(row["connectedAt"]["N"])
                for row in found
                if "closedAt" not in row
            },
            frozenset(row["connectionId"]["S"] for row in found if "closedAt" in row),
        )


def _patiently[T](ask: Callable[[], T]) -> T:
    deadline = time.monotonic() + _READY_WITHIN.total_seconds()
    while True:
        try:
            return ask()
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # between two looks, not instead of one


class _Container:
    def __init__(self, port: int, container: DockerContainer) -> None:
        self.port = port
        self._container = container

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=2)

    def start(self) -> None:
        self._container.get_wrapped_container().start()
        _wait_for(self.port)


@contextmanager
def _container() -> Iterator[Database]:
    # the user of every such image may write to /tmp; a container keeps its files while it is stopped
    container = DockerContainer(IMAGE).with_command(list(_COMMAND))
    port = free_port()  # Docker would choose another at each start
    container.ports[f"{_PORT}/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment]
    with container:
        _wait_for(port)
        yield _Container(port, container)


@contextmanager
def _jvm() -> Iterator[Database]:
    with tempfile.TemporaryDirectory() as folder:
        jvm = Jvm("-dbPath", folder)
        try:
            jvm.start()
            yield jvm
        finally:
            jvm.stop()


def _wait_for(port: int) -> None:
    eventually(lambda: answers(port), within=_READY_WITHIN)
