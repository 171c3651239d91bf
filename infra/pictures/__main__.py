"""python -m infra.pictures draws all pictures; with --record, of a new run of the demo."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from infra.pictures.dashboard import dashboard
from infra.pictures.diagram import architecture
from infra.pictures.recording import CAST, ROOT, Cast, record
from infra.pictures.terminal import terminal
from infra.pictures.themes import THEMES

FOLDER = ROOT / "infra" / "docs" / "pictures"


def pictures() -> Iterator[tuple[Path, str]]:
    """Yield each picture's path and content."""
    cast = Cast.read(CAST)
    for theme in THEMES:
        yield FOLDER / f"architecture-{theme.name}.svg", architecture(theme)
        yield FOLDER / f"dashboard-{theme.name}.svg", dashboard(theme)
        yield FOLDER / f"demo-{theme.name}.svg", terminal(cast, theme)


def main() -> None:
    """Write the pictures, and print which."""
    parser = argparse.ArgumentParser(prog="python -m infra.pictures", description=__doc__)
    parser.add_argument("--record", action="store_true", help="run the demo first, and record it")
    if parser.parse_args().record:
        record().write(CAST)
        _say(f"{CAST.relative_to(ROOT)}: {CAST.stat().st_size:,} bytes")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, content in pictures():
        path.write_text(content)
        _say(f"{path.relative_to(ROOT)}: {len(content.encode()):,} bytes")


def _say(line: str) -> None:
    print(line)  # noqa: T201 - what a command says


if __name__ == "__main__":
    main()
