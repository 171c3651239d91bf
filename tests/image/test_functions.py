"""The image's functions in Lambda's runtime interface emulator, with a database on their network."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest
from testcontainers.core.network import Network

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.items import item_of
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
from tests.dynamodb_local import create_table, stream_records

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

CONNECTED = {"statusCode": 200, "body": "connected"}
DISCONNECTED = {"statusCode": 200, "body": "disconnected"}


class Deployment(NamedTuple):
    """The function that API Gateway calls on each route."""

    connect: Function
    disconnect: Function


class Items:
    """Direct access to the items of the functions' table."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self.table = table
        self._client = client

    def put(self, connection: Connection) -> None:
        self._client.put_item(TableName=self.table, Item=item_of(connection))

    def get(self, connection_id: str) -> "dict[str, AttributeValueTypeDef] | None":
        answer = self._client.get_item(
            TableName=self.table, Key={"connectionId": {"S": connection_id}}, ConsistentRead=True
        )
        return answer.get("Item")


@pytest.fixture(scope="module")
def items(database: "DynamoDBClient") -> Items:
    return Items(database, create_table(database))


@pytest.fixture(scope="module", params=["a function per route", "one function"])
def deployment(
    request: pytest.FixtureRequest, image: str, network: Network, items: Items
) -> Iterator[Deployment]:
    with ExitStack() as running:

        def function(command: str | None) -> Function:
            return running.enter_context(
                running_function(
                    image,
                    network,
                    command=command,
                    CONNECTIONS_TABLE=items.table,
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


def test_a_connection_has_an_item_from_its_handshake_to_its_disconnect(
    deployment: Deployment, items: Items
) -> None:
    connected = deployment.connect(
        a_connect_event("recorded", clientId="agent-1", account="123456789012", region="us-east-1")
    )
    item_while_connected = items.get("recorded")
    disconnected = deployment.disconnect(a_disconnect_event("recorded"))
    item_afterwards = items.get("recorded")

    assert connected == CONNECTED
    assert item_while_connected is not None
    assert item_while_connected["clientId"] == {"S": "agent-1"}
    assert item_while_connected["sourceIp"] == {"S": "203.0.113.24"}
    assert disconnected == DISCONNECTED
    assert item_afterwards is None


def test_an_opened_connection_is_logged_as_json(deployment: Deployment) -> None:
    event = a_connect_event("opened", clientId="agent-1", account="123456789012", region="us-east-1")
    deployment.connect(event)

    record = deployment.connect.record("connection.opened", "opened")

    assert record["level"] == "INFO"
    assert record["requestId"]
    assert {name: record[name] for name in ("clientId", "account", "region", "sourceIp", "userAgent")} == {
        "clientId": "agent-1",
        "account": "123456789012",
        "region": "us-east-1",
        "sourceIp": "203.0.113.24",
        "userAgent": event["requestContext"]["identity"]["userAgent"],
    }


def test_a_closed_connection_is_logged_as_json_with_its_duration_and_reason(deployment: Deployment) -> None:
    connect_event = a_connect_event("closed", clientId="agent-1", account="123456789012", region="us-east-1")
    disconnect_event = a_disconnect_event("closed")
    deployment.connect(connect_event)
    deployment.disconnect(disconnect_event)

    record = deployment.disconnect.record("connection.closed", "closed")

    context = disconnect_event["requestContext"]
    expected = {
        "found": True,
        "clientId": "agent-1",
        "account": "123456789012",
        "region": "us-east-1",
        "sourceIp": "203.0.113.24",
        "userAgent": connect_event["requestContext"]["identity"]["userAgent"],
        "durationMs": context["requestTimeEpoch"] - context["connectedAt"],
        "disconnectStatusCode": 1005,
        "disconnectReason": "Client-side close frame status not set",
    }
    assert {name: record.get(name) for name in expected} == expected


def test_a_refused_handshake_writes_no_item(deployment: Deployment, items: Items) -> None:
    answer = deployment.connect(a_connect_event("refused", account="not-an-account"))

    assert answer["statusCode"] == 400
    assert "account" in answer["body"]
    assert deployment.connect.record("handshake.rejected", "refused")["field"] == "account"
    assert items.get("refused") is None


def test_the_sweep_deletes_a_connection_older_than_the_maximum_duration(
    image: str, network: Network, database: "DynamoDBClient"
) -> None:
    items = Items(database, create_table(database))
    long_ago = datetime(
        2020, 1, 1, tzinfo=UTC
    )  # by the container's clock, too, which faketime(1) does not reach
    items.put(
        a_connection(
            id=ConnectionId("too-old"),
            connected_at=long_ago,
            created_at=long_ago,
            expires_at=SystemClock().now() + timedelta(days=1),
        )
    )

    with running_function(
        image,
        network,
        command="app.entrypoints.aws_sweep.handler",
        CONNECTIONS_TABLE=items.table,
        AWS_ENDPOINT_URL_DYNAMODB="http://dynamodb:8000",
        AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI="http://127.0.0.1:1/prod",  # no server listens there
    ) as function:
        dry_run_report = function({"dryRun": True})
        survived_dry_run = items.get("too-old") is not None
        report = function({})

    assert dry_run_report["removedByAge"] == report["removedByAge"] == 1
    assert survived_dry_run
    assert report["event"] == "sweep.finished"
    assert items.get("too-old") is None


def test_a_stream_record_of_a_new_connection_is_logged_as_joined_by_way_of_the_presence_tables_stream(
    image: str, network: Network, database: "DynamoDBClient"
) -> None:
    event = an_event("stream_insert")
    [record] = event["Records"]
    connection_id = record["dynamodb"]["Keys"]["connectionId"]["S"]
    connections, presence = create_table(database), create_table(database, "PresenceTable")

    with running_function(
        image,
        network,
        command="app.entrypoints.aws_stream.handler",
        CONNECTIONS_TABLE=connections,
        PRESENCE_TABLE=presence,
        AWS_ENDPOINT_URL_DYNAMODB="http://dynamodb:8000",
    ) as function:
        assert function(event) == {"batchItemFailures": []}
    with running_function(
        image, network, command="app.entrypoints.aws_presence.handler", CONNECTIONS_TABLE=connections
    ) as function:
        answer = function({"Records": stream_records(database, presence)})
        eventually(lambda: "presence.joined" in function.log())  # the log may be later than the answer
        log = function.log()

    assert answer == {"batchItemFailures": []}
    [joined] = [json.loads(line) for line in log.splitlines() if "presence.joined" in line]
    assert joined["visitId"].startswith(f"{connection_id}@")


def test_a_message_is_sent_to_those_in_the_table_and_the_report_is_logged(
    image: str, network: Network, database: "DynamoDBClient"
) -> None:
    items = Items(database, create_table(database))
    now = SystemClock().now()
    items.put(a_connection(created_at=now, connected_at=now, expires_at=now + timedelta(hours=1)))
    message = {
        "id": "m-1",
        "type": "incident.opened",
        "audience": {"account": "123456789012", "region": "ap-northeast-2"},
        "data": {},
    }
    record = {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "body": json.dumps(message),
        "attributes": {"SentTimestamp": str(round(now.timestamp() * 1000))},
    }

    with running_function(
        image,
        network,
        command="app.entrypoints.aws_send.handler",
        CONNECTIONS_TABLE=items.table,
        DELIVERIES_TABLE=create_table(database, "DeliveriesTable"),
        MESSAGE_QUEUE="switchboard-messages",
        AWS_ENDPOINT_URL_DYNAMODB="http://dynamodb:8000",
        AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI="http://127.0.0.1:1/prod",  # no server listens there
    ) as function:
        answer = function({"Records": [record]})
        eventually(lambda: "delivery.finished" in function.log())  # the log may be later than the answer
        log = function.log()

    assert answer == {"batchItemFailures": []}
    [report] = [json.loads(line) for line in log.splitlines() if "delivery.finished" in line]
    assert (report["messageId"], report["selected"], report["failed"]) == ("m-1", 1, 1)


def test_a_client_that_comes_back_is_looked_up_and_what_became_of_it_is_logged(
    image: str, network: Network, database: "DynamoDBClient"
) -> None:
    items = Items(database, create_table(database))
    now = SystemClock().now()
    began = now - timedelta(minutes=5)
    items.put(a_connection(created_at=began, connected_at=began, expires_at=now + timedelta(hours=1)))
    request = {
        "connectionId": "c-1",
        "beganAt": round(began.timestamp() * 1000),
        "since": "@now",
        "after": None,
        "told": [],
        "isSecond": True,
    }
    record = {"messageId": "059f36b4-87a3-44ab-83d2-661975830a7d", "body": json.dumps(request)}

    with running_function(
        image,
        network,
        command="app.entrypoints.aws_catch_up.handler",
        CONNECTIONS_TABLE=items.table,
        DELIVERIES_TABLE=create_table(database, "DeliveriesTable"),
        HISTORY_TABLE=create_table(database, "HistoryTable"),
        CATCH_UP_QUEUE="switchboard-catch-ups",
        AWS_ENDPOINT_URL_DYNAMODB="http://dynamodb:8000",
        AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI="http://127.0.0.1:1/prod",  # no server listens there
    ) as function:
        answer = function({"Records": [record]})
        report = function.record("catch_up.failed", "c-1")

    assert answer == {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}
    assert (report["look"], report["reason"]) == ("second", "failed")


@pytest.mark.parametrize(
    ("command", "event"),
    [
        ("app.entrypoints.aws_lambda.connect", a_connect_event("unlucky")),
        ("app.entrypoints.aws_lambda.disconnect", a_disconnect_event("unlucky")),
    ],
    ids=["connect", "disconnect"],
)
def test_the_answer_is_503_while_the_store_is_unavailable(
    command: str, event: Event, image: str, network: Network
) -> None:
    with running_function(
        image,
        network,
        command=command,
        CONNECTIONS_TABLE="connections",
        AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:8000",  # no server on the container's loopback
    ) as function:
        answer = function(event)
        record = function.record("store.unavailable", "unlucky")

    assert answer["statusCode"] == 503
    assert record["level"] == "ERROR"
    assert record["reason"] == "EndpointConnectionError"
    assert record["write"] == "none"


def test_a_function_without_a_table_name_fails_to_start_with_the_reason(image: str, network: Network) -> None:
    with running_function(image, network) as function:
        answer = function(a_connect_event())

    assert answer["errorType"] == "InvalidSetting"
    assert answer["errorMessage"] == "CONNECTIONS_TABLE is missing: it names the DynamoDB table."
