"""The containers resolve, accept overrides by argument, and the entrypoints start with them."""

import gc
import importlib
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from dependency_injector.containers import DeclarativeContainer
from mypy import api as mypy

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.deliveries import DynamoDBDeliveries
from app.adapters.dynamodb.direct.transport import DirectTransport
from app.adapters.dynamodb.history import DynamoDBHistory
from app.adapters.dynamodb.keys import DynamoDBKeyStore
from app.adapters.dynamodb.presence import DynamoDBPresenceStore
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.dynamodb.table import DynamoDBConnectionTable
from app.adapters.dynamodb.tickets import DynamoDBTickets
from app.adapters.eventbridge import EventBridgePublisher
from app.adapters.ip import PeerFirstIpResolver, TrustedProxyIpResolver
from app.adapters.memory import MemoryConnectionTable, MemoryPresenceStore
from app.adapters.messages import JsonNotices
from app.adapters.sqs import SqsCatchUps, catch_up_from
from app.adapters.tokens.es256 import ES256
from app.adapters.tokens.rs256 import RS256
from app.adapters.tokens.signatures import TokenSignatures
from app.containers.catching_up import CatchingUp
from app.containers.command_line import CommandLine
from app.containers.handshakes import Handshakes
from app.containers.keys import Keys
from app.containers.operations import Operations
from app.containers.presence import PresenceEvents
from app.containers.sending import Sending
from app.containers.stream import Stream
from app.domain.admission import Reason
from app.domain.admitting import RestrictedAdmission
from app.domain.errors import Denied
from app.domain.handshakes import OpenAdmission
from app.settings import InvalidSetting, Settings
from tests.builders import Invocation, a_connect_event, a_disconnect_event, a_handshake, an_event
from tests.fakes import FixedClock, RecordingPublisher
from tests.tokens import TICKETS, TOKENS

ROOT = Path(__file__).parent.parent.parent
NO_ISSUER = "TOKEN_ISSUER is missing: tokens are of one issuer, and it is the URL of that."
ENVIRON = {
    "CONNECTIONS_TABLE": "Connections",
    "AWS_REGION": "ap-northeast-2",
    "PRESENCE_TABLE": "Presence",
    "DELIVERIES_TABLE": "Deliveries",
    "MESSAGE_QUEUE": "switchboard-messages",
    "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9",  # no server listens there
}
ORIGINS = {"ALLOWED_ORIGINS": "https://app.example.com"}
HISTORY = {"HISTORY_TABLE": "History", "CATCH_UP_QUEUE": "switchboard-catch-ups"}


def handshakes(**environ: str) -> Handshakes:
    return Handshakes(settings=Settings.from_environ(ENVIRON | environ), environ=ENVIRON | environ)


def operations(**environ: str) -> Operations:
    return Operations(settings=Settings.from_environ(ENVIRON | environ), publisher=RecordingPublisher())


def stream(**environ: str) -> Stream:
    return Stream(settings=Settings.from_environ(ENVIRON | environ), publisher=RecordingPublisher())


def presence(**environ: str) -> PresenceEvents:
    return PresenceEvents(settings=Settings.from_environ(ENVIRON | environ), publisher=RecordingPublisher())


def sending(**environ: str) -> Sending:
    return Sending(settings=Settings.from_environ(ENVIRON | environ), publisher=RecordingPublisher())


def catching_up(**environ: str) -> CatchingUp:
    return CatchingUp(settings=Settings.from_environ(ENVIRON | environ), publisher=RecordingPublisher())


def command_line(**environ: str) -> CommandLine:
    return CommandLine(settings=Settings.from_environ(ENVIRON | environ), publisher=RecordingPublisher())


def keys(**environ: str) -> Keys:
    environ = ENVIRON | TOKENS | environ
    return Keys(settings=Settings.from_environ(environ), environ=environ)


@pytest.mark.parametrize(
    "make", [handshakes, operations, stream, presence, sending, catching_up, command_line, keys]
)
def test_every_provider_resolves_to_a_singleton(make: Callable[..., DeclarativeContainer]) -> None:
    container = make(**TOKENS, **HISTORY, TICKETS_TABLE="Tickets", CONNECTIONS_PER_CLIENT="5")

    for name, provider in container.providers.items():
        assert provider() is not None, name
        assert provider() is provider(), name


@pytest.mark.parametrize(
    "resolve",
    [
        lambda: Handshakes().open_connection(),
        lambda: Operations().sweep_connections(),
        lambda: CommandLine().mint_ticket(),
        lambda: Keys(environ=TOKENS).refresh_keys(),
    ],
    ids=["handshakes", "operations", "command_line", "keys"],
)
def test_the_settings_are_required(resolve: Callable[[], object]) -> None:
    with pytest.raises(Exception, match="settings"):
        resolve()


def test_the_settings_select_the_adapters_of_the_handshakes() -> None:
    assert isinstance(handshakes().store(), DynamoDBConnectionStore)
    assert isinstance(handshakes(STORE="memory").store(), MemoryConnectionTable)
    assert isinstance(handshakes().ip_resolver(), PeerFirstIpResolver)
    assert isinstance(handshakes(TRUSTED_PROXIES="10.0.0.0/8").ip_resolver(), TrustedProxyIpResolver)
    assert isinstance(handshakes().clock(), SystemClock)


@pytest.mark.parametrize(
    ("store", "transport"), [("dynamodb", DirectTransport), ("dynamodb-boto3", SdkTransport)]
)
def test_the_settings_select_the_transport_of_the_handshakes(store: str, transport: type) -> None:
    container = handshakes(STORE=store)

    assert vars(container.store())["_transport"] is container.transport()
    assert isinstance(container.transport(), transport)


# ---- Who may come in


def test_by_default_everybody_may_come_in() -> None:
    assert isinstance(handshakes().admission(), OpenAdmission)


@pytest.mark.parametrize(
    ("environ", "shows_tokens", "shows_tickets"),
    [
        (ORIGINS, False, False),
        (TOKENS, True, False),
        (TICKETS, False, True),
        (TICKETS | ORIGINS, False, True),
        (TICKETS | TOKENS, True, True),
        (TICKETS | TOKENS | ORIGINS, True, True),
    ],
    ids=lambda it: "-".join(it) if isinstance(it, dict) else "",
)
@pytest.mark.parametrize("store", ["dynamodb", "dynamodb-boto3", "memory"])
def test_the_settings_select_who_may_come_in(
    store: str, environ: dict[str, str], *, shows_tokens: bool, shows_tickets: bool
) -> None:
    container = handshakes(STORE=store, **environ)
    admission = container.admission()

    assert isinstance(admission, RestrictedAdmission)
    parts = vars(admission)
    assert len(parts["_origins"]) == ("ALLOWED_ORIGINS" in environ)
    assert parts["_tokens"] is (container.tokens() if shows_tokens else None)
    assert parts["_tickets"] is (container.tickets() if shows_tickets else None)
    assert vars(container.open_connection())["_admission"] is admission


@pytest.mark.parametrize(
    ("store", "transport"), [("dynamodb", DirectTransport), ("dynamodb-boto3", SdkTransport)]
)
def test_keys_tickets_and_connections_share_one_transport(store: str, transport: type) -> None:
    container = handshakes(STORE=store, TICKETS_TABLE="Tickets", **TOKENS)
    adapters = container.store(), container.key_store(), container.tickets()

    assert isinstance(container.transport(), transport)
    assert {id(vars(adapter)["_transport"]) for adapter in adapters} == {id(container.transport())}
    assert isinstance(container.key_store(), DynamoDBKeyStore)
    assert isinstance(container.tickets(), DynamoDBTickets)
    assert [vars(it)["_table"] for it in adapters] == ["Connections", "Keys", "Tickets"]


@pytest.mark.parametrize("store", ["memory", "app.adapters.memory:MemoryConnectionTable"])
def test_without_dynamodb_there_is_a_transport_if_keys_or_tickets_need_one(store: str) -> None:
    assert isinstance(handshakes(STORE=store, **TICKETS).transport(), DirectTransport)
    assert not hasattr(handshakes(STORE=store).transport(), "call")


def test_the_settings_reach_the_check_of_tokens() -> None:
    container = handshakes(
        **TOKENS, TOKEN_ALGORITHM="ES256", TOKEN_TYPE="id", ACCOUNTS_CLAIM="accounts", UNSCOPED="include"
    )
    rules, signatures, tokens = container.rules(), container.signatures(), container.tokens()

    assert isinstance(signatures, TokenSignatures)
    assert vars(signatures) == {"_algorithm": container.algorithm(), "_find_key": container.key_sets()}
    assert isinstance(container.algorithm(), ES256)
    assert vars(tokens) == {"_signatures": signatures, "_rules": rules}
    assert (rules.type, rules.accounts_claim, rules.unscoped_sees_all) == ("id", "accounts", True)
    assert vars(container.key_store())["_key"] == {"issuer": {"S": "https://issuer.example.com/"}}


@pytest.mark.parametrize(("name", "algorithm"), [("", RS256), ("RS256", RS256), ("ES256", ES256)])
def test_the_settings_select_the_algorithm_of_signatures(name: str, algorithm: type) -> None:
    assert isinstance(handshakes(**TOKENS, TOKEN_ALGORITHM=name).algorithm(), algorithm)
    assert isinstance(keys(TOKEN_ALGORITHM=name).algorithm(), algorithm)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (TOKENS | {"TOKEN_ISSUER": ""}, NO_ISSUER),
        (TOKENS | {"TOKEN_AUDIENCE": ""}, "TOKEN_AUDIENCE is missing: it names whom tokens must be for."),
        (TOKENS | {"TOKEN_ISSUER": "http://issuer"}, "TOKEN_ISSUER must be an https URL."),
        (TOKENS | {"TOKEN_TYPE": "any"}, "TOKEN_TYPE must be access or id."),
        (
            TOKENS | {"KEYS_TABLE": ""},
            "KEYS_TABLE is missing: it names the DynamoDB table of the issuer's keys.",
        ),
        (
            TICKETS | {"TICKETS_TABLE": ""},
            "TICKETS_TABLE is missing: it names the DynamoDB table of tickets.",
        ),
        (
            TICKETS | {"STORE": "memory", "AWS_REGION": ""},
            "AWS_REGION is missing: it names the table's region; Lambda sets it.",
        ),
    ],
)
def test_an_incomplete_setting_of_who_may_come_in_is_an_error(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidSetting) as error:
        handshakes(**environ).open_connection()

    assert str(error.value) == sentence


def test_open_admission_needs_none_of_the_settings_of_tokens() -> None:
    wrong = {"TOKEN_ISSUER": "http://issuer", "TOKEN_TYPE": "any", "KEYS_TABLE": ""}

    assert handshakes(STORE="memory", **wrong).open_connection()(a_handshake()).connection.id == "c-1"


def test_a_handshake_that_is_refused_is_not_recorded() -> None:
    table = MemoryConnectionTable()
    container = handshakes(STORE="memory", **TICKETS)
    container.store.override(table)

    with pytest.raises(Denied, match=Reason.MISSING):
        container.open_connection()(a_handshake())
    assert list(table.scan(0, 1)) == []


def test_the_settings_reach_the_refresh_of_keys() -> None:
    container = keys(TOKEN_ALGORITHM="ES256", JWKS_URL="https://issuer.example.com/keys")

    issuer = vars(container.issuer())
    assert issuer["_issuer"] == "https://issuer.example.com/"
    assert issuer["_jwks_url"] == "https://issuer.example.com/keys"
    assert isinstance(issuer["_algorithm"], ES256)
    store = vars(container.store())
    assert (store["_table"], store["_key"]) == ("Keys", {"issuer": {"S": "https://issuer.example.com/"}})
    assert isinstance(store["_transport"], DirectTransport)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"TOKEN_ISSUER": ""}, NO_ISSUER),
        ({"AWS_REGION": ""}, "AWS_REGION is missing: it names the table's region; Lambda sets it."),
        ({"KEYS_TABLE": ""}, "KEYS_TABLE is missing: it names the DynamoDB table of the issuer's keys."),
    ],
)
def test_an_incomplete_setting_of_the_refresh_of_keys_is_an_error(
    environ: dict[str, str], sentence: str
) -> None:
    with pytest.raises(InvalidSetting) as error:
        keys(**environ).refresh_keys()

    assert str(error.value) == sentence


def test_the_command_line_mints_tickets_of_256_bits() -> None:
    container = command_line(TICKETS_TABLE="Tickets")
    mint = container.mint_ticket()

    assert isinstance(mint.tickets, DynamoDBTickets)
    assert vars(mint.tickets)["_table"] == "Tickets"
    secrets = {mint.new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) for secret in secrets)


def test_only_tickets_need_the_table_of_tickets() -> None:
    container = command_line()

    assert container.sweep_connections() is container.sweep_connections()
    with pytest.raises(InvalidSetting, match="^TICKETS_TABLE is missing"):
        container.mint_ticket()


# ---- The operations, and sending


@pytest.mark.parametrize("store", ["dynamodb", "dynamodb-boto3"])
def test_the_operations_share_one_sdk_client(store: str) -> None:
    container = stream(STORE=store)

    assert isinstance(container.table(), DynamoDBConnectionTable)
    assert isinstance(container.presence(), DynamoDBPresenceStore)
    assert vars(container.table())["_transport"] is vars(container.presence())["_transport"]


def test_the_operations_can_use_memory() -> None:
    assert isinstance(operations(STORE="memory").table(), MemoryConnectionTable)
    assert isinstance(stream(STORE="memory").presence(), MemoryPresenceStore)


def test_only_presence_needs_the_presence_table() -> None:
    container = stream(PRESENCE_TABLE="")

    assert container.sweep_connections() is container.sweep_connections()
    with pytest.raises(InvalidSetting, match="^PRESENCE_TABLE is missing"):
        container.track_presence()


@pytest.mark.parametrize("name", ["CONNECTIONS_TABLE", "AWS_REGION"])
def test_dynamodb_needs_a_table_and_a_region(name: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^{name} is missing"):
        handshakes(**{name: ""}).open_connection()
    with pytest.raises(InvalidSetting, match=f"^{name} is missing"):
        operations(**{name: ""}).sweep_connections()


def test_memory_needs_no_table_and_no_region() -> None:
    container = handshakes(STORE="memory", CONNECTIONS_TABLE="", AWS_REGION="")

    assert container.open_connection()(a_handshake()).connection.id == "c-1"


def test_the_settings_reach_the_handshakes() -> None:
    open_connection = handshakes(
        STORE="memory", TTL_HOURS="3", CLIENT_ATTRIBUTES="appVersion", TRUSTED_PROXIES="10.0.0.0/8"
    ).open_connection()

    connection = open_connection(
        a_handshake(
            query={"appVersion": "2.7"},
            peer_address="10.0.0.1",
            headers={"x-forwarded-for": ["203.0.113.7"]},
        )
    ).connection

    assert connection.expires_at - connection.created_at.replace(microsecond=0) == timedelta(hours=3)
    assert connection.attributes == {"appVersion": "2.7"}
    assert connection.source_ip == "203.0.113.7"


def test_the_settings_reach_the_operations() -> None:
    container = stream(
        SWEEP_GRACE_SECONDS="29", SWEEP_CONCURRENCY="7", DUPLICATES="replace", KEEP_ALIVE="true"
    )

    assert container.sweep_connections().grace == timedelta(seconds=29)
    assert container.sweep_connections().keep_alive
    assert not operations().sweep_connections().keep_alive
    assert container.evict_connection().grace == timedelta(seconds=29)
    assert container.track_presence().evict is container.evict_connection()
    assert container.track_presence().connections_per_client == 1
    assert vars(vars(container.workers())["_pool"])["_max_workers"] == 7


def test_the_operations_know_which_indexes_the_table_has() -> None:
    table = vars(operations(CLIENT_INDEX="false", ACCOUNT_INDEX="false").table())

    assert (table["_client_index"], table["_account_index"]) == (False, False)
    assert vars(operations().table())["_client_index"]


def test_the_settings_reach_sending() -> None:
    container = sending(
        SEND_RATE="7",
        UNSCOPED="include",
        ACCOUNT_INDEX="false",
        CLIENT_INDEX="false",
        SWEEP_GRACE_SECONDS="45",
    )
    deliver = container.deliver_message()

    assert deliver.pace.most == 7
    assert deliver.unscoped
    assert deliver.grace == timedelta(seconds=45)
    assert deliver.table is container.table()
    recipients = vars(deliver.recipients)
    assert (recipients["_page_size"], recipients["_index_unscoped"]) == (1000, True)
    assert (recipients["_account_index"], recipients["_client_index"]) == (False, False)


@pytest.mark.parametrize(
    ("store", "transport"), [("dynamodb", DirectTransport), ("dynamodb-boto3", SdkTransport)]
)
def test_recipients_are_read_through_the_chosen_transport(store: str, transport: type) -> None:
    assert isinstance(vars(sending(STORE=store).recipients())["_transport"], transport)


def test_an_adapter_from_outside_has_the_recipients_and_dynamodb_the_deliveries() -> None:
    container = sending(STORE="app.adapters.memory:MemoryConnectionTable", CONNECTIONS_TABLE="")
    container.table.override(MemoryConnectionTable())

    assert container.recipients() is container.table()
    assert isinstance(container.deliveries(), DynamoDBDeliveries)


# ---- The history, and clients that come back


def test_messages_are_kept_if_there_is_a_history() -> None:
    container = sending(HISTORY_TABLE="History", HISTORY_MINUTES="60", UNSCOPED="include")
    history = container.deliver_message().history

    assert isinstance(history, DynamoDBHistory)
    assert history is container.kept_history()
    parts = vars(history)
    assert (parts["_table"], parts["_unscoped"]) == ("History", True)
    assert parts["_kept_for"] > timedelta(minutes=60)
    assert parts["_transport"] is container.transport()


@pytest.mark.parametrize("environ", [{}, {"HISTORY_TABLE": "History", "HISTORY_MINUTES": "0"}])
def test_without_a_table_or_a_time_no_message_is_kept(environ: dict[str, str]) -> None:
    assert sending(**environ).deliver_message().history is None


def test_clients_that_come_back_are_put_into_the_queue_if_there_is_one() -> None:
    container = stream(CATCH_UP_QUEUE="switchboard-catch-ups")
    queue = container.track_presence().catch_ups

    assert isinstance(queue, SqsCatchUps)
    assert queue is container.queued_catch_ups()
    assert vars(queue)["_name"] == "switchboard-catch-ups"
    assert stream().track_presence().catch_ups is None


# ---- Presence for backends


@pytest.mark.parametrize(("make", "use_case"), [(stream, "track_presence"), (presence, "publish_presence")])
def test_events_go_onto_the_bus_and_then_to_the_log_if_there_is_a_bus(
    make: Callable[..., Stream | PresenceEvents], use_case: str
) -> None:
    container = make(PRESENCE_BUS="presence", STORE_READ_TIMEOUT_MS="700")
    publisher = container.providers[use_case]().publisher

    assert isinstance(publisher, EventBridgePublisher)
    assert publisher is container.event_publisher()
    parts = vars(publisher)
    assert parts["_log"] is container.publisher()
    assert (parts["_bus"], parts["_table"]) == ("presence", "Connections")
    assert parts["_client"].meta.config.read_timeout == 0.7


def test_without_a_bus_and_in_the_sweep_events_go_to_the_log_alone() -> None:
    follows, publishes, sweeps = stream(), presence(), operations(PRESENCE_BUS="presence")

    assert follows.track_presence().publisher is follows.publisher()
    assert publishes.publish_presence().publisher is publishes.publisher()
    assert sweeps.sweep_connections().publisher is sweeps.publisher()


def test_the_settings_reach_catching_up() -> None:
    container = catching_up(
        **HISTORY, HISTORY_MINUTES="60", INDEX_LAG_SECONDS="7", SWEEP_GRACE_SECONDS="29", UNSCOPED="include"
    )
    catch_up = container.catch_up_client()

    assert catch_up.kept_for == timedelta(minutes=60)
    assert catch_up.index_lag == timedelta(seconds=7)
    assert catch_up.grace == timedelta(seconds=29)
    assert catch_up.unscoped
    assert catch_up.table is container.table()
    assert catch_up.deliveries is container.deliveries()
    assert catch_up.history is container.kept_history()
    assert catch_up.courier is container.courier()
    assert catch_up.catch_ups is container.queued_catch_ups()
    assert isinstance(catch_up.notices, JsonNotices)
    assert container.read_catch_up() is catch_up_from


@pytest.mark.parametrize("name", ["HISTORY_TABLE", "CATCH_UP_QUEUE", "DELIVERIES_TABLE", "AWS_REGION"])
def test_catching_up_needs_the_history_the_queue_and_the_deliveries(name: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^{name} is missing"):
        catching_up(**HISTORY | {name: ""}).catch_up_client()


def test_the_handshakes_put_connections_without_an_account_into_the_index_if_they_are_to_be_found() -> None:
    assert vars(handshakes(UNSCOPED="include").store())["_index_unscoped"] is True
    assert vars(handshakes().store())["_index_unscoped"] is False


def test_a_provider_is_overridden_by_keyword() -> None:
    clock, table = FixedClock(), MemoryConnectionTable()

    container = Handshakes(settings=Settings(), clock=clock, store=table)
    stored = container.open_connection()(a_handshake()).connection

    assert stored.created_at == clock.now()
    assert table.get(stored.id) == stored


@pytest.mark.parametrize("path", sorted((ROOT / "app" / "containers").glob("*.py")), ids=lambda it: it.name)
def test_a_container_is_short_and_has_no_local_import(path: Path) -> None:
    source = path.read_text()

    assert len(source.splitlines()) <= (110 if path.name == "compile.py" else 80)
    local = re.findall(r"^ +(?:from (.+) )?import ", source, re.MULTILINE)
    assert local == (
        ["app.containers.compiled", "app.containers.handshakes"] if path.name == "__init__.py" else []
    )


def test_at_most_four_imports_of_the_app_are_local_and_each_has_a_reason() -> None:
    modules = list((ROOT / "app").rglob("*.py"))
    lines = [line for path in modules for line in path.read_text().splitlines()]
    local = [line for line in lines if "PLC0415" in line]

    assert len(local) <= 4
    assert [path.name for path in modules if "import_module(" in path.read_text()] == ["imports.py"]
    assert all(re.search(r"PLC0415 - \w", line) for line in local)


@pytest.mark.xdist_group("mypy")  # two at once can't create its cache: "database is locked"
def test_a_wrong_adapter_fails_the_type_check(tmp_path: Path) -> None:
    source = (ROOT / "app" / "containers" / "admission.py").read_text()
    wrong = tmp_path / "wrong_container.py"
    wrong.write_text(source.replace("Singleton(SystemClock)", "Singleton(OpenAdmission)"))

    output, _, status = mypy.run(["--config-file", str(ROOT / "pyproject.toml"), str(wrong)])

    assert status == 1
    assert 'expected "Callable[..., Clock]' in output


ENTRYPOINTS = (
    *("aws_lambda", "aws_sweep", "aws_stream", "aws_presence", "aws_send", "aws_catch_up"),
    "aws_keys",
)


def unload(*modules: str) -> None:
    for name in modules:
        sys.modules.pop(name, None)


@pytest.fixture
def fresh_entrypoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Import the entrypoints again, and restore the process-wide settings that they change."""
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    modules = [f"app.entrypoints.{name}" for name in ENTRYPOINTS]
    unload(*modules)
    yield
    unload(*modules)
    gc.unfreeze()
    gc.enable()


@pytest.mark.usefixtures("fresh_entrypoints")
def test_the_handshake_functions_work_once_they_are_imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STORE", "memory")

    module = importlib.import_module("app.entrypoints.aws_lambda")

    with caplog.at_level(logging.INFO):
        assert module.connect(a_connect_event(), None) == {"statusCode": 200, "body": "connected"}
        assert module.handler(a_disconnect_event(), None) == {"statusCode": 200, "body": "disconnected"}
        assert module.disconnect(a_disconnect_event(), None) == {"statusCode": 200, "body": "disconnected"}
    assert [vars(record).get("found") for record in caplog.records] == [None, True, False]


@pytest.mark.usefixtures("fresh_entrypoints")
def test_the_other_functions_work_once_they_are_imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STORE", "memory")
    monkeypatch.setenv("AWS_REGION", "ap-northeast-2")
    monkeypatch.setenv("MESSAGE_QUEUE", "switchboard-messages")

    sweep = importlib.import_module("app.entrypoints.aws_sweep").handler
    stream = importlib.import_module("app.entrypoints.aws_stream").handler
    presence = importlib.import_module("app.entrypoints.aws_presence").handler
    send = importlib.import_module("app.entrypoints.aws_send").handler

    with caplog.at_level(logging.INFO):
        assert sweep({}, Invocation(timedelta(seconds=30)))["scanned"] == 0
        assert stream(an_event("stream_insert"), Invocation()) == {"batchItemFailures": []}
        assert presence(an_event("presence_insert"), Invocation()) == {"batchItemFailures": []}
        assert send(an_event("sqs_message"), Invocation()) == {"batchItemFailures": []}
    events = [vars(record)["event"] for record in caplog.records]
    assert events == ["sweep.finished", "presence.joined", "delivery.finished"]


@pytest.mark.usefixtures("fresh_entrypoints")
def test_the_function_that_catches_up_works_once_it_is_imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (ENVIRON | HISTORY | {"STORE": "memory"}).items():
        monkeypatch.setenv(name, value)
    event = an_event("sqs_message")
    event["Records"][0]["body"] = (
        '{"connectionId":"c-1","beganAt":1795251600000,"since":"m-41","after":null,"told":[],"isSecond":false}'
    )

    handler = importlib.import_module("app.entrypoints.aws_catch_up").handler

    with caplog.at_level(logging.INFO):
        assert handler(event, Invocation()) == {"batchItemFailures": []}
    assert [vars(record)["event"] for record in caplog.records] == ["catch_up.ended"]


@pytest.mark.parametrize("missing", ["HISTORY_TABLE", "CATCH_UP_QUEUE"])
@pytest.mark.usefixtures("fresh_entrypoints")
def test_without_a_history_the_function_that_catches_up_does_not_start(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (ENVIRON | HISTORY | {missing: ""}).items():
        monkeypatch.setenv(name, value)

    with pytest.raises(InvalidSetting, match=f"^{missing} is missing"):
        importlib.import_module("app.entrypoints.aws_catch_up")


@pytest.mark.usefixtures("fresh_entrypoints")
def test_the_keys_function_works_once_it_is_imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (ENVIRON | TOKENS | {"JWKS_URL": "https://127.0.0.1:9/keys"}).items():
        monkeypatch.setenv(name, value)

    handler = importlib.import_module("app.entrypoints.aws_keys").handler

    with caplog.at_level(logging.INFO):
        result = handler({}, Invocation())
    assert result == {"event": "keys.not_refreshed", "reason": "NoConnection"}
    assert [vars(record)["event"] for record in caplog.records] == ["keys.not_refreshed"]


@pytest.mark.usefixtures("fresh_entrypoints")
def test_the_handshake_functions_start_while_there_are_no_keys(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (ENVIRON | TOKENS).items():
        monkeypatch.setenv(name, value)

    module = importlib.import_module("app.entrypoints.aws_lambda")

    with caplog.at_level(logging.INFO):
        assert module.connect(a_connect_event(), None)["statusCode"] == 401
    (record,) = caplog.records
    assert (vars(record)["event"], vars(record)["reason"]) == ("handshake.denied", "missing")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("aws_lambda", "TOKEN_ISSUER"),
        ("aws_lambda", "TOKEN_AUDIENCE"),
        ("aws_lambda", "KEYS_TABLE"),
        ("aws_keys", "TOKEN_ISSUER"),
        ("aws_keys", "KEYS_TABLE"),
    ],
)
@pytest.mark.usefixtures("fresh_entrypoints")
def test_an_incomplete_setting_of_tokens_stops_the_start(
    name: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in (ENVIRON | TOKENS | {missing: ""}).items():
        monkeypatch.setenv(variable, value)

    with pytest.raises(InvalidSetting, match=f"^{missing} is missing"):
        importlib.import_module(f"app.entrypoints.{name}")


@pytest.mark.parametrize("name", ENTRYPOINTS)
@pytest.mark.usefixtures("fresh_entrypoints")
def test_an_invalid_setting_fails_the_import(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTL_HOURS", "for ever")
    monkeypatch.setenv("CONNECTIONS_TABLE", "Connections")
    monkeypatch.setenv("AWS_REGION", "ap-northeast-2")

    with pytest.raises(InvalidSetting, match="^TTL_HOURS must be a whole number"):
        importlib.import_module(f"app.entrypoints.{name}")


def imported_with(entrypoint: str = "aws_lambda", **environ: str) -> set[str]:
    """The modules that a function imports, by default those of the handshakes."""
    result = subprocess.run(
        [sys.executable, "-c", f"import sys, app.entrypoints.{entrypoint}; print(*sys.modules)"],
        cwd=ROOT,
        env={**ENVIRON, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("bus", "imported"), [("", set()), ("presence", {"boto3", "botocore", "app.adapters.eventbridge"})]
)
def test_the_function_that_publishes_presence_imports_the_sdk_only_for_a_bus(
    bus: str, imported: set[str]
) -> None:
    of_a_bus = {"boto3", "botocore", "app.adapters.eventbridge"}

    assert imported_with("aws_presence", PRESENCE_BUS=bus) & of_a_bus == imported


OPERATIONS = {
    "app.cli",
    *(
        f"app.containers.{name}"
        for name in ("catching_up", "command_line", "keys", "operations", "presence", "publishing")
    ),
    *(f"app.containers.{name}" for name in ("sending", "stream")),
    *(f"app.domain.{name}" for name in ("catching_up", "delivery", "events", "history", "lifecycle")),
    *(f"app.domain.{name}" for name in ("operations", "pace", "presence", "recipients", "selection")),
    *(f"app.domain.{name}" for name in ("sending", "sessions", "sweep", "tracking")),
    *(f"app.adapters.{name}" for name in ("eventbridge", "gateway", "memory", "messages", "sqs", "threads")),
    *(f"app.adapters.dynamodb.{name}" for name in ("deliveries", "history", "presence", "sdk", "table")),
    "app.adapters.tokens.issuer",
    "boto3",
    "botocore",
    "pycurl",
}
OF_TICKETS = {"app.adapters.dynamodb.tickets", "app.domain.admission", "app.domain.admitting"}
OF_RS256 = {"app.adapters.tokens.rs256"}
OF_ES256 = {"app.adapters.tokens.es256"}
OF_TOKENS = {
    "app.adapters.dynamodb.keys",
    *OF_RS256,
    "app.adapters.tokens.signatures",
    "app.domain.admission",
    "app.domain.admitting",
    "app.domain.keys",
    "app.domain.tokens",
    "app.settings.tokens",
    "cryptography",
}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, set()),
        ({"TICKETS_TABLE": "Tickets", "KEYS_TABLE": "Keys"}, set()),
        (ORIGINS, {"app.domain.admission", "app.domain.admitting"}),
        (TICKETS, OF_TICKETS),
        (TOKENS, OF_TOKENS),
        (TICKETS | TOKENS, OF_TICKETS | OF_TOKENS),
        (TOKENS | {"TOKEN_ALGORITHM": "ES256"}, OF_TOKENS - OF_RS256 | OF_ES256),
    ],
    ids=lambda it: "-".join(it) if isinstance(it, dict) else "",
)
def test_the_handshake_functions_import_what_their_settings_need_and_no_operation(
    environ: dict[str, str], wanted: set[str]
) -> None:
    imported = imported_with(**environ)

    assert "app.adapters.dynamodb.direct" in imported
    assert imported & (OPERATIONS | OF_TICKETS | OF_TOKENS | OF_ES256) == wanted
