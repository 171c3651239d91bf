"""Sending as a Lambda handler: messages from SQS in, reports out, and one log record of each.

The metrics and alarms in infra/template.yaml read the records by their field names.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from app.domain.delivery import Delivery, Outcome
from app.domain.errors import (
    AlreadyDelivered,
    DeliveryClaimed,
    InvalidMessage,
    QueueUnavailable,
    StorageUnavailable,
)
from app.domain.ports import Clock, MessageQueue, MessageReader
from app.domain.sending import DeliverMessage
from app.entrypoints.deadline import LONGEST_GATEWAY_CALL, LambdaContext, deadline_of
from app.settings import LONGEST_STORE_CALL

type BatchResponse = dict[str, list[dict[str, str]]]
"""The messages to deliver again (Lambda's developer guide, 'partial batch response with SQS')."""

logger = logging.getLogger("switchboard")

RESERVE = LONGEST_GATEWAY_CALL + 2 * LONGEST_STORE_CALL
"""How long before the function's deadline no request is begun.

The last one may time out, and so may a page that is being read and the record
of the progress. If a store is even slower, or the history is, too, the function
is stopped, and the queue gives the message out again.
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_PERCENTILE = 0.99


@dataclass(frozen=True, slots=True)
class SendHandler:
    """Delivers each message of a batch.

    What is left when the time is nearly up goes back into the queue and is
    delivered by another invocation. A message that can't be sent, and one
    whose delivery fails, is returned as failed: the queue gives it out again,
    and after a few times puts it into its dead-letter queue.
    """

    read_message: MessageReader
    deliver_message: DeliverMessage
    queue: MessageQueue
    clock: Clock

    def __call__(self, event: Mapping[str, Any], context: LambdaContext) -> BatchResponse:
        """Deliver the messages, and return those that failed."""
        failed = [record["messageId"] for record in event["Records"] if not self._deliver(record, context)]
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}

    def _deliver(self, record: Mapping[str, Any], context: LambdaContext) -> bool:
        """Return whether the queue can forget the message."""
        facts: dict[str, object] = {"queueMessageId": record["messageId"]}
        began = self.clock.now()
        deadline = deadline_of(context, began)
        try:
            sent_at = _sent_at(record)
            message, audience = self.read_message(record["body"], sent_at)
            facts |= {"messageId": message.id, "type": message.type, "audience": str(audience)}
            delivery = self.deliver_message(
                message, audience, until=deadline - RESERVE, claimed_until=deadline
            )
            if delivery.finished_at is None:
                self.queue.put(record["body"], sent_at=sent_at)
            self._log(delivery, facts, began)
        except InvalidMessage as error:
            logger.error(  # noqa: TRY400 - expected, so no traceback
                "delivery refused", extra=facts | {"event": "delivery.refused", "reason": str(error)}
            )
            return False
        except AlreadyDelivered:
            logger.info("delivery repeated", extra=facts | {"event": "delivery.repeated"})
        except DeliveryClaimed:
            logger.warning("delivery under way elsewhere", extra=facts | {"event": "delivery.claimed"})
            return False
        except (QueueUnavailable, StorageUnavailable) as error:
            facts |= {"event": "store.unavailable", "reason": error.reason, "write": "unknown"}
            logger.error("store unavailable", extra=facts)  # noqa: TRY400 - expected, so no traceback
            return False
        except Exception:
            logger.exception("bug", extra=facts | {"event": "bug"})
            return False
        return True

    def _log(self, delivery: Delivery, facts: dict[str, object], began: datetime) -> None:
        report = delivery.progress.report
        facts = facts | {
            "event": "delivery.continued" if delivery.finished_at is None else "delivery.finished",
            "selected": report.selected,
            "durationMs": (self.clock.now() - began) // _MILLISECOND,
        }
        facts |= {outcome.value: report.count(outcome) for outcome in Outcome}
        if (delay := report.percentile(_PERCENTILE)) is not None:
            facts["p99Ms"] = delay // _MILLISECOND
        if delivery.finished_at is None:
            logger.info("delivery continued", extra=facts)
        else:
            logger.info("delivery finished", extra=facts)


def _sent_at(record: Mapping[str, Any]) -> datetime:
    """Return when the message was first put into the queue."""
    match record:
        case {"messageAttributes": {"sentAt": {"stringValue": str(text)}}}:
            try:
                moment = datetime.fromisoformat(text)
                if moment.tzinfo is not None:
                    return moment.astimezone(UTC)
            except (OverflowError, ValueError):
                pass
            raise InvalidMessage("The message attribute sentAt must be a time with its zone.")
    return _EPOCH + timedelta(milliseconds=int(record["attributes"]["SentTimestamp"]))
