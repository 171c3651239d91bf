"""`python -m app`: the command line, for the person on call."""

import sys

try:
    from app.entrypoints.command_line import main
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] not in {"rich", "typer"}:
        raise
    sys.exit("The command line needs Typer and rich: `uv run --group cli python -m app` brings them.")

main()
