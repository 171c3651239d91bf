"""The composition root resolves, and takes other parts by its constructor's arguments."""

import gc
import importlib
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from mypy import api as mypy

from app.adapters.clock import SystemClock
from app.adapters.dynamodb import (
    DynamoDBConnectionRegistry,
    DynamoDBConnectionStore,
    DynamoDBPresenceStore,
)
from app.adapters.dynamodb_direct.store import DirectDynamoDBConnectionStore
from app.adapters.ip import PeerFirstIpResolver, TrustedProxyIpResolver
from app.adapters.memory import MemoryConnectionStore
from app.adapters.memory_presence import MemoryPresenceStore
from app.container import Container
from app.settings import InvalidSetting, Settings
from tests.builders import FixedClock, Invocation, a_connect_event, a_disconnect_event, a_handshake, an_event

ROOT = Path(__file__).parent.parent.parent
ENVIRON = {
    "CONNECTIONS_TABLE": "Connections",
    "AWS_REGION": "ap-northeast-2",
    "PRESENCE_TABLE": "Presence",
    "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9",  # where nobody listens
}


def a_container(**environ: str) -> Container:
    return Container(settings=Settings.from_environ(ENVIRON | environ))


def test_every_provider_resolves_and_to_the_same_object_each_time() -> None:
    container = a_container()

    for name, provider in container.providers.items():
        assert provider() is not None, name
        assert provider() is provider(), name


def test_without_settings_nothing_resolves() -> None:
    with pytest.raises(Exception, match="settings"):
        Container().open_connection()


def test_the_settings_pick_the_adapters() -> None:
    assert isinstance(a_container().store(), DirectDynamoDBConnectionStore)
    assert isinstance(a_container(STORE="dynamodb-boto3").store(), DynamoDBConnectionStore)
    assert isinstance(a_container(STORE="memory").store(), MemoryConnectionStore)
    assert isinstance(a_container().registry(), DynamoDBConnectionRegistry)
    assert isinstance(a_container().presence(), DynamoDBPresenceStore)
    assert isinstance(a_container(STORE="memory").presence(), MemoryPresenceStore)
    assert isinstance(a_container().ip_resolver(), PeerFirstIpResolver)
    assert isinstance(a_container(TRUSTED_PROXIES="10.0.0.0/8").ip_resolver(), TrustedProxyIpResolver)
    assert isinstance(a_container().clock(), SystemClock)


@pytest.mark.parametrize("store", ["dynamodb-boto3", "memory"])
def test_what_the_handshakes_write_is_what_is_read_as_a_whole(store: str) -> None:
    container = a_container(STORE=store)

    assert container.store() is container.registry()


def test_only_who_is_present_needs_its_table() -> None:
    container = a_container(PRESENCE_TABLE="")

    assert container.sweep_connections() is container.sweep_connections()
    with pytest.raises(InvalidSetting, match="^PRESENCE_TABLE is missing"):
        container.follow_changes()


def test_a_store_that_there_is_not_is_named() -> None:
    with pytest.raises(InvalidSetting, match="^STORE must be one of: dynamodb, dynamodb-boto3, memory"):
        a_container(STORE="redis").open_connection()


def test_the_settings_reach_the_use_cases() -> None:
    open_connection = a_container(
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


def test_the_settings_reach_the_upkeep() -> None:
    container = a_container(SWEEP_GRACE_SECONDS="45", SWEEP_CONCURRENCY="7", DUPLICATES="replace")

    assert container.sweep_connections().grace == timedelta(seconds=45)
    assert container.sweep_connections().concurrency == 7
    assert container.follow_changes().grace == timedelta(seconds=45)
    assert container.follow_changes().replaces_duplicates
    assert container.hang_up().grace == timedelta(seconds=45)


def test_another_part_is_given_by_name() -> None:
    clock = FixedClock()

    container = Container(settings=Settings(store="memory"), clock=clock)

    assert container.clock() is clock
    assert container.open_connection()(a_handshake()).connection.created_at == clock.now()


def test_a_wrong_adapter_fails_the_type_check(tmp_path: Path) -> None:
    source = (ROOT / "app" / "container.py").read_text()
    wrong = tmp_path / "wrong_container.py"
    wrong.write_text(source.replace("Singleton(SystemClock)", "Singleton(PeerFirstIpResolver)"))

    told, _, status = mypy.run(["--config-file", str(ROOT / "pyproject.toml"), str(wrong)])

    assert status == 1
    assert 'expected "Callable[..., Clock]' in told


@pytest.fixture
def fresh_entrypoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The entrypoint's name; it is imported anew inside the test and forgotten after, with what it sets."""
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    name = "app.entrypoints.aws_lambda"
    sys.modules.pop(name, None)
    yield name
    sys.modules.pop(name, None)
    gc.unfreeze()
    gc.enable()


def test_the_entrypoint_is_ready_once_it_is_imported(
    fresh_entrypoint: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STORE", "memory")

    module = importlib.import_module(fresh_entrypoint)

    with caplog.at_level(logging.INFO):
        assert module.connect(a_connect_event(), None) == {"statusCode": 200, "body": "connected"}
        assert module.handler(a_disconnect_event(), None) == {"statusCode": 200, "body": "disconnected"}
        assert module.disconnect(a_disconnect_event(), None) == {"statusCode": 200, "body": "disconnected"}
    assert [vars(record).get("found") for record in caplog.records] == [None, True, False]


def test_a_setting_that_is_wrong_fails_the_start(
    fresh_entrypoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTL_HOURS", "for ever")
    monkeypatch.setenv("CONNECTIONS_TABLE", "Connections")
    monkeypatch.setenv("AWS_REGION", "ap-northeast-2")

    with pytest.raises(InvalidSetting, match="^TTL_HOURS must be a whole number"):
        importlib.import_module(fresh_entrypoint)


def test_the_functions_that_no_client_waits_for_are_ready_once_they_are_asked_for(
    fresh_entrypoint: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STORE", "memory")

    module = importlib.import_module(fresh_entrypoint)

    with caplog.at_level(logging.INFO):
        assert module.sweep({}, Invocation(timedelta(seconds=30)))["scanned"] == 0
        assert module.on_change(an_event("stream_insert"), Invocation()) == {"batchItemFailures": []}
    assert [vars(record)["event"] for record in caplog.records] == ["sweep.finished", "presence.joined"]


def test_a_handshakes_start_imports_nothing_of_the_upkeep(
    fresh_entrypoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, {fresh_entrypoint}; print(*[it for it in sys.modules if it.startswith('app.')])",
        ],
        cwd=ROOT,
        env={**ENVIRON, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"},
        capture_output=True,
        text=True,
        check=True,
    )

    upkeep = {"upkeep", "sweep", "presence", "listing", "gateway", "pace", "dynamodb", "sweeping", "changes"}
    imported = {name.rpartition(".")[2] for name in result.stdout.split()}
    assert "dynamodb_direct" in imported
    assert imported & upkeep == set()


def test_a_function_that_there_is_not_is_no_attribute(
    fresh_entrypoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE", "memory")
    module = importlib.import_module(fresh_entrypoint)

    with pytest.raises(AttributeError, match="has no attribute 'swep'"):
        module.swep  # noqa: B018
