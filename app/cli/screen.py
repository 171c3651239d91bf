"""The output: tables for people, JSON for programs; what clients sent is escaped."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from app.domain.lifecycle import age_of, began_at
from app.domain.model import Connection
from app.domain.sweep import Outcome, Report

_MAX_CELL = 129  # characters of a value in a table: one more than a valid id or name has
_MAX_ID = 40  # columns of an id in a terminal; API Gateway's take 16
_UNBOUNDED = 10_000  # columns, if the output is no terminal
_OTHER_LINES = 3  # of a live table: its heading, its last line, the cursor
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_LABELS = {
    Outcome.REMOVED_BY_AGE: "removed by age",
    Outcome.ADMISSION_ENDED: "admission ended",
    Outcome.NOT_REMOVED: "not removed",
    Outcome.CHANGED_MEANWHILE: "changed meanwhile",
    Outcome.TOMBSTONE_REMOVED: "tombstones removed",
    Outcome.TOMBSTONE_KEPT: "tombstones kept",
    Outcome.LEFT_FOR_NEXT_TIME: "left for next time",
}
"""Of the outcomes whose name in the log is not a word."""


def plain(text: str) -> str:
    r"""Return *text* with everything escaped that could control a terminal or hide on it, as ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)


def as_json(connection: Connection) -> str:
    """Return one line of JSON with the item's names and numbers: milliseconds, but ``ttl`` in seconds."""
    facts: dict[str, object] = {
        "connectionId": connection.id,
        "clientId": connection.client_id,
        "account": connection.account,
        "region": connection.region,
        "sourceIp": connection.source_ip,
        "createdAt": _epoch_ms(connection.created_at),
        "ttl": _epoch_ms(connection.expires_at) // 1000,
    }
    if connection.connected_at is not None:
        facts["connectedAt"] = _epoch_ms(connection.connected_at)
    facts |= _further(connection)
    if connection.attributes:
        facts["attributes"] = dict(connection.attributes)
    return json.dumps(facts).replace("\x7f", r"\u007f")  # DEL, which JSON does not escape


def console() -> Console:
    """Return the standard output; in a pipe it has no colour and does not wrap lines."""
    found = Console(highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not found.is_terminal:
        found.width = _UNBOUNDED
    return found


def waiting(sentence: str) -> AbstractContextManager[object]:
    """Show *sentence* during a block, if the error output is a terminal."""
    return Console(stderr=True, markup=False, emoji=False).status(sentence)


@contextmanager
def progress(sentence: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows how many of how many are done, if the error output is a terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    errors = Console(stderr=True, markup=False, emoji=False)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task(sentence, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def listed(connections: Sequence[Connection], now: datetime, console: Console) -> Table:
    """Return a table of *connections*, one line each; in a narrow terminal the widest column is cut."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    # not cut if possible: the other commands take it
    table.add_column("connectionId", no_wrap=True, max_width=_MAX_ID if console.is_terminal else None)
    for heading in ("clientId", "account", "region", "sourceIp"):
        table.add_column(heading)
    table.add_column("for", no_wrap=True, justify="right")
    for it in connections:
        since = _duration(age_of(it, now) or timedelta())
        table.add_row(*map(_cell, (it.id, it.client_id, it.account, it.region, it.source_ip, since)))
    return table


def shown(connection: Connection, now: datetime) -> Table:
    """Return a table of all that is known of *connection*."""
    facts: dict[str, str] = {
        "connectionId": connection.id,
        "clientId": connection.client_id,
        "account": connection.account,
        "region": connection.region,
        "sourceIp": connection.source_ip,
        "connectedAt": _moment(connection.connected_at, now),
        "createdAt": _moment(connection.created_at, now),
        "ttl": _moment(connection.expires_at, now),
    }
    facts |= _further(connection)
    facts |= {f"attributes.{name}": text for name, text in connection.attributes.items()}
    return named(facts)


def summed(reports: Sequence[Report]) -> Table:
    """Return a table of the sums over the *reports* of several segments."""
    sums = {
        "open": sum(report.open for report in reports),
        "missed disconnects": sum(report.missed_disconnects for report in reports),
        "scanned": sum(report.scanned for report in reports),
        "probed": sum(report.probed for report in reports),
    }
    for outcome in Outcome:
        sums[_LABELS.get(outcome, outcome.value)] = sum(report.outcomes[outcome] for report in reports)
    segments = {"segments": f"{len(reports)} of {reports[0].of}"}
    return named(segments | {name: str(number) for name, number in sums.items()})


def named(facts: Mapping[str, str]) -> Table:
    """Return a table of *facts*: a name and a value on each line."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, value in facts.items():
        table.add_row(_cell(name), Text(plain(value), overflow="fold"))
    return table


def newest_first(connections: Sequence[Connection]) -> list[Connection]:
    """Return *connections* sorted by when they began, the newest first, and then by id."""
    return sorted(connections, key=lambda it: (_EPOCH - (began_at(it) or _EPOCH), it.id))


def counted(number: int) -> str:
    """Return the number of connections in words."""
    return {0: "Nobody is connected.", 1: "1 connection."}.get(number, f"{number} connections.")


type Show = Callable[[Sequence[Connection], datetime, str], None]


@contextmanager
def live(console: Console) -> Iterator[Show]:
    """Return a function that shows a table and a line below it in place; in a pipe, at each change."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as window:
            yield _in_one_place(console, window)
    else:
        yield _at_each_change(console)


def _in_one_place(console: Console, window: Live) -> Show:
    def show(connections: Sequence[Connection], now: datetime, line: str) -> None:
        rows = listed(connections[: max(console.height - _OTHER_LINES, 1)], now, console)
        window.update(Group(rows, Text(f"{now:%H:%M:%S} UTC  {plain(line)}", style="dim")), refresh=True)

    return show


def _at_each_change(console: Console) -> Show:
    before: tuple[Sequence[Connection], str] | None = None

    def show(connections: Sequence[Connection], now: datetime, line: str) -> None:
        nonlocal before
        if before != (connections, line):
            before = (connections, line)
            console.print(listed(connections, now, console), Text(plain(line)))

    return show


def _further(connection: Connection) -> dict[str, str]:
    further = {
        "userAgent": connection.user_agent,
        "apiId": connection.api_id,
        "domainName": connection.domain_name,
        "stage": connection.stage,
        "principalId": connection.principal_id,
    }
    return {name: text for name, text in further.items() if text is not None}


def _cell(text: str) -> Text:
    """Return *text* as one line."""
    return Text(plain(text[:_MAX_CELL]), no_wrap=True, overflow="ellipsis")


def _epoch_ms(at: datetime) -> int:
    return (at - _EPOCH) // _MILLISECOND


def _moment(at: datetime | None, now: datetime) -> str:
    if at is None:
        return "unknown"
    distance = f"{_duration(now - at)} ago" if at <= now else f"in {_duration(at - now)}"
    return f"{at.isoformat(timespec='milliseconds').replace('+00:00', 'Z')} ({distance})"


def _duration(time: timedelta) -> str:
    minutes, seconds = divmod(max(time, timedelta()) // timedelta(seconds=1), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"
