"""Fakes of ports. The contract tests of Clock and Gateway run on them, too."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from app.domain.events import Event
from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection
from tests.builders import NOON


class FixedClock:
    """Clock that stands still until it is advanced."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        self._now += by


class FakeGateway:
    """Gateway on which every connection is open until it is closed.

    ``results`` overrides the result by connection id. ``before`` is called first
    with each connection, to simulate a concurrent change.
    """

    def __init__(
        self,
        results: Mapping[str, ProbeResult] | None = None,
        *,
        before: Callable[[Connection], object] = lambda _: None,
    ) -> None:
        self.results = dict(results or {})
        self.before = before
        self.probed: list[str] = []
        self.closed: list[str] = []

    def probe(self, connection: Connection) -> ProbeResult:
        self.before(connection)
        result = self._result_of(connection, ProbeResult.ALIVE)
        self.probed.append(connection.id)
        return result

    def close(self, connection: Connection) -> ProbeResult:
        self.before(connection)
        result = self._result_of(connection, ProbeResult.CLOSED)
        self.closed.append(connection.id)
        return result

    def _result_of(self, connection: Connection, success: ProbeResult) -> ProbeResult:
        if result := self.results.get(connection.id):
            return result
        return ProbeResult.GONE if connection.id in self.closed else success


class RecordingPublisher:
    """EventPublisher that keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)
