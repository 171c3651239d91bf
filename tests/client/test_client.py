"""The JavaScript client: its own tests by Node.js, and real sockets of Node.js."""

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from app.domain.model import PROTOCOL
from tests.deadline import eventually
from tests.follower import Follower, following
from tests.lanes import node
from tests.wire import wire_to

HERE = Path(__file__).parent
WITHIN = timedelta(seconds=60)


@pytest.mark.parametrize("module", [path.name for path in sorted(HERE.glob("*.test.mjs"))])
def test_the_tests_of_the_client_succeed(module: str) -> None:
    result = subprocess.run(
        [*node(), "--test", "--test-reporter=spec", module],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "ℹ pass 0" not in result.stdout


class Stack:
    """A server that speaks the protocol on a port of loopback; the test sends what the client is to get."""

    def __init__(self) -> None:
        self.clients: list[ServerConnection] = []
        self.url = ""
        self.refusals = 0

    def refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        if not self.refusals:
            return None
        self.refusals -= 1
        return Response(HTTPStatus.SERVICE_UNAVAILABLE, "busy", Headers({"Content-Length": "0"}), b"")

    def handle(self, client: ServerConnection) -> None:
        self.clients.append(client)
        with suppress(ConnectionClosed):
            client.recv()  # until it ends: the client sends nothing

    def send(self, **frame: object) -> None:
        self.clients[-1].send(json.dumps(frame))

    @property
    def since(self) -> list[str]:
        return [client.request.path.partition("since=")[2] for client in self.clients if client.request]


@pytest.fixture
def stack() -> Iterator[Stack]:
    with a_server(Stack()) as stack:
        yield stack


@contextmanager
def a_server(stack: Stack) -> Iterator[Stack]:
    with serve(
        stack.handle,
        "127.0.0.1",
        0,
        process_request=stack.refuse,
        select_subprotocol=lambda _, offered: Subprotocol(PROTOCOL) if PROTOCOL in offered else None,
    ) as server:
        stack.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield stack
        finally:
            server.shutdown()
            thread.join()


def live(stack: Stack, follower: Follower) -> None:
    # the client may know of its connection before the server does
    eventually(lambda: bool(stack.clients) and follower.state == "catching_up", within=WITHIN)
    stack.send(type="caught_up", since="@1764412345678")
    eventually(lambda: follower.state == "live", within=WITHIN)


def test_a_process_follows_and_ends_once_the_client_is_closed(stack: Stack) -> None:
    with following(stack.url) as follower:
        live(stack, follower)
        stack.send(id="1", time="2026-11-29T12:00:00.000Z", type="incident.opened", data={"title": "é"})
        eventually(lambda: len(follower.messages) == 1, within=WITHIN)
        follower.close()
        status = follower.wait(WITHIN)

    assert status == 0
    assert follower.states == ["connecting", "catching_up", "live", "closed"]
    assert follower.messages[0]["data"] == {"title": "é"}


def test_a_reset_connection_is_opened_again_from_the_last_message(stack: Stack) -> None:
    with wire_to(stack.url) as wire, following(wire.url) as follower:
        live(stack, follower)
        stack.send(id="1", time="2026-11-29T12:00:00.000Z", type="incident.opened", data=None)
        eventually(lambda: len(follower.messages) == 1, within=WITHIN)
        wire.cut()
        eventually(lambda: follower.state != "live", within=WITHIN)
        wire.mend()
        eventually(lambda: len(stack.clients) == 2, within=WITHIN)
        live(stack, follower)

    assert stack.since == ["%40now", "1"]


def test_a_refused_handshake_is_tried_again(stack: Stack) -> None:
    stack.refusals = 2
    with following(stack.url) as follower:
        live(stack, follower)

    assert follower.states[:5] == ["connecting", "waiting", "connecting", "waiting", "connecting"]


def test_the_token_is_offered_as_the_second_subprotocol(stack: Stack) -> None:
    with following(stack.url, token="a.b.c") as follower:
        live(stack, follower)

    [client] = stack.clients
    assert client.request
    assert client.request.headers["Sec-WebSocket-Protocol"].replace(" ", "") == "switchboard,a.b.c"


def test_a_process_ends_though_nobody_answers_its_handshake() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, following(f"ws://127.0.0.1:{silent.getsockname()[1]}") as follower:
        eventually(lambda: follower.state == "connecting", within=WITHIN)
        follower.close()
        status = follower.wait(WITHIN)

    assert status == 0
    assert follower.states == ["connecting", "closed"]
