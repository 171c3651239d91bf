"""The routes: the answer to each event, and the log record of its outcome."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings

from app.adapters.ip import PeerFirstIpResolver
from app.adapters.memory import MemoryConnectionTable
from app.domain.admission import Reason
from app.domain.admitting import RestrictedAdmission
from app.domain.errors import Denied, KeysUnavailable, StorageUnavailable
from app.domain.handshakes import CloseConnection, OpenAdmission, OpenConnection
from app.domain.model import Connection, ConnectionId, Handshake, Removed, Tombstone
from app.domain.ports import Admission, ConnectionStore
from app.entrypoints.routes import Routes
from tests.builders import a_connect_event, a_disconnect_event, an_event
from tests.fakes import FixedClock
from tests.tokens import REASONS
from tests.unit.test_events import CHROME, gateway_like, json_values

FOREVER = datetime(2100, 1, 1, tzinfo=UTC)
STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "exc_text"}


class FailingStore(MemoryConnectionTable):
    """A store that raises the same error for every call."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def add(self, connection: Connection) -> Connection:
        raise self._error

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        raise self._error


class Refusing:
    """Admission that refuses everybody with the same error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def admit(self, handshake: Handshake, at: datetime) -> Handshake:
        raise self._error


def routes(store: ConnectionStore, admission: Admission | None = None) -> Routes:
    clock, admission = FixedClock(), admission or OpenAdmission()
    return Routes(
        OpenConnection(clock, PeerFirstIpResolver(), admission, store, lifetime=timedelta(hours=24)),
        CloseConnection(clock, store),
    )


@pytest.fixture
def store() -> MemoryConnectionTable:
    return MemoryConnectionTable()


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        yield


def facts(caplog: pytest.LogCaptureFixture) -> dict[str, object]:
    """The extra fields of the one log record."""
    (record,) = caplog.records
    return {name: value for name, value in vars(record).items() if name not in STANDARD_FIELDS}


def test_connect_answers_connected_once_the_connection_is_in_the_store(store: MemoryConnectionTable) -> None:
    answer = routes(store).connect(a_connect_event("c-1", clientId="dashboard-7"), None)

    assert answer == {"statusCode": 200, "body": "connected"}
    assert store.get(ConnectionId("c-1")) is not None


def test_disconnect_answers_disconnected_once_the_connection_is_not_in_the_store(
    store: MemoryConnectionTable,
) -> None:
    routes(store).connect(a_connect_event("c-1"), None)

    answer = routes(store).disconnect(a_disconnect_event("c-1"), None)

    assert answer == {"statusCode": 200, "body": "disconnected"}
    assert store.get(ConnectionId("c-1")) is None


def test_disconnecting_an_unknown_connection_answers_disconnected(store: MemoryConnectionTable) -> None:
    answer = routes(store).disconnect(a_disconnect_event("c-9"), None)

    assert answer == {"statusCode": 200, "body": "disconnected"}


def test_a_repeated_connect_has_the_same_answer(store: MemoryConnectionTable) -> None:
    first = routes(store).connect(a_connect_event("c-1"), None)

    assert routes(store).connect(a_connect_event("c-1"), None) == first


def test_a_client_that_left_before_it_was_recorded_is_refused_and_logged(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture
) -> None:
    event = a_connect_event("c-1")
    store.tombstone(
        Tombstone(
            ConnectionId("c-1"),
            connected_at=FOREVER,
            closed_at=FOREVER,
            expires_at=FOREVER + timedelta(minutes=10),
        )
    )

    answer = routes(store).connect(event, None)

    assert answer == {"statusCode": 410, "body": "The connection had ended before it was recorded."}
    assert facts(caplog) == {
        "event": "handshake.too_late",
        "route": "$connect",
        "connectionId": "c-1",
    }


def test_the_handler_answers_by_the_events_route(store: MemoryConnectionTable) -> None:
    handler = routes(store).handler

    assert handler(an_event("connect_browser"), None) == {"statusCode": 200, "body": "connected"}
    assert handler(an_event("disconnect_client_closed_1005"), None) == {
        "statusCode": 200,
        "body": "disconnected",
    }


@pytest.mark.parametrize("event", [{}, {"requestContext": {"routeKey": "$default"}}, [], None])
def test_the_handler_refuses_an_unknown_route(store: MemoryConnectionTable, event: object) -> None:
    answer = routes(store).handler(event, None)

    assert answer["statusCode"] == 400
    assert answer["body"] == "requestContext.routeKey must be $connect or $disconnect."


def test_an_opened_connection_is_logged_with_its_client(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture
) -> None:
    routes(store).connect(an_event("connect_browser"), None)

    assert caplog.records[0].levelname == "INFO"
    assert facts(caplog) == {
        "event": "connection.opened",
        "repeated": False,
        "connectionId": "JKJaXeXAmPl3AbC=",
        "clientId": "dashboard-7",
        "account": "123456789012",
        "region": "ap-northeast-2",
        "sourceIp": "203.0.113.24",
        "userAgent": CHROME,
    }


def test_a_closed_connection_is_logged_with_its_client_and_its_duration(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture
) -> None:
    routes(store).connect(an_event("connect_browser"), None)
    caplog.clear()

    routes(store).disconnect(an_event("disconnect_client_closed_1005"), None)

    assert caplog.records[0].levelname == "INFO"
    assert facts(caplog) == {
        "event": "connection.closed",
        "connectionId": "JKJaXeXAmPl3AbC=",
        "found": True,
        "clientId": "dashboard-7",
        "account": "123456789012",
        "region": "ap-northeast-2",
        "sourceIp": "203.0.113.24",
        "userAgent": CHROME,
        "durationMs": 374362,
        "disconnectStatusCode": 1005,
        "disconnectReason": "Client-side close frame status not set",
    }


def test_a_disconnect_that_finds_no_item_is_logged_as_not_found(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture
) -> None:
    event = a_disconnect_event("c-9")
    del event["requestContext"]["connectedAt"]

    routes(store).disconnect(event, None)

    assert facts(caplog) == {
        "event": "connection.closed",
        "connectionId": "c-9",
        "found": False,
        "disconnectStatusCode": 1005,
        "disconnectReason": "Client-side close frame status not set",
    }


class UncertainStore(MemoryConnectionTable):
    """A store that found nothing, after an attempt that was not answered."""

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return Removed(None, outcome_unknown=True)


def test_a_disconnect_of_unknown_outcome_is_logged_as_found_unknown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    routes(UncertainStore()).disconnect(a_disconnect_event("c-1"), None)

    assert facts(caplog)["found"] == "unknown"


def test_a_repeated_connect_is_logged_as_repeated_and_with_what_is_stored(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture
) -> None:
    routes(store).connect(a_connect_event("c-1", clientId="first"), None)
    caplog.clear()

    routes(store).connect(a_connect_event("c-1", clientId="second"), None)

    assert facts(caplog)["repeated"] is True
    assert facts(caplog)["clientId"] == "first"


def test_a_rejected_handshake_is_answered_and_logged_with_its_field_and_not_its_value(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture
) -> None:
    answer = routes(store).connect(a_connect_event("c-1", account="s3cr3t"), None)

    assert answer == {
        "statusCode": 400,
        "body": "account must be empty or an AWS account id of 12 digits.",
    }
    assert caplog.records[0].levelname == "WARNING"
    assert facts(caplog) == {
        "event": "handshake.rejected",
        "route": "$connect",
        "connectionId": "c-1",
        "field": "account",
    }
    assert store.get(ConnectionId("c-1")) is None


def test_a_client_that_comes_back_is_answered_and_logged_like_any_other(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture
) -> None:
    routes(store).connect(a_connect_event("c-1", clientId="wall-3"), None)
    expected = facts(caplog) | {"connectionId": "c-2"}
    caplog.clear()

    answer = routes(store).connect(a_connect_event("c-2", clientId="wall-3", since="m-41"), None)

    assert answer == {"statusCode": 200, "body": "connected"}
    assert facts(caplog) == expected
    stored = store.get(ConnectionId("c-2"))
    assert stored is not None
    assert stored.since == "m-41"


@pytest.mark.parametrize("since", ["x" * 129, "a\nb"])
def test_a_client_that_says_what_nobody_can_have_is_refused(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture, since: str
) -> None:
    answer = routes(store).connect(a_connect_event("c-1", since=since), None)

    assert answer == {
        "statusCode": 400,
        "body": "since must be 1 to 128 characters without control characters.",
    }
    assert facts(caplog) == {
        "event": "handshake.rejected",
        "route": "$connect",
        "connectionId": "c-1",
        "field": "since",
    }
    assert store.get(ConnectionId("c-1")) is None


@pytest.mark.parametrize("route", ["connect", "disconnect"])
def test_an_event_without_a_connection_id_is_rejected_and_logged(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture, route: str
) -> None:
    answer = getattr(routes(store), route)({"requestContext": {}}, None)

    assert answer == {"statusCode": 400, "body": "requestContext.connectionId is missing."}
    assert facts(caplog)["event"] == "handshake.rejected"
    assert facts(caplog)["field"] == "requestContext.connectionId"


@pytest.mark.parametrize(("outcome_unknown", "write"), [(True, "unknown"), (False, "none")])
def test_connect_answers_503_if_the_store_is_unavailable(
    caplog: pytest.LogCaptureFixture, *, outcome_unknown: bool, write: str
) -> None:
    failing = FailingStore(StorageUnavailable("ReadTimeoutError", outcome_unknown=outcome_unknown))

    answer = routes(failing).connect(a_connect_event("c-1"), None)

    assert answer == {
        "statusCode": 503,
        "body": "The list of connections is unavailable; try again.",
    }
    assert caplog.records[0].levelname == "ERROR"
    assert facts(caplog) == {
        "event": "store.unavailable",
        "route": "$connect",
        "connectionId": "c-1",
        "reason": "ReadTimeoutError",
        "write": write,
    }


NOT_GRANTED = {Reason.ORIGIN, Reason.CLIENT, Reason.ACCOUNT, Reason.REGION}


@pytest.mark.parametrize("reason", REASONS)
def test_a_denied_handshake_is_answered_by_one_sentence_and_logged_with_its_reason(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    denied = Denied(reason, "user-42" if reason in NOT_GRANTED else None)

    answer = routes(store, Refusing(denied)).connect(a_connect_event(), None)

    assert answer == (
        {"statusCode": 403, "body": "This is not granted."}
        if reason in NOT_GRANTED
        else {"statusCode": 401, "body": "A valid token or ticket is required."}
    )
    assert list(store.scan(0, 1)) == []
    assert facts(caplog) == {
        "event": "handshake.denied",
        "route": "$connect",
        "connectionId": "c-1",
        "reason": reason,
        "sourceIp": a_connect_event()["requestContext"]["identity"]["sourceIp"],
    } | ({"principalId": "user-42"} if reason in NOT_GRANTED else {})


def test_the_origin_of_a_refused_page_is_logged(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture
) -> None:
    event = a_connect_event()
    admission = RestrictedAdmission(["https://app.example.com"])

    answer = routes(store, admission).connect(event, None)

    assert answer["statusCode"] == 403
    assert (facts(caplog)["reason"], facts(caplog)["origin"]) == (
        "origin",
        "https://dashboard.example.com:443",
    )


def test_without_keys_the_client_may_try_again(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture
) -> None:
    answer = routes(store, Refusing(KeysUnavailable("TooOld"))).connect(a_connect_event(), None)

    assert answer == {"statusCode": 503, "body": "Tokens can't be checked now; try again."}
    assert list(store.scan(0, 1)) == []
    assert facts(caplog) == {
        "event": "keys.unavailable",
        "route": "$connect",
        "connectionId": "c-1",
        "reason": "TooOld",
    }


@pytest.mark.parametrize(
    "offered", ["switchboard", "graphql-ws, switchboard", "switchboard,eyJhbGciOiJSUzI1NiJ9"]
)
def test_our_subprotocol_is_accepted_and_no_other(store: MemoryConnectionTable, offered: str) -> None:
    event = a_connect_event()
    event["headers"] = event["multiValueHeaders"] = None
    plain = routes(store).connect(event, None)
    event["multiValueHeaders"] = {"Sec-WebSocket-Protocol": [offered]}

    answer = routes(store).connect(event, None)

    assert plain == {"statusCode": 200, "body": "connected"}
    assert answer == {**plain, "headers": {"Sec-WebSocket-Protocol": "switchboard"}}


@pytest.mark.parametrize("offered", ["graphql-ws", "Switchboard", "switchboard2, x", " , "])
def test_another_subprotocol_is_not_accepted(store: MemoryConnectionTable, offered: str) -> None:
    event = a_connect_event()
    event["multiValueHeaders"] = {"Sec-WebSocket-Protocol": [offered]}

    assert routes(store).connect(event, None) == {"statusCode": 200, "body": "connected"}


def test_disconnect_answers_503_if_the_store_is_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    failing = FailingStore(StorageUnavailable("ThrottlingException", outcome_unknown=False))

    answer = routes(failing).disconnect(a_disconnect_event("c-1"), None)

    assert answer["statusCode"] == 503
    assert facts(caplog)["event"] == "store.unavailable"
    assert facts(caplog)["route"] == "$disconnect"


def test_a_bug_is_logged_whole_and_the_answer_says_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    answer = routes(FailingStore(KeyError("a secret"))).connect(a_connect_event("c-1"), None)

    (record,) = caplog.records
    assert answer == {"statusCode": 500, "body": "Internal error."}
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError
    assert facts(caplog) == {"event": "bug", "route": "$connect", "connectionId": "c-1"}


@given(event=json_values | gateway_like)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_event_is_answered_and_logged_once(caplog: pytest.LogCaptureFixture, event: object) -> None:
    of_memory = routes(MemoryConnectionTable())
    for act in (of_memory.connect, of_memory.disconnect, of_memory.handler):
        caplog.clear()

        answer = act(event, None)

        assert answer["statusCode"] in {200, 400}
        json.dumps(facts(caplog), ensure_ascii=False).encode()


def test_no_log_record_has_a_header_a_query_or_a_token(
    store: MemoryConnectionTable, caplog: pytest.LogCaptureFixture
) -> None:
    event = an_event("connect_agent_api_key_authorizer")
    event["queryStringParameters"]["token"] = "t0k3n"

    routes(store).connect(event, None)

    logged = json.dumps(facts(caplog))
    assert "example-key" not in logged
    assert "t0k3n" not in logged
    assert "Sec-WebSocket" not in logged
