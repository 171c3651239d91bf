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
from app.adapters.dynamodb.presence import DynamoDBPresenceStore
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.dynamodb.table import DynamoDBConnectionTable
from app.adapters.ip import PeerFirstIpResolver, TrustedProxyIpResolver
from app.adapters.memory import MemoryConnectionTable, MemoryPresenceStore
from app.containers.handshakes import Handshakes
from app.containers.operations import Operations
from app.containers.sending import Sending
from app.settings import InvalidSetting, Settings
from tests.builders import Invocation, a_connect_event, a_disconnect_event, a_handshake, an_event
from tests.fakes import FixedClock, RecordingPublisher

ROOT = Path(__file__).parent.parent.parent
ENVIRON = {
    "CONNECTIONS_TABLE": "Connections",
    "AWS_REGION": "ap-northeast-2",
    "PRESENCE_TABLE": "Presence",
    "DELIVERIES_TABLE": "Deliveries",
    "MESSAGE_QUEUE": "switchboard-messages",
    "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9",  # no server listens there
}


def handshakes(**environ: str) -> Handshakes:
    return Handshakes(settings=Settings.from_environ(ENVIRON | environ))


def operations(**environ: str) -> Operations:
    return Operations(settings=Settings.from_environ(ENVIRON | environ), publisher=RecordingPublisher())


def sending(**environ: str) -> Sending:
    return Sending(settings=Settings.from_environ(ENVIRON | environ), publisher=RecordingPublisher())


@pytest.mark.parametrize(
    "container", [handshakes(), operations(), sending()], ids=["handshakes", "operations", "sending"]
)
def test_every_provider_resolves_to_a_singleton(container: DeclarativeContainer) -> None:
    for name, provider in container.providers.items():
        assert provider() is not None, name
        assert provider() is provider(), name


@pytest.mark.parametrize(
    "resolve",
    [lambda: Handshakes().open_connection(), lambda: Operations().sweep_connections()],
    ids=["handshakes", "operations"],
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


@pytest.mark.parametrize("store", ["dynamodb", "dynamodb-boto3"])
def test_the_operations_share_one_sdk_client(store: str) -> None:
    container = operations(STORE=store)

    assert isinstance(container.table(), DynamoDBConnectionTable)
    assert isinstance(container.presence(), DynamoDBPresenceStore)
    assert vars(container.table())["_transport"] is vars(container.presence())["_transport"]


def test_the_operations_can_use_memory() -> None:
    assert isinstance(operations(STORE="memory").table(), MemoryConnectionTable)
    assert isinstance(operations(STORE="memory").presence(), MemoryPresenceStore)


def test_only_presence_needs_the_presence_table() -> None:
    container = operations(PRESENCE_TABLE="")

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
    container = operations(SWEEP_GRACE_SECONDS="45", SWEEP_CONCURRENCY="7", DUPLICATES="replace")

    assert container.sweep_connections().grace == timedelta(seconds=45)
    assert container.evict_connection().grace == timedelta(seconds=45)
    assert container.track_presence().evict is container.evict_connection()
    assert container.track_presence().replaces_duplicates
    assert vars(vars(container.workers())["_pool"])["_max_workers"] == 7


def test_the_settings_reach_sending() -> None:
    container = sending(SEND_RATE="7", UNSCOPED="include", ACCOUNT_INDEX="false", SWEEP_GRACE_SECONDS="45")
    deliver = container.deliver_message()

    assert deliver.pace.most == 7
    assert deliver.unscoped
    assert deliver.grace == timedelta(seconds=45)
    assert deliver.table is container.table()
    recipients = vars(deliver.recipients)
    assert (recipients["_page_size"], recipients["_index_unscoped"], recipients["_account_index"]) == (
        1000,
        True,
        False,
    )


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

    assert len(source.splitlines()) <= (100 if path.name == "compile.py" else 80)
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


def test_a_wrong_adapter_fails_the_type_check(tmp_path: Path) -> None:
    source = (ROOT / "app" / "containers" / "handshakes.py").read_text()
    wrong = tmp_path / "wrong_container.py"
    wrong.write_text(source.replace("Singleton(SystemClock)", "Singleton(PeerFirstIpResolver)"))

    output, _, status = mypy.run(["--config-file", str(ROOT / "pyproject.toml"), str(wrong)])

    assert status == 1
    assert 'expected "Callable[..., Clock]' in output


def unload(*modules: str) -> None:
    for name in modules:
        sys.modules.pop(name, None)


@pytest.fixture
def fresh_entrypoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Import the entrypoints again, and restore the process-wide settings that they change."""
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    modules = [f"app.entrypoints.{name}" for name in ("aws_lambda", "aws_sweep", "aws_stream", "aws_send")]
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
    send = importlib.import_module("app.entrypoints.aws_send").handler

    with caplog.at_level(logging.INFO):
        assert sweep({}, Invocation(timedelta(seconds=30)))["scanned"] == 0
        assert stream(an_event("stream_insert"), Invocation()) == {"batchItemFailures": []}
        assert send(an_event("sqs_message"), Invocation()) == {"batchItemFailures": []}
    events = [vars(record)["event"] for record in caplog.records]
    assert events == ["sweep.finished", "presence.joined", "delivery.finished"]


@pytest.mark.parametrize("name", ["aws_lambda", "aws_sweep", "aws_stream", "aws_send"])
@pytest.mark.usefixtures("fresh_entrypoints")
def test_an_invalid_setting_fails_the_import(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTL_HOURS", "for ever")
    monkeypatch.setenv("CONNECTIONS_TABLE", "Connections")
    monkeypatch.setenv("AWS_REGION", "ap-northeast-2")

    with pytest.raises(InvalidSetting, match="^TTL_HOURS must be a whole number"):
        importlib.import_module(f"app.entrypoints.{name}")


def test_the_handshake_functions_import_no_operation_and_no_sdk() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "import sys, app.entrypoints.aws_lambda; print(*sys.modules)"],
        cwd=ROOT,
        env={**ENVIRON, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"},
        capture_output=True,
        text=True,
        check=True,
    )

    imported = set(result.stdout.split())
    operations = {
        "app.cli",
        "app.containers.operations",
        *(f"app.domain.{name}" for name in ("events", "lifecycle", "operations", "presence")),
        *(f"app.domain.{name}" for name in ("selection", "sweep", "tracking")),
        *(f"app.adapters.{name}" for name in ("gateway", "memory", "threads")),
        *(f"app.adapters.dynamodb.{name}" for name in ("presence", "sdk", "table")),
    }
    assert "app.adapters.dynamodb.direct" in imported
    assert imported & (operations | {"boto3", "botocore"}) == set()
