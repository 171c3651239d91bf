"""`make demo`: real WebSocket clients connect and disconnect, and each step is checked."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from subprocess import Popen

from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from app.domain.model import Connection
from infra.clients import client_process, drop, messages_of, open_client
from infra.deploy import GRACE
from infra.screen import Screen
from infra.stack import LocalStack, LocalStackFailure, Record

type Query = Mapping[str, str]

KOREA = {"clientId": "dashboard-kr", "account": "111122223333", "region": "ap-northeast-2"}
AMERICA = {"clientId": "dashboard-us", "account": "444455556666", "region": "us-east-1"}
GOVERNMENT = {"clientId": "dashboard-gov", "account": "777788889999", "region": "us-gov-west-1"}
AGENT = {"clientId": "agent-eu", "account": "222233334444", "region": "eu-central-1"}
SECOND_AGENT = {"clientId": "agent-sa", "account": "333344445555", "region": "sa-east-1"}
SILENT: Query = {}
WATCHER = {"clientId": "dashboard-all", "account": "111122223333", "region": ""}
SECOND_WALL = {"clientId": "wall-kr", "account": "111122223333", "region": "ap-northeast-2"}
WALL = {"clientId": "wall-jp", "account": "555566667777", "region": "ap-northeast-1"}
MISTAKEN = {"clientId": "agent-lost", "account": "111122223333", "region": "nowhere"}

INCIDENT: Record = {
    "id": "incident-7",
    "type": "incident.opened",
    "audience": {"account": "111122223333", "region": "ap-northeast-2"},
    "data": {"title": "Unusual sign-in", "severity": 8},
}

SECOND_INCIDENT: Record = INCIDENT | {"id": "incident-8"}

_DEFAULTS = {"clientId": "unknown", "account": "", "region": ""}
_DELIVERY = ("selected", "delivered", "gone", "unknown", "failed", "durationMs")
_PATIENCE = 60  # seconds, of a busy machine; a disconnect takes a tenth of one
_REPORTED = ("scanned", "asked", "alive", "gone", "young", "removedByAge", "missedDisconnects", "open")


class DemoFailure(LocalStackFailure):
    """A step failed; above all, the list was wrong."""


def demo(stack: LocalStack, screen: Screen) -> None:
    """Run all steps, from the first client to the last.

    Raises:
        DemoFailure: a step failed.
    """
    with ExitStack() as clients:
        steps = _Steps(stack, screen, clients)
        steps.connects(KOREA, "A dashboard connects; it is in the table before its handshake is answered")
        steps.connects(AMERICA, "A second dashboard, of another account and in another region")
        steps.connects(GOVERNMENT, "A third")
        steps.connects(AGENT, "An agent")
        steps.connects(SECOND_AGENT, "Another agent")
        steps.connects(SILENT, "A client without parameters")
        steps.connects(KOREA, "The first dashboard in a second tab: the same client, a connection of its own")
        steps.is_refused(MISTAKEN, "An agent whose region is 'nowhere' is refused")
        steps.disconnects(AMERICA, "The second dashboard leaves, with a close frame", ClientConnection.close)
        steps.disconnects(AGENT, "The agent's TCP connection is reset, with no close frame", drop)
        steps.is_killed(WALL, "A wall display connects; it is a process of its own")
        steps.disconnects(KOREA, "The first dashboard closes one of its tabs", ClientConnection.close)
        for query in (KOREA, GOVERNMENT, SECOND_AGENT, SILENT):
            steps.disconnects(query, f"'{_name(query)}' leaves", ClientConnection.close)
        steps.presence_is_published()
        steps.connects(KOREA, "An incident: three dashboards are connected. The first is back")
        steps.connects(WATCHER, "The second watches the same account in all regions")
        steps.connects(GOVERNMENT, "The third watches another account")
        steps.sends(INCIDENT, to=[KOREA, WATCHER], dead=SECOND_WALL)
        steps.comes_back(KOREA, missed=SECOND_INCIDENT)
        steps.ends()


def wait_for(is_true: Callable[[], bool]) -> bool:
    """Check again and again until *is_true*; return whether it was, within a minute."""
    deadline = time.monotonic() + _PATIENCE
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class _Steps:
    def __init__(self, stack: LocalStack, screen: Screen, clients: ExitStack) -> None:
        self._stack = stack
        self._screen = screen
        self._clients = clients
        self._connected: list[tuple[Query, ClientConnection | Popen[str]]] = []
        self._named: set[str] = set()
        self._left: Counter[str] = Counter()
        self._waits: list[float] = []

    def connects(self, query: Query, what: str) -> None:
        self._screen.say(what)
        began = time.perf_counter()
        try:
            client = self._clients.enter_context(open_client(self._stack.websocket_url, query))
        except InvalidStatus as refusal:
            answer = self._stack.invoke("Connect", _event(query))
            raise DemoFailure(f"A good handshake was refused; the function answers it: {answer}") from refusal
        self._waits.append(time.perf_counter() - began)
        self._add(query, client)
        self._screen.show(self._check(self._stack.connections()))  # at once: that is the promise

    def disconnects(self, query: Query, what: str, how: Callable[[ClientConnection], None]) -> None:
        self._screen.say(what)
        before = self._expected()
        client = self._take(query)
        assert isinstance(client, ClientConnection)  # noqa: S101 - the other kind is killed
        how(client)

        def has_left() -> bool:
            connections = self._stack.connections()  # the same until $disconnect comes
            if _clients(connections) != before:
                self._check(connections)
                return True
            return False

        wait_for(has_left)
        self._screen.show(self._check(self._stack.connections()))
        self._screen.add(f"The log says who it was: {self._record_of(query)}")

    def is_refused(self, query: Query, what: str) -> None:
        self._screen.say(what)
        try:
            with open_client(self._stack.websocket_url, query):
                raise DemoFailure("A handshake that must be refused was accepted.")
        except InvalidStatus as refusal:
            status = refusal.response.status_code
        self._screen.show(self._check(self._stack.connections()))
        answer = self._stack.invoke("Connect", _event(query))
        if answer["statusCode"] != status:
            raise DemoFailure(f"It was refused with HTTP {status}; the function answers it: {answer}")
        self._screen.add(f"Refused, with the function's answer: {status} {answer['body']}")

    def is_killed(self, query: Query, what: str) -> None:
        """A client whose process is killed, and whose ``$disconnect`` is lost."""
        self._screen.say(what)
        with self._killed(query):
            self._screen.add(
                "For this step the API has no $disconnect route: AWS may lose an event, MiniStack does not.",
                "The gateway answers 410 for it; its item is still there:",
            )
            self._screen.show(self._check(self._stack.connections()))

            self._screen.say("The sweep probes each connection; on AWS it runs every 5 minutes")
            report = self._stack.sweep()
            self._take(query)
            connections = self._check(self._stack.connections())
        self._screen.add("Its report: " + " ".join(f"{name}={report[name]}" for name in _REPORTED))
        self._screen.show(connections)

    @contextmanager
    def _killed(self, query: Query) -> Iterator[None]:
        """Connect a client in its own process, and kill that; its disconnect is lost until the block ends."""
        process = self._clients.enter_context(client_process(self._stack.websocket_url, query))
        self._add(query, process)
        connections = self._check(self._stack.connections())
        self._screen.show(connections)
        [wall] = [it for it in connections if it.client_id == _name(query)]
        wait_for(lambda: datetime.now(UTC) - wall.created_at > GRACE)

        self._screen.say("Its process is killed (SIGKILL), and its $disconnect is lost")
        with self._stack.gateway.losing_disconnects():
            process.kill()
            if not wait_for(lambda: not self._stack.gateway.holds(wall.id)):
                raise DemoFailure("The gateway still has a client that was killed.")
            yield

    def sends(self, message: Record, *, to: Sequence[Query], dead: Query) -> None:
        """Send an incident; those *to* whom it goes get it, except one of them that is *dead*."""
        self._screen.say("A wall display of the same account and region; it is a process of its own")
        with self._killed(dead):
            account, region = message["audience"].values()
            self._screen.say(f"An incident of account {account} in {region} is put into the queue")
            report = self._stack.send(message)
            self._take(dead)  # found to be gone, so its item is deleted
            self._screen.show(self._check(self._stack.connections()))
        got = [query for query, client in self._connected if message["id"] in _received(client)]
        if got != list(to):
            raise DemoFailure(f"It goes to {sorted(map(_name, to))}; {sorted(map(_name, got))} got it.")
        self._screen.add(
            f"Received by {' and '.join(map(_name, got))}, on their sockets, and by nobody else.",
            "The report: " + " ".join(f"{name}={report[name]}" for name in _DELIVERY),
        )
        expected = {"selected": len(to) + 1, "delivered": len(to), "gone": 1}
        if {name: report[name] for name in expected} != expected:
            raise DemoFailure(f"The report must say {expected}; it says {report}.")

    def comes_back(self, query: Query, *, missed: Record) -> None:
        """A client that has the incident loses its network while another one is sent, and comes back."""
        self._screen.say(f"The network of '{_name(query)}' fails, and another incident is sent meanwhile")
        lost = self._take(query)
        assert isinstance(lost, ClientConnection)  # noqa: S101 - the other kind is killed
        drop(lost)
        report = self._stack.send(missed)
        self._screen.add("The report: " + " ".join(f"{name}={report[name]}" for name in _DELIVERY))

        self._screen.say(f"It comes back, and says what it has: since={INCIDENT['id']}")
        returning = {**query, "since": INCIDENT["id"]}
        client = self._clients.enter_context(open_client(self._stack.websocket_url, returning))
        self._add(query, client)
        got: list[Record] = []

        def caught_up() -> bool:
            got.extend(messages_of(client))
            return any(frame["type"] == "caught_up" for frame in got)

        if not wait_for(caught_up):
            raise DemoFailure(f"It must be caught up; it got {got}.")
        ids = [frame.get("id") for frame in got]
        if missed["id"] not in ids:
            raise DemoFailure(f"It must get {missed['id']}, which it missed; it got {got}.")
        self._screen.add(*(f"It gets {json.dumps(frame)}" for frame in got))
        wait_for(lambda: _clients(self._stack.connections()) == self._expected())
        self._screen.show(self._check(self._stack.connections()))

    def presence_is_published(self) -> None:
        """Check the presence events, which come of the table's stream."""
        self._screen.say(
            "The table's stream says who was present: each client joined and left once, whatever its tabs"
        )
        once = dict.fromkeys(self._named, 1)
        lines = []
        for event in ("presence.joined", "presence.left"):
            logged = self._logged(event, once)
            if logged != once:
                raise DemoFailure(
                    f"{event} must be logged once for each of {sorted(once)}; it was logged for {logged}."
                )
            lines.append(f"{event}: {', '.join(logged)}")
        self._screen.add(*lines)

    def ends(self) -> None:
        first, *others = self._waits
        self._screen.say(
            "The list was right at every step, and each incident reached exactly whom it concerns"
        )
        self._screen.add(
            f"The first handshake took {first * 1000:.0f} ms, with the function's cold start; "
            f"the others {max(others) * 1000:.0f} ms at most."
        )

    def _check(self, connections: list[Connection]) -> list[Connection]:
        """Return *connections* if they are who is connected."""
        listed = _clients(connections)
        if listed != self._expected():
            raise DemoFailure(f"THE LIST IS WRONG.\n  Connected: {self._expected()}\n  Listed: {listed}")
        return connections

    def _expected(self) -> list[tuple[str, ...]]:
        return sorted(tuple((_DEFAULTS | dict(query)).values()) for query, _ in self._connected)

    def _add(self, query: Query, client: ClientConnection | Popen[str]) -> None:
        self._connected.append((query, client))
        if query:
            self._named.add(_name(query))

    def _take(self, query: Query) -> ClientConnection | Popen[str]:
        at = [query for query, _ in self._connected].index(query)
        return self._connected.pop(at)[1]

    def _logged(self, event: str, expected: Mapping[str, int]) -> Mapping[str, int]:
        """Return how many sessions of each client have *event*, once they are *expected*."""

        def counted() -> Mapping[str, int]:
            sessions = {(record["clientId"], record["visitId"]) for record in self._stack.records(event)}
            return Counter(name for name, _ in sorted(sessions))  # an event may be logged again

        wait_for(lambda: counted() == expected)
        return counted()

    def _record_of(self, query: Query) -> str:
        self._left[_name(query)] += 1

        def found() -> list[Record]:
            closed = self._stack.records("connection.closed")
            return [record for record in closed if record.get("clientId") == _name(query)]

        if not wait_for(lambda: len(found()) == self._left[_name(query)]):
            raise DemoFailure(f"$disconnect left no record of '{_name(query)}'.")
        shown = ("clientId", "account", "region", "sourceIp", "durationMs")
        return " ".join(f"{name}={value}" for name in shown if (value := found()[-1][name]) != "")


def _received(client: ClientConnection | Popen[str]) -> list[str]:
    """Return the ids of the messages that *client* has received by now."""
    assert isinstance(client, ClientConnection)  # noqa: S101 - the other kind is killed
    return [message["id"] for message in messages_of(client)]


def _clients(connections: list[Connection]) -> list[tuple[str, ...]]:
    return sorted((it.client_id, it.account, it.region) for it in connections)


def _name(query: Query) -> str:
    return (_DEFAULTS | dict(query))["clientId"]


def _event(query: Query) -> Record:
    """Return a $connect event with *query*, as far as the function reads one that it refuses."""
    context = {"routeKey": "$connect", "connectionId": "asked-directly"}
    return {"requestContext": context, "queryStringParameters": dict(query)}
