"""The connections table's stream as a Lambda handler: each record is a change to track."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.ports import Clock, ImageReader
from app.domain.tracking import Change, TrackPresence
from app.entrypoints.deadline import LONGEST_GATEWAY_CALL, LambdaContext, deadline_of
from app.entrypoints.records import BatchResponse, images_of, process_in_order
from app.settings import LONGEST_STORE_CALL

CLOSE_RESERVE = LONGEST_GATEWAY_CALL + LONGEST_STORE_CALL
"""Time that closing a connection and deleting its item may take before the function's deadline."""

RECORD_RESERVE = CLOSE_RESERVE + LONGEST_STORE_CALL
"""Time that a record may take before the deadline: a call of a store, queue or bus, then CLOSE_RESERVE."""

# DynamoDB's API reference, 'Record': the identity that deletes expired items
_TIME_TO_LIVE = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}


@dataclass(frozen=True, slots=True)
class StreamHandler:
    """Tracks the records of a batch (with new and old images), in order."""

    track_presence: TrackPresence
    read_image: ImageReader
    clock: Clock

    def __call__(self, event: Mapping[str, Any], context: LambdaContext) -> BatchResponse:
        """Process the records, and return the first that failed; see process_in_order."""
        deadline = deadline_of(context, self.clock.now())

        def track(record: Mapping[str, Any]) -> None:
            self.track_presence(self._change_in(record), until=deadline - CLOSE_RESERVE)

        return process_in_order(
            event,
            track,
            key="connectionId",
            has_time=lambda: self.clock.now() < deadline - RECORD_RESERVE,
        )

    def _change_in(self, record: Mapping[str, Any]) -> Change:
        before, after = images_of(record)
        return Change(
            before=None if before is None else self.read_image(before),
            after=None if after is None else self.read_image(after),
            expired=after is None and _is_time_to_live(record.get("userIdentity")),
        )


def _is_time_to_live(identity: Mapping[str, Any] | None) -> bool:
    return identity is not None and _TIME_TO_LIVE.items() <= identity.items()
