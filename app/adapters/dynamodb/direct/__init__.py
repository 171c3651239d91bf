"""The transport without an SDK: DynamoDB's HTTP API over one kept-alive connection.

An SDK knows every service, and a cold start pays for all of it. `$connect` and
`$disconnect` need two operations of one service.
"""

import os
from datetime import timedelta
from typing import Final

from app.adapters.dynamodb.direct.connection import Connection, host_and_port
from app.adapters.dynamodb.direct.credentials import credentials_source
from app.adapters.dynamodb.direct.signing import CredentialsSource
from app.adapters.dynamodb.direct.transport import DirectTransport
from app.adapters.dynamodb.direct.trust import trust_for

_SUFFIX_OF_PARTITION: Final = (
    # by the first letters of the region, as in the SDK's own partitions.json
    ("cn-", "amazonaws.com.cn"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("us-iso-", "c2s.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
)


def direct_transport(
    *,
    region: str,
    connect_timeout: timedelta,
    read_timeout: timedelta,
    attempts: int,
    endpoint: str | None = None,
    credentials: CredentialsSource | None = None,
) -> DirectTransport:
    """Return a connected transport that makes up to *attempts* attempts, each within both time-outs.

    Two things have no time-out of ours: the system's host name look-up, and
    credentials that botocore finds (see credentials.py).

    *endpoint* is a URL such as ``http://127.0.0.1:8000``; the default is the
    region's public one. It connects at once, so that the first call does not
    have to. If that fails, the first call tries again. *credentials* returns
    those for a call; the default finds them as the SDK does.
    """
    scheme, _, authority = (endpoint or public_endpoint(region)).rstrip("/").partition("://")
    host, port = host_and_port(authority, 443 if scheme == "https" else 80)
    transport = DirectTransport(
        Connection(
            host,
            port,
            connect_timeout=connect_timeout.total_seconds(),
            read_timeout=read_timeout.total_seconds(),
            trust=trust_for(host, os.environ) if scheme == "https" else (),
        ),
        host=authority,
        region=region,
        credentials=credentials or credentials_source(os.environ),
        attempts=attempts,
    )
    transport.connect()
    return transport


def public_endpoint(region: str) -> str:
    """Return the URL of DynamoDB in *region*, in any AWS partition."""
    suffix = next(
        (suffix for start, suffix in _SUFFIX_OF_PARTITION if region.startswith(start)), "amazonaws.com"
    )
    return f"https://dynamodb.{region}.{suffix}"
