"""The command line for operators: list connections, show, evict and watch them, sweep, send messages.

It needs Typer and rich, which the image does not have: only ``app.__main__``
imports it.
"""

from app.cli import sending  # noqa: F401 - it adds its commands
from app.cli.commands import cli, main

__all__ = ["cli", "main"]
