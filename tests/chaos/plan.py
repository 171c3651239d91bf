"""The plan of a run, drawn from a seed: which connections open and close, and which faults occur.

The same seed gives the same plan. The timing depends on the machine, so two
runs of a plan are never the same to the millisecond.
"""

import base64
from dataclasses import dataclass
from random import Random

EVENTS = ("connect_browser", "connect_agent_api_key_authorizer", "connect_behind_proxy_custom_domain")

# Shares of all lifecycles, of all deliveries, and so on.
_ID_IS_SHARED = 0.1
_TOKEN_IS_FORGED = 0.05
_STAYS_OPEN = 0.3
_CLOSES_EARLY = 0.12
_CONNECT_IS_DOUBLED = 0.06
_CONNECT_IS_REPEATED_LATE = 0.04
_DISCONNECT_IS_DROPPED = 0.08
_DISCONNECT_IS_DOUBLED = 0.1
_DISCONNECT_IS_LATE = 0.1
_WORKER_IS_KILLED = 0.006

_MAX_LIFECYCLES_PER_ID = 3
_A_CALL = 0.015
"""The seconds of nearly every call at most, so that most kills are in the middle of a call."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of an event: seconds until it arrives, and from then until its worker is killed."""

    after: float = 0.0
    killed_after: float | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """A close by the client *after* so many seconds, and the deliveries of its ``$disconnect``.

    The time begins with the answer to the handshake; if *early*, with the
    handshake itself.
    """

    after: float
    early: bool
    disconnects: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """One connection: the answer to the first of *connects* counts; without *close* it stays open.

    ``late_connect`` is one more copy, delivered after all others and every
    ``$disconnect`` have been answered. The token of a *forged* one is of somebody
    else's key, so that it must be refused.
    """

    event: str
    connects: tuple[Delivery, ...]
    late_connect: Delivery | None
    close: Close | None
    forged: bool


@dataclass(frozen=True, slots=True)
class Succession:
    """The connections that have one id; each begins after the previous one has closed."""

    connection_id: str
    lifecycles: tuple[Lifecycle, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop of the database when so many lifecycles have begun, for so many seconds."""

    at: int
    lasts: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The lifecycles and the stops. The network's and the gateway's faults have seeds of their own."""

    successions: tuple[Succession, ...]
    stops: tuple[Stop, ...]


def a_plan(seed: int, *, lifecycles: int, stops: int) -> Plan:
    """Return the plan of *seed* for so many lifecycles and stops of the database."""
    random = Random(seed)  # noqa: S311 - repeatable on purpose
    successions = []
    remaining = lifecycles
    while remaining:
        number = random.randint(2, _MAX_LIFECYCLES_PER_ID) if random.random() < _ID_IS_SHARED else 1
        number = min(number, remaining)
        remaining -= number
        successions.append(_succession(random, number))
    share = lifecycles / (stops + 1)
    return Plan(
        tuple(successions),
        tuple(
            Stop(int(share * (index + random.uniform(0.75, 1.25))), random.uniform(0.1, 1))
            for index in range(stops)
        ),
    )


def _succession(random: Random, number: int) -> Succession:
    connection_id = base64.urlsafe_b64encode(random.randbytes(11)).decode()
    return Succession(
        connection_id,
        tuple(
            _lifecycle(random, may_stay_open=index == number - 1, shared=number > 1)
            for index in range(number)
        ),
    )


def _lifecycle(random: Random, *, may_stay_open: bool, shared: bool) -> Lifecycle:
    close = None if may_stay_open and random.random() < _stays_open(shared=shared) else _close(random)
    first = 0.0
    if close and close.early and random.random() < 0.5:
        first = random.uniform(0.01, 0.1)  # so that its $disconnect is delivered first
    connects = [_delivery(random, first)]
    if random.random() < _CONNECT_IS_DOUBLED:
        connects.append(_delivery(random, random.choice((0.0, random.uniform(0, 0.5)))))
    late = _delivery(random, random.uniform(0, 0.2)) if random.random() < _CONNECT_IS_REPEATED_LATE else None
    forged = random.random() < _TOKEN_IS_FORGED
    return Lifecycle(random.choice(EVENTS), tuple(connects), late, close, forged)


def _stays_open(*, shared: bool) -> float:
    """Return the share that stays open: a late delivery could delete the last connection of a shared id."""
    return 0.7 if shared else _STAYS_OPEN


def _close(random: Random) -> Close:
    early = random.random() < _CLOSES_EARLY
    after = random.uniform(0, 0.01) if early else random.choice((0.0, random.uniform(0, 0.5)))
    if random.random() < _DISCONNECT_IS_DROPPED:
        return Close(after, early, ())
    first = random.uniform(0.1, 0.8) if random.random() < _DISCONNECT_IS_LATE else 0.0
    disconnects = [_delivery(random, first)]
    if random.random() < _DISCONNECT_IS_DOUBLED:
        disconnects.append(_delivery(random, random.choice((first, random.uniform(0, 0.8)))))
    return Close(after, early, tuple(disconnects))


def _delivery(random: Random, after: float) -> Delivery:
    killed_after = random.uniform(0, _A_CALL) if random.random() < _WORKER_IS_KILLED else None
    return Delivery(after, killed_after)
