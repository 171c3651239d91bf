"""Times in an item, whatever another program wrote there."""

from datetime import UTC, datetime, timedelta

import pytest

from app.adapters.dynamodb.items import MILLISECOND, SECOND, time_from


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
