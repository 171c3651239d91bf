"""Presence on a bus of EventBridge, and from there in a backend's queue, on the local stack."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.config import Config

from infra.clients import open_client
from infra.local import local_stack
from infra.process import find_uv
from infra.stack import LocalStack, Record
from tests import dynamodb_local
from tests.builders import an_event
from tests.deadline import eventually
from tests.lanes import leave_out

REGION = "us-east-1"
BUS = "presence"
WALL = {"clientId": "wall-3", "account": "123456789012", "region": "eu-central-1"}
PROCESSED: Record = {"batchItemFailures": []}


@dataclass
class Backend:
    """A queue behind a rule of the bus; it keeps what it has received."""

    sqs: Any
    url: str
    received: list[Record] = field(default_factory=list)

    def events(self, **detail: str) -> list[Record]:
        """Return all events with *detail* that have come so far, in order."""
        while messages := self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            self.received += [json.loads(message["Body"]) for message in messages]
            for message in messages:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return [it for it in self.received if detail.items() <= it["detail"].items()]


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    if find_uv() is None:
        leave_out("no uv on this machine")
    with local_stack(parameters={"PresenceBus": BUS}) as stack:
        yield stack


@pytest.fixture(scope="module")
def backend(stack: LocalStack) -> Iterator[Backend]:
    with closing(aws(stack, "events")) as events, closing(aws(stack, "sqs")) as sqs:
        url = sqs.create_queue(QueueName="backend")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        pattern = {"source": ["switchboard"], "detail": {"table": [stack.table]}}
        events.create_event_bus(Name=BUS)
        events.put_rule(Name="backend", EventBusName=BUS, EventPattern=json.dumps(pattern))
        events.put_targets(Rule="backend", EventBusName=BUS, Targets=[{"Id": "queue", "Arn": arn}])
        yield Backend(sqs, url)


def aws(stack: LocalStack, service: Any) -> Any:
    """A client of the emulator's *service*."""
    return boto3.session.Session("test", "test", region_name=REGION).client(
        service, endpoint_url=stack.environment["AWS_ENDPOINT_URL"], config=Config(proxies={})
    )


def visit(stack: LocalStack, backend: Backend, client_id: str) -> None:
    """Come and leave as a client; what came before it on the streams has been processed then."""
    with open_client(stack.websocket_url, {"clientId": client_id}):
        eventually(lambda: names(backend, client_id) == ["presence.joined"])
    eventually(lambda: names(backend, client_id) == ["presence.joined", "presence.left"])


def names(backend: Backend, client_id: str) -> list[str]:
    return [it["detail-type"] for it in backend.events(clientId=client_id)]


def records_of(stack: LocalStack, table: str) -> list[Record]:
    """The records of a table's stream so far."""
    with closing(aws(stack, "dynamodbstreams")) as streams:
        return dynamodb_local.records_of(streams, table)


def presence_table(stack: LocalStack) -> str:
    with closing(aws(stack, "dynamodbstreams")) as streams:
        tables = {it["TableName"] for it in streams.list_streams()["Streams"]}
    [name] = tables - {stack.table}
    return str(name)


def about(client_id: str, records: list[Record]) -> list[Record]:
    return [it for it in records if client_id in json.dumps(it)]


def test_a_backend_gets_joined_and_left_of_a_session_once_each(stack: LocalStack, backend: Backend) -> None:
    with ExitStack() as tabs:
        for _ in range(3):
            tabs.enter_context(open_client(stack.websocket_url, WALL))
        connections = {it.id for it in stack.connections()}
        eventually(lambda: names(backend, "wall-3") != [])
    eventually(lambda: "presence.left" in names(backend, "wall-3"))
    visit(stack, backend, "later")

    joined, left = backend.events(clientId="wall-3")
    assert (joined["detail-type"], left["detail-type"]) == ("presence.joined", "presence.left")
    assert joined["source"] == left["source"] == "switchboard"
    assert joined["detail"] == left["detail"]
    assert joined["detail"] == WALL | {"table": stack.table, "visitId": joined["detail"]["visitId"]}
    assert joined["detail"]["visitId"].partition("@")[0] in connections


def test_records_that_come_again_repeat_the_same_session(stack: LocalStack, backend: Backend) -> None:
    visit(stack, backend, "comes-again")
    [session] = {it["detail"]["visitId"] for it in backend.events(clientId="comes-again")}
    changes = about("comes-again", records_of(stack, stack.table))
    presence = about("comes-again", records_of(stack, presence_table(stack)))

    again = [stack.invoke("Changes", {"Records": changes}), stack.invoke("Presence", {"Records": presence})]
    visit(stack, backend, "after-it")

    assert len(changes) == 2
    assert again == [PROCESSED, PROCESSED]
    assert names(backend, "comes-again") == ["presence.joined", "presence.left"] * 2
    assert {it["detail"]["visitId"] for it in backend.events(clientId="comes-again")} == {session}


def test_an_expired_connection_is_on_the_bus(stack: LocalStack, backend: Backend) -> None:
    event = an_event("stream_remove_by_ttl")
    [record] = event["Records"]
    record["dynamodb"]["OldImage"]["clientId"] = {"S": "expired"}

    answer = stack.invoke("Changes", event)
    eventually(lambda: names(backend, "expired") == ["connection.expired"])

    [expired] = backend.events(clientId="expired")
    assert answer == PROCESSED
    assert expired["detail"]["connectionId"] == record["dynamodb"]["Keys"]["connectionId"]["S"]
    assert "presence.joined" not in names(backend, "expired")
