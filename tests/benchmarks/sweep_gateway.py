"""A management API whose every answer takes 10 ms, however many requests are concurrent.

A connection whose id begins with ``gone`` is gone, all others are open. It runs
as a process of its own, prints its port, and ends when its standard input
closes.
"""

import asyncio

from tests.benchmarks.stub import KeepAlive, serve

LATENCY = 0.01  # seconds

_ALIVE = (
    b'{"connectedAt":"2026-11-21T12:00:00.123Z","identity":{"sourceIp":"203.0.113.77","userAgent":"Mozilla/5.0"},'
    b'"lastActiveAt":"2026-11-21T12:00:30.000Z"}'
)
_GONE = b'{"message":null}'


def _answer(status: str, body: bytes, more: str = "") -> bytes:
    """Return an answer with the headers that API Gateway sends."""
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


class ManagementApi(KeepAlive):
    """Answers any number of requests at once."""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            answer = GONE if b"/gone" in head else ALIVE
            asyncio.get_running_loop().call_later(LATENCY, self._transport.write, answer)


if __name__ == "__main__":
    serve(ManagementApi)
