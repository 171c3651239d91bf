"""Clients whose tabs come and go at the same moments; at the end presence has exactly those that are open.

The functions and what surrounds them are those of the clients that return, but
nobody is sent a message. The run is a process: this program, which prints what it
has found as JSON.
"""

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from itertools import count
from random import Random
from typing import NamedTuple

from app.domain.lifecycle import ConnectionRef
from app.domain.model import AccountId, ClientId, ConnectionId, Disconnect, Handshake, RegionName
from app.domain.presence import Client
from tests.chaos.courier import MAX_HANDSHAKE
from tests.chaos.figures import Outcome
from tests.chaos.present import PresenceChecks
from tests.chaos.returning import Simulation, Task, add_printed, printed_by, simulation

_MOST_TABS = 4  # of a client
_LONGEST_ROUND = 6.0  # seconds
_PAUSES = 0.5, 6.0  # seconds between two rounds, at most: of some, and of the others
_AT_ONCE = 0.5  # seconds within which the tabs of a client come, or go
_DISCONNECTS_AFTER = (0.01, 1)  # seconds
_EXPIRES_AFTER = (10, 30)  # seconds from the end of a connection; long after its handshake

# Shares of all stays.
_RELOADS = 0.3
_DISCONNECT_IS_LOST = 0.01


class Stay(NamedTuple):
    """A connection of a client, from when it comes until it goes, in seconds; the last ones do not go."""

    client: Client
    comes: float
    goes: float | None
    disconnect_is_lost: bool = False


def a_plan_of_stays(seed: str, *, clients: int, stays: int) -> tuple[Stay, ...]:
    """Return the plan of *seed* for so many clients with so many *stays* in all, or a few more."""
    random = Random(f"{seed} tabs")  # noqa: S311 - repeatable on purpose
    planned: list[Stay] = []
    for number in range(clients):
        client = Client(ClientId(f"wall-{number}"), AccountId("000000000001"), RegionName(""))
        first, now = len(planned), random.uniform(*_PAUSES)
        while len(planned) - first < stays / clients:
            until = now + random.uniform(0, _LONGEST_ROUND)
            for _ in range(random.randint(1, _MOST_TABS)):
                planned += _stays_of_tab(client, now, until, random)
            now = until + random.uniform(0, random.choice(_PAUSES))
        planned += [Stay(client, now, None)] * random.randint(0, _MOST_TABS)
    return tuple(planned)


def _stays_of_tab(client: Client, now: float, until: float, random: Random) -> Iterator[Stay]:
    """Yield the stays of a tab in a round: it may be reloaded."""
    comes = now + random.uniform(0, _AT_ONCE)
    goes = until + random.uniform(0, _AT_ONCE)
    while random.random() < _RELOADS:
        reloads = random.uniform(comes, goes)
        yield Stay(client, comes, reloads, random.random() < _DISCONNECT_IS_LOST)
        comes = reloads
    yield Stay(client, comes, goes, random.random() < _DISCONNECT_IS_LOST)


class Tabs:
    """The gateway of the tabs, which knows those that are ``open``."""

    def __init__(self, simulation: Simulation) -> None:
        self.open: defaultdict[Client, set[ConnectionRef]] = defaultdict(set)
        self._simulation = simulation
        self._gone: set[ConnectionRef] = set()
        self._numbers = count(1)

    def come(self, stay: Stay) -> None:
        """Begin a handshake."""
        turns = self._simulation.turns
        ref = ConnectionRef(ConnectionId(f"c-{next(self._numbers)}"), turns.time())
        turns.start(partial(self._shake_hands, stay, ref))
        if stay.goes is not None:
            turns.after(stay.goes - stay.comes, partial(self._go, stay, ref))

    def _shake_hands(self, stay: Stay, ref: ConnectionRef) -> None:
        turns, functions = self._simulation.turns, self._simulation.functions
        query = {"clientId": stay.client.client_id, "account": stay.client.account}
        handshake = Handshake(
            ref.connection_id, query, peer_address="203.0.113.24", connected_at=ref.began_at
        )
        is_accepted = functions.connect(handshake)
        if ref in self._gone:
            return
        if is_accepted and turns.time() <= ref.began_at + timedelta(seconds=MAX_HANDSHAKE):
            self.open[stay.client].add(ref)
        else:
            self._count("handshakes refused")
            self._end(ref)

    def _go(self, stay: Stay, ref: ConnectionRef) -> None:
        turns, random, functions, _ = self._simulation
        if ref in self._gone:
            return
        self._count("left" if ref in self.open[stay.client] else "left in the handshake")
        self.open[stay.client].discard(ref)
        self._end(ref)
        if not stay.disconnect_is_lost:
            job = partial(functions.disconnect, Disconnect(ref.connection_id, connected_at=ref.began_at))
            turns.after(random.uniform(*_DISCONNECTS_AFTER), partial(turns.start, job))

    def _end(self, ref: ConnectionRef) -> None:
        turns, random, functions, _ = self._simulation
        self._gone.add(ref)
        turns.after(random.uniform(*_EXPIRES_AFTER), partial(functions.expire, ref.connection_id))

    def _count(self, name: str) -> None:
        self._simulation.outcome.figures.count("tabs", name)


async def coming_and_going(task: Task, outcome: Outcome) -> None:
    """Carry out the task in a process of its own, and add to the outcome.

    Raises:
        TimeoutError: the limit is exceeded.
    """
    async with asyncio.timeout(task.limit):
        add_printed(await printed_by("tests.chaos.tabs", task), task, outcome)


def run(task: Task) -> Outcome:
    """Carry out the task in this process: its ``returns`` are the stays of its clients' tabs.

    Raises:
        TimeoutError: the limit is exceeded.
    """
    with simulation(task) as simulated:
        tabs = Tabs(simulated)
        for stay in a_plan_of_stays(task.seed, clients=task.clients, stays=task.returns):
            simulated.turns.after(stay.comes, partial(tabs.come, stay))
        simulated.turns.run()
        PresenceChecks(simulated.outcome, simulated.functions, tabs.open).check()
    return simulated.outcome


def main() -> None:
    outcome = run(Task(*json.loads(sys.argv[1])))
    json.dump([outcome.figures.sections, outcome.differences], sys.stdout)


if __name__ == "__main__":
    main()
