"""The tables of ``make cost``, in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan

from infra.cost.model import CANNOT, SUM, Model, Rows
from infra.cost.prices import NAMES, UNITS, AtLeast, Dollars, Price, times, total
from infra.cost.scenario import LEAN, MONTH, Ours

OURS, LEANEST, PLAIN, BARE = "ours", "ours, leanest", "plain boto3", "no function"
SIZES = (128, 256, 512, 1024, 1769)
_MEMORY_STEP = 64
_HEADROOM = 1.5  # of memory over the measured peak: Lambda's report counts the runtime around it, too
_NOTHING, _UNKNOWN, _CANNOT = "–", "not known", "can't"
_SMALL = 0.001
_FREE = "of that free, in an account without another stack"
_CHEAPER = {"HistoryMinutes": "0", "SweepMinutes": "30"}  # which give up what the README promises
_DEARER = {"ConnectionsPerClient": "1", "KeepAlive": "true", "PresenceBus": "default", "RouteMetrics": "true"}

type Table = Sequence[Sequence[str]]
"""Lines of cells, the heading first."""


def tables(model: Model, stack: Ours) -> Iterator[tuple[str, Table]]:
    """Yield each table with its title, the shortest one first."""
    lean = Ours.of(stack.given | leanest(model, stack))
    work = model.work
    lifecycles = (
        model.lifecycles(stack),
        model.lifecycles(lean),
        model.plain_lifecycles(stack),
        model.bare_lifecycles(),
    )
    deliveries = (
        model.deliveries(stack),
        model.deliveries(lean),
        model.plain_deliveries(stack),
        model.bare_deliveries(),
    )
    minutes = model.bare_open_connections()
    standing = (model.open_connections(stack), model.open_connections(lean), minutes, minutes)
    fixed: tuple[Rows, ...] = (model.fixed(stack), model.fixed(lean), {SUM: 0.0}, {SUM: 0.0})
    designs = list(zip(lifecycles, deliveries, standing, fixed, strict=True))
    months = [_month(model, *rows) for rows in designs]
    yield (
        "Dollars",
        _side_by_side([_in_short(model, *rows, month) for rows, month in zip(designs, months, strict=True)]),
    )
    yield "Dollars per million connections that come and go", _side_by_side(lifecycles)
    yield f"Dollars per million deliveries, {_of_messages(model)}", _side_by_side(deliveries)
    yield "Dollars per 1,000 open connections and day", _side_by_side(standing)
    free = [times(model.free(of), -1) for of in (stack, lean)]
    yield (
        "Dollars per stack and month, whatever its traffic",
        [*_side_by_side(fixed), [_FREE, *map(_change, free), _NOTHING, _NOTHING]],
    )
    yield f"Dollars per month with {work.open:,} open connections", _side_by_side(months)
    yield "What a parameter changes, in dollars", _by_parameter(model, stack)
    yield "Memory, and what it costs and takes", _by_memory(model, stack)


def price_table(prices: Mapping[str, Mapping[str, Price]]) -> Table:
    """Return the prices by region."""
    lines = [["price", *(f"{region}, $" for region in prices), "per"]]
    for name in NAMES:
        of_regions = [of.get(name) for of in prices.values()]
        per = next(it.per for it in of_regions if it)
        cells = [_UNKNOWN if it is None else _price(it) for it in of_regions]
        lines.append([name, *cells, per])
    assert all(line[-1] in UNITS for line in lines[1:])  # noqa: S101 - the file is the repository's own
    return lines


def leanest(model: Model, stack: Ours) -> dict[str, str]:
    """Return the parameters with which *stack* costs least and breaks no promise."""
    lean = Ours.of(stack.given | LEAN)
    size = min(
        _sizes(model, plain=False), key=lambda size: model.lifecycles(lean.with_memory(size))[SUM] or 0
    )
    return {"MemorySize": str(size), **LEAN}


def cheapest(model: Model, stack: Ours, *, plain: bool) -> int:
    """Return the memory with which the handshakes cost least, in MB."""
    return min(
        _sizes(model, plain=plain),
        key=lambda size: model.handshakes(stack.with_memory(size), plain=plain) or 0,
    )


def _sizes(model: Model, *, plain: bool) -> list[int]:
    """Return the sizes of memory that suffice for all functions that have it."""
    names = ("plain_connect",) if plain else ("connect", "changes_connect", "presence_joined")
    peak = max(model.measured.functions[name]["memory_mb"] for name in names)
    return [size for size in range(SIZES[0], SIZES[-1], _MEMORY_STEP) if size >= peak * _HEADROOM]


def as_markdown(table: Table) -> str:
    """Return *table* with its columns aligned; the first is text, the others are figures."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in (table[0], rule, *table[1:])
    )


def _side_by_side(designs: Sequence[Rows]) -> Table:
    """Return a line for each row that a design has."""
    names = list(dict.fromkeys(name for rows in designs for name in rows if rows[name] != 0))
    if SUM in names:
        names = [*(name for name in names if name != SUM), SUM]
    return [
        ["", OURS, LEANEST, PLAIN, BARE],
        *(
            [name, *(_dollars(rows.get(name, 0.0 if _can(rows) else CANNOT)) for rows in designs)]
            for name in names
        ),
    ]


def _in_short(  # noqa: PLR0913, PLR0917 - the parts of a design
    model: Model, lifecycles: Rows, deliveries: Rows, standing: Rows, fixed: Rows, month: Rows
) -> Rows:
    work = model.work
    return {
        "a million connections come and go": lifecycles[SUM],
        f"a million deliveries, {_of_messages(model)}": deliveries[SUM],
        "1,000 connections are open for a day": standing[SUM],
        "a stack for a month": fixed[SUM],
        f"a month with {work.open:,} open connections and {work.deliveries:,} deliveries": month[SUM],
    }


def _of_messages(model: Model) -> str:
    return f"of messages to {model.work.recipients:,} recipients each"


def _month(model: Model, lifecycles: Rows, deliveries: Rows, standing: Rows, fixed: Rows) -> Rows:
    work = model.work
    rows = {
        f"{work.lifecycles:,} connections come and go": times(lifecycles[SUM], work.lifecycles / 1e6),
        f"{work.deliveries:,} deliveries": times(deliveries[SUM], work.deliveries / 1e6),
        f"{work.open:,} connections are open": times(standing[SUM], work.open / 1000 * MONTH),
        "the stack": fixed[SUM],
    }
    return rows | {SUM: total(*rows.values())}


def _by_parameter(model: Model, stack: Ours) -> Table:
    """Return a line for each parameter that saves something, and for some that cost something."""
    lines = [["", "million connections", "million deliveries", "1,000 open, a day", "stack and month"]]
    parts = (model.lifecycles, model.deliveries, model.open_connections, model.fixed)
    for name, value in [*leanest(model, stack).items(), *_CHEAPER.items(), *_DEARER.items()]:
        other = Ours.of(stack.given | {name: value})
        changes = [_difference(part(other), part(stack)) for part in parts]
        lines.append([f"`{name}={value}`", *map(_change, changes)])
    return lines


def _by_memory(model: Model, stack: Ours) -> Table:
    lines = [["MB", *(f"{who}, {what}" for who in (OURS, PLAIN) for what in ("cold", "warm", "$/million"))]]
    best = {plain: cheapest(model, stack, plain=plain) for plain in (False, True)}
    for size in sorted({*SIZES, *best.values()}):
        line = [f"{size:,}"]
        for plain in (False, True):
            name = "plain_connect" if plain else "connect"
            cold, warm = (model.latency(name, size, cold=cold) for cold in (True, False))
            cost = _dollars(model.handshakes(stack.with_memory(size), plain=plain))
            line += [f"{cold:,} ms", f"{warm} ms", f"**{cost}**" if size == best[plain] else cost]
        lines.append(line)
    return lines


def _can(rows: Rows) -> bool:
    return not isnan(rows.get(SUM) or 0)


def _difference(rows: Rows, before: Rows) -> Dollars:
    """Return by how much the sum of *rows* is higher; ``None`` if a row differs whose price is not known."""
    if any((rows[name] is None) != (before[name] is None) for name in rows):
        return None
    return total(rows[SUM], times(before[SUM], -1))


def _change(amount: Dollars) -> str:
    if amount is None:
        return _UNKNOWN
    return _NOTHING if abs(amount) < _SMALL else f"{amount:+.3f}"


def _price(price: Price) -> str:
    whole, _, cents = f"{price.usd:.10f}".rstrip("0").partition(".")
    return f"{whole}.{cents:0<2}" + "?" * price.is_weak


def _dollars(amount: Dollars) -> str:
    if amount is None:
        return _UNKNOWN
    if isnan(amount):
        return _CANNOT
    if amount == 0:
        return _NOTHING
    text = f"{amount:.2f}" if amount >= 1 else f"{amount:.3f}" if amount >= _SMALL else f"< {_SMALL}"
    return f"> {text}" if isinstance(amount, AtLeast) else text
