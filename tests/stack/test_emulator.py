"""The launcher's patches of MiniStack, applied to a fake of MiniStack's module."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from itertools import count
from selectors import SelectorKey, SelectSelector
from types import ModuleType
from typing import Any

import pytest

from infra.emulator import (
    MAX_CONNECTIONS,
    answer_as_connect_does,
    end_idle_connections,
    keep_connected_at,
)

NAME = "ministack.services.apigateway"

type RequestContext = Callable[..., dict[str, Any]]
type Message = dict[str, Any]
type Answer = dict[str, Any] | None


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An empty module in place of MiniStack's."""
    module = ModuleType(NAME)
    for name in ("ministack", "ministack.services"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, NAME, module)
    return module


@pytest.fixture
def request_context(gateway: ModuleType) -> RequestContext:
    """MiniStack's patched function. Without the patch, each event has a time of its own."""
    now = count(1)

    def original(connection_id: str, event_type: str) -> dict[str, Any]:
        return {"connectionId": connection_id, "eventType": event_type, "connectedAt": next(now)}

    vars(gateway)["_ws_request_context"] = original
    keep_connected_at()
    patched: RequestContext = vars(gateway)["_ws_request_context"]
    return patched


def test_all_events_of_a_connection_have_the_time_of_its_connect(request_context: RequestContext) -> None:
    events = [request_context("c-1", event) for event in ("CONNECT", "MESSAGE", "DISCONNECT")]

    assert [event["connectedAt"] for event in events] == [1, 1, 1]


def test_each_connection_has_its_own_time(request_context: RequestContext) -> None:
    request_context("c-1", "CONNECT")
    request_context("c-2", "CONNECT")

    assert request_context("c-2", "DISCONNECT")["connectedAt"] == 2
    assert request_context("c-1", "DISCONNECT")["connectedAt"] == 1


def test_a_reused_id_has_a_new_time(request_context: RequestContext) -> None:
    request_context("c-1", "CONNECT")
    request_context("c-1", "DISCONNECT")

    assert request_context("c-1", "CONNECT")["connectedAt"] == 3


def test_the_oldest_connections_are_dropped_above_the_maximum(request_context: RequestContext) -> None:
    for number in range(MAX_CONNECTIONS + 1):
        request_context(f"c-{number}", "CONNECT")

    assert request_context("c-1", "DISCONNECT")["connectedAt"] == 2
    assert request_context("c-0", "DISCONNECT")["connectedAt"] == MAX_CONNECTIONS + 3


def test_patching_a_ministack_without_the_function_fails(gateway: ModuleType) -> None:
    with pytest.raises(AttributeError, match="_ws_request_context"):
        keep_connected_at()


MINISTACK = """
import asyncio

async def _invoke_ws_lambda(api_id, answer):
    await asyncio.sleep(0)  # other handshakes come between
    return answer

async def handle_websocket(scope, receive, send, api_id, path_override=None):
    connect, *messages = scope["answers"]
    answer = await _invoke_ws_lambda(api_id, connect)
    if not 200 <= int((answer or {}).get("statusCode", 200)) < 300:
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "websocket.accept"})
    for message in messages:
        reply = await _invoke_ws_lambda(api_id, message)
        await send({"type": "websocket.send", "text": reply["body"]})
    await send({"type": "websocket.close", "code": 1000})
"""
"""MiniStack's functions of a WebSocket, as far as they answer a handshake."""


class Handshakes:
    """Handshakes with the patched MiniStack."""

    def __init__(self, gateway: ModuleType) -> None:
        self._gateway = gateway

    async def answered(self, *answers: Answer) -> list[Message]:
        """What the server is told to send, if its functions give these *answers*, that of $connect first."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        handle = vars(self._gateway)["handle_websocket"]
        await handle({"answers": answers}, None, send, "an-api", path_override="/prod")
        return sent


@pytest.fixture
def handshakes(gateway: ModuleType) -> Handshakes:
    exec(MINISTACK, vars(gateway))  # noqa: S102 - so that they call each other by the module's names
    answer_as_connect_does()
    return Handshakes(gateway)


def selecting(protocol: str, header: str = "Sec-WebSocket-Protocol") -> dict[str, Any]:
    return {"statusCode": 200, "body": "connected", "headers": {header: protocol}}


@pytest.mark.parametrize("header", ["Sec-WebSocket-Protocol", "sec-websocket-protocol"])
def test_the_subprotocol_of_connects_answer_is_selected(handshakes: Handshakes, header: str) -> None:
    accepted, closed = asyncio.run(handshakes.answered(selecting("switchboard", header)))

    assert accepted == {"type": "websocket.accept", "subprotocol": "switchboard"}
    assert closed == {"type": "websocket.close", "code": 1000}


@pytest.mark.parametrize(
    "answer", [None, {}, {"statusCode": 200}, {"statusCode": 200, "headers": None}, {"headers": {"X": "1"}}]
)
def test_without_a_subprotocol_in_the_answer_none_is_selected(handshakes: Handshakes, answer: Answer) -> None:
    accepted, _ = asyncio.run(handshakes.answered(answer))

    assert accepted == {"type": "websocket.accept"}


@pytest.mark.parametrize("status", [401, 403, 410, 503, "400"])
def test_a_refusal_has_the_status_of_connects_answer(handshakes: Handshakes, status: int | str) -> None:
    start, body = asyncio.run(handshakes.answered({"statusCode": status, "body": "No."}))

    assert (start["type"], start["status"]) == ("websocket.http.response.start", int(status))
    assert body == {"type": "websocket.http.response.body", "body": b""}


def test_only_the_answer_of_connect_counts(handshakes: Handshakes) -> None:
    of_a_message = {"statusCode": 401, "body": "got it", "headers": {"Sec-WebSocket-Protocol": "other"}}

    accepted, *rest = asyncio.run(handshakes.answered({"statusCode": 200}, of_a_message))

    assert accepted == {"type": "websocket.accept"}
    assert rest == [
        {"type": "websocket.send", "text": "got it"},
        {"type": "websocket.close", "code": 1000},
    ]


def test_handshakes_at_the_same_time_have_each_its_own_answer(handshakes: Handshakes) -> None:
    async def answered_at_once() -> list[list[Message]]:
        answers = [selecting("switchboard"), {"statusCode": 401}, {"statusCode": 200}, {"statusCode": 503}]
        return await asyncio.gather(*map(handshakes.answered, answers))

    first = [sent[0] for sent in asyncio.run(answered_at_once())]

    assert [it.get("subprotocol") for it in first] == ["switchboard", None, None, None]
    assert [it.get("status") for it in first] == [None, 401, None, 503]


@pytest.mark.parametrize("missing", ["_invoke_ws_lambda", "handle_websocket"])
def test_patching_a_ministack_that_answers_in_another_function_fails(
    gateway: ModuleType, missing: str
) -> None:
    exec(MINISTACK, vars(gateway))  # noqa: S102 - as above
    del vars(gateway)[missing]

    with pytest.raises(AttributeError, match=missing):
        answer_as_connect_does()


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param("async def handle_websocket(scope, receive, send): pass", id="calls another function"),
        pytest.param(
            "async def handle_websocket(connection, api_id): _invoke_ws_lambda()", id="has other arguments"
        ),
    ],
)
def test_patching_a_ministack_that_has_changed_fails(gateway: ModuleType, changed: str) -> None:
    exec(MINISTACK + changed, vars(gateway))  # noqa: S102 - as above

    with pytest.raises(AttributeError, match="handle_websocket has changed"):
        answer_as_connect_does()


SESSION = """
import asyncio

async def handle_websocket(scope, receive, send, api_id, path_override=None):
    await receive()
    await send({"type": "websocket.accept"})
    loop = asyncio.get_running_loop()
    for moment in scope["sent_at"]:
        loop.call_at(moment, lambda: asyncio.ensure_future(send({"type": "websocket.send", "text": "hello"})))
    message = await receive()
    while message["type"] != "websocket.disconnect":
        message = await receive()
    scope["ended"].append((loop.time(), message))
    await send({"type": "websocket.close", "code": 1000})
"""
"""MiniStack's function of a WebSocket, as far as it takes and sends messages."""


class JumpingSelector(SelectSelector):
    """A selector that does not wait; ``time`` is how long it would have."""

    time = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        self.time += timeout or 0
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock begins at 0 and jumps to the next timer."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.time


class Sessions:
    """Connections to the patched MiniStack, whose limit is 600 s."""

    def __init__(self, gateway: ModuleType) -> None:
        self._gateway = gateway

    def held(
        self, *messages: tuple[float, Message], sent_at: Sequence[float] = (), connected_at: float = 0
    ) -> tuple[float, Message, Message]:
        """When a connection ended, what MiniStack received at its end, and what the client was sent.

        Each of the client's *messages* comes at a time in seconds.
        """
        ended: list[tuple[float, Message]] = []
        sent: list[Message] = []

        async def hold() -> None:
            received: asyncio.Queue[Message] = asyncio.Queue()
            loop = asyncio.get_running_loop()
            for moment, message in [(connected_at, {"type": "websocket.connect"}), *messages]:
                loop.call_at(moment, received.put_nowait, message)

            async def send(message: Message) -> None:
                sent.append(message)

            scope = {"sent_at": sent_at, "ended": ended}
            await vars(self._gateway)["handle_websocket"](scope, received.get, send, "an-api")

        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(hold())
        [(moment, last)] = ended
        assert sent[0] == {"type": "websocket.accept"}
        return moment, last, sent[-1]


@pytest.fixture
def sessions(gateway: ModuleType) -> Sessions:
    exec(SESSION, vars(gateway))  # noqa: S102 - as above
    end_idle_connections(600)
    return Sessions(gateway)


GOING_AWAY = {"code": 1001, "reason": "Going away"}
A_MESSAGE = {"type": "websocket.receive", "text": "hello"}


@pytest.mark.parametrize(
    ("received_at", "sent_at", "connected_at", "ends_at"),
    [
        ([], [], 0, 600),
        ([], [], 1000, 1600),
        ([599], [], 0, 1199),
        ([], [599], 0, 1199),
        ([100, 650], [400, 1200], 0, 1800),
    ],
    ids=["silent", "slow handshake", "client sends", "server sends", "both send"],
)
def test_a_connection_ends_once_no_message_came_or_went_for_the_limit(
    sessions: Sessions, received_at: list[float], sent_at: list[float], connected_at: float, ends_at: float
) -> None:
    messages = [(moment, A_MESSAGE) for moment in received_at]

    moment, last, closed = sessions.held(*messages, sent_at=sent_at, connected_at=connected_at)

    assert moment == pytest.approx(ends_at, abs=0.1)
    assert last == {"type": "websocket.disconnect"} | GOING_AWAY
    assert closed == {"type": "websocket.close"} | GOING_AWAY


def test_a_client_that_leaves_in_time_has_its_own_code(sessions: Sessions) -> None:
    leaves = {"type": "websocket.disconnect", "code": 1006}

    moment, last, closed = sessions.held((599, leaves))

    assert moment == pytest.approx(599, abs=0.1)
    assert (last, closed) == (leaves, {"type": "websocket.close", "code": 1000})


def test_a_ministack_whose_messages_go_another_way_can_not_be_limited(gateway: ModuleType) -> None:
    with pytest.raises(AttributeError, match="handle_websocket"):
        end_idle_connections(600)

    exec("async def handle_websocket(connection, api_id): pass", vars(gateway))  # noqa: S102 - as above
    with pytest.raises(AttributeError, match="handle_websocket has changed"):
        end_idle_connections(600)
