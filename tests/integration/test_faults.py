"""Real faults of the database: each ends in the promised answer within the promised time."""

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from app.containers.handshakes import Handshakes
from app.entrypoints.routes import Routes
from app.settings import Settings
from tests.builders import a_connect_event, a_disconnect_event
from tests.dynamodb_local import REGION, a_client, create_table, running_dynamodb_local
from tests.integration.faulty_database import (
    Answer,
    faulty_database,
    forwarding_to,
    hanging_up,
    losing_the_answer_of,
    refusing,
    saying,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

STORES = ("dynamodb", "dynamodb-boto3")


class App:
    """The routes, composed from the environment, with two attempts per store call."""

    def __init__(
        self, store: str, endpoint: str, table_name: str = "Connections", read_timeout_ms: int = 5000
    ) -> None:
        self.settings = Settings.from_environ(
            {
                "STORE": store,
                "CONNECTIONS_TABLE": table_name,
                "AWS_REGION": REGION,
                "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
                "STORE_READ_TIMEOUT_MS": str(read_timeout_ms),
                "STORE_ATTEMPTS": "2",
            }
        )
        container = Handshakes(settings=self.settings)
        self.routes = Routes(container.open_connection(), container.close_connection())

    def connect(self) -> int:
        return self.routes.connect(a_connect_event("c-1"), None)["statusCode"]

    def disconnect(self) -> int:
        return self.routes.disconnect(a_disconnect_event("c-1"), None)["statusCode"]

    @contextmanager
    def in_time(self) -> Iterator[None]:
        """Fail if the block takes longer than both attempts and the pause between them."""
        timeouts = self.settings.store_timeouts
        began = time.monotonic()
        yield
        took = timedelta(seconds=time.monotonic() - began)
        longest = timeouts.attempts * (timeouts.connect + timeouts.read) + timedelta(seconds=1)
        assert took < longest + timedelta(seconds=1)  # for a busy machine


type MakeApp = Callable[..., App]


@pytest.fixture(params=STORES)
def an_app(request: pytest.FixtureRequest) -> MakeApp:
    """Makes an App on each transport; they fail alike."""
    return partial(App, request.param)


@contextmanager
def silent_port() -> Iterator[str]:
    """An endpoint that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, logger="switchboard"):
        yield


def record(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    (only,) = (each for each in caplog.records if each.name == "switchboard")
    return only


def logged(caplog: pytest.LogCaptureFixture) -> tuple[object, object, object]:
    """The record's event, reason and write."""
    facts = vars(record(caplog))
    return facts["event"], facts["reason"], facts["write"]


def test_a_stopped_database_refuses_the_handshake(caplog: pytest.LogCaptureFixture) -> None:
    with running_dynamodb_local() as endpoint:  # one for both transports: it takes seconds to start
        client = a_client(endpoint)
        table_name = create_table(client)
        client.close()
        apps = [App(store, endpoint, table_name) for store in STORES]
        assert [app.connect() for app in apps] == [200, 200]

    for app in apps:
        caplog.clear()
        with app.in_time():
            assert app.disconnect() == 503

        event, reason, _ = logged(caplog)
        assert event == "store.unavailable"
        assert reason in {"EndpointConnectionError", "ConnectionClosedError"}


def test_an_unreachable_database_refuses_the_handshake(
    an_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    with silent_port() as endpoint:
        app = an_app(endpoint)  # the port is closed before the call

    with app.in_time():
        assert app.connect() == 503

    assert logged(caplog) == ("store.unavailable", "EndpointConnectionError", "none")


def test_without_an_answer_the_outcome_of_the_write_is_unknown(
    an_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    with silent_port() as endpoint:
        app = an_app(endpoint, read_timeout_ms=300)
        with app.in_time():
            assert app.connect() == 503

    assert logged(caplog) == ("store.unavailable", "ReadTimeoutError", "unknown")


@pytest.mark.parametrize(
    ("answer", "reason", "write", "attempts"),
    [
        pytest.param(
            refusing(400, "ProvisionedThroughputExceededException"),
            "ProvisionedThroughputExceededException",
            "none",
            2,
            id="throttling",
        ),
        pytest.param(refusing(400, "ThrottlingException"), "ThrottlingException", "none", 2, id="rate limit"),
        pytest.param(refusing(400, "RequestLimitExceeded"), "RequestLimitExceeded", "none", 2, id="quota"),
        pytest.param(saying(429, b"<html>slow down</html>"), "429", "none", 2, id="a proxy's 429"),
        pytest.param(saying(403, b"<html>no</html>"), "403", "none", 1, id="a proxy's 403"),
        pytest.param(refusing(500, "InternalServerError"), "InternalServerError", "unknown", 2, id="500"),
        pytest.param(saying(503, b"<html>busy</html>"), "503", "unknown", 2, id="a proxy's 503"),
        pytest.param(
            refusing(400, "ExpiredTokenException"), "ExpiredTokenException", "none", 1, id="expired"
        ),
        pytest.param(
            refusing(400, "UnrecognizedClientException"),
            "UnrecognizedClientException",
            "none",
            1,
            id="revoked",
        ),
        pytest.param(saying(200, b"<html>hello</html>"), "NotDynamoDB", "unknown", 1, id="not DynamoDB"),
        pytest.param(hanging_up, "ConnectionClosedError", "unknown", 2, id="closed"),
    ],
)
def test_a_database_that_fails_for_now_refuses_the_handshake(
    an_app: MakeApp, caplog: pytest.LogCaptureFixture, answer: Answer, reason: str, write: str, attempts: int
) -> None:
    with faulty_database(answer) as database:
        app = an_app(database.endpoint)
        with app.in_time():
            assert app.connect() == 503

    assert logged(caplog) == ("store.unavailable", reason, write)
    assert database.requests == attempts


def test_after_an_unanswered_attempt_a_refusal_leaves_the_outcome_unknown(
    an_app: MakeApp,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with faulty_database(hanging_up, refusing(400, "ThrottlingException")) as database:
        assert an_app(database.endpoint).connect() == 503

    assert logged(caplog) == ("store.unavailable", "ThrottlingException", "unknown")


def test_an_unknown_outcome_does_not_carry_over_to_the_next_call(
    an_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    with faulty_database(hanging_up, hanging_up, refusing(400, "ExpiredTokenException")) as database:
        app = an_app(database.endpoint)
        assert app.connect() == 503
        caplog.clear()
        assert app.connect() == 503

    assert logged(caplog) == ("store.unavailable", "ExpiredTokenException", "none")


def test_a_disconnect_that_meets_a_fault_is_answered_503_and_logged(
    an_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    with faulty_database(refusing(400, "ThrottlingException")) as database:
        app = an_app(database.endpoint)
        with app.in_time():
            assert app.disconnect() == 503

    assert logged(caplog) == ("store.unavailable", "ThrottlingException", "none")


def test_missing_credentials_refuse_the_handshake(
    an_app: MakeApp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")

    assert an_app("http://127.0.0.1:9").connect() == 503
    assert logged(caplog) == ("store.unavailable", "NoCredentialsError", "none")


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "ResourceNotFoundException", "ValidationException"]
)
def test_a_fault_of_the_deployment_is_a_bug_logged_with_its_traceback(
    an_app: MakeApp, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    with faulty_database(refusing(400, code)) as database:
        assert an_app(database.endpoint).connect() == 500

    assert vars(record(caplog))["event"] == "bug"
    assert record(caplog).exc_info is not None
    assert database.requests == 1


def test_a_retry_after_a_lost_answer_finds_the_write(
    an_app: MakeApp, dynamodb_local: str, dynamodb: "DynamoDBClient", table_name: str
) -> None:
    answers = losing_the_answer_of(dynamodb_local), forwarding_to(dynamodb_local)
    with faulty_database(*answers) as database:
        assert an_app(database.endpoint, table_name).connect() == 200

    assert database.requests == 2
    assert len(dynamodb.scan(TableName=table_name)["Items"]) == 1


def test_a_retry_after_a_lost_answer_does_not_know_whether_an_item_was_deleted(
    an_app: MakeApp,
    dynamodb_local: str,
    dynamodb: "DynamoDBClient",
    table_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert an_app(dynamodb_local, table_name).connect() == 200
    caplog.clear()
    answers = losing_the_answer_of(dynamodb_local), forwarding_to(dynamodb_local)
    with faulty_database(*answers) as database:
        assert an_app(database.endpoint, table_name).disconnect() == 200

    assert vars(record(caplog))["found"] == "unknown"
    assert dynamodb.scan(TableName=table_name)["Items"] == []


def test_if_all_answers_are_lost_the_write_is_applied_and_logged_as_unknown(
    an_app: MakeApp,
    dynamodb_local: str,
    dynamodb: "DynamoDBClient",
    table_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with faulty_database(losing_the_answer_of(dynamodb_local), hanging_up) as database:
        assert an_app(database.endpoint, table_name).connect() == 503

    assert logged(caplog) == ("store.unavailable", "ConnectionClosedError", "unknown")
    assert len(dynamodb.scan(TableName=table_name)["Items"]) == 1


def test_after_a_refusal_by_the_database_there_is_no_item(
    an_app: MakeApp, dynamodb_local: str, dynamodb: "DynamoDBClient", table_name: str
) -> None:
    refusal = refusing(400, "ThrottlingException")
    with faulty_database(refusal, refusal, forwarding_to(dynamodb_local)) as database:
        app = an_app(database.endpoint, table_name)
        assert app.connect() == 503
        assert dynamodb.scan(TableName=table_name)["Items"] == []

        assert app.connect() == 200
        assert len(dynamodb.scan(TableName=table_name)["Items"]) == 1
