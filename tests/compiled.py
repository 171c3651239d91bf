"""The compiled form of the handshakes' container, as the Dockerfile makes it."""

import subprocess
import sys
from pathlib import Path

from app.containers.compile import compile_container
from app.containers.handshakes import Handshakes

ROOT = Path(__file__).parent.parent


def compiled_handshakes() -> str:
    return formatted(
        compile_container(Handshakes, "open_connection", "close_connection", first=("transport",))
    )


def formatted(source: str) -> str:
    """Return *source* as ruff corrects it."""
    for command in (("check", "--quiet", "--fix", "--select", "I"), ("format", "--quiet")):
        arguments = [
            sys.executable,
            "-m",
            "ruff",
            *command,
            "--stdin-filename",
            "app/containers/compiled.py",
            "-",
        ]
        source = subprocess.run(
            arguments, cwd=ROOT, input=source, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
    return source
