"""Signed HTTPS requests, many at once, from one thread: libcurl signs, pools connections and times out."""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from typing import NamedTuple
from urllib.request import getproxies

import pycurl

_SERVICE = "execute-api"
_ASK_AGAIN = 0.002  # s, after the caller had nothing to send
_WAKE_UP = 0.05  # s, at the latest, for time-outs
_SLOW_AFTER = 0.5  # s


class Credentials(NamedTuple):
    """AWS credentials, as libcurl takes them."""

    access_key: str
    secret_key: str
    token: str | None = None


class Kind(NamedTuple):
    """What many requests have in common. ``body`` is that of a POST, or ``None``.

    ``repeatable`` says that a body may be sent twice.
    """

    method: str
    region: str
    credentials: Credentials
    body: bytes | None = None
    repeatable: bool = False


class Request(NamedTuple):
    """A request of a kind."""

    kind: Kind
    url: str


class Answer(NamedTuple):
    """What became of a request: the HTTP status, or 0 without an answer.

    ``sent`` is true if bytes of the request went out: without an answer, it may
    have been carried out.
    """

    status: int
    sent: bool


class Requests:
    """Runs requests at the same time, on kept connections. Not thread-safe.

    At most *connections* are under way. A request that has taken half a second
    does not count among them, up to as many again: a few peers that are slow
    to answer must not hold up all others.

    A request ends within *timeout*; within *connect_timeout* it is sent, the
    look-up of the host's name included. It goes out over HTTP/1.1, one on a
    connection at a time, so that a connection that breaks leaves one request
    unanswered and not a hundred. libcurl repeats a request that has no body, or a
    repeatable one, if a kept connection turns out to be closed; nothing else is
    repeated here.
    """

    def __init__(
        self, *, connections: int, connect_timeout: timedelta, timeout: timedelta, ca_bundle: str
    ) -> None:
        self._connections = connections
        self._options = {
            pycurl.NOSIGNAL: 1,  # its time-outs must not use the process's only alarm
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.CONNECTTIMEOUT_MS: connect_timeout // timedelta(milliseconds=1),
            pycurl.TIMEOUT_MS: timeout // timedelta(milliseconds=1),
            pycurl.CAINFO: ca_bundle,
            pycurl.WRITEFUNCTION: len,  # the status says it all
        }
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, 2 * connections)
        self._idle: list[_Handle] = []

    def run[T](self, requests: Iterable[tuple[T, Request | Answer] | None]) -> Iterator[tuple[T, Answer]]:
        """Run *requests* and yield each with its answer, as they come.

        An answer in the place of a request is yielded as it is. The next request is
        asked for when there is room for one. ``None`` stands for 'none now': it is
        asked again soon.
        """
        source = iter(requests)
        flights: dict[pycurl.Curl, tuple[T, _Handle, float]] = {}
        more = True
        try:
            while more or flights:
                nothing_now = False
                while more and not nothing_now and self._has_room(flights):
                    try:
                        item = next(source)
                    except StopIteration:
                        more = False
                        break
                    if item is None:
                        nothing_now = True
                        continue
                    subject, request = item
                    if isinstance(request, Answer):
                        yield subject, request
                        continue
                    handle = self._started(request)
                    flights[handle.curl] = subject, handle, time.monotonic()
                self._multi.perform()
                ended = False
                for curl, answered in self._ended():
                    subject, handle, _ = flights.pop(curl)
                    ended = True
                    answer = handle.answer(answered=answered)
                    self._idle.append(handle)
                    yield subject, answer
                if nothing_now:
                    time.sleep(_ASK_AGAIN)
                elif not ended and flights:
                    self._multi.select(_WAKE_UP)
        finally:
            for curl, (_, handle, _) in flights.items():
                self._multi.remove_handle(curl)
                handle.curl.close()

    def _has_room(self, flights: "Mapping[pycurl.Curl, tuple[object, _Handle, float]]") -> bool:
        if len(flights) < self._connections:
            return True
        if len(flights) >= 2 * self._connections:
            return False
        slow_from = time.monotonic() - _SLOW_AFTER
        slow = 0
        for _, _, began in flights.values():  # in the order in which they began
            if began > slow_from:
                break
            slow += 1
        return len(flights) - slow < self._connections

    def _started(self, request: Request) -> "_Handle":
        handle = self._idle.pop() if self._idle else _Handle(self._options)
        handle.prepare(request)
        self._multi.add_handle(handle.curl)
        return handle

    def _ended(self) -> Iterator[tuple[pycurl.Curl, bool]]:
        _, answered, failed = self._multi.info_read()
        for curl in answered:
            self._multi.remove_handle(curl)
            yield curl, True
        for curl, _, _ in failed:
            self._multi.remove_handle(curl)
            yield curl, False


class _Handle:
    """One of libcurl's transfers; what did not change since its last request is not set again."""

    def __init__(self, options: Mapping[int, object]) -> None:
        self.curl = pycurl.Curl()
        self._options = options
        self._kind: Kind | None = None
        self._body = BytesIO()

    def prepare(self, request: Request) -> None:
        if request.kind is not self._kind:
            self._configure(request)
            self._kind = request.kind
        self.curl.setopt(pycurl.URL, request.url)
        self._body.seek(0)

    def _configure(self, request: Request) -> None:
        curl, kind = self.curl, request.kind
        curl.reset()
        for option, value in self._options.items():
            curl.setopt(option, value)
        # An endpoint without TLS is local. libcurl looks for proxies at each request, which takes it 10 µs.
        if request.url.startswith("http:") or not getproxies():
            curl.setopt(pycurl.NOPROXY, "*")
        headers = []
        if kind.body is not None:
            if kind.repeatable:
                curl.setopt(pycurl.POSTFIELDS, kind.body)
            else:
                # What libcurl reads from a function, and can't rewind, it never sends twice. It does not see
                # it before it signs, so it has to be told the digest.
                self._body = BytesIO(kind.body)
                curl.setopt(pycurl.POST, 1)
                curl.setopt(pycurl.POSTFIELDSIZE, len(kind.body))
                curl.setopt(pycurl.READFUNCTION, self._body.read)
            digest = sha256(kind.body).hexdigest()
            headers = ["Content-Type: application/octet-stream", f"X-Amz-Content-Sha256: {digest}", "Expect:"]
        if kind.credentials.token:
            headers.append(f"X-Amz-Security-Token: {kind.credentials.token}")
        curl.setopt(pycurl.HTTPHEADER, headers)
        curl.setopt(pycurl.AWS_SIGV4, f"aws:amz:{kind.region}:{_SERVICE}")
        curl.setopt(pycurl.USERNAME, kind.credentials.access_key)
        curl.setopt(pycurl.PASSWORD, kind.credentials.secret_key)
        curl.setopt(pycurl.CUSTOMREQUEST, kind.method)

    def answer(self, *, answered: bool) -> Answer:
        if answered:
            return Answer(self.curl.getinfo(pycurl.RESPONSE_CODE), sent=True)
        # the bytes of all attempts: also of one that libcurl repeated on a new connection
        return Answer(0, sent=self.curl.getinfo(pycurl.REQUEST_SIZE) > 0)
