"""The container endpoint that gives credentials, as SnapStart has it, on loopback."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.serving import serving

PATH = "/2021-03-11/credentials"
TOKEN = "the-endpoints-t0k3n"
LIFETIME = timedelta(hours=6)


class CredentialsEndpoint:
    """It gives a new key each time, for *lifetime* from *now*, to whoever shows the token.

    ``fault`` is a status and a body that it answers instead.
    """

    def __init__(self) -> None:
        self.url = ""
        self.now: datetime | None = None
        self.lifetime = LIFETIME
        self.fault: tuple[int, bytes] | None = None
        self.requests: list[Mapping[str, str]] = []
        """The headers of each request, their names in lower case."""

    def environ(self) -> dict[str, str]:
        """Return the variables that Lambda sets on SnapStart."""
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}{PATH}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": TOKEN,
        }

    def answer(self, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        self.requests.append(headers)
        if self.fault is not None:
            return self.fault
        if path != PATH:
            return 404, b"{}"
        if headers.get("authorization") != TOKEN:
            return 403, b"{}"
        return 200, json.dumps(self.credentials(len(self.requests))).encode()

    def credentials(self, number: int = 1, **changes: Any) -> dict[str, Any]:
        """Return the answer's *number*, with *changes*."""
        expiration = (self.now or datetime.now(UTC)) + self.lifetime
        return {
            "AccessKeyId": f"AKID{number}",
            "SecretAccessKey": "s3cr3t",
            "Token": "s3ss10n",
            "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        } | changes


@contextmanager
def credentials_endpoint() -> Iterator[CredentialsEndpoint]:
    """Run the endpoint on loopback."""
    endpoint = CredentialsEndpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = endpoint.answer(
                self.path, {name.lower(): value for name, value in self.headers.items()}
            )
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    with serving(Handler) as endpoint.url:
        yield endpoint
