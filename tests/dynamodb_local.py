"""DynamoDB Local, in a container or as a plain JVM, and tables in it as infra/template.yaml has them.

The container is the public image (DYNAMODB_LOCAL_IMAGE names another). The
JVM is for machines that have Java and npm but no Docker: the same program,
fetched by version and checksum into the user's cache. Its licence forbids
redistribution, so it never comes into the repository.
"""

import hashlib
import os
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

from app.adapters.dynamodb import dynamodb_client
from tests.deadline import eventually
from tests.lanes import image_is_missing, leave_out, missing_commands
from tests.template import table_properties, time_to_live

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

IMAGE = os.environ.get("DYNAMODB_LOCAL_IMAGE", "amazon/dynamodb-local:3.3.1")
REGION = "eu-central-1"

_PORT = 8000
_READY_WITHIN = timedelta(seconds=60)
_PACKAGE = "amplify-dynamodb-simulator@2.9.30"  # npm; DynamoDB Local 1.25.1 is its folder package/emulator
_SHA256 = "3503ffac19f183407909fecdacf4db51ab1fdad1da7b2f177016670b2d80e4b9"


@contextmanager
def running_dynamodb_local() -> Iterator[str]:
    """A DynamoDB Local of one's own; its endpoint URL."""
    if (no_image := image_is_missing(IMAGE)) is None:
        with _container() as endpoint:
            yield endpoint
    elif (no_java := missing_commands("java", "npm")) is None:
        with _jvm() as endpoint:
            yield endpoint
    else:
        leave_out(f"DynamoDB Local can't run: {no_image}, and {no_java}")


@pytest.fixture(scope="session")
def dynamodb_local() -> Iterator[str]:
    """The endpoint URL of the DynamoDB Local that the session's tests share."""
    with running_dynamodb_local() as endpoint:
        yield endpoint


@pytest.fixture
def dynamodb(dynamodb_local: str, credentials: None) -> Iterator["DynamoDBClient"]:
    """A plain client of the shared DynamoDB Local, to look behind the adapter's back."""
    client = a_client(dynamodb_local)
    yield client
    client.close()


@pytest.fixture
def table(dynamodb: "DynamoDBClient") -> str:
    """The name of a new table in the shared DynamoDB Local."""
    return create_table(dynamodb)


def a_client(endpoint: str | None) -> "DynamoDBClient":
    return dynamodb_client(
        region=REGION,
        endpoint=endpoint,
        connect_timeout=timedelta(seconds=2),
        read_timeout=timedelta(seconds=10),
        attempts=3,
    )


def create_table(client: "DynamoDBClient", table: str = "ConnectionsTable") -> str:
    """A new table as the template's resource *table* has it, but for its name."""
    name = f"{table}-{uuid4().hex}"
    client.create_table(**table_properties(table) | {"TableName": name})
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    client.update_time_to_live(TableName=name, TimeToLiveSpecification=time_to_live(table))
    return name


@contextmanager
def _container() -> Iterator[str]:
    container = DockerContainer(IMAGE).waiting_for(
        # it answers 400 to a request without a signature as soon as it is up
        HttpWaitStrategy(_PORT).for_status_code(400).with_startup_timeout(_READY_WITHIN)
    )
    # docker-py takes an address with the port: without it, the whole network could reach the database
    container.ports[f"{_PORT}/tcp"] = ("127.0.0.1", None)  # type: ignore[assignment]
    with container:
        yield f"http://127.0.0.1:{container.get_exposed_port(_PORT)}"


@contextmanager
def _jvm() -> Iterator[str]:
    port = free_port()
    command = ["java", "-Xmx256m", "-jar", "DynamoDBLocal.jar", "-inMemory", "-sharedDb"]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [*command, "-disableTelemetry", "-port", str(port)],
            cwd=jar_folder(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            eventually(lambda: _accepts(port), within=_READY_WITHIN)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def jar_folder() -> Path:
    """The folder with DynamoDBLocal.jar in the user's cache, filled the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "switchboard"
    folder = cache / _PACKAGE
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        subprocess.run(
            ["npm", "pack", "--silent", _PACKAGE], cwd=scratch, check=True, stdout=subprocess.DEVNULL
        )
        (archive,) = Path(scratch).glob("*.tgz")
        if hashlib.sha256(archive.read_bytes()).hexdigest() != _SHA256:
            pytest.fail(f"{_PACKAGE} is not the archive that it was; not running it", pytrace=False)
        with tarfile.open(archive) as members:
            members.extractall(scratch, filter="data")
        (Path(scratch) / "package" / "emulator").rename(folder)
    return folder


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
