"""What every History promises, in the same sentences for each; then the requests and items of DynamoDB's."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from app.adapters.dynamodb.history import DynamoDBHistory
from app.adapters.dynamodb.sdk import SdkTransport, dynamodb_client
from app.adapters.dynamodb.transport import Answer, Transport
from app.domain.delivery import MAX_FRAME, Audience, Message, MessageId
from app.domain.errors import StorageUnavailable
from app.domain.history import OVERLAP, UNDER_WAY_FOR, KeptMessage, Place, Scope, scopes_for, scopes_of
from app.domain.model import UNKNOWN_CLIENT, AccountId, ClientId, Connection, ConnectionId, RegionName
from app.domain.ports import History
from tests.builders import NOON, NOON_MS, a_connection, a_message
from tests.dynamodb_local import REGION, create_table
from tests.fakes import FixedClock, MemoryHistory
from tests.integration.faulty_database import (
    FaultyDatabase,
    faulty_database,
    forwarding_to,
    losing_the_answer_of,
    refusing,
)
from tests.stores import moto_client
from tests.thoroughness import examples

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

KEPT_FOR = timedelta(minutes=15)
EVERYONE = Audience(everyone=True)
ACCOUNT, SEOUL = AccountId("123456789012"), RegionName("ap-northeast-2")
OF_ACCOUNT = Audience(account=ACCOUNT)
TO_ALL, TO_ACCOUNT, TO_ANY_ACCOUNT = Scope("everyone"), Scope("account 123456789012"), Scope("account")
START = Place(NOON - timedelta(minutes=1))
SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)

# The values of a connection and of an audience; an audience has no account that is empty.
CLIENTS = [ClientId("wall-3"), ClientId("wall/3"), ClientId("123456789012"), UNKNOWN_CLIENT]
ACCOUNTS = [ACCOUNT, AccountId("999999999999")]
REGIONS = [SEOUL, RegionName("eu-central-1")]

of_an_account = st.builds(
    Audience,
    account=st.sampled_from(ACCOUNTS),
    region=st.none() | st.sampled_from(REGIONS),
    client_id=st.none() | st.sampled_from(CLIENTS),
)
of_a_client = st.builds(Audience, client_id=st.sampled_from(CLIENTS))
of_a_connection = st.builds(Audience, connection_id=st.just(ConnectionId("c-1")))
kept_audiences = st.just(EVERYONE) | of_an_account | of_a_client
connections = st.builds(
    a_connection,
    client_id=st.sampled_from(CLIENTS),
    account=st.sampled_from([*ACCOUNTS, AccountId("")]),
    region=st.sampled_from([*REGIONS, RegionName("")]),
)
ids = (
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=128)
    | st.text("/0 .é🛰", min_size=1, max_size=6)
).map(MessageId)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


class Watched:
    """A transport that keeps its requests, and calls ``before`` each with their number so far."""

    def __init__(self, transport: SdkTransport) -> None:
        self.requests: list[tuple[str, Mapping[str, Any]]] = []
        self.before: Callable[[int], object] = lambda _: None
        self._transport = transport

    def call(self, operation: str, request: Mapping[str, Any]) -> Answer:
        self.before(len(self.requests))
        self.requests.append((operation, dict(request)))
        return self._transport.call(operation, request)


@dataclass
class Subject:
    """The adapter under test, with its clock; and ``unscoped``: of a setting that includes the unscoped."""

    history: History
    unscoped: History
    clock: FixedClock

    def under_way(self, scope: Scope = TO_ALL) -> list[KeptMessage]:
        return sorted(self.history.under_way(scope))

    def finished(self, scope: Scope = TO_ALL, after: Place = START) -> list[tuple[Place, KeptMessage]]:
        return list(self.history.finished(scope, after))

    def places(self, scope: Scope = TO_ALL, after: Place = START) -> list[Place]:
        return [place for place, _ in self.finished(scope, after)]

    def keep(self, name: str, at: datetime, audience: Audience = EVERYONE) -> None:
        """Begin a message, and finish it *at* a time."""
        message = named(name)
        self.history.begin(message, audience)
        self.history.finish(message, audience, at)

    def expire_all(self) -> None:
        self.clock.advance(timedelta(days=2))


@pytest.fixture(params=["memory", "dynamodb-boto3-moto", "dynamodb-boto3"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    match request.param:
        case "memory":
            clock = FixedClock()
            of_accounts = MemoryHistory(clock, kept_for=KEPT_FOR)
            yield Subject(of_accounts, MemoryHistory(clock, kept_for=KEPT_FOR, unscoped=True), clock)
        case "dynamodb-boto3-moto":
            with mock_aws():
                yield on_dynamodb(moto_client())
        case _:
            yield on_dynamodb(request.getfixturevalue("dynamodb"))


def on_dynamodb(client: "DynamoDBClient") -> Subject:
    transport, table, clock = SdkTransport(client), create_table(client, "HistoryTable"), FixedClock()
    return Subject(
        a_history(transport, table, clock), a_history(transport, table, clock, unscoped=True), clock
    )


def a_history(
    transport: Transport, table: str, clock: FixedClock, *, unscoped: bool = False
) -> DynamoDBHistory:
    return DynamoDBHistory(transport, table, clock=clock, kept_for=KEPT_FOR, unscoped=unscoped)


def most(request: pytest.FixtureRequest) -> settings:
    """The settings of a test that tries examples: fewer where each is many requests."""
    number = 200 if request.node.callspec.params["subject"] == "memory" else 30
    return settings(max_examples=examples(number), suppress_health_check=list(HealthCheck))


def named(name: str, **changes: Any) -> Message:
    return a_message(id=MessageId(name), **changes)


def kept(message: Message, audience: Audience = EVERYONE) -> KeptMessage:
    return KeptMessage(message.id, message.frame, audience, message.expires_at)


# ---- Begin and finish --------------------------------------------------------------------------------------


def test_at_first_there_is_nothing(subject: Subject) -> None:
    assert subject.under_way() == []
    assert subject.finished() == []


def test_a_message_that_is_begun_is_under_way(subject: Subject) -> None:
    subject.history.begin(a_message(), EVERYONE)

    assert subject.under_way() == [kept(a_message())]
    assert subject.finished() == []


def test_a_message_that_is_finished_is_no_longer_under_way(subject: Subject) -> None:
    subject.history.begin(a_message(), EVERYONE)
    subject.history.finish(a_message(), EVERYONE, NOON + SECOND)

    assert subject.under_way() == []
    assert subject.finished() == [(Place(NOON + SECOND, MessageId("m-1")), kept(a_message()))]


def test_a_message_that_is_begun_twice_is_under_way_once(subject: Subject) -> None:
    subject.history.begin(a_message(), EVERYONE)
    subject.history.begin(a_message(), EVERYONE)

    assert subject.under_way() == [kept(a_message())]
    subject.history.finish(a_message(), EVERYONE, NOON)
    assert subject.under_way() == []


def test_a_message_that_is_begun_again_after_its_end_stays_finished(subject: Subject) -> None:
    """An invocation that was stopped before it released the delivery is followed by another one."""
    subject.keep("m-1", NOON)

    subject.history.begin(a_message(), EVERYONE)

    assert subject.under_way() == [kept(a_message())]
    assert subject.finished() == [(Place(NOON, MessageId("m-1")), kept(a_message()))]


def test_a_message_that_finishes_again_is_at_its_later_place_too(subject: Subject) -> None:
    """Both have its id, so a reader can tell."""
    subject.keep("m-1", NOON)
    subject.keep("m-1", NOON + SECOND)

    assert subject.under_way() == []
    assert subject.places() == [Place(NOON, MessageId("m-1")), Place(NOON + SECOND, MessageId("m-1"))]


def test_a_message_that_finishes_again_at_the_same_time_is_there_once(subject: Subject) -> None:
    subject.keep("m-1", NOON)
    subject.keep("m-1", NOON)

    assert subject.places() == [Place(NOON, MessageId("m-1"))]


def test_messages_are_kept_apart(subject: Subject) -> None:
    subject.history.begin(named("m-1"), EVERYONE)
    subject.history.begin(named("m-2"), EVERYONE)
    subject.history.finish(named("m-1"), EVERYONE, NOON)

    assert subject.under_way() == [kept(named("m-2"))]
    assert subject.places() == [Place(NOON, MessageId("m-1"))]


@pytest.mark.parametrize("expires_at", [None, NOON + timedelta(milliseconds=1)])
def test_it_is_known_when_a_message_expires(subject: Subject, expires_at: datetime | None) -> None:
    message = a_message(expires_at=expires_at)
    subject.history.begin(message, EVERYONE)
    [under_way] = subject.under_way()
    subject.history.finish(message, EVERYONE, NOON)
    [(_, finished)] = subject.finished()

    assert under_way.expires_at == finished.expires_at == expires_at


def test_every_message_is_kept_as_it_is(subject: Subject, request: pytest.FixtureRequest) -> None:
    @most(request)
    @given(name=ids, frame=texts.map(str.encode), audience=kept_audiences)
    def check(name: MessageId, frame: bytes, audience: Audience) -> None:
        subject.expire_all()
        message, at = a_message(id=name, frame=frame), subject.clock.now()
        [scope] = scopes_of(audience, unscoped=False)

        subject.history.begin(message, audience)
        assert subject.under_way(scope) == [kept(message, audience)]
        subject.history.finish(message, audience, at)
        assert subject.under_way(scope) == []
        assert subject.finished(scope, Place(at)) == [(Place(at, name), kept(message, audience))]

    check()


# ---- Scopes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audience", "scopes", "with_unscoped"),
    [
        (EVERYONE, {TO_ALL}, {TO_ALL}),
        (OF_ACCOUNT, {TO_ACCOUNT}, {TO_ACCOUNT, TO_ANY_ACCOUNT}),
        (Audience(account=ACCOUNT, region=SEOUL), {TO_ACCOUNT}, {TO_ACCOUNT, TO_ANY_ACCOUNT}),
        (Audience(client_id=ClientId("wall-3")), {"client wall-3"}, {"client wall-3"}),
        (Audience(client_id=ClientId("wall-3"), account=ACCOUNT), {"client wall-3"}, {"client wall-3"}),
        (Audience(connection_id=ConnectionId("c-1")), set(), set()),
    ],
    ids=["everyone", "account", "region", "client", "client of an account", "connection"],
)
def test_a_message_is_under_way_and_finished_in_its_scopes_and_in_no_other(
    subject: Subject, audience: Audience, scopes: set[Scope], with_unscoped: set[Scope]
) -> None:
    for history, expected in ((subject.history, scopes), (subject.unscoped, with_unscoped)):
        subject.expire_all()
        all_scopes = [TO_ALL, TO_ACCOUNT, TO_ANY_ACCOUNT, Scope("client wall-3"), Scope("client c-1")]

        history.begin(a_message(), audience)
        under_way = {scope for scope in all_scopes if list(history.under_way(scope))}
        history.finish(a_message(), audience, subject.clock.now())
        left = {scope for scope in all_scopes if list(history.under_way(scope))}
        finished = {scope for scope in all_scopes if list(history.finished(scope, START))}

        assert under_way == finished == expected
        assert left == set()


def test_a_connection_finds_the_messages_that_it_may_get_and_each_once(
    subject: Subject, request: pytest.FixtureRequest
) -> None:
    @most(request)
    @given(
        messages=st.lists(st.tuples(kept_audiences | of_a_connection, st.booleans()), max_size=8),
        connection=connections,
        unscoped=st.booleans(),
    )
    def check(messages: list[tuple[Audience, bool]], connection: Connection, *, unscoped: bool) -> None:
        subject.expire_all()
        history, now = subject.unscoped if unscoped else subject.history, subject.clock.now()
        for number, (audience, finishes) in enumerate(messages):
            history.begin(named(f"m-{number}"), audience)
            if finishes:
                history.finish(named(f"m-{number}"), audience, now)

        scopes = scopes_for(connection, unscoped=unscoped)
        found = [it for scope in scopes for it in history.under_way(scope)]
        found += [it for scope in scopes for _, it in history.finished(scope, Place(now))]

        names = [it.id for it in found]
        assert len(names) == len(set(names))
        assert {it.id for it in found if it.audience.includes(connection, unscoped=unscoped)} == {
            f"m-{number}"
            for number, (audience, _) in enumerate(messages)
            if audience.connection_id is None and audience.includes(connection, unscoped=unscoped)
        }

    check()


# ---- Order, and where to go on -----------------------------------------------------------------------------


def test_messages_come_in_the_order_in_which_they_finished(subject: Subject) -> None:
    for name, second in (("m-2", 1), ("m-1", 10), ("m-3", 2)):
        subject.keep(name, NOON + second * SECOND)

    assert [place.message_id for place in subject.places()] == ["m-2", "m-3", "m-1"]


def test_messages_of_the_same_millisecond_come_in_the_order_of_their_ids(subject: Subject) -> None:
    for name in ("m-2", "m-10", "m-1"):
        subject.keep(name, NOON)

    assert [place.message_id for place in subject.places()] == ["m-1", "m-10", "m-2"]
    assert subject.places(after=Place(NOON, MessageId("m-10"))) == [Place(NOON, MessageId("m-2"))]


def test_a_time_without_an_id_is_before_all_messages_of_its_millisecond(subject: Subject) -> None:
    subject.keep("0", NOON)
    subject.keep(" ", NOON - MILLISECOND)

    assert subject.places(after=Place(NOON)) == [Place(NOON, MessageId("0"))]
    assert subject.places(after=Place(NOON + MILLISECOND)) == []


def test_reading_goes_on_after_any_place(subject: Subject, request: pytest.FixtureRequest) -> None:
    """Whatever the ids are: with slashes, with any characters, of the same millisecond."""

    @most(request)
    @given(
        given=st.dictionaries(ids, st.sampled_from([0, 1, 2, 999, 1000, 60_000]), max_size=8),
        also=st.builds(lambda ms, name: Place(NOON + ms * MILLISECOND, name), st.integers(-1, 1001), ids),
    )
    def check(given: dict[MessageId, int], also: Place) -> None:
        subject.expire_all()
        now = subject.clock.now()
        for name, milliseconds in given.items():
            subject.keep(name, now + milliseconds * MILLISECOND)
        expected = sorted(Place(now + ms * MILLISECOND, name) for name, ms in given.items())
        also = also._replace(finished_at=also.finished_at + (now - NOON))

        assert subject.places(after=Place(now - MILLISECOND)) == expected
        for after in (*expected, also):
            assert subject.places(after=after) == [place for place in expected if place > after]

    check()


# ---- Long messages, and many of them -----------------------------------------------------------------------


def test_the_longest_messages_are_kept_in_several_pages(subject: Subject) -> None:
    """DynamoDB returns at most 1 MB at once."""
    messages = [named(f"m-{number:02}", frame=b"%02d" % number * (MAX_FRAME // 2)) for number in range(20)]
    for message in messages:
        subject.history.begin(message, EVERYONE)
    under_way = subject.under_way()
    for number, message in enumerate(messages):
        subject.history.finish(message, EVERYONE, NOON + number * MILLISECOND)

    assert under_way == [kept(message) for message in messages]
    assert subject.under_way() == []
    assert [it for _, it in subject.finished()] == under_way
    assert subject.places(after=Place(NOON + 9 * MILLISECOND, MessageId("m-09"))) == [
        Place(NOON + number * MILLISECOND, MessageId(f"m-{number}")) for number in range(10, 20)
    ]


def test_several_threads_may_use_it_at_once(subject: Subject) -> None:
    names = [f"m-{number:02}" for number in range(24)]
    subject.keep(names[0], NOON)  # of two threads that make moto's first item, one would undo the other's

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: subject.keep(name, NOON), names[1:]))

    assert subject.under_way() == []
    assert [place.message_id for place in subject.places()] == names


# ---- What is not kept any more -----------------------------------------------------------------------------


def test_a_message_whose_delivery_does_not_finish_is_kept_for_a_day(subject: Subject) -> None:
    subject.history.begin(a_message(), EVERYONE)

    subject.clock.advance(UNDER_WAY_FOR - SECOND)
    assert subject.under_way() == [kept(a_message())]
    subject.clock.advance(SECOND)
    assert subject.under_way() == []


def test_a_message_that_is_begun_again_is_kept_for_a_day_from_then_on(subject: Subject) -> None:
    subject.history.begin(a_message(), EVERYONE)
    subject.clock.advance(UNDER_WAY_FOR - SECOND)
    subject.history.begin(a_message(), EVERYONE)
    subject.clock.advance(UNDER_WAY_FOR - SECOND)

    assert subject.under_way() == [kept(a_message())]


def test_a_message_that_has_finished_is_kept_for_as_long_as_a_look_reaches_back(subject: Subject) -> None:
    subject.keep("m-1", NOON)
    place = Place(NOON, MessageId("m-1"))

    subject.clock.advance(KEPT_FOR + OVERLAP - SECOND)
    assert subject.places() == [place]
    subject.clock.advance(timedelta(minutes=6))
    assert subject.places() == []


def test_what_has_expired_is_passed_over_and_what_has_not_is_found(subject: Subject) -> None:
    subject.keep("m-1", NOON)
    subject.clock.advance(KEPT_FOR)
    subject.keep("m-2", subject.clock.now())
    subject.clock.advance(KEPT_FOR - SECOND)

    assert [place.message_id for place in subject.places()] == ["m-2"]


# ---- A message is never absent -----------------------------------------------------------------------------


def test_whoever_reads_what_is_under_way_first_misses_nothing(subject: Subject) -> None:
    subject.history.begin(a_message(), EVERYONE)

    before = subject.under_way()
    subject.history.finish(a_message(), EVERYONE, NOON)

    assert before == [kept(a_message())]
    assert [it for _, it in subject.finished()] == before


@pytest.mark.parametrize("unscoped", [False, True])
def test_a_message_is_found_at_any_time_while_it_is_finished(
    dynamodb: "DynamoDBClient", *, unscoped: bool
) -> None:
    """A reader's two steps, before or after any of the requests that finish a message."""
    table, watched = create_table(dynamodb, "HistoryTable"), Watched(SdkTransport(dynamodb))
    reader = a_history(SdkTransport(dynamodb), table, FixedClock(), unscoped=unscoped)
    writer = a_history(watched, table, FixedClock(), unscoped=unscoped)
    requests = 4 if unscoped else 2
    scopes = scopes_of(OF_ACCOUNT, unscoped=unscoped)
    runs = list(combinations_with_replacement(range(requests + 1), 2))

    for number, (first, second) in enumerate(runs):
        message, found = named(f"m-{number}"), {scope: set[KeptMessage]() for scope in scopes}

        def read(request: int, first: int = first, second: int = second, found: Any = found) -> None:
            for scope in scopes:
                if request == first:
                    found[scope] |= set(reader.under_way(scope))
                if request == second:
                    found[scope] |= {it for _, it in reader.finished(scope, START)}

        writer.begin(message, OF_ACCOUNT)
        watched.requests.clear()
        watched.before = read
        writer.finish(message, OF_ACCOUNT, NOON + number * MILLISECOND)
        watched.before = lambda _: None
        read(len(watched.requests))

        assert len(watched.requests) == requests
        for scope in scopes:
            assert kept(message, OF_ACCOUNT) in found[scope], (first, second, scope)
    assert len(runs) == (15 if unscoped else 6)


# ---- On DynamoDB -------------------------------------------------------------------------------------------


class OnDynamoDB:
    """The adapter on DynamoDB Local, its requests, and its items."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self.watched = Watched(SdkTransport(client))
        self.table = create_table(client, "HistoryTable")
        self.history = a_history(self.watched, self.table, FixedClock())
        self._client = client

    def items(self) -> "list[dict[str, AttributeValueTypeDef]]":
        return self._client.scan(TableName=self.table, ConsistentRead=True)["Items"]

    def operations(self) -> list[str]:
        return [operation for operation, _ in self.watched.requests]


@pytest.fixture
def on_local(dynamodb: "DynamoDBClient") -> OnDynamoDB:
    return OnDynamoDB(dynamodb)


def test_a_message_that_is_under_way_is_an_item_that_is_deleted_after_two_hours(on_local: OnDynamoDB) -> None:
    on_local.history.begin(a_message(), Audience(account=ACCOUNT, region=SEOUL))

    assert on_local.items() == [
        {
            "scope": {"S": "account 123456789012"},
            "position": {"S": "under way/m-1"},
            "audience": {"M": {"account": {"S": "123456789012"}, "region": {"S": "ap-northeast-2"}}},
            "frame": {"S": a_message().frame.decode()},
            "ttl": {"N": str((NOON_MS + 2 * 3600_000) // 1000)},
        }
    ]


def test_a_message_that_has_finished_is_an_item_that_is_deleted_minutes_after_the_history_ends(
    on_local: OnDynamoDB,
) -> None:
    message = a_message(expires_at=NOON + SECOND)
    on_local.history.begin(message, EVERYONE)
    on_local.history.finish(message, EVERYONE, NOON)

    assert on_local.items() == [
        {
            "scope": {"S": "everyone"},
            "position": {"S": f"finished/{NOON_MS:015}/m-1"},
            "audience": {"M": {"everyone": {"BOOL": True}}},
            "frame": {"S": message.frame.decode()},
            "ttl": {"N": str(NOON_MS // 1000 + 15 * 60 + 5 * 60)},
            "expiresAt": {"N": str(NOON_MS + 1000)},
        }
    ]


def test_a_message_to_one_connection_is_no_request(on_local: OnDynamoDB) -> None:
    audience = Audience(connection_id=ConnectionId("c-1"))
    on_local.history.begin(a_message(), audience)
    on_local.history.finish(a_message(), audience, NOON)

    assert on_local.operations() == []


def test_a_message_is_written_at_its_new_place_before_it_is_deleted_from_the_old_one(
    on_local: OnDynamoDB,
) -> None:
    on_local.history.begin(a_message(), EVERYONE)
    on_local.history.finish(a_message(), EVERYONE, NOON)

    assert on_local.operations() == ["PutItem", "PutItem", "DeleteItem"]


def test_pages_are_read_on_demand_and_consistently(on_local: OnDynamoDB) -> None:
    for number in range(20):
        message = named(f"m-{number:02}", frame=b"x" * MAX_FRAME)
        on_local.history.begin(message, EVERYONE)
        if number % 2:
            on_local.history.finish(message, EVERYONE, NOON)

    for found in (on_local.history.under_way(TO_ALL), on_local.history.finished(TO_ALL, START)):
        on_local.watched.requests.clear()
        next(iter(found))
        assert on_local.operations() == ["Query"]
        list(found)
        assert on_local.operations() == ["Query"] * 2
        assert all(request["ConsistentRead"] for _, request in on_local.watched.requests)


@contextmanager
def over(
    database: AbstractContextManager[FaultyDatabase], table: str, *, attempts: int
) -> Iterator[DynamoDBHistory]:
    with database as faulty:
        client = dynamodb_client(
            region=REGION,
            endpoint=faulty.endpoint,
            connect_timeout=timedelta(seconds=2),
            read_timeout=timedelta(seconds=10),
            attempts=attempts,
        )
        with closing(client):
            yield a_history(SdkTransport(client), table, FixedClock())


@pytest.mark.parametrize("lost", range(3))
def test_a_write_whose_answer_is_lost_is_repeated_and_changes_nothing(
    dynamodb_local: str, on_local: OnDynamoDB, lost: int
) -> None:
    """Of the three that begin and finish a message."""
    forward = forwarding_to(dynamodb_local)
    answers = [*[forward] * lost, losing_the_answer_of(dynamodb_local), forward]

    with over(faulty_database(*answers), on_local.table, attempts=2) as history:
        history.begin(a_message(), EVERYONE)
        history.finish(a_message(), EVERYONE, NOON)

        assert list(history.under_way(TO_ALL)) == []
        assert list(history.finished(TO_ALL, START)) == [(Place(NOON, MessageId("m-1")), kept(a_message()))]


@pytest.mark.parametrize("answered", range(3))
def test_a_write_that_is_refused_fails_and_what_was_written_before_stays(
    dynamodb_local: str, on_local: OnDynamoDB, answered: int
) -> None:
    answers = [*[forwarding_to(dynamodb_local)] * answered, refusing(400, "ThrottlingException")]

    def write() -> None:
        history.begin(a_message(), EVERYONE)
        history.finish(a_message(), EVERYONE, NOON)

    with (
        over(faulty_database(*answers), on_local.table, attempts=1) as history,
        pytest.raises(StorageUnavailable, match="ThrottlingException"),
    ):
        write()

    found = [*on_local.history.under_way(TO_ALL)]
    found += [it for _, it in on_local.history.finished(TO_ALL, START)]
    assert found == [kept(a_message())] * answered


def test_a_read_that_is_refused_fails_at_the_page_that_it_reads(
    dynamodb_local: str, on_local: OnDynamoDB
) -> None:
    for number in range(10):
        on_local.history.begin(named(f"m-{number:02}", frame=b"x" * MAX_FRAME), EVERYONE)
        on_local.history.finish(named(f"m-{number:02}", frame=b"x" * MAX_FRAME), EVERYONE, NOON)
    forward, refuse = forwarding_to(dynamodb_local), refusing(400, "ThrottlingException")

    with over(faulty_database(forward, refuse), on_local.table, attempts=1) as history:
        found: list[Place] = []
        with pytest.raises(StorageUnavailable):
            found.extend(place for place, _ in history.finished(TO_ALL, START))
        with pytest.raises(StorageUnavailable):
            list(history.under_way(TO_ALL))
