"""The template on a local AWS, with real WebSocket clients; and the commands that show it."""

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
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus

from infra.clients import client_process, drop, open_client
from infra.deploy import GRACE
from infra.local import local_stack
from infra.process import find_uv
from infra.stack import LocalStack, Record, Row
from tests import loopback
from tests.deadline import eventually
from tests.environment import USERS
from tests.lanes import leave_out

ROOT = Path(__file__).parent.parent.parent
QUERY = {"clientId": "dashboard-7", "account": "123456789012", "region": "ap-northeast-2"}


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    _uv()
    with local_stack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def nobody_is_connected(request: pytest.FixtureRequest) -> None:
    """Each test starts from an empty list, whatever the one before left on its way out."""
    if "stack" in request.fixturenames:
        stack: LocalStack = request.getfixturevalue("stack")
        eventually(lambda: stack.rows() == [])


def test_a_client_is_in_the_table_before_its_handshake_is_answered(stack: LocalStack) -> None:
    with open_client(stack.websocket_url, QUERY):
        rows = stack.rows()

    assert [_told(row) for row in rows] == [("dashboard-7", "123456789012", "ap-northeast-2", "127.0.0.1")]


def test_so_is_each_of_many_that_come_at_once(stack: LocalStack) -> None:
    names = [f"agent-{number}" for number in range(20)]

    with ExitStack() as clients, ThreadPoolExecutor(len(names)) as pool:

        def comes(name: str) -> bool:
            clients.enter_context(open_client(stack.websocket_url, {"clientId": name}))
            return name in {row.client_id for row in stack.rows()}

        was_there = list(pool.map(comes, names))
        rows = stack.rows()

    assert all(was_there)
    assert sorted(row.client_id for row in rows) == sorted(names)
    assert len({row.connection_id for row in rows}) == len(names)


def test_a_client_that_says_nothing_of_itself_has_the_defaults(stack: LocalStack) -> None:
    with open_client(stack.websocket_url, {}):
        rows = stack.rows()

    assert [_told(row) for row in rows] == [("unknown", "", "", "127.0.0.1")]


def test_a_client_that_leaves_is_gone_from_the_table_and_the_log_says_who_it_was(stack: LocalStack) -> None:
    with open_client(stack.websocket_url, QUERY):
        [row] = stack.rows()

    def records() -> list[Record]:
        return [it for it in stack.records("connection.closed") if it["connectionId"] == row.connection_id]

    eventually(lambda: len(records()) == 1)  # it comes after the row is gone
    [record] = records()
    assert stack.rows() == []
    assert record["clientId"] == "dashboard-7"
    assert record["account"] == "123456789012"
    assert record["region"] == "ap-northeast-2"
    assert record["sourceIp"] == "127.0.0.1"
    assert record["found"] is True


def test_a_client_whose_tcp_connection_is_dropped_is_gone_from_the_table_too(stack: LocalStack) -> None:
    with open_client(stack.websocket_url, {"clientId": "stays"}):
        with open_client(stack.websocket_url, QUERY) as client:
            drop(client)

        eventually(lambda: [row.client_id for row in stack.rows()] == ["stays"])


def test_a_bad_handshake_is_refused_and_leaves_no_row(stack: LocalStack) -> None:
    with (
        pytest.raises(InvalidStatus) as refusal,
        open_client(stack.websocket_url, QUERY | {"region": "nowhere"}),
    ):
        pass

    assert refusal.value.response.status_code == HTTPStatus.FORBIDDEN  # MiniStack's, whatever the function's
    assert stack.records("handshake.rejected")[-1]["field"] == "region"
    assert stack.rows() == []


def test_a_client_whose_process_is_killed_is_gone_after_a_sweep_and_a_live_one_never_is(
    stack: LocalStack,
) -> None:
    with (
        open_client(stack.websocket_url, {"clientId": "lives"}),
        client_process(stack.websocket_url, {"clientId": "dies"}) as process,
    ):
        [lives, dies] = stack.rows()
        with stack.gateway.losing_disconnects():
            process.kill()
            eventually(lambda: not stack.gateway.holds(dies.connection_id))
            was_there = stack.rows()
            reports = _swept_until(lambda _: stack.rows() == [lives], stack)
        later = stack.sweep()
        stayed = stack.rows()

    assert was_there == [lives, dies]
    assert sum(report["missedDisconnects"] for report in reports) == 1
    assert all(report["open"] >= 1 for report in reports)
    assert (later["alive"], later["open"], later["missedDisconnects"]) == (1, 1, 0)
    assert stayed == [lives]
    assert stack.records("sweep.finished")[-1]["open"] == 1


def test_the_sweep_leaves_alone_who_has_just_come_and_asks_later(stack: LocalStack) -> None:
    with stack.gateway.losing_disconnects():
        with open_client(stack.websocket_url, QUERY) as client:
            [row] = stack.rows()
            drop(client)
        eventually(lambda: not stack.gateway.holds(row.connection_id))
        _swept_until(lambda _: stack.rows() == [], stack)
        lasted = time.time() - row.created_at.timestamp()

    assert lasted >= GRACE.total_seconds()


def test_a_dry_sweep_tells_and_removes_nothing(stack: LocalStack) -> None:
    with stack.gateway.losing_disconnects():
        with open_client(stack.websocket_url, QUERY) as client:
            rows = stack.rows()
            drop(client)
        eventually(lambda: stack.ask("Sweep", {"dryRun": True})["gone"] == 1)
        after = stack.rows()
        _swept_until(lambda _: stack.rows() == [], stack)

    assert after == rows


def test_a_sweep_asks_about_every_row_with_the_permissions_that_it_has(stack: LocalStack) -> None:
    with open_client(stack.websocket_url, QUERY):
        *_, report = _swept_until(lambda report: report["asked"] == 1, stack)

    assert (report["alive"], report["forbidden"], report["failed"]) == (1, 0, 0)


def test_clients_that_go_at_once_leave_no_ghost(stack: LocalStack) -> None:
    def comes_and_goes(number: int) -> None:
        with open_client(stack.websocket_url, {"clientId": f"hasty-{number}"}) as client:
            drop(client)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(comes_and_goes, range(30)))

    eventually(lambda: stack.rows() == [])
    assert all("closedAt" in item for item in stack.items())


def test_a_disconnect_that_overtakes_its_connect_has_the_handshake_refused(stack: LocalStack) -> None:
    now = round(time.time() * 1000)
    context = {"connectionId": "overtaken", "connectedAt": now, "requestTimeEpoch": now}
    connect: Record = {"requestContext": context | {"routeKey": "$connect"}}
    disconnect: Record = {"requestContext": context | {"routeKey": "$disconnect"}}

    closed = stack.ask("Disconnect", disconnect)
    marks = [item for item in stack.items() if item["connectionId"] == {"S": "overtaken"}]
    opened = stack.ask("Connect", connect)

    assert closed["statusCode"] == HTTPStatus.OK
    assert [set(mark) for mark in marks] == [{"connectionId", "closedAt", "connectedAt", "ttl"}]
    assert opened["statusCode"] == HTTPStatus.GONE
    assert stack.rows() == []


def test_a_client_with_two_tabs_joins_once_and_leaves_once(stack: LocalStack) -> None:
    query = QUERY | {"clientId": "two-tabs"}

    def told(event: str) -> list[Record]:
        return [record for record in stack.records(event) if record["clientId"] == "two-tabs"]

    with open_client(stack.websocket_url, query):
        with open_client(stack.websocket_url, query):
            eventually(lambda: len(told("presence.joined")) == 1)
        eventually(lambda: len(stack.rows()) == 1)
        # a client of its own, later in the stream: what came before it has been followed
        with open_client(stack.websocket_url, {"clientId": "later"}):
            eventually(lambda: any(it["clientId"] == "later" for it in stack.records("presence.joined")))
        left_with_one_tab_open = told("presence.left")
    eventually(lambda: len(told("presence.left")) == 1)

    assert left_with_one_tab_open == []
    assert len(told("presence.joined")) == 1
    assert told("presence.joined")[0]["visitId"] == told("presence.left")[0]["visitId"]
    assert told("presence.left")[0]["account"] == "123456789012"


def test_a_row_that_gets_its_time_in_place_stays(stack: LocalStack) -> None:
    now = int(time.time())
    row: Any = {
        "connectionId": {"S": "migrated"},
        "createdAt": {"N": str(now * 1000)},
        "ttl": {"N": str(now + 3600)},
        "clientId": {"S": "before-migration"},
        **{name: {"S": ""} for name in ("account", "region", "sourceIp")},
    }

    def told(client_id: str) -> list[str]:
        return [
            event
            for event in ("presence.joined", "presence.left", "connection.revived")
            for record in stack.records(event)
            if record["clientId"] == client_id
        ]

    stack.dynamodb.put_item(TableName=stack.table, Item=row)
    eventually(lambda: told("before-migration") == ["presence.joined"])
    stack.dynamodb.update_item(
        TableName=stack.table,
        Key={"connectionId": {"S": "migrated"}},
        UpdateExpression="SET connectedAt = :connectedAt",
        ExpressionAttributeValues={":connectedAt": {"N": str(now * 1000 - 500)}},
    )
    with open_client(stack.websocket_url, {"clientId": "after-migration"}):
        eventually(lambda: told("after-migration") == ["presence.joined"])  # later in the stream
        there = [item["connectionId"]["S"] for item in stack.items()]
    stack.dynamodb.delete_item(TableName=stack.table, Key={"connectionId": {"S": "migrated"}})

    assert "migrated" in there
    eventually(lambda: told("before-migration") == ["presence.joined", "presence.left"])


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


def test_the_demo_comes_to_its_end_whatever_the_user_has_set_and_without_a_network(
    stack: LocalStack,  # so that everything was downloaded
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
        output, _ = demo.communicate(timeout=120)

    assert demo.returncode == 0, output
    assert "The list was right at every step" in output
    assert "missedDisconnects=1" in output
    assert re.search(r"presence\.left: .*wall-jp", output)
    assert "400 region must be" in output
    assert _what_is_left(tmp_path) == []


def _without_a_network() -> list[str]:
    """What runs a command with loopback alone; nothing where the system does not let it."""
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
    wire = checkout / "app" / "adapters" / "dynamodb_wire.py"
    right = wire.read_text()
    wrong = right.replace('"account": {"S": connection.account}', '"account": {"S": connection.region}')
    wire.write_text(wrong)

    with _command("demo", tmp_path, checkout) as demo:
        output, _ = demo.communicate(timeout=120)

    assert wrong != right
    assert demo.returncode == 1
    assert "THE LIST IS WRONG" in output


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_stack_that_runs_ends_on_a_signal_and_leaves_nothing_behind(
    how: signal.Signals, tmp_path: Path
) -> None:
    with _command("run", tmp_path) as run:
        url = _url(run)
        with open_client(url, QUERY):
            _read_until(run, "dashboard-7")
            run.send_signal(how)
            output, _ = run.communicate(timeout=20)

    assert run.returncode == 0
    assert "Traceback" not in output
    assert _is_refused(url)
    assert _what_is_left(tmp_path) == []


def test_a_stack_whose_command_is_killed_ends_by_itself(tmp_path: Path) -> None:
    with _command("run", tmp_path) as run:
        url = _url(run)
        run.kill()

    eventually(lambda: _is_refused(url))
    eventually(lambda: _processes_in(tmp_path) == [])


def _swept_until(is_enough: Callable[[Record], bool], stack: LocalStack) -> list[Record]:
    """The reports of sweeps, one after the other, until the last one's *is_enough*."""
    reports: list[Record] = []

    def swept() -> bool:
        reports.append(stack.sweep())
        return is_enough(reports[-1])

    eventually(swept)
    return reports


def _told(row: Row) -> tuple[str, ...]:
    return row.client_id, row.account, row.region, row.source_ip


def _command(
    name: str, directory: Path, checkout: Path = ROOT
) -> AbstractContextManager[subprocess.Popen[str]]:
    """``python -m infra.local`` *name* of *checkout*, which keeps all its files in *directory*."""
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
        # Where a test fails, the command must not run on, nor must reading its output go on for ever.
        watchdog = threading.Timer(120, process.kill)
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
    pytest.fail(f"it ended without a word of {text}:\n{''.join(read)}")


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
