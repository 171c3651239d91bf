"""The plan as it is carried out: what the gateway delivers, what is looked up meanwhile."""

import asyncio
from asyncio import TaskGroup
from collections.abc import Collection
from http import HTTPStatus

from tests.builders import Event, an_event
from tests.chaos.database import Database, Table
from tests.chaos.figures import Outcome
from tests.chaos.plan import Delivery, Leave, Lifecycle, Plan, Stop, Succession
from tests.chaos.truth import Status, Truth, Visit
from tests.chaos.workers import Workers

_LOOKS_AT_EVERY = 10  # handshake that made a client connected
_CHECKPOINTS = 5
_SUCCESSIONS_A_WORKER = 12  # under way at once
_RARELY = 0.1  # seconds from one to the next while the database is down, or few would meet anything else
_EXPECTED: dict[str, tuple[Status, ...]] = {
    "$connect": (HTTPStatus.OK, HTTPStatus.GONE, HTTPStatus.SERVICE_UNAVAILABLE, None),
    "$disconnect": (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE, None),
}

type _Delivering = asyncio.Task[Status]


class Scene:
    """Plays a plan; what it finds wrong and what it counts goes into the outcome."""

    def __init__(
        self, database: Database, table: Table, truth: Truth, workers: Workers, outcome: Outcome
    ) -> None:
        self._database = database
        self._table = table
        self._truth = truth
        self._workers = workers
        self._outcome = outcome
        self._begun = 0
        self._connected = 0
        self._at: dict[int, list[Stop | None]] = {}
        self._stopping = asyncio.Lock()
        self._looking = asyncio.Semaphore(2)  # or looks at a database that is down take every thread

    async def play(self, plan: Plan, workers: int) -> None:
        """Return when all is delivered and answered."""
        lifecycles = sum(len(succession.lifecycles) for succession in plan.successions)
        for stop in plan.stops:
            self._at.setdefault(stop.at, []).append(stop)
        for turn in range(1, _CHECKPOINTS + 1):
            self._at.setdefault(lifecycles * turn // _CHECKPOINTS, []).append(None)
        free = asyncio.Semaphore(_SUCCESSIONS_A_WORKER * workers)
        async with TaskGroup() as group:
            for succession in plan.successions:
                await free.acquire()
                if self._stopping.locked():
                    await asyncio.sleep(_RARELY)
                group.create_task(self._succession(succession, group)).add_done_callback(
                    lambda _: free.release()
                )

    async def check_all(self) -> None:
        """Every client that is connected all the time has its row."""
        async with self._looking:
            before = self._truth.connected()
            rows = (await asyncio.to_thread(self._table.rows)).connections
        self._count("looks", "at a connected client's row", len(before))
        for visit in before:
            if self._truth.has(visit) and rows.get(visit.connection_id) != visit.connected_at:
                self._differs("missing while connected", visit)

    async def _succession(self, succession: Succession, scene: TaskGroup) -> None:
        shared = len(succession.lifecycles) > 1
        async with TaskGroup() as deliveries:
            for lifecycle in succession.lifecycles:
                self._begin(scene, shared=shared)
                await self._live(succession.connection_id, lifecycle, deliveries)

    def _begin(self, scene: TaskGroup, *, shared: bool) -> None:
        self._begun += 1
        self._count("lifecycles", "begun")
        if shared:
            self._count("lifecycles", "of them with an id that others have, too")
        for event in self._at.get(self._begun, ()):
            scene.create_task(self.check_all() if event is None else self._stop_database(event))

    async def _live(self, connection_id: str, lifecycle: Lifecycle, deliveries: TaskGroup) -> None:
        """Return when the client is there to stay, or has left, or is refused; *deliveries* go on."""
        visit = self._truth.begins(connection_id)
        event = _connect(lifecycle.event, visit)
        first, *others = lifecycle.connects
        handshake = deliveries.create_task(self._handshake(visit, event, first))
        closing: list[_Delivering] = []
        copies = [
            deliveries.create_task(self._again(visit, event, copy, "doubled", after=())) for copy in others
        ]
        if lifecycle.leave is None or not lifecycle.leave.early:
            await handshake
        if lifecycle.leave is not None and (lifecycle.leave.early or self._truth.has(visit)):
            closing = await self._leave(visit, lifecycle.leave, deliveries)
        if lifecycle.late_connect is not None:
            all_else = [handshake, *copies, *closing]
            deliveries.create_task(
                self._again(visit, event, lifecycle.late_connect, "again after all else", after=all_else)
            )

    async def _leave(self, visit: Visit, leave: Leave, deliveries: TaskGroup) -> list[_Delivering]:
        await asyncio.sleep(leave.after)
        self._truth.leaves(visit)
        visit.is_dropped = not leave.disconnects
        if visit.is_dropped:
            self._count("deliveries", "$disconnect, dropped")
        event = _disconnect(visit)
        kind = "during its $connect" if leave.early else ""
        return [
            deliveries.create_task(self._disconnect(visit, event, delivery, "doubled" if turn else kind))
            for turn, delivery in enumerate(leave.disconnects)
        ]

    async def _handshake(self, visit: Visit, event: Event, delivery: Delivery) -> Status:
        status = await self._deliver("$connect", "", event, delivery)
        self._truth.answered(visit, status)
        if status == HTTPStatus.GONE and not visit.left:
            self._differs("refused as one that had left", visit)
        if self._truth.has(visit):
            self._connected += 1
            if self._connected % _LOOKS_AT_EVERY == 0:
                await self._look_for(visit)
        return status

    async def _disconnect(self, visit: Visit, event: Event, delivery: Delivery, kind: str) -> Status:
        status = await self._deliver("$disconnect", kind, event, delivery)
        visit.disconnects.append(status)
        return status

    async def _again(
        self, visit: Visit, event: Event, delivery: Delivery, kind: str, *, after: Collection[_Delivering]
    ) -> Status:
        if after:
            await asyncio.wait(after)
        status = await self._deliver("$connect", kind, event, delivery)
        visit.came_again |= visit.left  # it may have been later than the $disconnect
        return status

    async def _deliver(self, route: str, kind: str, event: Event, delivery: Delivery) -> Status:
        await asyncio.sleep(delivery.after)
        self._count("deliveries", f"{route}, {kind}" if kind else route)
        status = await self._workers.call(event, delivery.killed_after)
        self._count("answers", f"{route} {status or 'none, its worker was killed'}")
        if status not in _EXPECTED[route]:
            self._outcome.differences.append(f"{route} was answered {status}: {event['requestContext']}")
        return status

    async def _look_for(self, visit: Visit) -> None:
        async with self._looking:
            found = await asyncio.to_thread(self._table.connected_at, visit.connection_id)
        self._count("looks", "at a connected client's row")
        if self._truth.has(visit) and found != visit.connected_at:
            self._differs("missing once its handshake was answered", visit)

    async def _stop_database(self, stop: Stop) -> None:
        async with self._stopping:
            await asyncio.to_thread(self._database.stop)
            await asyncio.sleep(stop.lasts)
            await asyncio.to_thread(self._database.start)
        self._count("faults", "database stopped and started")

    def _count(self, section: str, name: str, number: int = 1) -> None:
        self._outcome.figures.count(section, name, number)

    def _differs(self, what: str, visit: Visit) -> None:
        self._outcome.differences.append(f"{what}: {visit}")


def _connect(name: str, visit: Visit) -> Event:
    return _of(visit, an_event(name), visit.connected_at + 5)


def _disconnect(visit: Visit) -> Event:
    return _of(visit, an_event("disconnect_client_closed_1005"), visit.connected_at + 1000)


def _of(visit: Visit, event: Event, at: int) -> Event:
    event["requestContext"] |= {
        "connectionId": visit.connection_id,
        "connectedAt": visit.connected_at,
        "requestTimeEpoch": at,
    }
    return event
