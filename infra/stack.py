"""A deployed stack as its users see it: where to connect, the table, the functions' log records."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

type Record = dict[str, Any]


class LocalStackFailure(Exception):
    """The local stack can't be had; the text says why and where to look."""


@dataclass(frozen=True, slots=True)
class Row:
    """One connected client, as the table has it."""

    connection_id: str
    client_id: str
    account: str
    region: str
    source_ip: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LocalStack:
    """The stack while it runs.

    ``ask_connect`` gives an event to the ``$connect`` function and returns its
    answer, past API Gateway. ``log`` is the file of both functions' records.
    """

    websocket_url: str
    table: str
    dynamodb: "DynamoDBClient"
    ask_connect: Callable[[Record], Record]
    log: Path

    def rows(self) -> list[Row]:
        """Who is connected now, in the order they came; rows past their ``ttl`` are passed over."""
        scan = self.dynamodb.get_paginator("scan").paginate(TableName=self.table, ConsistentRead=True)
        now = time.time()
        items = [item for page in scan for item in page["Items"] if int(item["ttl"]["N"]) > now]
        return sorted(map(_row, items), key=lambda row: row.created_at)

    def records(self, event: str) -> list[Record]:
        """What the functions have logged under the name *event*, in that order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [record for record in map(json.loads, lines) if record.get("event") == event]


def _row(item: "dict[str, AttributeValueTypeDef]") -> Row:
    return Row(
        connection_id=item["connectionId"]["S"],
        client_id=item["clientId"]["S"],
        account=item["account"]["S"],
        region=item["region"]["S"],
        source_ip=item["sourceIp"]["S"],
        created_at=datetime.fromtimestamp(int(item["createdAt"]["N"]) / 1000, UTC),
    )
