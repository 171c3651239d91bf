"""The tables of a run in memory, behind the requests of their adapters.

A run on DynamoDB Local with the same seed has the same figures, but takes ten times as long.
"""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from app.adapters.dynamodb.transport import Answer, ConditionFailed

type Item = Mapping[str, Any]


class MemoryTables:
    """Transport that knows the conditions of the adapters, as far as a run needs them."""

    def __init__(self) -> None:
        self._tables: defaultdict[str, dict[str, Item]] = defaultdict(dict)
        self._sorted: defaultdict[str, list[str]] = defaultdict(list)  # sort keys by partition
        self._operations: dict[str, Callable[[Item], dict[str, Any]]] = {
            "GetItem": self._get,
            "PutItem": self._put,
            "DeleteItem": self._delete,
            "UpdateItem": self._update,
            "Query": self._query,
            "Scan": self._scan,
        }

    def call(self, operation: str, request: Item) -> Answer:
        return Answer(self._operations[operation](request), outcome_unknown=False)

    def _get(self, request: Item) -> dict[str, Any]:
        item = self._tables[request["TableName"]].get(name_of(request["Key"]))
        return {"Item": item} if item else {}

    def _put(self, request: Item) -> dict[str, Any]:
        table, new = self._tables[request["TableName"]], request["Item"]
        name = name_of(new)
        old = table.get(name)
        condition = request.get("ConditionExpression", "")
        if old is not None and condition.startswith("attribute_not_exists(connectionId)"):
            raise ConditionFailed(old, outcome_unknown=False)  # of a run, an id has one connection
        if _is_refused(request, old):
            raise ConditionFailed(old or {}, outcome_unknown=False)
        table[name] = new
        if old is None and (keys := _partition_and_sort(new)):
            insort(self._sorted[keys[0]], keys[1])
        return {"Attributes": old} if old else {}

    def _delete(self, request: Item) -> dict[str, Any]:
        table, name = self._tables[request["TableName"]], name_of(request["Key"])
        old = table.get(name)
        if _is_refused(request, old):
            raise ConditionFailed(old or {}, outcome_unknown=False)
        condition = request.get("ConditionExpression", "")
        is_tombstone = old is not None and "closedAt" in old
        is_other = ":createdAt" in condition and (
            old is None or old.get("createdAt") != request["ExpressionAttributeValues"][":createdAt"]
        )
        if "connectionId" in request["Key"] and condition and (is_tombstone or is_other):
            raise ConditionFailed(None, outcome_unknown=False)
        if old is None:
            return {}
        del table[name]
        if keys := _partition_and_sort(old):
            self._sorted[keys[0]].remove(keys[1])
        return {"Attributes": old}

    def _update(self, request: Item) -> dict[str, Any]:
        """Change a delivery: claim it, or record how far it is and perhaps give up the claim."""
        table, name = self._tables[request["TableName"]], name_of(request["Key"])
        values, old = request["ExpressionAttributeValues"], table.get(name)
        is_claim = request["UpdateExpression"].startswith("SET audience = :audience")
        if is_claim:
            is_refused = old is not None and ("finishedAt" in old or not _is_free(old, values))
            new = dict(old or request["Key"] | {"startedAt": values[":now"]})
            changed = {
                "audience": ":audience",
                "claim": ":claim",
                "digest": ":digest",
                "claimedUntil": ":until",
            }
        else:
            is_refused = old is None or old["claim"] != values[":claim"]
            new = dict(old or {})
            changed = {"progress": ":progress", "claimedUntil": ":unclaimed", "finishedAt": ":finishedAt"}
        if is_refused:
            raise ConditionFailed(old, outcome_unknown=False)
        table[name] = new | {field: values[value] for field, value in changed.items() if value in values}
        return {"Attributes": table[name]}

    def _query(self, request: Item) -> dict[str, Any]:
        values, table = request["ExpressionAttributeValues"], self._tables[request["TableName"]]
        if ":id" in values:  # of the presence
            partition = values[":id"]["S"]
            found = self._sorted[partition][:: 1 if request.get("ScanIndexForward", True) else -1]
            found = found[: request.get("Limit")]
            return {"Items": [table[_KEYS.join((partition, part))] for part in found]}
        if "IndexName" not in request:
            scope, first = values[":scope"]["S"], values[":first"]["S"]
            last = values[":last"]["S"] if ":last" in values else f"{first}\uffff"
            positions = self._sorted[scope]
            found = positions[bisect_left(positions, first) : bisect_right(positions, last)]
            return {"Items": [table[_KEYS.join((scope, position))] for position in found]}
        attribute, _, _ = request["KeyConditionExpression"].partition(" ")
        region = values.get(":region", {"S": ""})["S"]
        return _page(
            request,
            [
                item
                for item in table.values()
                if item.get(attribute) == values[":key"] and _region(item).startswith(region)
            ],
            attribute,
        )

    def _scan(self, request: Item) -> dict[str, Any]:
        return _page(request, list(self._tables[request["TableName"]].values()))


_KEYS = "\n"


def name_of(item: Item) -> str:
    """Return the key of an *item*, or of a request for it, as one text."""
    if keys := _partition_and_sort(item):
        return _KEYS.join(keys)
    text: str = item["connectionId"]["S"] if "connectionId" in item else item["id"]["S"]
    return text


def _partition_and_sort(item: Item) -> tuple[str, str] | None:
    """Return both keys of an item of the history or of the presence."""
    for partition, sort in (("scope", "position"), ("id", "part")):
        if sort in item:
            return item[partition]["S"], item[sort]["S"]
    return None


def _is_refused(request: Item, old: Item | None) -> bool:
    """Return whether *request* has a condition of the presence's adapter, and it is false."""
    values = request.get("ExpressionAttributeValues", {})
    match request.get("ConditionExpression"):
        case "attribute_not_exists(id)":
            return old is not None
        case "version = :version":
            return old is None or old["version"] != values[":version"]
        case "attribute_not_exists(began) OR began <= :began":
            return old is not None and int(old["began"]["N"]) > int(values[":began"]["N"])
    return False


def _is_free(delivery: Item, values: Item) -> bool:
    return int(delivery["claimedUntil"]["N"]) <= int(values[":now"]["N"])


def _region(item: Item) -> str:
    text: str = item["indexedRegion"]["S"] if "indexedRegion" in item else ""
    return text


def _page(request: Item, items: list[Item], attribute: str = "connectionId") -> dict[str, Any]:
    """Return a page of *items*, in the order of the index of an *attribute*, or of the table."""
    names = {"connectionId", attribute} | ({"indexedRegion"} if attribute == "indexedAccount" else set())

    def place(item: Item) -> tuple[str, str]:
        return _region(item) if "indexedRegion" in names else "", item["connectionId"]["S"]

    ordered = sorted(items, key=place)
    if "ExclusiveStartKey" in request:
        ordered = [item for item in ordered if place(item) > place(request["ExclusiveStartKey"])]
    page = ordered[: request["Limit"]]
    if len(page) == len(ordered):
        return {"Items": page}
    return {"Items": page, "LastEvaluatedKey": {name: page[-1][name] for name in sorted(names)}}
