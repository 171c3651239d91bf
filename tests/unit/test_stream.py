"""The stream's handler: published events as log records, and which records are to be delivered again."""

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from app.adapters.dynamodb.items import entry_from
from app.adapters.memory import MemoryConnectionTable, MemoryPresenceStore
from app.adapters.threads import ThreadWorkers
from app.domain.errors import EventsUnavailable, QueueUnavailable, StorageUnavailable
from app.domain.events import Event as DomainEvent
from app.domain.history import CatchUp
from app.domain.lifecycle import ConnectionRef, ProbeResult
from app.domain.model import Connection, ConnectionId
from app.domain.operations import EvictConnection
from app.domain.ports import EventPublisher
from app.domain.presence import Client, Presence
from app.domain.sessions import Sessions
from app.domain.tracking import PublishPresence, TrackPresence
from app.entrypoints.publisher import LogPublisher
from app.entrypoints.stream import RECORD_RESERVE, StreamHandler
from app.settings import LONGEST_STORE_CALL
from tests.builders import Event, Invocation, an_event
from tests.fakes import FakeCatchUps, FakeGateway, FixedClock, RecordingPublisher

STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "exc_text"}

INSERTED = "448800000000012345678901"
REMOVED = "448900000000012345678955"
SESSION = "JKJaXeXAmPl3AbC=@1795251600000"
DASHBOARD = {"clientId": "dashboard-7", "account": "123456789012", "region": "ap-northeast-2"}
CONNECTION = {"connectionId": "JKJaXeXAmPl3AbC="} | DASHBOARD
ALL_PROCESSED: dict[str, Any] = {"batchItemFailures": []}


class LoggedPresence(MemoryPresenceStore):
    """A presence store whose own stream is published into the log at once."""

    def __init__(self) -> None:
        super().__init__(PublishPresence(LogPublisher()))


class FailingPresence(LoggedPresence):
    """A presence store that raises the same error whenever a connection leaves."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def change(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        def failing_step(presence: Presence) -> Presence:
            changed = step(presence)
            if changed.departures > presence.departures:
                raise self._error
            return changed

        return super().change(client, failing_step)

    def mark_left(self, ref: ConnectionRef) -> None:
        raise self._error


class SlowPresence(LoggedPresence):
    """A presence store on which a change takes its time."""

    def __init__(self, clock: FixedClock, takes: timedelta) -> None:
        super().__init__()
        self._clock = clock
        self._takes = takes

    def change(self, client: Client, step: Callable[[Presence], Presence]) -> Presence:
        self._clock.advance(self._takes)
        return super().change(client, step)


def a_handler(
    presence: MemoryPresenceStore | None = None,
    *,
    table: MemoryConnectionTable | None = None,
    gateway: FakeGateway | None = None,
    clock: FixedClock | None = None,
    catch_ups: FakeCatchUps | None = None,
    publisher: EventPublisher | None = None,
) -> StreamHandler:
    """A handler that replaces duplicates, on fakes."""
    table, clock = table or MemoryConnectionTable(), clock or FixedClock()
    track_presence = TrackPresence(
        table,
        Sessions(presence or LoggedPresence(), clock),
        publisher or LogPublisher(),
        EvictConnection(table, gateway or FakeGateway(), clock, timedelta(seconds=30)),
        clock,
        ThreadWorkers(1),
        connections_per_client=1,
        catch_ups=catch_ups,
    )
    return StreamHandler(track_presence, entry_from, clock)


def batch(*names: str) -> Event:
    """One event with the records of several."""
    return {"Records": [record for name in names for record in an_event(name)["Records"]]}


def new_image(event: Event) -> dict[str, Any]:
    """The new image of the first record."""
    image: dict[str, Any] = event["Records"][0]["dynamodb"]["NewImage"]
    return image


def connection_in(image: Mapping[str, Any]) -> Connection:
    entry = entry_from(image)
    assert isinstance(entry, Connection)
    return entry


def failed_from(number: str) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": number}]}


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        yield


def facts(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The fields of each log record, without logging's own."""
    return [
        {name: value for name, value in vars(record).items() if name not in STANDARD_FIELDS}
        for record in caplog.records
    ]


def test_a_new_item_is_logged_as_a_client_that_joined(caplog: pytest.LogCaptureFixture) -> None:
    assert a_handler()(an_event("stream_insert"), Invocation()) == ALL_PROCESSED
    assert facts(caplog) == [{"event": "presence.joined", "visitId": SESSION} | DASHBOARD]


def test_a_deleted_item_is_logged_as_a_client_that_left(caplog: pytest.LogCaptureFixture) -> None:
    assert a_handler()(batch("stream_insert", "stream_remove"), Invocation()) == ALL_PROCESSED
    assert facts(caplog)[1:] == [{"event": "presence.left", "visitId": SESSION} | DASHBOARD]
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_an_item_that_time_to_live_deleted_is_logged_as_expired(caplog: pytest.LogCaptureFixture) -> None:
    assert a_handler()(batch("stream_insert", "stream_remove_by_ttl"), Invocation()) == ALL_PROCESSED
    assert facts(caplog)[1:] == [
        {"event": "connection.expired"} | CONNECTION,
        {"event": "presence.left", "visitId": SESSION} | DASHBOARD,
    ]
    assert caplog.records[1].levelname == "WARNING"


@pytest.mark.parametrize(
    "identity", [None, {"type": "Service", "principalId": "replication.example.com"}, {"type": "Service"}]
)
def test_an_item_that_another_service_deleted_did_not_expire(
    caplog: pytest.LogCaptureFixture, identity: dict[str, str] | None
) -> None:
    event = an_event("stream_remove_by_ttl")
    event["Records"][0]["userIdentity"] = identity

    a_handler()(event, Invocation())

    assert facts(caplog) == []


def test_an_item_that_a_newer_connection_replaces_is_logged_as_left_and_joined(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a_handler()(batch("stream_insert", "stream_modify_newer_connection"), Invocation())

    assert [(it["event"], it["clientId"]) for it in facts(caplog)] == [
        ("presence.joined", "dashboard-7"),
        ("presence.left", "dashboard-7"),
        ("presence.joined", "dashboard-8"),
    ]


def test_a_tombstone_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert a_handler()(an_event("stream_insert_tombstone"), Invocation()) == ALL_PROCESSED
    assert facts(caplog) == []


@pytest.mark.parametrize(
    ("result", "event", "level"),
    [
        (ProbeResult.CLOSED, "connection.replaced", "INFO"),
        (ProbeResult.THROTTLED, "connection.not_replaced", "WARNING"),
    ],
)
def test_the_eviction_of_an_older_connection_is_logged(
    caplog: pytest.LogCaptureFixture, result: ProbeResult, event: str, level: str
) -> None:
    table = MemoryConnectionTable()
    second = an_event("stream_insert")
    image = new_image(second)
    old = connection_in(image)
    table.add(old)
    handler = a_handler(table=table, gateway=FakeGateway({old.id: result}))
    handler(an_event("stream_insert"), Invocation())
    image["connectionId"], image["connectedAt"] = {"S": "JKJdXeXAmPl3AbC="}, {"N": "1795251660000"}

    handler(second, Invocation())

    assert facts(caplog)[1:] == [{"event": event, "answer": result.value} | CONNECTION]
    assert caplog.records[1].levelname == level


def test_a_revived_connection_is_logged_and_deleted(caplog: pytest.LogCaptureFixture) -> None:
    table = MemoryConnectionTable()
    handler = a_handler(table=table)
    handler(batch("stream_insert", "stream_remove"), Invocation())
    table.add(connection_in(new_image(an_event("stream_insert"))))
    caplog.clear()

    handler(an_event("stream_insert"), Invocation())

    assert facts(caplog) == [{"event": "connection.revived"} | CONNECTION]
    assert table.get(ConnectionId("JKJaXeXAmPl3AbC=")) is None


def test_near_the_deadline_the_next_record_is_left_to_another_delivery() -> None:
    clock = FixedClock()
    slow = a_handler(SlowPresence(clock, timedelta(seconds=1)), clock=clock)
    several = batch("stream_insert", "stream_remove", "stream_insert_tombstone")

    assert slow(several, Invocation(RECORD_RESERVE + timedelta(seconds=1))) == failed_from(REMOVED)
    assert slow(several, Invocation(RECORD_RESERVE + timedelta(minutes=1))) == ALL_PROCESSED


def test_the_first_record_is_processed_however_near_the_deadline_is(caplog: pytest.LogCaptureFixture) -> None:
    response = a_handler()(batch("stream_insert", "stream_remove"), Invocation(timedelta(seconds=1)))

    assert response == failed_from(REMOVED)
    assert [it["event"] for it in facts(caplog)] == ["presence.joined"]


def test_a_silent_gateway_does_not_use_up_the_time(caplog: pytest.LogCaptureFixture) -> None:
    """Each close takes two seconds and fails."""
    clock, table, presence = FixedClock(), MemoryConnectionTable(), MemoryPresenceStore()
    silent = FakeGateway(
        {f"c-{number}": ProbeResult.FAILED for number in range(60)},
        before=lambda _: clock.advance(timedelta(seconds=2)),
    )
    newest = connection_in(new_image(an_event("stream_insert")))
    client = Client.of(newest)
    assert client is not None
    for number in range(60):
        began = newest.created_at - timedelta(minutes=1, milliseconds=number)
        older = newest._replace(id=ConnectionId(f"c-{number}"), connected_at=began)
        table.add(older)
        Sessions(presence, clock).connect(client, ConnectionRef.of(older))
    deadline = clock.now() + timedelta(seconds=120)

    response = a_handler(presence, table=table, gateway=silent, clock=clock)(
        batch("stream_insert", "stream_remove"), Invocation(timedelta(seconds=120))
    )

    logged = [it["event"] for it in facts(caplog)]
    assert response == failed_from(REMOVED)
    assert logged.count("connection.not_replaced") == 60
    assert clock.now() <= deadline - LONGEST_STORE_CALL


@pytest.mark.parametrize(("outcome_unknown", "write"), [(True, "unknown"), (False, "none")])
def test_without_the_store_the_record_and_all_after_it_are_delivered_again(
    caplog: pytest.LogCaptureFixture, *, outcome_unknown: bool, write: str
) -> None:
    handler = a_handler(
        FailingPresence(StorageUnavailable("ReadTimeoutError", outcome_unknown=outcome_unknown))
    )

    response = handler(batch("stream_insert", "stream_remove", "stream_insert_tombstone"), Invocation())

    assert response == failed_from(REMOVED)
    assert facts(caplog)[1:] == [
        {
            "event": "store.unavailable",
            "sequenceNumber": REMOVED,
            "connectionId": "JKJaXeXAmPl3AbC=",
            "reason": "ReadTimeoutError",
            "write": write,
        }
    ]
    assert caplog.records[1].levelname == "ERROR"


def returning(event: Event) -> Event:
    """The event with a client that says what it has."""
    for record in event["Records"]:
        for image in ("NewImage", "OldImage"):
            if "ttl" in record["dynamodb"].get(image, {}) and "closedAt" not in record["dynamodb"][image]:
                record["dynamodb"][image]["since"] = {"S": "m-41"}
    return event


def test_a_client_that_comes_back_is_put_into_the_queue_once_and_logged_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = FakeCatchUps()
    handler = a_handler(catch_ups=queue)

    assert handler(returning(batch("stream_insert", "stream_remove")), Invocation()) == ALL_PROCESSED
    assert queue.requests == [
        (CatchUp(ConnectionRef.of(connection_in(new_image(an_event("stream_insert")))), "m-41"), timedelta())
    ]
    assert facts(caplog) == [
        {"event": "presence.joined", "visitId": SESSION} | DASHBOARD,
        {"event": "presence.left", "visitId": SESSION} | DASHBOARD,
    ]


def test_a_client_that_does_not_say_what_it_has_is_not_put_into_the_queue() -> None:
    queue = FakeCatchUps()

    assert a_handler(catch_ups=queue)(an_event("stream_insert"), Invocation()) == ALL_PROCESSED
    assert queue.requests == []


def test_without_the_queue_the_record_and_all_after_it_are_delivered_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Full(FakeCatchUps):
        def put(self, request: CatchUp, *, delay: timedelta = timedelta()) -> None:
            raise QueueUnavailable("RequestThrottled")

    event = returning(batch("stream_insert_tombstone", "stream_insert", "stream_remove"))

    assert a_handler(catch_ups=Full())(event, Invocation()) == failed_from(INSERTED)
    assert facts(caplog)[-1] == {
        "event": "store.unavailable",
        "sequenceNumber": INSERTED,
        "connectionId": "JKJaXeXAmPl3AbC=",
        "reason": "RequestThrottled",
        "write": "unknown",
    }
    assert caplog.records[-1].levelname == "ERROR"


def test_without_the_bus_the_record_and_all_after_it_are_delivered_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Unreachable(RecordingPublisher):
        def publish(self, event: DomainEvent) -> None:
            raise EventsUnavailable("EndpointConnectionError")

    event = batch("stream_insert", "stream_remove_by_ttl", "stream_insert")

    assert a_handler(publisher=Unreachable())(event, Invocation()) == failed_from(
        event["Records"][1]["dynamodb"]["SequenceNumber"]
    )
    assert facts(caplog)[-1]["reason"] == "EndpointConnectionError"


def test_records_after_a_failure_are_not_processed(caplog: pytest.LogCaptureFixture) -> None:
    presence = FailingPresence(StorageUnavailable("ReadTimeoutError", outcome_unknown=True))
    dashboard = connection_in(new_image(an_event("stream_insert")))
    client = Client.of(dashboard)
    assert client is not None

    response = a_handler(presence)(batch("stream_remove", "stream_insert"), Invocation())

    assert response == failed_from(REMOVED)
    assert presence.change(client, lambda it: it) == Presence(client)
    assert dashboard.id == facts(caplog)[0]["connectionId"]


def test_a_bug_is_logged_with_its_traceback_and_the_record_is_delivered_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = a_handler(FailingPresence(KeyError("oops")))

    response = handler(batch("stream_insert", "stream_remove"), Invocation())

    record = caplog.records[1]
    assert response == failed_from(REMOVED)
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError
    assert facts(caplog)[1:] == [
        {"event": "bug", "sequenceNumber": REMOVED, "connectionId": "JKJaXeXAmPl3AbC="}
    ]


def test_a_bug_at_the_first_of_several_records_is_raised_so_that_lambda_halves_the_batch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = a_handler(FailingPresence(KeyError("oops")))

    with pytest.raises(KeyError, match="oops"):
        handler(batch("stream_remove", "stream_insert"), Invocation())

    assert [it["event"] for it in facts(caplog)] == ["bug"]


def test_a_bug_at_the_only_record_is_returned_as_its_failure(caplog: pytest.LogCaptureFixture) -> None:
    handler = a_handler(FailingPresence(KeyError("oops")))

    assert handler(an_event("stream_remove"), Invocation()) == failed_from(REMOVED)
    assert [it["event"] for it in facts(caplog)] == ["bug"]


def broken(*path: str) -> Event:
    """A new item's event without what is at *path* in its record."""
    event = an_event("stream_insert")
    place = event["Records"][0]
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    return event


@pytest.mark.parametrize(
    ("event", "number", "connection_id"),
    [
        (broken("eventName"), INSERTED, "JKJaXeXAmPl3AbC="),
        (broken("dynamodb", "NewImage"), INSERTED, "JKJaXeXAmPl3AbC="),
        (broken("dynamodb", "NewImage", "connectionId"), INSERTED, "JKJaXeXAmPl3AbC="),
        (broken("dynamodb", "Keys"), INSERTED, None),
        (broken("dynamodb"), None, None),
        ({"Records": [None]}, None, None),
    ],
    ids=["no name", "no image", "no id", "no image and no keys", "no content", "no record"],
)
def test_a_record_that_can_not_be_read_is_a_bug(
    caplog: pytest.LogCaptureFixture, event: Event, number: str | None, connection_id: str | None
) -> None:
    if number and connection_id is None:
        del event["Records"][0]["dynamodb"]["NewImage"]

    response = a_handler()(event, Invocation())

    assert response == failed_from(number or "")
    assert facts(caplog) == [{"event": "bug", "sequenceNumber": number, "connectionId": connection_id}]


def test_a_record_with_an_unknown_event_name_is_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    event = an_event("stream_insert")
    event["Records"][0]["eventName"] = "TRUNCATE"

    assert a_handler()(event, Invocation()) == failed_from(INSERTED)
    assert [it["event"] for it in facts(caplog)] == ["bug"]


@pytest.mark.parametrize("name", ["stream_remove", "stream_modify_newer_connection"])
def test_a_stream_without_old_images_is_a_bug(caplog: pytest.LogCaptureFixture, name: str) -> None:
    event = an_event(name)
    del event["Records"][0]["dynamodb"]["OldImage"]

    response = a_handler()(event, Invocation())

    assert response != ALL_PROCESSED
    assert [it["event"] for it in facts(caplog)] == ["bug"]


def test_an_empty_batch_is_processed() -> None:
    assert a_handler()({"Records": []}, Invocation()) == ALL_PROCESSED


def test_an_event_that_is_not_a_batch_fails_as_a_whole() -> None:
    with pytest.raises(KeyError, match="Records"):
        a_handler()({}, Invocation())
