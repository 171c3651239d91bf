"""The handler of the presence table's stream: what a session's beginning and end are published as."""

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from app.adapters.dynamodb.presence import presence_from
from app.domain.errors import EventsUnavailable
from app.domain.events import Event as DomainEvent
from app.domain.ports import EventPublisher
from app.domain.tracking import PublishPresence
from app.entrypoints.presence import PresenceHandler
from app.entrypoints.publisher import LogPublisher
from app.settings import LONGEST_STORE_CALL
from tests.builders import Event, Invocation, an_event
from tests.fakes import FixedClock, RecordingPublisher

SESSION = {
    "visitId": "JKJaXeXAmPl3AbC=@1795251600000",
    "clientId": "dashboard-7",
    "account": "123456789012",
    "region": "ap-northeast-2",
}
JOINED, LEFT = "448800000000098765432101", "448900000000098765432155"
ALL_PROCESSED: dict[str, list[dict[str, str]]] = {"batchItemFailures": []}


class UnavailableBus(RecordingPublisher):
    """A publisher whose bus takes nothing."""

    def publish(self, event: DomainEvent) -> None:
        raise EventsUnavailable("ThrottlingException")


class SlowPublisher(LogPublisher):
    """A publisher that takes its time."""

    def __init__(self, clock: FixedClock, takes: timedelta) -> None:
        self._clock = clock
        self._takes = takes

    def publish(self, event: DomainEvent) -> None:
        self._clock.advance(self._takes)
        super().publish(event)


def a_handler(publisher: EventPublisher | None = None, clock: FixedClock | None = None) -> PresenceHandler:
    return PresenceHandler(PublishPresence(publisher or LogPublisher()), presence_from, clock or FixedClock())


def batch(*names: str) -> Event:
    """One event with the records of several."""
    return {"Records": [record for name in names for record in an_event(name)["Records"]]}


def failed_from(number: str) -> dict[str, list[dict[str, str]]]:
    return {"batchItemFailures": [{"itemIdentifier": number}]}


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        yield


def logged(caplog: pytest.LogCaptureFixture, *fields: str) -> list[tuple[object, ...]]:
    """The *fields* of each log record."""
    return [tuple(vars(record).get(field) for field in fields) for record in caplog.records]


def test_a_session_that_begins_and_ends_is_logged_as_joined_and_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert a_handler()(batch("presence_insert", "presence_modify"), Invocation()) == ALL_PROCESSED
    assert logged(caplog, "event", *SESSION) == [
        ("presence.joined", *SESSION.values()),
        ("presence.left", *SESSION.values()),
    ]
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_a_repeated_record_is_the_same_session_again(caplog: pytest.LogCaptureFixture) -> None:
    a_handler()(batch("presence_insert", "presence_insert"), Invocation())

    assert logged(caplog, "event", "visitId") == [("presence.joined", SESSION["visitId"])] * 2


def test_a_session_whose_item_is_deleted_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    event = an_event("presence_insert")
    record = event["Records"][0]
    record["eventName"], record["dynamodb"]["OldImage"] = "REMOVE", record["dynamodb"].pop("NewImage")

    assert a_handler()(event, Invocation()) == ALL_PROCESSED
    assert logged(caplog, "event") == [("presence.left",)]


def test_a_change_of_a_connection_alone_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    event = an_event("presence_modify")
    images = event["Records"][0]["dynamodb"]
    images["NewImage"] = images["OldImage"] | {"version": {"S": "0123456789abcdef"}}

    assert a_handler()(event, Invocation()) == ALL_PROCESSED
    assert logged(caplog, "event") == []


@pytest.mark.parametrize(
    ("partition", "part"),
    [
        ("left#JKJaXeXAmPl3AbC=", "left"),
        ("further#JKJaXeXAmPl3AbC=@1795251600000", "000001795251600000/JKJaXeXAmPl3AbC="),
        ('client#["dashboard-7","123456789012","ap-northeast-2"]', "presence/5f0c7d1e9a3b2846"),
    ],
    ids=["left", "further connection", "earlier departures"],
)
def test_an_item_that_is_not_a_presence_is_not_logged(
    caplog: pytest.LogCaptureFixture, partition: str, part: str
) -> None:
    event = an_event("presence_insert")
    event["Records"][0]["dynamodb"]["Keys"] = {"id": {"S": partition}, "part": {"S": part}}

    assert a_handler()(event, Invocation()) == ALL_PROCESSED
    assert logged(caplog, "event") == []


def test_what_the_bus_does_not_take_is_delivered_again_with_all_after_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = a_handler(UnavailableBus())(batch("presence_insert", "presence_modify"), Invocation())

    assert response == failed_from(JOINED)
    assert logged(caplog, "event", "reason", "sequenceNumber", "id", "levelname") == [
        (
            "store.unavailable",
            "ThrottlingException",
            JOINED,
            'client#["dashboard-7","123456789012","ap-northeast-2"]',
            "ERROR",
        )
    ]


def test_near_the_deadline_the_next_record_is_left_to_another_delivery() -> None:
    clock = FixedClock()
    handler = a_handler(SlowPublisher(clock, timedelta(seconds=2)), clock)

    response = handler(
        batch("presence_insert", "presence_modify"), Invocation(LONGEST_STORE_CALL + timedelta(seconds=1))
    )

    assert response == failed_from(LEFT)


@pytest.mark.parametrize("missing", ["Keys", "NewImage"])
def test_a_record_that_can_not_be_read_is_a_bug(caplog: pytest.LogCaptureFixture, missing: str) -> None:
    event = an_event("presence_insert")
    del event["Records"][0]["dynamodb"][missing]

    assert a_handler()(event, Invocation()) == failed_from(JOINED)
    assert logged(caplog, "event", "sequenceNumber") == [("bug", JOINED)]
