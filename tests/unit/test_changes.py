"""The stream's records as log records, and which of them are to be delivered again."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from operator import methodcaller
from typing import Any

import pytest

from app.adapters.dynamodb import entry_in
from app.adapters.memory import MemoryConnectionStore
from app.adapters.memory_presence import MemoryPresenceStore
from app.domain.errors import StorageUnavailable
from app.domain.model import Connection, ConnectionId
from app.domain.presence import FollowChanges
from app.domain.upkeep import Answer, Client, ConnectionRef, Entry, Presence, ref_of
from app.entrypoints.changes import RESERVE, Changes
from app.settings import LONGEST_STORE_CALL
from tests.builders import Event, FixedClock, Invocation, an_event

STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "exc_text"}

INSERTED = "448800000000012345678901"
REMOVED = "448900000000012345678955"
VISIT = "JKJaXeXAmPl3AbC=@1795251600000"
DASHBOARD = {"clientId": "dashboard-7", "account": "123456789012", "region": "ap-northeast-2"}
CONNECTION = {"connectionId": "JKJaXeXAmPl3AbC="} | DASHBOARD
ALL_WELL: dict[str, Any] = {"batchItemFailures": []}


class ClosingGateway:
    """Gateway that answers the same whatever it is to close."""

    def __init__(self, answer: Answer = Answer.CLOSED) -> None:
        self._answer = answer

    def ask(self, connection: Connection) -> Answer:
        return Answer.ALIVE

    def close(self, connection: Connection) -> Answer:
        return self._answer


class FailingPresence(MemoryPresenceStore):
    """A presence store that raises the same error when a connection leaves."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def mark_left(self, ref: ConnectionRef) -> None:
        raise self._error


class SlowPresence(MemoryPresenceStore):
    """A presence store whose every call takes its time."""

    def __init__(self, clock: FixedClock, takes: timedelta) -> None:
        super().__init__()
        self._clock = clock
        self._takes = takes

    def has_left(self, ref: ConnectionRef) -> bool:
        self._clock.advance(self._takes)
        return super().has_left(ref)


def changes(
    presence: MemoryPresenceStore | None = None,
    *,
    registry: MemoryConnectionStore | None = None,
    answer: Answer = Answer.CLOSED,
    read_image: Callable[[Mapping[str, Any]], Entry] = entry_in,
    clock: FixedClock | None = None,
) -> Changes:
    clock = clock or FixedClock()
    follow_changes = FollowChanges(
        registry or MemoryConnectionStore(),
        presence or MemoryPresenceStore(),
        ClosingGateway(answer),
        clock,
        timedelta(seconds=30),
        replaces_duplicates=True,
    )
    return Changes(follow_changes, read_image, clock)


def batch(*names: str) -> Event:
    """One event with the records of several."""
    return {"Records": [record for name in names for record in an_event(name)["Records"]]}


def failed_from(number: str) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": number}]}


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        yield


def facts(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """What each record says beside its text."""
    return [
        {name: value for name, value in vars(record).items() if name not in STANDARD_FIELDS}
        for record in caplog.records
    ]


def test_a_new_row_is_a_client_that_joined(caplog: pytest.LogCaptureFixture) -> None:
    assert changes()(an_event("stream_insert"), Invocation()) == ALL_WELL
    assert facts(caplog) == [{"event": "presence.joined", "visitId": VISIT} | DASHBOARD]


def test_a_removed_row_is_a_client_that_left(caplog: pytest.LogCaptureFixture) -> None:
    assert changes()(batch("stream_insert", "stream_remove"), Invocation()) == ALL_WELL
    assert facts(caplog)[1:] == [{"event": "presence.left", "visitId": VISIT} | DASHBOARD]
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_a_row_that_time_to_live_removed_is_a_disconnect_that_was_missed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert changes()(batch("stream_insert", "stream_remove_by_ttl"), Invocation()) == ALL_WELL
    assert facts(caplog)[1:] == [
        {"event": "connection.expired"} | CONNECTION,
        {"event": "presence.left", "visitId": VISIT} | DASHBOARD,
    ]
    assert caplog.records[1].levelname == "WARNING"


@pytest.mark.parametrize(
    "identity", [None, {"type": "Service", "principalId": "replication.example.com"}, {"type": "Service"}]
)
def test_a_row_that_somebody_else_removed_did_not_expire(
    caplog: pytest.LogCaptureFixture, identity: dict[str, str] | None
) -> None:
    event = an_event("stream_remove_by_ttl")
    event["Records"][0]["userIdentity"] = identity

    changes()(event, Invocation())

    assert facts(caplog) == []


def test_a_row_that_goes_to_a_newer_connection_is_both(caplog: pytest.LogCaptureFixture) -> None:
    changes()(batch("stream_insert", "stream_modify_newer_connection"), Invocation())

    assert [(it["event"], it["clientId"]) for it in facts(caplog)] == [
        ("presence.joined", "dashboard-7"),
        ("presence.left", "dashboard-7"),
        ("presence.joined", "dashboard-8"),
    ]


def test_a_mark_is_nobody(caplog: pytest.LogCaptureFixture) -> None:
    assert changes()(an_event("stream_insert_tombstone"), Invocation()) == ALL_WELL
    assert facts(caplog) == []


@pytest.mark.parametrize(
    ("answer", "event", "level"),
    [
        (Answer.CLOSED, "connection.replaced", "INFO"),
        (Answer.THROTTLED, "connection.not_replaced", "WARNING"),
    ],
)
def test_what_became_of_an_older_connection_is_recorded(
    caplog: pytest.LogCaptureFixture, answer: Answer, event: str, level: str
) -> None:
    registry = MemoryConnectionStore()
    second = an_event("stream_insert")
    image = second["Records"][0]["dynamodb"]["NewImage"]
    old = entry_in(image)
    assert isinstance(old, Connection)
    registry.add(old)
    app = changes(registry=registry, answer=answer)
    app(an_event("stream_insert"), Invocation())
    image["connectionId"], image["connectedAt"] = {"S": "JKJdXeXAmPl3AbC="}, {"N": "1795251660000"}

    app(second, Invocation())

    assert facts(caplog)[1:] == [{"event": event, "answer": answer.value} | CONNECTION]
    assert caplog.records[1].levelname == level


def test_a_row_that_was_brought_back_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    registry = MemoryConnectionStore()
    app = changes(registry=registry)
    app(batch("stream_insert", "stream_remove"), Invocation())
    dead = entry_in(an_event("stream_insert")["Records"][0]["dynamodb"]["NewImage"])
    assert isinstance(dead, Connection)
    registry.add(dead)
    caplog.clear()

    app(an_event("stream_insert"), Invocation())

    assert facts(caplog) == [{"event": "connection.revived"} | CONNECTION]
    assert registry.get(ConnectionId("JKJaXeXAmPl3AbC=")) is None


class SlowGateway(ClosingGateway):
    """Gateway that is silent: a closing takes two seconds and comes to nothing."""

    def __init__(self, clock: FixedClock) -> None:
        super().__init__(Answer.FAILED)
        self._clock = clock

    def close(self, connection: Connection) -> Answer:
        self._clock.advance(timedelta(seconds=2))
        return super().close(connection)


def test_when_the_time_is_nearly_up_the_next_record_comes_again() -> None:
    clock = FixedClock()
    slow = FollowChanges(
        MemoryConnectionStore(),
        SlowPresence(clock, timedelta(seconds=1)),
        ClosingGateway(),
        clock,
        timedelta(seconds=30),
    )
    several = batch("stream_insert", "stream_remove", "stream_insert_tombstone")

    assert Changes(slow, entry_in, clock)(several, Invocation(RESERVE + timedelta(seconds=1))) == failed_from(
        REMOVED
    )
    assert Changes(slow, entry_in, clock)(several, Invocation(RESERVE + timedelta(minutes=1))) == ALL_WELL


def test_the_first_record_is_followed_however_little_time_there_is(caplog: pytest.LogCaptureFixture) -> None:
    answer = changes()(batch("stream_insert", "stream_remove"), Invocation(timedelta(seconds=1)))

    assert answer == failed_from(REMOVED)
    assert [it["event"] for it in facts(caplog)] == ["presence.joined"]


def test_a_silent_gateway_does_not_use_up_the_time(caplog: pytest.LogCaptureFixture) -> None:
    clock, registry, presence = FixedClock(), MemoryConnectionStore(), MemoryPresenceStore()
    follow_changes = FollowChanges(
        registry, presence, SlowGateway(clock), clock, timedelta(seconds=30), replaces_duplicates=True
    )
    newest = entry_of("stream_insert")
    client = Client.of(newest)
    assert client is not None
    for number in range(60):
        began = newest.created_at - timedelta(minutes=1, milliseconds=number)
        older = replace(newest, id=ConnectionId(f"c-{number}"), connected_at=began)
        registry.add(older)
        presence.change(client, methodcaller("came", ref_of(older)))
    ends = clock.now() + timedelta(seconds=120)

    answer = Changes(follow_changes, entry_in, clock)(
        batch("stream_insert", "stream_remove"), Invocation(timedelta(seconds=120))
    )

    told = [it["event"] for it in facts(caplog)]
    assert answer == failed_from(REMOVED)
    assert told.count("connection.not_replaced") == 60
    assert clock.now() <= ends - LONGEST_STORE_CALL


@pytest.mark.parametrize(("outcome_unknown", "write"), [(True, "unknown"), (False, "none")])
def test_without_the_store_the_record_and_those_after_it_come_again(
    caplog: pytest.LogCaptureFixture, *, outcome_unknown: bool, write: str
) -> None:
    app = changes(FailingPresence(StorageUnavailable("ReadTimeoutError", outcome_unknown=outcome_unknown)))

    answer = app(batch("stream_insert", "stream_remove", "stream_insert_tombstone"), Invocation())

    assert answer == failed_from(REMOVED)
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


def test_what_comes_after_a_failure_is_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    presence = FailingPresence(StorageUnavailable("ReadTimeoutError", outcome_unknown=True))
    client = Client.of(a_dashboard := entry_of("stream_insert"))
    assert client is not None

    answer = changes(presence)(batch("stream_remove", "stream_insert"), Invocation())

    assert answer == failed_from(REMOVED)
    assert presence.change(client, lambda it: it) == Presence()
    assert a_dashboard.id == facts(caplog)[0]["connectionId"]


def entry_of(name: str) -> Connection:
    entry = entry_in(an_event(name)["Records"][0]["dynamodb"]["NewImage"])
    assert isinstance(entry, Connection)
    return entry


def test_a_bug_is_whole_in_the_log_and_the_record_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    answer = changes(FailingPresence(KeyError("oops")))(batch("stream_insert", "stream_remove"), Invocation())

    record = caplog.records[1]
    assert answer == failed_from(REMOVED)
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError
    assert facts(caplog)[1:] == [
        {"event": "bug", "sequenceNumber": REMOVED, "connectionId": "JKJaXeXAmPl3AbC="}
    ]


def test_a_bug_at_the_first_of_several_records_has_lambda_halve_the_batch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(KeyError, match="oops"):
        changes(FailingPresence(KeyError("oops")))(batch("stream_remove", "stream_insert"), Invocation())

    assert [it["event"] for it in facts(caplog)] == ["bug"]


def test_a_bug_at_the_only_record_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    app = changes(FailingPresence(KeyError("oops")))

    assert app(an_event("stream_remove"), Invocation()) == failed_from(REMOVED)
    assert [it["event"] for it in facts(caplog)] == ["bug"]


def broken(*path: str) -> Event:
    """A new row's event without what is at *path* in its record."""
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
    ids=["no name", "no image", "no id", "no image and no keys", "nothing", "none at all"],
)
def test_a_record_that_can_not_be_read_is_a_bug(
    caplog: pytest.LogCaptureFixture, event: Event, number: str | None, connection_id: str | None
) -> None:
    if number and connection_id is None:
        del event["Records"][0]["dynamodb"]["NewImage"]

    answer = changes()(event, Invocation())

    assert answer == failed_from(number or "")
    assert facts(caplog) == [{"event": "bug", "sequenceNumber": number, "connectionId": connection_id}]


def test_a_record_of_an_unknown_kind_is_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    event = an_event("stream_insert")
    event["Records"][0]["eventName"] = "TRUNCATE"

    assert changes()(event, Invocation()) == failed_from(INSERTED)
    assert [it["event"] for it in facts(caplog)] == ["bug"]


@pytest.mark.parametrize("name", ["stream_remove", "stream_modify_newer_connection"])
def test_a_stream_without_old_images_is_a_bug(caplog: pytest.LogCaptureFixture, name: str) -> None:
    event = an_event(name)
    del event["Records"][0]["dynamodb"]["OldImage"]

    answer = changes()(event, Invocation())

    assert answer != ALL_WELL
    assert [it["event"] for it in facts(caplog)] == ["bug"]


def test_a_batch_of_nothing_is_well() -> None:
    assert changes()({"Records": []}, Invocation()) == ALL_WELL


def test_an_event_that_is_no_batch_fails_as_a_whole() -> None:
    with pytest.raises(KeyError, match="Records"):
        changes()({}, Invocation())
