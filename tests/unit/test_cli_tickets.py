"""The command `ticket` on fakes."""

from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from app.domain.errors import StorageUnavailable
from app.domain.model import AccountId, ClientId, RegionName
from app.domain.tickets import Ticket
from tests.builders import NOON
from tests.desk import Desk

TICKET = ("ticket", "--client", "wall-3", "--account", "123456789012", "--region", "eu-central-1")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("CONNECTIONS_TABLE", "Connections")
    monkeypatch.setenv("TICKETS_TABLE", "Tickets")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    return monkeypatch


@pytest.fixture
def desk(environment: pytest.MonkeyPatch) -> Desk:
    return Desk()


def test_the_ticket_alone_is_printed_and_beside_it_how_to_use_it(desk: Desk) -> None:
    result = desk.run(*TICKET)

    assert (result.exit_code, result.stdout) == (0, "secret-0\n")
    assert result.stderr == "Connect with ?ticket=... in the URL within 60 s: it admits wall-3 once.\n"


def test_the_ticket_admits_exactly_that_client_for_a_minute(desk: Desk) -> None:
    desk.run(*TICKET)

    assert desk.tickets.added == [
        Ticket(
            "secret-0",
            ClientId("wall-3"),
            AccountId("123456789012"),
            RegionName("eu-central-1"),
            expires_at=NOON + timedelta(minutes=2),  # it is a minute past noon
        )
    ]


def test_the_table_of_connections_is_not_needed(desk: Desk, environment: pytest.MonkeyPatch) -> None:
    environment.delenv("CONNECTIONS_TABLE")

    assert desk.run(*TICKET).stdout == "secret-0\n"


def test_each_ticket_is_another(desk: Desk) -> None:
    assert [desk.run(*TICKET).stdout for _ in range(2)] == ["secret-0\n", "secret-1\n"]


@pytest.mark.parametrize("seconds", [1, 30, 60])
def test_a_ticket_may_be_good_for_a_shorter_time(desk: Desk, seconds: int) -> None:
    result = desk.run(*TICKET, "--seconds", str(seconds))

    assert f" within {seconds} s: " in result.stderr
    assert desk.tickets.added[0].expires_at == desk.time.now() + timedelta(seconds=seconds)


def test_the_account_and_the_region_may_be_empty(desk: Desk) -> None:
    result = desk.run("ticket", "--client", "wall-3", "--account", "", "--region", "")

    assert result.exit_code == 0
    assert (desk.tickets.added[0].account, desk.tickets.added[0].region) == ("", "")


@pytest.mark.parametrize("seconds", ["0", "61", "-1", "1.5", "soon"])
def test_another_time_is_wrong_usage(desk: Desk, seconds: str) -> None:
    result = desk.run(*TICKET, "--seconds", seconds)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "--seconds" in result.stderr
    assert desk.tickets.added == []


@pytest.mark.parametrize("missing", ["--client", "--account", "--region"])
def test_each_of_the_three_is_needed(desk: Desk, missing: str) -> None:
    at = TICKET.index(missing)

    result = desk.run(*TICKET[:at], *TICKET[at + 2 :])

    assert (result.exit_code, result.stdout) == (2, "")
    assert missing in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--client", "", "clientId must be 1 to 128 characters without control characters."),
        ("--client", "c" * 129, "clientId must be 1 to 128 characters without control characters."),
        ("--client", "\x1b[31m", "clientId must be 1 to 128 characters without control characters."),
        ("--client", "\ud800", "clientId must be 1 to 128 characters without control characters."),
        ("--account", "12345", "account must be empty or an AWS account id of 12 digits."),
        ("--account", "*", "account must be empty or an AWS account id of 12 digits."),
        ("--region", "Frankfurt", "region must be empty or the name of an AWS region."),
    ],
)
def test_a_value_that_no_client_can_have_is_refused_with_a_sentence(
    desk: Desk, option: str, value: str, sentence: str
) -> None:
    result = desk.run(*TICKET, option, value)

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"{sentence}\n")
    assert desk.tickets.added == []


def test_a_clients_name_can_not_control_the_terminal(desk: Desk) -> None:
    result = desk.run(*TICKET, "--client", "wall\u202e3")

    assert result.stderr.endswith("it admits wall\\u202e3 once.\n")


def test_without_a_table_of_tickets_there_are_none(desk: Desk, environment: pytest.MonkeyPatch) -> None:
    environment.delenv("CONNECTIONS_TABLE")
    environment.delenv("TICKETS_TABLE")

    result = desk.run(*TICKET)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "TICKETS_TABLE is missing: it names the DynamoDB table of tickets.\n"


@pytest.mark.parametrize("table", ["a/b", " "])
def test_a_table_that_can_not_be_is_named(desk: Desk, environment: pytest.MonkeyPatch, table: str) -> None:
    environment.setenv("TICKETS_TABLE", table)

    result = desk.run(*TICKET)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "TICKETS_TABLE must be the name or the ARN of a DynamoDB table.\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            StorageUnavailable("ReadTimeoutError", outcome_unknown=True),
            "The table Tickets can't be reached, or it did not answer in time (ReadTimeoutError).\n",
        ),
        (
            ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": ""}}, "PutItem"),
            (
                "There is no table Tickets there: look at TICKETS_TABLE, AWS_REGION, AWS_PROFILE and "
                "AWS_ENDPOINT_URL.\n"
            ),
        ),
    ],
    ids=["unavailable", "missing"],
)
def test_a_ticket_that_is_not_kept_is_not_printed(desk: Desk, error: Exception, sentence: str) -> None:
    desk.tickets.error = error

    result = desk.run(*TICKET)

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", sentence)
