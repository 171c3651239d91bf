"""The promises of Gateway, for the management API's adapter and the fake."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import pytest

from app.adapters.gateway import ManagementApiGateway
from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection, ConnectionId
from app.domain.ports import Gateway
from tests.builders import a_connection
from tests.dynamodb_local import REGION
from tests.fakes import FakeGateway
from tests.integration.management_api import ManagementApi, Say, hanging_up, management_api, refusing

REFUSALS: dict[ProbeResult, Say] = {
    ProbeResult.GONE: refusing(410, "GoneException"),
    ProbeResult.THROTTLED: refusing(429, "LimitExceededException"),
    ProbeResult.FORBIDDEN: refusing(403, "ForbiddenException"),
    ProbeResult.FAILED: hanging_up,
}
ONE, OTHER = a_connection(id=ConnectionId("c-1")), a_connection(id=ConnectionId("c-2"))


@dataclass
class Subject:
    """A gateway under test; ``refuse`` makes it answer otherwise about one connection.

    ``call`` is the name of the call of many connections that is tested.
    """

    gateway: Gateway
    call: str
    refuse: Callable[[Connection, ProbeResult], None]

    def probe(self, connections: Iterable[Connection | None]) -> Iterator[tuple[Connection, ProbeResult]]:
        if self.call == "keep_alive":
            return self.gateway.keep_alive(connections, "@1764412345678")
        return self.gateway.probe(connections)


@pytest.fixture(params=["probe", "keep_alive"])
def call(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["management-api", "fake"])
def subject(request: pytest.FixtureRequest, call: str) -> Iterator[Subject]:
    if request.param == "fake":
        fake = FakeGateway()
        yield Subject(fake, call, lambda connection, result: fake.results.update({connection.id: result}))
        return
    with management_api() as api:
        yield Subject(
            _adapter(api), call, lambda connection, result: api.says.update({connection.id: REFUSALS[result]})
        )


def probed(subject: Subject, *connections: Connection) -> list[ProbeResult]:
    """The results of the call about several at the same time, in the order of *connections*."""
    results = {connection.id: result for connection, result in subject.probe(connections)}
    return [results[connection.id] for connection in connections]


def _adapter(api: ManagementApi) -> ManagementApiGateway:
    patient = timedelta(seconds=10)
    return ManagementApiGateway(
        region=REGION, endpoint=api.endpoint, connect_timeout=patient, timeout=patient
    )


def test_an_open_connection_is_alive_however_often_it_is_probed(subject: Subject) -> None:
    assert [probed(subject, ONE, OTHER) for _ in range(3)] == [[ProbeResult.ALIVE] * 2] * 3


def test_a_connection_that_is_closed_is_gone(subject: Subject) -> None:
    assert subject.gateway.close(ONE) is ProbeResult.CLOSED

    assert probed(subject, ONE, OTHER) == [ProbeResult.GONE, ProbeResult.ALIVE]
    assert subject.gateway.close(ONE) is ProbeResult.GONE


@pytest.mark.parametrize("result", REFUSALS)
def test_a_refusal_is_a_result_and_never_raised(subject: Subject, result: ProbeResult) -> None:
    subject.refuse(ONE, result)

    assert probed(subject, ONE, OTHER) == [result, ProbeResult.ALIVE]
    assert subject.gateway.close(ONE) is result


def test_probes_that_are_under_way_are_answered_while_there_is_nothing_to_begin(subject: Subject) -> None:
    answered: list[Connection] = []

    def connections() -> Iterator[Connection | None]:
        yield ONE
        while not answered:
            yield None
        yield OTHER

    for connection, _ in subject.probe(connections()):
        answered.append(connection)

    assert answered == [ONE, OTHER]


def test_without_connections_there_are_no_results(subject: Subject) -> None:
    assert list(subject.probe([])) == []


def test_probes_may_be_given_up(subject: Subject) -> None:
    for _ in subject.probe([ONE, OTHER]):
        break

    assert probed(subject, ONE, OTHER) == [ProbeResult.ALIVE] * 2


def test_an_error_of_the_caller_is_raised(subject: Subject) -> None:
    def connections() -> Iterator[Connection | None]:
        yield ONE
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        list(subject.probe(connections()))


def test_several_threads_may_call_it_at_once(subject: Subject) -> None:
    connections = [a_connection(id=ConnectionId(f"c-{number}")) for number in range(32)]
    for connection in connections[::2]:
        subject.refuse(connection, ProbeResult.GONE)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda it: probed(subject, it), connections))

    assert results == [[ProbeResult.GONE], [ProbeResult.ALIVE]] * 16
