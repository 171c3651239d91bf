"""A program that delivers one message to many recipients, and prints what that took as JSON."""

import gc
import json
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.deliveries import DynamoDBDeliveries
from app.adapters.dynamodb.direct import direct_transport
from app.adapters.dynamodb.sdk import SdkTransport, dynamodb_client
from app.adapters.dynamodb.table import RECIPIENT, RECIPIENT_PAGE, DynamoDBConnectionTable
from app.adapters.gateway import MAX_CONNECTIONS, ManagementApiGateway
from app.adapters.memory import MemoryDeliveries
from app.adapters.threads import ThreadWorkers
from app.domain.delivery import Audience, Delivery, Message, MessageId, SendResult
from app.domain.errors import DeliveryClaimed
from app.domain.model import AccountId, Connection, ConnectionId, Entry
from app.domain.pace import Pace
from app.domain.ports import Courier, Deliveries, RecipientPages
from app.domain.selection import Page, Selection
from app.domain.sending import DeliverMessage
from app.settings import StoreTimeouts, SweepSettings
from tests.gateway_server import Kind, Plan
from tests.sending.pages import PAGE_LENGTH, a_recipient, number_of, table_of

REGION = "eu-central-1"
"""As in tests.dynamodb_local, whose imports would count as this program's memory."""
NO_LIMIT = 1_000_000
"""Messages per second: more than can be sent."""

_SWEEP = SweepSettings()
_STORE = StoreTimeouts()
_PATIENCE = timedelta(seconds=30)  # with a store on a busy machine
_LONGEST = timedelta(minutes=2)  # of a run
_PENDING = timedelta(seconds=-50)  # its age; one that is up to a minute ahead is young, too


class Task(NamedTuple):
    """What the program does.

    ``gateway`` is the endpoint of the management API. ``reading`` is that of the
    stub that has pages of recipients; without it, they are in the memory.
    ``deliveries`` is that of a DynamoDB with the *table* of deliveries; without it,
    they are in the memory, too. ``claim`` and ``timeout``, that of a request to the
    gateway, are in seconds. ``connections`` is how many requests are under way. By
    ``plan`` some recipients are young; with it, each recipient's results are noted.
    """

    gateway: str
    recipients: int
    rate: int = NO_LIMIT
    reading: str | None = None
    deliveries: str | None = None
    table: str = ""
    claim: float = 120
    timeout: float = 3
    connections: int = MAX_CONNECTIONS
    plan: str | None = None


class Done(NamedTuple):
    """What became of it: seconds of time and of CPU, bytes of peak memory, and the delivery's report.

    ``results`` are those of each recipient, in order. ``evicted`` are those whose
    entries were deleted.
    """

    seconds: float
    cpu: float
    peak: int
    selected: int
    outcomes: dict[str, int]
    delays: int
    results: dict[str, list[str]]
    evicted: list[str]


class _Recipients:
    """RecipientPages in pages of DynamoDB's length, and ConnectionTable of the same."""

    def __init__(self, recipients: int, plan: Plan | None) -> None:
        self._plan = plan
        self._all = [self._recipient(number) for number in range(recipients)]
        self.evicted: list[str] = []

    def page(self, selection: Selection, after: str | None = None) -> Page:
        first = int(after or 0)
        end = first + PAGE_LENGTH
        return Page(tuple(self._all[first:end]), str(end) if end < len(self._all) else None)

    def get(self, connection_id: ConnectionId) -> Connection | None:
        return self._recipient(number_of(connection_id))

    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        raise NotImplementedError

    def delete_exact(self, entry: Entry) -> bool:
        assert isinstance(entry, Connection)
        self.evicted.append(entry.id)
        return True

    def _recipient(self, number: int) -> Connection:
        """Return a recipient; one whose handshake is pending is young for over a minute."""
        recipient = a_recipient(number)
        fault = self._plan.fault_of(recipient.id) if self._plan else None
        if fault and fault.kind is Kind.GONE and fault.attempts is not None:
            return a_recipient(number, age=_PENDING)
        return recipient


class _Noting:
    """Courier that notes the results of another."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self.results: dict[str, list[str]] = {}

    def deliver(
        self, frame: bytes, connections: Iterable[Connection | None]
    ) -> Iterator[tuple[Connection, SendResult]]:
        for connection, result in self._courier.deliver(frame, connections):
            self.results.setdefault(connection.id, []).append(result)
            yield connection, result


def a_message(time: datetime) -> Message:
    """Return a message of half a KB."""
    content = {"id": "incident-1", "time": time.isoformat(), "type": "incident", "data": {"text": "x" * 400}}
    return Message(MessageId("incident-1"), time, "incident", json.dumps(content).encode(), "digest")


def run(task: Task) -> Done:
    """Deliver the message."""
    clock = SystemClock()
    plan = Plan.from_json(task.plan) if task.plan else None
    table = _Recipients(0 if task.reading else task.recipients, plan)
    timeout = timedelta(seconds=task.timeout)
    gateway = ManagementApiGateway(
        region=REGION,
        endpoint=task.gateway,
        connect_timeout=timeout,  # its server makes all TLS connections one after the other
        timeout=timeout,
        connections=task.connections,
    )
    noting = _Noting(gateway)
    deliver_message = DeliverMessage(
        _pages_at(task.reading, task.recipients) if task.reading else table,
        table,
        noting if plan else gateway,
        _deliveries_at(task.deliveries, task.table, clock) if task.deliveries else MemoryDeliveries(clock),
        clock,
        ThreadWorkers(_SWEEP.concurrency),
        Pace(task.rate),
        _SWEEP.grace,
    )
    gc.collect()
    gc.freeze()  # a function does not have all recipients in its memory
    wall, cpu = time.perf_counter(), cpu_time()
    report = _delivered(deliver_message, clock, timedelta(seconds=task.claim)).progress.report
    return Done(
        seconds=time.perf_counter() - wall,
        cpu=cpu_time() - cpu,
        peak=_peak_memory(),
        selected=report.selected,
        outcomes={outcome.value: number for outcome, number in report.outcomes.items()},
        delays=sum(report.delays.values()),
        results=noting.results,
        evicted=table.evicted,
    )


def cpu_time() -> float:
    """Return the seconds of CPU that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_memory() -> int:
    """Return this program's peak memory in bytes; on Linux, ru_maxrss includes the parent's."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _delivered(deliver_message: DeliverMessage, clock: SystemClock, claim: timedelta) -> Delivery:
    """Deliver the message; as long as another process has claimed it, try again."""
    began = clock.now()
    message, audience = a_message(began), Audience(account=AccountId("123456789012"))
    while True:
        now = clock.now()
        try:
            return deliver_message(message, audience, until=began + _LONGEST, claimed_until=now + claim)
        except DeliveryClaimed:
            if now > began + _LONGEST:
                raise
            time.sleep(0.1)  # as a queue gives a message again, but sooner


def _pages_at(endpoint: str, recipients: int) -> RecipientPages:
    transport = direct_transport(
        region=REGION,
        endpoint=endpoint,
        connect_timeout=_PATIENCE,
        read_timeout=_PATIENCE,
        attempts=_STORE.attempts,
    )
    return DynamoDBConnectionTable(
        transport, table_of(recipients), page_size=RECIPIENT_PAGE, attributes=RECIPIENT
    )


def _deliveries_at(endpoint: str, table: str, clock: SystemClock) -> Deliveries:
    client = dynamodb_client(
        region=REGION,
        endpoint=endpoint,
        connect_timeout=_PATIENCE,
        read_timeout=_PATIENCE,
        attempts=_STORE.attempts,
    )
    return DynamoDBDeliveries(SdkTransport(client), table, clock=clock)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(Task(*json.loads(sys.argv[1])))._asdict()))
