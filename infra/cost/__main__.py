"""``make cost``: what a stack costs on AWS, beside a plain function and beside no function at all.

ARGS="--open 5000 --region ap-northeast-2 --set MemorySize=256 --set Architecture=arm64"
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra.cost.measured import measured
from infra.cost.model import Model
from infra.cost.prices import Prices, regions
from infra.cost.scenario import MONTH, SLICES, Ours, Workload
from infra.cost.tables import Table, as_markdown, price_table, tables
from infra.cost.template import Template

_PAGE = Path(__file__).parents[1] / "docs" / "cost.md"
_MOST = 10**12  # of anything
_LARGEST_MESSAGE = 128 * 1024  # bytes, that API Gateway takes
_LARGEST_BATCH = 100  # BatchSize of the streams' mappings in the template
_LONGEST_MS = 60_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables for the given numbers."""
    prices = regions()
    parser = _parser(list(prices))
    given = sys.argv[1:] if arguments is None else arguments
    chosen = parser.parse_args(given)
    if chosen.write and len(given) > 1:
        parser.error("--write takes no other option: the page has the usual numbers.")
    try:
        stack = Ours.of(dict(chosen.set))
    except ValueError as error:
        parser.error(f"--set: {error}")
    if broken := Template(stack.given).broken_rule():
        parser.error(f"--set: {broken}")
    lifecycles = chosen.open * SLICES * MONTH if chosen.lifecycles is None else chosen.lifecycles
    work = Workload(
        open=chosen.open,
        lifecycles=lifecycles,
        deliveries=chosen.deliveries,
        recipients=chosen.recipients,
        returning=chosen.returning,
        message_bytes=chosen.message_bytes,
        cold=chosen.cold,
        batch=chosen.batch,
        store_ms=chosen.store_ms,
        gateway_ms=chosen.gateway_ms,
    )
    model = Model(Prices(prices[chosen.region]), measured(), work)
    printed = {f"{title} ({chosen.region}):": table for title, table in tables(model, stack)}
    of_prices = {"Prices in dollars:": price_table(prices)}
    if chosen.write:
        _write(printed | of_prices)
    else:
        chosen_tables = of_prices if chosen.prices else printed
        sys.stdout.write(
            "\n".join(f"{title}\n\n{as_markdown(table)}\n" for title, table in chosen_tables.items())
        )


def _write(printed: Mapping[str, Table]) -> None:
    """Replace the tables of the page by those of the same title."""
    page = _PAGE.read_text()
    for title, table in printed.items():
        before, found, rest = page.partition(f"{title}\n\n|")
        if not found:
            raise SystemExit(f"{_PAGE} has no table of the title {title!r}")
        _, blank, after = rest.partition("\n\n")
        page = f"{before}{title}\n\n{as_markdown(table)}{blank}{after}"
    _PAGE.write_text(page)


def _parser(regions_known: list[str]) -> argparse.ArgumentParser:
    usual = Workload()
    parser = argparse.ArgumentParser(
        prog="make cost", description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--region", choices=regions_known, default=regions_known[0])
    for name, kind, text in (
        ("open", _whole(0), "connections that are open all the time"),
        ("deliveries", _whole(0), "messages to clients in a month, one for each recipient"),
        ("recipients", _whole(1), "of a message"),
        ("message-bytes", _whole(1, _LARGEST_MESSAGE), "of a message"),
        ("returning", _number(1), "share of connections whose client comes back and says what it has"),
        ("cold", _number(1), "share of cold starts"),
        ("batch", _whole(1, _LARGEST_BATCH), "stream records per invocation"),
        ("store-ms", _number(_LONGEST_MS), "that a call to DynamoDB or SQS takes"),
        ("gateway-ms", _number(_LONGEST_MS), "that a call to a client takes"),
    ):
        default = getattr(usual, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} ({default:,})")
    parser.add_argument(
        "--lifecycles", type=_whole(0), help="connections that come and go in a month (one per 2 h)"
    )
    parser.add_argument(
        "--set",
        action="append",
        type=_setting,
        default=[],
        metavar="PARAMETER=VALUE",
        help="of infra/template.yaml",
    )
    parser.add_argument("--prices", action="store_true", help="print the prices instead")
    parser.add_argument("--write", action="store_true", help="put the tables into infra/docs/cost.md instead")
    return parser


def _whole(least: int, most: int = _MOST) -> Callable[[str], int]:
    """Return what reads a whole number from *least* to *most*; 1_000_000 may be written so."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {least:,} to {most:,}, not {text!r}."
            )
        return number

    return read


def _number(most: float) -> Callable[[str], float]:
    """Return what reads a number from 0 to *most*."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1
        if not 0 <= number <= most:  # so is no nan
            raise argparse.ArgumentTypeError(f"must be a number from 0 to {most:,}, not {text!r}.")
        return number

    return read


def _setting(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"must be Parameter=value, not {text!r}.")
    return name, value


if __name__ == "__main__":
    main(sys.argv[1:])
