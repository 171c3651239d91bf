"""The dated table of AWS's prices, by region."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_PATH = Path(__file__).parent / "prices.toml"

UNITS = {"million": 1e-6, "GB": 1e-9, "GB-s": 1.0, "month": 1.0, "GB and month": 1e-9}
"""What a price's quantity is multiplied by: bytes are counted, a GB is 10^9 of them."""

NAMES = (
    "gateway_message",
    "gateway_minute",
    "lambda_request",
    "lambda_x86_64",
    "lambda_arm64",
    "dynamodb_write",
    "dynamodb_read",
    "logs_ingested",
    "logs_stored",
    "metric",
    "alarm",
    "dashboard",
    "sqs_request",
    "event",
    "schedule",
    "transfer_out",
)
"""Everything that a stack is charged for."""

type Dollars = float | None
"""An amount; ``None`` if a price that it needs is not known."""


class AtLeast(float):
    """A sum that lacks a part whose price is not known."""


class Price(NamedTuple):
    """A list price, AWS's page of it, and the copy that it was read from, with its date.

    A price ``is_weak`` if nobody can look the copy up.
    """

    usd: float
    per: str
    page: str
    read_from: str

    @property
    def is_weak(self) -> bool:
        return self.read_from.startswith("not named by the look-up")


class Prices:
    """The prices of a region."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = prices

    def of(self, name: str, quantity: float) -> Dollars:
        """Return what *quantity* costs, in requests, bytes, GB-seconds or months."""
        if not quantity:
            return 0.0
        price = self._prices.get(name)
        return None if price is None else quantity * price.usd * UNITS[price.per]


def regions() -> dict[str, dict[str, Price]]:
    """Return the whole table."""
    return {
        region: {name: Price(**price) for name, price in prices.items()}
        for region, prices in tomllib.loads(_PATH.read_text()).items()
    }


def total(*amounts: Dollars) -> Dollars:
    """Return the sum; ``AtLeast`` what is known of it, if a part is not."""
    known = [amount for amount in amounts if amount is not None]
    if not known:
        return None
    is_whole = len(known) == len(amounts) and not any(isinstance(it, AtLeast) for it in known)
    return sum(known) if is_whole else AtLeast(sum(known))


def times(amount: Dollars, factor: float) -> Dollars:
    """Return the product."""
    return None if amount is None else type(amount)(amount * factor)
