"""The command line on fakes."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from typer.testing import CliRunner, Result

from app.adapters.memory import MemoryConnectionTable, MemoryDeliveries
from app.adapters.messages import message_from
from app.adapters.threads import ThreadWorkers
from app.cli import cli
from app.cli.session import Session
from app.domain.model import ConnectionId, Entry
from app.domain.operations import EvictConnection, GetConnection, ListConnections, MintTicket
from app.domain.pace import Pace
from app.domain.ports import MessageReader
from app.domain.recipients import ReadRecipients
from app.domain.selection import Page, Selection
from app.domain.sending import DeliverMessage
from app.domain.sweep import SweepConnections
from app.settings import Settings
from tests.builders import NOON, a_connection
from tests.fakes import (
    FakeCourier,
    FakeGateway,
    FakeQueue,
    FakeTickets,
    FixedClock,
    InlineWorkers,
    RecordingPublisher,
)

GRACE = timedelta(seconds=30)


class FailingTable(MemoryConnectionTable):
    """A table that raises *error*, once it is set, on every page and scan."""

    error: Exception | None = None

    def page(self, selection: Selection, after: str | None = None) -> Page:
        self._fail()
        return super().page(selection, after)

    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        self._fail()
        yield from super().scan(segment, of)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class Desk:
    """The commands, and their use cases on fakes, a minute past noon."""

    def __init__(self) -> None:
        self.table = FailingTable(page_size=2)
        self.gateway = FakeGateway()
        self.time = FixedClock(NOON + timedelta(minutes=1))
        self.kept = MemoryDeliveries(self.time)
        self.messages = FakeQueue()
        self.tickets = FakeTickets()
        self.settings: Settings | None = None
        self.pauses: list[float] = []
        self.between: list[Callable[[], None]] = []
        """Called in the pauses of ``watch``, one in each; then Ctrl-C is pressed."""

    def run(self, *arguments: str, answer: str | None = None) -> Result:
        session = Session(build=self._build, pause=self._pause)
        return CliRunner().invoke(cli, arguments, obj=session, input=answer, prog_name="app")

    def add(self, *ids: str, **changes: Any) -> None:
        for name in ids:
            self.table.add(a_connection(id=ConnectionId(name), **changes))

    def clock(self) -> FixedClock:
        return self.time

    def list_connections(self) -> ListConnections:
        return ListConnections(self.table, self.time)

    def get_connection(self) -> GetConnection:
        return GetConnection(self.table, self.time)

    def evict_connection(self) -> EvictConnection:
        return EvictConnection(self.table, self.gateway, self.time, GRACE)

    def sweep_connections(self) -> SweepConnections:
        return SweepConnections(
            self.table, self.gateway, self.time, ThreadWorkers(1), GRACE, 10**9, RecordingPublisher()
        )

    def deliver_message(self) -> DeliverMessage:
        return DeliverMessage(
            self.table,
            self.table,
            FakeCourier(self.time),
            self.kept,
            self.time,
            InlineWorkers(),
            Pace(10**9),
            GRACE,
        )

    def read_recipients(self) -> ReadRecipients:
        return ReadRecipients(self.table, self.table, self.time)

    def deliveries(self) -> MemoryDeliveries:
        return self.kept

    def queue(self) -> FakeQueue:
        return self.messages

    def read_message(self) -> MessageReader:
        return message_from

    def mint_ticket(self) -> MintTicket:
        return MintTicket(self.tickets, self.time, lambda: f"secret-{len(self.tickets.added)}")

    def _build(self, settings: Settings) -> "Desk":
        self.settings = settings
        return self

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if not self.between:
            raise KeyboardInterrupt
        self.between.pop(0)()
