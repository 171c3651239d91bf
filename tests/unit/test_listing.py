"""Reading the list and ending a connection by hand, on fakes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.memory import MemoryConnectionStore
from app.domain.errors import StorageUnavailable
from app.domain.listing import GetConnection, HangUp, HungUp, ListConnections
from app.domain.model import AccountId, ClientId, Connection, ConnectionId, RegionName
from app.domain.upkeep import Answer, Entry, InvalidSelection, Page, Selection
from tests.builders import NOON, FixedClock, a_connection

C1 = ConnectionId("c-1")
HOURS_2 = timedelta(hours=2)
SECOND = timedelta(seconds=1)
UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)


class AnsweringGateway:
    """Gateway that gives the same answer to everything, and remembers what it was asked to close."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.closed: list[Connection] = []

    def ask(self, connection: Connection) -> Answer:
        return self.answer

    def close(self, connection: Connection) -> Answer:
        self.closed.append(connection)
        return self.answer


class ForgetfulNot(MemoryConnectionStore):
    """A registry that does not confirm that it forgot."""

    def forget(self, entry: Entry) -> bool:
        raise StorageUnavailable("ReadTimeoutError", outcome_unknown=True)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def registry() -> MemoryConnectionStore:
    return MemoryConnectionStore(page_size=2)


@pytest.fixture
def list_connections(registry: MemoryConnectionStore, clock: FixedClock) -> ListConnections:
    return ListConnections(registry, clock)


@pytest.fixture
def get_connection(registry: MemoryConnectionStore, clock: FixedClock) -> GetConnection:
    return GetConnection(registry, clock)


def add(registry: MemoryConnectionStore, *ids: str, **changes: Any) -> None:
    for name in ids:
        registry.add(a_connection(id=ConnectionId(name), **changes))


def ids(page: Page) -> list[str]:
    return [connection.id for connection in page.connections]


def test_the_list_comes_page_by_page(
    list_connections: ListConnections, registry: MemoryConnectionStore
) -> None:
    add(registry, "c-1", "c-2", "c-3")

    first = list_connections(Selection())
    second = list_connections(Selection(), first.next)

    assert (ids(first), ids(second)) == (["c-1", "c-2"], ["c-3"])
    assert second.next is None


def test_a_page_may_be_empty_and_still_not_the_last(
    list_connections: ListConnections, registry: MemoryConnectionStore
) -> None:
    add(registry, "c-1", "c-2", expires_at=NOON - SECOND)
    add(registry, "c-3")

    page = list_connections(Selection())

    assert page.connections == ()
    assert page.next is not None


def test_all_of_it_passes_over_empty_pages(
    list_connections: ListConnections, registry: MemoryConnectionStore
) -> None:
    add(registry, "c-1", "c-2", "c-3", "c-4", expires_at=NOON - SECOND)
    add(registry, "c-0", "c-5")

    assert [it.id for it in list_connections.all(Selection())] == ["c-0", "c-5"]


def test_of_an_empty_list_all_is_nothing(list_connections: ListConnections) -> None:
    assert list(list_connections.all(Selection())) == []


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(), ["c-1", "c-2", "c-3"]),
        (Selection(account=AccountId("111111111111")), ["c-1", "c-2"]),
        (Selection(account=AccountId("111111111111"), region=RegionName("eu-central-1")), ["c-2"]),
        (Selection(client_id=ClientId("wall-3")), ["c-2", "c-3"]),
        (Selection(account=AccountId("111111111111"), client_id=ClientId("wall-3")), ["c-2"]),
        (Selection(client_id=ClientId("nobody")), []),
    ],
)
def test_only_what_is_selected_is_listed(
    list_connections: ListConnections,
    registry: MemoryConnectionStore,
    selection: Selection,
    found: list[str],
) -> None:
    add(registry, "c-1", account="111111111111", region="us-east-1", client_id="wall-1")
    add(registry, "c-2", account="111111111111", region="eu-central-1", client_id="wall-3")
    add(registry, "c-3", account="222222222222", region="eu-central-1", client_id="wall-3")

    assert [it.id for it in list_connections.all(selection)] == found


def test_what_no_page_gave_is_no_place_to_go_on(list_connections: ListConnections) -> None:
    with pytest.raises(InvalidSelection):
        list_connections(Selection(), "somewhere")


BEGAN = [
    pytest.param({"connected_at": NOON}, HOURS_2 - SECOND, id="by the gateway"),
    pytest.param({"connected_at": None, "created_at": NOON}, HOURS_2 - SECOND, id="by our own clock"),
    pytest.param(
        {"connected_at": UNKNOWN, "created_at": NOON}, HOURS_2 - SECOND, id="where the other can't be"
    ),
]


@pytest.mark.parametrize(("times", "last_seen"), BEGAN)
def test_a_connection_is_listed_for_as_long_as_the_gateway_lets_it_last(
    list_connections: ListConnections,
    get_connection: GetConnection,
    registry: MemoryConnectionStore,
    clock: FixedClock,
    times: dict[str, datetime | None],
    last_seen: timedelta,
) -> None:
    add(registry, "c-1", **times)

    clock.advance(last_seen)
    assert ids(list_connections(Selection())) == ["c-1"]
    assert get_connection(C1) is not None

    clock.advance(SECOND)
    assert ids(list_connections(Selection())) == []
    assert get_connection(C1) is None


def test_a_connection_is_listed_until_it_expires(
    list_connections: ListConnections,
    get_connection: GetConnection,
    registry: MemoryConnectionStore,
    clock: FixedClock,
) -> None:
    add(registry, "c-1", expires_at=NOON + 2 * SECOND)

    clock.advance(SECOND)
    assert ids(list_connections(Selection())) == ["c-1"]
    assert get_connection(C1) is not None

    clock.advance(SECOND)
    assert ids(list_connections(Selection())) == []
    assert get_connection(C1) is None


@pytest.mark.parametrize(
    "times",
    [
        {"connected_at": None, "created_at": UNKNOWN},
        {"connected_at": UNKNOWN, "created_at": UNKNOWN},
        {"expires_at": UNKNOWN},
    ],
    ids=["our time", "either time", "end"],
)
def test_what_nobody_knows_the_time_of_is_not_listed(
    list_connections: ListConnections, registry: MemoryConnectionStore, times: dict[str, datetime | None]
) -> None:
    add(registry, "c-1", **times)

    assert ids(list_connections(Selection())) == []


def test_the_mark_of_a_closed_connection_is_not_listed(
    list_connections: ListConnections, get_connection: GetConnection, registry: MemoryConnectionStore
) -> None:
    registry.mark_closed(C1, connected_at=NOON, closed_at=NOON, until=NOON + HOURS_2)

    assert ids(list_connections(Selection())) == []
    assert get_connection(C1) is None


def test_what_is_unknown_is_none(get_connection: GetConnection) -> None:
    assert get_connection(C1) is None


moments = st.integers(-4 * 3600, 4 * 3600).map(lambda seconds: NOON + timedelta(seconds=seconds))


@given(st.lists(st.tuples(moments, moments, st.none() | moments), max_size=12))
def test_whatever_the_rows_say_nothing_is_listed_whose_time_is_over(
    rows: list[tuple[datetime, datetime, datetime | None]],
) -> None:
    registry = MemoryConnectionStore(page_size=3)
    for number, (created_at, expires_at, connected_at) in enumerate(rows):
        add(
            registry,
            f"c-{number:02}",
            created_at=created_at,
            expires_at=expires_at,
            connected_at=connected_at,
        )

    listed = {it.id for it in ListConnections(registry, FixedClock()).all(Selection())}

    assert listed == {
        f"c-{number:02}"
        for number, (created_at, expires_at, connected_at) in enumerate(rows)
        if expires_at > NOON and (connected_at or created_at) > NOON - HOURS_2
    }


def hang_up(registry: MemoryConnectionStore, gateway: AnsweringGateway, *, after: timedelta) -> HangUp:
    return HangUp(registry, gateway, FixedClock(NOON + after), grace=timedelta(seconds=30))


def test_what_the_gateway_closed_is_forgotten(registry: MemoryConnectionStore) -> None:
    add(registry, "c-1")
    gateway = AnsweringGateway(Answer.CLOSED)

    outcome = hang_up(registry, gateway, after=SECOND)(C1)

    assert outcome == HungUp(a_connection(), Answer.CLOSED, forgotten=True)
    assert gateway.closed == [a_connection()]
    assert registry.get(C1) is None


def test_a_connection_whose_time_is_over_can_be_closed_too(registry: MemoryConnectionStore) -> None:
    add(registry, "c-1", expires_at=NOON - SECOND)

    close = hang_up(registry, AnsweringGateway(Answer.CLOSED), after=SECOND)

    assert close.find(C1) == a_connection(expires_at=NOON - SECOND)
    assert close(C1) is not None
    assert close.find(C1) is None


def test_it_is_told_where_a_closed_connection_could_not_be_forgotten() -> None:
    registry = ForgetfulNot()
    registry.add(a_connection())

    outcome = hang_up(registry, AnsweringGateway(Answer.CLOSED), after=SECOND)(C1)

    assert outcome == HungUp(a_connection(), Answer.CLOSED, forgotten=False)


def test_where_nothing_was_ended_a_silent_store_is_an_error() -> None:
    registry = ForgetfulNot()
    registry.add(a_connection())

    with pytest.raises(StorageUnavailable):
        hang_up(registry, AnsweringGateway(Answer.GONE), after=timedelta(minutes=1))(C1)


@pytest.mark.parametrize("connected_at", [NOON, None, UNKNOWN])
@pytest.mark.parametrize(("age", "forgotten"), [(29, False), (30, True)])
def test_what_the_gateway_does_not_know_is_forgotten_once_it_is_past_the_grace_period(
    registry: MemoryConnectionStore, connected_at: datetime | None, age: int, *, forgotten: bool
) -> None:
    connection = a_connection(connected_at=connected_at, created_at=NOON)
    registry.add(connection)

    outcome = hang_up(registry, AnsweringGateway(Answer.GONE), after=age * SECOND)(C1)

    assert outcome == HungUp(connection, Answer.GONE, forgotten=forgotten)
    assert (registry.get(C1) is None) == forgotten


def test_no_grace_is_given_to_what_nobody_knows_the_age_of(registry: MemoryConnectionStore) -> None:
    add(registry, "c-1", connected_at=None, created_at=UNKNOWN)

    hang_up(registry, AnsweringGateway(Answer.GONE), after=SECOND)(C1)

    assert registry.get(C1) is None


@pytest.mark.parametrize("answer", [Answer.ALIVE, Answer.THROTTLED, Answer.FORBIDDEN, Answer.FAILED])
def test_on_any_other_answer_the_connection_stays(registry: MemoryConnectionStore, answer: Answer) -> None:
    add(registry, "c-1")

    outcome = hang_up(registry, AnsweringGateway(answer), after=timedelta(hours=1))(C1)

    assert outcome == HungUp(a_connection(), answer, forgotten=False)
    assert registry.get(C1) == a_connection()


def test_there_is_nothing_to_close_that_is_unknown(registry: MemoryConnectionStore) -> None:
    gateway = AnsweringGateway(Answer.CLOSED)

    assert hang_up(registry, gateway, after=SECOND)(C1) is None
    assert gateway.closed == []
