"""Credentials from the container endpoint, where SnapStart has them.

Source: 'Container credential provider' in the AWS SDKs and Tools reference
guide. botocore, which has the same provider, takes 100 ms to import. SnapStart
sets AWS_CONTAINER_CREDENTIALS_FULL_URI and AWS_CONTAINER_AUTHORIZATION_TOKEN.
AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE
are of ECS and EKS, where botocore finds the credentials; they are not read here.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from socket import AF_INET, inet_pton

from app.adapters.dynamodb.direct.connection import Connection, ConnectionFault, host_and_port
from app.adapters.dynamodb.direct.signing import Credentials
from app.adapters.dynamodb.direct.trust import trust_for
from app.domain.errors import StorageUnavailable

TIMEOUT = 1.0
"""Seconds for the connection, and again for the answer. The endpoint is on the same machine."""
REFRESH_BEFORE = 600
"""Seconds before the expiration when they are fetched again, as botocore's mandatory refresh."""
RETRY_AFTER = 10
"""Seconds from a fetch to the next while some are kept: calls must not wait for a dead endpoint."""

_URI = re.compile(
    r"(?P<scheme>https?)://(?P<authority>(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?)(?P<path>/[!-~]*)?"
)
_HOSTS = frozenset({"localhost", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
"""Where the endpoint may be without TLS, as in botocore: loopback, and the addresses of ECS and EKS."""
_OK = 200


class ContainerCredentials:
    """Credentials of the endpoint that *environ* names, kept until shortly before they expire."""

    def __init__(
        self,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.time,
        connection: Callable[..., Connection] = Connection,
    ) -> None:
        self._environ = environ
        self._clock = clock
        self._connection = connection
        self.suspend()

    def suspend(self) -> None:
        """Forget the credentials."""
        self._kept: Credentials | None = None
        self._expire_at = 0.0
        self._fetched_at = 0.0
        self._fetch_at = 0.0

    def resume(self) -> bool:
        """Fetch them ahead of the first request; return whether that worked. The request tries again."""
        try:
            self()
        except StorageUnavailable:
            return False
        return True

    def __call__(self, refused: Credentials | None = None) -> Credentials:
        """Return the credentials for a request.

        If a fetch fails, the kept ones serve until they expire. After that each
        call fetches, since without credentials it can only fail. Those that
        DynamoDB has *refused* are returned again if there are no others.

        Raises:
            StorageUnavailable: there are none.
        """
        kept, now = self._kept, self._clock()
        fetch_at = self._fetched_at + RETRY_AFTER if kept == refused else self._fetch_at
        if kept is not None and now < fetch_at:
            return kept
        self._fetched_at = now
        try:
            found, expire_at = _credentials_in(_fetch(self._environ, self._connection))
            if now >= expire_at:
                raise _NoCredentials("Expired")  # noqa: TRY301 - as if there were none
        except _NoCredentials as error:
            if kept is None or (now >= self._expire_at and refused is None):
                # without the cause, which may have secrets
                raise StorageUnavailable(
                    f"CredentialRetrievalError: {error}", outcome_unknown=False
                ) from None
            found, expire_at = kept, self._expire_at
        self._kept, self._expire_at = found, expire_at
        self._fetch_at = min(max(expire_at - REFRESH_BEFORE, now + RETRY_AFTER), expire_at)
        return found


class _NoCredentials(Exception):
    """The endpoint gave no credentials; the text is a short reason for the log."""


def _fetch(environ: Mapping[str, str], connection_to: Callable[..., Connection]) -> bytes:
    """Return the endpoint's answer."""
    uri = _URI.fullmatch(environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", ""))
    if uri is None:
        raise _NoCredentials("NoUri")
    scheme, authority, path = uri["scheme"], uri["authority"], uri["path"] or "/"
    lines = [f"GET {path} HTTP/1.1", f"host:{authority}", "accept:application/json", "connection:close"]
    if token := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"):
        if not _is_header_value(token):
            raise _NoCredentials("NoToken")
        lines.append(f"authorization:{token}")
    host, port = host_and_port(authority, 443 if scheme == "https" else 80)
    if scheme == "http" and host not in _HOSTS and not _is_loopback(host):
        raise _NoCredentials("HostNotAllowed")
    connection = connection_to(
        host,
        port,
        connect_timeout=TIMEOUT,
        read_timeout=TIMEOUT,
        trust=trust_for(host, environ) if scheme == "https" else (),
    )
    try:
        response = connection.exchange("\r\n".join([*lines, "", ""]).encode())
    except ConnectionFault as fault:
        raise _NoCredentials(fault.reason) from None
    if response.status != _OK:
        raise _NoCredentials(str(response.status))
    return response.body


def _credentials_in(body: bytes) -> tuple[Credentials, float]:
    """Return the credentials in the endpoint's answer, and when they expire."""
    try:
        answer = json.loads(body)
        values = [answer[name] for name in ("AccessKeyId", "SecretAccessKey", "Token")]
        expiration = datetime.fromisoformat(answer["Expiration"])
        if expiration.tzinfo is None or not all(it and _is_header_value(it) for it in values):
            raise _NoCredentials("NoCredentials")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _NoCredentials("NoCredentials") from None
    access_key, secret_key, token = values
    return Credentials(access_key, secret_key, token), expiration.timestamp()


def _is_header_value(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _is_loopback(host: str) -> bool:
    try:
        return inet_pton(AF_INET, host)[0] == 127  # noqa: PLR2004 - 127.0.0.0/8 (RFC 1122, 3.2.1.3)
    except (OSError, ValueError):
        return False
