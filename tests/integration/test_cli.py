"""The command line on DynamoDB Local and a management API on loopback.

Commands run in this process; only for signals and pipes one of its own is started.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.dynamodb.tickets import DynamoDBTickets
from app.cli import cli
from app.cli.session import Session
from app.containers.command_line import CommandLine as Container
from app.domain.admission import Grant, Reason
from app.domain.errors import Denied
from app.domain.model import ConnectionId, Tombstone
from tests.builders import a_connection
from tests.dynamodb_local import REGION, create_table
from tests.environment import UNHURRIED
from tests.fakes import RecordingPublisher
from tests.integration.management_api import ManagementApi, management_api, refusing
from tests.stores import on_dynamodb

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ROOT = Path(__file__).parent.parent.parent
ONE, OTHER = "111111111111", "222222222222"
KOREA, EUROPE = "ap-northeast-2", "eu-central-1"
MINUTE = timedelta(minutes=1)


class CommandLine:
    """The commands, and their table; connections that are added began a minute ago."""

    def __init__(self, client: "DynamoDBClient", table_name: str, environ: dict[str, str]) -> None:
        self.table = on_dynamodb(SdkTransport(client), table_name)
        self.now = SystemClock().now()
        self._environ = environ

    def add(self, *ids: str, **changes: Any) -> None:
        began = self.now - MINUTE
        times = {"connected_at": began, "created_at": began, "expires_at": self.now + timedelta(hours=24)}
        for name in ids:
            self.table.add(a_connection(**times | changes | {"id": ConnectionId(name)}))

    def run(self, *arguments: str, **environ: str) -> Result:
        session = Session(build=lambda settings: Container(settings=settings, publisher=RecordingPublisher()))
        return CliRunner().invoke(cli, arguments, obj=session, env=self._environ | environ)

    def start(self, *arguments: str, stdout: int) -> "subprocess.Popen[str]":
        """Start the command as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            cwd=ROOT,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def listed(self, *options: str) -> list[str]:
        """The ids that ``ls --json`` lists, sorted."""
        result = self.run("ls", "--json", *options)
        assert (result.exit_code, result.stderr) == (0, "")
        return sorted(json.loads(line)["connectionId"] for line in result.stdout.splitlines())


@pytest.fixture
def gateway() -> Iterator[ManagementApi]:
    with management_api() as api:
        yield api


@pytest.fixture
def command_line(
    dynamodb_local: str, dynamodb: "DynamoDBClient", table_name: str, gateway: ManagementApi
) -> CommandLine:
    environ = {
        **os.environ,
        "CONNECTIONS_TABLE": table_name,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_local,
        "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": gateway.endpoint,
        **UNHURRIED,
    }
    return CommandLine(dynamodb, table_name, environ)


def test_all_live_connections_are_listed_over_all_pages_and_nothing_else(command_line: CommandLine) -> None:
    live = [f"live-{number:03}" for number in range(130)]  # a page has 100
    now = command_line.now
    command_line.add(*live)
    command_line.add("past-its-ttl", expires_at=now - MINUTE)
    command_line.add("past-2-hours", connected_at=now - timedelta(hours=2))
    command_line.add("past-2-hours-by-our-clock", connected_at=None, created_at=now - timedelta(hours=2))
    command_line.table.tombstone(
        Tombstone(
            ConnectionId("closed"), connected_at=now - MINUTE, closed_at=now, expires_at=now + 10 * MINUTE
        )
    )

    assert command_line.listed() == live


def test_each_filter_selects_its_connections(command_line: CommandLine) -> None:
    command_line.add("c-1", account=ONE, region=KOREA, client_id="wall-1")
    command_line.add("c-2", account=ONE, region=EUROPE, client_id="wall-2")
    command_line.add("c-3", account=OTHER, region=EUROPE, client_id="wall-2")
    command_line.add("c-4", account=ONE, region="", client_id="unknown")
    command_line.add("past-its-ttl", account=ONE, client_id="wall-2", expires_at=command_line.now - MINUTE)

    assert command_line.listed("--account", ONE) == ["c-1", "c-2", "c-4"]
    assert command_line.listed("--account", ONE, "--region", EUROPE) == ["c-2"]
    assert command_line.listed("--client", "wall-2") == ["c-2", "c-3"]
    assert command_line.listed("--client", "unknown") == ["c-4"]


def test_the_list_in_a_pipe_is_plain_text(command_line: CommandLine) -> None:
    command_line.add("c-1", client_id="wall-1")

    result = command_line.run("ls")

    assert [line.split() for line in result.stdout.splitlines()] == [
        ["connectionId", "clientId", "account", "region", "sourceIp", "for"],
        ["c-1", "wall-1", "123456789012", "ap-northeast-2", "203.0.113.24", result.stdout.split()[-1]],
    ]


def test_show_prints_all_that_is_known_of_a_connection(command_line: CommandLine) -> None:
    command_line.add("JKJcXeXAmPl3AbC=", client_id="wall-1")

    shown = command_line.run("show", "JKJcXeXAmPl3AbC=", "--json")

    assert json.loads(shown.stdout)["clientId"] == "wall-1"
    assert "principalId  " in command_line.run("show", "JKJcXeXAmPl3AbC=").stdout


def test_a_connection_is_closed_through_the_gateway(
    command_line: CommandLine, gateway: ManagementApi
) -> None:
    command_line.add("JKJcXeXAmPl3AbC=", "c-2")

    result = command_line.run("close", "--yes", "JKJcXeXAmPl3AbC=")

    assert (result.exit_code, result.stderr) == (0, "")
    assert [(request.method, request.connection_id) for request in gateway.requests] == [
        ("DELETE", "JKJcXeXAmPl3AbC=")
    ]
    assert command_line.listed() == ["c-2"]


def test_nothing_is_closed_without_confirmation(command_line: CommandLine, gateway: ManagementApi) -> None:
    command_line.add("c-1")

    assert command_line.run("close", "c-1").exit_code == 1
    assert gateway.requests == []


def test_a_sweep_deletes_the_connections_that_are_gone(
    command_line: CommandLine, gateway: ManagementApi
) -> None:
    command_line.add("alive", "gone")
    gateway.says["gone"] = refusing(410)

    dry = command_line.run("sweep", "--dry-run", SWEEP_SEGMENTS="3")
    before = command_line.listed()
    real = command_line.run("sweep", SWEEP_SEGMENTS="3")

    assert (dry.exit_code, real.exit_code) == (0, 0)
    assert dry.stdout == real.stdout
    assert before == ["alive", "gone"]
    assert command_line.listed() == ["alive"]


def test_a_ticket_of_the_command_line_admits_its_client_once(
    command_line: CommandLine, dynamodb: "DynamoDBClient"
) -> None:
    name = create_table(dynamodb, "TicketsTable")
    options = ("--client", "wall-1", "--account", ONE, "--region", KOREA)
    tickets = DynamoDBTickets(SdkTransport(dynamodb), name)

    secrets = [command_line.run("ticket", *options, TICKETS_TABLE=name).stdout.rstrip() for _ in range(2)]
    grants = [tickets.redeem(secret, command_line.now) for secret in secrets]

    assert len({*secrets}) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) for secret in secrets)  # 256 bits
    assert grants == [Grant("wall-1", (), (ONE,), (KOREA,), until=None)] * 2
    with pytest.raises(Denied, match=Reason.TICKET):
        tickets.redeem(secrets[0], command_line.now)


def test_a_ticket_of_the_command_line_ends_by_the_real_clock(
    command_line: CommandLine, dynamodb: "DynamoDBClient"
) -> None:
    name = create_table(dynamodb, "TicketsTable")
    options = ("--client", "wall-1", "--account", "", "--region", "", "--seconds", "5")

    secret = command_line.run("ticket", *options, TICKETS_TABLE=name).stdout.rstrip()

    with pytest.raises(Denied, match=Reason.TICKET):
        DynamoDBTickets(SdkTransport(dynamodb), name).redeem(
            secret, SystemClock().now() + timedelta(seconds=5)
        )


def test_a_missing_table_of_tickets_is_reported(command_line: CommandLine) -> None:
    options = ("--client", "wall-1", "--account", ONE, "--region", KOREA)

    result = command_line.run("ticket", *options, TICKETS_TABLE="Nothing")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("There is no table Nothing there: look at TICKETS_TABLE, ")


def test_a_connection_past_the_longest_duration_can_be_closed(command_line: CommandLine) -> None:
    command_line.add("past-2-hours", connected_at=command_line.now - timedelta(hours=2))

    assert command_line.listed() == []
    assert command_line.run("close", "--yes", "past-2-hours").exit_code == 0
    assert command_line.run("close", "--yes", "past-2-hours").exit_code == 1


def test_the_endpoint_of_the_table_may_come_from_the_profile(
    command_line: CommandLine, dynamodb_local: str, tmp_path: Path
) -> None:
    command_line.add("c-1")
    config = tmp_path / "config"
    config.write_text(f"[profile on-call]\nendpoint_url = {dynamodb_local}\n")
    environ = {"AWS_PROFILE": "on-call", "AWS_CONFIG_FILE": str(config), "AWS_ENDPOINT_URL_DYNAMODB": ""}
    environ |= {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""}  # the discard port

    result = command_line.run("ls", "--json", **environ)

    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["connectionId"] == "c-1"


def test_an_endpoint_on_loopback_is_called_without_a_proxy(command_line: CommandLine) -> None:
    command_line.add("c-1")
    proxy = "http://127.0.0.1:9"  # the discard port

    result = command_line.run("ls", "--json", HTTP_PROXY=proxy, HTTPS_PROXY=proxy)

    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["connectionId"] == "c-1"


def test_ctrl_c_ends_watch_with_status_0_and_no_output(command_line: CommandLine) -> None:
    command_line.add("c-1")

    with command_line.start("watch", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while (line := process.stdout.readline()) and line != "1 connection.\n":
            pass
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()

    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_closed_pipe_ends_ls_without_a_traceback(
    command_line: CommandLine, options: tuple[str, ...]
) -> None:
    command_line.add("c-1")
    reader, writer = os.pipe()
    os.close(reader)

    with command_line.start("ls", *options, stdout=writer) as process:
        os.close(writer)
        _, errors = process.communicate(timeout=60)

    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"CONNECTIONS_TABLE": "Nothing"}, "There is no table Nothing there: "),
        ({"CONNECTIONS_TABLE": ""}, "CONNECTIONS_TABLE is missing: "),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "There are no AWS credentials "),
        ({"AWS_PROFILE": "on-call"}, "The config profile (on-call) could not be found"),
        ({"AWS_REGION": ""}, "AWS_REGION is missing: "),
        ({"AWS_CA_BUNDLE": "no-such-file"}, "AWS_CA_BUNDLE, or ca_bundle in the profile, must be a file "),
        ({"HTTPS_PROXY": "http://[::1"}, "HTTPS_PROXY must be an http or https URL "),
        (
            {"AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9"},  # the discard port
            "The table ",
        ),
    ],
    ids=lambda it: "-".join(it) if isinstance(it, dict) else "",
)
def test_an_error_that_the_user_can_fix_is_one_sentence(
    command_line: CommandLine, tmp_path: Path, environ: dict[str, str], sentence: str
) -> None:
    no_files = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "c"),
    }

    result = command_line.run("ls", **no_files | environ)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1


def test_a_table_without_the_indexes_is_reported_unless_the_settings_say_so(
    command_line: CommandLine, dynamodb: "DynamoDBClient"
) -> None:
    old_table = f"before-indexes-{uuid4().hex}"
    dynamodb.create_table(
        TableName=old_table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "connectionId", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "connectionId", "KeyType": "HASH"}],
    )

    result = command_line.run("--table", old_table, "ls", "--client", "wall-1")

    assert result.exit_code == 1
    assert "lacks an index for that" in result.stderr
    whole = command_line.run(
        *("--table", old_table, "ls", "--client", "wall-1", "--account", ONE),
        CLIENT_INDEX="false",
        ACCOUNT_INDEX="false",
    )
    assert (whole.exit_code, whole.stdout) == (0, "")
