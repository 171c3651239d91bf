"""How connections look: tables for people, JSON for programs, and nothing raw of what a client sent."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.domain.model import Connection
from app.domain.sweep import Report
from app.domain.upkeep import age_of, began_at

_WIDEST = 129  # characters of one value in a list: one more than an id or a name of ours may have
_WIDEST_ID = 40  # columns of an id in a window; API Gateway's take 16
_UNBOUNDED = 10_000  # columns, where there is no window to fit into
_BESIDE_ROWS = 3  # lines of a live table: its heading, its last line, the cursor
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_FIGURES: dict[str, Callable[[Report], int]] = {
    "open": lambda report: report.open,
    "missed disconnects": lambda report: report.missed,
    "scanned": lambda report: report.scanned,
    "removed by age": lambda report: report.removed_by_age,
    "asked": lambda report: report.asked,
    "gone": lambda report: report.gone,
    "alive": lambda report: report.alive,
    "throttled": lambda report: report.throttled,
    "forbidden": lambda report: report.forbidden,
    "failed": lambda report: report.failed,
    "not removed": lambda report: report.not_removed,
    "young": lambda report: report.young,
    "changed meanwhile": lambda report: report.changed_meanwhile,
    "marks removed": lambda report: report.marks_removed,
    "marks kept": lambda report: report.marks_kept,
    "left for next time": lambda report: report.left_for_next_time,
}


def plain(text: str) -> str:
    r"""*text* with everything that could steer a terminal or hide on it written out, such as ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)


def as_json(connection: Connection) -> str:
    """One line with the row's own names and numbers: milliseconds, but ``ttl`` in seconds."""
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
    return json.dumps(facts).replace("\x7f", r"\u007f")  # DEL, the one control character that JSON lets pass


def console() -> Console:
    """The standard output: in a pipe, lines as long as they are, and no colour."""
    found = Console(highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not found.is_terminal:
        found.width = _UNBOUNDED
    return found


def waiting(sentence: str) -> AbstractContextManager[object]:
    """Show *sentence* while a block lasts, where somebody sits before a terminal."""
    return Console(stderr=True, markup=False, emoji=False).status(sentence)


def listed(connections: Sequence[Connection], now: datetime, console: Console) -> Table:
    """*connections* as they come, one line each; in a narrow window, the widest column gives way."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    # whole if it can be: it is what the other commands take
    table.add_column("connectionId", no_wrap=True, max_width=_WIDEST_ID if console.is_terminal else None)
    for heading in ("clientId", "account", "region", "sourceIp"):
        table.add_column(heading)
    table.add_column("for", no_wrap=True, justify="right")
    for it in connections:
        since = _lasting(age_of(it, now) or timedelta())
        table.add_row(*map(_cell, (it.id, it.client_id, it.account, it.region, it.source_ip, since)))
    return table


def shown(connection: Connection, now: datetime) -> Table:
    """All that is known of *connection*, one line each."""
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
    return _named(facts)


def summed(reports: Sequence[Report]) -> Table:
    """The figures of one sweep's segments, as one."""
    figures = {name: str(sum(map(figure, reports))) for name, figure in _FIGURES.items()}
    return _named({"segments": f"{len(reports)} of {reports[0].of}"} | figures)


def _named(facts: dict[str, str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, value in facts.items():
        table.add_row(_cell(name), Text(plain(value), overflow="fold"))
    return table


def newest_first(connections: Sequence[Connection]) -> list[Connection]:
    """By when they began, and by id where that is the same."""
    return sorted(connections, key=lambda it: (_EPOCH - (began_at(it) or _EPOCH), it.id))


def counted(number: int) -> str:
    """How many connections, in words."""
    return {0: "Nobody is connected.", 1: "1 connection."}.get(number, f"{number} connections.")


type Show = Callable[[Sequence[Connection], datetime, str], None]


@contextmanager
def live(console: Console) -> Iterator[Show]:
    """Show a list and a line below it, in one place; without a terminal, each time that either changes."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as window:
            yield _in_one_place(console, window)
    else:
        yield _at_each_change(console)


def _in_one_place(console: Console, window: Live) -> Show:
    def show(connections: Sequence[Connection], now: datetime, line: str) -> None:
        rows = listed(connections[: max(console.height - _BESIDE_ROWS, 1)], now, console)
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
    """*text* on one line, whatever it is."""
    return Text(plain(text[:_WIDEST]), no_wrap=True, overflow="ellipsis")


def _epoch_ms(at: datetime) -> int:
    return (at - _EPOCH) // _MILLISECOND


def _moment(at: datetime | None, now: datetime) -> str:
    if at is None:
        return "unknown"
    distance = f"{_lasting(now - at)} ago" if at <= now else f"in {_lasting(at - now)}"
    return f"{at.isoformat(timespec='milliseconds').replace('+00:00', 'Z')} ({distance})"


def _lasting(time: timedelta) -> str:
    minutes, seconds = divmod(max(time, timedelta()) // timedelta(seconds=1), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"
