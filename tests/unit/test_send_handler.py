"""The function that delivers from the queue: events in, failed messages out, one log record of each."""

import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from app.adapters.memory import MemoryConnectionTable, MemoryDeliveries
from app.adapters.messages import message_from
from app.domain.delivery import Delivery, MessageId, Progress, SendResult
from app.domain.errors import DeliveryClaimed, QueueUnavailable, StorageUnavailable
from app.domain.model import ConnectionId
from app.domain.pace import Pace
from app.domain.sending import DeliverMessage
from app.entrypoints.send import RESERVE, SendHandler
from tests.builders import NOON, NOON_MS, Invocation, a_connection, an_event
from tests.fakes import FakeCourier, FakeQueue, FixedClock, InlineWorkers

LONG_AGO = NOON - timedelta(minutes=10)
OURS: dict[str, Any] = {
    "id": "m-1",
    "type": "incident.opened",
    "audience": {"account": "123456789012"},
    "data": {"severity": 1},
}


def a_queue_event(body: object = OURS, **record: Any) -> dict[str, Any]:
    """An event of SQS with one message."""
    event = an_event("sqs_message")
    [message] = event["Records"]
    message |= {"body": body if isinstance(body, str) else json.dumps(body)} | record
    return event


class Function:
    """The handler, and all that it uses."""

    def __init__(self, *ids: str, **results: list[SendResult]) -> None:
        self.clock = FixedClock()
        self.table = MemoryConnectionTable()
        for name in ids:
            self.table.add(a_connection(id=ConnectionId(name), connected_at=LONG_AGO, created_at=LONG_AGO))
        self.courier = FakeCourier(self.clock, results)
        self.deliveries = MemoryDeliveries(self.clock)
        self.queue = FakeQueue()

    def __call__(
        self, event: dict[str, Any], remaining: timedelta = timedelta(minutes=2), rate: int = 10**9
    ) -> Any:
        deliver = DeliverMessage(
            self.table,
            self.table,
            self.courier,
            self.deliveries,
            self.clock,
            InlineWorkers(),
            Pace(rate),
            grace=timedelta(seconds=30),
        )
        return SendHandler(message_from, deliver, self.queue, self.clock)(event, Invocation(remaining))


DONE: dict[str, Any] = {"batchItemFailures": []}
FAILED = {"batchItemFailures": [{"itemIdentifier": "059f36b4-87a3-44ab-83d2-661975830a7d"}]}


def logged(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The fields of the only log record."""
    [record] = caplog.records
    own = {*vars(logging.makeLogRecord({})), "message"}
    return {name: value for name, value in vars(record).items() if name not in own}


@pytest.fixture(autouse=True)
def all_records(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="switchboard")


def test_a_message_is_delivered_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    function = Function("c-1", "c-2", "c-3", **{"c-2": [SendResult.GONE]})

    assert function(a_queue_event()) == DONE
    assert set(function.courier.frames) == {"c-1", "c-3"}
    facts = logged(caplog)
    assert facts.pop("durationMs") > 0
    assert 0 < facts.pop("p99Ms") < 100
    assert facts == {
        "event": "delivery.finished",
        "queueMessageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "messageId": "m-1",
        "type": "incident.opened",
        "audience": "account 123456789012",
        "selected": 3,
        "delivered": 2,
        "gone": 1,
        "youngGone": 0,
        "throttled": 0,
        "forbidden": 0,
        "tooLarge": 0,
        "failed": 0,
        "unknown": 0,
        "expired": 0,
        "left": 0,
    }


def test_clients_get_the_time_at_which_the_message_was_put_into_the_queue() -> None:
    function = Function("c-1")

    function(a_queue_event())

    [frame] = function.courier.frames["c-1"]
    assert json.loads(frame)["time"] == "2126-11-21T12:00:00.000Z"


def test_a_report_without_anybody_has_no_delay(caplog: pytest.LogCaptureFixture) -> None:
    Function()(a_queue_event())

    assert "p99Ms" not in logged(caplog)


def test_what_is_left_when_the_time_is_up_goes_back_into_the_queue(caplog: pytest.LogCaptureFixture) -> None:
    function = Function(*(f"c-{number}" for number in range(30)))
    function.clock.advance(timedelta(seconds=7))
    remaining = RESERVE + timedelta(milliseconds=100)

    assert function(a_queue_event(), remaining, rate=100) == DONE
    [(body, sent_at)] = function.queue.messages
    assert json.loads(body) == OURS
    assert sent_at == NOON
    facts = logged(caplog)
    assert facts["event"] == "delivery.continued"
    assert facts["left"] > 0
    assert facts["delivered"] + facts["left"] == facts["selected"] == 30

    caplog.clear()
    again = {"sentAt": {"dataType": "String", "stringValue": sent_at.isoformat()}}
    attributes = {"SentTimestamp": str(NOON_MS + 9000)}
    assert function(a_queue_event(messageAttributes=again, attributes=attributes)) == DONE
    assert logged(caplog)["event"] == "delivery.finished"
    assert logged(caplog)["delivered"] == 30
    assert {json.loads(frame)["time"] for frames in function.courier.frames.values() for frame in frames} == {
        "2126-11-21T12:00:00.000Z"
    }
    assert all(len(frames) == 1 for frames in function.courier.frames.values())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("no JSON", "The message must be a JSON object."),
        (OURS | {"data": "x" * 131_072}, "131153 bytes as clients get it; 131072 are allowed."),
        (OURS | {"audience": {}}, "The audience must name an account, a client, a connection, or everyone."),
    ],
)
def test_a_message_that_can_not_be_sent_is_left_to_the_queue_with_its_reason_in_the_log(
    caplog: pytest.LogCaptureFixture, body: object, reason: str
) -> None:
    function = Function("c-1")

    assert function(a_queue_event(body)) == FAILED
    assert function.courier.attempts == []
    facts = logged(caplog)
    assert facts["event"] == "delivery.refused"
    assert facts["reason"].endswith(reason)


def test_the_log_has_nothing_of_what_a_message_says(caplog: pytest.LogCaptureFixture) -> None:
    Function("c-1")(a_queue_event(OURS | {"data": "secret"}))
    Function("c-1")(a_queue_event(OURS | {"secret": 1}))
    Function("c-1")(a_queue_event(OURS | {"audience": {"secret": 1}}))

    assert all("secret" not in str(vars(record)) for record in caplog.records)


def test_a_message_that_comes_again_is_not_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    function = Function("c-1")
    function(a_queue_event())
    caplog.clear()

    assert function(a_queue_event()) == DONE
    assert function.courier.attempts == ["c-1"]
    assert logged(caplog)["event"] == "delivery.repeated"


def test_a_message_that_another_invocation_delivers_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    function = Function("c-1")
    message, audience = message_from(json.dumps(OURS), NOON)
    function.deliveries.claim(message, str(audience), until=NOON + timedelta(minutes=1))

    assert function(a_queue_event()) == FAILED
    assert function.courier.attempts == []
    assert logged(caplog)["event"] == "delivery.claimed"


def test_a_message_whose_store_does_not_answer_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    class Unavailable(MemoryDeliveries):
        def claim(self, *_: object, **__: object) -> Delivery:
            raise StorageUnavailable("ThrottlingException", outcome_unknown=False)

    function = Function("c-1")
    function.deliveries = Unavailable(function.clock)

    assert function(a_queue_event()) == FAILED
    facts = logged(caplog)
    assert (facts["event"], facts["reason"], facts["messageId"]) == (
        "store.unavailable",
        "ThrottlingException",
        "m-1",
    )


def test_a_message_that_can_not_be_put_back_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    class Full(FakeQueue):
        def put(self, *_: object, **__: object) -> None:
            raise QueueUnavailable("RequestThrottled")

    function = Function("c-1", "c-2")
    function.queue = Full()

    assert function(a_queue_event(), RESERVE) == FAILED
    assert logged(caplog)["reason"] == "RequestThrottled"


def test_a_bug_is_logged_whole_and_the_message_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryDeliveries):
        def claim(self, *_: object, **__: object) -> Delivery:
            raise TypeError("a bug")

    function = Function("c-1")
    function.deliveries = Broken(function.clock)

    assert function(a_queue_event()) == FAILED
    [record] = caplog.records
    assert record.exc_info
    assert vars(record)["event"] == "bug"


def test_a_claim_that_was_taken_over_meanwhile_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    class TakenOver(MemoryDeliveries):
        def release(self, *_: object, **__: object) -> Delivery:
            raise DeliveryClaimed

    function = Function("c-1")
    function.deliveries = TakenOver(function.clock)

    assert function(a_queue_event()) == FAILED
    assert logged(caplog)["event"] == "delivery.claimed"


def test_several_messages_are_delivered_each_by_itself() -> None:
    function = Function("c-1")
    event = a_queue_event()
    event["Records"] += a_queue_event("no JSON", messageId="poison")["Records"]
    event["Records"] += a_queue_event(OURS | {"id": "m-2"}, messageId="third")["Records"]

    assert function(event) == {"batchItemFailures": [{"itemIdentifier": "poison"}]}
    assert function.courier.attempts == ["c-1", "c-1"]


@pytest.mark.parametrize("text", ["soon", "2126-11-21T12:00:00", "9999-12-31T23:59:59-10:00"])
def test_a_time_of_its_own_that_is_none_is_refused(caplog: pytest.LogCaptureFixture, text: str) -> None:
    attribute = {"sentAt": {"dataType": "String", "stringValue": text}}

    assert Function("c-1")(a_queue_event(messageAttributes=attribute)) == FAILED
    assert logged(caplog)["event"] == "delivery.refused"


def test_the_progress_of_a_delivery_that_is_left_can_be_looked_up() -> None:
    function = Function(*(f"c-{number}" for number in range(30)))

    function(a_queue_event(), RESERVE + timedelta(milliseconds=100), rate=100)

    delivery = function.deliveries.get(MessageId("m-1"))
    assert delivery is not None
    assert delivery.finished_at is None
    assert delivery.progress != Progress()
