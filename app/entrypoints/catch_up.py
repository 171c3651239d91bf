"""Catching up as a Lambda handler: clients that come back, from SQS in, and one log record of each look.

The metrics and alarms in infra/template.yaml read the records by their field names.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from app.domain.catching_up import CatchUpClient, CaughtUp
from app.domain.errors import NotCaughtUp, QueueUnavailable, StorageUnavailable
from app.domain.history import CatchUp
from app.domain.ports import CatchUpReader, Clock, WorkerPool
from app.entrypoints.deadline import LONGEST_GATEWAY_CALL, LambdaContext, deadline_of
from app.settings import LONGEST_STORE_CALL

type BatchResponse = dict[str, list[dict[str, str]]]
"""The requests to carry out again (Lambda's developer guide, 'partial batch response with SQS')."""

logger = logging.getLogger("switchboard")

RESERVE = LONGEST_GATEWAY_CALL + 2 * LONGEST_STORE_CALL
"""How long before the function's deadline nothing more is sent.

The last message may time out, and so may a page that is being read and the
call of the queue for what is left.
"""

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class CatchUpHandler:
    """Carries out the requests of a batch at the same time.

    One that fails is returned: the queue gives it out again, and after a few times
    puts it into its dead-letter queue.
    """

    read_request: CatchUpReader
    catch_up_client: CatchUpClient
    clock: Clock
    workers: WorkerPool

    def __call__(self, event: Mapping[str, Any], context: LambdaContext) -> BatchResponse:
        """Carry out the requests, and return those that failed."""
        until = deadline_of(context, self.clock.now()) - RESERVE
        records = event["Records"]
        done = [self.workers.start(partial(self._carry_out, record, until)) for record in records]
        failed = [record["messageId"] for record, one in zip(records, done, strict=True) if not one.result()]
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}

    def _carry_out(self, record: Mapping[str, Any], until: datetime) -> bool:
        """Return whether the queue can forget the request."""
        facts: dict[str, object] = {"queueMessageId": record["messageId"]}
        began = self.clock.now()
        try:
            request = self.read_request(record["body"])
            facts |= {
                "connectionId": request.ref.connection_id,
                "look": "second" if request.is_second else "first",
            }
            self._log(request, self.catch_up_client(request, until=until), facts, began)
        except NotCaughtUp as error:
            facts |= {"event": "catch_up.failed", "reason": error.reason}
            logger.error("catching up failed", extra=facts)  # noqa: TRY400 - expected, so no traceback
            return False
        except (QueueUnavailable, StorageUnavailable) as error:
            facts |= {"event": "store.unavailable", "reason": error.reason, "write": "unknown"}
            logger.error("store unavailable", extra=facts)  # noqa: TRY400 - expected, so no traceback
            return False
        except Exception:
            logger.exception("bug", extra=facts | {"event": "bug"})
            return False
        return True

    def _log(self, request: CatchUp, done: CaughtUp, facts: dict[str, object], began: datetime) -> None:
        is_continued = done.rest is not None and done.rest.is_second == request.is_second
        facts = facts | {
            "missed": done.sent,
            "gap": done.has_gap,
            "durationMs": (self.clock.now() - began) // _MILLISECOND,
        }
        if done.ended:
            logger.info("client has left", extra=facts | {"event": "catch_up.ended"})
        elif is_continued:
            logger.info("catching up continued", extra=facts | {"event": "catch_up.continued"})
        else:
            facts |= {"event": "catch_up.finished", "caughtUp": request.is_second}
            logger.info("catching up finished", extra=facts)
