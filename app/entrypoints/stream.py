"""The table's stream as a Lambda handler: each record is a change to track; events are logged.

A log record has an event name and its facts. The same ``visitId`` is the same
session, however often it is logged.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.errors import QueueUnavailable, StorageUnavailable
from app.domain.ports import Clock, ImageReader
from app.domain.tracking import Change, TrackPresence
from app.entrypoints.deadline import LONGEST_GATEWAY_CALL, LambdaContext, deadline_of
from app.settings import LONGEST_STORE_CALL

type BatchResponse = dict[str, list[dict[str, str]]]
"""The first record to deliver again (Lambda's developer guide, 'partial batch response with DynamoDB')."""

logger = logging.getLogger("switchboard")

CLOSE_RESERVE = LONGEST_GATEWAY_CALL + LONGEST_STORE_CALL
"""Time that closing a connection and deleting its item may take before the function's deadline."""

RECORD_RESERVE = CLOSE_RESERVE + LONGEST_STORE_CALL
"""Time that a record may take before the deadline: a call of a store or the queue, then CLOSE_RESERVE."""

# DynamoDB's API reference, 'Record': the identity that deletes expired items
_TIME_TO_LIVE = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}


@dataclass(frozen=True, slots=True)
class StreamHandler:
    """Tracks the records of a batch (with new and old images), in order.

    The records of one item must be processed in order, so the first failure
    ends the batch. So does the deadline, but not before the first record, or
    the shard would stand still.
    """

    track_presence: TrackPresence
    read_image: ImageReader
    clock: Clock

    def __call__(self, event: Mapping[str, Any], context: LambdaContext) -> BatchResponse:
        """Process the records and return the first that failed; it and those after it come again.

        Raises:
            Exception: a bug at the first of several records. Lambda then halves the batch until that
                record is alone. If it was returned as failed, Lambda would give up the whole batch with it.
        """
        records = event["Records"]
        deadline = deadline_of(context, self.clock.now())
        for record in records:
            if record is not records[0] and self.clock.now() >= deadline - RECORD_RESERVE:
                return _failed(record)
            try:
                self.track_presence(self._change_in(record), until=deadline - CLOSE_RESERVE)
            except (QueueUnavailable, StorageUnavailable) as error:
                is_known = isinstance(error, StorageUnavailable) and not error.outcome_unknown
                facts = _place(record) | {
                    "event": "store.unavailable",
                    "reason": error.reason,
                    "write": "none" if is_known else "unknown",
                }
                logger.error("store unavailable", extra=facts)  # noqa: TRY400 - expected, so no traceback
                return _failed(record)
            except Exception:
                logger.exception("bug", extra=_place(record) | {"event": "bug"})
                if record is records[0] and len(records) > 1:
                    raise
                return _failed(record)
        return {"batchItemFailures": []}

    def _change_in(self, record: Mapping[str, Any]) -> Change:
        name, images = record["eventName"], record["dynamodb"]
        if name not in {"INSERT", "MODIFY", "REMOVE"}:
            raise ValueError(f"A stream has no event of the name {name!r}.")
        return Change(
            before=None if name == "INSERT" else self.read_image(images["OldImage"]),
            after=None if name == "REMOVE" else self.read_image(images["NewImage"]),
            expired=name == "REMOVE" and _is_time_to_live(record.get("userIdentity")),
        )


def _is_time_to_live(identity: Mapping[str, Any] | None) -> bool:
    return identity is not None and _TIME_TO_LIVE.items() <= identity.items()


def _failed(record: object) -> BatchResponse:
    # An empty identifier fails the whole batch: the only choice for a record without a number.
    return {"batchItemFailures": [{"itemIdentifier": _place(record)["sequenceNumber"] or ""}]}


def _place(record: object) -> dict[str, str | None]:
    """Return which record it is, as far as it can be read."""
    match record:
        case {
            "dynamodb": {"SequenceNumber": str(number), "Keys": {"connectionId": {"S": str(connection_id)}}}
        }:
            return {"sequenceNumber": number, "connectionId": connection_id}
        case {"dynamodb": {"SequenceNumber": str(number)}}:
            return {"sequenceNumber": number, "connectionId": None}
        case _:
            return {"sequenceNumber": None, "connectionId": None}
