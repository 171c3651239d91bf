"""The clients that leave and return, the messages meanwhile, and the plan of both, drawn from a seed."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from itertools import count
from random import Random
from typing import Any, NamedTuple, Protocol

from app.domain.history import NOW
from app.domain.lifecycle import ConnectionRef
from app.domain.model import AccountId, ClientId, ConnectionId, Disconnect, Handshake, RegionName
from app.domain.presence import Client as PresentClient
from tests.chaos.courier import MAX_HANDSHAKE, MAX_PENDING, Line, Look, SimulatedGateway
from tests.chaos.figures import Outcome
from tests.chaos.flaws import Flaw
from tests.chaos.simulated import CLOCK_SKEW
from tests.chaos.turns import Turns

REGIONS = ("eu-central-1", "us-east-1", "ap-northeast-2")

_MESSAGES_A_SECOND = 5
_SHORTEST = 300.0  # seconds in which messages are sent
_LONG_AWAY = (100, 240)  # seconds: most of them longer than the history is kept
_MEAN_AWAY = 33.0  # seconds
_CLIENTS_AN_ACCOUNT = 50
_CATCHES_UP_WITHIN = 60.0  # seconds, or the client connects again
_MOST_ATTEMPTS = 20  # to be caught up
_HALF_OPEN_FOR = (2, 20)  # seconds
_EXPIRES_AFTER = (10, 60)  # seconds from the end of a connection; long after its handshake
_AROUND, _JUST_AFTER = (-0.4, 0.8), (0.05, 0.5)  # seconds from a handshake to messages to its client
_LATE = timedelta(seconds=CLOCK_SKEW + 2.5)
"""How much after its expiry a message may come: by the clock of a function, and a post that takes long."""

# Shares of all clients, stays, messages, and so on.
_HAS_NO_ACCOUNT = 0.01
_HAS_NO_REGION = 0.3
_SHARES_CLIENT_ID = 0.1
_LEAVES_IN_HANDSHAKE = 0.04
_LEAVES_SOON = 0.2
_LEAVES_LATER = 0.2
_EXPIRES = 0.1
_ARE_ATTACHED = 0.7


class Leaving(Enum):
    """How a client leaves."""

    CLOSED = "closed"
    DISCONNECT_LOST = "its $disconnect is lost"
    HALF_OPEN = "half-open"


class Audience(NamedTuple):
    """To whom a message goes, independent of the code under test."""

    account: str = ""
    region: str = ""
    client: str = ""

    def as_json(self) -> dict[str, Any]:
        return {name: text for name, text in self._asdict().items() if text} or {"everyone": True}

    def includes(self, client: "ClientPlan") -> bool:
        """Return whether *client* may get it; those without an account get what any account is sent."""
        if self.client:
            return client.client_id == self.client
        if not self.account or not client.account:
            return True
        return client.account == self.account and (not self.region or client.region in ("", self.region))


class Message(NamedTuple):
    """A message, and after how many seconds it expires."""

    id: str
    audience: Audience
    expires_after: float | None = None

    def body(self, now: datetime) -> str:
        content = {"id": self.id, "type": "incident", "audience": self.audience.as_json(), "data": {}}
        if self.expires_after is not None:
            content["expiresAt"] = (now + timedelta(seconds=self.expires_after)).isoformat()
        return json.dumps(content)


class Stay(NamedTuple):
    """A stay of so many seconds, ``None`` if the client leaves in the handshake; then it is *away*.

    *messages* are sent around its return, so many seconds after that begins.
    """

    lasts: float | None
    leaving: Leaving
    away: float
    messages: tuple[tuple[float, Message], ...]


class ClientPlan(NamedTuple):
    """A client: who it is, when it first comes, and its stays but for the last."""

    client_id: str
    account: str
    region: str
    comes_after: float
    stays: tuple[Stay, ...]


class ReturningPlan(NamedTuple):
    """The clients, and the messages that are sent independent of them."""

    clients: tuple[ClientPlan, ...]
    messages: tuple[tuple[float, Message], ...]


def a_plan_of_returns(seed: str, *, clients: int, messages: int, returns: int) -> ReturningPlan:
    """Return the plan of *seed* for so many clients, messages and returns."""
    random = Random(f"{seed} returning")  # noqa: S311 - repeatable on purpose
    lasts = max(messages / _MESSAGES_A_SECOND, _SHORTEST)
    accounts = [f"{number:012}" for number in range(1, max(clients // _CLIENTS_AN_ACCOUNT, 2) + 1)]
    numbers = count(1)
    of_client = Counter(random.randrange(clients) for _ in range(returns))
    attached = (
        Counter(random.randrange(returns) for _ in range(round(messages * _ARE_ATTACHED)))
        if returns
        else Counter[int]()
    )
    returning = count()
    planned = []
    for number in range(clients):
        account = "" if random.random() < _HAS_NO_ACCOUNT else random.choice(accounts)
        region = "" if random.random() < _HAS_NO_REGION else random.choice(REGIONS)
        name = f"wall-{number - (number > 0 and random.random() < _SHARES_CLIENT_ID)}"
        client = ClientPlan(name, account, region, random.uniform(0, lasts / 10), ())
        those = of_client[number]
        stays = [
            _stay(random, client, lasts, those, attached[next(returning)], accounts, numbers)
            for _ in range(those)
        ]
        planned.append(client._replace(stays=tuple(stays)))
    audiences = [
        _audience(random, it.client_id, random.choice(accounts), random.choice(REGIONS)) for it in planned
    ]
    rest = messages - sum(attached.values())
    sent = [
        (random.uniform(0, lasts), _message(random, random.choice(audiences), numbers)) for _ in range(rest)
    ]
    return ReturningPlan(tuple(planned), tuple(sorted(sent)))


def _stay(
    random: Random,
    client: ClientPlan,
    lasts: float,
    returns: int,
    messages: int,
    accounts: list[str],
    numbers: Iterator[int],
) -> Stay:
    chance = random.random()
    if chance < 0.7:
        away = random.uniform(0.5, 20)
    elif chance < 0.92:
        away = random.uniform(20, 90)
    else:
        away = random.uniform(*_LONG_AWAY)
    chance = random.random()
    if chance < _LEAVES_SOON:
        stays = random.uniform(0, 4)
    elif chance < _LEAVES_SOON + _LEAVES_LATER:
        stays = random.uniform(8, 40)
    else:
        mean = (0.9 * lasts / returns - _MEAN_AWAY) / (1 - _LEAVES_SOON - _LEAVES_LATER)
        stays = random.expovariate(1 / max(mean, 10))
    leaving = random.choices(list(Leaving), (90, 5, 5))[0]
    account = client.account or random.choice(accounts)
    region = client.region or random.choice(REGIONS)
    around = [
        (
            random.uniform(*random.choice((_AROUND, _JUST_AFTER))),
            _message(random, _audience(random, client.client_id, account, region), numbers),
        )
        for _ in range(messages)
    ]
    return Stay(None if random.random() < _LEAVES_IN_HANDSHAKE else stays, leaving, away, tuple(around))


def _audience(random: Random, client_id: str, account: str, region: str) -> Audience:
    chance = random.random()
    if chance < 0.02:
        return Audience()
    if chance < 0.3:
        return Audience(client=client_id)
    return Audience(account=account, region=region if random.random() < 0.5 else "")


def _message(random: Random, audience: Audience, numbers: Iterator[int]) -> Message:
    expires_after = None
    if random.random() < _EXPIRES:
        expires_after = random.choice((random.uniform(1, 10), 3600.0))
    return Message(f"m-{next(numbers)}", audience, expires_after)


class Functions(Protocol):
    """What the gateway and the senders of messages call."""

    def connect(self, handshake: Handshake) -> bool:
        """Carry out ``$connect``, and return whether the client may come in."""

    def disconnect(self, disconnect: Disconnect) -> None:
        """Carry out ``$disconnect``."""

    def expire(self, connection_id: ConnectionId) -> None:
        """Delete the item of a connection that has ended, if its ``$disconnect`` has not."""

    def send(self, body: str) -> None:
        """Put a message into the queue."""


class Sent(NamedTuple):
    """A message that was sent, and when."""

    message: Message
    at: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """What the clients of a run share."""

    turns: Turns
    random: Random
    gateway: SimulatedGateway
    functions: Functions
    outcome: Outcome
    flaw: str
    sent: dict[str, Sent] = field(default_factory=dict)

    def send(self, message: Message) -> None:
        """Send *message* now."""
        now = self.turns.time()
        self.sent[message.id] = Sent(message, now)
        self.functions.send(message.body(now))

    def count(self, name: str) -> None:
        self.outcome.figures.count("clients that return", name)


class Client:
    """A client that follows the protocol: it comes back with the id or the position that it has."""

    def __init__(self, plan: ClientPlan, run: Run) -> None:
        self.plan = plan
        self.came_at: datetime | None = None
        """When the handshake began after which it was first caught up: it has every message from then on."""
        self.received: Counter[str] = Counter()
        self.gaps: list[Look] = []
        """The looks that announced a gap."""
        self._run = run
        self._log: list[str] = []
        self._line: Line | None = None
        self._since = NOW
        self._stays = iter(plan.stays)
        self._stay = next(self._stays, None)
        self._attempts = 0  # to be caught up

    def connect(self) -> None:
        """Begin a handshake."""
        run, plan = self._run, self.plan
        line = self._line = run.gateway.line(self._since, self._receive)
        query = {
            "clientId": plan.client_id,
            "account": plan.account,
            "region": plan.region,
            "since": line.since,
        }
        handshake = Handshake(
            line.id,
            query={name: text for name, text in query.items() if text},
            peer_address="203.0.113.24",
            connected_at=line.connected_at,
        )
        run.turns.start(partial(self._handshake, line, handshake))
        if self._stay and self._stay.lasts is None:
            run.turns.after(run.random.uniform(0, 0.3), partial(self._leave, line))

    def log(self) -> str:
        """Return what happened to its connections, for a message that it has missed."""
        return "; ".join(self._log)

    def _note(self, line: Line, event: str) -> None:
        self._log.append(f"{self._run.turns.time():%H:%M:%S.%f} {line.id} {event}")

    def open_connection(self) -> ConnectionRef | None:
        """Return its connection; ``None`` if it has none that is open."""
        line = self._line
        is_open = line is not None and line.opened and not line.left
        return ConnectionRef(line.id, line.connected_at) if line and is_open else None

    def is_caught_up(self) -> bool:
        return self._line is not None and self._line.caught_up

    def _handshake(self, line: Line, handshake: Handshake) -> None:
        run = self._run
        is_accepted = run.functions.connect(handshake)
        if line.left:
            return
        if is_accepted and run.turns.time() <= line.connected_at + timedelta(seconds=MAX_HANDSHAKE):
            run.turns.after(run.random.uniform(0, MAX_PENDING), partial(self._open, line))
        else:
            run.count("handshakes refused")
            line.left = True
            self._end_line(line)
            run.turns.after(run.random.uniform(0.5, 3), self.connect)

    def _open(self, line: Line) -> None:
        if line.left:
            return
        line.opened = True
        self._note(line, f"open with {line.since}")
        self._run.count("connected")
        if self._stay and self._stay.lasts is not None:
            self._run.turns.after(self._stay.lasts, partial(self._leave, line))
        self._run.turns.after(_CATCHES_UP_WITHIN, partial(self._reconnect, line))

    def _leave(self, line: Line) -> None:
        """Leave as planned, and plan the return."""
        if line.left or self._stay is None:
            return
        stay, self._stay = self._stay, next(self._stays, None)
        self._run.count(f"left: {stay.leaving.value}" if line.opened else "left in the handshake")
        if line.opened and not line.caught_up:
            self._run.count("left while catching up")
        self._close(line, stay.leaving)
        self._run.turns.after(stay.away, self.connect)
        for after, message in stay.messages:
            self._run.turns.after(max(stay.away + after, 0), partial(self._run.send, message))

    def _reconnect(self, line: Line) -> None:
        """Connect again if it is not caught up."""
        if line.left or line.caught_up:
            return
        self._run.count("connected again, since caught_up did not come")
        self._attempts += 1
        if self._attempts == _MOST_ATTEMPTS:
            self._run.outcome.differences.append(
                f"not caught up on {_MOST_ATTEMPTS} connections: {self.plan.client_id}"
            )
            return
        self._close(line, Leaving.CLOSED)
        self._run.turns.after(self._run.random.uniform(0.1, 2), self.connect)

    def _close(self, line: Line, leaving: Leaving) -> None:
        line.left = True
        self._note(line, f"left, {leaving.value}")
        wait = self._run.random.uniform(*_HALF_OPEN_FOR) if leaving is Leaving.HALF_OPEN else 0
        self._run.turns.after(wait, partial(self._end, line, leaving))

    def _end(self, line: Line, leaving: Leaving) -> None:
        run = self._run
        self._end_line(line)
        if leaving is not Leaving.DISCONNECT_LOST:
            job = partial(run.functions.disconnect, Disconnect(line.id, connected_at=line.connected_at))
            run.turns.after(run.random.uniform(0.01, 1), partial(run.turns.start, job))

    def _end_line(self, line: Line) -> None:
        run = self._run
        run.gateway.end(line)
        run.turns.after(run.random.uniform(*_EXPIRES_AFTER), partial(run.functions.expire, line.id))

    def _receive(self, line: Line, frame: bytes, look: Look | None) -> None:
        content = json.loads(frame)
        match content["type"]:
            case "caught_up":
                line.caught_up = True
                self._attempts = 0
                self._since = content["since"]
                self._note(line, f"caught up, {self._since}")
                self.came_at = self.came_at or line.connected_at
                self._run.count("caught up")
            case "gap":
                assert look
                self.gaps.append(look)
                self._note(line, "gap")
                self._run.count("gaps announced")
            case _:
                self._got(content["id"], look)
                if line.caught_up or self._run.flaw == Flaw.MOVES_SINCE_EARLY:
                    self._since = content["id"]

    def _got(self, message_id: str, look: Look | None) -> None:
        run, sent = self._run, self._run.sent[message_id]
        self.received[message_id] += 1
        is_first = self.received[message_id] == 1
        kind = "again" if not is_first else "by sending" if look is None else "by catching up"
        run.outcome.figures.count("messages that they got", kind)
        if not sent.message.audience.includes(self.plan):
            run.outcome.differences.append(f"{message_id} went to {self.plan.client_id}, not in its audience")
        if sent.message.expires_after is not None:
            late = run.turns.time() - sent.at - timedelta(seconds=sent.message.expires_after)
            if late > _LATE:
                by = "sending" if look is None else "catching up"
                run.outcome.differences.append(
                    f"{message_id} went to {self.plan.client_id} by {by} {late} after it had expired"
                )


def open_connections(clients: Iterable[Client]) -> dict[PresentClient, set[ConnectionRef]]:
    """Return the connections of *clients* that are open, by who they say they are."""
    found: defaultdict[PresentClient, set[ConnectionRef]] = defaultdict(set)
    for client in clients:
        plan, ref = client.plan, client.open_connection()
        if ref is not None:
            name = ClientId(plan.client_id), AccountId(plan.account), RegionName(plan.region)
            found[PresentClient(*name)].add(ref)
    return found
