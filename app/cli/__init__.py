"""The command line for operators: list, show, evict and watch connections, sweep, send, mint tickets.

It needs Typer and rich, which the image does not have: only ``app.__main__``
imports it.
"""

from app.cli import sending, tickets  # noqa: F401 - they add their commands
from app.cli.commands import cli, main

__all__ = ["cli", "main"]
