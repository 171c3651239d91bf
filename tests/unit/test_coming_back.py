"""A client leaves and comes back while a message is being sent: every order of the steps of both."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

import pytest

from app.adapters.memory import MemoryConnectionTable, MemoryDeliveries
from app.adapters.messages import JsonNotices
from app.domain.catching_up import CatchUpClient
from app.domain.delivery import Audience, Message, MessageId, SendResult
from app.domain.history import CatchUp, KeptMessage, Place, Scope
from app.domain.lifecycle import ConnectionRef
from app.domain.model import AccountId, Connection, ConnectionId
from app.domain.pace import Pace
from app.domain.selection import Page, Selection
from app.domain.sending import DeliverMessage
from tests.builders import NEVER, a_connection, a_message
from tests.fakes import FakeCatchUps, FixedClock, InlineWorkers, MemoryHistory
from tests.steps import Actor, Step, every_order, some_orders
from tests.thoroughness import examples, is_thorough

ACCOUNT = AccountId("123456789012")
AUDIENCE = Audience(account=ACCOUNT)
GRACE = timedelta(seconds=30)
LAST, MISSED = MessageId("m-1"), MessageId("m-2")
OLD = ConnectionId("c-1")
STEPS_OF_SENDING = 8


class Killed(BaseException):
    """The function is killed."""


class Gateway:
    """Courier that has some connections; ``got`` has what each of them was sent."""

    def __init__(self, clock: FixedClock) -> None:
        self.connections: set[ConnectionId] = set()
        self.got: dict[ConnectionId, list[bytes]] = {}
        self._clock = clock

    def deliver(
        self, frame: bytes, connections: Iterable[Connection | None]
    ) -> Iterator[tuple[Connection, SendResult]]:
        for connection in connections:
            if connection is None:
                self._clock.advance(timedelta(milliseconds=50))
            elif connection.id in self.connections:
                self.got.setdefault(connection.id, []).append(frame)
                yield connection, SendResult.DELIVERED
            else:
                yield connection, SendResult.GONE


class SteppedGateway(Gateway):
    """The same gateway, whose calls are steps."""

    def __init__(self, gateway: Gateway, step: Step) -> None:
        vars(self).update(vars(gateway))
        self._step = step

    def deliver(
        self, frame: bytes, connections: Iterable[Connection | None]
    ) -> Iterator[tuple[Connection, SendResult]]:
        def stepped() -> Iterator[Connection | None]:
            for connection in connections:
                if connection is not None:
                    self._step()
                yield connection

        return super().deliver(frame, stepped())


class SteppedHistory(MemoryHistory):
    """The same history, whose reads and writes are steps: DynamoDB's finish is two writes."""

    def __init__(self, history: MemoryHistory, step: Step) -> None:
        vars(self).update(vars(history))
        self._step = step

    def begin(self, message: Message, audience: Audience) -> None:
        self._step()
        super().begin(message, audience)

    def finish(self, message: Message, audience: Audience, at: datetime) -> None:
        self._step()
        under_way = dict(self._under_way)
        super().finish(message, audience, at)
        self._under_way |= under_way
        self._step()
        del self._under_way[Scope(f"account {ACCOUNT}"), message.id]

    def under_way(self, scope: Scope) -> Iterator[KeptMessage]:
        if ACCOUNT in scope:
            self._step()
        return super().under_way(scope)

    def finished(self, scope: Scope, after: Place) -> Iterator[tuple[Place, KeptMessage]]:
        if ACCOUNT in scope:
            self._step()
        return super().finished(scope, after)


@dataclass
class Scene:
    """A client whose connection ends after its last message, and who comes back as *new*.

    The sending function is killed at the step of that number, and the queue gives the
    message out again. The index shows the new connection some time after it is recorded.
    """

    new: ConnectionId
    killed_at: int | None
    loses_disconnect: bool
    clock: FixedClock = field(default_factory=FixedClock)
    table: MemoryConnectionTable = field(default_factory=lambda: MemoryConnectionTable(page_size=1))
    catch_ups: FakeCatchUps = field(default_factory=FakeCatchUps)

    def __post_init__(self) -> None:
        self.gateway = Gateway(self.clock)
        self.deliveries = MemoryDeliveries(self.clock)
        self.history = MemoryHistory(self.clock, kept_for=timedelta(days=1))
        self.is_shown = False
        self._add(OLD)

    def actors(self) -> dict[str, Actor]:
        return {"client": self._come_back, "sender": self._send, "index": self._show}

    def copies(self) -> Counter[ConnectionId]:
        """Return how often each connection got the message."""
        return Counter({name: frames.count(frame_of(MISSED)) for name, frames in self.gateway.got.items()})

    def _come_back(self, step: Step) -> None:
        step = self._timed(step)
        step()
        self._deliver(LAST, lambda: None)
        step()
        self.gateway.connections.discard(OLD)
        if not self.loses_disconnect:
            self.table.remove(OLD, None)
        step()
        new = self._add(self.new, since=LAST)
        self.catch_ups.put(CatchUp(ConnectionRef.of(new), LAST))
        step()
        self._look(step)
        step(lambda: self.is_shown)
        self._look(step)

    def _send(self, step: Step) -> None:
        step = self._timed(step)
        numbers = count(1)

        def killed() -> None:
            step()
            if next(numbers) == self.killed_at:
                raise Killed

        with suppress(Killed):
            self._deliver(MISSED, killed)
            return
        self._deliver(MISSED, step)

    def _show(self, step: Step) -> None:
        step(lambda: self.table.get(self.new) is not None)
        self.is_shown = True

    def _deliver(self, message_id: MessageId, step: Step) -> None:
        use_case = DeliverMessage(
            Index(self, step),
            self.table,
            SteppedGateway(self.gateway, step),
            self.deliveries,
            self.clock,
            InlineWorkers(),
            Pace(10**9),
            GRACE,
            history=SteppedHistory(self.history, step),
        )
        message = a_message(id=message_id, frame=frame_of(message_id), time=self.clock.now())
        use_case(message, AUDIENCE, until=NEVER, claimed_until=self.clock.now())

    def _look(self, step: Step) -> None:
        use_case = CatchUpClient(
            self.table,
            self.deliveries,
            SteppedHistory(self.history, step),
            self.gateway,
            JsonNotices(),
            self.catch_ups,
            self.clock,
            Pace(10**9),
            kept_for=timedelta(days=1),
            index_lag=timedelta(seconds=5),
            grace=GRACE,
        )
        [(request, _)] = self.catch_ups.requests
        self.catch_ups.requests.clear()
        assert not use_case(request, until=NEVER).ended

    def _add(self, name: ConnectionId, since: str | None = None) -> Connection:
        now = self.clock.now()
        self.gateway.connections.add(name)
        return self.table.add(
            a_connection(
                id=name, account=ACCOUNT, connected_at=now, created_at=now, admitted_until=None, since=since
            )
        )

    def _timed(self, step: Step) -> Step:
        """Let a minute pass at each step, so that nothing is found only since it is so near."""

        def timed(condition: Callable[[], bool] = lambda: True) -> None:
            step(condition)
            self.clock.advance(timedelta(minutes=1))

        return timed


class Index:
    """RecipientPages of a scene, whose reads are steps."""

    def __init__(self, scene: Scene, step: Step) -> None:
        self._scene = scene
        self._step = step

    def page(self, selection: Selection, after: str | None = None) -> Page:
        self._step()
        page = self._scene.table.page(selection, after)
        hidden = () if self._scene.is_shown else (self._scene.new,)
        return Page(tuple(it for it in page.connections if it.id not in hidden), page.next)


def frame_of(message_id: MessageId) -> bytes:
    return f'{{"id":"{message_id}"}}'.encode()


CASES = [
    (new, killed_at, loses_disconnect)
    for new in ("b-1", "d-1")  # before or after the old one in the index
    for killed_at in (None, *range(1, STEPS_OF_SENDING + 1))
    for loses_disconnect in (False, True)
]


@pytest.mark.parametrize(("new", "killed_at", "loses_disconnect"), CASES)
def test_no_order_of_steps_loses_a_message(
    new: str, killed_at: int | None, *, loses_disconnect: bool
) -> None:
    scenes: list[Scene] = []

    def actors() -> dict[str, Actor]:
        scenes.append(Scene(ConnectionId(new), killed_at, loses_disconnect))
        return scenes[-1].actors()

    is_whole = is_thorough() and killed_at is None and not loses_disconnect
    orders = every_order(actors) if is_whole else some_orders(actors, examples(250))
    for order in orders:
        copies = scenes.pop().copies()

        assert copies.total() >= 1, order
        assert max(copies.values()) <= 2 + (killed_at is not None), order
