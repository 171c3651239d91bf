"""What the commands show: sentences and tables, in plain text where there is no terminal."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table

from infra.stack import Row

_INDENT = 2  # of what follows a sentence
_PLAIN_WIDTH = 110  # where there is no window to fit into


class Screen:
    """Where the commands speak."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = _PLAIN_WIDTH
        self._began = time.monotonic()

    def say(self, sentence: str) -> None:
        """Tell the next step before it is done, with the seconds since the start."""
        self._console.print(f"{time.monotonic() - self._began:5.1f} s  {sentence}", style="bold")

    def add(self, *lines: str) -> None:
        """Tell more of the step."""
        for line in lines:
            self._console.print(" " * _INDENT + line)
        self._console.print()

    def show(self, rows: Sequence[Row]) -> None:
        """Show who is connected."""
        self._console.print(self._table(rows))
        self._console.print()

    @contextmanager
    def live(self) -> Iterator[Callable[[Sequence[Row]], None]]:
        """Show who is connected, again and again, in one place; without a terminal, at each change."""
        if not self._console.is_terminal:
            yield self._show_changes()
            return
        with Live(console=self._console, auto_refresh=False) as live:
            yield lambda rows: live.update(self._table(rows), refresh=True)

    def _show_changes(self) -> Callable[[Sequence[Row]], None]:
        shown: list[Row] | None = None

        def show(rows: Sequence[Row]) -> None:
            nonlocal shown
            if shown != rows:
                shown = list(rows)
                self.show(rows)

        return show

    def _table(self, rows: Sequence[Row]) -> Padding:
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="cyan")  # fits into 80 columns
        for heading in ("connectionId", "clientId", "account", "region", "sourceIp"):
            table.add_column(heading, no_wrap=True)
        table.add_column("for", justify="right", no_wrap=True)
        now = datetime.now(UTC)
        for row in rows:
            since = f"{(now - row.created_at).total_seconds():.1f} s"
            table.add_row(row.connection_id, row.client_id, row.account, row.region, row.source_ip, since)
        if not rows:
            table.add_row("nobody")
        return Padding(table, (0, 0, 0, _INDENT), expand=False)
