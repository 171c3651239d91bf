"""A management API whose every answer takes 10 ms, however many questions there are at once.

A connection whose id begins with ``gone`` is gone, all others are there. A
process of its own: it tells its port on standard output, and ends when its
standard input closes.
"""

import asyncio
import sys

TAKES = 0.01  # seconds

_ALIVE = (
    b'{"connectedAt":"2026-11-21T12:00:00.123Z","identity":{"sourceIp":"203.0.113.77","userAgent":"Mozilla/5.0"},'
    b'"lastActiveAt":"2026-11-21T12:00:30.000Z"}'
)
_GONE = b'{"message":null}'


def _answer(status: str, body: bytes, more: str = "") -> bytes:
    """An answer with the headers that API Gateway sends."""
    head = (
        f"HTTP/1.1 {status}\r\n"
        "Date: Sat, 21 Nov 2026 12:00:00 GMT\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: keep-alive\r\n"
        "x-amzn-RequestId: 3f2b6f0e-4b0a-4c2e-9a53-0f6c7a1d2e3b\r\n"
        f"{more}"
        "x-amz-apigw-id: UZ1aVHcZliAEPMg=\r\n"
        "\r\n"
    )
    return head.encode() + body


ALIVE = _answer("200 OK", _ALIVE)
GONE = _answer("410 Gone", _GONE, "x-amzn-ErrorType: GoneException\r\n")


class ManagementApi(asyncio.Protocol):
    """One connection: kept alive, answered request by request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._loop.call_later(TAKES, self._transport.write, GONE if b"/gone" in head else ALIVE)


def serve() -> None:
    """Serve on a port of loopback."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: ManagementApi(loop), "127.0.0.1", 0))
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.add_reader(sys.stdin, loop.stop)
    loop.run_forever()


if __name__ == "__main__":
    serve()
