"""The commands `send` and `deliveries` on fakes."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.adapters.messages import message_from
from app.domain.delivery import Audience, DeliveryReport, Outcome, Progress
from app.domain.errors import QueueUnavailable
from app.domain.model import RegionName
from app.settings import Settings
from tests.builders import NOON, a_message
from tests.desk import Desk
from tests.fakes import FakeQueue

SEND = ("send", "--type", "incident.opened", "--data", '{"severity": 1}')
ACCOUNT = ("--account", "123456789012")
NO_AUDIENCE = "must name an account, a client, a connection, or everyone."
NO_REGIONS = "--regions must be names of AWS regions, separated by commas."


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("CONNECTIONS_TABLE", "Connections")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    return monkeypatch


@pytest.fixture
def desk(environment: pytest.MonkeyPatch) -> Desk:
    return Desk()


def deliver(desk: Desk) -> None:
    """Do what the function does, with all messages in the queue."""
    for body, _ in desk.messages.messages:
        message, audience = message_from(body, NOON)
        until = desk.time.now() + timedelta(minutes=2)
        desk.deliver_message()(message, audience, until=until, claimed_until=until)


def sent(desk: Desk) -> dict[str, Any]:
    """The only message in the queue."""
    [(body, sent_at)] = desk.messages.messages
    assert sent_at is None
    fields: dict[str, Any] = json.loads(body)
    return fields


def test_a_message_goes_into_the_queue(desk: Desk) -> None:
    result = desk.run(*SEND, *ACCOUNT, "--region", "eu-central-1")

    message = sent(desk)
    assert (result.exit_code, result.stdout) == (0, f"{message['id']}\n")
    assert result.stderr == (
        f"Message {message['id']}\nIt is in the queue; the command deliveries says what became of it.\n"
    )
    assert message == {
        "id": message["id"],
        "type": "incident.opened",
        "audience": {"account": "123456789012", "region": "eu-central-1"},
        "data": {"severity": 1},
    }


def test_each_message_has_an_id_of_its_own(desk: Desk) -> None:
    ids = {desk.run(*SEND, "--everyone").stdout for _ in range(3)}

    assert len(ids) == 3


@pytest.mark.parametrize(
    ("options", "audience"),
    [
        (["--everyone"], {"everyone": True}),
        (["--client", "wall-3"], {"client": "wall-3"}),
        (["--client", "wall-3", *ACCOUNT], {"client": "wall-3", "account": "123456789012"}),
        (["--connection", "c-1="], {"connection": "c-1="}),
    ],
)
def test_every_audience_can_be_chosen(desk: Desk, options: list[str], audience: dict[str, Any]) -> None:
    assert desk.run(*SEND, *options).exit_code == 0
    assert sent(desk)["audience"] == audience


def test_the_content_may_be_in_a_file(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "incident.json").write_text('{"title": "Tür auf"}', encoding="utf-8")

    desk.run("send", "--type", "t", "--data", f"@{tmp_path}/incident.json", "--everyone")

    assert sent(desk)["data"] == {"title": "Tür auf"}


def test_its_id_and_its_end_can_be_chosen(desk: Desk) -> None:
    desk.run(*SEND, "--everyone", "--id", "incident-7", "--expires-in", "60")

    message = sent(desk)
    assert message["id"] == "incident-7"
    assert message["expiresAt"] == "2126-11-21T12:02:00+00:00"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*SEND], f"The audience {NO_AUDIENCE}"),
        ([*SEND, "--everyone", *ACCOUNT], f"The audience {NO_AUDIENCE}"),
        ([*SEND, "--region", "eu-central-1"], "The audience has a region without its account."),
        ([*SEND, "--account", "12345"], "account must be empty or an AWS account id of 12 digits."),
        ([*SEND, "--everyone", "--id", ""], "The message's id must be 1 to 128 printable characters."),
        ([*SEND, "--everyone", "--regions", "Frankfurt"], NO_REGIONS),
        ([*SEND, "--everyone", "--regions", ","], NO_REGIONS),
        (
            ["send", "--type", "t", "--everyone", "--data", json.dumps("x" * 131_072)],
            "bytes as clients get it; 131072 are allowed.",
        ),
    ],
)
def test_what_can_not_be_sent_is_refused_with_a_sentence(
    desk: Desk, arguments: list[str], sentence: str
) -> None:
    result = desk.run(*arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith(f"{sentence}\n")
    assert desk.messages.messages == []


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("incident", "it must be JSON, or @ and the name of a file."),
        ("@no-such-file.json", "the file can't be read: No such file or directory."),
        ("[" * 100_000, "it must be JSON, or @ and the name of a file."),
    ],
)
def test_content_that_is_none_is_refused(desk: Desk, data: str, sentence: str) -> None:
    result = desk.run("send", "--type", "t", "--everyone", "--data", data)

    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())


def test_a_dry_run_counts_and_prices_and_sends_nothing(desk: Desk) -> None:
    desk.add("c-1", "c-2", "c-3")

    desk.run(*SEND, *ACCOUNT, "--id", "m-1")
    message, _ = message_from(desk.messages.messages.pop()[0], NOON)

    result = desk.run(*SEND, *ACCOUNT, "--id", "m-1", "--dry-run")

    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["recipients", "in", "eu-central-1", "3"],
        ["bytes", "to", "each", str(len(message.frame))],
        ["price", "$0.000003,", "at", "$1.00", "per", "million", "messages", "of", "32", "KB"],
    ]
    assert result.stderr == "This was a dry run: nothing was sent.\n"
    assert desk.messages.messages == []


def test_the_price_counts_each_32_kb(desk: Desk) -> None:
    desk.add("c-1")
    data = json.dumps("x" * 40_000)

    result = desk.run("send", "--type", "t", "--everyone", "--data", data, "--dry-run", "--json")

    assert json.loads(result.stdout)["dollars"] == pytest.approx(2e-6)


def test_a_dry_run_as_json(desk: Desk) -> None:
    desk.add("c-1", "c-2")

    facts = json.loads(desk.run(*SEND, *ACCOUNT, "--dry-run", "--json").stdout)

    assert facts["recipients"] == {"eu-central-1": 2}


def test_waiting_ends_with_the_report(desk: Desk) -> None:
    desk.add("c-1", "c-2")
    desk.between = [lambda: None, lambda: deliver(desk)]

    result = desk.run(*SEND, *ACCOUNT, "--wait")

    message = sent(desk)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[:3] == [
        ["message", message["id"]],
        ["audience", "account", "123456789012"],
        ["state", "finished"],
    ]
    assert ["selected", "2"] in rows
    assert ["delivered", "2"] in rows
    assert desk.pauses == [0.5, 0.5]


def test_waiting_has_an_end(desk: Desk) -> None:
    desk.between = [lambda: desk.time.advance(timedelta(minutes=15))]

    result = desk.run(*SEND, *ACCOUNT, "--wait", "--id", "m-1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Message m-1\n"
        "It is not finished after 15 minutes: look for delivery.refused in the log, and at deliveries m-1.\n"
    )


def test_the_report_of_another_message_with_the_id_is_not_taken_for_its_own(desk: Desk) -> None:
    desk.run(*SEND, *ACCOUNT, "--id", "m-1")
    deliver(desk)

    result = desk.run(*SEND, "--everyone", "--wait", "--id", "m-1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Message m-1\nThe id m-1 has been used for another message.\n"


def test_the_report_as_json(desk: Desk) -> None:
    desk.add("c-1")
    desk.between = [lambda: deliver(desk)]

    facts = json.loads(desk.run(*SEND, *ACCOUNT, "--wait", "--json", "--id", "m-1").stdout)

    assert facts.pop("p99Ms") > 0
    assert facts == {
        "id": "m-1",
        "audience": "account 123456789012",
        "finished": True,
        "selected": 1,
        **{outcome.value: 0 for outcome in Outcome},
        "delivered": 1,
    }


def test_what_became_of_a_message_can_be_looked_up_while_it_is_under_way(desk: Desk) -> None:
    delivery = desk.kept.claim(a_message(), str(Audience(everyone=True)), until=NOON + timedelta(hours=1))
    report = DeliveryReport(
        selected=9, outcomes={Outcome.DELIVERED: 5, Outcome.YOUNG_GONE: 3, Outcome.LEFT: 1}
    )
    desk.kept.record(delivery, Progress(report))

    result = desk.run("deliveries", "m-1")

    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["state", "under", "way"] in rows
    assert rows[4:] == [["selected", "9"], ["delivered", "5"], ["young,", "gone", "3"], ["left", "1"]]


def test_an_unknown_message_is_said_to_be_so(desk: Desk) -> None:
    result = desk.run("deliveries", "m-1\x1b")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "There is no message m-1\\x1b in the table of deliveries.\n"


class Abroad(Desk):
    """The command line with a desk per region."""

    def __init__(self) -> None:
        super().__init__()
        self.desks = {name: Desk() for name in ("eu-central-1", "us-east-1")}

    def _build(self, settings: Settings) -> Desk:
        return self.desks[RegionName(settings.region)]


def test_several_regions_get_the_message_and_their_reports_are_merged(
    environment: pytest.MonkeyPatch,
) -> None:
    abroad = Abroad()
    europe, america = abroad.desks["eu-central-1"], abroad.desks["us-east-1"]
    europe.add("c-1", "c-2")
    america.add("c-3")
    regions = ("--regions", "eu-central-1, us-east-1")

    result = abroad.run(*SEND, *ACCOUNT, "--id", "m-1", *regions)
    for desk in (europe, america):
        deliver(desk)
    report = abroad.run("deliveries", "m-1", *regions)
    facts = json.loads(abroad.run("deliveries", "m-1", "--json", *regions).stdout)
    priced = json.loads(abroad.run(*SEND, *ACCOUNT, "--dry-run", "--json", *regions).stdout)

    assert result.exit_code == 0
    assert europe.messages.messages == america.messages.messages
    rows = [line.split() for line in report.stdout.splitlines()]
    assert ["eu-central-1", "us-east-1", "all"] in rows
    assert ["delivered", "2", "1", "3"] in rows
    assert (facts["delivered"], facts["regions"]["us-east-1"]["delivered"]) == (3, 1)
    assert priced["recipients"] == {"eu-central-1": 2, "us-east-1": 1}


def test_a_queue_that_does_not_take_the_message_is_reported(desk: Desk) -> None:
    class Missing(FakeQueue):
        def put(self, body: str, *, sent_at: Any = None) -> None:
            raise QueueUnavailable("AWS.SimpleQueueService.NonExistentQueue")

    desk.messages = Missing()

    result = desk.run(*SEND, "--everyone", "--id", "m-1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Message m-1\n"
        "The queue did not take the message (AWS.SimpleQueueService.NonExistentQueue): "
        "look at MESSAGE_QUEUE, AWS_REGION and AWS_PROFILE.\n"
    )


def test_refused_credentials_are_reported_as_such(desk: Desk) -> None:
    class Refusing(FakeQueue):
        def put(self, body: str, *, sent_at: Any = None) -> None:
            raise QueueUnavailable("UnrecognizedClientException")

    desk.messages = Refusing()

    assert "\nAWS refuses the credentials" in desk.run(*SEND, "--everyone").stderr


def test_a_queue_of_several_that_does_not_take_the_message_is_named(environment: pytest.MonkeyPatch) -> None:
    class Missing(FakeQueue):
        def put(self, body: str, *, sent_at: Any = None) -> None:
            raise QueueUnavailable("RequestThrottled")

    abroad = Abroad()
    abroad.desks["us-east-1"].messages = Missing()

    result = abroad.run(*SEND, *ACCOUNT, "--id", "m-1", "--regions", "eu-central-1,us-east-1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Message m-1\n"
        "The queue of us-east-1 did not take it (RequestThrottled); eu-central-1 did. "
        "Send it again with --id m-1: nobody gets it twice.\n"
    )
