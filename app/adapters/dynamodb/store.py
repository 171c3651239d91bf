"""ConnectionStore through boto3's low-level client."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.adapters.dynamodb.client import Attempts, confirm
from app.adapters.dynamodb_wire import addition, closing_mark, key, removal, standing, unmarked
from app.domain.model import Connection, ConnectionId, Removed

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    type _Operation = Callable[..., Mapping[str, Any]]


class DynamoDBConnectionStore:
    """ConnectionStore in the DynamoDB table *table*, whose partition key is ``connectionId``.

    A retried write is safe here: an ``add`` that had succeeded finds its own
    row and leaves it, a ``remove`` that had succeeded finds nothing, and says
    that it can't be certain. Several threads may call it at once.
    """

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table
        self._attempts = Attempts(client)

    def add(self, connection: Connection) -> Connection:
        with self._attempts.faults_named():
            try:
                confirm(self._client.put_item(TableName=self._table, **addition(connection)))
            except self._client.exceptions.ConditionalCheckFailedException as failure:
                return standing(failure.response["Item"], connection)  # type: ignore[typeddict-item]  # it is there
        return connection

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return self._taken_out(self._client.delete_item, removal(connection_id, connected_at))

    def mark_closed(
        self, connection_id: ConnectionId, *, connected_at: datetime, closed_at: datetime, until: datetime
    ) -> Removed:
        mark = closing_mark(connection_id, connected_at=connected_at, closed_at=closed_at, until=until)
        return self._taken_out(self._client.put_item, mark)

    def get(self, connection_id: ConnectionId) -> Connection | None:
        with self._attempts.faults_named():
            answer = self._client.get_item(TableName=self._table, Key=key(connection_id), ConsistentRead=True)
            confirm(answer)
        row = answer.get("Item")
        return unmarked(row) if row else None

    def _taken_out(self, operation: "_Operation", request: dict[str, Any]) -> Removed:
        row = self._answer_unless_refused(operation, request).get("Attributes")
        connection = unmarked(row) if row else None
        return Removed(connection, certain=connection is not None or not self._attempts.unanswered)

    def _answer_unless_refused(self, operation: "_Operation", request: dict[str, Any]) -> Mapping[str, Any]:
        """What *operation* answers; nothing where its condition did not let it."""
        with self._attempts.faults_named():
            try:
                answer = operation(TableName=self._table, **request)
                confirm(answer)
            except self._client.exceptions.ConditionalCheckFailedException:
                return {}
        return answer
