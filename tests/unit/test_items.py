"""What is in an item, whatever another program wrote there."""

from datetime import UTC, datetime, timedelta

import pytest

from app.adapters.dynamodb.items import MILLISECOND, SECOND, connection_from, item_of, time_from
from tests.builders import a_connection


@pytest.mark.parametrize(
    ("number", "unit", "expected"),
    [
        ("1", MILLISECOND, datetime(1970, 1, 1, 0, 0, 0, 1000, UTC)),
        ("1.999", SECOND, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("1.5E+3", SECOND, datetime(1970, 1, 1, 0, 25, tzinfo=UTC)),
        ("253402300799999.9", MILLISECOND, datetime.max.replace(microsecond=999000, tzinfo=UTC)),
    ],
)
def test_a_number_is_a_time_and_its_fraction_is_cut_off(
    number: str, unit: timedelta, expected: datetime
) -> None:
    assert time_from({"at": {"N": number}}, "at", unit) == expected


@pytest.mark.parametrize(
    "value",
    [
        {"N": "0"},
        {"N": "0.9"},
        {"N": "-1"},
        {"N": "253402300800000"},
        {"N": "1E+125"},
        {"N": "-1E+125"},
        {"N": "soon"},
        {"N": "NaN"},
        {"N": "Infinity"},
        {"S": "1"},
        {"N": 1},
        {"NULL": True},
        "1",
    ],
    ids=str,
)
def test_any_other_value_is_an_unknown_time(value: object) -> None:
    assert time_from({"at": value}, "at", MILLISECOND) is None
    assert time_from({}, "at", MILLISECOND) is None


def test_an_item_says_what_a_client_that_comes_back_has() -> None:
    connection = a_connection(since="@1764412345678")

    assert item_of(connection)["since"] == {"S": "@1764412345678"}
    assert connection_from(item_of(connection)) == connection


def test_an_item_of_any_other_client_has_no_such_attribute() -> None:
    item = item_of(a_connection(since=None))

    assert "since" not in item
    assert connection_from(item).since is None


@pytest.mark.parametrize("value", [{"N": "1"}, {"NULL": True}, {"S": 1}, "m-41"], ids=str)
def test_what_is_no_text_is_nothing_that_a_client_has(value: object) -> None:
    assert connection_from(item_of(a_connection()) | {"since": value}).since is None
