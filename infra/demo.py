"""`make demo`: real WebSocket clients come and go, and each step is checked against the list of them."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from subprocess import Popen

from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from infra.clients import client_process, drop, open_client
from infra.deploy import GRACE
from infra.screen import Screen
from infra.stack import LocalStack, LocalStackFailure, Record, Row

type Query = Mapping[str, str]

KOREA = {"clientId": "dashboard-kr", "account": "111122223333", "region": "ap-northeast-2"}
AMERICA = {"clientId": "dashboard-us", "account": "444455556666", "region": "us-east-1"}
GOVERNMENT = {"clientId": "dashboard-gov", "account": "777788889999", "region": "us-gov-west-1"}
AGENT = {"clientId": "agent-eu", "account": "222233334444", "region": "eu-central-1"}
SECOND_AGENT = {"clientId": "agent-sa", "account": "333344445555", "region": "sa-east-1"}
SILENT: Query = {}
WALL = {"clientId": "wall-jp", "account": "555566667777", "region": "ap-northeast-1"}
MISTAKEN = {"clientId": "agent-lost", "account": "111122223333", "region": "nowhere"}

_DEFAULTS = {"clientId": "unknown", "account": "", "region": ""}
_LEAVING_TAKES = 10  # seconds at most; it takes a tenth of one
_REPORTED = ("scanned", "asked", "alive", "gone", "young", "removedByAge", "missedDisconnects", "open")


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
        story.comes(KOREA, "The first dashboard in a second tab: the same client, a connection of its own")
        story.is_refused(MISTAKEN, "An agent whose region is 'nowhere' must not get in")
        story.leaves(AMERICA, "The second dashboard leaves, with a close frame", ClientConnection.close)
        story.leaves(AGENT, "The agent's TCP connection is reset, with no close frame", drop)
        story.dies(WALL, "A wall display connects; it is a process of its own")
        story.leaves(KOREA, "The first dashboard closes one of its tabs", ClientConnection.close)
        for query in (KOREA, GOVERNMENT, SECOND_AGENT, SILENT):
            story.leaves(query, f"'{_name(query)}' leaves", ClientConnection.close)
        story.was_told()
        story.ends()


class _Story:
    def __init__(self, stack: LocalStack, screen: Screen, clients: ExitStack) -> None:
        self._stack = stack
        self._screen = screen
        self._clients = clients
        self._inside: list[tuple[Query, ClientConnection | Popen[str]]] = []
        self._visitors: set[str] = set()
        self._left: Counter[str] = Counter()
        self._waits: list[float] = []

    def comes(self, query: Query, what: str) -> None:
        self._screen.say(what)
        began = time.perf_counter()
        try:
            client = self._clients.enter_context(open_client(self._stack.websocket_url, query))
        except InvalidStatus as refusal:
            answer = self._stack.ask("Connect", _event(query))
            raise DemoFailure(f"A good handshake was refused; the function answers it: {answer}") from refusal
        self._waits.append(time.perf_counter() - began)
        self._comes_in(query, client)
        self._screen.show(self._check(self._stack.rows()))  # at once: that is the promise

    def leaves(self, query: Query, what: str, how: Callable[[ClientConnection], None]) -> None:
        self._screen.say(what)
        before = self._expected()
        client = self._goes_out(query)
        assert isinstance(client, ClientConnection)  # noqa: S101 - the other kind is killed
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
            with open_client(self._stack.websocket_url, query):
                raise DemoFailure("A handshake that must be refused was accepted.")
        except InvalidStatus as refusal:
            status = refusal.response.status_code
        self._screen.show(self._check(self._stack.rows()))
        answer = self._stack.ask("Connect", _event(query))
        self._screen.add(
            f"Refused with HTTP {status}, MiniStack's only refusal. What the function says to that query:",
            f"{answer['statusCode']} {answer['body']}",
        )

    def dies(self, query: Query, what: str) -> None:
        """A client whose process is killed, and whose ``$disconnect`` is lost."""
        self._screen.say(what)
        process = self._clients.enter_context(client_process(self._stack.websocket_url, query))
        self._comes_in(query, process)
        rows = self._check(self._stack.rows())
        self._screen.show(rows)
        [wall] = [row for row in rows if row.client_id == _name(query)]
        _wait_for(lambda: datetime.now(UTC) - wall.created_at > GRACE)

        self._screen.say("Its process is killed (SIGKILL), and its $disconnect is lost")
        with self._stack.gateway.losing_disconnects():
            process.kill()
            if not _wait_for(lambda: not self._stack.gateway.holds(wall.connection_id)):
                raise DemoFailure("The gateway holds a client that was killed.")
            self._screen.add(
                "For this step the API has no $disconnect route, for MiniStack loses none as AWS may.",
                "The gateway says 410 of it; its row is still there:",
            )
            self._screen.show(self._check(self._stack.rows()))

            self._screen.say("The sweep asks the gateway about each row; on AWS it runs every 5 minutes")
            report = self._stack.sweep()
            self._goes_out(query)
            rows = self._check(self._stack.rows())
        self._screen.add("Its report: " + " ".join(f"{name}={report[name]}" for name in _REPORTED))
        self._screen.show(rows)

    def was_told(self) -> None:
        """Who was here, as the table's stream has it."""
        self._screen.say(
            "The table's stream tells of each client's visit, whatever ended it, and of all tabs as one"
        )
        once = dict.fromkeys(self._visitors, 1)
        lines = []
        for event in ("presence.joined", "presence.left"):
            told = self._told_of(event, once)
            if told != once:
                raise DemoFailure(
                    f"{event} must be told once of each of {sorted(once)}; it was told of {told}."
                )
            lines.append(f"{event}: {', '.join(told)}")
        self._screen.add(*lines)

    def ends(self) -> None:
        first, *others = self._waits
        self._screen.say("The list was right at every step; what the gateway lost, the sweep found")
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
        return sorted(tuple((_DEFAULTS | dict(query)).values()) for query, _ in self._inside)

    def _comes_in(self, query: Query, client: ClientConnection | Popen[str]) -> None:
        self._inside.append((query, client))
        if query:
            self._visitors.add(_name(query))

    def _goes_out(self, query: Query) -> ClientConnection | Popen[str]:
        at = [query for query, _ in self._inside].index(query)
        return self._inside.pop(at)[1]

    def _told_of(self, event: str, expected: Mapping[str, int]) -> Mapping[str, int]:
        """The clients of whom *event* was told and how many visits of each, once they are *expected*."""

        def told() -> Mapping[str, int]:
            visits = {(record["clientId"], record["visitId"]) for record in self._stack.records(event)}
            return Counter(name for name, _ in sorted(visits))  # a visit may be told of again

        _wait_for(lambda: told() == expected)
        return told()

    def _record_of(self, query: Query) -> str:
        self._left[_name(query)] += 1

        def found() -> list[Record]:
            closed = self._stack.records("connection.closed")
            return [record for record in closed if record.get("clientId") == _name(query)]

        if not _wait_for(lambda: len(found()) == self._left[_name(query)]):
            raise DemoFailure(f"$disconnect left no record of '{_name(query)}'.")
        told = ("clientId", "account", "region", "sourceIp", "durationMs")
        return " ".join(f"{name}={value}" for name in told if (value := found()[-1][name]) != "")


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
