"""The promises of MessageQueue, for the adapter of SQS and the fake."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from app.adapters.sqs import SENT_AT, SqsQueue
from app.domain.errors import QueueUnavailable
from app.domain.ports import MessageQueue
from tests.builders import NOON
from tests.dynamodb_local import REGION
from tests.fakes import FakeQueue

NAME = "switchboard-messages"


@dataclass
class Subject:
    """A queue under test; ``take`` returns what is in it, each with the time at which it was first sent."""

    queue: MessageQueue
    take: Callable[[], list[tuple[str, datetime | None]]]


def an_sqs_queue() -> SqsQueue:
    patient = timedelta(seconds=10)
    return SqsQueue(name=NAME, region=REGION, connect_timeout=patient, read_timeout=patient)


@pytest.fixture(params=["sqs", "fake"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "fake":
        fake = FakeQueue()
        yield Subject(fake, lambda: fake.messages)
        return
    with mock_aws(), closing(boto3.session.Session().client("sqs", region_name=REGION)) as client:
        url = client.create_queue(QueueName=NAME)["QueueUrl"]

        def take() -> list[tuple[str, datetime | None]]:
            found: Any = client.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
            ).get("Messages", [])
            texts = [it.get("MessageAttributes", {}).get(SENT_AT, {}).get("StringValue") for it in found]
            times = [None if text is None else datetime.fromisoformat(text) for text in texts]
            return [(it["Body"], time) for it, time in zip(found, times, strict=True)]

        yield Subject(an_sqs_queue(), take)


def test_a_message_that_is_put_can_be_taken(subject: Subject) -> None:
    subject.queue.put('{"id": "é"}')

    assert subject.take() == [('{"id": "é"}', None)]


def test_a_message_may_say_when_it_was_first_sent(subject: Subject) -> None:
    subject.queue.put("{}", sent_at=NOON)

    assert subject.take() == [("{}", NOON)]


def test_several_messages_can_be_put(subject: Subject) -> None:
    for number in range(3):
        subject.queue.put(str(number))

    assert sorted(body for body, _ in subject.take()) == ["0", "1", "2"]


def test_a_queue_that_does_not_exist_is_unavailable() -> None:
    with mock_aws(), pytest.raises(QueueUnavailable) as error:
        an_sqs_queue().put("{}")
    assert "QueueDoesNotExist" in error.value.reason or "NonExistentQueue" in error.value.reason


def test_a_queue_that_can_not_be_reached_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")

    with pytest.raises(QueueUnavailable, match="EndpointConnectionError"):
        an_sqs_queue().put("{}")


def test_without_credentials_the_queue_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(QueueUnavailable, match="NoCredentialsError"):
        an_sqs_queue().put("{}")
