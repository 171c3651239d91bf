"""The execution of a plan: the gateway's deliveries, and the checks of the table meanwhile."""

import asyncio
from asyncio import TaskGroup
from collections.abc import Collection
from http import HTTPStatus

from tests.builders import Event, an_event
from tests.chaos.database import Database, Table
from tests.chaos.figures import Outcome
from tests.chaos.plan import Close, Delivery, Lifecycle, Plan, Stop, Succession
from tests.chaos.tokens import Tokens
from tests.chaos.truth import ActualConnection, Status, Truth
from tests.chaos.workers import Workers

_CHECKS_EVERY = 10  # opened connections
_CHECKPOINTS = 5
_SUCCESSIONS_A_WORKER = 12  # under way at once
_PAUSE = 0.1  # seconds between two successions while the database is down; without it, most would begin then
_EXPECTED: dict[str, tuple[Status, ...]] = {
    "$connect": (HTTPStatus.OK, HTTPStatus.GONE, HTTPStatus.SERVICE_UNAVAILABLE, None),
    "$connect, forged": (HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE, None),
    "$disconnect": (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE, None),
}

type _Delivering = asyncio.Task[Status]


class Scene:
    """Carries out a plan, and adds its counts and the differences that it finds to the outcome."""

    def __init__(
        self,
        database: Database,
        table: Table,
        truth: Truth,
        workers: Workers,
        tokens: Tokens,
        outcome: Outcome,
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._table = table
        self._truth = truth
        self._workers = workers
        self._outcome = outcome
        self._begun = 0
        self._connected = 0
        self._at: dict[int, list[Stop | None]] = {}
        self._stopping = asyncio.Lock()
        self._checking = asyncio.Semaphore(2)  # checks of a stopped database must not take every thread

    async def run(self, plan: Plan, workers: int) -> None:
        """Return when every event is delivered and answered."""
        lifecycles = sum(len(succession.lifecycles) for succession in plan.successions)
        for stop in plan.stops:
            self._at.setdefault(stop.at, []).append(stop)
        for number in range(1, _CHECKPOINTS + 1):
            self._at.setdefault(lifecycles * number // _CHECKPOINTS, []).append(None)
        free = asyncio.Semaphore(_SUCCESSIONS_A_WORKER * workers)
        async with TaskGroup() as group:
            for succession in plan.successions:
                await free.acquire()
                if self._stopping.locked():
                    await asyncio.sleep(_PAUSE)
                group.create_task(self._run_succession(succession, group)).add_done_callback(
                    lambda _: free.release()
                )

    async def check_all(self) -> None:
        """Check that every connection that is open throughout has its item."""
        async with self._checking:
            before = self._truth.connected()
            items = (await asyncio.to_thread(self._table.items)).connections
        self._count("checks", "of an open connection's item", len(before))
        for connection in before:
            if (
                self._truth.is_open(connection)
                and items.get(connection.connection_id) != connection.connected_at
            ):
                self._differs("missing while connected", connection)

    async def _run_succession(self, succession: Succession, background: TaskGroup) -> None:
        shared = len(succession.lifecycles) > 1
        async with TaskGroup() as deliveries:
            for lifecycle in succession.lifecycles:
                self._begin(background, shared=shared)
                await self._run_lifecycle(succession.connection_id, lifecycle, deliveries)

    def _begin(self, background: TaskGroup, *, shared: bool) -> None:
        self._begun += 1
        self._count("lifecycles", "begun")
        if shared:
            self._count("lifecycles", "with a shared id")
        for event in self._at.get(self._begun, ()):
            background.create_task(self.check_all() if event is None else self._stop_database(event))

    async def _run_lifecycle(self, connection_id: str, lifecycle: Lifecycle, deliveries: TaskGroup) -> None:
        """Return when the connection stays open, is closed or is refused; *deliveries* continue."""
        connection = self._truth.begin(connection_id)
        event = self._connect(lifecycle, connection)
        first, *others = lifecycle.connects
        handshake = deliveries.create_task(self._handshake(connection, event, first))
        disconnects: list[_Delivering] = []
        copies = [
            deliveries.create_task(self._repeat(connection, event, copy, "doubled", after=()))
            for copy in others
        ]
        if lifecycle.close is None or not lifecycle.close.early:
            await handshake
        if lifecycle.close is not None and (lifecycle.close.early or self._truth.is_open(connection)):
            disconnects = await self._close(connection, lifecycle.close, deliveries)
        if lifecycle.late_connect is not None:
            preceding = [handshake, *copies, *disconnects]
            deliveries.create_task(
                self._repeat(
                    connection, event, lifecycle.late_connect, "repeated after all else", after=preceding
                )
            )

    async def _close(
        self, connection: ActualConnection, close: Close, deliveries: TaskGroup
    ) -> list[_Delivering]:
        await asyncio.sleep(close.after)
        self._truth.close(connection)
        connection.disconnect_dropped = not close.disconnects
        if connection.disconnect_dropped:
            self._count("deliveries", "$disconnect, dropped")
        event = _disconnect(connection)
        kind = "during its $connect" if close.early else ""
        return [
            deliveries.create_task(
                self._disconnect(connection, event, delivery, "doubled" if index else kind)
            )
            for index, delivery in enumerate(close.disconnects)
        ]

    async def _handshake(self, connection: ActualConnection, event: Event, delivery: Delivery) -> Status:
        status = await self._deliver("$connect", "", event, delivery)
        self._truth.record_answer(connection, status)
        if self._tokens.is_forged(event):
            await self._check_refused(connection)
        if status == HTTPStatus.GONE and not connection.closed:
            self._differs("refused as closed", connection)
        if self._truth.is_open(connection):
            self._connected += 1
            if self._connected % _CHECKS_EVERY == 0:
                await self._check(connection)
        return status

    async def _disconnect(
        self, connection: ActualConnection, event: Event, delivery: Delivery, kind: str
    ) -> Status:
        status = await self._deliver("$disconnect", kind, event, delivery)
        connection.disconnects.append(status)
        return status

    async def _repeat(
        self,
        connection: ActualConnection,
        event: Event,
        delivery: Delivery,
        kind: str,
        *,
        after: Collection[_Delivering],
    ) -> Status:
        if after:
            await asyncio.wait(after)
        status = await self._deliver("$connect", kind, event, delivery)
        connection.connect_repeated |= connection.closed  # its write may be later than the $disconnect's
        return status

    async def _deliver(self, route: str, kind: str, event: Event, delivery: Delivery) -> Status:
        await asyncio.sleep(delivery.after)
        self._count("deliveries", f"{route}, {kind}" if kind else route)
        status = await self._workers.call(event, delivery.killed_after)
        self._count("answers", f"{route} {status or 'none, its worker was killed'}")
        expected = f"{route}, forged" if self._tokens.is_forged(event) else route
        if status not in _EXPECTED[expected]:
            self._outcome.differences.append(f"{route} was answered {status}: {event['requestContext']}")
        return status

    async def _check(self, connection: ActualConnection) -> None:
        async with self._checking:
            found = await asyncio.to_thread(self._table.connected_at, connection.connection_id)
        self._count("checks", "of an open connection's item")
        if self._truth.is_open(connection) and found != connection.connected_at:
            self._differs("missing after its handshake was answered", connection)

    async def _check_refused(self, connection: ActualConnection) -> None:
        async with self._checking:
            found = await asyncio.to_thread(self._table.connected_at, connection.connection_id)
        self._count("checks", "that a refused connection has no item")
        if found == connection.connected_at:
            self._differs("an item of a forged token", connection)

    def _connect(self, lifecycle: Lifecycle, connection: ActualConnection) -> Event:
        event = _of(connection, an_event(lifecycle.event), connection.connected_at + 5)
        return self._tokens.shown_in(event, forged=lifecycle.forged)

    async def _stop_database(self, stop: Stop) -> None:
        async with self._stopping:
            await asyncio.to_thread(self._database.stop)
            await asyncio.sleep(stop.lasts)
            await asyncio.to_thread(self._database.start)
        self._count("faults", "database stopped and started")

    def _count(self, section: str, name: str, number: int = 1) -> None:
        self._outcome.figures.count(section, name, number)

    def _differs(self, what: str, connection: ActualConnection) -> None:
        self._outcome.differences.append(f"{what}: {connection}")


def _disconnect(connection: ActualConnection) -> Event:
    return _of(connection, an_event("disconnect_client_closed_1005"), connection.connected_at + 1000)


def _of(connection: ActualConnection, event: Event, at: int) -> Event:
    event["requestContext"] |= {
        "connectionId": connection.connection_id,
        "connectedAt": connection.connected_at,
        "requestTimeEpoch": at,
    }
    return event
