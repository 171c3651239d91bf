"""A management API (``@connections``) on loopback, with an answer of its own for any connection."""

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
"""The path of the API's stage, as local emulators have it."""

_CONNECTION = {
    "connectedAt": "2026-11-21T12:00:00.123Z",
    "identity": {"sourceIp": "203.0.113.24", "userAgent": "Mozilla/5.0"},
    "lastActiveAt": "2026-11-21T12:00:30.000Z",
}


class Request(NamedTuple):
    """A request that came; the path is still quoted."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def connection_id(self) -> str:
        return unquote(self.path.rpartition("/@connections/")[2])


class ManagementApi:
    """Every connection is open until it is closed; ``says`` has other answers, by connection id."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.says: dict[str, Say] = {}
        self.requests: list[Request] = []
        self.closed: set[str] = set()
        self.frames: dict[str, list[bytes]] = {}
        """What each connection was sent."""
        self.ended = threading.Event()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        received = Request(request.command, request.path, dict(request.headers))
        self.requests.append(received)
        frame = request.rfile.read(int(request.headers["Content-Length"] or 0))  # also of what is refused
        say = self.says.get(received.connection_id) or self._answer_for(received, frame)
        say(request)

    def silent(self, request: BaseHTTPRequestHandler) -> None:
        """Send no answer until the test is over."""
        self.ended.wait(10)
        request.close_connection = True

    def _answer_for(self, received: Request, frame: bytes) -> Say:
        if received.connection_id in self.closed:
            return refusing(410, "GoneException")
        if received.method == "POST":
            self.frames.setdefault(received.connection_id, []).append(frame)
            return saying(200, b"")
        if received.method == "DELETE":
            self.closed.add(received.connection_id)
            return saying(204, b"")
        return saying(200, json.dumps(_CONNECTION).encode())


@contextmanager
def management_api() -> Iterator[ManagementApi]:
    api = ManagementApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            api.answer(self)

        def do_POST(self) -> None:
            api.answer(self)

        def do_DELETE(self) -> None:
            api.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Log nothing."""

    with serving(Handler) as url:
        api.endpoint = f"{url}{STAGE}"
        try:
            yield api
        finally:
            api.ended.set()


def refusing(status: int, code: str | None = None, **headers: str) -> Say:
    """Refuse as the API does, with or without its error type header."""
    if code is not None:
        headers = {"x-amzn-ErrorType": code, **headers}
    return saying(status, json.dumps({"message": None}).encode(), **headers)


def saying(status: int, body: bytes, **headers: str) -> Say:
    """Answer with any body."""

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
    """Read the request and close the TCP connection."""
    request.close_connection = True


def breaking_off(request: BaseHTTPRequestHandler) -> None:
    """Close the TCP connection in the middle of the answer."""
    request.send_response(410)
    request.send_header("Content-Length", "100")
    request.end_headers()
    request.wfile.write(b"{")
    request.close_connection = True
