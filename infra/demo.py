"""`make demo`: real WebSocket clients come and go, and each step is checked against the list of them."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from infra.clients import drop, open_client
from infra.screen import Screen
from infra.stack import LocalStack, LocalStackFailure, Record, Row

type Query = Mapping[str, str]

KOREA = {"clientId": "dashboard-kr", "account": "111122223333", "region": "ap-northeast-2"}
AMERICA = {"clientId": "dashboard-us", "account": "444455556666", "region": "us-east-1"}
GOVERNMENT = {"clientId": "dashboard-gov", "account": "777788889999", "region": "us-gov-west-1"}
AGENT = {"clientId": "agent-eu", "account": "222233334444", "region": "eu-central-1"}
SECOND_AGENT = {"clientId": "agent-sa", "account": "333344445555", "region": "sa-east-1"}
SILENT: Query = {}
MISTAKEN = {"clientId": "agent-lost", "account": "111122223333", "region": "nowhere"}

_DEFAULTS = {"clientId": "unknown", "account": "", "region": ""}
_LEAVING_TAKES = 10  # seconds at most; it takes a tenth of one


class DemoFailure(LocalStackFailure):
    """Something came otherwise than the story says: above all, the list was wrong."""


def demo(stack: LocalStack, screen: Screen) -> None:
    """Tell the story from the first client to the last.

    Raises:
        DemoFailure: something came otherwise.
    """
    with ExitStack() as clients:
        story = _Story(stack, screen, clients)
        story.comes(KOREA, "A dashboard connects; its row is there before its handshake is answered")
        story.comes(AMERICA, "A second dashboard, of another account and in another region")
        story.comes(GOVERNMENT, "A third")
        story.comes(AGENT, "An agent")
        story.comes(SECOND_AGENT, "Another agent")
        story.comes(SILENT, "A client that says nothing of itself")
        story.is_refused(MISTAKEN, "An agent whose region is 'nowhere' must not get in")
        story.leaves(AMERICA, "The second dashboard leaves, with a close frame", ClientConnection.close)
        story.leaves(AGENT, "The agent's TCP connection is reset, with no close frame", drop)
        for query in (KOREA, GOVERNMENT, SECOND_AGENT, SILENT):
            story.leaves(query, f"'{_name(query)}' leaves", ClientConnection.close)
        story.ends()


class _Story:
    def __init__(self, stack: LocalStack, screen: Screen, clients: ExitStack) -> None:
        self._stack = stack
        self._screen = screen
        self._clients = clients
        self._inside: dict[str, tuple[Query, ClientConnection]] = {}
        self._waits: list[float] = []

    def comes(self, query: Query, what: str) -> None:
        self._screen.say(what)
        began = time.perf_counter()
        try:
            client = open_client(self._stack.websocket_url, query)
        except InvalidStatus as refusal:
            answer = self._stack.ask_connect(_event(query))
            raise DemoFailure(f"A good handshake was refused; the function answers it: {answer}") from refusal
        self._waits.append(time.perf_counter() - began)
        self._clients.callback(client.close)
        self._inside[_name(query)] = query, client
        self._screen.show(self._check(self._stack.rows()))  # at once: that is the promise

    def leaves(self, query: Query, what: str, how: Callable[[ClientConnection], None]) -> None:
        self._screen.say(what)
        before = self._expected()
        _, client = self._inside.pop(_name(query))
        how(client)

        def has_left() -> bool:
            rows = self._stack.rows()  # $disconnect comes after the end: until then the list is as before
            if _told(rows) != before:
                self._check(rows)
                return True
            return False

        _wait_for(has_left)
        self._screen.show(self._check(self._stack.rows()))
        self._screen.add(f"The log says who it was: {self._record_of(query)}")

    def is_refused(self, query: Query, what: str) -> None:
        self._screen.say(what)
        try:
            open_client(self._stack.websocket_url, query).close()
        except InvalidStatus as refusal:
            status = refusal.response.status_code
        else:
            raise DemoFailure("A handshake that must be refused was accepted.")
        self._screen.show(self._check(self._stack.rows()))
        answer = self._stack.ask_connect(_event(query))
        self._screen.add(
            f"Refused with HTTP {status}, MiniStack's only refusal. What the function says to that query:",
            f"{answer['statusCode']} {answer['body']}",
        )

    def ends(self) -> None:
        first, *others = self._waits
        self._screen.say("The list was right at every step")
        self._screen.add(
            f"The first handshake took {first * 1000:.0f} ms, with the function's cold start; "
            f"the others {max(others) * 1000:.0f} ms at most."
        )

    def _check(self, rows: list[Row]) -> list[Row]:
        """The same rows, if they are who is connected."""
        if _told(rows) != self._expected():
            raise DemoFailure(f"THE LIST IS WRONG.\n  Connected: {self._expected()}\n  Listed: {_told(rows)}")
        return rows

    def _expected(self) -> list[tuple[str, ...]]:
        return sorted(tuple((_DEFAULTS | dict(query)).values()) for query, _ in self._inside.values())

    def _record_of(self, query: Query) -> str:
        def found() -> list[Record]:
            closed = self._stack.records("connection.closed")
            return [record for record in closed if record.get("clientId") == _name(query)]

        if not _wait_for(lambda: bool(found())):
            raise DemoFailure(f"$disconnect left no record of '{_name(query)}'.")
        told = ("clientId", "account", "region", "sourceIp", "durationMs")
        return " ".join(f"{name}={value}" for name in told if (value := found()[0][name]) != "")


def _told(rows: list[Row]) -> list[tuple[str, ...]]:
    return sorted((row.client_id, row.account, row.region) for row in rows)


def _name(query: Query) -> str:
    return (_DEFAULTS | dict(query))["clientId"]


def _event(query: Query) -> Record:
    """A $connect event with *query*, as far as the function looks at one that it refuses."""
    context = {"routeKey": "$connect", "connectionId": "asked-directly"}
    return {"requestContext": context, "queryStringParameters": dict(query)}


def _wait_for(is_true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _LEAVING_TAKES
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
