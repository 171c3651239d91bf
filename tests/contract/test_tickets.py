"""What every Tickets promises, in the same sentences for each; then the item of DynamoDB's."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_urlsafe
from threading import Barrier
from traceback import format_exception
from typing import TYPE_CHECKING, Protocol

import pytest
from moto import mock_aws

from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.dynamodb.tickets import DynamoDBTickets
from app.domain.admission import Grant, Reason
from app.domain.errors import Denied, StorageUnavailable
from app.domain.model import AccountId, ClientId, RegionName
from app.domain.ports import Tickets, TicketStore
from app.domain.tickets import MAX_SKEW, MAX_TICKET_LIFETIME, Ticket
from tests.builders import NOON, NOON_MS
from tests.dynamodb_local import a_client, create_table
from tests.fakes import FakeTickets
from tests.integration.faulty_database import (
    faulty_database,
    forwarding_to,
    hanging_up,
    losing_the_answer_of,
    refusing,
)
from tests.stores import a_direct_transport, moto_client

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from app.adapters.dynamodb.transport import Transport

USES = 50
SECRET = "t0pS3cr3t-" + "x" * 33  # as long as a minted one
CLIENT, ACCOUNT, REGION = ClientId("wall-3"), AccountId("123456789012"), RegionName("eu-central-1")
UNTIL = NOON + timedelta(seconds=60)
MILLISECOND = timedelta(milliseconds=1)


class Adapter(Tickets, TicketStore, Protocol):
    """Where tickets are added and redeemed."""


@dataclass
class Subject:
    """The adapter under test. *another* returns one for another thread on the same tickets."""

    tickets: Adapter
    another: Callable[[], Tickets]


def a_ticket(secret: str = SECRET, *, expires_at: datetime = UNTIL) -> Ticket:
    return Ticket(secret, CLIENT, ACCOUNT, REGION, expires_at)


ATOMIC = ("fake", "dynamodb-boto3", "dynamodb")  # moto looks at a condition, and then deletes


@pytest.fixture(params=[*ATOMIC, "dynamodb-boto3-moto"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    match request.param:
        case "fake":
            fake = FakeTickets()
            yield Subject(fake, lambda: fake)
        case "dynamodb-boto3-moto":
            with mock_aws():
                on_moto = DynamoDBTickets(SdkTransport(moto_client()), a_table(moto_client()))
                yield Subject(on_moto, lambda: on_moto)
        case "dynamodb-boto3":
            client = request.getfixturevalue("dynamodb")
            thread_safe = DynamoDBTickets(SdkTransport(client), a_table(client))
            yield Subject(thread_safe, lambda: thread_safe)
        case _:
            name = a_table(request.getfixturevalue("dynamodb"))
            with ExitStack() as stack:

                def another() -> DynamoDBTickets:
                    direct = a_direct_transport(request.getfixturevalue("dynamodb_local"))
                    return DynamoDBTickets(stack.enter_context(closing(direct)), name)

                yield Subject(another(), another)


@pytest.fixture
def tickets(subject: Subject) -> Adapter:
    return subject.tickets


def a_table(client: "DynamoDBClient") -> str:
    return create_table(client, "TicketsTable")


def refusal_of(tickets: Tickets, secret: str, at: datetime = NOON) -> str:
    """The reason why *secret* is refused; nothing of it is in the exception."""
    with pytest.raises(Denied) as refused:
        tickets.redeem(secret, at)
    assert_nothing_of(secret, refused.value)
    assert refused.value.principal is None
    return refused.value.reason


def assert_nothing_of(secret: str, error: BaseException) -> None:
    """*error*, and all that led to it, has nothing of *secret* in its text or its attributes."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None:
        seen.append(following)
        following = following.__cause__ or following.__context__
    # the stack names the test's own lines, so each is looked at without it
    texts = [f"{it!r} {it} {vars(it)!r} {''.join(format_exception(it.with_traceback(None)))}" for it in seen]
    parts = {secret[start : start + 8] for start in range(len(secret) - 7)}
    assert not [part for part in parts for text in texts if part in text]


def test_a_ticket_is_redeemed_for_exactly_its_client_account_and_region(tickets: Adapter) -> None:
    tickets.add(a_ticket())

    grant = tickets.redeem(SECRET, NOON)

    assert grant == Grant(CLIENT, (), (ACCOUNT,), (REGION,), until=None)


def test_a_ticket_without_account_and_region_grants_the_empty_ones(tickets: Adapter) -> None:
    tickets.add(Ticket(SECRET, CLIENT, AccountId(""), RegionName(""), UNTIL))

    assert tickets.redeem(SECRET, NOON) == Grant(CLIENT, (), ("",), ("",), until=None)


def test_a_ticket_is_redeemed_once(tickets: Adapter) -> None:
    tickets.add(a_ticket())
    tickets.redeem(SECRET, NOON)

    assert refusal_of(tickets, SECRET) == Reason.TICKET


def test_each_ticket_is_redeemed_for_its_own_grant(tickets: Adapter) -> None:
    other = Ticket("other", ClientId("wall-4"), AccountId("210987654321"), RegionName("us-east-1"), UNTIL)
    tickets.add(a_ticket())
    tickets.add(other)

    assert tickets.redeem("other", NOON) == other.grant()
    assert tickets.redeem(SECRET, NOON) == a_ticket().grant()


@pytest.mark.parametrize("subject", ATOMIC, indirect=True)
def test_of_50_uses_at_once_one_succeeds(subject: Subject) -> None:
    subject.tickets.add(a_ticket())
    users = [subject.another() for _ in range(USES)]
    barrier = Barrier(USES)

    def use(tickets: Tickets) -> str:
        barrier.wait(60)
        try:
            tickets.redeem(SECRET, NOON)
        except Denied as denied:
            return denied.reason
        return "admitted"

    with ThreadPoolExecutor(USES) as pool:
        outcomes = Counter(pool.map(use, users))

    assert outcomes == {"admitted": 1, Reason.TICKET: USES - 1}


@pytest.mark.parametrize("fraction", [timedelta(0), MILLISECOND, timedelta(seconds=1) - MILLISECOND])
def test_a_ticket_is_good_until_the_second_in_which_it_ends(tickets: Adapter, fraction: timedelta) -> None:
    tickets.add(a_ticket(expires_at=UNTIL + fraction))

    assert tickets.redeem(SECRET, UNTIL - MILLISECOND) == a_ticket().grant()


@pytest.mark.parametrize("later", [timedelta(0), MILLISECOND, timedelta(days=1)])
def test_from_that_second_on_it_is_refused(tickets: Adapter, later: timedelta) -> None:
    tickets.add(a_ticket(expires_at=UNTIL + timedelta(milliseconds=999)))

    assert refusal_of(tickets, SECRET, UNTIL + later) == Reason.TICKET


def test_a_ticket_that_is_good_for_too_long_is_refused(tickets: Adapter) -> None:
    longest = NOON + MAX_TICKET_LIFETIME + MAX_SKEW
    tickets.add(a_ticket("longest", expires_at=longest))
    tickets.add(a_ticket("longer", expires_at=longest + timedelta(seconds=1)))

    assert tickets.redeem("longest", NOON) == a_ticket().grant()
    assert refusal_of(tickets, "longer", NOON) == Reason.TICKET


def test_a_ticket_that_nobody_minted_is_refused(tickets: Adapter) -> None:
    tickets.add(a_ticket())

    assert refusal_of(tickets, token_urlsafe()) == Reason.TICKET
    assert tickets.redeem(SECRET, NOON) == a_ticket().grant()


@pytest.mark.parametrize(
    "secret",
    ["", "\ud800", "a\udfff\ud800b", "\x00", "é🎫", SECRET.upper(), f"{SECRET} ", SECRET[:-1], "x" * 2**20],
    ids=["empty", "surrogate", "surrogates", "nul", "unicode", "upper", "space", "shorter", "long"],
)
def test_any_text_that_is_no_ticket_is_refused(tickets: Adapter, secret: str) -> None:
    tickets.add(a_ticket())

    assert refusal_of(tickets, secret) == Reason.TICKET
    assert tickets.redeem(SECRET, NOON) == a_ticket().grant()


# ---- A database that does not answer


@pytest.fixture(params=["dynamodb-boto3", "dynamodb"])
def transport_to(request: pytest.FixtureRequest) -> Iterator[Callable[[str], "Transport"]]:
    """Returns a transport to an endpoint."""
    with ExitStack() as stack:
        if request.param == "dynamodb":
            yield lambda endpoint: stack.enter_context(closing(a_direct_transport(endpoint)))
        else:
            yield lambda endpoint: SdkTransport(stack.enter_context(closing(a_client(endpoint))))


def test_a_ticket_whose_answer_was_lost_may_be_spent(
    transport_to: Callable[[str], "Transport"], dynamodb: "DynamoDBClient", dynamodb_local: str
) -> None:
    name = a_table(dynamodb)
    DynamoDBTickets(SdkTransport(dynamodb), name).add(a_ticket())
    with faulty_database(losing_the_answer_of(dynamodb_local), forwarding_to(dynamodb_local)) as faulty:
        tickets = DynamoDBTickets(transport_to(faulty.endpoint), name)

        with pytest.raises(StorageUnavailable) as unavailable:
            tickets.redeem(SECRET, NOON)

    assert unavailable.value.outcome_unknown
    assert faulty.requests == 2
    assert_nothing_of(SECRET, unavailable.value)
    assert refusal_of(DynamoDBTickets(SdkTransport(dynamodb), name), SECRET) == Reason.TICKET


def test_an_attempt_that_was_lost_before_it_counted_spends_no_ticket(
    transport_to: Callable[[str], "Transport"], dynamodb: "DynamoDBClient", dynamodb_local: str
) -> None:
    name = a_table(dynamodb)
    DynamoDBTickets(SdkTransport(dynamodb), name).add(a_ticket())
    with faulty_database(hanging_up, forwarding_to(dynamodb_local)) as faulty:
        grant = DynamoDBTickets(transport_to(faulty.endpoint), name).redeem(SECRET, NOON)

    assert grant == a_ticket().grant()
    assert faulty.requests == 2


def test_a_ticket_is_added_though_an_answer_was_lost(
    transport_to: Callable[[str], "Transport"], dynamodb: "DynamoDBClient", dynamodb_local: str
) -> None:
    name = a_table(dynamodb)
    with faulty_database(losing_the_answer_of(dynamodb_local), forwarding_to(dynamodb_local)) as faulty:
        DynamoDBTickets(transport_to(faulty.endpoint), name).add(a_ticket())

    assert DynamoDBTickets(SdkTransport(dynamodb), name).redeem(SECRET, NOON) == a_ticket().grant()


def test_without_an_answer_the_store_is_unavailable(transport_to: Callable[[str], "Transport"]) -> None:
    with faulty_database(hanging_up) as faulty:
        tickets = DynamoDBTickets(transport_to(faulty.endpoint), "Tickets")

        with pytest.raises(StorageUnavailable) as redeeming:
            tickets.redeem(SECRET, NOON)
        with pytest.raises(StorageUnavailable) as adding:
            tickets.add(a_ticket())

    for unavailable in (redeeming.value, adding.value):
        assert unavailable.outcome_unknown
        assert_nothing_of(SECRET, unavailable)


def test_a_request_that_the_database_refuses_names_no_ticket(
    transport_to: Callable[[str], "Transport"],
) -> None:
    with faulty_database(refusing(400, "ValidationException")) as faulty:
        tickets = DynamoDBTickets(transport_to(faulty.endpoint), "Tickets")

        with pytest.raises(Exception, match="ValidationException") as bug:
            tickets.redeem(SECRET, NOON)

    assert_nothing_of(SECRET, bug.value)


def test_the_fake_can_be_unavailable() -> None:
    fake = FakeTickets(a_ticket())
    fake.error = StorageUnavailable("NoAnswer", outcome_unknown=True)

    with pytest.raises(StorageUnavailable):
        fake.redeem(SECRET, NOON)
    with pytest.raises(StorageUnavailable):
        fake.add(a_ticket())
    assert fake.added == [a_ticket()]


# ---- The item


def test_the_item_does_not_hold_the_secret(dynamodb: "DynamoDBClient") -> None:
    name = a_table(dynamodb)
    DynamoDBTickets(SdkTransport(dynamodb), name).add(a_ticket())

    [item] = dynamodb.scan(TableName=name)["Items"]

    assert item == {
        "id": {"S": sha256(SECRET.encode()).hexdigest()},
        "clientId": {"S": CLIENT},
        "account": {"S": ACCOUNT},
        "region": {"S": REGION},
        "ttl": {"N": str(NOON_MS // 1000 + 60)},
    }
    assert not any(part in str(item) for part in (SECRET, SECRET[:10], SECRET[-10:]))


def test_a_ticket_that_was_redeemed_leaves_no_item(dynamodb: "DynamoDBClient") -> None:
    name = a_table(dynamodb)
    tickets = DynamoDBTickets(SdkTransport(dynamodb), name)
    tickets.add(a_ticket())
    tickets.redeem(SECRET, NOON)

    assert dynamodb.scan(TableName=name)["Items"] == []
