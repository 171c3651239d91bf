"""The command line on fakes: its output, its effects, and its error messages."""

import json
import re
import runpy
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    ProfileNotFound,
)
from typer.testing import CliRunner, Result

from app.cli import cli
from app.cli.commands import _container
from app.cli.session import Session
from app.containers.operations import Operations
from app.domain.errors import StorageUnavailable
from app.domain.events import Ended
from app.domain.lifecycle import ProbeResult
from app.domain.model import ConnectionId, Entry, Tombstone
from app.domain.selection import Selection
from app.settings import Settings
from tests.builders import NOON, NOON_MS, a_bare_connection, a_connection
from tests.desk import Desk, FailingTable
from tests.fakes import RecordingPublisher

UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)
HOSTILE = "[red]\x1b[31m\x07\x9b\u202e\x7f\nx[/red]"
UNAVAILABLE = StorageUnavailable("ReadTimeoutError", outcome_unknown=False)


class UnconfirmedDeletes(FailingTable):
    """A table that does not confirm a delete."""

    def delete_exact(self, entry: Entry) -> bool:
        raise UNAVAILABLE


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A table and a region."""
    monkeypatch.setenv("CONNECTIONS_TABLE", "Connections")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    return monkeypatch


@pytest.fixture
def desk(environment: pytest.MonkeyPatch) -> Desk:
    return Desk()


@pytest.fixture
def terminal(environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A terminal of 80 columns and 6 lines."""
    environment.setenv("FORCE_COLOR", "1")
    environment.setenv("TERM", "xterm")
    environment.setenv("COLUMNS", "80")
    environment.setenv("LINES", "6")
    return environment


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def add_tombstone(desk: Desk, name: str) -> None:
    desk.table.tombstone(
        Tombstone(
            ConnectionId(name), connected_at=NOON, closed_at=NOON, expires_at=NOON + timedelta(minutes=10)
        )
    )


def test_ls_lists_the_live_connections_newest_first(desk: Desk) -> None:
    desk.add("c-1", client_id="wall-1", source_ip="203.0.113.7")
    desk.add("c-2", client_id="wall-2", connected_at=NOON + timedelta(seconds=50))
    desk.add("c-3", client_id="wall-3", connected_at=NOON - timedelta(minutes=62), account="", region="")

    result = desk.run("ls")

    assert result.exit_code == 0
    assert lines(result.stdout) == [
        "connectionId clientId account      region         sourceIp       for",
        "c-2          wall-2   123456789012 ap-northeast-2 203.0.113.24   10s",
        "c-1          wall-1   123456789012 ap-northeast-2 203.0.113.7  1m00s",
        "c-3          wall-3                               203.0.113.24 1h03m",
    ]
    assert result.stderr == "3 connections.\n"


def test_ls_counts_from_our_time_if_the_gateways_is_unusable(desk: Desk) -> None:
    desk.add("c-1")
    desk.add("c-2", connected_at=UNKNOWN, created_at=NOON + timedelta(seconds=50))

    heading, *rows = lines(desk.run("ls").stdout)

    assert heading.split()[-1] == "for"
    assert [(row.split()[0], row.split()[-1]) for row in rows] == [("c-2", "10s"), ("c-1", "1m00s")]


def test_ls_leaves_out_connections_that_are_not_live_and_tombstones(desk: Desk) -> None:
    desk.add("past-its-ttl", expires_at=NOON)
    desk.add("past-2-hours", connected_at=NOON - timedelta(hours=2))
    add_tombstone(desk, "closed")

    result = desk.run("ls")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Nobody is connected.\n"


def test_ls_filters_by_account_region_and_client(desk: Desk) -> None:
    desk.add("c-1", account="111111111111", region="us-east-1", client_id="wall-1")
    desk.add("c-2", account="111111111111", region="eu-central-1", client_id="wall-2")
    desk.add("c-3", account="222222222222", region="eu-central-1", client_id="wall-2")

    def found(*options: str) -> list[str]:
        return [
            json.loads(line)["connectionId"]
            for line in desk.run("ls", "--json", *options).stdout.splitlines()
        ]

    assert found() == ["c-1", "c-2", "c-3"]
    assert found("--account", "111111111111") == ["c-1", "c-2"]
    assert found("--account", "111111111111", "--region", "eu-central-1") == ["c-2"]
    assert found("--client", "wall-2") == ["c-2", "c-3"]
    assert found("--client", "wall-9") == []


def test_json_has_the_items_names_and_numbers_one_object_per_line(desk: Desk) -> None:
    desk.table.add(a_connection(id=ConnectionId("c-1")))
    desk.table.add(a_bare_connection()._replace(id=ConnectionId("c-2")))

    result = desk.run("ls", "--json")

    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {
            "connectionId": "c-1",
            "clientId": "dashboard-7",
            "account": "123456789012",
            "region": "ap-northeast-2",
            "sourceIp": "203.0.113.24",
            "createdAt": NOON_MS + 123,
            "ttl": NOON_MS // 1000 + 24 * 3600,
            "connectedAt": NOON_MS,
            "userAgent": "Mozilla/5.0",
            "apiId": "a1b2c3d4e5",
            "domainName": "ws.example.com",
            "stage": "prod",
            "principalId": "user-42",
            "attributes": {"appVersion": "2.7"},
        },
        {
            "connectionId": "c-2",
            "clientId": "unknown",
            "account": "",
            "region": "",
            "sourceIp": "",
            "createdAt": NOON_MS,
            "ttl": NOON_MS // 1000 + 24 * 3600,
        },
    ]
    assert result.stderr == ""


@pytest.mark.parametrize("command", [("ls",), ("ls", "--json"), ("show", "c-1"), ("show", "c-1", "--json")])
def test_nothing_that_controls_a_terminal_is_printed(desk: Desk, command: tuple[str, ...]) -> None:
    desk.add("c-1", client_id=HOSTILE, user_agent=HOSTILE, attributes={HOSTILE: HOSTILE})

    result = desk.run(*command)

    assert "[red]" in result.stdout
    assert all(character.isprintable() for character in result.stdout.replace("\n", ""))


def test_a_clients_name_is_printed_as_it_is(desk: Desk) -> None:
    desk.add("c-1", client_id="벽-3 [bold]:smile: \ud800")

    assert "벽-3 [bold]:smile: \\ud800" in desk.run("ls").stdout
    assert json.loads(desk.run("show", "c-1", "--json").stdout)["clientId"] == "벽-3 [bold]:smile: \ud800"


def test_a_value_of_any_length_is_one_line_of_the_list(desk: Desk) -> None:
    desk.add("c-1", client_id="w" * 10_000)
    desk.add("c-2")

    _, first, second = lines(desk.run("ls").stdout)

    assert len(first) == len(second) < 250
    assert second.split()[2:4] == first.split()[2:4] == ["123456789012", "ap-northeast-2"]


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_the_whole_id_and_every_column(desk: Desk) -> None:
    desk.add("JKJaXeXAmPl3AbC=", client_id="wall 3 " * 30, region="eu-central-1")

    heading, row = lines(re.sub(r"\x1b\[[0-9;]*m", "", desk.run("ls").stdout))

    assert heading.split() == ["connectionId", "clientId", "account", "region", "sourceIp", "for"]
    assert row == "JKJaXeXAmPl3AbC= wall 3 wall 3 wal… 123456789012 eu-central-1 203.0.113.24 1m00s"


def test_show_prints_all_that_is_known(desk: Desk) -> None:
    desk.add("c-1")

    result = desk.run("show", "c-1")

    assert result.exit_code == 0
    assert lines(result.stdout) == [
        "connectionId           c-1",
        "clientId               dashboard-7",
        "account                123456789012",
        "region                 ap-northeast-2",
        "sourceIp               203.0.113.24",
        "connectedAt            2126-11-21T12:00:00.000Z (1m00s ago)",
        "createdAt              2126-11-21T12:00:00.123Z (59s ago)",
        "ttl                    2126-11-22T12:00:00.000Z (in 23h59m)",
        "userAgent              Mozilla/5.0",
        "apiId                  a1b2c3d4e5",
        "domainName             ws.example.com",
        "stage                  prod",
        "principalId            user-42",
        "attributes.appVersion  2.7",
    ]


def test_show_prints_unknown_for_the_gateways_time_of_a_bare_item(desk: Desk) -> None:
    desk.table.add(a_bare_connection())

    assert "connectedAt   unknown" in lines(desk.run("show", "c-1").stdout)


@pytest.mark.parametrize(("command", "where"), [("show", "list"), ("close", "table")])
def test_an_unknown_id_is_an_error(desk: Desk, command: str, where: str) -> None:
    add_tombstone(desk, "c-1")

    result = desk.run(command, "c-1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"There is no connection c-1 in the {where}.\n"


def test_an_expired_connection_is_not_in_the_list_and_can_be_closed(desk: Desk) -> None:
    desk.add("c-1", expires_at=NOON)

    shown = desk.run("show", "c-1")
    closed = desk.run("close", "c-1", answer="y\n")

    assert (shown.exit_code, shown.stderr) == (1, "There is no connection c-1 in the list.\n")
    assert closed.exit_code == 0
    assert closed.stdout.splitlines()[-1] == "c-1 is closed, and its item is deleted."


def test_an_id_may_begin_with_a_hyphen(desk: Desk) -> None:
    desk.add("-c=")

    assert desk.run("show", "--json", "--", "-c=").exit_code == 0


@pytest.mark.parametrize("command", ["show", "close"])
@pytest.mark.parametrize("name", ["", "\x1b[2J", "c" * 129])
def test_an_invalid_id_is_wrong_usage(desk: Desk, command: str, name: str) -> None:
    result = desk.run(command, name)

    assert result.exit_code == 2
    assert "connectionId must be 1 to 128 characters without control characters." in result.stderr


def test_close_asks_for_confirmation_closes_the_connection_and_deletes_its_item(desk: Desk) -> None:
    desk.add("c-1", client_id="wall\x1b[2J")

    result = desk.run("close", "c-1", answer="y\n")

    assert result.exit_code == 0
    assert result.stderr.startswith("Close c-1 of wall\\x1b[2J at 203.0.113.24? [y/N]:")
    assert result.stdout.splitlines()[-1] == "c-1 is closed, and its item is deleted."
    assert desk.gateway.closed == ["c-1"]
    assert desk.table.get(ConnectionId("c-1")) is None


@pytest.mark.parametrize("answer", ["n\n", ""], ids=["no", "no answer"])
def test_close_does_nothing_without_confirmation(desk: Desk, answer: str) -> None:
    desk.add("c-1", source_ip="")

    result = desk.run("close", "c-1", answer=answer)

    assert result.exit_code == 1
    assert "at no known address?" in result.stderr
    assert desk.gateway.closed == []


@pytest.mark.parametrize(
    ("result", "age", "status", "sentence"),
    [
        (ProbeResult.CLOSED, 60, 0, "c-1 is closed, and its item is deleted."),
        (ProbeResult.GONE, 60, 0, "c-1 was gone already; its item is deleted."),
        (ProbeResult.GONE, 10, 1, "c-1 stays: its handshake may still be pending."),
        (ProbeResult.THROTTLED, 60, 1, "c-1 stays: the gateway throttles requests."),
        (ProbeResult.FORBIDDEN, 60, 1, "c-1 stays: the gateway refuses it."),
        (ProbeResult.FAILED, 60, 1, "c-1 stays: the gateway did not answer"),
    ],
)
def test_close_prints_the_gateways_result_in_a_sentence(
    desk: Desk, result: ProbeResult, age: int, status: int, sentence: str
) -> None:
    desk.add("c-1", connected_at=desk.time.now() - timedelta(seconds=age))
    desk.gateway.results["c-1"] = result

    closed = desk.run("close", "--yes", "c-1")

    assert closed.exit_code == status
    assert (closed.stderr if status else closed.stdout).startswith(sentence)
    assert (desk.table.get(ConnectionId("c-1")) is None) == (status == 0)


def test_close_says_so_if_the_item_could_not_be_deleted(desk: Desk) -> None:
    desk.table = UnconfirmedDeletes()
    desk.add("c-1")

    result = desk.run("close", "--yes", "c-1")

    assert result.exit_code == 0
    assert result.stdout.startswith("c-1 is closed; its item could not be deleted")


def swept(result: Result) -> dict[str, str]:
    """The counts that a sweep printed, by name."""
    return dict(re.split(" {2,}", line) for line in lines(result.stdout))


def a_table_to_sweep(desk: Desk) -> None:
    """Five entries; the gateway says gone of every connection."""
    desk.add("gone-1", "gone-2")
    desk.add("young", connected_at=desk.time.now())
    desk.add("old", connected_at=NOON - timedelta(hours=3))
    add_tombstone(desk, "closed")
    desk.gateway.results |= dict.fromkeys(("gone-1", "gone-2", "young", "old"), ProbeResult.GONE)


def test_a_dry_run_of_the_sweep_prints_the_counts_and_deletes_nothing(desk: Desk) -> None:
    a_table_to_sweep(desk)

    result = desk.run("sweep", "--dry-run")

    assert result.exit_code == 0
    assert swept(result) == {
        "segments": "1 of 1",
        "open": "1",
        "missed disconnects": "3",
        "scanned": "5",
        "removed by age": "1",
        "probed": "2",
        "gone": "2",
        "admission ended": "0",
        "alive": "0",
        "throttled": "0",
        "forbidden": "0",
        "failed": "0",
        "not removed": "0",
        "young": "1",
        "changed meanwhile": "0",
        "tombstones removed": "0",
        "tombstones kept": "1",
        "left for next time": "0",
    }
    assert result.stderr == "This was a dry run: nothing was deleted.\n"
    assert desk.table.get(ConnectionId("gone-1")) is not None


@pytest.mark.parametrize("segments", ["1", "4"])
def test_a_sweep_scans_all_segments(desk: Desk, environment: pytest.MonkeyPatch, segments: str) -> None:
    environment.setenv("SWEEP_SEGMENTS", segments)
    a_table_to_sweep(desk)

    result = desk.run("sweep")

    assert (result.exit_code, result.stderr) == (0, "")
    assert swept(result)["segments"] == f"{segments} of {segments}"
    assert swept(result)["scanned"] == "5"
    assert [it.id for it in desk.list_connections().all(Selection())] == ["young"]


def test_the_sweeps_of_each_segment_together_scan_the_whole_table(
    desk: Desk, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("SWEEP_SEGMENTS", "4")
    a_table_to_sweep(desk)

    scanned = [
        int(swept(desk.run("sweep", "--dry-run", f"--segment={number}"))["scanned"]) for number in range(4)
    ]

    assert sum(scanned) == 5
    assert max(scanned) < 5


@pytest.mark.parametrize("segment", ["-1", "1", "one"])
def test_an_unknown_segment_is_wrong_usage(desk: Desk, segment: str) -> None:
    result = desk.run("sweep", f"--segment={segment}")

    assert result.exit_code == 2
    assert "--segment" in result.stderr


def test_a_sweep_that_runs_out_of_time_ends_with_an_error(
    desk: Desk, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("SWEEP_SEGMENTS", "2")
    desk.gateway.before = lambda _: desk.time.advance(timedelta(hours=1))
    desk.add(*(f"c-{number}" for number in range(8)))

    result = desk.run("sweep", "--minutes", "5")

    assert result.exit_code == 1
    assert swept(result)["segments"] == "1 of 2"
    assert swept(result)["probed"] == "1"
    assert result.stderr == "It ended in segment 0: its time was up.\n"


def test_a_sweep_that_can_not_read_the_table_ends_with_an_error(desk: Desk) -> None:
    desk.table.error = UNAVAILABLE

    result = desk.run("sweep")

    assert result.exit_code == 1
    assert swept(result)["scanned"] == "0"
    assert result.stderr == "It ended in segment 0: the table can't be read (ReadTimeoutError).\n"


def test_a_sweep_that_the_gateway_refuses_names_the_missing_permission(desk: Desk) -> None:
    desk.add("c-1")
    desk.gateway.results["c-1"] = ProbeResult.FORBIDDEN

    result = desk.run("sweep")

    assert result.exit_code == 0
    assert "execute-api:ManageConnections" in result.stderr


def test_watch_without_a_terminal_prints_each_change_until_ctrl_c(desk: Desk) -> None:
    desk.add("c-1", client_id="wall-1")
    desk.between = [
        lambda: desk.time.advance(timedelta(seconds=5)),
        lambda: desk.add("c-2", client_id="wall-2"),
    ]

    result = desk.run("watch", "--client", "wall-1", "--every", "2.5")
    again = desk.run("watch")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("connectionId") == 1
    assert lines(result.stdout)[-1] == "1 connection."
    assert again.stdout.count("wall-2") == 1
    assert desk.pauses == [2.5, 2.5, 2.5, 5]


def test_watch_prints_the_list_again_if_it_has_changed(desk: Desk) -> None:
    desk.between = [lambda: desk.add("c-1"), lambda: None]

    result = desk.run("watch")

    assert [line for line in lines(result.stdout) if "connect" in line and "Id" not in line] == [
        "Nobody is connected.",
        "1 connection.",
    ]


def test_watch_keeps_the_list_while_the_table_does_not_answer(desk: Desk) -> None:
    def fail() -> None:
        desk.table.error = UNAVAILABLE
        desk.time.advance(timedelta(seconds=5))

    def recover() -> None:
        desk.table.error = None

    desk.add("c-1")
    desk.between = [fail, recover]

    result = desk.run("watch")

    assert result.exit_code == 0
    assert [line for line in lines(result.stdout) if line.endswith(".")] == [
        "1 connection.",
        "No answer (ReadTimeoutError): this is the list of 12:01:00 UTC.",
        "1 connection.",
    ]


def test_watch_ends_with_an_error_if_the_table_has_never_answered(desk: Desk) -> None:
    desk.table.error = UNAVAILABLE

    assert desk.run("watch").exit_code == 1


def test_watch_in_a_terminal_shows_as_many_connections_as_fit_and_updates_them_in_place(
    desk: Desk, terminal: pytest.MonkeyPatch
) -> None:
    desk.add(*(f"c-{number}" for number in range(1, 10)))
    desk.between = [lambda: desk.time.advance(timedelta(seconds=5))]

    result = desk.run("watch")

    assert result.exit_code == 0
    assert "c-3" in result.stdout
    assert "c-4" not in result.stdout
    assert "12:01:00 UTC  9 connections." in result.stdout
    assert "12:01:05 UTC  9 connections." in result.stdout


@pytest.mark.parametrize("every", ["0", "-1", "often"])
def test_watch_refuses_an_invalid_pause(desk: Desk, every: str) -> None:
    assert desk.run("watch", f"--every={every}").exit_code == 2


@pytest.mark.parametrize("command", ["ls", "watch"])
def test_a_region_without_its_account_is_wrong_usage(desk: Desk, command: str) -> None:
    result = desk.run(command, "--region", "eu-central-1")

    assert result.exit_code == 2
    assert "name the account too" in result.stderr


def test_without_a_command_the_help_is_shown(desk: Desk) -> None:
    assert "sweep" in desk.run().output


@pytest.mark.parametrize("command", ["ls", "show", "close", "sweep", "watch"])
def test_help_needs_no_settings(desk: Desk, environment: pytest.MonkeyPatch, command: str) -> None:
    environment.delenv("CONNECTIONS_TABLE")

    assert desk.run(command, "--help").exit_code == 0
    assert desk.settings is None


def test_the_table_and_the_region_come_from_the_environment(desk: Desk) -> None:
    assert desk.run("ls").exit_code == 0
    assert desk.settings is not None
    assert (desk.settings.table, desk.settings.region) == ("Connections", "eu-central-1")


def test_an_option_names_another_table(desk: Desk) -> None:
    assert desk.run("--table", "Others", "ls").exit_code == 0
    assert desk.settings is not None
    assert desk.settings.table == "Others"


def test_the_region_may_come_from_the_profile(
    desk: Desk, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("[profile on-call]\nregion = ap-northeast-2\n")
    environment.delenv("AWS_REGION")
    environment.setenv("AWS_CONFIG_FILE", str(config))
    environment.setenv("AWS_PROFILE", "on-call")

    assert desk.run("ls").exit_code == 0
    assert desk.settings is not None
    assert desk.settings.region == "ap-northeast-2"


def test_the_choice_of_a_fips_endpoint_is_left_to_the_sdk(
    desk: Desk, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AWS_USE_FIPS_ENDPOINT", "true")

    assert desk.run("ls").exit_code == 0


@pytest.mark.parametrize(
    ("name", "value"), [("CONNECTIONS_TABLE", ""), ("AWS_REGION", ""), ("TTL_HOURS", "x")]
)
def test_an_invalid_setting_is_named(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)

    result = run_on_the_sdk("ls")

    assert is_one_sentence(result, name)


def test_an_unknown_profile_is_named(desk: Desk, environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AWS_REGION")
    environment.setenv("AWS_PROFILE", "on-call")

    result = desk.run("ls")

    assert (result.exit_code, result.stderr) == (1, "The config profile (on-call) could not be found\n")


CERTIFICATES = "AWS_CA_BUNDLE, or ca_bundle in the profile, must be a file of certificates"
PROXY = "_PROXY must be an http or https URL in ASCII of a host"
CREDENTIALS = "There are no AWS credentials that can be used "


@pytest.fixture
def folder(environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder that a test's wrong settings refer to. Nothing listens at any endpoint."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("two\nlines")
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    environment.chdir(tmp_path)
    environment.setenv("AWS_SHARED_CREDENTIALS_FILE", "no-such-file")
    environment.setenv("STORE_ATTEMPTS", "1")
    for name in ("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_SSO"):
        environment.setenv(name, "http://127.0.0.1:9")
    environment.setenv("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "https://127.0.0.1:9")
    environment.delenv("AWS_CA_BUNDLE", raising=False)
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        environment.delenv(name, raising=False)
        environment.delenv(name.upper(), raising=False)
    return tmp_path


def run_on_the_sdk(*arguments: str) -> Result:
    session = Session(build=lambda settings: Operations(settings=settings, publisher=RecordingPublisher()))
    return CliRunner().invoke(cli, arguments, obj=session, prog_name="app")


def is_one_sentence(result: Result, sentence: str) -> bool:
    return (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1) and (
        result.stderr.startswith(sentence)
    )


@pytest.mark.parametrize(
    "command", [("ls",), ("show", "c-1"), ("close", "--yes", "c-1"), ("sweep",), ("watch",)]
)
@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("AWS_CA_BUNDLE", "no-such-file", CERTIFICATES),
        ("HTTPS_PROXY", "http://[::1", f"HTTPS{PROXY}"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example", CREDENTIALS),
        ("AWS_DEFAULTS_MODE", "fast", "Client configured with invalid defaults mode: fast."),
    ],
)
@pytest.mark.usefixtures("folder")
def test_every_command_reports_a_setting_that_the_sdk_can_not_use(
    environment: pytest.MonkeyPatch, command: tuple[str, ...], name: str, value: str, sentence: str
) -> None:
    if sentence is CREDENTIALS:
        environment.delenv("AWS_ACCESS_KEY_ID")
    environment.setenv(name, value)

    assert is_one_sentence(run_on_the_sdk(*command), sentence)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("AWS_CA_BUNDLE", "", CERTIFICATES),
        ("AWS_CA_BUNDLE", "folder", CERTIFICATES),
        ("AWS_CA_BUNDLE", "empty", CERTIFICATES),
        ("AWS_CA_BUNDLE", "text", CERTIFICATES),
        ("SSLKEYLOGFILE", "folder", "SSLKEYLOGFILE must be a file that can be written."),
        ("HTTPS_PROXY", "http://host:port", f"HTTPS{PROXY}"),
        ("HTTPS_PROXY", "http://host:99999", f"HTTPS{PROXY}"),
        ("HTTPS_PROXY", "http://", f"HTTPS{PROXY}"),
        ("HTTPS_PROXY", "a..b:1", f"HTTPS{PROXY}"),
        ("HTTPS_PROXY", "://", f"HTTPS{PROXY}"),
        ("HTTPS_PROXY", "user@", f"HTTPS{PROXY}"),
        ("HTTPS_PROXY", "http:host:1", f"HTTPS{PROXY}"),
        ("HTTPS_PROXY", "foo://x:1", f"HTTPS{PROXY}"),
        ("HTTPS_PROXY", "socks5://host:1", f"HTTPS{PROXY}"),
        ("https_proxy", "http://host:port", f"HTTPS{PROXY}"),
        ("HTTP_PROXY", "http://[::1", f"HTTP{PROXY}"),
        ("AWS_METADATA_SERVICE_TIMEOUT", "1 s", "AWS_METADATA_SERVICE_TIMEOUT, or metadata_service_timeout "),
        ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "", "AWS_METADATA_SERVICE_NUM_ATTEMPTS, or metadata_service_"),
        ("AWS_MAX_ATTEMPTS", "many", "AWS_MAX_ATTEMPTS, or max_attempts in the profile, must be a whole"),
        ("AWS_CSM_PORT", "x", "AWS_CSM_PORT, or csm_port in the profile, must be a whole number."),
        ("AWS_DEFAULTS_MODE", "", "Client configured with invalid defaults mode: ."),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "x", "Unsupported configuration value for request_checksum_"),
        ("AWS_RESPONSE_CHECKSUM_VALIDATION", "x", "Unsupported configuration value for response_checksum_"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "x", "Invalid endpoint EC2 Instance Metadata endpoint: x"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "x", "Invalid EC2 Instance Metadata endpoint mode: x"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "x", "STS regional endpoints option x is invalid."),
        ("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "x", "S3 us-east-1 regional endpoint option x is invalid."),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://a..b", "The SDK can't use one of its settings (ValueError): "),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_variable_that_the_sdk_can_not_use_is_reported(
    environment: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    environment.setenv(name, value)

    assert is_one_sentence(run_on_the_sdk("ls"), sentence)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("ca_bundle = no-such-file", CERTIFICATES),
        ("ca_bundle =\n  a = b", CERTIFICATES),
        ("region =\n  a = b", "AWS_REGION must be the name of an AWS region."),
        ("max_attempts =\n  a = b", "AWS_MAX_ATTEMPTS, or max_attempts in the profile, must be a whole"),
        ("defaults_mode = fast", "Client configured with invalid defaults mode: fast."),
        ("endpoint_url = nonsense", "The SDK can't use one of its settings (ValueError): "),
        ("endpoint_url = http://127.0.0.1:port", "The SDK can't use one of its settings (ValueError): "),
        ("data_path =\n  a = b", "The SDK can't use one of its settings (AttributeError): "),
        ("services =\n  a = b", "The SDK can't use one of its settings (TypeError): "),
        ("s3 =", "The SDK can't use one of its settings (AttributeError): "),
        ("credential_process = no-such-file", CREDENTIALS),
        ("credential_process = 'no end", CREDENTIALS),
        ("credential_process = echo [", CREDENTIALS),
        ("credential_process = echo []", CREDENTIALS),
        ("credential_process =", CREDENTIALS),
        ("role_arn = short\nweb_identity_token_file = text", CREDENTIALS),
        ("role_arn = arn:aws:iam::123456789012:role/on-call\nweb_identity_token_file = none", CREDENTIALS),
        ("sso_start_url = x\nsso_region = !\nsso_account_id = 1\nsso_role_name = x", CREDENTIALS),
    ],
)
def test_a_profile_that_the_sdk_can_not_use_is_reported(
    environment: pytest.MonkeyPatch, folder: Path, lines: str, sentence: str
) -> None:
    (folder / "config").write_text(f"[default]\n{lines}\n")
    environment.setenv("AWS_CONFIG_FILE", "config")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_DYNAMODB"):
        environment.delenv(name)
    if lines.startswith("region"):
        environment.delenv("AWS_REGION")

    assert is_one_sentence(run_on_the_sdk("ls"), sentence)


ROLE = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/on-call"}
ON_LOOPBACK = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        (ROLE | {"AWS_WEB_IDENTITY_TOKEN_FILE": "no-such-file"}, "AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN"),
        (ROLE | {"AWS_WEB_IDENTITY_TOKEN_FILE": "folder"}, "AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN"),
        (ROLE | {"AWS_WEB_IDENTITY_TOKEN_FILE": "empty"}, "AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN"),
        (ROLE | {"AWS_WEB_IDENTITY_TOKEN_FILE": "bytes"}, "AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": ""}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "nonsense"}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://[::1"}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "ftp://127.0.0.1"}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:x"}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        (
            {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "@evil.example"},
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        ),
        (
            ON_LOOPBACK | {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "no-such-file"},
            "AWS_CONTAINER_CREDENTIALS_FULL_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ),
        (
            ON_LOOPBACK | {"AWS_CONTAINER_AUTHORIZATION_TOKEN": "secret\nsecret"},
            "AWS_CONTAINER_CREDENTIALS_FULL_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "local", "AWS_CREDENTIAL_EXPIRATION": "soon"},
            "AWS_ACCESS_KEY_ID, AWS_CREDENTIAL_EXPIRATION",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "local", "AWS_SESSION_TOKEN": "secret\udcff"},
            "AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN",
        ),
    ],
)
@pytest.mark.usefixtures("folder")
def test_unreadable_credentials_are_reported_with_the_variables_that_they_come_from(
    environment: pytest.MonkeyPatch, environ: dict[str, str], named: str
) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    for name, value in environ.items():
        environment.setenv(name, value)

    result = run_on_the_sdk("ls")

    assert is_one_sentence(result, f"{CREDENTIALS}(CredentialRetrievalError): look at {named}, set AWS_PRO")
    assert "secret" not in result.stderr


@pytest.mark.usefixtures("folder")
def test_a_sweep_without_credentials_says_where_to_look(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")

    result = run_on_the_sdk("sweep")

    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"It ended in segment 0: {CREDENTIALS}(NoCredentialsError): set AWS_PROFILE"
    )


@pytest.mark.parametrize(
    "proxy", ["http://user:secret@[::1", "http://us\xe9r:secret@host", "x://:secret@host"]
)
@pytest.mark.usefixtures("folder")
def test_the_password_of_a_proxy_is_not_printed(environment: pytest.MonkeyPatch, proxy: str) -> None:
    environment.setenv("HTTPS_PROXY", proxy)

    result = run_on_the_sdk("ls")

    assert is_one_sentence(result, f"HTTPS{PROXY}")
    assert "secret" not in result.stderr


@pytest.mark.parametrize("proxy", ["", "host", "host:1", "//host:1", "http://user:password@[::1]:1/"])
def test_a_proxy_that_the_sdk_accepts_is_accepted(
    desk: Desk, environment: pytest.MonkeyPatch, proxy: str
) -> None:
    environment.setenv("HTTPS_PROXY", proxy)

    assert desk.run("ls").exit_code == 0


def test_the_store_in_memory_does_not_use_the_sdk(desk: Desk, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("STORE", "memory")
    environment.setenv("AWS_CA_BUNDLE", "no-such-file")
    environment.setenv("AWS_PROFILE", "no-such-profile")
    environment.delenv("AWS_REGION")

    assert desk.run("ls").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ls", "--account", "1" * 3000], "account must be empty or an AWS account id of 12 digits."),
        (["ls", "--account", "\ud800"], "account must be"),
        (["ls", "--account", "1" * 12, "--region", "r" * 3000], "region must be empty or the name of an AWS"),
        (["ls", "--account", "1" * 12, "--region", "\x1b"], "region must be"),
        (["ls", "--client", "c" * 3000], "clientId must be 1 to 128 characters without control characters."),
        (["ls", "--client", ""], "clientId must be"),
        (["watch", "--client", "\ud800"], "clientId must be"),
        (["--table", "t" * 3000, "ls"], "--table must be the name or the ARN of a DynamoDB table."),
        (["--table", "", "ls"], "--table must not be empty."),
        (["sweep", "--minutes", "9" * 30], "--minutes"),
        (["watch", "--every", "inf"], "--every"),
        (["watch", "--every", "1e300"], "--every"),
    ],
    ids=lambda it: " ".join(it)[:24].encode("unicode_escape").decode() if isinstance(it, list) else "",
)
def test_an_invalid_argument_is_wrong_usage(desk: Desk, arguments: list[str], sentence: str) -> None:
    result = desk.run(*arguments)

    assert result.exit_code == 2
    assert sentence in result.stderr


def refused(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Scan")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            UNAVAILABLE,
            "The table Connections can't be reached, or it did not answer in time (ReadTimeoutError).",
        ),
        (
            StorageUnavailable("NoCredentialsError", outcome_unknown=False),
            "There are no AWS credentials that can be used (NoCredentialsError): ",
        ),
        (
            StorageUnavailable("ExpiredTokenException", outcome_unknown=False),
            "AWS refuses the credentials (ExpiredTokenException): ",
        ),
        (
            NoCredentialsError(),
            "There are no AWS credentials that can be used (NoCredentialsError): ",
        ),
        (
            refused("InvalidSignatureException"),
            "AWS refuses the credentials (InvalidSignatureException): ",
        ),
        (
            refused("ResourceNotFoundException"),
            "There is no table Connections there: look at --table, AWS_REGION, ",
        ),
        (refused("AccessDeniedException", "Not you.\x1b"), "AWS does not allow it: Not you.\\x1b"),
        (
            refused("ValidationException", "The table does not have the specified index: byClient"),
            "The table Connections lacks an index for that (set CLIENT_INDEX or ACCOUNT_INDEX to false, ",
        ),
        (ProfileNotFound(profile="on-call"), "The config profile (on-call) could not be found"),
    ],
)
def test_an_error_that_the_user_can_fix_is_one_sentence(desk: Desk, error: Exception, sentence: str) -> None:
    desk.table.error = error

    result = desk.run("ls")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(sentence)
    assert result.stderr.endswith("\n")
    assert result.stderr.count("\n") == 1


def test_an_unavailable_store_that_is_no_dynamodb_table_is_reported(
    desk: Desk, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("STORE", "acme.storage:factory")
    desk.table.error = UNAVAILABLE

    result = desk.run("ls")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "The store can't be reached, or it did not answer in time (ReadTimeoutError).\n"


def test_a_table_can_be_named_for_dynamodb_alone(desk: Desk, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("STORE", "acme.storage:factory")

    result = desk.run("--table", "Others", "ls")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "--table names a DynamoDB table, and STORE=acme.storage:factory has none.\n"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a bug"),
        ParamValidationError(report="a bug"),
        refused("ValidationException", "a bug"),
        refused("SomethingNew"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_bug_keeps_its_traceback(desk: Desk, error: BotoCoreError | Exception) -> None:
    desk.table.error = error

    assert desk.run("ls").exception is error


def test_a_bug_while_the_use_cases_are_built_keeps_its_traceback(desk: Desk) -> None:
    bug = ValueError("a bug")

    def build(settings: Settings) -> Desk:
        raise bug

    result = CliRunner().invoke(cli, ["ls"], obj=Session(build=build), prog_name="app")

    assert result.exception is bug


def run_as_module(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    for name in [name for name in sys.modules if name.startswith("app.cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "argv", ["app", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("app", run_name="__main__")
    return ended.value.code


def test_the_module_runs_the_commands(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("STORE", "memory")

    assert run_as_module(environment, "ls") == 0
    assert capsys.readouterr().err == "Nobody is connected.\n"


def test_the_help_names_the_program_as_it_is_started(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_as_module(environment, "ls", "--help") == 0
    assert "Usage: uv run python -m app ls " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["typer", "rich"])
def test_without_its_own_packages_the_command_line_says_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] in {"typer", "rich"}]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)

    assert str(run_as_module(monkeypatch, "ls")).startswith("The command line needs Typer and rich: `uv run")


def test_any_other_missing_package_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)

    with pytest.raises(ModuleNotFoundError, match="boto3"):
        run_as_module(monkeypatch, "ls")


def test_a_sweep_of_the_command_line_logs_nothing_but_its_report(caplog: pytest.LogCaptureFixture) -> None:
    publisher = _container(Settings(store="memory")).publisher()

    publisher.publish(Ended(a_connection()))

    assert caplog.records == []
