"""The messages in infra/asyncapi.yaml are those of the code: examples, formats, names and numbers."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from app.adapters.eventbridge import SOURCE, EventBridgePublisher
from app.adapters.gateway import ManagementApiGateway
from app.adapters.messages import (
    _AUDIENCE,
    _EVENTBRIDGE,
    _MAX_TYPE,
    _OURS,
    _SNS,
    JsonNotices,
    audience_from,
    message_from,
)
from app.adapters.sqs import SENT_AT
from app.domain.delivery import Message
from app.domain.errors import InvalidMessage
from app.domain.events import EVENT_NAMES, Ended, Event, Expired, NotReplaced, Replaced, Revived
from app.domain.history import moment, position
from app.domain.lifecycle import ConnectionRef, ProbeResult
from app.domain.model import MAX_NAME, AccountId, ClientId, ConnectionId, RegionName
from app.domain.presence import Client, Joined, Left, Presence
from app.entrypoints.send import _sent_at
from tests.asyncapi import Json, examples, faults, part
from tests.builders import NOON, a_connection
from tests.fakes import RecordingPublisher
from tests.integration.management_api import management_api

CLIENT = Client(ClientId("wall-3"), AccountId("123456789012"), RegionName("eu-central-1"))
QUEUED = ("ownMessage", "awsEvent", "snsEnvelope")
RECEIVED = ("message", "keepAlive", "gap", "caughtUp")
ON_THE_BUS = ("presenceJoined", "presenceLeft", "connectionExpired")
REGION = "eu-central-1"
BUS = "presence"
TABLE = "IncidentWebSocketConnections"
PATIENT = timedelta(seconds=10)

TEXTS = st.text(max_size=260)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)
AUDIENCE_VALUES: dict[str, list[Json]] = {
    "account": ["123456789012", "", "12"],
    "region": ["eu-central-1", "", "nowhere"],
    "client": ["wall-3", "x" * (MAX_NAME + 1)],
    "connection": ["JKJaXeXAmPl3AbC=", "a\tb"],
    "everyone": [True, 1],
    "other": ["x"],
}
AUDIENCES = st.sampled_from([{"everyone": True}, {"account": "123456789012"}, {"client": ""}])


def schema_of(message: str) -> str:
    return f"components/messages/{message}/payload"


def sent_at(message: str) -> datetime:
    """Return when a queue's example was sent: as its attribute says, or without one NOON."""
    [given_] = part(f"components/messages/{message}/examples")
    if "headers" not in given_:
        return NOON
    attributes = {name: {"stringValue": value} for name, value in given_["headers"].items()}
    return _sent_at({"messageAttributes": attributes, "attributes": {"SentTimestamp": "0"}})


def read(message: str) -> Message:
    return message_from(json.dumps(examples(message)[message]), sent_at(message))[0]


@pytest.mark.parametrize("name", [*QUEUED, *RECEIVED, *ON_THE_BUS])
def test_each_example_is_of_its_schema_and_of_no_other_in_its_operation(name: str) -> None:
    group = next(it for it in (QUEUED, RECEIVED, ON_THE_BUS) if name in it)
    payloads = examples(name).values()

    assert payloads
    for payload in payloads:
        assert [it for it in group if not faults(schema_of(it), payload)] == [name]


def test_every_message_is_checked_here() -> None:
    channels = part("channels")

    assert set(part("components/messages")) == {*QUEUED, *RECEIVED, *ON_THE_BUS}
    assert [set(channels[it]["messages"]) for it in ("messages", "connection", "presence")] == [
        set(QUEUED),
        set(RECEIVED),
        set(ON_THE_BUS),
    ]


@pytest.mark.parametrize("name", QUEUED)
def test_clients_get_of_each_queued_example_the_example_of_the_same_name(name: str) -> None:
    assert json.loads(read(name).frame) == examples("message")[name]
    assert set(examples("message")) == set(QUEUED)


def test_the_time_of_an_example_is_that_of_its_attribute() -> None:
    assert set(part("components/schemas/queueAttributes/properties")) == {SENT_AT}
    assert read("ownMessage").time == datetime(2026, 11, 29, 13, 18, 8, 124000, UTC)


def test_the_notices_are_those_that_the_adapter_makes() -> None:
    notices = JsonNotices()
    [caught_up], [gap] = (examples(it).values() for it in ("caughtUp", "gap"))

    assert json.loads(notices.caught_up(caught_up["since"])) == caught_up
    assert json.loads(notices.gap(gap["since"])) == gap


def test_a_keep_alive_is_the_one_that_the_gateway_adapter_sends() -> None:
    [example] = examples("keepAlive").values()

    with management_api() as api:
        gateway = ManagementApiGateway(
            region=REGION, endpoint=api.endpoint, connect_timeout=PATIENT, timeout=PATIENT
        )
        list(gateway.keep_alive([a_connection()], example["since"]))

    assert [json.loads(frame) for frame in api.frames["c-1"]] == [example]


@given(at=st.datetimes(datetime(2018, 12, 18), datetime(2286, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis adds the zone
def test_every_position_is_of_its_schema_and_is_read_again(at: datetime) -> None:
    told = position(at)

    assert faults("components/schemas/position", told) == []
    assert moment(told) == at.replace(microsecond=at.microsecond // 1000 * 1000)


@given(since=st.text(max_size=MAX_NAME).filter(str.isprintable).filter(bool))
def test_a_gap_has_any_text_that_a_client_may_say(since: str) -> None:
    assert faults(schema_of("gap"), json.loads(JsonNotices().gap(since))) == []


@given(id_=TEXTS, type_=TEXTS, data=JSON, audience=AUDIENCES)
def test_a_message_that_is_taken_is_of_its_schema_and_so_is_what_clients_get(
    id_: str, type_: str, data: Json, audience: Json
) -> None:
    body = {"id": id_, "type": type_, "data": data, "audience": audience}
    try:
        message, _ = message_from(json.dumps(body), NOON)
    except InvalidMessage:
        return

    assert faults(schema_of("ownMessage"), body) == []
    assert faults(schema_of("message"), json.loads(message.frame)) == []


def test_an_audience_is_taken_exactly_if_its_schema_says_so() -> None:
    taken = {True: 0, False: 0}
    for audience in every_audience():
        try:
            audience_from(audience)
            is_taken = True
        except InvalidMessage:
            is_taken = False
        taken[is_taken] += 1
        assert (faults("components/schemas/audience", audience) == []) == is_taken, audience

    assert taken[True] == 7


def every_audience() -> Iterator[dict[str, Json]]:
    """Yield every combination of these values and of none."""
    for values in product(*(("absent", *its) for its in AUDIENCE_VALUES.values())):
        yield {name: it for name, it in zip(AUDIENCE_VALUES, values, strict=True) if it != "absent"}


@pytest.mark.parametrize("field", ["id", "type"])
def test_a_text_of_a_message_is_as_long_as_its_schema_allows(field: str) -> None:
    most = {"id": MAX_NAME, "type": _MAX_TYPE}[field]
    shape = {"id": "x", "type": "x", "audience": {"everyone": True}, "data": 1}

    assert faults(schema_of("ownMessage"), shape | {field: "x" * most}) == []
    assert faults(schema_of("ownMessage"), shape | {field: "x" * (most + 1)})


def test_the_fields_are_the_adapters() -> None:
    own = part("components/schemas/ownMessage")
    audiences = part("components/schemas/audience/oneOf")

    assert (set(own["properties"]), set(own["required"])) == (_OURS, _OURS - {"expiresAt"})
    assert {name for it in audiences for name in it["properties"]} == _AUDIENCE
    assert set(part("components/schemas/awsEvent/required")) == _EVENTBRIDGE
    assert set(part("components/schemas/snsEnvelope/required")) == _SNS


@pytest.fixture
def publish() -> Iterator[Callable[[Event], list[dict[str, Any]]]]:
    """Publish an event by the adapter; what comes to the target of a rule on the bus."""
    with mock_aws():
        session = boto3.session.Session(region_name=REGION)
        with closing(session.client("events")) as events, closing(session.client("sqs")) as sqs:
            url = sqs.create_queue(QueueName="backend")["QueueUrl"]
            attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
            events.create_event_bus(Name=BUS)
            pattern = json.dumps({"source": [SOURCE]})
            events.put_rule(Name="all", EventBusName=BUS, EventPattern=pattern)
            target = {"Id": "queue", "Arn": attributes["QueueArn"]}
            events.put_targets(Rule="all", EventBusName=BUS, Targets=[target])  # type: ignore[list-item]  # a plain dictionary
            publisher = EventBridgePublisher(
                RecordingPublisher(),
                bus=BUS,
                table=TABLE,
                region=REGION,
                connect_timeout=PATIENT,
                read_timeout=PATIENT,
                attempts=1,
            )

            def published(event: Event) -> list[dict[str, Any]]:
                publisher.publish(event)
                got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
                return [json.loads(it["Body"]) for it in got]

            yield published


def a_session() -> Any:
    """The session of the examples: that of the connection with which it began."""
    began_at = moment("@1764412345678")
    assert began_at is not None
    return (
        Presence(CLIENT).connected(ConnectionRef(ConnectionId("JKJaXeXAmPl3AbC="), began_at), room=1).session
    )


EXPIRED = Expired(
    a_connection(id="JKJaXeXAmPl3AbC=", client_id="wall-3", account="123456789012", region=REGION)
)


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("presenceJoined", Joined(CLIENT, a_session())),
        ("presenceLeft", Left(CLIENT, a_session())),
        ("connectionExpired", EXPIRED),
    ],
)
def test_a_backend_gets_the_example_of_each_event(
    name: str, event: Event, publish: Callable[[Event], list[dict[str, Any]]]
) -> None:
    [example] = examples(name).values()

    [got] = publish(event)

    same = ("source", "detail-type", "detail")
    assert {it: got[it] for it in same} == {it: example[it] for it in same}
    assert got.keys() <= example.keys()
    assert faults(schema_of(name), example | got) == []


def test_the_bus_gets_what_is_documented_and_no_other_event(
    publish: Callable[[Event], list[dict[str, Any]]],
) -> None:
    connection = a_connection()
    all_events: list[Event] = [
        Joined(CLIENT, a_session()),
        Left(CLIENT, a_session()),
        Expired(connection),
        Replaced(connection, ProbeResult.CLOSED),
        NotReplaced(connection, ProbeResult.FAILED),
        Revived(connection),
        Ended(connection),
    ]
    names = [it["detail-type"] for event in all_events for it in publish(event)]

    assert {type(it) for it in all_events} == set(EVENT_NAMES)
    assert set(names) == {part(f"components/schemas/{it}/properties/detail-type/const") for it in ON_THE_BUS}
    assert {part(f"components/schemas/{it}/properties/source/const") for it in ON_THE_BUS} == {SOURCE}
