"""A scripted DynamoDB over real sockets, with one answer per request."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler

from tests.serving import serving

type Answer = Callable[[BaseHTTPRequestHandler], None]


class FaultyDatabase:
    """Gives the answers in turn, the last one for all further requests, and counts the requests."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers
        self.requests = 0
        self.endpoint = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        answer = self._answers[min(self.requests, len(self._answers) - 1)]
        self.requests += 1
        answer(request)


@contextmanager
def faulty_database(*answers: Answer) -> Iterator[FaultyDatabase]:
    database = FaultyDatabase(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            database.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Log nothing."""

    with serving(Handler) as database.endpoint:
        yield database


def refusing(status: int, code: str) -> Answer:
    """Refuse a request as DynamoDB does."""
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no"}
    return saying(status, json.dumps(body).encode(), "R1")


def saying(status: int, body: bytes, request_id: str = "") -> Answer:
    """Answer with any body."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        _body(request)
        _send(request, status, body, request_id)

    return answer


def hanging_up(request: BaseHTTPRequestHandler) -> None:
    """Read the whole request and close the connection."""
    _body(request)
    request.close_connection = True


def losing_the_answer_of(endpoint: str) -> Answer:
    """Forward the request to *endpoint* and close the connection without its answer."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        _forward(request, endpoint)
        request.close_connection = True

    return answer


def forwarding_to(endpoint: str) -> Answer:
    """Forward the request to *endpoint* and return its answer."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        _send(request, *_forward(request, endpoint))

    return answer


def _forward(request: BaseHTTPRequestHandler, endpoint: str) -> tuple[int, bytes, str]:
    database = HTTPConnection(endpoint.removeprefix("http://"), timeout=10)
    try:
        database.request("POST", "/", _body(request), dict(request.headers))
        answer = database.getresponse()
        return answer.status, answer.read(), answer.headers["x-amzn-RequestId"]
    finally:
        database.close()


def _body(request: BaseHTTPRequestHandler) -> bytes:
    return request.rfile.read(int(request.headers["Content-Length"]))


def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, request_id: str = "") -> None:
    request.send_response(status)
    request.send_header("Content-Type", "application/x-amz-json-1.0")
    request.send_header("Content-Length", str(len(body)))
    if request_id:
        request.send_header("x-amzn-RequestId", request_id)
    request.end_headers()
    request.wfile.write(body)
