"""The promises of Courier, for the management API's adapter and the fake."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from app.adapters.gateway import ManagementApiGateway
from app.domain.delivery import SendResult
from app.domain.model import Connection, ConnectionId
from app.domain.ports import Courier
from tests.builders import a_connection
from tests.dynamodb_local import REGION
from tests.fakes import FakeCourier, FixedClock
from tests.integration.management_api import ManagementApi, Say, hanging_up, management_api, refusing

REFUSALS: dict[SendResult, Say] = {
    SendResult.GONE: refusing(410, "GoneException"),
    SendResult.THROTTLED: refusing(429, "LimitExceededException"),
    SendResult.FORBIDDEN: refusing(403, "ForbiddenException"),
    SendResult.TOO_LARGE: refusing(413, "PayloadTooLargeException"),
    SendResult.FAILED: refusing(503),
    SendResult.UNANSWERED: hanging_up,
}
ONE, OTHER = a_connection(id=ConnectionId("c-1")), a_connection(id=ConnectionId("c-2"))
FRAME = '{"id":"m-1","data":"é"}'.encode()


@dataclass
class Subject:
    """A courier under test; ``refuse`` makes it answer otherwise about one connection."""

    courier: Courier
    refuse: Callable[[Connection, SendResult], None]
    frames: Callable[[], dict[str, list[bytes]]]


@pytest.fixture(params=["management-api", "fake"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "fake":
        fake = FakeCourier(FixedClock())
        yield Subject(fake, lambda it, result: fake.results.update({it.id: [result]}), lambda: fake.frames)
        return
    with management_api() as api:
        yield Subject(
            _adapter(api), lambda it, result: api.says.update({it.id: REFUSALS[result]}), lambda: api.frames
        )


def sent(subject: Subject, *connections: Connection) -> list[SendResult]:
    """The results of sending to all of *connections*, in their order."""
    results = {connection.id: result for connection, result in subject.courier.deliver(FRAME, connections)}
    return [results[connection.id] for connection in connections]


def _adapter(api: ManagementApi) -> ManagementApiGateway:
    patient = timedelta(seconds=10)
    return ManagementApiGateway(
        region=REGION, endpoint=api.endpoint, connect_timeout=patient, timeout=patient
    )


def test_each_connection_gets_the_frame(subject: Subject) -> None:
    assert sent(subject, ONE, OTHER) == [SendResult.DELIVERED] * 2
    assert subject.frames() == {ONE.id: [FRAME], OTHER.id: [FRAME]}


def test_a_connection_may_be_sent_to_again(subject: Subject) -> None:
    assert [sent(subject, ONE) for _ in range(3)] == [[SendResult.DELIVERED]] * 3
    assert subject.frames() == {ONE.id: [FRAME] * 3}


@pytest.mark.parametrize("result", REFUSALS)
def test_a_refusal_is_a_result_and_never_raised(subject: Subject, result: SendResult) -> None:
    subject.refuse(ONE, result)

    assert sent(subject, ONE, OTHER) == [result, SendResult.DELIVERED]
    assert subject.frames() == {OTHER.id: [FRAME]}


def test_what_is_under_way_is_answered_while_there_is_nothing_to_begin(subject: Subject) -> None:
    answered: list[Connection] = []

    def connections() -> Iterator[Connection | None]:
        yield ONE
        while not answered:
            yield None
        yield OTHER

    for connection, _ in subject.courier.deliver(FRAME, connections()):
        answered.append(connection)

    assert answered == [ONE, OTHER]


def test_a_connection_may_be_tried_again_once_it_was_answered(subject: Subject) -> None:
    again: list[Connection] = [ONE, ONE]

    def connections() -> Iterator[Connection | None]:
        while again:
            yield again.pop()

    assert [it for it, _ in subject.courier.deliver(FRAME, connections())] == [ONE, ONE]


def test_an_error_of_the_caller_is_raised(subject: Subject) -> None:
    def connections() -> Iterator[Connection | None]:
        yield ONE
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        list(subject.courier.deliver(FRAME, connections()))
    assert sent(subject, OTHER) == [SendResult.DELIVERED]
