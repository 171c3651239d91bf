"""A process that follows a stack with the JavaScript client."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.deadline import eventually
from tests.lanes import node

_SCRIPT = Path(__file__).parent / "client" / "follow.mjs"


class Follower:
    """The process, and what its client has handed on."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.messages: list[dict[str, Any]] = []
        self.states: list[str] = []
        self.gaps: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._process = process

    @property
    def state(self) -> str | None:
        return self.states[-1] if self.states else None

    def close(self) -> None:
        """Have the client closed, which ends the process if nothing is left."""
        assert self._process.stdin
        self._process.stdin.close()

    def wait(self, within: timedelta) -> int | None:
        """Return the exit status.

        Raises:
            TimeoutError: it did not end *within* the time.
        """
        eventually(lambda: self._process.poll() is not None, within=within)
        return self._process.returncode

    def read(self) -> None:
        assert self._process.stdout
        kinds: dict[str, list[Any]] = {
            "message": self.messages,
            "state": self.states,
            "gap": self.gaps,
            "error": self.errors,
        }
        for line in self._process.stdout:
            [(kind, detail)] = json.loads(line).items()
            kinds[kind].append(detail)


@contextmanager
def following(url: str, **options: object) -> Iterator[Follower]:
    """Follow the stack at *url* during a block; the process is killed at its end."""
    with subprocess.Popen(
        [*node(), str(_SCRIPT), url, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        follower = Follower(process)
        reader = threading.Thread(target=follower.read)
        reader.start()
        try:
            yield follower
        finally:
            process.kill()
            reader.join()
