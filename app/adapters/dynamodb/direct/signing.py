"""AWS Signature Version 4 for one service in one region.

Source: 'Create a signed AWS API request' in the IAM user guide. Only the part
that DynamoDB's API needs: POST to / with a body and no query.
"""

import hmac
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple

_ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(NamedTuple):
    """AWS credentials; temporary ones, as on Lambda, have a session token."""

    access_key: str
    secret_key: str
    session_token: str | None

    def __repr__(self) -> str:
        return f"Credentials({self.access_key}, ...)"


type CredentialsSource = Callable[[Credentials | None], Credentials]
"""Returns the credentials for a request; others than those refused, its argument, if there are."""


class Signer:
    """Signs requests. The signing key, valid for a day, is derived once a day."""

    def __init__(self, *, service: str, region: str) -> None:
        self._service = service
        self._region = region
        self._key = b""
        self._key_is_for = ("", "")

    def authorization(
        self, headers: Sequence[tuple[str, str]], body: bytes, credentials: Credentials, timestamp: str
    ) -> str:
        """Return the value of the Authorization header for a POST of *body* to /.

        *headers* are the signed headers, at least host and x-amz-date: names in
        lower case and sorted, values without leading, trailing or repeated
        spaces. *timestamp* is the value of x-amz-date, as 20261121T120000Z.
        """
        day = timestamp[:8]
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        names = ";".join([name for name, _ in headers])
        lines = "".join([f"{name}:{value}\n" for name, value in headers])
        request = f"POST\n/\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
        to_sign = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        key = self._key_of(credentials.secret_key, day)
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        return (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )

    def _key_of(self, secret_key: str, day: str) -> bytes:
        if self._key_is_for != (secret_key, day):
            key = f"AWS4{secret_key}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key, self._key_is_for = key, (secret_key, day)
        return self._key
