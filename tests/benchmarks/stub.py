"""A stub of DynamoDB with fixed answers, so that only the client's own time is measured.

It runs as a process of its own, prints its port, and ends when its standard
input closes.
"""

import asyncio
import json
import os
import ssl
import sys
import time
import zlib
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import Any

ITEM: dict[str, object] = {
    "connectionId": {"S": "JKJcXeXAmPl3AbC="},
    "createdAt": {"N": "1795251600123"},
    "ttl": {"N": "1795338000"},
    "clientId": {"S": "dashboard-7"},
    "account": {"S": "123456789012"},
    "region": {"S": "ap-northeast-2"},
    "sourceIp": {"S": "203.0.113.77"},
    "userAgent": {
        "S": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/140.0.0.0 Safari/537.36"
    },
    "apiId": {"S": "a1b2c3d4e5"},
    "domainName": {"S": "ws.example.com"},
    "stage": {"S": "prod"},
    "connectedAt": {"N": "1795251600000"},
}
"""A connection's item; the answer to a DeleteItem with ALL_OLD has it, with the key's id."""

_NOTHING = b"{}"
_QUEUE = b'{"QueueUrl":"https://sqs.eu-central-1.amazonaws.com/123456789012/catch-ups"}'
"""The answer to SQS's GetQueueUrl; that to its SendMessage has nothing that the functions read."""
_READ = b'{"Item":%s}' % os.environ.get("STUB_ITEM", "{}").encode()
"""The answer to a GetItem."""
_REQUEST_ID = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGHIJVV4KQNSO5AEMVJF66Q9ASUAAJG"


class KeepAlive(asyncio.Protocol):
    """A connection that is kept alive, and the bytes received on it that are not answered yet."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport


class DynamoDB(KeepAlive):
    """Answers one request after the other."""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                return
            body, self._received = rest[:length], rest[length:]
            self._transport.write(_answer(self.body_for(json.loads(body)), int(time.time())))

    @staticmethod
    def body_for(request: Mapping[str, Any]) -> bytes:
        """Return the body of the answer."""
        if "QueueName" in request:
            return _QUEUE
        if "ConsistentRead" in request:
            return _READ
        if request.get("ReturnValues") != "ALL_OLD":
            return _NOTHING
        return json.dumps({"Attributes": ITEM | request["Key"]}, separators=(",", ":")).encode()


@lru_cache(maxsize=16)
def _answer(body: bytes, at: int) -> bytes:
    """Return an answer at the epoch second *at*, with the headers that DynamoDB sends."""
    head = (
        "HTTP/1.1 200 OK\r\n"
        "Server: Server\r\n"
        f"Date: {formatdate(at, usegmt=True)}\r\n"
        "Content-Type: application/x-amz-json-1.0\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: keep-alive\r\n"
        f"x-amzn-RequestId: {_REQUEST_ID}\r\n"
        f"x-amz-crc32: {zlib.crc32(body)}\r\n"
        "\r\n"
    )
    return head.encode() + body


def serve(protocol: type[KeepAlive], certificate: str | None = None) -> None:
    """Serve *protocol* on a port of loopback, over TLS with a *certificate* (PEM, with its key)."""
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(protocol, "127.0.0.1", 0, ssl=tls))
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.add_reader(sys.stdin, loop.stop)
    loop.run_forever()


if __name__ == "__main__":
    serve(DynamoDB, *sys.argv[1:])
