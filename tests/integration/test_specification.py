"""The specification to the letter: full-size events in, items and answers out, on the real adapter."""

import time
from typing import TYPE_CHECKING

import pytest

from app.containers.handshakes import Handshakes
from app.entrypoints.routes import Routes
from app.settings import Settings
from tests.builders import NOON_MS, Event, a_connect_event, a_disconnect_event, an_event
from tests.dynamodb_local import REGION
from tests.environment import UNHURRIED
from tests.fakes import FixedClock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

NEXT_NOON_S = str(NOON_MS // 1000 + 24 * 3600)

CONNECTED = {"statusCode": 200, "body": "connected"}
DISCONNECTED = {"statusCode": 200, "body": "disconnected"}


class App:
    """The routes on DynamoDB Local, at noon, and direct access to their table."""

    def __init__(self, endpoint: str, client: "DynamoDBClient", table_name: str) -> None:
        self._endpoint = endpoint
        self._client = client
        self._table = table_name

    def routes(self, **environ: str) -> Routes:
        container = Handshakes(settings=self._settings(environ), clock=FixedClock())
        return Routes(container.open_connection(), container.close_connection())

    def routes_with_the_real_clock(self) -> Routes:
        container = Handshakes(settings=self._settings({}))
        return Routes(container.open_connection(), container.close_connection())

    def items(self) -> "list[dict[str, AttributeValueTypeDef]]":
        return self._client.scan(TableName=self._table, ConsistentRead=True)["Items"]

    def put(self, item: "dict[str, AttributeValueTypeDef]") -> None:
        self._client.put_item(TableName=self._table, Item=item)

    def _settings(self, environ: dict[str, str]) -> Settings:
        least = {
            "CONNECTIONS_TABLE": self._table,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL_DYNAMODB": self._endpoint,
            **UNHURRIED,
        }
        return Settings.from_environ(least | environ)


@pytest.fixture
def app(dynamodb_local: str, dynamodb: "DynamoDBClient", table_name: str) -> App:
    return App(dynamodb_local, dynamodb, table_name)


def test_a_browsers_connection_is_one_item_with_all_that_is_known(app: App) -> None:
    event = an_event("connect_browser")

    assert app.routes().connect(event, None) == CONNECTED
    assert app.items() == [
        {
            "connectionId": {"S": "JKJaXeXAmPl3AbC="},
            "createdAt": {"N": str(NOON_MS)},
            "ttl": {"N": NEXT_NOON_S},
            "clientId": {"S": "dashboard-7"},
            "account": {"S": "123456789012"},
            "region": {"S": "ap-northeast-2"},
            "sourceIp": {"S": "203.0.113.24"},
            "userAgent": {"S": event["headers"]["User-Agent"]},
            "connectedAt": {"N": "1795251600000"},
            "apiId": {"S": "a1b2c3d4e5"},
            "domainName": {"S": "a1b2c3d4e5.execute-api.ap-northeast-2.amazonaws.com"},
            "stage": {"S": "prod"},
            "indexedClient": {"S": "dashboard-7"},
            "indexedAccount": {"S": "123456789012"},
            "indexedRegion": {"S": "ap-northeast-2/JKJaXeXAmPl3AbC="},
        }
    ]


def test_an_authorized_agents_item_names_its_principal(app: App) -> None:
    app.routes().connect(an_event("connect_agent_api_key_authorizer"), None)

    (item,) = app.items()
    assert item["principalId"] == {"S": "user-42"}
    assert item["clientId"] == {"S": "agent-12"}
    assert "userAgent" not in item


def test_an_unknown_attribute_has_its_default_or_is_left_out(app: App) -> None:
    event: Event = {"requestContext": {"connectionId": "c-1", "routeKey": "$connect"}}

    assert app.routes().connect(event, None) == CONNECTED
    assert app.items() == [
        {
            "connectionId": {"S": "c-1"},
            "createdAt": {"N": str(NOON_MS)},
            "ttl": {"N": NEXT_NOON_S},
            "clientId": {"S": "unknown"},
            "account": {"S": ""},
            "region": {"S": ""},
            "sourceIp": {"S": ""},
        }
    ]


def test_created_at_is_in_epoch_milliseconds_and_ttl_in_epoch_seconds(app: App) -> None:
    before = time.time()
    app.routes_with_the_real_clock().connect(a_connect_event(), None)
    after = time.time()

    (item,) = app.items()
    created_at, ttl = int(item["createdAt"]["N"]), int(item["ttl"]["N"])
    assert int(before * 1000) <= created_at <= after * 1000
    assert ttl == created_at // 1000 + 24 * 3600


def test_ttl_hours_sets_the_lifetime_of_an_item(app: App) -> None:
    app.routes(TTL_HOURS="2").connect(a_connect_event(), None)

    assert app.items()[0]["ttl"] == {"N": str(NOON_MS // 1000 + 2 * 3600)}


def test_the_listed_parameters_are_kept_in_a_map(app: App) -> None:
    event = a_connect_event(clientId="d", appVersion="2.7", token="secret", fingerprint="")

    app.routes(CLIENT_ATTRIBUTES="fingerprint,appVersion").connect(event, None)

    assert app.items()[0]["attributes"] == {"M": {"appVersion": {"S": "2.7"}}}


def test_the_item_of_a_client_that_comes_back_says_what_it_has(app: App) -> None:
    assert app.routes().connect(a_connect_event(clientId="d", since="m-41"), None) == CONNECTED

    assert app.items()[0]["since"] == {"S": "m-41"}


def test_behind_a_trusted_proxy_the_item_has_the_clients_own_address(app: App) -> None:
    event = an_event("connect_behind_proxy_custom_domain")

    app.routes(TRUSTED_PROXIES="198.51.100.0/24").connect(event, None)

    assert app.items()[0]["sourceIp"] == {"S": "203.0.113.77"}


def test_a_client_that_says_what_nobody_can_have_has_no_item(app: App) -> None:
    answer = app.routes().connect(a_connect_event(since="x" * 129), None)

    assert answer == {
        "statusCode": 400,
        "body": "since must be 1 to 128 characters without control characters.",
    }
    assert app.items() == []


def test_a_disconnect_deletes_its_item_and_no_other(app: App) -> None:
    routes = app.routes()
    routes.connect(a_connect_event("c-1"), None)
    routes.connect(a_connect_event("c-2"), None)

    assert routes.disconnect(a_disconnect_event("c-1"), None) == DISCONNECTED
    assert [item["connectionId"] for item in app.items()] == [{"S": "c-2"}]


def test_a_disconnect_of_an_unknown_connection_has_the_same_answer(app: App) -> None:
    assert app.routes().disconnect(a_disconnect_event("c-9"), None) == DISCONNECTED


def test_a_repeated_connect_keeps_the_first_item(app: App) -> None:
    routes = app.routes()
    routes.connect(a_connect_event("c-1", clientId="first"), None)

    assert routes.connect(a_connect_event("c-1", clientId="second"), None) == CONNECTED
    assert [item["clientId"] for item in app.items()] == [{"S": "first"}]


def test_a_refused_handshake_writes_no_item(app: App) -> None:
    answer = app.routes().connect(a_connect_event(region="Seoul"), None)

    assert answer == {"statusCode": 400, "body": "region must be empty or the name of an AWS region."}
    assert app.items() == []


def test_an_item_with_only_the_specified_attributes_is_deleted_like_any_other(app: App) -> None:
    app.put(
        {
            "connectionId": {"S": "c-1"},
            "createdAt": {"N": str(NOON_MS)},
            "ttl": {"N": NEXT_NOON_S},
            "clientId": {"S": "dashboard-7"},
            "account": {"S": ""},
            "region": {"S": ""},
            "sourceIp": {"S": "203.0.113.24"},
        }
    )

    assert app.routes().disconnect(a_disconnect_event("c-1"), None) == DISCONNECTED
    assert app.items() == []


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param({}, id="only a key"),
        pytest.param({"ttl": {"N": "1795251600000"}}, id="a ttl in milliseconds"),
        pytest.param({"ttl": {"L": []}}, id="a ttl as a list"),
        pytest.param({"createdAt": {"S": "2026-11-21"}}, id="a date as text"),
        pytest.param({"createdAt": {"N": "1795251600000.5"}}, id="half a millisecond"),
        pytest.param({"userAgent": {"NULL": True}}, id="a null"),
        pytest.param({"since": {"N": "1764412345678"}}, id="a position as a number"),
        pytest.param({"attributes": {"S": "appVersion=2.7"}}, id="attributes as text"),
        pytest.param({"attributes": {"M": {"appVersion": {"N": "2.7"}}}}, id="an attribute as a number"),
    ],
)
def test_an_item_written_by_hand_is_deleted_like_any_other(
    app: App, attributes: "dict[str, AttributeValueTypeDef]"
) -> None:
    app.put({"connectionId": {"S": "c-1"}, **attributes})

    assert app.routes().disconnect(a_disconnect_event("c-1"), None) == DISCONNECTED
    assert app.items() == []
