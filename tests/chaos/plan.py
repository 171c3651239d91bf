"""What is to happen, drawn from a seed: who comes, stays and leaves, and what goes wrong on the way.

The same seed gives the same plan. When things happen is up to the machine, so
two runs of a plan are never the same to the millisecond.
"""

import base64
from dataclasses import dataclass
from random import Random

EVENTS = ("connect_browser", "connect_agent_api_key_authorizer", "connect_behind_proxy_custom_domain")

# Shares of all lifecycles, of all deliveries, and so on.
_ID_IS_SHARED = 0.1
_STAYS = 0.3
_LEAVES_EARLY = 0.12
_CONNECT_IS_DOUBLED = 0.06
_CONNECT_COMES_AGAIN_LATE = 0.04
_DISCONNECT_IS_DROPPED = 0.08
_DISCONNECT_IS_DOUBLED = 0.1
_DISCONNECT_IS_LATE = 0.1
_WORKER_IS_KILLED = 0.006

_MOST_OF_AN_ID = 3
_A_CALL = 0.015
"""Seconds that a call takes here at most, as a rule: a kill within them is mid-call, mostly."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way: seconds until it arrives, and seconds from then until its worker is killed."""

    after: float = 0.0
    killed_after: float | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """How a client leaves: *after* so many seconds, and how often its ``$disconnect`` is delivered then.

    The time counts from the answer to its handshake; where it is *early*, from
    the handshake's beginning.
    """

    after: float
    early: bool
    disconnects: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """One connection: the gateway heeds the answer to the first of *connects*; without *leave* it stays.

    ``late_connect`` is one more copy, which comes when all others and every
    ``$disconnect`` have been answered.
    """

    event: str
    connects: tuple[Delivery, ...]
    late_connect: Delivery | None
    leave: Leave | None


@dataclass(frozen=True, slots=True)
class Succession:
    """The connections that have one id, each beginning when the one before has left."""

    connection_id: str
    lifecycles: tuple[Lifecycle, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """The database is stopped when so many lifecycles have begun, and for so many seconds."""

    at: int
    lasts: float


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to happen but the faults of the network and the gateway, which have seeds of their own."""

    successions: tuple[Succession, ...]
    stops: tuple[Stop, ...]


def a_plan(seed: int, *, lifecycles: int, stops: int) -> Plan:
    """The plan of *seed* for so many lifecycles and stops of the database."""
    random = Random(seed)  # noqa: S311 - it is to be repeatable
    successions = []
    left = lifecycles
    while left:
        number = random.randint(2, _MOST_OF_AN_ID) if random.random() < _ID_IS_SHARED else 1
        number = min(number, left)
        left -= number
        successions.append(_succession(random, number))
    share = lifecycles / (stops + 1)
    return Plan(
        tuple(successions),
        tuple(
            Stop(int(share * (turn + random.uniform(0.75, 1.25))), random.uniform(0.1, 1))
            for turn in range(stops)
        ),
    )


def _succession(random: Random, number: int) -> Succession:
    connection_id = base64.urlsafe_b64encode(random.randbytes(11)).decode()
    return Succession(
        connection_id,
        tuple(_lifecycle(random, may_stay=turn == number - 1, shared=number > 1) for turn in range(number)),
    )


def _lifecycle(random: Random, *, may_stay: bool, shared: bool) -> Lifecycle:
    leave = None if may_stay and random.random() < _stays(shared=shared) else _leave(random)
    first = 0.0
    if leave and leave.early and random.random() < 0.5:
        first = random.uniform(0.01, 0.1)  # so that its $disconnect comes first
    connects = [_delivery(random, first)]
    if random.random() < _CONNECT_IS_DOUBLED:
        connects.append(_delivery(random, random.choice((0.0, random.uniform(0, 0.5)))))
    late = _delivery(random, random.uniform(0, 0.2)) if random.random() < _CONNECT_COMES_AGAIN_LATE else None
    return Lifecycle(random.choice(EVENTS), tuple(connects), late, leave)


def _stays(*, shared: bool) -> float:
    """The last one of a shared id stays more often: it is what a late delivery could hurt."""
    return 0.7 if shared else _STAYS


def _leave(random: Random) -> Leave:
    early = random.random() < _LEAVES_EARLY
    after = random.uniform(0, 0.01) if early else random.choice((0.0, random.uniform(0, 0.5)))
    if random.random() < _DISCONNECT_IS_DROPPED:
        return Leave(after, early, ())
    first = random.uniform(0.1, 0.8) if random.random() < _DISCONNECT_IS_LATE else 0.0
    disconnects = [_delivery(random, first)]
    if random.random() < _DISCONNECT_IS_DOUBLED:
        disconnects.append(_delivery(random, random.choice((first, random.uniform(0, 0.8)))))
    return Leave(after, early, tuple(disconnects))


def _delivery(random: Random, after: float) -> Delivery:
    killed_after = random.uniform(0, _A_CALL) if random.random() < _WORKER_IS_KILLED else None
    return Delivery(after, killed_after)
