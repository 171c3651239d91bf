"""The command line for operators: list connections, show, evict and watch them, sweep.

It needs Typer and rich, which the image does not have: only ``app.__main__``
imports it.
"""

from app.cli.commands import cli, main

__all__ = ["cli", "main"]
