"""What every ConnectionTable promises, in the same sentences for each."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from app.adapters.dynamodb.sdk import SdkTransport
from app.domain.errors import InvalidSelection
from app.domain.model import AccountId, ClientId, Connection, ConnectionId, RegionName, Tombstone
from app.domain.selection import Selection
from tests.builders import NOON, NOON_MS, a_bare_connection, a_connection
from tests.dynamodb_local import a_client
from tests.integration.faulty_database import faulty_database, forwarding_to, losing_the_answer_of
from tests.stores import TABLES, Storage, a_storage, on_dynamodb

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

PAGE_SIZE = 3
MOST_PAGES = 100
DEEPLY_NESTED = b64encode(b"[" * 100_000).decode()
LATER = NOON + timedelta(seconds=1)
END_OF_TIME = datetime(9999, 12, 31, 23, 59, 59, 999000, UTC)
ONE, OTHER = AccountId("111122223333"), AccountId("444455556666")
KOREA, EUROPE, NOWHERE = RegionName("ap-northeast-2"), RegionName("eu-central-1"), RegionName("")


@pytest.fixture(params=TABLES)
def table(request: pytest.FixtureRequest) -> Iterator[Storage]:
    with a_storage(request.param, request, page_size=PAGE_SIZE) as storage:
        yield storage


@pytest.fixture
def dynamodb_table(dynamodb: "DynamoDBClient", table_name: str) -> Storage:
    return on_dynamodb(SdkTransport(dynamodb), table_name)


def add(table: Storage, name: str, **changes: object) -> Connection:
    return table.add(a_connection(id=ConnectionId(name), **changes))


def add_tombstone(table: Storage, name: str, connected_at: datetime = NOON) -> Tombstone:
    tombstone = Tombstone(ConnectionId(name), connected_at, LATER, LATER + timedelta(minutes=10))
    table.tombstone(tombstone)
    return tombstone


def listed(table: Storage, selection: Selection) -> list[str]:
    """The ids of all pages, sorted."""
    page = table.page(selection)
    pages = [page]
    while page.next is not None:
        assert len(pages) < MOST_PAGES, f"the pages do not end: {MOST_PAGES}, and no test has so many"
        page = table.page(selection, page.next)
        pages.append(page)
    return sorted(connection.id for page in pages for connection in page.connections)


@pytest.mark.parametrize("of", [1, 2, 7])
def test_the_segments_are_complete_and_disjoint(table: Storage, of: int) -> None:
    connections = [add(table, f"c-{number}") for number in range(20)]
    tombstones = [add_tombstone(table, f"t-{number}") for number in range(3)]

    found = [entry for number in range(of) for entry in table.scan(number, of)]

    assert len(found) == len(connections) + len(tombstones)
    assert all(entry in found for entry in [*connections, *tombstones])


def test_every_segment_has_its_share_of_the_entries(table: Storage) -> None:
    for number in range(64):
        add(table, b64encode(sha256(b"%d" % number).digest()[:11]).decode())  # as API Gateway's ids are

    assert all(list(table.scan(number, of=4)) for number in range(4))


def test_a_segment_of_several_dynamodb_pages_is_complete(dynamodb_table: Storage) -> None:
    large = "x" * 390_000  # three of them exceed a page's 1 MB
    names = [
        dynamodb_table.add(a_connection(id=ConnectionId(f"c-{n}"), principal_id=large)).id for n in range(7)
    ]

    found = [entry for entry in dynamodb_table.scan(0, of=1) if isinstance(entry, Connection)]

    assert sorted(entry.id for entry in found) == names


def test_the_pages_have_everything_but_the_tombstones(table: Storage) -> None:
    names = [add(table, f"c-{number}").id for number in range(10)]
    add_tombstone(table, "t-1")

    assert listed(table, Selection()) == sorted(names)
    assert table.page_size is None or len(table.page(Selection()).connections) <= table.page_size


def test_a_page_has_whole_connections(table: Storage) -> None:
    connection = add(table, "c-1")

    assert table.page(Selection(client_id=connection.client_id)).connections == (connection,)
    assert table.page(Selection(account=connection.account)).connections == (connection,)
    assert table.page(Selection()).connections == (connection,)


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
def test_a_selection_lists_exactly_the_connections_that_match(
    table: Storage, selection: Selection, expected: list[str]
) -> None:
    wall, tablet, unknown = ClientId("wall"), ClientId("tablet"), ClientId("unknown")
    add(table, "a", client_id=wall, account=ONE, region=KOREA)
    add(table, "b", client_id=tablet, account=ONE, region=KOREA)
    add(table, "c", client_id=wall, account=ONE, region=EUROPE)
    add(table, "d", client_id=tablet, account=ONE, region=NOWHERE)
    add(table, "e", client_id=wall, account=OTHER, region=KOREA)
    add(table, "f", client_id=tablet, account=AccountId(""), region=KOREA)
    add(table, "g", client_id=unknown, account=AccountId(""), region=NOWHERE)
    add_tombstone(table, "t")

    assert listed(table, selection) == expected


@pytest.mark.parametrize(
    "token",
    ["", "nonsense", "after", "e30=", "bm90IGEga2V5", "W10=", "\u00e9", DEEPLY_NESTED],
    ids=lambda it: it[:12],
)
def test_a_malformed_page_token_is_refused(table: Storage, token: str) -> None:
    for number in range(PAGE_SIZE + 1):
        add(table, f"c-{number}")

    with pytest.raises(InvalidSelection):
        table.page(Selection(), token)


def test_a_page_token_of_another_selection_is_refused(table: Storage) -> None:
    for number in range(PAGE_SIZE + 1):
        add(table, f"c-{number}")
    of_all = table.page(Selection()).next
    if of_all is None and table.page_size is None:
        pytest.skip("the adapter has no page_size that can be set, and one page has everything")

    with pytest.raises(InvalidSelection):
        table.page(Selection(account=a_connection().account), of_all)


def test_a_repeated_tombstone_is_kept_until_the_later_end(table: Storage) -> None:
    first = add_tombstone(table, "t-1")
    repeated = first._replace(expires_at=first.expires_at + timedelta(minutes=1))

    table.tombstone(repeated)

    (entry,) = table.scan(0, of=1)
    assert entry.expires_at >= repeated.expires_at


def test_delete_exact_deletes_a_connection_and_a_tombstone(table: Storage) -> None:
    connection, tombstone = add(table, "c-1"), add_tombstone(table, "t-1")

    assert table.delete_exact(connection)
    assert table.delete_exact(tombstone)
    assert list(table.scan(0, of=1)) == []


def test_delete_exact_returns_false_for_an_entry_that_is_not_there(table: Storage) -> None:
    assert not table.delete_exact(a_connection())
    assert not table.delete_exact(Tombstone(ConnectionId("t-1"), NOON, LATER, LATER))


@pytest.mark.parametrize(
    "other",
    [{"connected_at": LATER}, {"created_at": LATER}, {"connected_at": None}],
    ids=["newer", "written again", "with an unknown time"],
)
def test_delete_exact_leaves_another_connection_with_the_id(table: Storage, other: dict[str, object]) -> None:
    existing = add(table, "c-1", **other)

    assert not table.delete_exact(a_connection(id=ConnectionId("c-1")))
    assert table.get(existing.id) == existing


def test_delete_exact_tells_connections_of_unknown_times_by_when_they_were_recorded(table: Storage) -> None:
    connection = table.add(a_bare_connection())

    assert not table.delete_exact(a_connection(connected_at=None, created_at=LATER))
    assert table.delete_exact(connection)


def test_delete_exact_deletes_an_item_without_times_by_its_id(
    dynamodb: "DynamoDBClient", table_name: str, dynamodb_table: Storage
) -> None:
    for item in ({"connectionId": {"S": "c-1"}}, {"connectionId": {"S": "t-1"}, "closedAt": {"N": "1"}}):
        dynamodb.put_item(TableName=table_name, Item=item)

    assert all(dynamodb_table.delete_exact(entry) for entry in dynamodb_table.scan(0, of=1))
    assert list(dynamodb_table.scan(0, of=1)) == []


ODD_TIMES: "dict[str, AttributeValueTypeDef]" = {
    "text": {"S": "2126-11-21T12:00:00Z"},
    "null": {"NULL": True},
    "zero": {"N": "0"},
    "less than one unit": {"N": "0.5"},
    "before 1970": {"N": "-1.5"},
    "seconds with a fraction": {"N": f"{NOON_MS // 1000}.123456"},
    "milliseconds with a fraction": {"N": f"{NOON_MS}.5"},
    "microseconds": {"N": f"{NOON_MS}000"},
    "after the year 9999": {"N": "1E+100"},
    "the last millisecond of the year 9999": {"N": "253402300799999.5"},
}


@pytest.mark.parametrize("odd", ODD_TIMES.values(), ids=ODD_TIMES)
@pytest.mark.parametrize("attribute", ["connectedAt", "createdAt"])
def test_an_item_with_an_odd_time_can_be_removed(
    dynamodb: "DynamoDBClient",
    table_name: str,
    dynamodb_table: Storage,
    attribute: str,
    odd: "AttributeValueTypeDef",
) -> None:
    item: dict[str, AttributeValueTypeDef] = {
        "connectionId": {"S": "c-1"},
        "createdAt": {"N": str(NOON_MS)},
        attribute: odd,
    }
    removals: list[Callable[[], bool]] = [
        lambda: dynamodb_table.remove(ConnectionId("c-1"), END_OF_TIME).connection is not None,
        lambda: dynamodb_table.remove(ConnectionId("c-1"), None).connection is not None,
        lambda: all(dynamodb_table.delete_exact(entry) for entry in dynamodb_table.scan(0, of=1)),
        lambda: add_tombstone(dynamodb_table, "c-1", END_OF_TIME) in dynamodb_table.scan(0, of=1),
    ]

    for is_removed in removals:
        dynamodb.put_item(TableName=table_name, Item=item)
        assert is_removed()
        assert dynamodb_table.get(ConnectionId("c-1")) is None


@pytest.mark.parametrize("odd", ODD_TIMES.values(), ids=ODD_TIMES)
def test_a_connection_replaces_only_an_item_with_a_known_and_older_time(
    dynamodb: "DynamoDBClient", table_name: str, dynamodb_table: Storage, odd: "AttributeValueTypeDef"
) -> None:
    item: dict[str, AttributeValueTypeDef] = {
        "connectionId": {"S": "c-1"},
        "createdAt": {"N": str(NOON_MS)},
        "connectedAt": odd,
    }
    dynamodb.put_item(TableName=table_name, Item=item)
    existing = dynamodb_table.get(ConnectionId("c-1"))
    assert existing is not None

    added = dynamodb_table.add(a_connection(id=existing.id, connected_at=END_OF_TIME))

    is_older = existing.connected_at is not None and existing.connected_at < END_OF_TIME
    assert (added == existing) is not is_older
    assert dynamodb_table.get(existing.id) == added


@pytest.mark.parametrize("odd", ODD_TIMES.values(), ids=ODD_TIMES)
@pytest.mark.parametrize("attribute", ["connectedAt", "closedAt"])
def test_delete_exact_deletes_a_tombstone_with_an_odd_time(
    dynamodb: "DynamoDBClient",
    table_name: str,
    dynamodb_table: Storage,
    attribute: str,
    odd: "AttributeValueTypeDef",
) -> None:
    item: dict[str, AttributeValueTypeDef] = {
        "connectionId": {"S": "c-1"},
        "closedAt": {"N": str(NOON_MS)},
        attribute: odd,
    }
    dynamodb.put_item(TableName=table_name, Item=item)

    assert [dynamodb_table.delete_exact(entry) for entry in dynamodb_table.scan(0, of=1)] == [True]
    assert list(dynamodb_table.scan(0, of=1)) == []


@pytest.mark.parametrize(
    ("odd", "changed"),
    [
        (f"{NOON_MS}.5", f"{NOON_MS + 1}.5"),
        (f"{NOON_MS + 1}.5", f"{NOON_MS}.5"),
        (f"{NOON_MS}000", str(NOON_MS)),
        (str(NOON_MS), f"{NOON_MS}000"),
        ("0", "1"),
        ("1", "0"),
    ],
)
def test_delete_exact_leaves_an_item_whose_odd_time_has_changed(
    dynamodb: "DynamoDBClient", table_name: str, dynamodb_table: Storage, odd: str, changed: str
) -> None:
    item: dict[str, AttributeValueTypeDef] = {"connectionId": {"S": "c-1"}, "createdAt": {"N": odd}}
    dynamodb.put_item(TableName=table_name, Item=item)
    [entry] = dynamodb_table.scan(0, of=1)
    dynamodb.put_item(TableName=table_name, Item=item | {"createdAt": {"N": changed}})

    assert not dynamodb_table.delete_exact(entry)
    assert dynamodb_table.get(ConnectionId("c-1")) is not None


def test_delete_exact_returns_true_if_an_earlier_attempt_may_have_deleted_the_entry(
    dynamodb_local: str, table_name: str, dynamodb_table: Storage
) -> None:
    connection = dynamodb_table.add(a_connection())

    with (
        faulty_database(losing_the_answer_of(dynamodb_local), forwarding_to(dynamodb_local)) as database,
        closing(a_client(database.endpoint)) as client,
    ):
        assert on_dynamodb(SdkTransport(client), table_name).delete_exact(connection)
    assert not dynamodb_table.delete_exact(connection)


def test_delete_exact_never_takes_a_tombstone_for_a_connection_or_the_reverse(table: Storage) -> None:
    tombstone = add_tombstone(table, "c-1")
    connection = add(table, "c-2")

    assert not table.delete_exact(a_connection(id=ConnectionId("c-1"), connected_at=NOON))
    assert not table.delete_exact(Tombstone(connection.id, NOON, LATER, LATER))
    assert sorted(table.scan(0, of=1), key=str) == sorted([tombstone, connection], key=str)


def test_concurrent_calls_from_several_threads_are_safe(table: Storage) -> None:
    connections = [add(table, f"c-{number}") for number in range(64)]

    def is_found_and_deleted(connection: Connection) -> bool:
        return table.get(connection.id) == connection and table.delete_exact(connection)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_found_and_deleted, connections))
    assert list(table.scan(0, of=1)) == []


def test_a_region_without_an_account_is_refused() -> None:
    with pytest.raises(InvalidSelection, match="account"):
        Selection(region=KOREA)
