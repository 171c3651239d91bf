"""Faults of the bus over real sockets: an event is not logged before the bus has taken it."""

import json
import logging
import time
from datetime import timedelta

import pytest

from app.containers.stream import Stream
from app.domain.errors import EventsUnavailable
from app.domain.model import AccountId, ClientId, RegionName
from app.domain.presence import Client, Joined, SessionId
from app.settings import LONGEST_STORE_CALL, Settings, StoreTimeouts
from tests.deadline import eventually
from tests.fakes import RecordingPublisher
from tests.integration.faulty_database import Answer, faulty_database, hanging_up, saying
from tests.peer import peer, silent

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
JOINED = Joined(Client(ClientId("wall-3"), AccountId(""), RegionName("")), SessionId("c-1@1795251600000"))


def answering(**body: object) -> Answer:
    return saying(200, json.dumps(body).encode(), "R1")


def refusing(status: int, code: str) -> Answer:
    return saying(status, json.dumps({"__type": code, "message": "no"}).encode(), "R1")


def failing(code: str) -> Answer:
    return answering(FailedEntryCount=1, Entries=[{"ErrorCode": code, "ErrorMessage": "no"}])


TAKING = answering(FailedEntryCount=0, Entries=[{"EventId": "e-1"}])


class Published:
    """What came of an attempt to publish an event at *endpoint*: the reason if it failed, and the log.

    *read_timeout* is longer than settings allow, so that a busy machine adds no attempts.
    """

    def __init__(
        self,
        endpoint: str,
        monkeypatch: pytest.MonkeyPatch,
        read_timeout: timedelta = timedelta(seconds=60),
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", endpoint)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        environ = {
            "CONNECTIONS_TABLE": "Connections",
            "AWS_REGION": "eu-central-1",
            "PRESENCE_BUS": "presence",
        }
        settings = Settings.from_environ(environ)._replace(store_timeouts=StoreTimeouts(read=read_timeout))
        log = RecordingPublisher()
        publisher = Stream(settings=settings, publisher=log).event_publisher()
        self.reason = ""
        try:
            publisher.publish(JOINED)
        except EventsUnavailable as error:
            self.reason = error.reason
        self.logged = log.events


@pytest.mark.parametrize(
    ("answer", "reason", "attempts"),
    [
        (failing("InternalFailure"), "InternalFailure", 1),
        (failing("ThrottlingException"), "ThrottlingException", 1),
        (failing("AccessDeniedException"), "AccessDeniedException", 1),
        (refusing(400, "ThrottlingException"), "ThrottlingException", 3),
        (refusing(400, "AccessDeniedException"), "AccessDeniedException", 1),
        (refusing(400, "ValidationException"), "ValidationException", 1),
        (refusing(500, "InternalException"), "InternalException", 3),
        (saying(503, b"<html>down</html>"), "503", 3),
        (hanging_up, "ConnectionClosedError", 3),
        (saying(200, b"<html>log in</html>"), "NotEventBridge", 1),
        (answering(FailedEntryCount=0, Entries=[]), "NotEventBridge", 1),
    ],
)
def test_an_event_that_the_bus_does_not_take_is_not_logged(
    answer: Answer, reason: str, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_database(answer) as bus:
        published = Published(bus.endpoint, monkeypatch)

    assert (published.reason, published.logged) == (reason, [])
    assert bus.requests == attempts


def test_a_silent_bus_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with peer(silent) as bus:
        endpoint = f"http://{bus.host}:{bus.port}"
        published = Published(endpoint, monkeypatch, timedelta(milliseconds=200))
        eventually(lambda: bus.connections == 3)  # the last one may not have been accepted yet

    assert (published.reason, published.logged) == ("ReadTimeoutError", [])
    assert bus.connections == 3
    assert timedelta(seconds=time.monotonic() - began) < LONGEST_STORE_CALL


@pytest.mark.parametrize("fault", [refusing(500, "InternalException"), hanging_up])
def test_an_event_is_put_again_if_a_request_fails(fault: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_database(fault, TAKING) as bus:
        published = Published(bus.endpoint, monkeypatch)

    assert (published.reason, published.logged) == ("", [JOINED])
    assert bus.requests == 2


@pytest.mark.parametrize("answer", [TAKING, refusing(400, "AccessDeniedException")])
def test_nothing_of_the_credentials_is_logged(
    answer: Answer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.NOTSET, logger="botocore")
    with faulty_database(answer) as bus:
        Published(bus.endpoint, monkeypatch)

    assert caplog.records == []
