"""Connections in a DynamoDB table, through DynamoDB's own HTTP API and no SDK.

An SDK is made for every service, and a cold start pays for all of it. This
adapter knows three operations of one service, which is what `$connect` and
`$disconnect` wait for.
"""

import os
from datetime import timedelta
from typing import Final

from app.adapters.dynamodb_direct.connection import Connection
from app.adapters.dynamodb_direct.credentials import credentials_source
from app.adapters.dynamodb_direct.store import DirectDynamoDBConnectionStore
from app.adapters.dynamodb_direct.trust import trust_for

_SUFFIX_OF_PARTITION: Final = (
    # by the first letters of the region, as in the SDK's own partitions.json
    ("cn-", "amazonaws.com.cn"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("us-iso-", "c2s.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
)


def direct_store(
    *,
    table: str,
    region: str,
    connect_timeout: timedelta,
    read_timeout: timedelta,
    attempts: int,
    endpoint: str | None = None,
) -> DirectDynamoDBConnectionStore:
    """A store that asks *attempts* times in all, each with both time-outs, with random pauses between.

    Only two things have no time-out of ours: the system's look-up of the
    host's name, and credentials that are not in the environment.

    *endpoint* is a URL such as ``http://127.0.0.1:8000``; without it, the
    region's public one. It connects at once, so that the first call need not;
    a database that is down then does not matter before that call.
    """
    scheme, _, authority = (endpoint or public_endpoint(region)).rstrip("/").partition("://")
    host, port = _host_and_port(authority, 443 if scheme == "https" else 80)
    store = DirectDynamoDBConnectionStore(
        Connection(
            host,
            port,
            connect_timeout=connect_timeout.total_seconds(),
            read_timeout=read_timeout.total_seconds(),
            trust=trust_for(host, os.environ) if scheme == "https" else (),
        ),
        host=authority,
        region=region,
        table=table,
        credentials=credentials_source(os.environ),
        attempts=attempts,
    )
    store.connect()
    return store


def public_endpoint(region: str) -> str:
    """The URL of DynamoDB in *region*, in whichever partition of AWS that is."""
    suffix = next(
        (suffix for start, suffix in _SUFFIX_OF_PARTITION if region.startswith(start)), "amazonaws.com"
    )
    return f"https://dynamodb.{region}.{suffix}"


def _host_and_port(authority: str, default: int) -> tuple[str, int]:
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):  # no port; a bracket ends an IPv6 address
        host, port = authority, str(default)
    return host.strip("[]"), int(port)
