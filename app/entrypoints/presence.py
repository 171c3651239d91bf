"""The presence table's stream as a Lambda handler: what a change of a presence means is published.

A log record has an event name and its facts. The same ``visitId`` is the same
session, however often it is logged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.ports import Clock, PresenceReader
from app.domain.tracking import PublishPresence
from app.entrypoints.deadline import LambdaContext, deadline_of
from app.entrypoints.records import BatchResponse, images_of, process_in_order
from app.settings import LONGEST_STORE_CALL


@dataclass(frozen=True, slots=True)
class PresenceHandler:
    """Publishes what the records of a batch (with new and old images) mean, in order."""

    publish_presence: PublishPresence
    read_presence: PresenceReader
    clock: Clock

    def __call__(self, event: Mapping[str, Any], context: LambdaContext) -> BatchResponse:
        """Process the records, and return the first that failed; see process_in_order."""
        last = deadline_of(context, self.clock.now()) - LONGEST_STORE_CALL
        return process_in_order(event, self._publish, key="id", has_time=lambda: self.clock.now() < last)

    def _publish(self, record: Mapping[str, Any]) -> None:
        before, after = (self.read_presence(record["dynamodb"]["Keys"], image) for image in images_of(record))
        if before is not None and after is not None:  # else it is no client's item
            self.publish_presence(before, after)
