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

import asyncio
import importlib
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

MAX_CONNECTIONS = 10_000
"""Whose time is kept; older ones are dropped, since a refused handshake has no end event."""
_LOOK_AGAIN = 0.05  # seconds
_GOING_AWAY = {"code": 1001, "reason": "Going away"}
"""How API Gateway closes an idle connection."""


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


def answer_as_connect_does() -> None:
    """Answer a handshake as the function of ``$connect`` does, as API Gateway does.

    A refusal has its status, and the subprotocol is its ``Sec-WebSocket-Protocol``.
    MiniStack always refuses with 403, and selects no subprotocol.

    Raises:
        AttributeError: MiniStack does not have these functions any more, or not in this form.
    """
    gateway: Any = importlib.import_module("ministack.services.apigateway")
    invoke, handle = gateway._invoke_ws_lambda, gateway.handle_websocket  # noqa: SLF001 - no public hook
    code = handle.__code__
    if "_invoke_ws_lambda" not in code.co_names or code.co_varnames[:3] != ("scope", "receive", "send"):
        raise AttributeError("handle_websocket has changed: it must be patched in another way.")
    first_answer: ContextVar[list[dict[str, Any]]] = ContextVar("first_answer")

    async def invoke_route(*arguments: Any, **named: Any) -> Any:
        answer = await invoke(*arguments, **named)
        if not (first := first_answer.get()):
            first.append(answer or {})
        return answer

    async def handle_websocket(scope: Any, receive: Any, send: "_Send", *rest: Any, **named: Any) -> None:
        answers: list[dict[str, Any]] = []
        first_answer.set(answers)
        is_open = False

        async def send_answer(message: dict[str, Any]) -> None:
            nonlocal is_open
            connect = answers[0] if answers and not is_open else {}
            is_open = True
            headers = {name.lower(): value for name, value in (connect.get("headers") or {}).items()}
            if message["type"] == "websocket.accept" and "sec-websocket-protocol" in headers:
                message = message | {"subprotocol": headers["sec-websocket-protocol"]}
            elif message["type"] == "websocket.close" and "statusCode" in connect:
                no_body = [(b"content-length", b"0"), (b"connection", b"close")]
                start = {"type": "websocket.http.response.start", "headers": no_body}
                await send(start | {"status": int(connect["statusCode"])})
                message = {"type": "websocket.http.response.body", "body": b""}
            await send(message)

        await handle(scope, receive, send_answer, *rest, **named)

    gateway._invoke_ws_lambda, gateway.handle_websocket = invoke_route, handle_websocket  # noqa: SLF001 - as above


def end_idle_connections(limit: float) -> None:
    """Close a connection once no message came or went for *limit* seconds, as API Gateway does.

    The close code is 1001, for the client and in the event of ``$disconnect``.
    MiniStack keeps idle connections open.

    Raises:
        AttributeError: MiniStack does not have this function any more, or not in this form.
    """
    gateway: Any = importlib.import_module("ministack.services.apigateway")
    handle = gateway.handle_websocket
    if handle.__code__.co_varnames[:3] != ("scope", "receive", "send"):
        raise AttributeError("handle_websocket has changed: it must be patched in another way.")

    async def handle_websocket(
        scope: Any, receive: "_Receive", send: "_Send", *rest: Any, **named: Any
    ) -> None:
        connection = _Connection(receive, send, limit)
        await handle(scope, connection.receive, connection.send, *rest, **named)

    gateway.handle_websocket = handle_websocket


class _Connection:
    """The messages of one connection. Once it is idle, MiniStack is told that the client has left."""

    def __init__(self, receive: "_Receive", send: "_Send", limit: float) -> None:
        self._receive = receive
        self._send = send
        self._limit = limit
        self._ends_at: float | None = None  # not before its handshake is answered
        self._ended = False

    async def receive(self) -> dict[str, Any]:
        while True:
            ends_at = self._ends_at
            try:
                async with asyncio.timeout_at(ends_at):
                    message = await self._receive()
            except TimeoutError:
                if self._ends_at == ends_at:  # else a message went meanwhile
                    self._ended = True
                    return {"type": "websocket.disconnect"} | _GOING_AWAY
            else:
                self._restart_if(message, "websocket.receive")
                return message

    async def send(self, message: dict[str, Any]) -> None:
        self._restart_if(message, "websocket.accept", "websocket.send")
        if message["type"] == "websocket.close" and self._ended:
            message = message | _GOING_AWAY
        await self._send(message)

    def _restart_if(self, message: dict[str, Any], *types: str) -> None:
        if message["type"] in types:
            self._ends_at = asyncio.get_running_loop().time() + self._limit


def look_for_what_is_due() -> None:
    """Look again and again for queues' messages that are due: under faketime(1), a wait does not time out.

    Raises:
        AttributeError: MiniStack does not have this event any more.
    """
    wake = importlib.import_module("ministack.core.concurrency").esm_wake

    def wait(timeout: float) -> bool:
        ends_at = time.monotonic() + timeout
        while not wake.is_set() and time.monotonic() < ends_at:
            time.sleep(_LOOK_AGAIN)
        return bool(wake.is_set())

    wake.wait = wait


type _Receive = Callable[[], Awaitable[dict[str, Any]]]
type _Send = Callable[[dict[str, Any]], Awaitable[None]]


if __name__ == "__main__":
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    keep_connected_at()
    answer_as_connect_does()
    end_idle_connections(float(os.environ["IDLE_SECONDS"]))
    if "FAKETIME" in os.environ:
        look_for_what_is_due()
    runpy.run_module("ministack", run_name="__main__")
