"""A management API (``@connections``) with faults by connection and a limit of its account.

It is a process of its own, so that only the client's time is measured. Lines
in: a plan, which clears the counts, or ``report``. Lines out: the port after a
plan, else a report. It ends when its standard input closes.

It has an event loop of its own: asyncio's TLS takes twice as much CPU per
request (0.10 ms), which a client on the same machine lacks.
"""

import gc
import hashlib
import json
import selectors
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import unquote

SLOT = 0.1
"""Seconds in a slot of a report's time series."""

_CHECKOUT = Path(__file__).parent.parent
_RESOURCE = b"/@connections/"
_TICK = 0.0005  # s; what is due so soon is done now
_RESETS = struct.pack("ii", 1, 0)  # SO_LINGER for no time: closing sends a reset
_READ_SIZE = 65536


class Kind(StrEnum):
    """What goes wrong when a message is sent to a connection."""

    GONE = "gone"
    """410. For the first few attempts only, it is a connection whose handshake is pending."""
    FORBIDDEN = "forbidden"
    TOO_LARGE = "tooLarge"
    BUFFER_FULL = "bufferFull"
    """429, as the account's limit is answered: the client does not read what it is sent."""
    UNAVAILABLE = "unavailable"
    """503."""
    SLOW = "slow"
    """Delivered, and answered with a delay."""
    RESET = "reset"
    """A reset before the message is delivered."""
    RESET_DELIVERED = "resetDelivered"
    """A reset after it was delivered."""
    SILENT = "silent"
    """Not delivered, and never answered."""
    SILENT_DELIVERED = "silentDelivered"
    """Delivered, and never answered."""


class Fault(NamedTuple):
    """A fault of a connection: of its first few *attempts*, or of all of them.

    ``delay``, in seconds, is that of a ``SLOW`` connection. What the account's
    limit refuses does not reach a connection, and is no attempt.
    """

    kind: Kind
    attempts: int | None = None
    delay: float = 1.0


class Share(NamedTuple):
    """The share of all connections, from 0 to 1, that have a fault."""

    of_all: float
    fault: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the API behaves.

    Each answer takes ``latency`` (s). ``rate`` and ``burst`` are the account's
    limit, a token bucket; ``None`` means no limit. ``connections`` have faults
    by connection id; of all others, ``shares`` have, by *seed*.
    """

    seed: int = 0
    latency: float = 0.01
    rate: int | None = None
    burst: int = 300
    shares: tuple[Share, ...] = ()
    connections: Mapping[str, Fault] = field(default_factory=dict)

    def fault_of(self, connection_id: str) -> Fault | None:
        """Return the fault of a connection; ``None`` if it has none."""
        if connection_id in self.connections or not self.shares:
            return self.connections.get(connection_id)
        digest = hashlib.sha256(f"{self.seed} {connection_id}".encode()).digest()
        place = int.from_bytes(digest[:8]) / 2**64
        for share in self.shares:
            place -= share.of_all
            if place < 0:
                return share.fault
        return None

    def as_json(self) -> str:
        return json.dumps(
            {
                "seed": self.seed,
                "latency": self.latency,
                "rate": self.rate,
                "burst": self.burst,
                "shares": self.shares,
                "connections": self.connections,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields = json.loads(text)
        fields["shares"] = tuple(Share(share, _fault(*fault)) for share, fault in fields["shares"])
        fields["connections"] = {name: _fault(*fault) for name, fault in fields["connections"].items()}
        return cls(**fields)


class Seen(NamedTuple):
    """What a connection was sent.

    ``attempts`` reached it. ``deliveries`` are how often the client got the
    message, ``lost`` how often without an answer. ``first_at`` is when it first
    got it, in seconds from the first request. ``lost`` includes clients that did
    not wait for the answer.
    """

    attempts: int
    deliveries: int
    lost: int
    first_at: float | None


class Slot(NamedTuple):
    """A tenth of a second: the requests that came, those beyond the limit, and the deliveries."""

    requests: int
    limited: int
    deliveries: int


class Report(NamedTuple):
    """The counts since the last plan: by connection id, and of the answers by status.

    ``limited`` is how many of the answers with 429 were the limit's. ``slots``
    begin with the first request.
    """

    connections: Mapping[str, Seen]
    statuses: Mapping[int, int]
    limited: int
    slots: tuple[Slot, ...]

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields = json.loads(text)
        return cls(
            {name: Seen(*seen) for name, seen in fields["connections"].items()},
            {int(status): count for status, count in fields["statuses"].items()},
            fields["limited"],
            tuple(Slot(*slot) for slot in fields["slots"]),
        )


class GatewayServer:
    """A running server: its process, and the endpoint of its API's stage."""

    def __init__(self, process: "subprocess.Popen[str]", scheme: str) -> None:
        self._process = process
        self._scheme = scheme
        self.endpoint = ""

    def follow(self, plan: Plan) -> None:
        """Behave by *plan* from now on, and count from 0."""
        port = int(self._ask(plan.as_json()))
        self.endpoint = f"{self._scheme}://127.0.0.1:{port}/prod"

    def report(self) -> Report:
        return Report.from_json(self._ask("report"))

    def _ask(self, line: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@contextmanager
def gateway_server(plan: Plan | None = None, certificate: Path | None = None) -> Iterator[GatewayServer]:
    """Run a server until the block ends; over TLS with a *certificate* (PEM, with its key)."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.gateway_server", *([str(certificate)] if certificate else [])],
        cwd=_CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us to handle
    ) as process:
        try:
            server = GatewayServer(process, "https" if certificate else "http")
            server.follow(plan or Plan())
            yield server
        finally:
            process.terminate()


def _fault(kind: str, attempts: int | None, delay: float) -> Fault:
    return Fault(Kind(kind), attempts, delay)


def _answer(status: str, body: bytes = b"", error: str | None = None) -> bytes:
    """Return an answer with the headers that API Gateway sends."""
    length = "" if status.startswith("204") else f"Content-Length: {len(body)}\r\n"
    more = f"x-amzn-ErrorType: {error}\r\n" if error else ""
    head = (
        f"HTTP/1.1 {status}\r\n"
        "Date: Sat, 21 Nov 2026 12:00:00 GMT\r\n"
        "Content-Type: application/json\r\n"
        f"{length}"
        "Connection: keep-alive\r\n"
        "x-amzn-RequestId: 3f2b6f0e-4b0a-4c2e-9a53-0f6c7a1d2e3b\r\n"
        f"{more}"
        "x-amz-apigw-id: UZ1aVHcZliAEPMg=\r\n"
        "\r\n"
    )
    return head.encode() + body


_NO_MESSAGE = b'{"message":null}'
_SUCCESSES = {
    b"POST": (200, _answer("200 OK")),
    b"GET": (
        200,
        _answer(
            "200 OK",
            b'{"connectedAt":"2026-11-21T12:00:00.123Z","identity":{"sourceIp":"203.0.113.77",'
            b'"userAgent":"Mozilla/5.0"},"lastActiveAt":"2026-11-21T12:00:30.000Z"}',
        ),
    ),
    b"DELETE": (204, _answer("204 No Content")),
}
_LIMITED = 429, _answer("429 Too Many Requests", b'{"message":"Too Many Requests"}', "LimitExceededException")
_REFUSALS = {
    Kind.GONE: (410, _answer("410 Gone", _NO_MESSAGE, "GoneException")),
    Kind.FORBIDDEN: (403, _answer("403 Forbidden", _NO_MESSAGE, "ForbiddenException")),
    Kind.TOO_LARGE: (413, _answer("413 Payload Too Large", _NO_MESSAGE, "PayloadTooLargeException")),
    Kind.BUFFER_FULL: (429, _answer("429 Too Many Requests", _NO_MESSAGE, "LimitExceededException")),
    Kind.UNAVAILABLE: (503, _answer("503 Service Unavailable", _NO_MESSAGE, "ServiceUnavailableException")),
}


class _Bucket:
    """A token bucket: *rate* requests per second, and *burst* at once."""

    def __init__(self, rate: int, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = 0.0

    def takes(self, now: float) -> bool:
        self._tokens = min(self._tokens + (now - self._at) * self._rate, self._burst)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _Timers:
    """What is to be done later."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()

    def add(self, at: float, action: Callable[[], object]) -> None:
        heappush(self._due, (at, next(self._numbers), action))

    def run(self) -> float | None:
        """Do what is due; return the seconds until more is, or ``None`` if nothing is left."""
        now = time.monotonic()
        while self._due:
            at, _, action = self._due[0]
            if at > now + _TICK:
                return at - now
            heappop(self._due)
            action()
        return None


class _Target:
    """A connection as the API knows it: its fault, and the counts of what it was sent."""

    __slots__ = ("attempts", "deliveries", "fault", "first_at", "lost")

    def __init__(self, fault: Fault | None) -> None:
        self.fault = fault
        self.attempts = 0
        self.deliveries = 0
        self.lost = 0
        self.first_at: float | None = None

    def attempted(self) -> Fault | None:
        """Count an attempt, and return its fault."""
        self.attempts += 1
        fault = self.fault
        if fault is None or (fault.attempts is not None and self.attempts > fault.attempts):
            return None
        return fault


class _Api:
    """The API by a plan, and the counts since that was given."""

    def __init__(self, plan: Plan, timers: _Timers) -> None:
        self._plan = plan
        self._timers = timers
        self._bucket = _Bucket(plan.rate, plan.burst) if plan.rate is not None else None
        self._targets: dict[str, _Target] = {}
        self._by_path: dict[bytes, _Target] = {}  # a name can be quoted in several ways
        self._statuses: Counter[int] = Counter()
        self._limited = 0
        self._slots: list[list[int]] = []
        self._began: float | None = None

    def receive(self, client: "_Client", method: bytes, path: bytes) -> None:
        """Take a request, and see to it that it is answered when that is due."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
        slot = self._slot(now)
        slot[0] += 1
        due = now + self._plan.latency
        if self._bucket is not None and not self._bucket.takes(now):
            slot[1] += 1
            self._limited += 1
            self._timers.add(due, partial(self._say, client, _LIMITED))
            return
        target = self._by_path.get(path) or self._target(path)
        fault = target.attempted()
        if fault is None:
            self._timers.add(due, partial(self._succeed, client, method, target))
        elif fault.kind is Kind.SLOW:
            self._timers.add(now + fault.delay, partial(self._succeed, client, method, target))
        else:
            self._timers.add(due, partial(self._fail, client, method, target, fault.kind))

    def report(self) -> str:
        seen = {
            name: (it.attempts, it.deliveries, it.lost, it.first_at) for name, it in self._targets.items()
        }
        return json.dumps(
            {
                "connections": seen,
                "statuses": self._statuses,
                "limited": self._limited,
                "slots": self._slots,
            }
        )

    def _target(self, path: bytes) -> _Target:
        name = unquote(path.rpartition(_RESOURCE)[2].decode())
        if name not in self._targets:
            self._targets[name] = _Target(self._plan.fault_of(name))
        self._by_path[path] = self._targets[name]
        return self._targets[name]

    def _slot(self, now: float) -> list[int]:
        number = int((now - (self._began or now)) / SLOT)
        while number >= len(self._slots):
            self._slots.append([0, 0, 0])
        return self._slots[number]

    def _succeed(self, client: "_Client", method: bytes, target: _Target) -> None:
        is_sent = self._say(client, _SUCCESSES[method])
        if method == b"POST":
            self._deliver(target, is_answered=is_sent)

    def _fail(self, client: "_Client", method: bytes, target: _Target, kind: Kind) -> None:
        if kind in _REFUSALS:
            self._say(client, _REFUSALS[kind])
            return
        if kind in (Kind.RESET_DELIVERED, Kind.SILENT_DELIVERED) and method == b"POST":
            self._deliver(target, is_answered=False)
        if kind in (Kind.RESET, Kind.RESET_DELIVERED):
            client.reset()

    def _deliver(self, target: _Target, *, is_answered: bool) -> None:
        now = time.monotonic()
        target.deliveries += 1
        target.lost += not is_answered
        self._slot(now)[2] += 1
        if target.first_at is None:
            target.first_at = round(now - (self._began or now), 4)

    def _say(self, client: "_Client", answer: tuple[int, bytes]) -> bool:
        """Send an answer; return whether the client was still there."""
        status, data = answer
        if is_sent := client.send(data):
            self._statuses[status] += 1
        return is_sent


class _Client:
    """An HTTP client's connection, kept alive: one request at a time."""

    def __init__(self, made: socket.socket, server: "_Server") -> None:
        self._socket = made
        self._server = server
        self._received = b""
        self._ready = not isinstance(made, ssl.SSLSocket)

    def receive(self) -> None:
        """Take what has come."""
        try:
            if not self._ready:
                assert isinstance(self._socket, ssl.SSLSocket)
                self._socket.do_handshake()
                self._ready = True
            data = self._socket.recv(_READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._received += data
        while True:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or 0)
            if len(rest) < length:
                return
            self._received = rest[length:]
            method, path, _ = head.split(b" ", 2)
            self._server.api.receive(self, method, path)

    def send(self, data: bytes) -> bool:
        """Send *data*; return whether the client is still there."""
        try:
            self._socket.send(data)
        except OSError:
            return False
        return True

    def reset(self) -> None:
        """Break the connection off."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
            self._close()

    def _close(self) -> None:
        self._server.selector.unregister(self._socket)
        self._socket.close()


class _Server:
    """The event loop. A client of it is what a socket becomes readable for."""

    def __init__(self, plan: Plan, certificate: str | None = None) -> None:
        self.selector = selectors.DefaultSelector()
        self._timers = _Timers()
        self.api = _Api(plan, self._timers)
        self._tls = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self._listener.settimeout(0)
        self.selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self.selector.register(sys.stdin, selectors.EVENT_READ, self._obey)
        self._say_port()

    def run(self) -> None:
        while True:
            for key, _ in self.selector.select(self._timers.run()):
                key.data()

    def _accept(self) -> None:
        made, _ = self._listener.accept()
        made.settimeout(0)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            made = self._tls.wrap_socket(made, server_side=True, do_handshake_on_connect=False)
        self.selector.register(made, selectors.EVENT_READ, _Client(made, self).receive)

    def _obey(self) -> None:
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        if line == "report\n":
            print(self.api.report(), flush=True)  # noqa: T201 - how it speaks
        else:
            self.api = _Api(Plan.from_json(line), self._timers)
            self._say_port()

    def _say_port(self) -> None:
        print(self._listener.getsockname()[1], flush=True)  # noqa: T201 - how it speaks


if __name__ == "__main__":
    gc.disable()  # its pauses would count as the client's
    _Server(Plan.from_json(sys.stdin.readline()), *sys.argv[1:]).run()
