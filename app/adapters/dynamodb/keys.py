"""The KeyStore in DynamoDB: one item per issuer, in a table of its own."""

import json

from app.adapters.dynamodb.items import MILLISECOND, number, time_from
from app.adapters.dynamodb.transport import ConditionFailed, Transport
from app.domain.tokens import Key, KeySet


class DynamoDBKeyStore:
    """KeyStore in the DynamoDB *table*, whose partition key is ``issuer``, for one *issuer*.

    Cost: a read unit per 4 KB, a write unit per KB; ten keys are 5 KB.
    """

    def __init__(self, transport: Transport, table: str, issuer: str) -> None:
        self._transport = transport
        self._table = table
        self._key = {"issuer": {"S": issuer}}

    def load(self) -> KeySet | None:
        request = {"TableName": self._table, "Key": self._key, "ConsistentRead": True}
        item = self._transport.call("GetItem", request).body.get("Item", {})
        fetched_at = time_from(item, "fetchedAt", MILLISECOND)
        if fetched_at is None:
            return None
        keys: dict[str, Key] = json.loads(item["keys"]["S"])
        return KeySet(keys, fetched_at)

    def save(self, issued: KeySet) -> None:
        fetched_at = number(issued.fetched_at, MILLISECOND)
        request = {
            "TableName": self._table,
            "Item": self._key
            | {"fetchedAt": fetched_at, "keys": {"S": json.dumps(issued.keys, separators=(",", ":"))}},
            "ConditionExpression": "attribute_not_exists(issuer) OR fetchedAt <= :fetchedAt",
            "ExpressionAttributeValues": {":fetchedAt": fetched_at},
        }
        try:
            self._transport.call("PutItem", request)
        except ConditionFailed:
            return  # another run has saved later ones
