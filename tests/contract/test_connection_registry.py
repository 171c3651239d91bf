"""What every ConnectionRegistry promises beyond its store: to be read and repaired as a whole."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from app.adapters.dynamodb import DynamoDBConnectionRegistry
from app.domain.model import AccountId, ClientId, Connection, ConnectionId, RegionName
from app.domain.ports import ConnectionRegistry
from app.domain.upkeep import InvalidSelection, Selection, Tombstone
from tests.builders import NOON, NOON_MS, a_bare_connection, a_connection
from tests.dynamodb_local import a_client
from tests.integration.faulty_database import faulty_database, forwarding_to, losing_the_answer_of
from tests.stores import REGISTRIES, a_registry

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PAGE_SIZE = 3
LATER = NOON + timedelta(seconds=1)
END_OF_TIME = datetime(9999, 12, 31, 23, 59, 59, 999000, UTC)
ONE, OTHER = AccountId("111122223333"), AccountId("444455556666")
KOREA, EUROPE, NOWHERE = RegionName("ap-northeast-2"), RegionName("eu-central-1"), RegionName("")


@pytest.fixture(params=REGISTRIES)
def registry(request: pytest.FixtureRequest) -> Iterator[ConnectionRegistry]:
    with a_registry(request.param, request, page_size=PAGE_SIZE) as registry:
        yield registry


def add(registry: ConnectionRegistry, name: str, **changes: object) -> Connection:
    return registry.add(a_connection(id=ConnectionId(name), **changes))


def mark(registry: ConnectionRegistry, name: str, connected_at: datetime = NOON) -> Tombstone:
    marked = Tombstone(ConnectionId(name), connected_at, LATER, LATER + timedelta(minutes=10))
    registry.mark_closed(
        marked.connection_id, connected_at=connected_at, closed_at=marked.closed_at, until=marked.expires_at
    )
    return marked


def listed(registry: ConnectionRegistry, selection: Selection) -> list[str]:
    """The ids of all pages, sorted."""
    ids: list[str] = []
    page = registry.page(selection)
    ids += [connection.id for connection in page.connections]
    while page.next is not None:
        page = registry.page(selection, page.next)
        ids += [connection.id for connection in page.connections]
    return sorted(ids)


@pytest.mark.parametrize("of", [1, 2, 7])
def test_the_segments_together_are_everything_and_do_not_overlap(
    registry: ConnectionRegistry, of: int
) -> None:
    connections = [add(registry, f"c-{number}") for number in range(20)]
    marks = [mark(registry, f"m-{number}") for number in range(3)]

    found = [entry for number in range(of) for entry in registry.segment(number, of)]

    assert len(found) == len(connections) + len(marks)
    assert all(entry in found for entry in [*connections, *marks])


def test_a_segment_that_is_more_than_dynamodb_reads_at_once_is_whole(
    dynamodb: "DynamoDBClient", table: str
) -> None:
    registry = DynamoDBConnectionRegistry(dynamodb, table)
    large = "x" * 390_000  # three of them are more than 1 MB
    names = [registry.add(a_connection(id=ConnectionId(f"c-{n}"), principal_id=large)).id for n in range(7)]

    found = [entry for entry in registry.segment(0, of=1) if isinstance(entry, Connection)]

    assert sorted(entry.id for entry in found) == names


def test_everything_is_on_the_pages_but_the_marks(registry: ConnectionRegistry) -> None:
    names = [add(registry, f"c-{number}").id for number in range(10)]
    mark(registry, "m-1")

    assert listed(registry, Selection()) == sorted(names)
    assert len(registry.page(Selection()).connections) <= PAGE_SIZE


def test_a_page_holds_whole_connections(registry: ConnectionRegistry) -> None:
    connection = add(registry, "c-1")

    assert registry.page(Selection(client_id=connection.client_id)).connections == (connection,)
    assert registry.page(Selection(account=connection.account)).connections == (connection,)
    assert registry.page(Selection()).connections == (connection,)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(account=ONE), ["a", "b", "c", "d"]),
        (Selection(account=ONE, region=KOREA), ["a", "b"]),
        (Selection(account=ONE, region=NOWHERE), ["d"]),
        (Selection(account=OTHER), ["e"]),
        (Selection(account=AccountId("")), ["f", "g"]),
        (Selection(account=AccountId(""), region=KOREA), ["f"]),
        (Selection(client_id=ClientId("wall")), ["a", "c", "e"]),
        (Selection(client_id=ClientId("wall"), account=ONE), ["a", "c"]),
        (Selection(client_id=ClientId("wall"), account=ONE, region=EUROPE), ["c"]),
        (Selection(client_id=ClientId("unknown")), ["g"]),
        (Selection(client_id=ClientId("nobody")), []),
        (Selection(), ["a", "b", "c", "d", "e", "f", "g"]),
    ],
    ids=str,
)
def test_a_selection_is_all_that_fits_it_and_nothing_else(
    registry: ConnectionRegistry, selection: Selection, expected: list[str]
) -> None:
    wall, tablet, unknown = ClientId("wall"), ClientId("tablet"), ClientId("unknown")
    add(registry, "a", client_id=wall, account=ONE, region=KOREA)
    add(registry, "b", client_id=tablet, account=ONE, region=KOREA)
    add(registry, "c", client_id=wall, account=ONE, region=EUROPE)
    add(registry, "d", client_id=tablet, account=ONE, region=NOWHERE)
    add(registry, "e", client_id=wall, account=OTHER, region=KOREA)
    add(registry, "f", client_id=tablet, account=AccountId(""), region=KOREA)
    add(registry, "g", client_id=unknown, account=AccountId(""), region=NOWHERE)
    mark(registry, "m")

    assert listed(registry, selection) == expected


@pytest.mark.parametrize("token", ["", "nonsense", "after", "e30=", "bm90IGEga2V5", "W10=", "\u00e9"])
def test_what_no_page_gave_is_no_place_to_go_on_from(registry: ConnectionRegistry, token: str) -> None:
    for number in range(PAGE_SIZE + 1):
        add(registry, f"c-{number}")

    with pytest.raises(InvalidSelection, match="^That is not where a page"):
        registry.page(Selection(), token)


def test_where_the_page_of_another_selection_ended_is_no_place_either(registry: ConnectionRegistry) -> None:
    for number in range(PAGE_SIZE + 1):
        add(registry, f"c-{number}")
    of_all = registry.page(Selection()).next

    with pytest.raises(InvalidSelection, match="^That is not where a page"):
        registry.page(Selection(account=a_connection().account), of_all)


def test_what_is_forgotten_is_there_no_more(registry: ConnectionRegistry) -> None:
    connection, marked = add(registry, "c-1"), mark(registry, "m-1")

    assert registry.forget(connection)
    assert registry.forget(marked)
    assert list(registry.segment(0, of=1)) == []


def test_what_is_not_there_can_not_be_forgotten(registry: ConnectionRegistry) -> None:
    assert not registry.forget(a_connection())
    assert not registry.forget(Tombstone(ConnectionId("m-1"), NOON, LATER, LATER))


@pytest.mark.parametrize(
    "since",
    [{"connected_at": LATER}, {"created_at": LATER}, {"connected_at": None}],
    ids=["newer", "written again", "of unknown time"],
)
def test_what_has_its_id_since_stays(registry: ConnectionRegistry, since: dict[str, object]) -> None:
    there = add(registry, "c-1", **since)

    assert not registry.forget(a_connection(id=ConnectionId("c-1")))
    assert registry.get(there.id) == there


def test_a_connection_of_unknown_time_is_forgotten_by_when_it_was_recorded(
    registry: ConnectionRegistry,
) -> None:
    connection = registry.add(a_bare_connection())

    assert not registry.forget(a_connection(connected_at=None, created_at=LATER))
    assert registry.forget(connection)


def test_a_row_that_tells_no_time_is_forgotten_by_its_id(dynamodb: "DynamoDBClient", table: str) -> None:
    registry = DynamoDBConnectionRegistry(dynamodb, table)
    for row in ({"connectionId": {"S": "c-1"}}, {"connectionId": {"S": "m-1"}, "closedAt": {"N": "1"}}):
        dynamodb.put_item(TableName=table, Item=row)

    assert all(registry.forget(entry) for entry in registry.segment(0, of=1))
    assert list(registry.segment(0, of=1)) == []


ODD_TIMES = {
    "text": {"S": "2126-11-21T12:00:00Z"},
    "null": {"NULL": True},
    "zero": {"N": "0"},
    "less than a unit": {"N": "0.5"},
    "before 1970": {"N": "-1.5"},
    "seconds with a fraction": {"N": f"{NOON_MS // 1000}.123456"},
    "milliseconds with a fraction": {"N": f"{NOON_MS}.5"},
    "microseconds": {"N": f"{NOON_MS}000"},
    "beyond any calendar": {"N": "1E+100"},
    "the calendar's last": {"N": "253402300799999.5"},
}


@pytest.mark.parametrize("odd", ODD_TIMES.values(), ids=ODD_TIMES)
@pytest.mark.parametrize("attribute", ["connectedAt", "createdAt"])
def test_a_row_of_an_odd_time_is_removed_like_any_other(
    dynamodb: "DynamoDBClient", table: str, attribute: str, odd: dict[str, object]
) -> None:
    registry = DynamoDBConnectionRegistry(dynamodb, table)
    row = {"connectionId": {"S": "c-1"}, "createdAt": {"N": str(NOON_MS)}, attribute: odd}
    removals: list[Callable[[], bool]] = [
        lambda: registry.remove(ConnectionId("c-1"), END_OF_TIME).connection is not None,
        lambda: registry.remove(ConnectionId("c-1"), None).connection is not None,
        lambda: all(registry.forget(entry) for entry in registry.segment(0, of=1)),
        lambda: mark(registry, "c-1", END_OF_TIME) in registry.segment(0, of=1),
    ]

    for is_removed in removals:
        dynamodb.put_item(TableName=table, Item=row)  # type: ignore[arg-type]
        assert is_removed()
        assert registry.get(ConnectionId("c-1")) is None


@pytest.mark.parametrize("odd", ODD_TIMES.values(), ids=ODD_TIMES)
def test_only_a_row_of_a_known_and_older_time_gives_way_to_a_connection(
    dynamodb: "DynamoDBClient", table: str, odd: dict[str, object]
) -> None:
    registry = DynamoDBConnectionRegistry(dynamodb, table)
    row = {"connectionId": {"S": "c-1"}, "createdAt": {"N": str(NOON_MS)}, "connectedAt": odd}
    dynamodb.put_item(TableName=table, Item=row)  # type: ignore[arg-type]
    there = registry.get(ConnectionId("c-1"))
    assert there is not None

    added = registry.add(a_connection(id=there.id, connected_at=END_OF_TIME))

    is_older = there.connected_at is not None and there.connected_at < END_OF_TIME
    assert (added == there) is not is_older
    assert registry.get(there.id) == added


@pytest.mark.parametrize("odd", ODD_TIMES.values(), ids=ODD_TIMES)
@pytest.mark.parametrize("attribute", ["connectedAt", "closedAt"])
def test_a_mark_of_an_odd_time_is_forgotten_like_any_other(
    dynamodb: "DynamoDBClient", table: str, attribute: str, odd: dict[str, object]
) -> None:
    registry = DynamoDBConnectionRegistry(dynamodb, table)
    row = {"connectionId": {"S": "c-1"}, "closedAt": {"N": str(NOON_MS)}, attribute: odd}
    dynamodb.put_item(TableName=table, Item=row)  # type: ignore[arg-type]

    assert [registry.forget(entry) for entry in registry.segment(0, of=1)] == [True]
    assert list(registry.segment(0, of=1)) == []


@pytest.mark.parametrize(
    ("odd", "since"),
    [
        (f"{NOON_MS}.5", f"{NOON_MS + 1}.5"),
        (f"{NOON_MS + 1}.5", f"{NOON_MS}.5"),
        (f"{NOON_MS}000", str(NOON_MS)),
        (str(NOON_MS), f"{NOON_MS}000"),
        ("0", "1"),
        ("1", "0"),
    ],
)
def test_a_row_of_an_odd_time_stays_where_it_is_another_since(
    dynamodb: "DynamoDBClient", table: str, odd: str, since: str
) -> None:
    registry = DynamoDBConnectionRegistry(dynamodb, table)
    row = {"connectionId": {"S": "c-1"}, "createdAt": {"N": odd}}
    dynamodb.put_item(TableName=table, Item=row)
    [entry] = registry.segment(0, of=1)
    dynamodb.put_item(TableName=table, Item=row | {"createdAt": {"N": since}})

    assert not registry.forget(entry)
    assert registry.get(ConnectionId("c-1")) is not None


def test_a_removal_whose_answer_was_lost_may_have_been_done(
    dynamodb: "DynamoDBClient", dynamodb_local: str, table: str
) -> None:
    connection = DynamoDBConnectionRegistry(dynamodb, table).add(a_connection())

    with (
        faulty_database(losing_the_answer_of(dynamodb_local), forwarding_to(dynamodb_local)) as database,
        closing(a_client(database.endpoint)) as client,
    ):
        assert DynamoDBConnectionRegistry(client, table).forget(connection)
    assert not DynamoDBConnectionRegistry(dynamodb, table).forget(connection)


def test_a_connection_is_not_forgotten_by_its_mark_nor_a_mark_by_its_connection(
    registry: ConnectionRegistry,
) -> None:
    marked = mark(registry, "c-1")
    connection = add(registry, "c-2")

    assert not registry.forget(a_connection(id=ConnectionId("c-1"), connected_at=NOON))
    assert not registry.forget(Tombstone(connection.id, NOON, LATER, LATER))
    assert sorted(registry.segment(0, of=1), key=str) == sorted([marked, connection], key=str)


def test_several_threads_may_call_it_at_once(registry: ConnectionRegistry) -> None:
    def comes_and_goes(number: int) -> bool:
        connection = add(registry, f"c-{number}")
        there = registry.get(connection.id) == connection
        return there and registry.remove(connection.id, NOON).connection == connection

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(comes_and_goes, range(64)))
    assert list(registry.segment(0, of=1)) == []


def test_a_region_is_looked_up_within_an_account() -> None:
    with pytest.raises(InvalidSelection, match="account"):
        Selection(region=KOREA)
