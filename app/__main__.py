"""`python -m app`: the command line."""

import sys

try:
    from app.cli import main
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] not in {"rich", "typer"}:
        raise
    sys.exit("The command line needs Typer and rich: `uv run --group cli python -m app` brings them.")

main()
