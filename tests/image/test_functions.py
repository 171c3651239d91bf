"""The functions of the image under Lambda's runtime interface emulator, with a database on their network."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest
from testcontainers.core.network import Network

from app.adapters.clock import SystemClock
from app.adapters.dynamodb_wire import row_of
from app.domain.model import Connection, ConnectionId
from tests.builders import (
    Event,
    a_connect_event,
    a_connection,
    a_disconnect_event,
    an_event,
)
from tests.deadline import eventually
from tests.docker_image import Function, running_function
from tests.dynamodb_local import create_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

CONNECTED = {"statusCode": 200, "body": "connected"}
DISCONNECTED = {"statusCode": 200, "body": "disconnected"}


class Deployment(NamedTuple):
    """What API Gateway calls on each route."""

    connect: Function
    disconnect: Function


class Rows:
    """A look at the table behind the functions' back."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self.table = table
        self._client = client

    def put(self, connection: Connection) -> None:
        self._client.put_item(TableName=self.table, Item=row_of(connection))

    def get(self, connection_id: str) -> "dict[str, AttributeValueTypeDef] | None":
        answer = self._client.get_item(
            TableName=self.table, Key={"connectionId": {"S": connection_id}}, ConsistentRead=True
        )
        return answer.get("Item")


@pytest.fixture(scope="module")
def rows(database: "DynamoDBClient") -> Rows:
    return Rows(database, create_table(database))


@pytest.fixture(scope="module", params=["a function per route", "one function"])
def deployment(
    request: pytest.FixtureRequest, image: str, network: Network, rows: Rows
) -> Iterator[Deployment]:
    with ExitStack() as running:

        def function(command: str | None) -> Function:
            return running.enter_context(
                running_function(
                    image,
                    network,
                    command=command,
                    CONNECTIONS_TABLE=rows.table,
                    AWS_ENDPOINT_URL_DYNAMODB="http://dynamodb:8000",
                )
            )

        if request.param == "one function":
            handler = function(None)  # the image's own command
            yield Deployment(handler, handler)
        else:
            yield Deployment(
                function("app.entrypoints.aws_lambda.connect"),
                function("app.entrypoints.aws_lambda.disconnect"),
            )


def test_a_client_is_in_the_table_from_its_handshake_until_it_leaves(
    deployment: Deployment, rows: Rows
) -> None:
    connected = deployment.connect(
        a_connect_event("comes-and-goes", clientId="agent-1", account="123456789012", region="us-east-1")
    )
    row_while_connected = rows.get("comes-and-goes")
    disconnected = deployment.disconnect(a_disconnect_event("comes-and-goes"))
    row_afterwards = rows.get("comes-and-goes")

    assert connected == CONNECTED
    assert row_while_connected is not None
    assert row_while_connected["clientId"] == {"S": "agent-1"}
    assert row_while_connected["sourceIp"] == {"S": "203.0.113.24"}
    assert disconnected == DISCONNECTED
    assert row_afterwards is None


def test_the_log_says_in_json_who_came(deployment: Deployment) -> None:
    event = a_connect_event("says-hello", clientId="agent-1", account="123456789012", region="us-east-1")
    deployment.connect(event)

    record = deployment.connect.record("connection.opened", "says-hello")

    assert record["level"] == "INFO"
    assert record["requestId"]
    assert {name: record[name] for name in ("clientId", "account", "region", "sourceIp", "userAgent")} == {
        "clientId": "agent-1",
        "account": "123456789012",
        "region": "us-east-1",
        "sourceIp": "203.0.113.24",
        "userAgent": event["requestContext"]["identity"]["userAgent"],
    }


def test_the_log_says_in_json_who_left_when_and_why(deployment: Deployment) -> None:
    opening = a_connect_event("says-goodbye", clientId="agent-1", account="123456789012", region="us-east-1")
    closing = a_disconnect_event("says-goodbye")
    deployment.connect(opening)
    deployment.disconnect(closing)

    record = deployment.disconnect.record("connection.closed", "says-goodbye")

    context = closing["requestContext"]
    promised = {
        "found": True,
        "clientId": "agent-1",
        "account": "123456789012",
        "region": "us-east-1",
        "sourceIp": "203.0.113.24",
        "userAgent": opening["requestContext"]["identity"]["userAgent"],
        "durationMs": context["requestTimeEpoch"] - context["connectedAt"],
        "disconnectStatusCode": 1005,
        "disconnectReason": "Client-side close frame status not set",
    }
    assert {name: record.get(name) for name in promised} == promised


def test_a_refused_handshake_leaves_no_row(deployment: Deployment, rows: Rows) -> None:
    answer = deployment.connect(a_connect_event("refused", account="not-an-account"))

    assert answer["statusCode"] == 400
    assert "account" in answer["body"]
    assert deployment.connect.record("handshake.rejected", "refused")["field"] == "account"
    assert rows.get("refused") is None


def test_the_sweep_removes_whom_the_platform_can_not_have_any_more(
    image: str, network: Network, database: "DynamoDBClient"
) -> None:
    rows = Rows(database, create_table(database))
    now = SystemClock().now()
    rows.put(
        a_connection(
            id=ConnectionId("long-gone"),
            connected_at=now - timedelta(days=365),
            created_at=now - timedelta(days=365),
            expires_at=now + timedelta(days=1),
        )
    )

    with running_function(
        image,
        network,
        command="app.entrypoints.aws_lambda.sweep",
        CONNECTIONS_TABLE=rows.table,
        AWS_ENDPOINT_URL_DYNAMODB="http://dynamodb:8000",
        AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI="http://127.0.0.1:1/prod",  # where nobody answers
    ) as function:
        rehearsed = function({"dryRun": True})
        was_there = rows.get("long-gone") is not None
        report = function({})

    assert rehearsed["removedByAge"] == report["removedByAge"] == 1
    assert was_there
    assert report["event"] == "sweep.finished"
    assert rows.get("long-gone") is None


def test_the_streams_records_tell_who_joined(
    image: str, network: Network, database: "DynamoDBClient"
) -> None:
    event = an_event("stream_insert")
    [record] = event["Records"]
    connection_id = record["dynamodb"]["Keys"]["connectionId"]["S"]

    with running_function(
        image,
        network,
        command="app.entrypoints.aws_lambda.on_change",
        CONNECTIONS_TABLE=create_table(database),
        PRESENCE_TABLE=create_table(database, "PresenceTable"),
        AWS_ENDPOINT_URL_DYNAMODB="http://dynamodb:8000",
    ) as function:
        answer = function(event)
        eventually(lambda: "presence.joined" in function.log())  # lines come after the answer
        log = function.log()

    assert answer == {"batchItemFailures": []}
    [joined] = [json.loads(line) for line in log.splitlines() if "presence.joined" in line]
    assert joined["visitId"].startswith(f"{connection_id}@")


@pytest.mark.parametrize(
    ("command", "event"),
    [
        ("app.entrypoints.aws_lambda.connect", a_connect_event("unlucky")),
        ("app.entrypoints.aws_lambda.disconnect", a_disconnect_event("unlucky")),
    ],
    ids=["connect", "disconnect"],
)
def test_while_the_store_is_down_the_answer_is_503(
    command: str, event: Event, image: str, network: Network
) -> None:
    with running_function(
        image,
        network,
        command=command,
        CONNECTIONS_TABLE="connections",
        AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:8000",  # its own loopback, where nobody listens
    ) as function:
        answer = function(event)
        record = function.record("store.unavailable", "unlucky")

    assert answer["statusCode"] == 503
    assert record["level"] == "ERROR"
    assert record["reason"] == "EndpointConnectionError"
    assert record["write"] == "none"


def test_a_function_without_its_table_does_not_start_and_says_why(image: str, network: Network) -> None:
    with running_function(image, network) as function:
        answer = function(a_connect_event())

    assert answer["errorType"] == "InvalidSetting"
    assert answer["errorMessage"] == "CONNECTIONS_TABLE is missing: it names the DynamoDB table."
