"""The ConnectionStore in DynamoDB."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app.adapters.dynamodb.items import (
    connection_or_none,
    delete_if_not_newer,
    existing_or_raise,
    put_if_newer,
    put_tombstone,
)
from app.adapters.dynamodb.transport import ConditionFailed, Transport
from app.domain.errors import StorageUnavailable
from app.domain.model import Connection, ConnectionId, Removed, Tombstone


class DynamoDBConnectionStore:
    """ConnectionStore in the DynamoDB *table*, whose partition key is ``connectionId``.

    Cost in write units, per KB of the item (most have less than one). Each of
    the up to two indexes that an item is in adds one unit:

    =====================================================  =============================
    ``add``                                                1 + indexes
    ``add`` that replaces an older item                    1 + twice the indexes
    ``add`` that changes nothing, or is refused            1
    ``remove``                                             1 + indexes
    ``remove`` that finds nothing                          1
    ``tombstone``, only after one of those                 1
    ``tombstone`` that replaces a connection               1 + indexes
    expiry by DynamoDB                                     0
    =====================================================  =============================

    *index_unscoped*: connections without an account are in the index by account,
    too.
    """

    def __init__(self, transport: Transport, table: str, *, index_unscoped: bool = False) -> None:
        self._transport = transport
        self._table = table
        self._index_unscoped = index_unscoped

    def add(self, connection: Connection) -> Connection:
        try:
            request = put_if_newer(connection, index_unscoped=self._index_unscoped)
            self._transport.call("PutItem", {"TableName": self._table} | request)
        except ConditionFailed as failure:
            return existing_or_raise(_own_item(connection.id, failure.item), connection)
        return connection

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return self._deleted("DeleteItem", connection_id, delete_if_not_newer(connection_id, connected_at))

    def tombstone(self, tombstone: Tombstone) -> Removed:
        return self._deleted("PutItem", tombstone.connection_id, put_tombstone(tombstone))

    def _deleted(self, operation: str, connection_id: ConnectionId, request: dict[str, Any]) -> Removed:
        try:
            answer = self._transport.call(operation, {"TableName": self._table} | request)
        except ConditionFailed as failure:
            return Removed(None, outcome_unknown=failure.outcome_unknown)
        item = answer.body.get("Attributes")
        connection = connection_or_none(_own_item(connection_id, item)) if item else None
        return Removed(connection, outcome_unknown=connection is None and answer.outcome_unknown)


def _own_item(connection_id: ConnectionId, item: object) -> Mapping[str, Any]:
    """Return *item*, which must be that of *connection_id*, or it is no answer to this request."""
    if not isinstance(item, dict) or item.get("connectionId") != {"S": connection_id}:
        raise StorageUnavailable("NotDynamoDB", outcome_unknown=True)
    return item
