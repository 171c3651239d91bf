"""Whom a message concerns: what is read of each table, against a filter by brute force."""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.dynamodb.table import RECIPIENT, DynamoDBConnectionTable
from app.domain.delivery import Audience, Progress
from app.domain.model import (
    UNKNOWN_CLIENT,
    AccountId,
    ClientId,
    Connection,
    ConnectionId,
    RegionName,
    Tombstone,
)
from app.domain.ports import ConnectionStore, ConnectionTable, RecipientPages
from app.domain.recipients import ReadRecipients
from tests.builders import NOON, a_connection
from tests.fakes import FixedClock
from tests.promises import CHOSEN
from tests.stores import TABLES, a_direct_transport, a_storage
from tests.thoroughness import examples

PAGE_SIZE = 3

AS_SENDING_READS: Mapping[str, dict[str, bool]] = {
    "dynamodb": {},
    "dynamodb, unscoped indexed": {"index_unscoped": True},
    "dynamodb, no account index": {"account_index": False},
    "dynamodb, no client index": {"client_index": False},
    "dynamodb, no index": {"account_index": False, "client_index": False},
}
"""The adapter with which sending reads DynamoDB, in each of its settings."""

ACCOUNTS = [AccountId("111122223333"), AccountId("444455556666"), AccountId("")]
REGIONS = [
    RegionName("ap-northeast-2"),
    RegionName("eu-central-1"),
    RegionName("eu-central-2"),
    RegionName(""),
]
CLIENTS = [ClientId("wall-1"), ClientId("wall-10"), UNKNOWN_CLIENT]

connections = st.lists(
    st.builds(
        a_connection,
        account=st.sampled_from(ACCOUNTS),
        region=st.sampled_from(REGIONS),
        client_id=st.sampled_from(CLIENTS),
        expires_at=st.sampled_from([NOON + timedelta(hours=24)] * 9 + [NOON - timedelta(hours=1)]),
        admitted_until=st.sampled_from([None, NOON + timedelta(hours=1), NOON]),
    ),
    max_size=12,
).map(lambda found: [it._replace(id=ConnectionId(f"c-{number}")) for number, it in enumerate(found)])

named_accounts = st.sampled_from([it for it in ACCOUNTS if it])
named_regions = st.none() | st.sampled_from([it for it in REGIONS if it])
audiences = st.one_of(
    st.just({"everyone": True}),
    st.builds(lambda number: {"connection_id": ConnectionId(f"c-{number}")}, st.integers(0, 5)),
    st.fixed_dictionaries({"account": named_accounts, "region": named_regions}),
    st.fixed_dictionaries({"client_id": st.sampled_from(CLIENTS)}),
    st.fixed_dictionaries(
        {"client_id": st.sampled_from(CLIENTS), "account": named_accounts, "region": named_regions}
    ),
)


def concerns(connection: Connection, audience: dict[str, Any], *, unscoped: bool) -> bool:
    """The rules as the README has them, for one connection."""
    if connection.expires_at <= NOON or connection.admitted_until == NOON:
        return False
    if "connection_id" in audience:
        return bool(connection.id == audience["connection_id"])
    is_client = audience.get("client_id") in (None, connection.client_id)
    if "account" not in audience:
        is_watching = True
    elif connection.account == "":
        is_watching = unscoped
    else:
        is_watching = connection.account == audience["account"] and (
            audience["region"] is None or connection.region in (audience["region"], "")
        )
    return is_client and is_watching


class Subject(NamedTuple):
    """A table, and what sending reads of it."""

    store: ConnectionStore
    table: ConnectionTable
    recipients: RecipientPages


@pytest.fixture(params=TABLES if os.environ.get(CHOSEN) else (*TABLES, *AS_SENDING_READS))
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param not in AS_SENDING_READS:
        with a_storage(request.param, request, page_size=PAGE_SIZE) as storage:
            yield Subject(storage.store, storage.table, storage.table)
        return
    options = AS_SENDING_READS[request.param]
    name, sdk = request.getfixturevalue("table_name"), SdkTransport(request.getfixturevalue("dynamodb"))
    unscoped = options.get("index_unscoped", False)
    with closing(a_direct_transport(request.getfixturevalue("dynamodb_local"))) as direct:
        yield Subject(
            DynamoDBConnectionStore(sdk, name, index_unscoped=unscoped),
            DynamoDBConnectionTable(sdk, name),
            DynamoDBConnectionTable(direct, name, page_size=PAGE_SIZE, attributes=RECIPIENT, **options),
        )


def test_a_message_is_read_for_exactly_those_whom_it_concerns(
    subject: Subject, request: pytest.FixtureRequest
) -> None:
    adapter = request.node.callspec.params["subject"]

    @settings(
        max_examples=examples(400 if adapter == "memory" else 40), suppress_health_check=list(HealthCheck)
    )
    @given(added=connections, audience=audiences, unscoped=st.booleans())
    def check(added: list[Connection], audience: dict[str, Any], *, unscoped: bool) -> None:
        for entry in subject.table.scan(0, 1):
            subject.table.delete_exact(entry)
        for connection in added:
            subject.store.add(connection)
        subject.store.tombstone(
            Tombstone(ConnectionId("c-0-closed"), NOON, NOON, expires_at=NOON + timedelta(hours=1))
        )
        read = ReadRecipients(subject.recipients, subject.table, FixedClock(), unscoped)

        found = [it for page in read.pages(Audience(**audience), Progress()) for it in page.connections]

        assert sorted(it.id for it in found) == sorted(
            it.id for it in added if concerns(it, audience, unscoped=unscoped)
        )
        for connection in found:
            [whole] = [it for it in added if it.id == connection.id]
            assert _needed(connection) == _needed(whole)

    check()


def _needed(connection: Connection) -> Connection:
    """What sending needs of *connection*."""
    return connection._replace(source_ip="", user_agent=None, principal_id=None, attributes={}, since=None)
