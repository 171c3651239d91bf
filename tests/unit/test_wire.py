"""A time in a row, whatever somebody wrote there."""

from datetime import UTC, datetime, timedelta

import pytest

from app.adapters.dynamodb_wire import MILLISECOND, SECOND, moment


@pytest.mark.parametrize(
    ("number", "unit", "expected"),
    [
        ("1", MILLISECOND, datetime(1970, 1, 1, 0, 0, 0, 1000, UTC)),
        ("1.999", SECOND, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("1.5E+3", SECOND, datetime(1970, 1, 1, 0, 25, tzinfo=UTC)),
        ("253402300799999.9", MILLISECOND, datetime.max.replace(microsecond=999000, tzinfo=UTC)),
    ],
)
def test_a_number_is_a_time_without_its_fraction(number: str, unit: timedelta, expected: datetime) -> None:
    assert moment({"at": {"N": number}}, "at", unit) == expected


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
def test_what_is_no_time_is_unknown(value: object) -> None:
    assert moment({"at": value}, "at", MILLISECOND) is None
    assert moment({}, "at", MILLISECOND) is None
