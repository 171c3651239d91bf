"""A management API of WebSocket connections on loopback, that says of each connection what it is told to."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple
from urllib.parse import unquote

from tests.serving import serving

type Say = Callable[[BaseHTTPRequestHandler], None]

STAGE = "/_aws/execute-api/a1b2c3d4e5/prod"
"""The path below which it has its connections, as the local emulators have it."""


class Request(NamedTuple):
    """What was asked: the path as it came, quoted."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def connection_id(self) -> str:
        return unquote(self.path.rpartition("/@connections/")[2])


class ManagementApi:
    """Knows every connection, but for those of which ``says`` has something else, by their id."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.says: dict[str, Say] = {}
        self.requests: list[Request] = []
        self.ended = threading.Event()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = Request(request.command, request.path, dict(request.headers))
        self.requests.append(asked)
        self.says.get(asked.connection_id, _known)(request)

    def silent(self, request: BaseHTTPRequestHandler) -> None:
        """Say nothing, until the test is over."""
        self.ended.wait(10)
        request.close_connection = True


@contextmanager
def management_api() -> Iterator[ManagementApi]:
    api = ManagementApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            api.answer(self)

        def do_DELETE(self) -> None:
            api.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep quiet: the tests say what was asked."""

    with serving(Handler) as url:
        api.endpoint = f"{url}{STAGE}"
        try:
            yield api
        finally:
            api.ended.set()


def refusing(status: int, code: str | None = None, **headers: str) -> Say:
    """Refuse as the API does, with its error type in the header it has for that, or without."""
    if code is not None:
        headers = {"x-amzn-ErrorType": code, **headers}
    return saying(status, json.dumps({"message": None}).encode(), **headers)


def saying(status: int, body: bytes, **headers: str) -> Say:
    """Answer with a body that need not be the API's."""

    def say(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        if status != 204:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return say


def hanging_up(request: BaseHTTPRequestHandler) -> None:
    """Take the request and close the connection."""
    request.close_connection = True


def breaking_off(request: BaseHTTPRequestHandler) -> None:
    """Close the connection in the middle of the answer."""
    request.send_response(410)
    request.send_header("Content-Length", "100")
    request.end_headers()
    request.wfile.write(b"{")
    request.close_connection = True


def _known(request: BaseHTTPRequestHandler) -> None:
    if request.command == "DELETE":
        saying(204, b"")(request)
    else:
        told = {
            "connectedAt": "2026-11-21T12:00:00.123Z",
            "identity": {"sourceIp": "203.0.113.24", "userAgent": "Mozilla/5.0"},
            "lastActiveAt": "2026-11-21T12:00:30.000Z",
        }
        saying(200, json.dumps(told).encode())(request)
