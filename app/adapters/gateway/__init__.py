"""The gateway's management API (``@connections``): probes, keep-alives, closings, messages; by libcurl.

The SDK finds credentials, partitions and certificate authorities, but sends
nothing: one of its calls takes 1.6 ms of CPU (Python 3.13, botocore 1.44), one
of libcurl's 0.1 ms, and a sweep or an alert makes thousands.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from http import HTTPStatus
from threading import Lock

from botocore.credentials import ReadOnlyCredentials
from botocore.endpoint_provider import RuleSetStandardLibrary
from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import get_cert_path
from botocore.session import Session

from app.adapters.gateway.endpoints import Endpoint, Endpoints
from app.adapters.gateway.requests import Answer, Credentials, Kind, Request, Requests
from app.domain.delivery import SendResult
from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection

MAX_CONNECTIONS = 128
"""Beyond it, TLS handshakes take more than the messages do."""

_PROBE_RESULTS: dict[int, ProbeResult] = {
    HTTPStatus.GONE: ProbeResult.GONE,
    HTTPStatus.UNAUTHORIZED: ProbeResult.FORBIDDEN,
    HTTPStatus.FORBIDDEN: ProbeResult.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS: ProbeResult.THROTTLED,
}
_SEND_RESULTS: dict[int, SendResult] = {
    HTTPStatus.GONE: SendResult.GONE,
    HTTPStatus.UNAUTHORIZED: SendResult.FORBIDDEN,
    HTTPStatus.FORBIDDEN: SendResult.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: SendResult.TOO_LARGE,
    HTTPStatus.TOO_MANY_REQUESTS: SendResult.THROTTLED,
}
_NO_ENDPOINT = Answer(0, sent=False)
_NO_CREDENTIALS = Answer(HTTPStatus.UNAUTHORIZED, sent=False)


class ManagementApiGateway:
    """Gateway and Courier that call GetConnection, DeleteConnection and PostToConnection. Thread-safe.

    The result depends on the HTTP status alone, since a 410 comes with or
    without its error type. Missing credentials are ``FORBIDDEN``, like refused
    ones.

    The request goes to the domain of the connection's API, in that API's
    region. For a custom domain it goes to the API's own domain in *region*.
    *endpoint*, if given, is used instead for all connections. At most
    *connections* requests are under way, apart from slow ones (see
    ``Requests``). Each ends within *timeout*, which includes connecting.
    """

    def __init__(
        self,
        *,
        region: str,
        endpoint: str | None = None,
        connect_timeout: timedelta = timedelta(seconds=1),
        timeout: timedelta = timedelta(seconds=3),
        connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.longest_call = timeout
        logging.getLogger("botocore").setLevel(logging.WARNING)  # at INFO it logs where it found credentials
        session = Session()
        partitions = RuleSetStandardLibrary(session.get_component("data_loader").load_data("partitions"))
        self._endpoints = Endpoints(
            region, lambda name: str(partitions.aws_partition(name)["dnsSuffix"]), endpoint
        )
        self._credentials = session.get_credentials()
        self._found: ReadOnlyCredentials | None = None
        self._usable: Credentials | None = None
        self._new_requests: Callable[[], Requests] = lambda: Requests(
            connections=connections,
            connect_timeout=connect_timeout,
            timeout=timeout,
            ca_bundle=str(session.get_config_variable("ca_bundle") or get_cert_path(verify=True)),
        )
        self._idle: list[Requests] = []  # with their open connections
        self._lock = Lock()

    def probe(self, connections: Iterable[Connection | None]) -> Iterator[tuple[Connection, ProbeResult]]:
        for connection, answer in self._call("GET", connections):
            yield connection, _probe_result(answer, ProbeResult.ALIVE)

    def keep_alive(
        self, connections: Iterable[Connection | None], since: str
    ) -> Iterator[tuple[Connection, ProbeResult]]:
        frame = json.dumps({"type": "keepalive", "since": since}).encode()
        for connection, answer in self._call("POST", connections, frame, repeatable=True):
            yield connection, _probe_result(answer, ProbeResult.ALIVE)

    def close(self, connection: Connection) -> ProbeResult:
        [(_, answer)] = self._call("DELETE", [connection])
        return _probe_result(answer, ProbeResult.CLOSED)

    def deliver(
        self, frame: bytes, connections: Iterable[Connection | None]
    ) -> Iterator[tuple[Connection, SendResult]]:
        for connection, answer in self._call("POST", connections, frame):
            yield connection, _send_result(answer)

    def _call(
        self,
        method: str,
        connections: Iterable[Connection | None],
        body: bytes | None = None,
        *,
        repeatable: bool = False,
    ) -> Iterator[tuple[Connection, Answer]]:
        with self._lock:
            requests = self._idle.pop() if self._idle else self._new_requests()
        kinds = _Kinds(method, body, repeatable=repeatable)
        try:
            yield from requests.run(
                None if it is None else (it, self._request(it, kinds)) for it in connections
            )
        finally:
            with self._lock:
                self._idle.append(requests)

    def _request(self, connection: Connection, kinds: "_Kinds") -> Request | Answer:
        """Return the request about *connection*, or the answer to one that can't be made."""
        endpoint = self._endpoints.find(connection)
        if endpoint is None:
            return _NO_ENDPOINT
        credentials = self._current_credentials()
        if credentials is None:
            return _NO_CREDENTIALS
        return Request(kinds.of(endpoint, credentials), endpoint.of(connection))

    def _current_credentials(self) -> Credentials | None:
        """Return the credentials; ``None`` if there are none, or none that fit into a header."""
        try:
            found = self._credentials.get_frozen_credentials() if self._credentials else None
        except (BotoCoreError, ClientError, OSError):  # expired, and their source does not renew them
            return None
        if found is None:
            return None
        if found != self._found:
            self._found, self._usable = found, _usable(found)
        return self._usable


class _Kinds:
    """The kinds of requests of one call: as a rule one, for one API has all connections."""

    def __init__(self, method: str, body: bytes | None, *, repeatable: bool) -> None:
        self._method = method
        self._body = body
        self._repeatable = repeatable
        self._last: tuple[Endpoint, Credentials, Kind] | None = None

    def of(self, endpoint: Endpoint, credentials: Credentials) -> Kind:
        if self._last is None or self._last[0] is not endpoint or self._last[1] is not credentials:
            kind = Kind(self._method, endpoint.region, credentials, self._body, self._repeatable)
            self._last = endpoint, credentials, kind
        return self._last[2]


def _usable(found: ReadOnlyCredentials) -> Credentials | None:
    if not all(it.isascii() and it.isprintable() for it in found if it):
        return None
    return Credentials(found.access_key or "", found.secret_key or "", found.token)


def _probe_result(answer: Answer, success: ProbeResult) -> ProbeResult:
    return success if _is_success(answer) else _PROBE_RESULTS.get(answer.status, ProbeResult.FAILED)


def _send_result(answer: Answer) -> SendResult:
    if _is_success(answer):
        return SendResult.DELIVERED
    if not answer.status:
        return SendResult.UNANSWERED if answer.sent else SendResult.FAILED
    return _SEND_RESULTS.get(answer.status, SendResult.FAILED)


def _is_success(answer: Answer) -> bool:
    return answer.status // 100 == HTTPStatus.OK // 100
