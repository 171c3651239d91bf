"""The compiled form of the handshakes' container, as the Dockerfile makes it."""

import subprocess
import sys
from pathlib import Path

from app.containers.compile import compiled
from app.containers.handshakes import Handshakes

ROOT = Path(__file__).parent.parent

_RUFF = Path(sys.executable).with_name("ruff")


def compiled_handshakes() -> str:
    return formatted(compiled(Handshakes, "open_connection", "close_connection"))


def formatted(source: str) -> str:
    """Return *source* as ruff corrects it."""
    for command in (("check", "--quiet", "--fix", "--select", "I"), ("format", "--quiet")):
        arguments = [_RUFF, *command, "--stdin-filename", "app/containers/compiled.py", "-"]
        source = subprocess.run(
            arguments, cwd=ROOT, input=source, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
    return source
