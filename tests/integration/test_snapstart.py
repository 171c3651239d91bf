"""The handshakes on SnapStart: what is in a snapshot, and the first calls after a restore.

The process of tests/snapshots.py takes the place of Lambda: it has the environment
that Lambda sets, calls the hooks as the runtime does, and its copies are restores.
"""

import json
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.direct.answers import PAUSE
from app.adapters.dynamodb.direct.container_credentials import TIMEOUT
from app.settings import StoreTimeouts
from tests.builders import a_connect_event
from tests.compiled import ROOT, compiled_handshakes
from tests.credentials_endpoint import CredentialsEndpoint, credentials_endpoint
from tests.deadline import eventually
from tests.dynamodb_local import REGION
from tests.environment import UNHURRIED
from tests.lanes import leave_out
from tests.peer import Peer, peer, request_from
from tests.tokens import ISSUER, TOKENS, a_token, the_key

CONNECTED = {"statusCode": 200, "body": "connected"}
NEVER = {"asyncio", "boto3", "botocore", "dependency_injector", "http.client", "random", "urllib.request"}

type Restored = dict[str, Any]


class DynamoDB:
    """Answers every request on every connection, and knows which connections are open.

    ``fault`` is the code with which it refuses reads.
    """

    def __init__(self) -> None:
        self.item: dict[str, Any] = {}
        self.fault = ""
        self.requests: list[bytes] = []
        self.open = 0

    def talk(self, connection: socket.socket) -> None:
        self.open += 1
        while request := request_from(connection):
            self.requests.append(request)
            is_read = b".GetItem" in request
            is_refused = is_read and self.fault
            answer = {"__type": self.fault} if is_refused else {"Item": self.item} if is_read else {}
            body = json.dumps(answer).encode()
            head = (
                f"HTTP/1.1 {400 if is_refused else 200} Whatever\r\nx-amzn-requestid: R1\r\n"
                f"x-amz-crc32: {zlib.crc32(body)}\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            connection.sendall(head.encode() + body)
        self.open -= 1

    def keys(self) -> list[str]:
        """Return the access key of each request."""
        return [text.partition(b"Credential=")[2].partition(b"/")[0].decode() for text in self.requests]


class SnapStart:
    """A function from its snapshot on."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert process.stdin
        assert process.stdout
        self._input, self._output = process.stdin, process.stdout
        self.same_id: bool = self._next()["sameId"]

    def restore(self, *events: object) -> Restored:
        """Restore the snapshot, answer *events*, and return what is seen of it."""
        self._input.write(f"{json.dumps(events)}\n")
        self._input.flush()
        return self._next()

    def _next(self) -> Restored:
        line = self._output.readline()
        assert line, "the process has ended"
        seen: Restored = json.loads(line)
        return seen


@pytest.fixture
def endpoint() -> Iterator[CredentialsEndpoint]:
    with credentials_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def database() -> DynamoDB:
    return DynamoDB()


@pytest.fixture
def server(database: DynamoDB) -> Iterator[Peer]:
    with peer(database.talk) as server:
        yield server


@pytest.fixture(scope="module")
def compiled_form(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "compiled.py").write_text(compiled_handshakes())
    return folder


@pytest.fixture
def snap_start(
    endpoint: CredentialsEndpoint, server: Peer, compiled_form: Path
) -> Iterator[Callable[..., SnapStart]]:
    """Starts a function with *environ*, in the image's form or by the container, and takes the snapshot."""
    with ExitStack() as running:

        def start(*, compiled: bool = True, **environ: str) -> SnapStart:
            folder = [str(compiled_form)] if compiled else []
            variables = {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "CONNECTIONS_TABLE": "connections",
                "AWS_REGION": REGION,
                "AWS_ENDPOINT_URL_DYNAMODB": f"http://{server.host}:{server.port}",
                "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
                "AWS_LAMBDA_LOG_FORMAT": "JSON",
                "AWS_LAMBDA_LOG_LEVEL": "INFO",
                "AWS_ACCESS_KEY_ID": "OFTHEENVIRONMENT",
                "AWS_SECRET_ACCESS_KEY": "s3cr3t",
                # A busy machine is to add no request: the tests count them.
                **UNHURRIED,
                **endpoint.environ(),
                **environ,
            }
            return SnapStart(running.enter_context(_process(folder, variables)))

        yield start


@contextmanager
def _process(folder: list[str], environ: Mapping[str, str]) -> "Iterator[subprocess.Popen[str]]":
    program = [sys.executable, str(ROOT / "tests" / "snapshots.py"), "app.entrypoints.aws_lambda.connect"]
    clock = {name: os.environ[name] for name in ("FAKETIME", "LD_PRELOAD") if name in os.environ}
    with subprocess.Popen(
        [*program, *folder],
        env={**environ, **clock},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "by the container"])
def test_the_first_connect_after_a_restore_is_recorded_with_the_endpoints_credentials(
    snap_start: Callable[..., SnapStart], endpoint: CredentialsEndpoint, database: DynamoDB, *, compiled: bool
) -> None:
    restored = snap_start(compiled=compiled).restore(a_connect_event("c-1"), a_connect_event("c-2"))

    assert restored["answers"] == [CONNECTED, CONNECTED]
    assert database.keys() == ["AKID1", "AKID1"]
    assert len(endpoint.requests) == 1


def test_a_snapshot_has_no_connection_and_each_restore_has_a_new_one(
    snap_start: Callable[..., SnapStart], server: Peer, database: DynamoDB
) -> None:
    function = snap_start()
    eventually(lambda: server.connections == 1 and database.open == 0)
    function.restore()
    eventually(lambda: server.connections == 2)

    assert function.restore(a_connect_event())["answers"] == [CONNECTED]
    assert server.connections == 3


def test_no_sdk_and_no_injector_is_imported(snap_start: Callable[..., SnapStart]) -> None:
    imported = {*snap_start().restore(a_connect_event())["imported"]}

    assert "app.containers.snapstart" in imported
    assert imported & NEVER == set()


def test_two_restores_of_one_snapshot_have_no_random_number_in_common(
    snap_start: Callable[..., SnapStart],
) -> None:
    function = snap_start()
    if not function.same_id:
        leave_out("no process namespace can be created here")
    restored = [function.restore() for _ in range(3)]

    assert {it["processId"] for it in restored} == {1}
    assert len({it["random"] for it in restored}) == 3


def test_each_restore_has_credentials_of_its_own(
    snap_start: Callable[..., SnapStart], database: DynamoDB
) -> None:
    function = snap_start()
    for number in (1, 2):
        function.restore(a_connect_event(f"c-{number}"))

    assert database.keys() == ["AKID1", "AKID2"]


def test_without_the_endpoint_a_restore_goes_on_and_its_calls_ask_again(
    snap_start: Callable[..., SnapStart], endpoint: CredentialsEndpoint
) -> None:
    function = snap_start()
    endpoint.fault = (500, b"")
    without = function.restore(a_connect_event("c-1"), a_connect_event("c-2"))
    asked = len(endpoint.requests)
    endpoint.fault = None

    assert [answer["statusCode"] for answer in without["answers"]] == [503, 503]
    assert asked == 3  # by the hook and each call
    assert function.restore(a_connect_event("c-3"))["answers"] == [CONNECTED]


# ---- With tokens


def kept_keys(at: datetime, owner: str = ISSUER) -> dict[str, Any]:
    key = the_key("RS256", owner)
    fetched_at = int(at.timestamp() * 1000)
    return {
        "issuer": {"S": ISSUER},
        "fetchedAt": {"N": str(fetched_at)},
        "keys": {"S": json.dumps({key.key_id: key.key()})},
    }


def with_a_token(at: datetime) -> dict[str, Any]:
    return a_connect_event() | {"headers": {"Authorization": f"Bearer {a_token(at=at)}"}}


def test_the_issuers_keys_are_read_at_the_restore_and_not_by_the_first_token(
    snap_start: Callable[..., SnapStart], database: DynamoDB
) -> None:
    now = SystemClock().now()
    database.item = kept_keys(now, owner="who issued before the snapshot")
    function = snap_start(**TOKENS)
    at_the_start = len(database.requests)
    database.item = kept_keys(now)
    restored = function.restore(with_a_token(now), with_a_token(now))

    assert at_the_start == 0
    assert restored["answers"] == [CONNECTED, CONNECTED]
    assert [b".GetItem" in request for request in database.requests] == [True, False, False]


def test_a_role_that_may_not_read_the_keys_yet_ends_neither_the_snapshot_nor_a_restore(
    snap_start: Callable[..., SnapStart], database: DynamoDB
) -> None:
    now = SystemClock().now()
    database.item = kept_keys(now)
    database.fault = "AccessDeniedException"
    function = snap_start(**TOKENS)
    refused = function.restore(with_a_token(now))
    database.fault = ""

    assert [answer["statusCode"] for answer in refused["answers"]] == [500]
    assert function.restore(with_a_token(now))["answers"] == [CONNECTED]


def test_by_the_default_time_outs_a_restore_ends_within_the_10_seconds_that_lambda_gives() -> None:
    timeouts = StoreTimeouts()
    credentials = timedelta(seconds=2 * TIMEOUT)  # to connect, and for the answer
    pauses = timedelta(seconds=sum(PAUSE * 2**retry for retry in range(timeouts.attempts - 1)))
    keys = timeouts.attempts * (timeouts.connect + timeouts.read) + pauses  # the first of them connects

    assert credentials + keys < timedelta(seconds=9.6)


def test_without_credentials_a_restore_does_not_wait_for_a_connection_and_keys(
    snap_start: Callable[..., SnapStart], endpoint: CredentialsEndpoint, server: Peer
) -> None:
    function = snap_start(**TOKENS)
    endpoint.fault = (500, b"")
    function.restore()

    assert len(endpoint.requests) == 1
    assert server.connections == 1  # of the start


# ---- Without SnapStart


@pytest.mark.parametrize("kind", ["on-demand", "provisioned-concurrency", ""])
def test_another_start_has_no_hooks_and_the_environments_credentials(
    snap_start: Callable[..., SnapStart], endpoint: CredentialsEndpoint, database: DynamoDB, kind: str
) -> None:
    function = snap_start(AWS_LAMBDA_INITIALIZATION_TYPE=kind)
    started = function.restore(a_connect_event())

    assert database.keys() == ["OFTHEENVIRONMENT"]
    assert "app.containers.snapstart" not in started["imported"]
    assert endpoint.requests == []


def test_an_adapter_from_outside_needs_no_hooks(snap_start: Callable[..., SnapStart], server: Peer) -> None:
    restored = snap_start(STORE="memory").restore(a_connect_event())

    assert restored["answers"] == [CONNECTED]
    assert server.connections == 0
