"""The list for the person on call: who is connected, what is known of one, closing, sweeping, watching.

It needs Typer and rich, which the image does not have: only ``app.__main__``
imports it.
"""

from app.entrypoints.command_line.commands import cli, main

__all__ = ["cli", "main"]
