"""The promises of MessageQueue and CatchUps, for the adapters of SQS and the fakes."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from app.adapters.sqs import SENT_AT, SqsCatchUps, SqsQueue, catch_up_from
from app.domain.catching_up import MAX_TOLD
from app.domain.delivery import MessageId
from app.domain.errors import QueueUnavailable
from app.domain.history import CatchUp, Place
from app.domain.lifecycle import ConnectionRef
from app.domain.model import MAX_NAME, ConnectionId
from app.domain.ports import CatchUps, MessageQueue
from tests.builders import NOON, NOON_MS
from tests.dynamodb_local import REGION
from tests.fakes import FakeCatchUps, FakeQueue

NAME = "switchboard-messages"
PATIENT = timedelta(seconds=10)


@dataclass
class Subject:
    """A queue under test; ``take`` returns what is in it, each with the time at which it was first sent."""

    queue: MessageQueue
    take: Callable[[], list[tuple[str, datetime | None]]]


def an_sqs_queue() -> SqsQueue:
    return SqsQueue(name=NAME, region=REGION, connect_timeout=PATIENT, read_timeout=PATIENT, attempts=3)


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


# ---- Clients that come back --------------------------------------------------------------------------------


FIRST = CatchUp(ConnectionRef(ConnectionId("c-1"), NOON), "m-41")
SECOND = CatchUp(
    ConnectionRef(ConnectionId("c-1"), NOON),
    "@1764412345678",
    after=Place(NOON + timedelta(milliseconds=1), MessageId("a/b")),
    told=(MessageId("m-42"), MessageId("m-43")),
    is_second=True,
)

# SQS's API reference, 'SendMessage': the characters and the size of a message
ALLOWED = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
MOST_BYTES = 256 * 1024
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=MAX_NAME)
message_ids = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=MAX_NAME).map(
    MessageId
)
times = st.integers(0, 10**13 - 1).map(lambda ms: EPOCH + timedelta(milliseconds=ms))
requests = st.builds(
    CatchUp,
    st.builds(ConnectionRef, names.map(ConnectionId), times),
    names,
    st.none() | st.builds(Place, times, st.just(MessageId("")) | message_ids),
    st.lists(message_ids, max_size=4).map(tuple),
    is_second=st.booleans(),
)


@dataclass
class CatchUpsSubject:
    """A queue under test; ``take`` returns what was put into it, each request with its delay."""

    catch_ups: CatchUps
    take: Callable[[], list[tuple[CatchUp, timedelta]]]


def sqs_catch_ups() -> SqsCatchUps:
    return SqsCatchUps(name=NAME, region=REGION, connect_timeout=PATIENT, read_timeout=PATIENT, attempts=3)


class Sent:
    """What an adapter sends to SQS: the parameters of each of its calls of ``SendMessage``."""

    def __init__(self, queue: SqsCatchUps) -> None:
        self.parameters: list[dict[str, Any]] = []
        vars(queue)["_client"].meta.events.register("provide-client-params.sqs.SendMessage", self._note)

    def requests(self) -> list[tuple[CatchUp, timedelta]]:
        return [
            (catch_up_from(it["MessageBody"]), timedelta(seconds=it["DelaySeconds"]))
            for it in self.parameters
        ]

    def _note(self, params: dict[str, Any], **_: object) -> None:
        self.parameters.append(params)


@pytest.fixture
def sqs() -> Iterator[SqsCatchUps]:
    """The adapter on a queue in moto."""
    with mock_aws(), closing(boto3.session.Session().client("sqs", region_name=REGION)) as client:
        client.create_queue(QueueName=NAME)
        yield sqs_catch_ups()


@pytest.fixture(params=["sqs", "fake"])
def catch_ups(request: pytest.FixtureRequest) -> CatchUpsSubject:
    if request.param == "fake":
        fake = FakeCatchUps()
        return CatchUpsSubject(fake, lambda: fake.requests)
    adapter = request.getfixturevalue("sqs")
    return CatchUpsSubject(adapter, Sent(adapter).requests)


@pytest.mark.parametrize("request_", [FIRST, SECOND], ids=["first look", "second look"])
def test_a_client_that_is_put_can_be_taken_at_once(catch_ups: CatchUpsSubject, request_: CatchUp) -> None:
    catch_ups.catch_ups.put(request_)

    assert catch_ups.take() == [(request_, timedelta())]


def test_a_client_may_be_put_for_later(catch_ups: CatchUpsSubject) -> None:
    catch_ups.catch_ups.put(FIRST, delay=timedelta(seconds=5))
    catch_ups.catch_ups.put(SECOND, delay=timedelta(seconds=30))

    assert catch_ups.take() == [(FIRST, timedelta(seconds=5)), (SECOND, timedelta(seconds=30))]


@pytest.mark.parametrize(
    ("milliseconds", "seconds"), [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (4999, 5), (30_000, 30)]
)
def test_a_delay_is_rounded_up_to_seconds_in_sqs(sqs: SqsCatchUps, milliseconds: int, seconds: int) -> None:
    sent = Sent(sqs)
    sqs.put(FIRST, delay=timedelta(milliseconds=milliseconds))

    assert [it["DelaySeconds"] for it in sent.parameters] == [seconds]


def test_a_client_is_taken_from_sqs_as_it_was_put(sqs: SqsCatchUps) -> None:
    sqs.put(SECOND)

    with closing(boto3.session.Session().client("sqs", region_name=REGION)) as client:
        url = client.get_queue_url(QueueName=NAME)["QueueUrl"]
        [message] = client.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(message["Body"]) == {
        "connectionId": "c-1",
        "beganAt": NOON_MS,
        "since": "@1764412345678",
        "after": [NOON_MS + 1, "a/b"],
        "told": ["m-42", "m-43"],
        "isSecond": True,
    }
    assert catch_up_from(message["Body"]) == SECOND


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request_=requests)
@example(request_=FIRST._replace(since="\ufffe\uffff"))
def test_any_client_is_put_in_characters_that_sqs_takes(sqs: SqsCatchUps, request_: CatchUp) -> None:
    sent = Sent(sqs)
    sqs.put(request_)

    assert ALLOWED.fullmatch(sent.parameters[-1]["MessageBody"])
    assert sent.requests() == [(request_, timedelta())]


@pytest.mark.parametrize("character", ["x", '"', "\\", "é", "🛰", "\U0010fffd"])
def test_the_longest_request_fits_into_a_message(sqs: SqsCatchUps, character: str) -> None:
    name = character * MAX_NAME
    request = CatchUp(
        ConnectionRef(ConnectionId(name), NOON),
        name,
        after=Place(NOON, MessageId(name)),
        told=(MessageId(name),) * MAX_TOLD,
    )
    sent = Sent(sqs)
    sqs.put(request)

    assert len(sent.parameters[0]["MessageBody"].encode()) <= MOST_BYTES


@pytest.mark.parametrize("body", ["", "no JSON", "[]", "{}", '{"connectionId":"c-1"}'])
def test_what_is_no_request_is_a_bug(body: str) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        catch_up_from(body)


# ---- Without a queue ---------------------------------------------------------------------------------------


def put_message() -> None:
    an_sqs_queue().put("{}")


def put_client() -> None:
    sqs_catch_ups().put(FIRST)


PUTS = [put_message, put_client]


@pytest.mark.parametrize("put", PUTS)
def test_a_queue_that_does_not_exist_is_unavailable(put: Callable[[], None]) -> None:
    with mock_aws(), pytest.raises(QueueUnavailable) as error:
        put()
    assert "QueueDoesNotExist" in error.value.reason or "NonExistentQueue" in error.value.reason


@pytest.mark.parametrize("put", PUTS)
def test_a_queue_that_can_not_be_reached_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, put: Callable[[], None]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")

    with pytest.raises(QueueUnavailable, match="EndpointConnectionError"):
        put()


@pytest.mark.parametrize("put", PUTS)
def test_without_credentials_the_queue_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, put: Callable[[], None]
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(QueueUnavailable, match="NoCredentialsError"):
        put()
