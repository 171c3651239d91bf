"""The page's server: whom it answers, what it serves, what it refuses."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from flask.testing import FlaskClient

from app.domain.model import AccountId, Connection, ConnectionId
from infra.page import MAX_TEXT, application
from infra.stack import LocalStackFailure, Record
from tests.builders import NOON, a_connection

ROOT = Path(__file__).parent.parent.parent
ORIGIN = "http://localhost"  # of the test client
ALERT = {"account": "123456789012", "region": "eu-central-1", "severity": "high", "text": "Unusual sign-in"}


@dataclass
class FakeStack:
    """A stack of connections that a test sets; it keeps what is sent."""

    now_connected: list[Connection] = field(default_factory=list)
    sent: list[Record] = field(default_factory=list)
    is_down: bool = False
    websocket_url: str = "ws://127.0.0.1:20001/_aws/a1b2c3/prod"

    def connections(self) -> list[Connection]:
        if self.is_down:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:20001")
        return self.now_connected

    def send(self, message: Record) -> Record:
        if self.is_down:
            raise LocalStackFailure("The message was not delivered.")
        self.sent.append(message)
        return {"event": "delivery.finished", "selected": 2, "delivered": 1}


@pytest.fixture
def stack() -> FakeStack:
    return FakeStack()


@pytest.fixture
def over() -> threading.Event:
    return threading.Event()


@pytest.fixture
def browser(stack: FakeStack, over: threading.Event) -> FlaskClient:
    return application(stack, over).test_client()


def events_of(browser: FlaskClient) -> Iterator[bytes]:
    return browser.get("/connections", buffered=False).iter_encoded()


def post(browser: FlaskClient, alert: Any, **headers: str) -> Any:
    return browser.post("/alerts", json=alert, headers={"Origin": ORIGIN} | headers)


@pytest.mark.parametrize(
    "path",
    ["/", "/dashboard.html", "/page.js", "/dashboard.js", "/network.js", "/style.css", "/icon.svg"],
)
def test_the_pages_own_files_are_served(path: str, browser: FlaskClient) -> None:
    with browser.get(path) as answer:
        assert answer.status_code == HTTPStatus.OK


def test_the_client_is_the_one_that_dashboards_use(browser: FlaskClient) -> None:
    with browser.get("/switchboard.js") as answer:
        assert answer.data == (ROOT / "infra" / "client" / "switchboard.js").read_bytes()


@pytest.mark.parametrize(
    "path",
    ["/page.py", "/../page.py", "/%2e%2e/page.py", "/..%2fpage.py", "/etc/passwd", "/client/switchboard.js"],
)
def test_nothing_else_of_the_disk_is_served(path: str, browser: FlaskClient) -> None:
    with browser.get(path) as answer:
        assert answer.status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""])
@pytest.mark.parametrize("path", ["/", "/settings", "/connections"])
def test_a_name_that_leads_to_this_machine_is_refused(host: str, path: str, browser: FlaskClient) -> None:
    answer = browser.get(path, headers={"Host": host})

    assert answer.status_code == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://localhost:9090", "https://localhost", "null"]
)
def test_an_alert_from_another_site_is_refused(origin: str, stack: FakeStack, browser: FlaskClient) -> None:
    answer = post(browser, ALERT, Origin=origin)

    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert stack.sent == []


@pytest.mark.parametrize("path", ["/", "/connections", "/settings", "/switchboard.js"])
def test_another_site_gets_nothing_by_a_script(browser: FlaskClient, path: str) -> None:
    asked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}

    answer = browser.get(path, headers=asked)

    assert (answer.status_code, answer.text) == (403, "Only the page itself may ask.")


def test_another_site_may_link_to_the_page(browser: FlaskClient) -> None:
    asked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}

    with browser.get("/", headers=asked) as answer:
        assert answer.status_code == 200


def test_an_alert_without_an_origin_is_refused(stack: FakeStack, browser: FlaskClient) -> None:
    answer = browser.post("/alerts", json=ALERT)

    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert stack.sent == []


def test_a_form_of_another_kind_is_refused(stack: FakeStack, browser: FlaskClient) -> None:
    answer = browser.post("/alerts", data=ALERT, headers={"Origin": ORIGIN})

    assert answer.status_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert stack.sent == []


@pytest.mark.parametrize("path", ["/", "/dashboard.html?account=wrong", "/no-such-file"])
def test_every_answer_has_a_policy_without_inline_scripts(path: str, browser: FlaskClient) -> None:
    with browser.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]

    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "connect-src 'self' ws://127.0.0.1:20001;" in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy


def test_an_alert_becomes_a_message_of_its_account_and_region(stack: FakeStack, browser: FlaskClient) -> None:
    answer = post(browser, ALERT)

    [message] = stack.sent
    assert answer.json == {"selected": 2, "delivered": 1}
    assert message["audience"] == {"account": "123456789012", "region": "eu-central-1"}
    assert message["data"] == {"text": "Unusual sign-in", "severity": "high"}


def test_an_alert_without_a_region_is_for_all_of_the_account(stack: FakeStack, browser: FlaskClient) -> None:
    post(browser, ALERT | {"region": ""})

    [message] = stack.sent
    assert message["audience"] == {"account": "123456789012"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"account": ""}, "The audience's account and region must not be empty: leave them out."),
        ({"account": "12"}, "The audience's account must be empty or an AWS account id of 12 digits."),
        ({"account": 123456789012}, "The audience's account must be text."),
        ({"region": "nowhere"}, "The audience's region must be empty or the name of an AWS region."),
        ({"region": ["eu-central-1"]}, "The audience's region must be text."),
        ({"text": " "}, "The text must be 1 to 500 characters."),
        ({"text": "x" * (MAX_TEXT + 1)}, "The text must be 1 to 500 characters."),
        ({"text": None}, "The text must be 1 to 500 characters."),
        ({"severity": "urgent"}, "The severity must be low, medium, high or critical."),
        ({"severity": []}, "The severity must be low, medium, high or critical."),
        ({"everyone": True}, "An alert has account, region, severity, text, and no other field."),
    ],
)
def test_a_wrong_alert_is_refused_with_a_sentence(
    changes: dict[str, Any], sentence: str, stack: FakeStack, browser: FlaskClient
) -> None:
    answer = post(browser, ALERT | changes)

    assert (answer.status_code, answer.text) == (HTTPStatus.BAD_REQUEST, sentence)
    assert stack.sent == []


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"alert"'])
def test_what_is_no_alert_is_refused(body: str, stack: FakeStack, browser: FlaskClient) -> None:
    answer = browser.post("/alerts", data=body, content_type="application/json", headers={"Origin": ORIGIN})

    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert stack.sent == []


def test_a_huge_request_is_refused(stack: FakeStack, browser: FlaskClient) -> None:
    answer = post(browser, ALERT | {"text": "x" * 20_000})

    assert answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert stack.sent == []


def test_an_alert_that_the_stack_does_not_deliver_is_said(stack: FakeStack, browser: FlaskClient) -> None:
    stack.is_down = True

    answer = post(browser, ALERT)

    assert answer.status_code == HTTPStatus.BAD_GATEWAY
    assert answer.text == "The stack did not do it: The message was not delivered."


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"clientId": ""}, "clientId must be 1 to 128 characters without control characters."),
        ({"account": "12"}, "account must be empty or an AWS account id of 12 digits."),
        ({"region": "nowhere"}, "region must be empty or the name of an AWS region."),
    ],
)
def test_a_dashboard_that_no_handshake_would_admit_is_refused_with_a_sentence(
    query: dict[str, str], sentence: str, browser: FlaskClient
) -> None:
    answer = browser.get("/dashboard.html", query_string=query)

    assert (answer.status_code, answer.text) == (HTTPStatus.BAD_REQUEST, sentence)


def test_a_dashboard_learns_where_to_connect(stack: FakeStack, browser: FlaskClient) -> None:
    assert browser.get("/settings").json == {"webSocketUrl": stack.websocket_url}


def test_the_list_is_sent_at_each_change_the_newest_first(
    stack: FakeStack, over: threading.Event, browser: FlaskClient
) -> None:
    first = a_connection(id=ConnectionId("c-1"), connected_at=NOON)
    events = events_of(browser)

    nobody = next(events)
    stack.now_connected = [first]
    one = next(events)
    unchanged = next(events)
    over.set()
    the_end = next(events, None)

    assert nobody == b"data: []\n\n"
    assert [it["clientId"] for it in json.loads(one[len("data: ") :])] == [first.client_id]
    assert unchanged == b":\n\n"
    assert the_end is None


def test_the_list_ends_if_the_stack_does_not_answer(stack: FakeStack, browser: FlaskClient) -> None:
    stack.is_down = True

    answer = browser.get("/connections")

    assert (answer.status_code, answer.data) == (HTTPStatus.OK, b"")


def test_what_a_client_sent_cannot_break_an_event(stack: FakeStack, browser: FlaskClient) -> None:
    stack.now_connected = [a_connection(user_agent="one\n\ndata: two", account=AccountId(""))]

    event = next(events_of(browser))

    assert event.count(b"\n") == 2
