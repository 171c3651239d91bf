"""MiniStack, an AWS emulator, in a process of its own.

A script with its own locked environment (`uv lock --script infra/emulator.py`):
MiniStack pins its own botocore, which must not bind the one in the image. It
ends when its standard input closes, so that it never outlives the process that
started it.
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

MAX_CONNECTIONS = 10_000
"""Whose time is kept; older ones are dropped, since a refused handshake has no end event."""


def _end_with_standard_input() -> None:
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)  # with the functions' processes, which are of this group


def keep_connected_at() -> None:
    """Give all events of a connection the ``connectedAt`` of its ``$connect``, as API Gateway does.

    MiniStack uses the event's own time. A ``$disconnect`` would then belong to
    a later connection with the same id.

    Raises:
        AttributeError: MiniStack does not have this function any more.
    """
    gateway: Any = importlib.import_module("ministack.services.apigateway")
    original = gateway._ws_request_context  # noqa: SLF001 - there is no public hook
    first: dict[str, int] = {}

    def request_context(*arguments: Any, **named: Any) -> dict[str, Any]:
        context: dict[str, Any] = original(*arguments, **named)
        connection = context["connectionId"]
        context["connectedAt"] = first.setdefault(connection, context["connectedAt"])
        if context["eventType"] == "DISCONNECT":
            del first[connection]
        elif len(first) > MAX_CONNECTIONS:
            del first[next(iter(first))]
        return context

    gateway._ws_request_context = request_context  # noqa: SLF001 - as above


if __name__ == "__main__":
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    keep_connected_at()
    runpy.run_module("ministack", run_name="__main__")
