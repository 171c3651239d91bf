"""The promises of Gateway, for the management API's adapter and the fake."""

from collections.abc import Callable, Iterator
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
    """A gateway under test; ``refuse`` makes it answer otherwise about one connection."""

    gateway: Gateway
    refuse: Callable[[Connection, ProbeResult], None]


@pytest.fixture(params=["management-api", "fake"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "fake":
        fake = FakeGateway()
        yield Subject(fake, lambda connection, result: fake.results.update({connection.id: result}))
        return
    with management_api() as api:
        yield Subject(
            _adapter(api), lambda connection, result: api.says.update({connection.id: REFUSALS[result]})
        )


def _adapter(api: ManagementApi) -> ManagementApiGateway:
    patient = timedelta(seconds=10)
    return ManagementApiGateway(
        region=REGION, endpoint=api.endpoint, connect_timeout=patient, read_timeout=patient
    )


def test_an_open_connection_is_alive_however_often_it_is_probed(subject: Subject) -> None:
    assert [subject.gateway.probe(ONE) for _ in range(3)] == [ProbeResult.ALIVE] * 3


def test_a_connection_that_is_closed_is_gone(subject: Subject) -> None:
    assert subject.gateway.close(ONE) is ProbeResult.CLOSED

    assert subject.gateway.probe(ONE) is ProbeResult.GONE
    assert subject.gateway.close(ONE) is ProbeResult.GONE
    assert subject.gateway.probe(OTHER) is ProbeResult.ALIVE


@pytest.mark.parametrize("result", REFUSALS)
def test_a_refusal_is_a_result_and_never_raised(subject: Subject, result: ProbeResult) -> None:
    subject.refuse(ONE, result)

    assert subject.gateway.probe(ONE) is result
    assert subject.gateway.close(ONE) is result
    assert subject.gateway.probe(OTHER) is ProbeResult.ALIVE


def test_several_threads_may_call_it_at_once(subject: Subject) -> None:
    connections = [a_connection(id=ConnectionId(f"c-{number}")) for number in range(32)]
    for connection in connections[::2]:
        subject.refuse(connection, ProbeResult.GONE)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(subject.gateway.probe, connections))

    assert results == [ProbeResult.GONE, ProbeResult.ALIVE] * 16
