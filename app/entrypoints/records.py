"""The records of a DynamoDB stream: in order, and delivered again from the first that failed."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from app.domain.errors import EventsUnavailable, QueueUnavailable, StorageUnavailable

type BatchResponse = dict[str, list[dict[str, str]]]
"""The first record to deliver again (Lambda's developer guide, 'partial batch response with DynamoDB')."""

logger = logging.getLogger("switchboard")


def process_in_order(
    event: Mapping[str, Any],
    process: Callable[[Mapping[str, Any]], None],
    *,
    key: str,
    has_time: Callable[[], bool],
) -> BatchResponse:
    """Process the records of *event*, and return the first that failed; it and those after it come again.

    The records of one item must be processed in order, so the first failure
    ends the batch. So does a lack of time, but not before the first record, or
    the shard would stand still. A log record names the item by its attribute *key*.

    Raises:
        Exception: a bug at the first of several records. Lambda then halves the batch until that
            record is alone. If it was returned as failed, Lambda would give up the whole batch with it.
    """
    records = event["Records"]
    for record in records:
        if record is not records[0] and not has_time():
            return _failed(record)
        try:
            process(record)
        except (EventsUnavailable, QueueUnavailable, StorageUnavailable) as error:
            is_known = isinstance(error, StorageUnavailable) and not error.outcome_unknown
            facts = _place(record, key) | {
                "event": "store.unavailable",
                "reason": error.reason,
                "write": "none" if is_known else "unknown",
            }
            logger.error("store unavailable", extra=facts)  # noqa: TRY400 - expected, so no traceback
            return _failed(record)
        except Exception:
            logger.exception("bug", extra=_place(record, key) | {"event": "bug"})
            if record is records[0] and len(records) > 1:
                raise
            return _failed(record)
    return {"batchItemFailures": []}


def images_of(record: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Return the item before and after the change, ``None`` where there was none."""
    name, images = record["eventName"], record["dynamodb"]
    if name not in {"INSERT", "MODIFY", "REMOVE"}:
        raise ValueError(f"A stream has no event of the name {name!r}.")
    before = None if name == "INSERT" else images["OldImage"]
    return before, None if name == "REMOVE" else images["NewImage"]


def _failed(record: object) -> BatchResponse:
    # An empty identifier fails the whole batch: the only choice for a record without a number.
    number = _place(record, "")["sequenceNumber"]
    return {"batchItemFailures": [{"itemIdentifier": number or ""}]}


def _place(record: object, key: str) -> dict[str, str | None]:
    """Return which record it is, as far as it can be read."""
    match record:
        case {"dynamodb": {"SequenceNumber": str(number), "Keys": {**keys}}}:
            return {"sequenceNumber": number, key: _text(keys.get(key))}
        case {"dynamodb": {"SequenceNumber": str(number)}}:
            return {"sequenceNumber": number, key: None}
        case _:
            return {"sequenceNumber": None, key: None}


def _text(value: object) -> str | None:
    match value:
        case {"S": str(text)}:
            return text
        case _:
            return None
