"""API Gateway's events as domain values."""

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidHandshake
from app.entrypoints import events
from tests.builders import Event, a_connect_event, a_disconnect_event, an_event

CONNECTED_AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)

texts = st.text(st.characters(exclude_categories=[]))  # JSON can carry lone surrogates
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
FIELDS = (
    "requestContext", "connectionId", "connectedAt", "identity", "sourceIp", "userAgent", "authorizer",
    "principalId", "queryStringParameters", "clientId", "since", "headers", "multiValueHeaders",
    "X-Forwarded-For", "disconnectStatusCode", "disconnectReason", "requestTimeEpoch", "routeKey",
)  # fmt: skip
gateway_like = st.recursive(
    json_values,
    lambda inner: st.dictionaries(st.sampled_from(FIELDS), inner, min_size=1, max_size=6),
    max_leaves=20,
)


def test_a_browsers_handshake() -> None:
    handshake = events.handshake(an_event("connect_browser"))

    assert handshake.connection_id == "JKJaXeXAmPl3AbC="
    assert handshake.query == {
        "clientId": "dashboard-7",
        "account": "123456789012",
        "region": "ap-northeast-2",
    }
    assert handshake.peer_address == "203.0.113.24"
    assert handshake.user_agent == CHROME
    assert handshake.connected_at == CONNECTED_AT
    assert handshake.api_id == "a1b2c3d4e5"
    assert handshake.domain_name == "a1b2c3d4e5.execute-api.ap-northeast-2.amazonaws.com"
    assert handshake.stage == "prod"
    assert handshake.principal_id is None
    assert handshake.headers["x-forwarded-for"] == ["203.0.113.24"]


def test_an_agents_handshake_behind_an_authorizer() -> None:
    handshake = events.handshake(an_event("connect_agent_api_key_authorizer"))

    assert handshake.principal_id == "user-42"
    assert handshake.user_agent is None
    assert handshake.query["clientId"] == "agent-12"


@pytest.mark.parametrize(
    "query", [None, {}, {"clientId": "", "account": "", "since": ""}, {"clientId": None}]
)
def test_a_query_without_values_is_empty(query: object) -> None:
    event = a_connect_event()
    event["queryStringParameters"] = query

    assert events.handshake(event).query == {}


def test_what_a_client_that_comes_back_has_is_a_parameter() -> None:
    assert events.handshake(a_connect_event(since="m-41")).query == {"since": "m-41"}


def test_a_missing_query_is_empty() -> None:
    assert events.handshake(an_event("connect_no_query")).query == {}


@pytest.mark.parametrize("query", [["clientId"], "clientId=x", {"clientId": 7}, {"clientId": ["a"]}])
def test_a_query_that_is_no_map_of_text_is_refused(query: object) -> None:
    event = a_connect_event()
    event["queryStringParameters"] = query

    with pytest.raises(InvalidHandshake, match="^queryStringParameters must be a map of text"):
        events.handshake(event)


@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-forwarded-for", "X-FORWARDED-FOR"])
def test_header_names_are_read_in_any_case(name: str) -> None:
    event: Event = {
        "requestContext": {"connectionId": "c-1"},
        "headers": {name: "203.0.113.7"},
    }

    assert events.handshake(event).headers == {"x-forwarded-for": ["203.0.113.7"]}


def test_a_repeated_header_has_all_its_values() -> None:
    event: Event = {
        "requestContext": {"connectionId": "c-1"},
        "headers": {"X-Forwarded-For": "10.0.0.1", "Origin": "https://example.com"},
        "multiValueHeaders": {"X-Forwarded-For": ["203.0.113.7", "10.0.0.1"]},
    }

    assert events.handshake(event).headers == {
        "x-forwarded-for": ["203.0.113.7", "10.0.0.1"],
        "origin": ["https://example.com"],
    }


def test_a_header_whose_values_are_no_list_is_ignored() -> None:
    event: Event = {
        "requestContext": {"connectionId": "c-1"},
        "multiValueHeaders": {"Origin": "https://example.com", "Via": [None, "1.1 proxy"]},
    }

    assert events.handshake(event).headers == {"via": ["1.1 proxy"]}


def test_the_gateways_user_agent_takes_precedence_over_the_header() -> None:
    event = an_event("connect_browser")
    event["headers"]["User-Agent"] = event["multiValueHeaders"]["User-Agent"][0] = "another"

    assert events.handshake(event).user_agent == CHROME


def test_values_for_the_log_have_no_control_characters_or_lone_surrogates() -> None:
    event: Event = {
        "requestContext": {
            "connectionId": "c\ud800-1",
            "routeKey": "$\udfffconnect",
            "disconnectReason": "a\x00b",
        }
    }

    assert events.known_connection_id(event) == "c-1"
    assert events.route_key(event) == "$connect"
    assert (
        events.disconnect(
            event | {"requestContext": {"connectionId": "c", "disconnectReason": "a\x00b"}}
        ).reason
        == "ab"
    )


def test_without_the_gateways_user_agent_the_header_is_used() -> None:
    event = an_event("connect_browser")
    del event["requestContext"]["identity"]["userAgent"]

    assert events.handshake(event).user_agent == CHROME


def test_a_disconnect_with_code_and_reason() -> None:
    disconnect = events.disconnect(an_event("disconnect_client_closed_1005"))

    assert disconnect.connection_id == "JKJaXeXAmPl3AbC="
    assert disconnect.connected_at == CONNECTED_AT
    assert disconnect.disconnected_at == datetime(2026, 11, 21, 9, 6, 14, 362000, UTC)
    assert disconnect.status_code == 1005
    assert disconnect.reason == "Client-side close frame status not set"


def test_a_disconnect_with_an_empty_reason_has_none() -> None:
    assert events.disconnect(an_event("disconnect_tab_closed_1001_empty_reason")).reason is None


@pytest.mark.parametrize("unusable", [None, "1005", True, 1005.0])
def test_a_close_code_that_is_no_integer_is_unknown(unusable: object) -> None:
    event = a_disconnect_event()
    event["requestContext"]["disconnectStatusCode"] = unusable

    assert events.disconnect(event).status_code is None


@pytest.mark.parametrize("unusable", [None, "1795251600000", True, 10**30, -(10**30), 1.5])
def test_a_time_that_can_not_be_read_is_unknown(unusable: object) -> None:
    event = a_connect_event()
    event["requestContext"]["connectedAt"] = unusable

    assert events.handshake(event).connected_at is None


@pytest.mark.parametrize(
    "context", [None, [], {}, {"connectionId": None}, {"connectionId": ""}, {"connectionId": 7}]
)
def test_an_event_without_a_connection_id_is_refused(context: object) -> None:
    for read in (events.handshake, events.disconnect):
        with pytest.raises(InvalidHandshake, match="^requestContext.connectionId is missing"):
            read({"requestContext": context})


@given(event=json_values | gateway_like)
def test_every_event_is_read_or_refused_with_invalid_handshake(event: object) -> None:
    for read in (events.handshake, events.disconnect):
        with suppress(InvalidHandshake):  # any other error fails the test
            assert read(event).connection_id
