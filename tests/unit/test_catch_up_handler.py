"""The function that catches clients up: requests in, failed ones out, one log record of each look."""

import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from app.adapters.memory import MemoryConnectionTable, MemoryDeliveries
from app.adapters.messages import JsonNotices
from app.adapters.sqs import catch_up_from
from app.adapters.threads import ThreadWorkers
from app.domain.catching_up import CatchUpClient
from app.domain.delivery import Audience, MessageId, SendResult
from app.domain.errors import QueueUnavailable, StorageUnavailable
from app.domain.history import CatchUp, position
from app.domain.lifecycle import ConnectionRef
from app.domain.model import Connection, ConnectionId
from app.domain.pace import Pace
from app.entrypoints.catch_up import RESERVE, CatchUpHandler
from tests.builders import NOON, NOON_MS, Invocation, a_connection, a_message, an_event
from tests.deadline import eventually
from tests.fakes import FakeCatchUps, FakeCourier, FixedClock, InlineWorkers, MemoryHistory

EVERYONE = Audience(everyone=True)
LONG_AGO = NOON - timedelta(minutes=5)
INDEX_LAG = timedelta(seconds=5)

NUMBER = "059f36b4-87a3-44ab-83d2-661975830a7d"
DONE: dict[str, Any] = {"batchItemFailures": []}
FAILED = {"batchItemFailures": [{"itemIdentifier": NUMBER}]}
OURS: dict[str, Any] = {
    "connectionId": "c-1",
    "beganAt": NOON_MS - 5 * 60_000,
    "since": position(NOON - timedelta(minutes=10)),
    "after": None,
    "told": [],
    "isSecond": False,
}
FACTS = {"queueMessageId": NUMBER, "connectionId": "c-1"}


def a_request(**changes: Any) -> dict[str, Any]:
    """An event of SQS with one request; a client came back 5 minutes ago, and was away for 5."""
    return an_event_of(json.dumps(OURS | changes))


def an_event_of(body: str, number: str = NUMBER) -> dict[str, Any]:
    event = an_event("sqs_message")
    [record] = event["Records"]
    record |= {"body": body, "messageId": number}
    return event


class Function:
    """The handler, and all that it uses. It is noon."""

    def __init__(self, *ids: str, **results: Sequence[SendResult]) -> None:
        self.clock = FixedClock()
        self.table = MemoryConnectionTable()
        for name in ids or ("c-1",):
            self.table.add(a_connection(id=ConnectionId(name), connected_at=LONG_AGO, created_at=LONG_AGO))
        self.history = MemoryHistory(self.clock, kept_for=timedelta(minutes=15))
        self.courier = FakeCourier(self.clock, results)
        self.catch_ups = FakeCatchUps()
        self.workers: InlineWorkers | ThreadWorkers = InlineWorkers()

    def missed(self, *names: str) -> None:
        """Keep messages that were sent while the client was away."""
        for number, name in enumerate(names):
            message = a_message(id=MessageId(name), frame=name.encode())
            self.history.begin(message, EVERYONE)
            self.history.finish(message, EVERYONE, LONG_AGO - timedelta(minutes=1, seconds=-number))

    def __call__(self, event: dict[str, Any], remaining: timedelta = timedelta(minutes=2)) -> Any:
        catch_up_client = CatchUpClient(
            self.table,
            MemoryDeliveries(self.clock),
            self.history,
            self.courier,
            JsonNotices(),
            self.catch_ups,
            self.clock,
            Pace(10**9),
            kept_for=timedelta(minutes=15),
            index_lag=INDEX_LAG,
            grace=timedelta(seconds=30),
        )
        handler = CatchUpHandler(catch_up_from, catch_up_client, self.clock, self.workers)
        return handler(event, Invocation(remaining))


def all_logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The fields of each log record, without logging's own."""
    own = {*vars(logging.makeLogRecord({})), "message", "exc_text"}
    return [
        {name: value for name, value in vars(record).items() if name not in own} for record in caplog.records
    ]


def logged(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The fields of the only log record."""
    [facts] = all_logged(caplog)
    return facts


@pytest.fixture(autouse=True)
def all_records(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="switchboard")


def test_a_first_look_sends_what_the_client_missed_and_is_followed_by_a_second_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    function = Function()
    function.missed("m-1", "m-2")

    assert function(a_request()) == DONE
    assert function.courier.frames == {"c-1": [b"m-1", b"m-2"]}
    [(request, delay)] = function.catch_ups.requests
    assert (request.ref, request.is_second, delay) == (
        ConnectionRef(ConnectionId("c-1"), LONG_AGO),
        True,
        INDEX_LAG,
    )
    facts = logged(caplog)
    assert facts.pop("durationMs") > 0
    assert facts == FACTS | {
        "event": "catch_up.finished",
        "look": "first",
        "missed": 2,
        "gap": False,
        "caughtUp": False,
    }
    assert caplog.records[0].levelname == "INFO"


def test_a_second_look_says_that_the_client_is_caught_up(caplog: pytest.LogCaptureFixture) -> None:
    function = Function()

    assert function(a_request(isSecond=True)) == DONE
    assert function.courier.frames == {"c-1": [JsonNotices().caught_up(position(NOON))]}
    assert function.catch_ups.requests == []
    facts = logged(caplog)
    assert facts.pop("durationMs") > 0
    assert facts == FACTS | {
        "event": "catch_up.finished",
        "look": "second",
        "missed": 0,
        "gap": False,
        "caughtUp": True,
    }


def test_a_look_lasts_as_long_as_its_record_says(caplog: pytest.LogCaptureFixture) -> None:
    function = Function()
    function.missed("m-1", "m-2")

    function(a_request())

    assert logged(caplog)["durationMs"] == (function.clock.now() - NOON) // timedelta(milliseconds=1)


def test_a_client_that_was_away_for_longer_than_the_history_is_long_has_a_gap(
    caplog: pytest.LogCaptureFixture,
) -> None:
    function, since = Function(), position(NOON - timedelta(hours=1))
    function.missed("m-1")

    assert function(a_request(since=since)) == DONE
    assert function.courier.frames == {"c-1": [JsonNotices().gap(since), b"m-1"]}
    assert (logged(caplog)["gap"], logged(caplog)["missed"]) == (True, 1)


@pytest.mark.parametrize("look", ["first", "second"])
def test_what_is_missing_when_the_time_is_nearly_up_goes_back_into_the_queue(
    caplog: pytest.LogCaptureFixture, look: str
) -> None:
    function = Function()
    names = [f"m-{number:02}" for number in range(30)]
    function.missed(*names)
    event = a_request(isSecond=look == "second")

    assert function(event, RESERVE + timedelta(milliseconds=100)) == DONE
    [(rest, delay)] = function.catch_ups.requests
    facts = logged(caplog)
    assert (rest.is_second, delay) == (look == "second", timedelta())
    assert 0 < facts.pop("missed") == len(function.courier.frames["c-1"]) < 30
    assert facts.pop("durationMs") > 0
    assert facts == FACTS | {"event": "catch_up.continued", "look": look, "gap": False}

    caplog.clear()
    function.catch_ups.requests.clear()
    assert function(a_request(**as_fields(rest))) == DONE
    assert logged(caplog)["event"] == "catch_up.finished"
    assert function.courier.frames["c-1"][:30] == [name.encode() for name in names]


def as_fields(request: CatchUp) -> dict[str, Any]:
    after = request.after
    return {
        "after": after
        and [(after.finished_at - NOON) // timedelta(milliseconds=1) + NOON_MS, after.message_id],
        "told": request.told,
        "isSecond": request.is_second,
    }


def test_without_time_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    function = Function()
    function.missed("m-1")

    assert function(a_request(), RESERVE) == DONE
    assert function.courier.attempts == []
    assert logged(caplog)["event"] == "catch_up.continued"


@pytest.mark.parametrize("began_at", [NOON_MS, NOON_MS - 5 * 60_000])
def test_a_client_that_has_left_is_sent_nothing(caplog: pytest.LogCaptureFixture, began_at: int) -> None:
    """Its id may be that of another connection by now."""
    function = Function("c-2" if began_at < NOON_MS else "c-1")
    function.missed("m-1")

    assert function(a_request(beganAt=began_at)) == DONE
    assert function.courier.attempts == []
    assert function.catch_ups.requests == []
    assert logged(caplog) == FACTS | {
        "event": "catch_up.ended",
        "look": "first",
        "missed": 0,
        "gap": False,
        "durationMs": 0,
    }


def test_a_client_that_leaves_meanwhile_is_sent_no_more(caplog: pytest.LogCaptureFixture) -> None:
    function = Function("c-1", **{"c-1": [SendResult.DELIVERED, SendResult.GONE]})
    function.missed("m-1", "m-2", "m-3")

    assert function(a_request()) == DONE
    assert len(function.courier.attempts) == 2
    assert function.catch_ups.requests == []
    facts = logged(caplog)
    assert (facts["event"], facts["missed"]) == ("catch_up.ended", 1)


@pytest.mark.parametrize("answer", [SendResult.FORBIDDEN, SendResult.FAILED])
def test_a_request_whose_message_the_gateway_does_not_take_comes_again(
    caplog: pytest.LogCaptureFixture, answer: SendResult
) -> None:
    function = Function("c-1", **{"c-1": [answer]})
    function.missed("m-1")

    assert function(a_request()) == FAILED
    assert function.catch_ups.requests == []
    assert logged(caplog) == FACTS | {
        "event": "catch_up.failed",
        "look": "first",
        "reason": answer.value,
    }
    assert caplog.records[0].levelname == "ERROR"


def test_a_request_whose_store_does_not_answer_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    class Unavailable(MemoryConnectionTable):
        def get(self, connection_id: ConnectionId) -> Connection | None:
            raise StorageUnavailable("ThrottlingException", outcome_unknown=False)

    function = Function()
    function.table = Unavailable()

    assert function(a_request(isSecond=True)) == FAILED
    assert logged(caplog) == FACTS | {
        "event": "store.unavailable",
        "look": "second",
        "reason": "ThrottlingException",
        "write": "unknown",
    }
    assert caplog.records[0].levelname == "ERROR"


class Full(FakeCatchUps):
    """A queue that takes nothing."""

    def put(self, request: CatchUp, *, delay: timedelta = timedelta()) -> None:
        raise QueueUnavailable("RequestThrottled")


@pytest.mark.parametrize("remaining", [RESERVE, timedelta(minutes=2)])
def test_a_request_whose_rest_can_not_be_put_back_comes_again(
    caplog: pytest.LogCaptureFixture, remaining: timedelta
) -> None:
    function = Function()
    function.missed("m-1")
    function.catch_ups = Full()

    assert function(a_request(), remaining) == FAILED
    assert logged(caplog) == FACTS | {
        "event": "store.unavailable",
        "look": "first",
        "reason": "RequestThrottled",
        "write": "unknown",
    }


@pytest.mark.parametrize("body", ["no JSON", "[]", "{}", '{"connectionId":"c-1"}'])
def test_a_body_that_is_no_request_is_a_bug_and_goes_back(
    caplog: pytest.LogCaptureFixture, body: str
) -> None:
    assert Function()(an_event_of(body)) == FAILED
    assert logged(caplog) == {"event": "bug", "queueMessageId": NUMBER}
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info


def test_a_bug_is_logged_whole_and_the_request_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryConnectionTable):
        def get(self, connection_id: ConnectionId) -> Connection | None:
            raise TypeError("a bug")

    function = Function()
    function.table = Broken()

    assert function(a_request()) == FAILED
    assert logged(caplog) == FACTS | {"event": "bug", "look": "first"}
    assert caplog.records[0].exc_info


def test_each_request_of_a_batch_is_carried_out_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    function = Function("c-1", "c-2", **{"c-2": [SendResult.FORBIDDEN]})
    function.missed("m-1")
    event = an_event_of("no JSON", "poison")
    event["Records"] += a_request()["Records"]
    event["Records"] += an_event_of(json.dumps(OURS | {"connectionId": "c-2"}), "refused")["Records"]
    event["Records"] += an_event_of(json.dumps(OURS | {"connectionId": "c-3"}), "left")["Records"]

    assert function(event) == {
        "batchItemFailures": [{"itemIdentifier": "poison"}, {"itemIdentifier": "refused"}]
    }
    assert function.courier.frames == {"c-1": [b"m-1"]}
    assert [(it["event"], it["queueMessageId"]) for it in all_logged(caplog)] == [
        ("bug", "poison"),
        ("catch_up.finished", NUMBER),
        ("catch_up.failed", "refused"),
        ("catch_up.ended", "left"),
    ]


def test_the_requests_of_a_batch_are_carried_out_at_the_same_time() -> None:
    inside: list[ConnectionId] = []

    class Meeting(MemoryConnectionTable):
        def get(self, connection_id: ConnectionId) -> Connection | None:
            inside.append(connection_id)
            eventually(lambda: len(inside) == 3)
            return None

    function = Function()
    function.table, function.workers = Meeting(), ThreadWorkers(3)
    event: dict[str, Any] = {"Records": []}
    for number in range(3):
        body = json.dumps(OURS | {"connectionId": f"c-{number}"})
        event["Records"] += an_event_of(body, f"number {number}")["Records"]

    assert function(event) == DONE


def test_the_log_has_nothing_of_what_a_message_or_a_client_says(caplog: pytest.LogCaptureFixture) -> None:
    function = Function()
    function.missed("secret")

    function(a_request(since="secret"))
    function(a_request(since="secret", isSecond=True))
    function(a_request(since="secret", beganAt=0))

    assert len(caplog.records) == 3
    assert all("secret" not in str(vars(record)) for record in caplog.records)


def test_an_empty_batch_is_done() -> None:
    assert Function()({"Records": []}) == DONE
