"""Connections in a DynamoDB table, through boto3's low-level client.

A row is a connection; attributes that are unknown are left out. Their names
and types are a contract with tables and readers that exist.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
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

from app.domain.errors import StorageUnavailable
from app.domain.model import (
    UNKNOWN_CLIENT,
    AccountId,
    ClientId,
    Connection,
    ConnectionId,
    RegionName,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SECOND = timedelta(seconds=1)

_CREDENTIALS_UNUSABLE = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_UNREACHABLE = (HTTPClientError, BotocoreConnectionError)
# Of those, the faults that come before a request is on its way; after any other, it may have been done.
_NEVER_SENT = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)

# What DynamoDB answers where the same request may well succeed later, by the error codes of its developer
# guide ('Error handling with DynamoDB'). Other codes (a missing table, a denied action) are faults of the
# deployment and reach the log whole, as bugs do.
_REFUSED_FOR_NOW = frozenset({
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "ExpiredTokenException",
    "UnrecognizedClientException",
})  # fmt: skip


def dynamodb_client(
    *,
    region: str,
    connect_timeout: timedelta,
    read_timeout: timedelta,
    attempts: int,
    endpoint: str | None = None,
) -> "DynamoDBClient":
    """A client whose every call ends: *attempts* in all, each with both time-outs, random pauses between."""
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
    row and leaves it, a ``remove`` that had succeeded finds nothing. All that
    such a remove loses is the account of what it removed.
    """

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table
        self._attempts = _Attempts()
        client.meta.events.register("response-received.dynamodb", self._attempts.note)

    def add(self, connection: Connection) -> None:
        already_there = self._client.exceptions.ConditionalCheckFailedException
        with self._faults_named(), suppress(already_there):
            _confirm(
                self._client.put_item(
                    TableName=self._table,
                    Item=_row(connection),
                    ConditionExpression="attribute_not_exists(connectionId)",
                )
            )

    def remove(self, connection_id: ConnectionId) -> Connection | None:
        with self._faults_named():
            answer = self._client.delete_item(
                TableName=self._table,
                Key={"connectionId": {"S": connection_id}},
                ReturnValues="ALL_OLD",
            )
            _confirm(answer)
        row = answer.get("Attributes")
        return _connection(row) if row else None

    def get(self, connection_id: ConnectionId) -> Connection | None:
        with self._faults_named():
            answer = self._client.get_item(
                TableName=self._table,
                Key={"connectionId": {"S": connection_id}},
                ConsistentRead=True,
            )
            _confirm(answer)
        row = answer.get("Item")
        return _connection(row) if row else None

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
            code = error.response["Error"]["Code"]
            if code not in _REFUSED_FOR_NOW and not _is_server_fault(error.response):
                raise
            raise StorageUnavailable(code, outcome_unknown=self._attempts.unanswered) from error


class _Attempts(threading.local):
    """Whether an attempt of this thread's call went out and its outcome never came back.

    The SDK shows only its last attempt's fault. An earlier one may have been
    carried out unheard, which a refusal of the last does not undo.
    """

    unanswered = False

    def note(self, exception: Exception | None, parsed_response: Any, **_: object) -> None:
        """Called by the SDK after each attempt (event ``response-received``)."""
        if exception is not None:
            self.unanswered |= not isinstance(exception, _NEVER_SENT)
        else:
            self.unanswered |= _is_server_fault(parsed_response)


def _confirm(answer: Mapping[str, Any]) -> None:
    """Make sure that the answer is DynamoDB's own, by the request id that each of them carries.

    The SDK takes any 200 for a success, a captive portal's web page included.
    """
    if "RequestId" not in answer["ResponseMetadata"]:
        raise StorageUnavailable("NotDynamoDB", outcome_unknown=True)


def _is_server_fault(response: Any) -> bool:
    return bool(response["ResponseMetadata"]["HTTPStatusCode"] >= HTTPStatus.INTERNAL_SERVER_ERROR)


def _row(connection: Connection) -> "dict[str, AttributeValueTypeDef]":
    row: dict[str, AttributeValueTypeDef] = {
        "connectionId": {"S": connection.id},
        "createdAt": _number(connection.created_at, _MILLISECOND),
        "ttl": _number(connection.expires_at, _SECOND),
        "clientId": {"S": connection.client_id},
        "account": {"S": connection.account},
        "region": {"S": connection.region},
        "sourceIp": {"S": connection.source_ip},
    }
    known = {
        "userAgent": connection.user_agent,
        "apiId": connection.api_id,
        "domainName": connection.domain_name,
        "stage": connection.stage,
        "principalId": connection.principal_id,
    }
    row.update({name: {"S": text} for name, text in known.items() if text is not None})
    if connection.connected_at is not None:
        row["connectedAt"] = _number(connection.connected_at, _MILLISECOND)
    if connection.attributes:
        row["attributes"] = {"M": {name: {"S": text} for name, text in connection.attributes.items()}}
    return row


def _connection(row: "dict[str, AttributeValueTypeDef]") -> Connection:
    """What *row* says; one that somebody wrote by hand may lack anything but its key."""

    def text(name: str) -> str | None:
        return row[name]["S"] if name in row else None

    def moment(name: str, unit: timedelta) -> datetime | None:
        return _EPOCH + int(row[name]["N"]) * unit if name in row else None

    attributes = row["attributes"]["M"] if "attributes" in row else {}
    return Connection(
        id=ConnectionId(row["connectionId"]["S"]),
        client_id=ClientId(text("clientId") or UNKNOWN_CLIENT),
        account=AccountId(text("account") or ""),
        region=RegionName(text("region") or ""),
        source_ip=text("sourceIp") or "",
        created_at=moment("createdAt", _MILLISECOND) or _EPOCH,
        expires_at=moment("ttl", _SECOND) or _EPOCH,
        user_agent=text("userAgent"),
        connected_at=moment("connectedAt", _MILLISECOND),
        api_id=text("apiId"),
        domain_name=text("domainName"),
        stage=text("stage"),
        principal_id=text("principalId"),
        attributes={name: value["S"] for name, value in attributes.items()},
    )


def _number(at: datetime, unit: timedelta) -> "AttributeValueTypeDef":
    return {"N": str((at - _EPOCH) // unit)}
