"""The gateway's management API (``@connections``) over HTTPS.

It uses the SDK's signer, credentials, partitions and HTTP library, but not its
client. A call of the client takes 1.6 ms of CPU and more with threads (Python
3.13, botocore 1.44), this one 0.8 ms, and a sweep makes thousands.
"""

import logging
import re
import ssl
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from http import HTTPStatus
from threading import Lock
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.endpoint_provider import RuleSetStandardLibrary
from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import ProxyConfiguration, get_cert_path
from botocore.session import Session
from botocore.utils import get_environ_proxies
from urllib3 import HTTPConnectionPool, PoolManager, ProxyManager, Timeout
from urllib3.exceptions import HTTPError, ProtocolError

from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection

_SERVICE = "execute-api"
# The characters of an API's, a region's and a stage's name (API Gateway's developer guide). An item must not
# make us send a signed request to any other host.
_API_ID = r"[a-z0-9]{1,32}"
_API_DOMAIN = re.compile(rf"{_API_ID}\.execute-api\.(?P<region>[a-z0-9-]+)\.(?P<suffix>[a-z0-9.-]+)")
_STAGE = re.compile(r"[A-Za-z0-9_$-]{1,128}")
_MAX_POOLS = 16
"""Endpoints whose connections stay open; a table has one, as a rule."""


class _Endpoint(NamedTuple):
    origin: str
    path: str
    region: str


_RESULTS: dict[int, ProbeResult] = {
    HTTPStatus.GONE: ProbeResult.GONE,
    HTTPStatus.UNAUTHORIZED: ProbeResult.FORBIDDEN,
    HTTPStatus.FORBIDDEN: ProbeResult.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS: ProbeResult.THROTTLED,
}


class ManagementApiGateway:
    """Gateway that calls GetConnection and DeleteConnection.

    A call is repeated only if the TCP connection broke off before the answer:
    the next sweep probes again.

    The result depends on the HTTP status alone, since a 410 comes with or
    without its error type. Missing credentials are ``FORBIDDEN``, like refused
    ones.

    The request goes to the domain of the connection's API, in that API's
    region. For a custom domain it goes to the API's own domain in *region*.
    *endpoint*, if given, is used instead for all connections.

    The time-outs detect a silent peer only: one that sends byte by byte can
    hold a call for longer.
    """

    def __init__(
        self,
        *,
        region: str,
        endpoint: str | None = None,
        connect_timeout: timedelta = timedelta(seconds=1),
        read_timeout: timedelta = timedelta(seconds=2),
        connections: int = 32,
    ) -> None:
        self.longest_call = connect_timeout + read_timeout
        logging.getLogger("botocore").setLevel(logging.WARNING)  # at INFO it logs where it found credentials
        session = Session()
        self._region = region
        self._override = _given(endpoint, region) if endpoint else None
        self._credentials = session.get_credentials()
        self._partitions = RuleSetStandardLibrary(
            session.get_component("data_loader").load_data("partitions")
        )
        self._ca_bundle = session.get_config_variable("ca_bundle") or get_cert_path(verify=True)
        self._timeout = Timeout(connect=connect_timeout.total_seconds(), read=read_timeout.total_seconds())
        self._connections = connections
        self._pool_of = lru_cache(_MAX_POOLS)(self._new_pool)
        self._lock = Lock()

    def probe(self, connection: Connection) -> ProbeResult:
        return self._call("GET", connection, ProbeResult.ALIVE)

    def close(self, connection: Connection) -> ProbeResult:
        return self._call("DELETE", connection, ProbeResult.CLOSED)

    def _call(self, method: str, connection: Connection, success: ProbeResult) -> ProbeResult:
        endpoint = self._override or self._endpoint_of(connection)
        if endpoint is None:
            return ProbeResult.FAILED
        path = f"{endpoint.path}/@connections/{quote(connection.id, safe='')}"
        headers = self._signature(method, endpoint.origin + path, endpoint.region)
        if headers is None:
            return ProbeResult.FORBIDDEN
        with self._lock:  # or several threads would create one each
            pool = self._pool_of(endpoint.origin)
        try:
            status = _status(pool, method, path, headers)
        except HTTPError:
            return ProbeResult.FAILED
        if status // 100 == HTTPStatus.OK // 100:
            return success
        return _RESULTS.get(status, ProbeResult.FAILED)

    def _endpoint_of(self, connection: Connection) -> _Endpoint | None:
        """Return the management API of *connection*; ``None`` if the item does not name it."""
        stage, domain = connection.stage or "", connection.domain_name or ""
        if not _STAGE.fullmatch(stage):
            return None
        own = _API_DOMAIN.fullmatch(domain)
        if own and own["suffix"] == self._suffix(own["region"]):
            return _Endpoint(f"https://{domain}", f"/{stage}", own["region"])
        if self._region and re.fullmatch(_API_ID, connection.api_id or ""):
            host = f"{connection.api_id}.{_SERVICE}.{self._region}.{self._suffix(self._region)}"
            return _Endpoint(f"https://{host}", f"/{stage}", self._region)
        return None

    def _suffix(self, region: str) -> str:
        """Return the domain suffix of AWS's hosts in *region*, such as ``amazonaws.com.cn``."""
        return str(self._partitions.aws_partition(region)["dnsSuffix"])

    def _signature(self, method: str, url: str, region: str) -> dict[str, str] | None:
        """Return the headers of a signed request; ``None`` without credentials."""
        try:
            credentials = self._credentials.get_frozen_credentials() if self._credentials else None
        except (BotoCoreError, ClientError, OSError):  # expired, and their source does not renew them
            return None
        if credentials is None:
            return None
        request = AWSRequest(method, url, headers={})
        SigV4Auth(credentials, _SERVICE, region).add_auth(request)
        return dict(request.headers.items())

    def _new_pool(self, origin: str) -> HTTPConnectionPool:
        """Return a pool of connections to *origin*, through the environment's proxy unless it has no TLS."""
        if not origin.startswith("https:"):
            return PoolManager(maxsize=self._connections, timeout=self._timeout).connection_from_url(origin)
        tls = ssl.create_default_context(cafile=self._ca_bundle)
        proxies = ProxyConfiguration(get_environ_proxies(origin))
        proxy = proxies.proxy_url_for(origin)
        if not proxy:
            manager = PoolManager(maxsize=self._connections, timeout=self._timeout, ssl_context=tls)
        else:
            manager = ProxyManager(
                proxy,
                proxy_headers=proxies.proxy_headers_for(proxy),
                maxsize=self._connections,
                timeout=self._timeout,
                ssl_context=tls,
            )
        return manager.connection_from_url(origin)


def _status(pool: HTTPConnectionPool, method: str, path: str, headers: Mapping[str, str]) -> int:
    def send() -> int:
        return pool.urlopen(method, path, headers=headers, redirect=False, retries=False).status

    try:
        return send()
    except ProtocolError:
        # A kept connection may have been closed while the function was frozen. Without a second attempt the
        # first probes of every sweep would fail. Both calls are idempotent.
        return send()


def _given(endpoint: str, region: str) -> _Endpoint:
    parts = urlsplit(endpoint)
    return _Endpoint(f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/"), region)
