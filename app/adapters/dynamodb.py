"""Connections in a DynamoDB table, through boto3's low-level client."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
)
from botocore.exceptions import ConnectionError as BotocoreConnectionError

from app.adapters.dynamodb_wire import (
    CREDENTIALS_REFUSED,
    ONLY_IF_NEW,
    THROTTLED,
    connection_in,
    key,
    row_of,
)
from app.domain.errors import StorageUnavailable
from app.domain.model import Connection, ConnectionId, Removed

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_CREDENTIALS_UNUSABLE = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_UNREACHABLE = (HTTPClientError, BotocoreConnectionError)
# Of those, the faults that come before a request is on its way; after any other, it may have been done.
_NEVER_SENT = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)


def dynamodb_client(
    *,
    region: str,
    connect_timeout: timedelta,
    read_timeout: timedelta,
    attempts: int,
    endpoint: str | None = None,
) -> "DynamoDBClient":
    """A client that asks *attempts* times in all, each with both time-outs, with random pauses between.

    botocore's time-outs are for a peer that is silent: one that trickles can
    hold a call for longer, until Lambda ends the function.
    """
    logging.getLogger("botocore").setLevel(logging.WARNING)  # it tells at INFO where it found credentials
    return boto3.session.Session().client(
        "dynamodb",
        region_name=region,
        endpoint_url=endpoint,
        config=Config(
            connect_timeout=connect_timeout.total_seconds(),
            read_timeout=read_timeout.total_seconds(),
            retries={"mode": "standard", "total_max_attempts": attempts},
        ),
    )


class DynamoDBConnectionStore:
    """ConnectionStore in the DynamoDB table *table*, whose partition key is ``connectionId``.

    A retried write is safe here: an ``add`` that had succeeded finds its own
    row and leaves it, a ``remove`` that had succeeded finds nothing, and says
    that it can't be certain. One call at a time.
    """

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table
        self._attempts = _Attempts()
        client.meta.events.register("response-received.dynamodb", self._attempts.note)

    def add(self, connection: Connection) -> Connection:
        with self._faults_named():
            try:
                answer = self._client.put_item(
                    TableName=self._table,
                    Item=row_of(connection),
                    ConditionExpression=ONLY_IF_NEW,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
                _confirm(answer)
            except self._client.exceptions.ConditionalCheckFailedException as failure:
                return connection_in(failure.response["Item"])  # type: ignore[typeddict-item]  # it is there
        return connection

    def remove(self, connection_id: ConnectionId) -> Removed:
        with self._faults_named():
            answer = self._client.delete_item(
                TableName=self._table, Key=key(connection_id), ReturnValues="ALL_OLD"
            )
            _confirm(answer)
        row = answer.get("Attributes")
        return Removed(connection_in(row)) if row else Removed(None, certain=not self._attempts.unanswered)

    def get(self, connection_id: ConnectionId) -> Connection | None:
        with self._faults_named():
            answer = self._client.get_item(TableName=self._table, Key=key(connection_id), ConsistentRead=True)
            _confirm(answer)
        row = answer.get("Item")
        return connection_in(row) if row else None

    @contextmanager
    def _faults_named(self) -> Iterator[None]:
        """Raise the SDK's errors as ours, where they say that the store is unavailable."""
        self._attempts.unanswered = False
        try:
            yield
        except _CREDENTIALS_UNUSABLE as error:
            raise StorageUnavailable(type(error).__name__, outcome_unknown=False) from error
        except _UNREACHABLE as error:
            raise StorageUnavailable(
                type(error).__name__, outcome_unknown=self._attempts.unanswered
            ) from error
        except ClientError as error:
            if not _is_passing(error):
                raise
            raise StorageUnavailable(
                error.response["Error"]["Code"], outcome_unknown=self._attempts.unanswered
            ) from error


class _Attempts:
    """Whether an attempt of the call went out and its outcome never came back.

    The SDK shows only its last attempt's fault. An earlier one may have been
    carried out unheard, which a refusal of the last does not undo.
    """

    def __init__(self) -> None:
        self.unanswered = False

    def note(self, exception: Exception | None, parsed_response: Any, **_: object) -> None:
        """Called by the SDK after each attempt (event ``response-received``)."""
        if exception is not None:
            self.unanswered |= not isinstance(exception, _NEVER_SENT)
        else:
            self.unanswered |= _is_server_fault(parsed_response)


def _is_passing(error: ClientError) -> bool:
    """Whether the same request may well succeed later."""
    code = error.response["Error"]["Code"]
    return (
        code in THROTTLED
        or code in CREDENTIALS_REFUSED
        or _is_server_fault(error.response)
        or code.isdecimal()  # the SDK's for an answer that is not DynamoDB's, a proxy's page say: its status
    )


def _is_server_fault(response: Any) -> bool:
    return bool(response["ResponseMetadata"]["HTTPStatusCode"] >= HTTPStatus.INTERNAL_SERVER_ERROR)


def _confirm(answer: Mapping[str, Any]) -> None:
    """Make sure that the answer is DynamoDB's own, by the request id that each of them carries.

    The SDK takes any 200 for a success, a captive portal's web page included.
    """
    if "RequestId" not in answer["ResponseMetadata"]:
        raise StorageUnavailable("NotDynamoDB", outcome_unknown=True)
