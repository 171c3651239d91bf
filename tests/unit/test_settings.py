"""Every setting: its default, its check."""

from datetime import timedelta

import pytest

from app.domain.admission import Origin
from app.domain.model import Network
from app.settings import (
    LONGEST_STORE_CALL,
    InvalidSetting,
    Settings,
    StoreTimeouts,
    SweepSettings,
    required,
)
from tests.tokens import TokenSettings, token_settings

LEAST = {"CONNECTIONS_TABLE": "Connections", "AWS_REGION": "ap-northeast-2"}


def settings(**more: str) -> Settings:
    return Settings.from_environ(LEAST | more)


def test_every_other_setting_has_a_default() -> None:
    assert settings() == Settings(
        table="Connections",
        region="ap-northeast-2",
        store="dynamodb",
        lifetime=timedelta(hours=24),
        attribute_names=(),
        trusted_proxies=(),
        dynamodb_endpoint=None,
        store_timeouts=StoreTimeouts(
            connect=timedelta(seconds=1), read=timedelta(milliseconds=1500), attempts=3
        ),
        presence_table="",
        gateway_endpoint=None,
        connections_per_client=None,
        sweep=SweepSettings(
            segments=1,
            every=timedelta(minutes=5),
            grace=timedelta(seconds=30),
            rate=1000,
            concurrency=32,
            keep_alive=False,
        ),
        deliveries_table="",
        message_queue="",
        send_rate=5000,
        includes_unscoped=False,
        has_client_index=True,
        has_account_index=True,
        admission="open",
        allowed_origins=(),
        keys_table="",
        tickets_table="",
        history_table="",
        history_kept_for=timedelta(minutes=15),
        catch_up_queue="",
        index_lag=timedelta(seconds=5),
        presence_bus="",
    )


def test_every_variable_is_read() -> None:
    assert settings(
        TTL_HOURS="3",
        CLIENT_ATTRIBUTES="fingerprint, appVersion,,fingerprint",
        TRUSTED_PROXIES="10.0.0.0/8, 2001:db8::/32,192.0.2.1",
        AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:8000",
        STORE_CONNECT_TIMEOUT_MS="200",
        STORE_READ_TIMEOUT_MS="300",
        STORE_ATTEMPTS="2",
        PRESENCE_TABLE="Presence",
        AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI="http://127.0.0.1:4566/_aws/execute-api/a1b2c3/prod",
        DUPLICATES="replace",
        SWEEP_SEGMENTS="4",
        SWEEP_EVERY_MINUTES="1",
        SWEEP_GRACE_SECONDS="45",
        SWEEP_RATE="100",
        SWEEP_CONCURRENCY="8",
        KEEP_ALIVE="true",
        DELIVERIES_TABLE="Deliveries",
        MESSAGE_QUEUE="switchboard-messages",
        SEND_RATE="10000",
        UNSCOPED="include",
        CLIENT_INDEX="false",
        ACCOUNT_INDEX="false",
        ADMISSION="token",
        ALLOWED_ORIGINS="https://app.example.com, https://*.example.com:8443,",
        KEYS_TABLE="Keys",
        TICKETS_TABLE="Tickets",
        HISTORY_TABLE="History",
        HISTORY_MINUTES="60",
        CATCH_UP_QUEUE="switchboard-catch-ups",
        INDEX_LAG_SECONDS="10",
        PRESENCE_BUS="presence",
    ) == Settings(
        table="Connections",
        region="ap-northeast-2",
        lifetime=timedelta(hours=3),
        attribute_names=("fingerprint", "appVersion"),
        trusted_proxies=(
            Network(bytes([10, 0, 0, 0]), 8),
            Network(bytes.fromhex("20010db8") + bytes(12), 32),
            Network(bytes([192, 0, 2, 1]), 32),
        ),
        dynamodb_endpoint="http://127.0.0.1:8000",
        store_timeouts=StoreTimeouts(timedelta(milliseconds=200), timedelta(milliseconds=300), 2),
        presence_table="Presence",
        gateway_endpoint="http://127.0.0.1:4566/_aws/execute-api/a1b2c3/prod",
        connections_per_client=1,
        sweep=SweepSettings(
            4, timedelta(minutes=1), timedelta(seconds=45), rate=100, concurrency=8, keep_alive=True
        ),
        deliveries_table="Deliveries",
        message_queue="switchboard-messages",
        send_rate=10_000,
        includes_unscoped=True,
        has_client_index=False,
        has_account_index=False,
        admission="token",
        allowed_origins=("https://app.example.com", "https://*.example.com:8443"),
        keys_table="Keys",
        tickets_table="Tickets",
        history_table="History",
        history_kept_for=timedelta(hours=1),
        catch_up_queue="switchboard-catch-ups",
        index_lag=timedelta(seconds=10),
        presence_bus="presence",
    )


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"])
def test_the_sdks_endpoint_variables_are_read(name: str) -> None:
    assert settings(**{name: "http://127.0.0.1:8000"}).dynamodb_endpoint == "http://127.0.0.1:8000"


def test_the_endpoint_of_the_service_takes_precedence() -> None:
    found = settings(AWS_ENDPOINT_URL="http://all:1", AWS_ENDPOINT_URL_DYNAMODB="http://one:2")

    assert found.dynamodb_endpoint == "http://one:2"


def test_a_fips_endpoint_is_left_to_the_sdk() -> None:
    found = settings(AWS_USE_FIPS_ENDPOINT="true", STORE="dynamodb-boto3")

    assert found.dynamodb_endpoint is None


def test_an_endpoint_may_be_an_ipv6_address() -> None:
    assert settings(AWS_ENDPOINT_URL="http://[::1]:8000").dynamodb_endpoint == "http://[::1]:8000"


def test_the_sdks_endpoint_for_all_services_is_the_gateways_too() -> None:
    one, all_ = "http://127.0.0.1:1/prod", "http://127.0.0.1:2"

    assert settings(AWS_ENDPOINT_URL=all_).gateway_endpoint == all_
    both = settings(AWS_ENDPOINT_URL=all_, AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI=one)
    assert both.gateway_endpoint == one


def test_a_round_of_all_segments_takes_no_longer_than_a_connection_lasts() -> None:
    assert settings(SWEEP_SEGMENTS="24").sweep.segments == 24
    with pytest.raises(InvalidSetting, match="must be at most 120"):
        settings(SWEEP_SEGMENTS="24", SWEEP_EVERY_MINUTES="6")


@pytest.mark.parametrize(
    ("segments", "minutes", "grace"), [(1, 5, 30), (5, 1, 30), (2, 2, 90), (1, 1, 270), (1, 3, 150)]
)
def test_with_keep_alive_a_connection_waits_for_9_minutes_at_most(
    segments: int, minutes: int, grace: int
) -> None:
    numbers = {"SWEEP_SEGMENTS": str(segments), "SWEEP_EVERY_MINUTES": str(minutes)}
    found = settings(KEEP_ALIVE="true", SWEEP_GRACE_SECONDS=str(grace), **numbers)

    assert found.sweep.keep_alive
    assert found.sweep.longest_wait == timedelta(minutes=9)
    with pytest.raises(InvalidSetting, match="^SWEEP_SEGMENTS, SWEEP_EVERY_MINUTES and SWEEP_GRACE_SECONDS"):
        settings(KEEP_ALIVE="true", SWEEP_GRACE_SECONDS=str(grace + 1), **numbers)
    assert not settings(SWEEP_GRACE_SECONDS=str(grace + 1), **numbers).sweep.keep_alive


def test_a_wait_that_is_too_long_for_keep_alive_is_named() -> None:
    with pytest.raises(InvalidSetting) as refusal:
        settings(KEEP_ALIVE="true", SWEEP_SEGMENTS="2", SWEEP_EVERY_MINUTES="5")

    assert str(refusal.value) == (
        "SWEEP_SEGMENTS, SWEEP_EVERY_MINUTES and SWEEP_GRACE_SECONDS let a connection wait for 14 minutes; "
        "with KEEP_ALIVE=true it may be 9, since API Gateway closes one that is idle for 10."
    )


def test_an_empty_variable_has_its_default() -> None:
    assert settings(TTL_HOURS="", CLIENT_ATTRIBUTES="", TRUSTED_PROXIES="", STORE="") == settings()


def test_the_memory_store_needs_neither_table_nor_region() -> None:
    assert Settings.from_environ({"STORE": "memory"}) == Settings(table="", region="", store="memory")


def test_the_sdks_other_region_variable_is_read_too() -> None:
    environ = {"CONNECTIONS_TABLE": "Connections", "AWS_DEFAULT_REGION": "us-east-1"}

    assert Settings.from_environ(environ).region == "us-east-1"


@pytest.mark.parametrize(
    ("name", "field", "sentence"),
    [
        ("CONNECTIONS_TABLE", "table", "CONNECTIONS_TABLE is missing: it names the DynamoDB table."),
        (
            "AWS_REGION",
            "region",
            "AWS_REGION is missing: it names the table's region; Lambda sets it.",
        ),
        (
            "PRESENCE_TABLE",
            "presence_table",
            "PRESENCE_TABLE is missing: it names the DynamoDB table of who is present.",
        ),
        (
            "DELIVERIES_TABLE",
            "deliveries_table",
            "DELIVERIES_TABLE is missing: it names the DynamoDB table of what became of each message.",
        ),
        ("MESSAGE_QUEUE", "message_queue", "MESSAGE_QUEUE is missing: it names the queue of messages."),
        (
            "KEYS_TABLE",
            "keys_table",
            "KEYS_TABLE is missing: it names the DynamoDB table of the issuer's keys.",
        ),
        (
            "TICKETS_TABLE",
            "tickets_table",
            "TICKETS_TABLE is missing: it names the DynamoDB table of tickets.",
        ),
        (
            "HISTORY_TABLE",
            "history_table",
            (
                "HISTORY_TABLE is missing: it names the DynamoDB table of messages that are kept for clients "
                "that come back."
            ),
        ),
        (
            "CATCH_UP_QUEUE",
            "catch_up_queue",
            "CATCH_UP_QUEUE is missing: it names the queue of clients that come back.",
        ),
    ],
)
def test_a_missing_variable_is_named_when_it_is_required(name: str, field: str, sentence: str) -> None:
    value = getattr(settings(**{name: ""}), field)

    with pytest.raises(InvalidSetting) as raised:
        required(value, name)

    assert str(raised.value) == sentence


def test_a_required_variable_that_is_set_is_returned() -> None:
    assert required(settings().table, "CONNECTIONS_TABLE") == "Connections"


def test_an_unknown_store_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidSetting) as raised:
        settings(STORE="postgres")

    assert str(raised.value) == (
        "STORE must be one of: dynamodb, dynamodb-boto3, memory, "
        "or an import path such as package.module:factory."
    )


@pytest.mark.parametrize("store", ["acme:f", "acme.store:Factory", "a_1.b_2:c_3"])
def test_a_store_may_be_an_import_path(store: str) -> None:
    assert settings(STORE=store).store == store
    assert settings(STORE=store).storage == "imported"


@pytest.mark.parametrize("store", ["acme.store", "acme:", ":f", "acme/st:f", "acme.:f", "acme:f.g", "1a:f"])
def test_what_is_no_import_path_is_refused(store: str) -> None:
    with pytest.raises(InvalidSetting, match="^STORE must be"):
        settings(STORE=store)


@pytest.mark.parametrize(
    ("store", "storage"), [("dynamodb", "dynamodb"), ("dynamodb-boto3", "dynamodb"), ("memory", "memory")]
)
def test_each_store_of_ours_names_its_storage(store: str, storage: str) -> None:
    assert settings(STORE=store).storage == storage


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONNECTIONS_TABLE", "a/b"),
        ("CONNECTIONS_TABLE", "ab"),
        ("CONNECTIONS_TABLE", " "),
        ("AWS_REGION", "nowhere"),
        ("AWS_REGION", "!!"),
        ("TTL_HOURS", "8785"),
        ("CLIENT_ATTRIBUTES", "a\tb"),
        ("CLIENT_ATTRIBUTES", "a" * 129),
        ("CLIENT_ATTRIBUTES", "account"),
        ("CLIENT_ATTRIBUTES", "region"),
        ("CLIENT_ATTRIBUTES", "appVersion,since"),
        ("TRUSTED_PROXIES", "::ffff:10.0.0.0/104"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://a b"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "ftp://localhost"),
        ("TTL_HOURS", "0"),
        ("TTL_HOURS", "-1"),
        ("TTL_HOURS", "1.5"),
        ("TTL_HOURS", "a day"),
        ("TTL_HOURS", "٢٤"),
        ("TTL_HOURS", "9" * 30),
        ("CLIENT_ATTRIBUTES", "a,b,c,d,e,f,g,h,i"),
        ("CLIENT_ATTRIBUTES", "fingerprint,clientId"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "localhost:8000"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://[::1"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://[:::]"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://[127.0.0.1]:8000"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:port"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:8000/path"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://user@localhost:8000"),
        ("AWS_ENDPOINT_URL", "localhost"),
        ("AWS_USE_FIPS_ENDPOINT", "true"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "TRUE"),
        ("STORE_ATTEMPTS", "0"),
        ("STORE_ATTEMPTS", "11"),
        ("STORE_READ_TIMEOUT_MS", "soon"),
        ("STORE_READ_TIMEOUT_MS", "20000"),
        ("STORE_CONNECT_TIMEOUT_MS", "20000"),
        ("STORE_ATTEMPTS", "9"),
        ("PRESENCE_TABLE", "a/b"),
        ("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "a1b2c3.example.com/prod"),
        ("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "http:///prod"),
        ("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "http://[1.2]/prod"),
        ("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "http://localhost/a stage"),
        ("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "http://localhost/\udcff"),
        ("DUPLICATES", "drop"),
        ("SWEEP_SEGMENTS", "0"),
        ("SWEEP_SEGMENTS", "121"),
        ("SWEEP_SEGMENTS", "25"),
        ("SWEEP_EVERY_MINUTES", "0"),
        ("SWEEP_EVERY_MINUTES", "121"),
        ("SWEEP_GRACE_SECONDS", "0"),
        ("SWEEP_GRACE_SECONDS", "3601"),
        ("SWEEP_RATE", "10001"),
        ("SWEEP_CONCURRENCY", "257"),
        ("KEEP_ALIVE", "yes"),
        ("DELIVERIES_TABLE", "a/b"),
        ("MESSAGE_QUEUE", "messages.fifo"),
        ("MESSAGE_QUEUE", "https://sqs.eu-central-1.amazonaws.com/123456789012/messages"),
        ("SEND_RATE", "0"),
        ("SEND_RATE", "100001"),
        ("UNSCOPED", "yes"),
        ("CLIENT_INDEX", "no"),
        ("ACCOUNT_INDEX", "no"),
        ("CONNECTIONS_PER_CLIENT", "0"),
        ("CONNECTIONS_PER_CLIENT", "1001"),
        ("CONNECTIONS_PER_CLIENT", "one"),
        ("ADMISSION", "closed"),
        ("ADMISSION", "Token"),
        ("KEYS_TABLE", "a/b"),
        ("TICKETS_TABLE", "a/b"),
        ("HISTORY_TABLE", "a/b"),
        ("HISTORY_MINUTES", "-1"),
        ("HISTORY_MINUTES", "1441"),
        ("HISTORY_MINUTES", "0.5"),
        ("PRESENCE_BUS", "aws.partner/example.com/incidents"),
        ("PRESENCE_BUS", "arn:aws:events:eu-central-1:123456789012:event-bus/presence"),
        ("PRESENCE_BUS", "b" * 257),
        ("CATCH_UP_QUEUE", "catch-ups.fifo"),
        ("CATCH_UP_QUEUE", "https://sqs.eu-central-1.amazonaws.com/123456789012/catch-ups"),
        ("INDEX_LAG_SECONDS", "0"),
        ("INDEX_LAG_SECONDS", "31"),
        ("ALLOWED_ORIGINS", "*"),
        ("ALLOWED_ORIGINS", "null"),
        ("ALLOWED_ORIGINS", "app.example.com"),
        ("ALLOWED_ORIGINS", "wss://app.example.com"),
        ("ALLOWED_ORIGINS", "https://"),
        ("ALLOWED_ORIGINS", "https://*"),
        ("ALLOWED_ORIGINS", "https://*."),
        ("ALLOWED_ORIGINS", "https://app.*.example.com"),
        ("ALLOWED_ORIGINS", "https://*app.example.com"),
        ("ALLOWED_ORIGINS", "https://*.*.example.com"),
        ("ALLOWED_ORIGINS", "https://app.example.com/"),
        ("ALLOWED_ORIGINS", "https://app.example.com/path"),
        ("ALLOWED_ORIGINS", "https://user@app.example.com"),
        ("ALLOWED_ORIGINS", "https://app.example.com:0"),
        ("ALLOWED_ORIGINS", "https://app.example.com:65536"),
        ("ALLOWED_ORIGINS", "https://äpp.example.com"),
        ("ALLOWED_ORIGINS", "https://app.example.com https://other.example.com"),
        ("ALLOWED_ORIGINS", "https://app.example.com,other"),
    ],
)
def test_a_malformed_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=name):
        settings(**{name: value})


# ---- The history


@pytest.mark.parametrize(
    ("environ", "history"),
    [
        ({}, "none"),
        ({"HISTORY_TABLE": "History"}, "kept"),
        ({"HISTORY_TABLE": "History", "HISTORY_MINUTES": "1440"}, "kept"),
        ({"HISTORY_TABLE": "History", "HISTORY_MINUTES": "0"}, "none"),
        ({"HISTORY_MINUTES": "15"}, "none"),
    ],
)
def test_messages_are_kept_if_there_is_a_table_and_a_time(environ: dict[str, str], history: str) -> None:
    assert settings(**environ).history == history


def test_a_history_may_be_a_day_long_and_an_index_half_a_minute_behind() -> None:
    found = settings(HISTORY_MINUTES="1440", INDEX_LAG_SECONDS="30")

    assert found.history_kept_for == timedelta(days=1)
    assert found.index_lag == timedelta(seconds=30)


@pytest.mark.parametrize(
    ("name", "events"), [("", "none"), ("default", "bus"), ("my.bus_2-b", "bus"), ("b" * 256, "bus")]
)
def test_presence_goes_onto_the_bus_if_there_is_one(name: str, events: str) -> None:
    assert settings(PRESENCE_BUS=name).events == events


@pytest.mark.parametrize(("name", "catch_ups"), [("", "none"), ("switchboard-catch-ups", "queue")])
def test_clients_that_come_back_are_put_into_the_queue_if_there_is_one(name: str, catch_ups: str) -> None:
    assert settings(CATCH_UP_QUEUE=name).catch_ups == catch_ups


# ---- Who may come in


TOKENS = {"TOKEN_ISSUER": "https://issuer.example.com/", "TOKEN_AUDIENCE": "switchboard"}


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "http://localhost:3000",
        "https://*.example.com",
        "https://[::1]:8443",
        "https://App.Example.com",
    ],
)
def test_every_allowed_origin_can_be_compared(origin: str) -> None:
    [allowed] = settings(ALLOWED_ORIGINS=origin).allowed_origins

    assert Origin.parsed(allowed).host


@pytest.mark.parametrize(
    ("environ", "rule"),
    [
        ({}, "open"),
        ({"TICKETS_TABLE": "Tickets"}, "open"),
        ({"ALLOWED_ORIGINS": "https://app.example.com"}, "origin"),
        ({"ADMISSION": "token"}, "token"),
        ({"ADMISSION": "token", "ALLOWED_ORIGINS": "https://app.example.com"}, "token"),
        ({"ADMISSION": "token", "TICKETS_TABLE": "Tickets"}, "token_or_ticket"),
        ({"ADMISSION": "ticket", "TICKETS_TABLE": "Tickets"}, "ticket"),
        ({"ADMISSION": "ticket", "ALLOWED_ORIGINS": "https://app.example.com"}, "ticket"),
    ],
)
def test_the_settings_say_who_may_come_in(environ: dict[str, str], rule: str) -> None:
    assert settings(**environ).admission_rule == rule


@pytest.mark.parametrize(
    ("store", "admission", "transport"),
    [
        ("dynamodb", "open", "direct"),
        ("dynamodb-boto3", "open", "boto3"),
        ("memory", "open", "none"),
        ("acme.store:factory", "open", "none"),
        ("dynamodb", "token", "direct"),
        ("dynamodb-boto3", "token", "boto3"),
        ("memory", "ticket", "direct"),
        ("acme.store:factory", "token", "direct"),
    ],
)
def test_keys_and_tickets_are_in_dynamodb_whatever_the_store(
    store: str, admission: str, transport: str
) -> None:
    assert settings(STORE=store, ADMISSION=admission).transport == transport


@pytest.mark.parametrize(
    ("environ", "most"),
    [
        ({}, None),
        ({"DUPLICATES": "keep"}, None),
        ({"CONNECTIONS_PER_CLIENT": "5"}, 5),
        ({"CONNECTIONS_PER_CLIENT": "1000", "DUPLICATES": "keep"}, 1000),
        ({"DUPLICATES": "replace"}, 1),
        ({"DUPLICATES": "replace", "CONNECTIONS_PER_CLIENT": "1"}, 1),
    ],
)
def test_a_client_has_so_many_connections(environ: dict[str, str], most: int | None) -> None:
    assert settings(**environ).connections_per_client == most


def test_two_settings_for_a_clients_connections_must_agree() -> None:
    with pytest.raises(InvalidSetting, match=r"^DUPLICATES=replace is CONNECTIONS_PER_CLIENT=1: "):
        settings(DUPLICATES="replace", CONNECTIONS_PER_CLIENT="2")


def test_every_other_setting_of_tokens_has_a_default() -> None:
    assert token_settings(TOKENS) == TokenSettings(
        rules={
            "issuer": "https://issuer.example.com/",
            "audiences": ("switchboard",),
            "type": "access",
            "max_lifetime": timedelta(hours=24),
            "clients_claim": "",
            "accounts_claim": "",
            "regions_claim": "",
            "unscoped_sees_all": False,
        },
        algorithm="RS256",
        jwks_url="",
    )


def test_every_variable_of_tokens_is_read() -> None:
    environ = {
        "TOKEN_ISSUER": "https://127.0.0.1:8443/realms/acme",
        "TOKEN_AUDIENCE": "switchboard, other,,",
        "TOKEN_TYPE": "id",
        "TOKEN_ALGORITHM": "ES256",
        "TOKEN_MAX_HOURS": "168",
        "CLIENTS_CLAIM": "clients",
        "ACCOUNTS_CLAIM": "https://example.com/accounts",
        "REGIONS_CLAIM": "regions",
        "JWKS_URL": "https://127.0.0.1:8443/keys?format=jwk",
    }

    assert token_settings(environ, unscoped_sees_all=True) == TokenSettings(
        rules={
            "issuer": "https://127.0.0.1:8443/realms/acme",
            "audiences": ("switchboard", "other"),
            "type": "id",
            "max_lifetime": timedelta(days=7),
            "clients_claim": "clients",
            "accounts_claim": "https://example.com/accounts",
            "regions_claim": "regions",
            "unscoped_sees_all": True,
        },
        algorithm="ES256",
        jwks_url="https://127.0.0.1:8443/keys?format=jwk",
    )


@pytest.mark.parametrize(
    "missing",
    [
        {"TOKEN_ISSUER": ""},
        {"TOKEN_AUDIENCE": ""},
        {"TOKEN_AUDIENCE": " , "},
        {"TOKEN_ISSUER": "", "TOKEN_AUDIENCE": ""},
    ],
)
def test_tokens_need_an_issuer_and_an_audience(missing: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting, match=r"^TOKEN_(ISSUER|AUDIENCE) is missing: "):
        token_settings(TOKENS | missing)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKEN_ISSUER", "http://issuer.example.com"),
        ("TOKEN_ISSUER", "issuer.example.com"),
        ("TOKEN_ISSUER", "https://"),
        ("TOKEN_ISSUER", "https://user@issuer.example.com"),
        ("TOKEN_ISSUER", "https://issuer.example.com/a realm"),
        ("TOKEN_ISSUER", "https://issuer.example.com\n"),
        ("TOKEN_ISSUER", "https://issuer.example.com/é"),
        ("JWKS_URL", "http://issuer.example.com/keys"),
        ("JWKS_URL", "file:///keys"),
        ("TOKEN_TYPE", "refresh"),
        ("TOKEN_ALGORITHM", "HS256"),
        ("TOKEN_ALGORITHM", "none"),
        ("TOKEN_MAX_HOURS", "0"),
        ("TOKEN_MAX_HOURS", "169"),
    ],
)
def test_a_malformed_variable_of_tokens_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^{name} must be "):
        token_settings(TOKENS | {name: value})


def test_by_default_the_longest_store_call_is_within_the_limit() -> None:
    assert StoreTimeouts().longest_call <= LONGEST_STORE_CALL


def test_a_table_may_be_named_by_its_arn() -> None:
    arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/Connections"

    assert settings(CONNECTIONS_TABLE=arn).table == arn


def test_a_pause_has_the_sdks_upper_limit() -> None:
    timeouts = StoreTimeouts(connect=timedelta(), read=timedelta(), attempts=8)

    assert timeouts.longest_call == timedelta(seconds=1 + 2 + 4 + 8 + 16 + 20 + 20 + 7 * 5)


def test_the_longest_store_call_counts_every_attempt_and_every_pause() -> None:
    timeouts = StoreTimeouts(connect=timedelta(seconds=1), read=timedelta(seconds=2), attempts=3)

    assert timeouts.longest_call == timedelta(seconds=3 * 3 + (1 + 5) + (2 + 5))


# AWS's developer guide, 'Defined runtime environment variables'
@pytest.mark.parametrize("kind", ["", "on-demand", "provisioned-concurrency", "lambda-managed-instances"])
def test_only_snapstart_starts_a_function_from_a_snapshot(kind: str) -> None:
    assert settings(AWS_LAMBDA_INITIALIZATION_TYPE=kind).start == "plain"
    assert settings(AWS_LAMBDA_INITIALIZATION_TYPE="snap-start").start == "snapshot"


def test_the_sdks_client_is_refused_on_snapstart() -> None:
    with pytest.raises(
        InvalidSetting, match="^STORE=dynamodb-boto3 .* AWS_LAMBDA_INITIALIZATION_TYPE is snap-start"
    ):
        settings(STORE="dynamodb-boto3", AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
