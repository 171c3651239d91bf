"""The output of the local commands: sentences and tables, in plain text if it is no terminal."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.padding import Padding

from app.cli import screen
from app.domain.model import Connection

_INDENT = 2  # columns, of what follows a sentence


class Screen:
    """The standard output, with the time since the start."""

    def __init__(self) -> None:
        self._console = screen.console()
        self._began = time.monotonic()

    def say(self, sentence: str) -> None:
        """Print a step before it is done, with the seconds since the start."""
        seconds = f"{time.monotonic() - self._began:5.1f} s"
        self._console.print(f"{seconds}  {sentence}", style="bold", soft_wrap=True)

    def add(self, *lines: str) -> None:
        """Print details of the step."""
        for line in lines:
            self._console.print(" " * _INDENT + line, soft_wrap=True)
        self._console.print()

    def show(self, connections: Sequence[Connection]) -> None:
        """Print who is connected, as the command line does."""
        if connections:
            table = screen.listed(connections, datetime.now(UTC), self._console)
            self._console.print(Padding(table, (0, 0, 0, _INDENT), expand=False))
            self._console.print()
        else:
            self.add(screen.counted(0))
