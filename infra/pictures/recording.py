"""A real run of `make demo` in a terminal, as an asciicast (version 2, https://docs.asciinema.org)."""

import codecs
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CAST = Path(__file__).parent / "demo.cast"

DEMO = (sys.executable, "-m", "infra.local", "demo")

_COLUMNS, _ROWS = 104, 30
_TERMINAL_SETTINGS = ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "COLUMNS", "LINES", "TTY_COMPATIBLE")


@dataclass(frozen=True, slots=True)
class Cast:
    """What a terminal of a size received, and when."""

    columns: int
    rows: int
    outputs: tuple[tuple[float, str], ...]
    """Each with the seconds since the start."""

    @classmethod
    def read(cls, path: Path) -> "Cast":
        """Return the cast in the file *path*."""
        header, *events = map(json.loads, path.read_text().splitlines())
        return cls(header["width"], header["height"], tuple((at, data) for at, _, data in events))

    def write(self, path: Path) -> None:
        """Write the cast to *path*; it says nothing of the machine."""
        header = {"version": 2, "width": self.columns, "height": self.rows, "title": "make demo"}
        lines = [header, *([round(at, 2), "o", data] for at, data in self.outputs)]
        path.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))


def record(command: Sequence[str] = DEMO) -> Cast:
    """Run *command* and return what it printed; the demo takes some 20 seconds.

    Raises:
        CalledProcessError: it failed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _TERMINAL_SETTINGS}
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment | {"TERM": "xterm-256color"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        outputs = tuple(_outputs(controller))
        os.close(controller)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, "".join(data for _, data in outputs))
    return Cast(_COLUMNS, _ROWS, outputs)


def _outputs(controller: int) -> Iterator[tuple[float, str]]:
    """Yield what comes from the terminal, until its last program has ended."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    began = time.monotonic()
    while True:
        try:
            data = os.read(controller, 65536)
        except OSError:  # Linux says so that nobody has the terminal open any more
            return
        if not data:
            return
        yield time.monotonic() - began, decoder.decode(data)
