"""A TCP proxy between workers and database that delays and cuts connections.

Unlike a proxy for any protocol, it knows where an HTTP request begins and ends:
the most important fault is a cut between a request and its answer.
"""

import asyncio
import re
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from random import Random

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)

_DATABASE_TAKES = 5.0  # seconds; a stopped container does not close its connections


class Fault(Enum):
    """A fault of one request; the value is its name in the figures."""

    CUT_BEFORE = "cut before the request"
    CUT_WITHIN = "cut within the request"
    CUT_AFTER = "cut after the request, before its answer"
    CUT_IN_ANSWER = "cut within the answer"
    CUT_IDLE = "cut between two requests"
    DELAYED = "delayed, within the time-out"
    HELD_BACK = "held back, past the time-out"


_PER_MILLE = {
    Fault.CUT_BEFORE: 8,
    Fault.CUT_WITHIN: 8,
    Fault.CUT_AFTER: 15,
    Fault.CUT_IN_ANSWER: 8,
    Fault.CUT_IDLE: 8,
    Fault.DELAYED: 15,
    Fault.HELD_BACK: 6,
}


class _Cut(Exception):
    """A planned end of a connection."""


class FaultyProxy:
    """The proxy, its address and its counts; without faults once ``faulty`` is false."""

    def __init__(self, database_port: int, random: Random) -> None:
        self.faulty = True
        self.endpoint = ""
        self.faults: Counter[Fault] = Counter()
        self.requests = 0
        self._database_port = database_port
        self._random = random
        self._serving: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._none_under_way = asyncio.Event()
        self._none_under_way.set()

    async def quiet(self) -> None:
        """Return when no request is under way, those held back included."""
        await self._none_under_way.wait()

    def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve another connection until either side or a fault ends it."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)  # asyncio keeps weak references only
        task.add_done_callback(self._serving.discard)

    async def end(self) -> None:
        """End all connections."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        database: tuple[StreamReader, StreamWriter] | None = None
        try:
            while True:
                request = await _message(reader)
                self._begin()
                try:
                    fault, share = self._draw()
                    await _before(fault, share)
                    if database is None:
                        database = await asyncio.open_connection("127.0.0.1", self._database_port)
                    await _pass_on(request, database, writer, fault, share)
                finally:
                    self._end()
        except (OSError, IncompleteReadError, _Cut):
            pass  # a peer has closed the connection, or a planned cut
        finally:
            writer.transport.abort()
            if database is not None:
                database[1].transport.abort()

    def _draw(self) -> tuple[Fault | None, float]:
        """Return the next request's fault, and its position or length as a share of one."""
        drawn, share = self._random.uniform(0, 1000), self._random.random()
        if not self.faulty:
            return None, share
        for fault, per_mille in _PER_MILLE.items():
            drawn -= per_mille
            if drawn < 0:
                self.faults[fault] += 1
                return fault, share
        return None, share

    def _begin(self) -> None:
        self.requests += 1
        self._under_way += 1
        self._none_under_way.clear()

    def _end(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._none_under_way.set()


@asynccontextmanager
async def faulty_proxy(database_port: int, random: Random) -> AsyncIterator[FaultyProxy]:
    """Serve a proxy on loopback to the database on *database_port* until the block ends."""
    proxy = FaultyProxy(database_port, random)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        proxy.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy
    finally:
        server.close()
        await proxy.end()
        await server.wait_closed()


async def _message(reader: StreamReader) -> bytes:
    """Return the next whole request or answer, as DynamoDB and its clients send them."""
    head = await reader.readuntil(b"\r\n\r\n")
    if _CHUNKED.search(head):
        return head + await _chunks(reader)
    length = _LENGTH.search(head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


async def _chunks(reader: StreamReader) -> bytes:
    chunks = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line, 16)
        chunks += line + await reader.readexactly(size + 2)
        if size == 0:
            return chunks


async def _before(fault: Fault | None, share: float) -> None:
    match fault:
        case Fault.CUT_BEFORE:
            raise _Cut
        case Fault.DELAYED:
            await asyncio.sleep(share * 0.15)
        case Fault.HELD_BACK:  # the client has given up when it arrives
            await asyncio.sleep(1.1 + share)


async def _pass_on(
    request: bytes,
    database: tuple[StreamReader, StreamWriter],
    client: StreamWriter,
    fault: Fault | None,
    share: float,
) -> None:
    reader, writer = database
    if fault is Fault.CUT_WITHIN:
        writer.write(request[: int(share * len(request))])
        await writer.drain()
        raise _Cut
    writer.write(request)
    await writer.drain()
    async with asyncio.timeout(_DATABASE_TAKES):
        answer = await _message(reader)
    if fault is Fault.CUT_AFTER:
        raise _Cut
    if fault is Fault.CUT_IN_ANSWER:
        client.write(answer[: int(share * len(answer))])
        await client.drain()
        client.close()
        raise _Cut
    client.write(answer)
    await client.drain()
    if fault is Fault.CUT_IDLE:
        client.close()
        raise _Cut
