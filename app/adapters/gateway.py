"""API Gateway's management API of WebSocket connections (``@connections``).

The SDK's own signer, credentials, partitions and HTTP library, without its
client: that takes 1.6 ms of processor time a question and more with threads
(Python 3.13, botocore 1.44), this 0.8 ms, and the sweep asks by the thousand.
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

from app.domain.model import Connection
from app.domain.upkeep import Answer

_SERVICE = "execute-api"
# What the names of an API, a region and a stage are made of (API Gateway's developer guide): a row is no
# reason to ask, with our signature, whoever else it names.
_API_ID = r"[a-z0-9]{1,32}"
_API_DOMAIN = re.compile(rf"{_API_ID}\.execute-api\.(?P<region>[a-z0-9-]+)\.(?P<suffix>[a-z0-9.-]+)")
_STAGE = re.compile(r"[A-Za-z0-9_$-]{1,128}")
_ENDPOINTS_KEPT = 16
"""Endpoints whose connections stay open; a table knows one, as a rule."""


class _Endpoint(NamedTuple):
    origin: str
    path: str
    region: str


_ANSWERS: dict[int, Answer] = {
    HTTPStatus.GONE: Answer.GONE,
    HTTPStatus.UNAUTHORIZED: Answer.FORBIDDEN,
    HTTPStatus.FORBIDDEN: Answer.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS: Answer.THROTTLED,
}


class ManagementApiGateway:
    """Gateway by GetConnection and DeleteConnection.

    Neither is tried again, but where the connection broke off before the
    answer: what failed is asked by the next sweep.

    An answer is judged by its HTTP status alone, since a 410 comes with or
    without its error type. Where there are no credentials to sign with, or
    they can't be had, that is ``FORBIDDEN``, as if they were refused.

    A connection is asked about at the domain of its own API, in that one's
    region: of a custom domain, at its API's in *region*, ours. *endpoint* is
    asked instead where it is given, about all of them.

    The time-outs are for a peer that is silent: one that trickles can hold a
    call for longer.
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
        logging.getLogger("botocore").setLevel(logging.WARNING)  # it tells at INFO where it found credentials
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
        self._pool_of = lru_cache(_ENDPOINTS_KEPT)(self._new_pool)
        self._lock = Lock()

    def ask(self, connection: Connection) -> Answer:
        return self._call("GET", connection, Answer.ALIVE)

    def close(self, connection: Connection) -> Answer:
        return self._call("DELETE", connection, Answer.CLOSED)

    def _call(self, method: str, connection: Connection, success: Answer) -> Answer:
        endpoint = self._override or self._endpoint_of(connection)
        if endpoint is None:
            return Answer.FAILED
        path = f"{endpoint.path}/@connections/{quote(connection.id, safe='')}"
        headers = self._signature(method, endpoint.origin + path, endpoint.region)
        if headers is None:
            return Answer.FORBIDDEN
        with self._lock:  # or several threads would make one each
            pool = self._pool_of(endpoint.origin)
        try:
            status = _status(pool, method, path, headers)
        except HTTPError:
            return Answer.FAILED
        if status // 100 == HTTPStatus.OK // 100:
            return success
        return _ANSWERS.get(status, Answer.FAILED)

    def _endpoint_of(self, connection: Connection) -> _Endpoint | None:
        """Where the API of *connection* is managed; ``None`` where the row does not tell."""
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
        """What the names of AWS's hosts in *region* end with: ``amazonaws.com``, ``amazonaws.com.cn``, ..."""
        return str(self._partitions.aws_partition(region)["dnsSuffix"])

    def _signature(self, method: str, url: str, region: str) -> dict[str, str] | None:
        """The headers that sign the request; ``None`` where there is nothing to do it with."""
        try:
            credentials = self._credentials.get_frozen_credentials() if self._credentials else None
        except (BotoCoreError, ClientError, OSError):  # they ran out, and whoever gives new ones does not
            return None
        if credentials is None:
            return None
        request = AWSRequest(method, url, headers={})
        SigV4Auth(credentials, _SERVICE, region).add_auth(request)
        return dict(request.headers.items())

    def _new_pool(self, origin: str) -> HTTPConnectionPool:
        """Connections to *origin*: by the environment's proxy, unless they are without TLS and so local."""
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
        # One that was kept from the last sweep may have ended while the function was frozen, which shows only
        # now, and would be the fate of the same first rows at every sweep. Either call may be made twice.
        return send()


def _given(endpoint: str, region: str) -> _Endpoint:
    parts = urlsplit(endpoint)
    return _Endpoint(f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/"), region)
