"""Sending on the local stack: from the queue, EventBridge, SNS or the command line to real sockets."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from websockets.sync.client import ClientConnection

from infra.clients import messages_of, open_client
from infra.local import local_stack
from infra.process import find_uv
from infra.stack import LocalStack, Record
from tests.deadline import eventually
from tests.lanes import leave_out

ROOT = Path(__file__).parent.parent.parent
ACCOUNT = "000000000000"  # the emulator's own, which its events have
REGION = "us-east-1"
OTHER = "999999999999"


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    if find_uv() is None:
        leave_out("no uv on this machine")
    with local_stack() as stack:
        yield stack


@pytest.fixture
def clients(stack: LocalStack) -> Iterator[dict[str, ClientConnection]]:
    """Four dashboards: of the account and the region, of all its regions, of another region and account."""
    watching = {
        "here": {"account": ACCOUNT, "region": REGION},
        "everywhere": {"account": ACCOUNT},
        "elsewhere": {"account": ACCOUNT, "region": "eu-central-1"},
        "others": {"account": OTHER, "region": REGION},
        "unscoped": {},
    }
    with ExitStack() as opened:
        yield {
            name: opened.enter_context(open_client(stack.websocket_url, {"clientId": name} | query))
            for name, query in watching.items()
        }
    eventually(lambda: stack.connections() == [])


def aws(stack: LocalStack, service: Any) -> Any:
    """A client of the emulator's *service*."""
    return boto3.session.Session("test", "test", region_name=REGION).client(
        service, endpoint_url=stack.environment["AWS_ENDPOINT_URL"], config=Config(proxies={})
    )


def attributes(stack: LocalStack, url: str | None = None) -> dict[str, str]:
    """The attributes of a queue, by default of that of messages."""
    queue = stack.queue.get_queue_attributes(QueueUrl=url or stack.queue_url, AttributeNames=["All"])
    return {str(name): value for name, value in queue["Attributes"].items()}


def a_message(**changes: Any) -> Record:
    audience = {"account": ACCOUNT, "region": REGION}
    whole = {"id": uuid4().hex, "type": "incident.opened", "audience": audience, "data": {"severity": 8}}
    return whole | changes


def who_received(clients: dict[str, ClientConnection]) -> set[str]:
    return {name for name, client in clients.items() if messages_of(client)}


def finished(stack: LocalStack, message_id: str) -> Record:
    """The record of a delivery, once it is finished."""

    def found() -> list[Record]:
        return [it for it in stack.records("delivery.finished") if it["messageId"] == message_id]

    eventually(lambda: bool(found()))
    return found()[0]


def test_a_message_reaches_exactly_whom_it_concerns(
    stack: LocalStack, clients: dict[str, ClientConnection]
) -> None:
    message = a_message()

    report = stack.send(message)

    assert who_received(clients) == {"here", "everywhere"}
    assert (report["selected"], report["delivered"]) == (2, 2)


def test_clients_get_id_time_type_and_data(stack: LocalStack, clients: dict[str, ClientConnection]) -> None:
    message = a_message()

    stack.send(message)

    [got] = messages_of(clients["here"])
    assert got.keys() == {"id", "time", "type", "data"}
    assert (got["id"], got["type"], got["data"]) == (message["id"], message["type"], message["data"])


def test_everyone_gets_what_is_for_everyone(stack: LocalStack, clients: dict[str, ClientConnection]) -> None:
    stack.send(a_message(audience={"everyone": True}))

    assert who_received(clients) == set(clients)


def test_a_client_gets_what_is_for_it(stack: LocalStack, clients: dict[str, ClientConnection]) -> None:
    stack.send(a_message(audience={"client": "others"}))

    assert who_received(clients) == {"others"}


def test_an_event_of_eventbridge_needs_no_transformer(
    stack: LocalStack, clients: dict[str, ClientConnection]
) -> None:
    arn = attributes(stack)["QueueArn"]
    with closing(aws(stack, "events")) as events:
        events.put_rule(Name="incidents", EventPattern=json.dumps({"source": ["acme.incidents"]}))
        events.put_targets(Rule="incidents", Targets=[{"Id": "queue", "Arn": arn}])
        entry = {"Source": "acme.incidents", "DetailType": "Incident", "Detail": json.dumps({"severity": 9})}
        [put] = events.put_events(Entries=[entry])["Entries"]

    finished(stack, put["EventId"])

    [got] = messages_of(clients["here"])
    assert (got["id"], got["type"], got["data"]) == (put["EventId"], "Incident", {"severity": 9})
    assert who_received(clients) == {"everywhere"}  # besides


def test_a_message_published_to_a_topic_is_unwrapped(
    stack: LocalStack, clients: dict[str, ClientConnection]
) -> None:
    message = a_message()
    arn = attributes(stack)["QueueArn"]
    with closing(aws(stack, "sns")) as sns:
        topic = sns.create_topic(Name="incidents")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        sns.publish(TopicArn=topic, Message=json.dumps(message))

    finished(stack, message["id"])

    assert who_received(clients) == {"here", "everywhere"}


def test_a_message_that_comes_twice_is_delivered_once(
    stack: LocalStack, clients: dict[str, ClientConnection]
) -> None:
    message = a_message()
    stack.send(message)
    stack.queue.send_message(QueueUrl=stack.queue_url, MessageBody=json.dumps(message))

    eventually(lambda: any(it["messageId"] == message["id"] for it in stack.records("delivery.repeated")))

    assert len(messages_of(clients["here"])) == 1


def test_a_message_that_can_not_be_sent_ends_in_the_dead_letter_queue_with_its_reason_in_the_log(
    stack: LocalStack,
) -> None:
    before = attributes(stack)
    dead_arn = json.loads(before["RedrivePolicy"])["deadLetterTargetArn"]
    dead = stack.queue.get_queue_url(QueueName=dead_arn.rpartition(":")[2])["QueueUrl"]
    message = a_message(audience={"region": REGION})
    stack.queue.set_queue_attributes(QueueUrl=stack.queue_url, Attributes={"VisibilityTimeout": "0"})
    try:
        stack.queue.send_message(QueueUrl=stack.queue_url, MessageBody=json.dumps(message))
        eventually(lambda: _depth(stack, dead) == 1)
    finally:
        stack.queue.set_queue_attributes(
            QueueUrl=stack.queue_url, Attributes={"VisibilityTimeout": before["VisibilityTimeout"]}
        )

    reasons = {it["reason"] for it in stack.records("delivery.refused")}
    assert reasons == {"The audience has a region without its account."}
    assert _depth(stack, stack.queue_url) == 0


def test_the_command_line_sends_and_shows_the_report(
    stack: LocalStack, clients: dict[str, ClientConnection], tmp_path: Path
) -> None:
    (tmp_path / "incident.json").write_text('{"title": "Disk full"}')
    where = ("--account", ACCOUNT, "--region", REGION)
    what = ("--type", "incident.opened", "--data", f"@{tmp_path}/incident.json")

    priced = json.loads(_command(stack, "send", *where, *what, "--dry-run", "--json"))
    nobody = who_received(clients)
    report = json.loads(_command(stack, "send", *where, *what, "--wait", "--json"))
    again = json.loads(_command(stack, "deliveries", report["id"], "--json"))

    assert priced["recipients"] == {REGION: 2}
    assert nobody == set()
    assert (report["finished"], report["selected"], report["delivered"]) == (True, 2, 2)
    assert again == report
    assert who_received(clients) == {"here", "everywhere"}


def _command(stack: LocalStack, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env=os.environ | stack.environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    ).stdout


def _depth(stack: LocalStack, url: str) -> int:
    of_queue = attributes(stack, url)
    visible, hidden = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
    return int(of_queue[visible]) + int(of_queue[hidden])
