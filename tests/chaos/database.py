"""A DynamoDB Local that can be stopped and started without loss of data, and reads of a table in it."""

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
_READY_WITHIN = timedelta(minutes=3)  # on a busy machine
_COMMAND = ("-jar", "DynamoDBLocal.jar", "-sharedDb", "-disableTelemetry", "-dbPath", "/tmp")  # noqa: S108 - in the container


class Database(Protocol):
    """A database, always at the same *port* of loopback; a stop loses no confirmed write."""

    port: int

    def stop(self) -> None:
        """Stop it at once."""

    def start(self) -> None:
        """Start it again, and return when it answers."""


def a_database() -> AbstractContextManager[Database]:
    """A new DynamoDB Local with its data on disk: a container, or a plain JVM."""
    if (no_image := image_is_missing(IMAGE)) is None:
        return _container()
    if (no_java := missing_commands("java", "npm")) is None:
        return _jvm()
    return leave_out(f"DynamoDB Local can't run: {no_image}, and {no_java}")


class Items(NamedTuple):
    """A table's items: the ``connectedAt`` of each connection by id, and the ids of the tombstones."""

    connections: dict[str, int]
    tombstones: frozenset[str]


class Table:
    """Consistent reads of the table, not through the adapters; repeated while the database is down."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self.name = name
        self._client = client

    def connected_at(self, connection_id: str) -> int | None:
        """Return the ``connectedAt`` of the connection's item; ``None`` if there is none."""
        key: Any = {"connectionId": {"S": connection_id}}
        answer = _repeated(lambda: self._client.get_item(TableName=self.name, Key=key, ConsistentRead=True))
        item = answer.get("Item", {})
        return None if "closedAt" in item or not item else int(item["connectedAt"]["N"])

    def items(self) -> Items:
        """Return all items."""
        pages = self._client.get_paginator("scan")
        found = _repeated(
            lambda: [
                item
                for page in pages.paginate(TableName=self.name, ConsistentRead=True)
                for item in page["Items"]
            ]
        )
        return Items(
            {
                item["connectionId"]["S"]: int(item["connectedAt"]["N"])
                for item in found
                if "closedAt" not in item
            },
            frozenset(item["connectionId"]["S"] for item in found if "closedAt" in item),
        )


def _repeated[T](read: Callable[[], T]) -> T:
    """Repeat *read* until the database answers."""
    deadline = time.monotonic() + _READY_WITHIN.total_seconds()
    while True:
        try:
            return read()
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # between two attempts, not instead of one


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
    container.ports[f"{_PORT}/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment]  # typed too narrowly
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
