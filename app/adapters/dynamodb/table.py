"""The ConnectionTable in DynamoDB: the whole table and its two indexes."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from app.adapters.dynamodb.items import (
    UNSCOPED,
    connection_from,
    connection_or_none,
    delete_exact,
    entry_from,
    indexed_region,
    is_tombstone,
    key,
)
from app.adapters.dynamodb.transport import ConditionFailed, Transport
from app.domain.errors import InvalidSelection
from app.domain.model import UNKNOWN_CLIENT, Connection, ConnectionId, Entry
from app.domain.selection import Page, Selection

_PAGE_SIZE = 100  # items, of about half a KB; DynamoDB ends a page at 1 MB in any case

RECIPIENT = (
    "connectionId",
    "clientId",
    "account",
    "region",
    "createdAt",
    "connectedAt",
    "closedAt",
    "ttl",
    "admittedUntil",
    "apiId",
    "domainName",
    "stage",
)
"""The attributes that sending needs."""
RECIPIENT_PAGE = 1000
"""Items that sending reads at once, under half of what DynamoDB would return: a kill repeats two of them."""


class DynamoDBConnectionTable:
    """ConnectionTable in the DynamoDB *table* with the indexes ``byClient`` and ``byAccount``.

    Cost in read units: ``scan`` one per 4 KB of the segment (consistent),
    ``page`` one per 8 KB of the items that it looks at, ``get`` 1.
    ``delete_exact`` costs as many write units as the store's ``remove``.

    ``page`` reads up to *page_size* items at once, or as many as DynamoDB returns
    (1 MB); and of each only *attributes*, if they are given.
    It reads the whole table to find an account's connections without an
    *account_index*, a client's without either index, and those without an account
    unless *index_unscoped*.
    """

    def __init__(
        self,
        transport: Transport,
        table: str,
        *,
        page_size: int = _PAGE_SIZE,
        attributes: Sequence[str] = (),
        client_index: bool = True,
        account_index: bool = True,
        index_unscoped: bool = False,
    ) -> None:
        self._transport = transport
        self._table = table
        self._page_size = page_size
        self._client_index = client_index
        self._account_index = account_index
        self._index_unscoped = index_unscoped
        self._projection: dict[str, Any] = {}
        if attributes:  # by other names, since some are reserved words
            names = {f"#p{number}": name for number, name in enumerate(attributes)}
            self._projection = {
                "ProjectionExpression": ", ".join(names),
                "ExpressionAttributeNames": names,
            }

    def get(self, connection_id: ConnectionId) -> Connection | None:
        request = {"TableName": self._table, "Key": key(connection_id), "ConsistentRead": True}
        item = self._transport.call("GetItem", request).body.get("Item")
        return connection_or_none(item) if item else None

    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        request: dict[str, Any] = {
            "TableName": self._table,
            "Segment": segment,
            "TotalSegments": of,
            "ConsistentRead": True,
        }
        while True:
            body = self._transport.call("Scan", request).body
            items, last_key = body["Items"], body.get("LastEvaluatedKey")
            del body  # a page may be 1 MB: keep one of them at a time
            yield from map(entry_from, items)
            if last_key is None:
                return
            request["ExclusiveStartKey"] = last_key
            del items

    def page(self, selection: Selection, after: str | None = None) -> Page:
        index = self._index_of(selection)
        request = {"TableName": self._table, "Limit": self._page_size} | self._projection
        if after is not None:
            request["ExclusiveStartKey"] = _key_from(after, index)
        if index is None:
            body = self._transport.call("Scan", request).body
        else:
            body = self._transport.call("Query", request | index.lookup()).body
        connections = (connection_from(item) for item in body["Items"] if not is_tombstone(item))
        last_key = body.get("LastEvaluatedKey")
        return Page(
            tuple(connection for connection in connections if selection.matches(connection)),
            next=_token(last_key) if last_key else None,
        )

    def delete_exact(self, entry: Entry) -> bool:
        try:
            answer = self._transport.call("DeleteItem", {"TableName": self._table} | delete_exact(entry))
        except ConditionFailed as failure:
            return failure.outcome_unknown
        return "Attributes" in answer.body or answer.outcome_unknown

    def _index_of(self, selection: Selection) -> "_Index | None":
        """Return the index part that has the selection; ``None`` if it takes a scan.

        Connections without a client id are in no index.
        """
        if self._client_index and selection.client_id not in (None, UNKNOWN_CLIENT):
            return _Index("byClient", "indexedClient", selection.client_id)
        if not self._account_index or selection.account is None:
            return None
        if selection.account or self._index_unscoped:
            region = "" if selection.region is None else indexed_region(selection.region)
            return _Index("byAccount", "indexedAccount", selection.account or UNSCOPED, region)
        return None


class _Index(NamedTuple):
    """A part of an index: all items with one key, or with *region* those whose sort key begins with it."""

    name: str
    attribute: str
    key: str
    region: str = ""

    def lookup(self) -> dict[str, Any]:
        """Return the parameters of the Query."""
        condition, values = f"{self.attribute} = :key", {":key": {"S": self.key}}
        if self.region:
            condition += " AND begins_with(indexedRegion, :region)"
            values[":region"] = {"S": self.region}
        return {
            "IndexName": self.name,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
        }


def _token(key: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode()


def _key_from(token: str, index: _Index | None) -> Any:
    """Return the key in *token*.

    Raises:
        InvalidSelection: it is not the key of an item in that part of *index*.
    """
    try:
        key = json.loads(base64.urlsafe_b64decode(token.encode()))
        texts = {name: value["S"] for name, value in key.items() if isinstance(value["S"], str)}
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        texts = {}
    names = {"connectionId"}
    if index is not None:
        names |= {index.attribute} | ({"indexedRegion"} if index.name == "byAccount" else set())
    if texts.keys() != names or not _is_within(index, texts):
        raise InvalidSelection("This is not a page token of this selection.")
    return key


def _is_within(index: _Index | None, texts: dict[str, str]) -> bool:
    return index is None or (
        texts[index.attribute] == index.key and texts.get("indexedRegion", "").startswith(index.region)
    )
