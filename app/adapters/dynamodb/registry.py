"""ConnectionRegistry through boto3's low-level client: the whole table, and its two indexes."""

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from app.adapters.dynamodb.client import confirm
from app.adapters.dynamodb.entries import entry_in, oblivion
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.dynamodb_wire import NO_REGION, connection_in, is_mark
from app.domain.model import UNKNOWN_CLIENT
from app.domain.upkeep import Entry, InvalidSelection, Page, Selection

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PAGE = 100  # rows, of half a KB or so; DynamoDB ends a page at 1 MB in any case


class DynamoDBConnectionRegistry(DynamoDBConnectionStore):
    """ConnectionRegistry in the DynamoDB table *table* with the indexes ``byClient`` and ``byAccount``.

    In read units, of which one is 8 KB here, or 4 KB where it must be up to
    date: a segment costs the size of its rows, up to date; a page costs the
    size of the rows that it looks at. ``get`` costs 1, ``forget`` as much as
    ``remove``.
    """

    def __init__(self, client: "DynamoDBClient", table: str, *, page_size: int = _PAGE) -> None:
        super().__init__(client, table)
        self._page_size = page_size

    def segment(self, number: int, of: int) -> Iterator[Entry]:
        request: dict[str, Any] = {"Segment": number, "TotalSegments": of, "ConsistentRead": True}
        while True:
            with self._attempts.faults_named():
                answer = self._client.scan(TableName=self._table, **request)
                confirm(answer)
            rows, request["ExclusiveStartKey"] = answer["Items"], answer.get("LastEvaluatedKey")
            del answer  # a page may be 1 MB: one of them at a time
            yield from map(entry_in, rows)
            if request["ExclusiveStartKey"] is None:
                return
            del rows

    def page(self, selection: Selection, after: str | None = None) -> Page:
        keys = _index_keys(selection)
        request: dict[str, Any] = {"TableName": self._table, "Limit": self._page_size}
        if after is not None:
            request["ExclusiveStartKey"] = _key_in(after, keys)
        with self._attempts.faults_named():
            ask: Any = self._client.query if keys else self._client.scan  # as far as it is read, alike
            answer = ask(**request, **_lookup(keys))
            confirm(answer)
        found = (connection_in(row) for row in answer["Items"] if not is_mark(row))
        ended_at = answer.get("LastEvaluatedKey")
        return Page(
            tuple(connection for connection in found if selection.holds(connection)),
            next=_token(ended_at) if ended_at else None,
        )

    def forget(self, entry: Entry) -> bool:
        return "Attributes" in self._answer_unless_refused(self._client.delete_item, oblivion(entry))


def _index_keys(selection: Selection) -> dict[str, str]:
    """The index attributes that narrow the search; none where only a scan finds them.

    Whoever did not say who it is, or of which account, is in no index.
    """
    if selection.client_id not in (None, UNKNOWN_CLIENT):
        return {"indexedClient": selection.client_id}
    if selection.account:
        keys = {"indexedAccount": str(selection.account)}
        if selection.region is not None:
            keys["indexedRegion"] = selection.region or NO_REGION
        return keys
    return {}


def _lookup(keys: dict[str, str]) -> dict[str, Any]:
    if not keys:
        return {}
    return {
        "IndexName": "byClient" if "indexedClient" in keys else "byAccount",
        "KeyConditionExpression": " AND ".join(f"{name} = :{name}" for name in keys),
        "ExpressionAttributeValues": {f":{name}": {"S": text} for name, text in keys.items()},
    }


def _token(key: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode()


def _key_in(token: str, keys: dict[str, str]) -> Any:
    """The key in *token*, which must be one of the rows that *keys* find."""
    try:
        key = json.loads(base64.urlsafe_b64decode(token.encode()))
        names = {name for name, value in key.items() if isinstance(value["S"], str)}
    except (ValueError, AttributeError, TypeError, KeyError):
        names = set()
    expected = {"connectionId", *keys} | ({"indexedRegion"} if "indexedAccount" in keys else set())
    if names != expected or any(key[name] != {"S": text} for name, text in keys.items()):
        raise InvalidSelection("That is not where a page of this selection ended.")
    return key
