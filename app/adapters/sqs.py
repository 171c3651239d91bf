"""The queues in Amazon SQS, through the SDK: of messages, and of clients that come back."""

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from app.domain.delivery import MessageId
from app.domain.errors import QueueUnavailable
from app.domain.history import CatchUp, Place
from app.domain.lifecycle import ConnectionRef
from app.domain.model import ConnectionId

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

SENT_AT = "sentAt"
"""The message attribute that says when a message was first sent, as ISO 8601 has it."""

_SECOND = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class _Queue:
    """A queue that its *name* names, in *region*. Thread-safe."""

    def __init__(
        self, *, name: str, region: str, connect_timeout: timedelta, read_timeout: timedelta, attempts: int
    ) -> None:
        self._name = name
        self._client = boto3.session.Session().client(
            "sqs",
            region_name=region,
            config=Config(
                connect_timeout=connect_timeout.total_seconds(),
                read_timeout=read_timeout.total_seconds(),
                retries={"mode": "standard", "total_max_attempts": attempts},
            ),
        )
        self._url: str | None = None

    def send(
        self,
        body: str,
        attributes: "dict[str, MessageAttributeValueTypeDef] | None" = None,
        delay: timedelta = timedelta(),
    ) -> None:
        """Send a message to it.

        Raises:
            QueueUnavailable: it did not take the message in time.
        """
        try:
            if self._url is None:
                self._url = self._client.get_queue_url(QueueName=self._name)["QueueUrl"]
            self._client.send_message(
                QueueUrl=self._url,
                MessageBody=body,
                MessageAttributes=attributes or {},
                DelaySeconds=-(-delay // _SECOND),
            )
        except ClientError as error:
            raise QueueUnavailable(error.response["Error"]["Code"]) from error
        except BotoCoreError as error:
            raise QueueUnavailable(type(error).__name__) from error


class SqsQueue(_Queue):
    """MessageQueue in SQS."""

    def put(self, body: str, *, sent_at: datetime | None = None) -> None:
        if sent_at is None:
            self.send(body)
        else:
            self.send(body, {SENT_AT: {"DataType": "String", "StringValue": sent_at.isoformat()}})


class SqsCatchUps(_Queue):
    """CatchUps in SQS; a delay is rounded up to seconds."""

    def put(self, request: CatchUp, *, delay: timedelta = timedelta()) -> None:
        after = request.after
        body = {
            "connectionId": request.ref.connection_id,
            "beganAt": _milliseconds(request.ref.began_at),
            "since": request.since,
            "after": None if after is None else [_milliseconds(after.finished_at), after.message_id],
            "told": request.told,
            "isSecond": request.is_second,
        }
        self.send(json.dumps(body), delay=delay)  # in ASCII: SQS refuses some characters


def catch_up_from(body: str) -> CatchUp:
    """Return the request in the *body* of a queue's message, as SqsCatchUps puts it there."""
    fields = json.loads(body)
    after = fields["after"]
    return CatchUp(
        ConnectionRef(ConnectionId(fields["connectionId"]), _time(fields["beganAt"])),
        fields["since"],
        None if after is None else Place(_time(after[0]), MessageId(after[1])),
        tuple(MessageId(name) for name in fields["told"]),
        is_second=fields["isSecond"],
    )


def _milliseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MILLISECOND


def _time(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND
