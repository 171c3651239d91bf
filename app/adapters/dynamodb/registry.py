"""ConnectionRegistry through boto3's low-level client: the whole table, and its two indexes."""

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from app.adapters.dynamodb.client import confirm
from app.adapters.dynamodb.entries import entry_in, oblivion
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.dynamodb_wire import connection_in, indexed_region, is_mark
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
        index = _index_of(selection)
        request: dict[str, Any] = {"TableName": self._table, "Limit": self._page_size}
        if after is not None:
            request["ExclusiveStartKey"] = _key_in(after, index)
        with self._attempts.faults_named():
            answer: Any  # as far as it is read, alike
            if index is None:
                answer = self._client.scan(**request)
            else:
                answer = self._client.query(**request, **index.lookup())
            confirm(answer)
        found = (connection_in(row) for row in answer["Items"] if not is_mark(row))
        ended_at = answer.get("LastEvaluatedKey")
        return Page(
            tuple(connection for connection in found if selection.holds(connection)),
            next=_token(ended_at) if ended_at else None,
        )

    def forget(self, entry: Entry) -> bool:
        answer = self._answer_unless_refused(self._client.delete_item, oblivion(entry))
        return "Attributes" in answer or self._attempts.unanswered  # an earlier attempt may have done it


class _Index(NamedTuple):
    """A part of an index: all under one key or, with *region*, what there begins with it."""

    name: str
    attribute: str
    key: str
    region: str = ""

    def lookup(self) -> dict[str, Any]:
        """Query's parameters."""
        condition, values = f"{self.attribute} = :key", {":key": {"S": self.key}}
        if self.region:
            condition += " AND begins_with(indexedRegion, :region)"
            values[":region"] = {"S": self.region}
        return {
            "IndexName": self.name,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
        }


def _index_of(selection: Selection) -> _Index | None:
    """Where the selection is found; ``None`` where only a scan finds it.

    Whoever did not say who it is, or of which account, is in no index.
    """
    if selection.client_id not in (None, UNKNOWN_CLIENT):
        return _Index("byClient", "indexedClient", selection.client_id)
    if selection.account:
        region = "" if selection.region is None else indexed_region(selection.region)
        return _Index("byAccount", "indexedAccount", selection.account, region)
    return None


def _token(key: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode()


def _key_in(token: str, index: _Index | None) -> Any:
    """The key in *token*, which must be one of the rows that are found in *index*."""
    try:
        key = json.loads(base64.urlsafe_b64decode(token.encode()))
        texts = {name: value["S"] for name, value in key.items() if isinstance(value["S"], str)}
    except (ValueError, AttributeError, TypeError, KeyError):
        texts = {}
    names = {"connectionId"}
    if index is not None:
        names |= {index.attribute} | ({"indexedRegion"} if index.name == "byAccount" else set())
    if texts.keys() != names or not _is_found_in(index, texts):
        raise InvalidSelection("That is not where a page of this selection ended.")
    return key


def _is_found_in(index: _Index | None, texts: dict[str, str]) -> bool:
    return index is None or (
        texts[index.attribute] == index.key and texts.get("indexedRegion", "").startswith(index.region)
    )
