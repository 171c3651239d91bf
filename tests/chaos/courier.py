"""The gateway as those that send see it: it answers by the truth, but some calls fail, and some are slow.

A fault passes: whoever tries again as often as sending does succeeds.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from heapq import heappop, heappush
from itertools import count
from random import Random
from zlib import crc32

from app.domain.delivery import SendResult
from app.domain.history import CatchUp
from app.domain.model import Connection, ConnectionId
from app.domain.sending import MAX_FAILED, MAX_THROTTLED
from tests.chaos.simulated import Execution
from tests.chaos.turns import Turns

MAX_HANDSHAKE = 4.0
"""Seconds until the gateway gives up a handshake."""
MAX_PENDING = 0.5
"""Seconds from the answer to a handshake until messages reach the client, at most."""

_POST_IS_SLOW = 0.1
_POST_IS_VERY_SLOW = 0.04
_SLOW, _VERY_SLOW = (0.005, 0.3), (0.8, 1.8)  # seconds
_POST_FAILS = 0.02
_FAULT_IS_REPEATED = 0.4
_FAULTS = (
    SendResult.THROTTLED,
    SendResult.THROTTLED,
    SendResult.FAILED,
    SendResult.UNANSWERED,
    SendResult.UNANSWERED,
)
_NAMES = {
    SendResult.THROTTLED: "429",
    SendResult.FAILED: "500",
    SendResult.UNANSWERED: "none, and delivered",
}
_FAILURES = {SendResult.FAILED, SendResult.UNANSWERED}

_MOST_POSTS = 128  # under way
_PAUSES = 0.01, 0.25  # seconds until a courier with nothing to send asks again: at first, and at most


class Look:
    """A look into the history, as far as it can be seen: when it began, what for, and the frames in order.

    *at* is by our clock, *began* by that of its function.
    """

    def __init__(self, request: CatchUp, at: datetime, began: datetime, created_at: datetime | None) -> None:
        self.request = request
        self.at = at
        self.began = began
        self.created_at = created_at
        self.frames: list[bytes] = []

    def posting(self, frame: bytes) -> None:
        """Note *frame*, unless it is sent again."""
        if self.frames[-1:] != [frame]:
            self.frames.append(frame)


type Receive = Callable[[Line, bytes, Look | None], None]
"""What a client does with a frame, and from which look it is."""


class Line:
    """A connection as the gateway has it.

    From ``opened`` on the gateway takes messages for it, until it has ended. The
    client gets them until it has ``left``.
    """

    def __init__(self, number: int, connected_at: datetime, since: str, receive: Receive) -> None:
        self.id = ConnectionId(f"{crc32(str(number).encode()):08x}-{number}")  # in no order of time
        self.connected_at = connected_at
        self.since = since
        self.receive = receive
        self.caught_up = False
        self.opened = self.left = False


class SimulatedGateway:
    """The gateway, which has the lines. It refuses or loses some messages, some of them several times."""

    def __init__(self, turns: Turns, random: Random) -> None:
        self.answers: Counter[str] = Counter()
        self._turns = turns
        self._random = random
        self._lines: dict[str, Line] = {}
        self._faults: dict[tuple[str, bytes], Counter[SendResult]] = {}
        self._numbers = count(1)

    def line(self, since: str, receive: Receive) -> Line:
        """Return a new line, whose handshake is pending."""
        line = Line(next(self._numbers), self._turns.time(), since, receive)
        self._lines[line.id] = line
        return line

    def end(self, line: Line) -> None:
        """End *line*: it is unknown from now on."""
        del self._lines[line.id]

    def post(self, connection_id: str, frame: bytes, look: Look | None = None) -> SendResult:
        """Send *frame* to a client, and return the answer; *look* if it is by one into the history."""
        line = self._lines.get(connection_id)
        if line is None or not line.opened:
            self.answers["410, it is pending" if line else "410, it has ended"] += 1
            return SendResult.GONE
        fault = self._fault(connection_id, frame)
        is_lost_before = fault is SendResult.UNANSWERED and self._random.random() < 0.5
        if fault is None or (fault is SendResult.UNANSWERED and not is_lost_before):
            if line.left:
                self.answers["200, and the client has left"] += 1
            else:
                line.receive(line, frame, look)
        if fault is None:
            self.answers["200"] += 1
            return SendResult.DELIVERED
        self.answers[_NAMES[fault] if not is_lost_before else "none, and not delivered"] += 1
        return fault

    def _fault(self, connection_id: str, frame: bytes) -> SendResult | None:
        """Return a fault, but for one client and message not as many as sending gives up after."""
        place = connection_id, frame
        so_far = self._faults.get(place)
        if self._random.random() >= (_POST_FAILS if so_far is None else _FAULT_IS_REPEATED):
            return None
        fault = self._random.choice(_FAULTS)
        so_far = self._faults.setdefault(place, Counter())
        kinds = {SendResult.THROTTLED} if fault is SendResult.THROTTLED else _FAILURES
        most = MAX_THROTTLED if fault is SendResult.THROTTLED else MAX_FAILED
        if sum(so_far[kind] for kind in kinds) + 1 >= most:
            return None
        so_far[fault] += 1
        return fault


class SimulatedCourier:
    """Courier of one invocation; *look*, if there is one, is told of each frame."""

    def __init__(self, gateway: SimulatedGateway, turns: Turns, execution: Execution) -> None:
        self.look: Look | None = None
        self._gateway = gateway
        self._turns = turns
        self._execution = execution

    def deliver(
        self, frame: bytes, connections: Iterable[Connection | None]
    ) -> Iterator[tuple[Connection, SendResult]]:
        turns, source, numbers = self._turns, iter(connections), count()
        under_way: list[tuple[float, int, Connection, SendResult | None]] = []
        pause, more = _PAUSES[0], True
        while more or under_way:
            for connection in source:
                if connection is None or len(under_way) == _MOST_POSTS:
                    break
                pause = _PAUSES[0]
                takes, result = self._post(frame, connection)
                if result is not None and not takes:
                    yield connection, result
                else:
                    heappush(under_way, (turns.now + takes, next(numbers), connection, result))
            else:
                more = False
            if more or under_way:
                turns.sleep(min(pause, under_way[0][0] - turns.now) if under_way else pause)
                pause = min(pause * 1.5, _PAUSES[1])
            while under_way and under_way[0][0] <= turns.now:
                _, _, connection, result = heappop(under_way)
                self._execution.survive()
                yield connection, result or self._gateway.post(connection.id, frame, self.look)

    def _post(self, frame: bytes, connection: Connection) -> tuple[float, SendResult | None]:
        """Send *frame*, or begin to; return how many seconds that takes, and the answer if it was sent."""
        self._execution.survive()
        if self.look:
            self.look.posting(frame)
        random = self._execution.random
        chance = random.random()
        if chance >= _POST_IS_SLOW:
            return 0, self._gateway.post(connection.id, frame, self.look)
        takes = random.uniform(*(_VERY_SLOW if chance < _POST_IS_VERY_SLOW else _SLOW))
        is_sent_first = random.random() < 0.5
        return takes, self._gateway.post(connection.id, frame, self.look) if is_sent_first else None
