"""The template on a local AWS with real WebSocket clients, and the commands that start it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus

from app.domain.model import Connection
from infra.clients import client_process, drop, open_client
from infra.deploy import GRACE
from infra.local import local_stack
from infra.pictures.recording import CAST, Cast
from infra.process import find_uv
from infra.stack import LocalStack, Record
from tests import loopback
from tests.deadline import LONGEST, eventually
from tests.environment import USERS
from tests.lanes import leave_out

ROOT = Path(__file__).parent.parent.parent
QUERY = {"clientId": "dashboard-7", "account": "123456789012", "region": "ap-northeast-2"}
PATIENCE = 120
"""Seconds for an answer of the running stack, or for its end, on a busy machine."""


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    _uv()
    with local_stack(parameters={"SweepMinutes": "30"}) as stack:  # none comes between those of the tests
        yield stack


@pytest.fixture(autouse=True)
def nobody_is_connected(request: pytest.FixtureRequest) -> None:
    """Each test begins once the connections of the one before are gone."""
    if "stack" in request.fixturenames:
        stack: LocalStack = request.getfixturevalue("stack")
        eventually(lambda: stack.connections() == [])


def test_a_client_is_in_the_table_before_its_handshake_is_answered(stack: LocalStack) -> None:
    with open_client(stack.websocket_url, QUERY):
        connections = stack.connections()

    assert [_client_of(it) for it in connections] == [
        ("dashboard-7", "123456789012", "ap-northeast-2", "127.0.0.1")
    ]


def test_many_clients_that_connect_at_once_are_in_the_table_too(stack: LocalStack) -> None:
    names = [f"agent-{number}" for number in range(20)]

    with ExitStack() as clients, ThreadPoolExecutor(len(names)) as pool:

        def is_in_the_table(name: str) -> bool:
            clients.enter_context(open_client(stack.websocket_url, {"clientId": name}))
            return name in {it.client_id for it in stack.connections()}

        found = list(pool.map(is_in_the_table, names))
        connections = stack.connections()

    assert all(found)
    assert sorted(it.client_id for it in connections) == sorted(names)
    assert len({it.id for it in connections}) == len(names)


def test_a_client_without_parameters_has_the_defaults(stack: LocalStack) -> None:
    with open_client(stack.websocket_url, {}):
        connections = stack.connections()

    assert [_client_of(it) for it in connections] == [("unknown", "", "", "127.0.0.1")]


def test_a_disconnect_deletes_the_item_and_the_log_says_who_it_was(stack: LocalStack) -> None:
    with open_client(stack.websocket_url, QUERY):
        [connection] = stack.connections()

    def records() -> list[Record]:
        return [it for it in stack.records("connection.closed") if it["connectionId"] == connection.id]

    eventually(lambda: len(records()) == 1)  # written after the delete
    [record] = records()
    assert stack.connections() == []
    assert record["clientId"] == "dashboard-7"
    assert record["account"] == "123456789012"
    assert record["region"] == "ap-northeast-2"
    assert record["sourceIp"] == "127.0.0.1"
    assert record["found"] is True


def test_a_reset_tcp_connection_is_a_disconnect_too(stack: LocalStack) -> None:
    with open_client(stack.websocket_url, {"clientId": "stays"}):
        with open_client(stack.websocket_url, QUERY) as client:
            drop(client)

        eventually(lambda: [it.client_id for it in stack.connections()] == ["stays"])


def test_an_invalid_handshake_is_refused_and_leaves_no_item(stack: LocalStack) -> None:
    with (
        pytest.raises(InvalidStatus) as refusal,
        open_client(stack.websocket_url, QUERY | {"region": "nowhere"}),
    ):
        pass

    assert refusal.value.response.status_code == HTTPStatus.BAD_REQUEST
    assert stack.records("handshake.rejected")[-1]["field"] == "region"
    assert stack.connections() == []


def test_a_sweep_removes_a_client_whose_process_was_killed_and_keeps_a_live_one(
    stack: LocalStack,
) -> None:
    with (
        open_client(stack.websocket_url, {"clientId": "lives"}),
        client_process(stack.websocket_url, {"clientId": "dies"}) as process,
    ):
        [lives, dies] = stack.connections()
        with stack.gateway.losing_disconnects():
            process.kill()
            eventually(lambda: not stack.gateway.holds(dies.id))
            before = stack.connections()
            reports = _swept_until(lambda _: stack.connections() == [lives], stack)
        later = stack.sweep()
        stayed = stack.connections()

    assert before == [lives, dies]
    assert sum(report["missedDisconnects"] for report in reports) == 1
    assert all(report["open"] >= 1 for report in reports)
    assert (later["alive"], later["open"], later["missedDisconnects"]) == (1, 1, 0)
    assert stayed == [lives]
    assert stack.records("sweep.finished")[-1]["open"] == 1


def test_the_sweep_does_not_probe_a_connection_within_its_grace(stack: LocalStack) -> None:
    with stack.gateway.losing_disconnects():
        with open_client(stack.websocket_url, QUERY) as client:
            [connection] = stack.connections()
            drop(client)
        eventually(lambda: not stack.gateway.holds(connection.id))
        _swept_until(lambda _: stack.connections() == [], stack)
        age = time.time() - connection.created_at.timestamp()

    assert age >= GRACE.total_seconds()


def test_a_dry_run_reports_and_removes_nothing(stack: LocalStack) -> None:
    with stack.gateway.losing_disconnects():
        with open_client(stack.websocket_url, QUERY) as client:
            before = stack.connections()
            drop(client)
        eventually(lambda: stack.invoke("Sweep", {"dryRun": True})["gone"] == 1)
        after = stack.connections()
        _swept_until(lambda _: stack.connections() == [], stack)

    assert after == before


def test_the_sweeps_role_allows_its_probes(stack: LocalStack) -> None:
    with open_client(stack.websocket_url, QUERY):
        *_, report = _swept_until(lambda report: report["asked"] == 1, stack)

    assert (report["alive"], report["forbidden"], report["failed"]) == (1, 0, 0)


def test_clients_that_disconnect_at_once_leave_no_connection_behind(stack: LocalStack) -> None:
    def connect_and_drop(number: int) -> None:
        with open_client(stack.websocket_url, {"clientId": f"hasty-{number}"}) as client:
            drop(client)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(connect_and_drop, range(30)))

    eventually(lambda: stack.connections() == [])
    assert all("closedAt" in item for item in stack.items())


def test_a_connect_that_comes_after_its_disconnect_is_refused(stack: LocalStack) -> None:
    now = round(time.time() * 1000)
    context = {"connectionId": "overtaken", "connectedAt": now, "requestTimeEpoch": now}
    connect: Record = {"requestContext": context | {"routeKey": "$connect"}}
    disconnect: Record = {"requestContext": context | {"routeKey": "$disconnect"}}

    closed = stack.invoke("Disconnect", disconnect)
    tombstones = [item for item in stack.items() if item["connectionId"] == {"S": "overtaken"}]
    opened = stack.invoke("Connect", connect)

    assert closed["statusCode"] == HTTPStatus.OK
    assert [set(tombstone) for tombstone in tombstones] == [
        {"connectionId", "closedAt", "connectedAt", "ttl"}
    ]
    assert opened["statusCode"] == HTTPStatus.GONE
    assert stack.connections() == []


def test_a_client_with_two_tabs_has_one_session(stack: LocalStack) -> None:
    query = QUERY | {"clientId": "two-tabs"}

    def logged(event: str) -> list[Record]:
        return [record for record in stack.records(event) if record["clientId"] == "two-tabs"]

    with open_client(stack.websocket_url, query):
        with open_client(stack.websocket_url, query):
            eventually(lambda: len(logged("presence.joined")) == 1)
        eventually(lambda: len(stack.connections()) == 1)
        # another client, later in the stream: the changes before it have been processed
        with open_client(stack.websocket_url, {"clientId": "later"}):
            eventually(lambda: any(it["clientId"] == "later" for it in stack.records("presence.joined")))
        left_with_one_tab_open = logged("presence.left")
    eventually(lambda: len(logged("presence.left")) == 1)

    assert left_with_one_tab_open == []
    assert len(logged("presence.joined")) == 1
    assert logged("presence.joined")[0]["visitId"] == logged("presence.left")[0]["visitId"]
    assert logged("presence.left")[0]["account"] == "123456789012"


def test_an_item_that_is_given_its_time_in_place_stays(stack: LocalStack) -> None:
    now = int(time.time())
    item: Any = {
        "connectionId": {"S": "migrated"},
        "createdAt": {"N": str(now * 1000)},
        "ttl": {"N": str(now + 3600)},
        "clientId": {"S": "before-migration"},
        **{name: {"S": ""} for name in ("account", "region", "sourceIp")},
    }

    def logged(client_id: str) -> list[str]:
        return [
            event
            for event in ("presence.joined", "presence.left", "connection.revived")
            for record in stack.records(event)
            if record["clientId"] == client_id
        ]

    stack.dynamodb.put_item(TableName=stack.table, Item=item)
    eventually(lambda: logged("before-migration") == ["presence.joined"])
    stack.dynamodb.update_item(
        TableName=stack.table,
        Key={"connectionId": {"S": "migrated"}},
        UpdateExpression="SET connectedAt = :connectedAt",
        ExpressionAttributeValues={":connectedAt": {"N": str(now * 1000 - 500)}},
    )
    with open_client(stack.websocket_url, {"clientId": "after-migration"}):
        eventually(lambda: logged("after-migration") == ["presence.joined"])  # later in the stream
        ids = [it["connectionId"]["S"] for it in stack.items()]
    stack.dynamodb.delete_item(TableName=stack.table, Key={"connectionId": {"S": "migrated"}})

    assert "migrated" in ids
    eventually(lambda: logged("before-migration") == ["presence.joined", "presence.left"])


@pytest.mark.parametrize("filters", [[], ["--account", "123456789012"], ["--client", "dashboard-7"]])
def test_the_command_line_reads_the_local_stack(filters: list[str], stack: LocalStack) -> None:
    with open_client(stack.websocket_url, QUERY):
        listed = subprocess.run(
            [sys.executable, "-m", "app", "ls", "--json", *filters],
            cwd=ROOT,
            env=os.environ | stack.environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    assert [json.loads(line)["clientId"] for line in listed.splitlines()] == ["dashboard-7"]


def test_the_demo_succeeds_without_a_network_and_with_any_settings_of_the_user(
    stack: LocalStack,  # so that everything is downloaded
    tmp_path: Path,
) -> None:
    config = tmp_path / "config"
    config.write_text("this is no configuration")
    users = {
        "AWS_PROFILE": "not-there",
        "AWS_CONFIG_FILE": str(config),
        "AWS_DEFAULTS_MODE": "no-such-mode",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "PYTHONWARNINGS": "error",
    }
    environ = USERS | _own_files(tmp_path) | users

    with _started([*_without_a_network(), "make", "demo"], ROOT, environ) as demo:
        output, _ = demo.communicate(timeout=LONGEST)

    assert demo.returncode == 0, output
    assert "The list was right at every step" in output
    assert "missedDisconnects=1" in output
    assert re.search(r"presence\.left: .*wall-jp", output)
    assert "400 region must be" in output
    assert _steps(output) == _steps(_recorded()) != []
    assert _what_is_left(tmp_path) == []


def _recorded() -> str:
    """The output of `make demo` that the README shows, without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", "".join(text for _, text in Cast.read(CAST).outputs))


def _steps(output: str) -> list[str]:
    """The headings of the demo's steps, without their times and numbers."""
    headings = re.findall(r"^ *[0-9.]+ s  (\S.*)$", output.replace("\r", ""), re.MULTILINE)
    return [re.sub(r"[0-9]+", "0", heading) for heading in headings]


def _without_a_network() -> list[str]:
    """Return the command that runs another with loopback alone; empty if the system does not allow it."""
    enter = f"import runpy; runpy.run_path({loopback.__file__!r})['enter_network_namespace']()"
    can = subprocess.run([sys.executable, "-c", enter], check=False, capture_output=True).returncode == 0
    run = f"{enter}; import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", run] if can else []


def test_the_demo_fails_where_the_list_is_wrong(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("app", "infra"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "uv.lock", ".python-version"):
        shutil.copy(ROOT / name, checkout)
    items = checkout / "app" / "adapters" / "dynamodb" / "items.py"
    right = items.read_text()
    wrong = right.replace('"account": {"S": connection.account}', '"account": {"S": connection.region}')
    items.write_text(wrong)

    with _command("demo", tmp_path, checkout) as demo:
        output, _ = demo.communicate(timeout=LONGEST)

    assert wrong != right
    assert demo.returncode == 1
    assert "THE LIST IS WRONG" in output


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_running_stack_and_nothing_is_left_behind(
    how: signal.Signals, tmp_path: Path
) -> None:
    with _command("run", tmp_path) as run:
        url = _url(run)
        page = _read_until(run, "http://").strip()
        with (
            open_client(url, QUERY),
            closing(HTTPConnection(urlsplit(page).netloc, timeout=PATIENCE)) as browser,
        ):
            browser.request("GET", "/connections")
            lists = browser.getresponse()
            listed = lists.readline()
            _read_until(run, "dashboard-7")
            run.send_signal(how)
            output, _ = run.communicate(timeout=PATIENCE)

    assert run.returncode == 0
    assert "Traceback" not in output
    assert b"dashboard-7" in listed
    assert _is_refused(url)
    assert _is_refused(page)
    assert _what_is_left(tmp_path) == []


def test_the_stack_ends_if_its_command_is_killed(tmp_path: Path) -> None:
    with _command("run", tmp_path) as run:
        url = _url(run)
        run.kill()

    eventually(lambda: _is_refused(url))
    eventually(lambda: _processes_in(tmp_path) == [])


def _swept_until(is_enough: Callable[[Record], bool], stack: LocalStack) -> list[Record]:
    """Sweep until *is_enough* is true of a report; return all reports."""
    reports: list[Record] = []

    def swept() -> bool:
        reports.append(stack.sweep())
        return is_enough(reports[-1])

    eventually(swept)
    return reports


def _client_of(connection: Connection) -> tuple[str, ...]:
    return connection.client_id, connection.account, connection.region, connection.source_ip


def _command(
    name: str, directory: Path, checkout: Path = ROOT
) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run ``python -m infra.local`` *name* of *checkout*, with all its files in *directory*."""
    command = [sys.executable, "-m", "infra.local", name]
    return _started(command, checkout, dict(os.environ) | _own_files(directory))


def _own_files(directory: Path) -> dict[str, str]:
    return {"TMPDIR": str(directory), "UV": _uv()}


@contextmanager
def _started(command: list[str], checkout: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command,
        cwd=checkout,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        # If the test fails, neither the command nor the reading of its output goes on for ever.
        watchdog = threading.Timer(LONGEST, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def _url(run: subprocess.Popen[str]) -> str:
    line = _read_until(run, "ws://")
    found = re.search(r"ws://\S+", line)
    assert found
    return found[0]


def _read_until(run: subprocess.Popen[str], text: str) -> str:
    assert run.stdout
    read = []
    for line in run.stdout:
        read.append(line)
        if text in line:
            return line
    pytest.fail(f"it ended without {text}:\n{''.join(read)}")


def _is_refused(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname or "", address.port or 0)) != 0


def _what_is_left(directory: Path) -> list[str]:
    return [str(path) for path in directory.glob("switchboard-*")] + _processes_in(directory)


def _processes_in(directory: Path) -> list[str]:
    """The processes that work in *directory*, as all of the stack's do; nothing where there is no /proc."""
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(directory):
                left.append((process / "cmdline").read_text())
        except OSError:  # it ended while we looked, or is not ours
            continue
    return left


def _uv() -> str:
    executable = find_uv()
    if executable is None:
        leave_out("no uv on this machine")
    return executable
