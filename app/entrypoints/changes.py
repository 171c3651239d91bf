"""What the connections table's stream tells: each record is followed, and what comes of it is logged.

A record of the log holds an event's name and its facts, as those of the routes
do; the same ``visitId`` is the same visit, however often it is told.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.errors import StorageUnavailable
from app.domain.ports import Clock
from app.domain.presence import (
    Expired,
    Fact,
    FollowChanges,
    Joined,
    Left,
    NotReplaced,
    Replaced,
    Revived,
)
from app.domain.upkeep import Change, Entry
from app.entrypoints.time_left import LONGEST_QUESTION, LambdaContext, end_of
from app.settings import LONGEST_STORE_CALL

type Report = dict[str, list[dict[str, str]]]
"""The first record to deliver again (Lambda's developer guide, 'partial batch response with DynamoDB')."""

logger = logging.getLogger("switchboard")

RESERVE_OF_A_CLOSING = LONGEST_QUESTION + LONGEST_STORE_CALL
"""How long before Lambda would stop the function no further connection is closed, and its item deleted."""

RESERVE = RESERVE_OF_A_CLOSING + LONGEST_STORE_CALL
"""How long before that no further record is begun: one more call of a store may take its longest first."""

# DynamoDB's API reference, 'Record': who deletes what is past its TTL
_TIME_TO_LIVE = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}

_RECORDS: dict[type[Fact], tuple[int, str, str]] = {
    Joined: (logging.INFO, "presence.joined", "client joined"),
    Left: (logging.INFO, "presence.left", "client left"),
    Replaced: (logging.INFO, "connection.replaced", "connection replaced"),
    Expired: (logging.WARNING, "connection.expired", "connection expired"),
    NotReplaced: (logging.WARNING, "connection.not_replaced", "connection not replaced"),
    Revived: (logging.WARNING, "connection.revived", "connection revived, and forgotten again"),
}


@dataclass(frozen=True, slots=True)
class Changes:
    """What Lambda calls with the stream's records (with their new and old images).

    Nothing is skipped: the records of one row are in order and have to be
    followed in order, so the first failure ends the batch. So does the time,
    but not before the first record, or the shard would stand still.
    """

    follow_changes: FollowChanges
    read_image: Callable[[Mapping[str, Any]], Entry]
    clock: Clock

    def __call__(self, event: Mapping[str, Any], context: LambdaContext) -> Report:
        """Follow the records, and report the first that failed; it and those after it come again.

        Raises:
            Exception: a bug, at the first of several records. Lambda then halves the batch, until the
                record is alone. Were it reported, those after it would be given up with it.
        """
        records = event["Records"]
        end = end_of(context, self.clock.now())
        for record in records:
            if record is not records[0] and self.clock.now() >= end - RESERVE:
                return _failed(record)
            try:
                self.follow_changes(self._change_in(record), _log, until=end - RESERVE_OF_A_CLOSING)
            except StorageUnavailable as error:
                facts = _place(record) | {
                    "event": "store.unavailable",
                    "reason": error.reason,
                    "write": "unknown" if error.outcome_unknown else "none",
                }
                logger.error("store unavailable", extra=facts)  # noqa: TRY400 - named, so no traceback
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


def _failed(record: object) -> Report:
    # an empty one has Lambda take the whole batch for failed, which is what is left where the record has none
    return {"batchItemFailures": [{"itemIdentifier": _place(record)["sequenceNumber"] or ""}]}


def _place(record: object) -> dict[str, str | None]:
    """Which record it is, as far as that can be read."""
    match record:
        case {
            "dynamodb": {"SequenceNumber": str(number), "Keys": {"connectionId": {"S": str(connection_id)}}}
        }:
            return {"sequenceNumber": number, "connectionId": connection_id}
        case {"dynamodb": {"SequenceNumber": str(number)}}:
            return {"sequenceNumber": number, "connectionId": None}
        case _:
            return {"sequenceNumber": None, "connectionId": None}


def _log(fact: Fact) -> None:
    level, event, text = _RECORDS[type(fact)]
    logger.log(level, text, extra={"event": event} | _facts(fact))


def _facts(fact: Fact) -> dict[str, str]:
    if isinstance(fact, Joined | Left):
        client = fact.client
        return {
            "clientId": client.client_id,
            "account": client.account,
            "region": client.region,
            "visitId": fact.visit,
        }
    connection = fact.connection
    facts: dict[str, str] = {
        "connectionId": connection.id,
        "clientId": connection.client_id,
        "account": connection.account,
        "region": connection.region,
    }
    if isinstance(fact, Replaced | NotReplaced):
        facts["answer"] = fact.answer.value
    return facts
