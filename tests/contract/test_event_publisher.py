"""The promises of EventPublisher, for the log, a bus of EventBridge and the fake."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from app.adapters.eventbridge import EventBridgePublisher
from app.domain.errors import EventsUnavailable
from app.domain.events import EVENT_NAMES, Ended, Event, Expired, NotReplaced, Replaced, Revived, facts_of
from app.domain.lifecycle import ProbeResult
from app.domain.model import MAX_NAME, AccountId, ClientId, RegionName
from app.domain.ports import EventPublisher
from app.domain.presence import Client, Joined, Left, SessionId
from app.entrypoints.publisher import LogPublisher
from tests.builders import a_connection
from tests.dynamodb_local import REGION
from tests.fakes import RecordingPublisher

BUS = "presence"
TABLE = "IncidentWebSocketConnections"
PATIENT = timedelta(seconds=10)

CLIENT = Client(ClientId("wall-é"), AccountId("123456789012"), RegionName("eu-central-1"))
SESSION = SessionId("JKJaXeXAmPl3AbC=@1795251600000")
JOINED, LEFT, EXPIRED = Joined(CLIENT, SESSION), Left(CLIENT, SESSION), Expired(a_connection())
OTHERS: list[Event] = [
    Replaced(a_connection(), ProbeResult.CLOSED),
    NotReplaced(a_connection(), ProbeResult.FAILED),
    Revived(a_connection()),
    Ended(a_connection()),
]

MOST_BYTES = 256 * 1024  # of an entry: EventBridge's user guide, 'Calculating PutEvents event entry size'


@dataclass
class Subject:
    """A publisher under test; ``published`` returns the name and the facts of each event."""

    publisher: EventPublisher
    published: Callable[[], list[tuple[str, dict[str, str]]]]


class Bus:
    """A bus in moto, whose rule puts every event into a queue."""

    def __init__(self, events: Any, sqs: Any) -> None:
        self._sqs = sqs
        self._url = sqs.create_queue(QueueName="backend")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        events.create_event_bus(Name=BUS)
        events.put_rule(Name="all", EventBusName=BUS, EventPattern=json.dumps({"source": ["switchboard"]}))
        events.put_targets(Rule="all", EventBusName=BUS, Targets=[{"Id": "queue", "Arn": arn}])

    def events(self) -> list[dict[str, Any]]:
        """Return the events that have come, in order."""
        messages = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in messages]


@pytest.fixture
def bus() -> Iterator[Bus]:
    with mock_aws():
        session = boto3.session.Session(region_name=REGION)
        with closing(session.client("events")) as events, closing(session.client("sqs")) as sqs:
            yield Bus(events, sqs)


def a_bus_publisher(log: EventPublisher | None = None) -> EventBridgePublisher:
    return EventBridgePublisher(
        log or RecordingPublisher(),
        bus=BUS,
        table=TABLE,
        region=REGION,
        connect_timeout=PATIENT,
        read_timeout=PATIENT,
        attempts=3,
    )


@pytest.fixture(params=["log", "eventbridge", "fake"])
def subject(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Subject:
    match request.param:
        case "fake":
            fake = RecordingPublisher()
            return Subject(fake, lambda: [(EVENT_NAMES[type(it)], facts_of(it)) for it in fake.events])
        case "log":
            caplog.set_level(logging.INFO, logger="switchboard")
            return Subject(LogPublisher(), lambda: logged(caplog))
    bus: Bus = request.getfixturevalue("bus")
    return Subject(
        a_bus_publisher(),
        lambda: [(it["detail-type"], without_table(it["detail"])) for it in bus.events()],
    )


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, str]]]:
    usual = {*vars(logging.makeLogRecord({})), "message"}
    records = [vars(record) for record in caplog.records]
    return [
        (it["event"], {name: value for name, value in it.items() if name not in {*usual, "event"}})
        for it in records
    ]


def without_table(detail: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in detail.items() if name != "table"}


def test_an_event_is_published_by_its_name_with_its_facts(subject: Subject) -> None:
    subject.publisher.publish(JOINED)

    assert subject.published() == [
        (
            "presence.joined",
            {
                "clientId": "wall-é",
                "account": "123456789012",
                "region": "eu-central-1",
                "visitId": "JKJaXeXAmPl3AbC=@1795251600000",
            },
        )
    ]


def test_events_are_published_in_order(subject: Subject) -> None:
    for event in (JOINED, EXPIRED, LEFT):
        subject.publisher.publish(event)

    assert [name for name, _ in subject.published()] == [
        "presence.joined",
        "connection.expired",
        "presence.left",
    ]


def test_an_event_that_is_published_again_has_the_same_facts(subject: Subject) -> None:
    subject.publisher.publish(LEFT)
    subject.publisher.publish(LEFT)

    first, second = subject.published()
    assert first == second


# ---- The bus -----------------------------------------------------------------------------------------------


def test_an_event_on_the_bus_has_its_source_and_the_name_of_the_table(bus: Bus) -> None:
    a_bus_publisher().publish(EXPIRED)

    [event] = bus.events()
    assert (event["source"], event["detail-type"]) == ("switchboard", "connection.expired")
    assert event["detail"] == {
        "connectionId": "c-1",
        "clientId": "dashboard-7",
        "account": "123456789012",
        "region": "ap-northeast-2",
        "table": TABLE,
    }


def test_every_event_is_logged_and_the_bus_has_who_joined_left_and_expired_alone(bus: Bus) -> None:
    log = RecordingPublisher()
    publisher, all_events = a_bus_publisher(log), [JOINED, *OTHERS, LEFT, EXPIRED]
    for event in all_events:
        publisher.publish(event)

    assert log.events == all_events
    assert [it["detail-type"] for it in bus.events()] == [
        "presence.joined",
        "presence.left",
        "connection.expired",
    ]


def entry_of(event: Event) -> dict[str, str]:
    """The entry that an adapter puts onto the bus."""
    entries: list[dict[str, str]] = []
    publisher = a_bus_publisher()
    vars(publisher)["_client"].meta.events.register(
        "provide-client-params.events.PutEvents", lambda params, **_: entries.extend(params["Entries"])
    )
    publisher.publish(event)
    [entry] = entries
    return entry


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(name=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=MAX_NAME))
@example(name="\ufffe\uffff")
@example(name='"},{\\')
def test_any_client_is_put_in_ascii(bus: Bus, name: str) -> None:
    entry = entry_of(Joined(Client(ClientId(name), AccountId(""), RegionName("")), SESSION))

    assert entry["Detail"].isascii()
    assert json.loads(entry["Detail"])["clientId"] == name


@pytest.mark.parametrize("character", ["x", '"', "\\", "é", "🛰", "\U0010fffd"])
def test_the_largest_event_fits_into_an_entry(bus: Bus, character: str) -> None:
    name = ClientId(character * MAX_NAME)
    client = Client(name, AccountId("1" * 12), RegionName("ap-northeast-2"))
    entry = entry_of(Left(client, SessionId(character * MAX_NAME + "@1795251600000")))

    assert sum(len(value.encode()) for value in entry.values()) <= MOST_BYTES / 10


# ---- Without a bus -----------------------------------------------------------------------------------------


def refused(log: RecordingPublisher) -> str:
    """The reason why an event is not taken by the bus."""
    with pytest.raises(EventsUnavailable) as error:
        a_bus_publisher(log).publish(JOINED)
    return error.value.reason


def test_an_event_that_the_bus_does_not_take_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://127.0.0.1:9")
    log = RecordingPublisher()

    assert refused(log) == "EndpointConnectionError"
    assert log.events == []


def test_without_credentials_the_bus_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    assert refused(RecordingPublisher()) == "NoCredentialsError"
