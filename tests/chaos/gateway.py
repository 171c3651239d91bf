"""The gateway's management API (``@connections``): it answers by the truth, but some calls fail."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from random import Random
from urllib.parse import unquote

from tests.chaos.truth import Truth
from tests.serving import serving

_FAILS = 0.08
_FAULTS = (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR, None)
_PATH = "/@connections/"


class ManagementApi:
    """The API, its address, and the counts of its answers by status; while *faulty*, some calls fail."""

    def __init__(self, truth: Truth, random: Random) -> None:
        self.faulty = True
        self.endpoint = ""
        self.answers: Counter[int | None] = Counter()
        self._truth = truth
        self._random = random
        self._lock = threading.Lock()

    def status_of(self, path: str) -> HTTPStatus | None:
        """Return the status of the answer for *path*; ``None`` closes the TCP connection instead."""
        with self._lock:
            fails = self._random.random() < _FAILS
            fault = self._random.choice(_FAULTS)
            if self.faulty and fails:
                status = fault
            elif self._truth.is_connected(unquote(path.removeprefix(_PATH))):
                status = HTTPStatus.OK
            else:
                status = HTTPStatus.GONE
            self.answers[status] += 1
            return status


@contextmanager
def management_api(truth: Truth, random: Random) -> Iterator[ManagementApi]:
    """Serve the API on loopback until the block ends."""
    api = ManagementApi(truth, random)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # send head and body of an answer together
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            status = api.status_of(self.path)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Print nothing: the figures count the requests."""

    with serving(Handler) as api.endpoint:
        yield api
