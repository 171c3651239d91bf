"""MiniStack, an AWS emulator, as a process of its own.

A script with its own locked environment (`uv lock --script infra/emulator.py`):
MiniStack pins a botocore of its own, which must not bind the one that the
image ships. It ends when its standard input does, so that no emulator
outlives whoever started it, however that one ended.
"""

# /// script
# requires-python = "==3.13.*"
# dependencies = [
#     "aws-sam-translator==1.115.0",  # MiniStack's SAM transform, which it doesn't ask for itself
#     "ministack==1.5.33",
# ]
# ///

import importlib
import os
import runpy
import signal
import sys
import threading
from typing import Any

MOST_CONNECTIONS = 10_000
"""Whose time is kept; the oldest are forgotten, for nothing tells the end of a handshake that was refused."""


def _end_with_standard_input() -> None:
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)  # with the functions' processes, which are of this group


def keep_connected_at() -> None:
    """Have a connection's events all carry the ``connectedAt`` of its ``$connect``, as API Gateway's do.

    MiniStack puts the event's own time there. By that, a ``$disconnect`` is of
    a later connection than its ``$connect``: of another one that has its id.

    Raises:
        AttributeError: MiniStack has no such function any more.
    """
    gateway: Any = importlib.import_module("ministack.services.apigateway")
    original = gateway._ws_request_context  # noqa: SLF001 - it has no public place for this
    first: dict[str, int] = {}

    def request_context(*arguments: Any, **named: Any) -> dict[str, Any]:
        context: dict[str, Any] = original(*arguments, **named)
        connection = context["connectionId"]
        context["connectedAt"] = first.setdefault(connection, context["connectedAt"])
        if context["eventType"] == "DISCONNECT":
            del first[connection]
        elif len(first) > MOST_CONNECTIONS:
            del first[next(iter(first))]
        return context

    gateway._ws_request_context = request_context  # noqa: SLF001


if __name__ == "__main__":
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    keep_connected_at()
    runpy.run_module("ministack", run_name="__main__")
