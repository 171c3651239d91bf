"""The queue of messages in Amazon SQS, through the SDK."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from app.domain.errors import QueueUnavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

SENT_AT = "sentAt"
"""The message attribute that says when a message was first sent, as ISO 8601 has it."""


class SqsQueue:
    """MessageQueue that the *name* of a queue names, in *region*. Thread-safe."""

    def __init__(
        self, *, name: str, region: str, connect_timeout: timedelta, read_timeout: timedelta
    ) -> None:
        self._name = name
        self._client = boto3.session.Session().client(
            "sqs",
            region_name=region,
            config=Config(
                connect_timeout=connect_timeout.total_seconds(),
                read_timeout=read_timeout.total_seconds(),
                retries={"mode": "standard", "total_max_attempts": 3},
            ),
        )
        self._url: str | None = None

    def put(self, body: str, *, sent_at: datetime | None = None) -> None:
        attributes: dict[str, MessageAttributeValueTypeDef] = {}
        if sent_at is not None:
            attributes[SENT_AT] = {"DataType": "String", "StringValue": sent_at.isoformat()}
        try:
            if self._url is None:
                self._url = self._client.get_queue_url(QueueName=self._name)["QueueUrl"]
            self._client.send_message(QueueUrl=self._url, MessageBody=body, MessageAttributes=attributes)
        except ClientError as error:
            raise QueueUnavailable(error.response["Error"]["Code"]) from error
        except BotoCoreError as error:
            raise QueueUnavailable(type(error).__name__) from error
