"""A deployed stack as its users see it: where to connect, the table, the functions' log records."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.adapters.dynamodb.items import entry_from
from app.domain.model import Connection
from infra.gateway import LocalGateway

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef
    from mypy_boto3_sqs import SQSClient

_DELIVERED_WITHIN = 60  # seconds; the function's first start takes a few

type Record = dict[str, Any]


class LocalStackFailure(Exception):
    """The local stack can't be started; the text says why and where to look."""


@dataclass(frozen=True, slots=True)
class LocalStack:
    """The stack while it runs.

    ``invoke`` calls a function (Connect, Disconnect, Sweep, Changes, Send, CatchUp, Keys)
    with an event and returns its answer. ``replace`` ends the processes of a function, as
    an update does. ``log`` is the file of all functions' log records. ``environment`` is
    what a program needs to reach this stack with the AWS SDK.
    """

    websocket_url: str
    table: str
    dynamodb: "DynamoDBClient"
    gateway: LocalGateway
    invoke: Callable[[str, Record], Record]
    replace: Callable[[str], None]
    log: Path
    environment: Mapping[str, str]
    queue: "SQSClient"
    queue_url: str

    def connections(self) -> list[Connection]:
        """Return the connections in the table, the oldest first, without tombstones and expired items."""
        now = datetime.now(UTC)
        entries = map(entry_from, self.items())
        connections = [it for it in entries if isinstance(it, Connection) and it.expires_at > now]
        return sorted(connections, key=lambda connection: connection.created_at)

    def items(self) -> "list[dict[str, AttributeValueTypeDef]]":
        """Return all items of the table."""
        scan = self.dynamodb.get_paginator("scan").paginate(TableName=self.table, ConsistentRead=True)
        return [item for page in scan for item in page["Items"]]

    def sweep(self) -> Record:
        """Run a sweep and return its report.

        Raises:
            LocalStackFailure: the sweep failed.
        """
        report = self.invoke("Sweep", {})
        if "missedDisconnects" not in report:
            raise LocalStackFailure(f"The sweep failed: {report}")
        return report

    def refresh_keys(self) -> list[str]:
        """Fetch the issuer's keys and return their ids.

        Raises:
            LocalStackFailure: they could not be fetched.
        """
        report = self.invoke("Keys", {})
        if report.get("event") != "keys.refreshed":
            raise LocalStackFailure(f"The keys could not be fetched: {report}")
        ids: list[str] = report["keyIds"]
        return ids

    def send(self, message: Record) -> Record:
        """Put *message* into the queue, and return the record of its delivery.

        Raises:
            LocalStackFailure: it was not delivered in time.
        """
        self.queue.send_message(QueueUrl=self.queue_url, MessageBody=json.dumps(message))
        deadline = time.monotonic() + _DELIVERED_WITHIN
        while time.monotonic() < deadline:
            for record in self.records("delivery.finished"):
                if record["messageId"] == message["id"]:
                    return record
            time.sleep(0.05)
        raise LocalStackFailure(
            f"The message was not delivered; refusals: {self.records('delivery.refused')}"
        )

    def records(self, event: str) -> list[Record]:
        """Return the functions' log records with that *event* name, in order."""
        text = self.log.read_text() if self.log.exists() else ""
        lines = text.rpartition("\n")[0].splitlines()  # what follows is just being written
        return [record for record in map(json.loads, lines) if record.get("event") == event]
