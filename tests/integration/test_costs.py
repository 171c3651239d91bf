"""What each path costs in DynamoDB's units, as DynamoDB itself counts them."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from app.domain.delivery import MessageId
from app.domain.history import Place
from infra.cost.measured import measured
from tests.benchmarks.units import measure_units
from tests.builders import NOON
from tests.metering import LATER, Keeping, Paths, Sending

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def test_a_message_costs_a_write_at_its_beginning_at_its_end_and_after_each_page(
    own_dynamodb: "DynamoDBClient", table_name: str
) -> None:
    sending = Sending(own_dynamodb, table_name)

    assert sending.read() == (0, 0.5)
    assert sending.claim() == (1, 0)
    assert sending.record() == (1, 0)
    assert sending.release() == (1, 0)


@pytest.mark.parametrize(("size", "kilobytes"), [(700, 1), (1800, 2), (128 * 1024, 129)])
def test_keeping_a_message_costs_a_unit_per_kilobyte_at_its_beginning_and_two_at_its_end(
    own_dynamodb: "DynamoDBClient", size: int, kilobytes: int
) -> None:
    keeping = Keeping(own_dynamodb, size)

    assert keeping.begin() == kilobytes
    assert keeping.finish() == 2 * kilobytes


def test_keeping_a_message_costs_twice_as_much_if_connections_without_an_account_get_it(
    own_dynamodb: "DynamoDBClient",
) -> None:
    keeping = Keeping(own_dynamodb, size=700, unscoped=True)

    assert keeping.begin() == 2
    assert keeping.finish() == 4


@pytest.mark.parametrize(("size", "units"), [(700, 1), (5000, 2), (128 * 1024, 33)])
def test_looking_into_the_history_costs_a_unit_per_4_kilobytes_found(
    own_dynamodb: "DynamoDBClient", size: int, units: int
) -> None:
    keeping = Keeping(own_dynamodb, size)
    keeping.begin()

    assert keeping.read_under_way() == units
    keeping.finish()
    assert keeping.read_finished(Place(NOON)) == units


def test_what_is_before_a_look_costs_nothing(own_dynamodb: "DynamoDBClient") -> None:
    keeping = Keeping(own_dynamodb, size=128 * 1024)
    keeping.begin()
    keeping.finish()

    assert keeping.read_finished(Place(LATER, MessageId("m-2"))) == 0


@pytest.fixture
def paths(own_dynamodb: "DynamoDBClient", table_name: str) -> Paths:
    return Paths(own_dynamodb, table_name)


def test_an_ordinary_open_and_close_write_once_each_to_the_table_and_to_each_index(paths: Paths) -> None:
    assert paths.open() == (1, 2)
    assert paths.close() == (1, 2)


def test_a_client_that_does_not_name_itself_is_in_no_index(paths: Paths) -> None:
    assert paths.open(query={}) == (1, 0)
    assert paths.close() == (1, 0)


def test_a_connection_without_an_account_may_be_in_the_index_by_account(
    own_dynamodb: "DynamoDBClient", table_name: str
) -> None:
    paths = Paths(own_dynamodb, table_name, index_unscoped=True)

    assert paths.open(query={}) == (1, 1)
    assert paths.close() == (1, 1)


def test_a_close_that_finds_nothing_is_one_write(paths: Paths) -> None:
    assert paths.close(NOON - timedelta(hours=1)) == (1, 0)


def test_a_close_that_writes_a_tombstone_is_two_writes(paths: Paths) -> None:
    assert paths.close() == (2, 0)


def test_an_open_that_replaces_an_older_connection_also_deletes_it_from_the_indexes(paths: Paths) -> None:
    paths.open(query={"clientId": "other", "account": "111122223333"}, connected_at=NOON)

    assert paths.open(connected_at=LATER) == (1, 4)


def test_a_tombstone_that_replaces_a_connection_deletes_it_from_the_indexes(paths: Paths) -> None:
    paths.open()

    assert paths.tombstone() == (1, 2)


def test_make_cost_counts_with_the_units_that_dynamodb_counts(dynamodb_local: str) -> None:
    assert measured().units == measure_units(dynamodb_local)
