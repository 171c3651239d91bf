"""A deployed stack as its users see it: where to connect, the table, the functions' log records."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.gateway import LocalGateway

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

    ``ask`` gives an event to the function of that name (Connect, Disconnect,
    Sweep, Changes) and returns its answer, past whatever calls it else.
    ``log`` is the file of all functions' records. ``environment`` is what a
    program needs to read this stack with the AWS SDK.
    """

    websocket_url: str
    table: str
    dynamodb: "DynamoDBClient"
    gateway: LocalGateway
    ask: Callable[[str, Record], Record]
    log: Path
    environment: Mapping[str, str]

    def rows(self) -> list[Row]:
        """Who is connected now, in the order they came.

        Rows past their ``ttl`` are passed over, and the marks of connections
        that ended before they were recorded.
        """
        now = time.time()
        items = [it for it in self.items() if "closedAt" not in it and int(it["ttl"]["N"]) > now]
        return sorted(map(_row, items), key=lambda row: row.created_at)

    def items(self) -> "list[dict[str, AttributeValueTypeDef]]":
        """All that the table holds."""
        scan = self.dynamodb.get_paginator("scan").paginate(TableName=self.table, ConsistentRead=True)
        return [item for page in scan for item in page["Items"]]

    def sweep(self) -> Record:
        """The report of a sweep, made now.

        Raises:
            LocalStackFailure: there is none.
        """
        report = self.ask("Sweep", {})
        if "missedDisconnects" not in report:
            raise LocalStackFailure(f"The sweep failed: {report}")
        return report

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
