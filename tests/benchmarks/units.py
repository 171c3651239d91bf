"""The calls and units of DynamoDB that ``make cost`` counts with, measured on DynamoDB Local."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

from app.adapters.dynamodb.deliveries import DynamoDBDeliveries
from app.adapters.dynamodb.history import DynamoDBHistory
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.dynamodb.table import RECIPIENT_PAGE, DynamoDBConnectionTable
from app.adapters.dynamodb.transport import Answer, Transport
from app.adapters.messages import JsonNotices
from app.domain.catching_up import CATCH_UP_RATE, CatchUpClient
from app.domain.delivery import DeliveryReport, Outcome
from app.domain.history import CatchUp
from app.domain.lifecycle import ConnectionRef
from app.domain.model import ClientId, Connection, ConnectionId
from app.domain.pace import Pace
from tests.benchmarks.presence import Consumption, Tracked
from tests.builders import NEVER, NOON, a_connection, a_message, an_event
from tests.dynamodb_local import REGION, a_client, create_table, stream_records
from tests.fakes import FakeCatchUps, FakeCourier, FixedClock
from tests.metering import Keeping, Paths, Sending

_FUNCTIONS = Path(__file__).parent / "functions"
_CONNECTS = "import json, sys, seed\nfor line in sys.stdin: seed.connect(json.loads(line), None)"
_SESSIONS = 20
_RECIPIENTS = 100
_KILOBYTE = 700  # bytes of a message that takes 1 KB in the history

type Units = Mapping[str, Mapping[str, float]]


def measure_units(endpoint: str) -> Units:
    """Return by path how many calls it makes, and which units they consume.

    ``presence`` is a connection that comes and goes, its client's only one; ``events`` are the changes
    of the presence table that the template's filter lets through. ``recipients`` and ``scan`` are
    of 100 connections, ``plain_scan`` of as many that the plain function has recorded. ``delivery`` is
    of a message to them, ``progress`` a record of its progress, ``history`` of a message of 1 KB.
    ``catch_up`` is of a client that comes back, names the last message that it has, and has missed none.
    """
    return {
        **_handshakes(endpoint),
        "presence": _presence(endpoint),
        **_sending(endpoint),
        "plain_scan": {"read": _plain_scan(endpoint)},
        "history": _history(endpoint),
        "catch_up": _catch_up(endpoint),
    }


def a_session(number: int, client: str = "dashboard-1", **changes: Any) -> Connection:
    """Return a connection whose id is as long as the gateway's."""
    return a_connection(id=ConnectionId(f"JKJcX{number:010}="), client_id=ClientId(client), **changes)


def _handshakes(endpoint: str) -> Units:
    with closing(a_client(endpoint)) as client:
        paths = Paths(client, create_table(client))
        opened, open_calls = paths.open(), paths.calls()
        closed, close_calls = paths.close(), paths.calls()
    return {
        "open": {"calls": open_calls, "table": opened[0], "indexes": opened[1]},
        "close": {"calls": close_calls, "table": closed[0], "indexes": closed[1]},
    }


def _presence(endpoint: str) -> Mapping[str, float]:
    """Let a client come and go, again and again; the first time is left out, as in ``presence.py``."""
    connects, disconnects = [], []
    with closing(a_client(endpoint)) as client:
        table = create_table(client, "PresenceTable")
        tracked = Tracked(SdkTransport(client), table)
        for number in range(_SESSIONS):
            connects.append(Consumption())
            disconnects.append(Consumption())
            tracked.connect(a_session(number), connects[-1])
            tracked.disconnect(a_session(number), disconnects[-1])
        parts = [record["dynamodb"]["Keys"]["part"]["S"] for record in stream_records(client, table)]
    return {
        "calls_connect": _mean(connects, "calls"),
        "calls_disconnect": _mean(disconnects, "calls"),
        "read": round(_mean(connects, "read") + _mean(disconnects, "read"), 2),
        "written": round(_mean(connects, "written") + _mean(disconnects, "written"), 2),
        "events": parts.count("presence") / _SESSIONS,
    }


def _mean(consumptions: Sequence[Consumption], what: str) -> float:
    return round(fmean(getattr(it, what).total() for it in consumptions[1:]), 2)


def _sending(endpoint: str) -> Units:
    with closing(a_client(endpoint)) as client:
        ids = [a_session(number).id for number in range(_RECIPIENTS)]
        sending = Sending(client, create_table(client), ids)
        read, scanned = sum(sending.read()), sum(sending.scan())
        sending.calls()
        claimed, released = sum(sending.claim()), sum(sending.release(_report(_RECIPIENTS)))
        calls = sending.calls()
        return {
            "recipients": {"read": read},
            "scan": {"read": scanned},
            "delivery": {"calls": calls, "written": claimed + released},
            "progress": {"written": sum(sending.record(_report(RECIPIENT_PAGE)))},
        }


def _report(recipients: int) -> DeliveryReport:
    """Return the report of a delivery to so many, whose delays have a hundred lengths."""
    delays = Counter(number % 100 for number in range(recipients))
    return DeliveryReport(selected=recipients, outcomes={Outcome.DELIVERED: recipients}, delays=delays)


def _history(endpoint: str) -> Mapping[str, float]:
    with closing(a_client(endpoint)) as client:
        keeping = Keeping(client, _KILOBYTE)
        written = keeping.begin() + keeping.finish()
        return {"calls": keeping.calls(), "written": written}


def _plain_scan(endpoint: str) -> float:
    """Return the read units of a scan of what the plain function has put."""
    with closing(a_client(endpoint)) as client:
        table = create_table(client)
        event = an_event("connect_browser")
        lines = []
        for number in range(_RECIPIENTS):
            event["requestContext"]["connectionId"] = a_session(number).id
            lines.append(json.dumps(event))
        subprocess.run(
            [sys.executable, "-c", _CONNECTS],
            input="\n".join(lines),
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(_FUNCTIONS),
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ACCESS_KEY_ID": "local",
                "AWS_SECRET_ACCESS_KEY": "local",
                "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
                "CONNECTIONS_TABLE": table,
            },
            text=True,
            check=True,
        )
        scanned = client.scan(TableName=table, ReturnConsumedCapacity="TOTAL")
        assert scanned["Count"] == _RECIPIENTS
        return scanned["ConsumedCapacity"]["CapacityUnits"]


class _Reads:
    """Transport that counts reads and their units.

    A query that finds nothing costs a unit if it is consistent, but DynamoDB Local counts none.
    """

    def __init__(self, transport: Transport) -> None:
        self.calls = 0
        self.units = 0.0
        self._transport = transport

    def call(self, operation: str, request: Mapping[str, Any]) -> Answer:
        answer = self._transport.call(operation, {**request, "ReturnConsumedCapacity": "TOTAL"})
        self.calls += 1
        self.units += max(1, answer.body["ConsumedCapacity"]["CapacityUnits"])
        return answer


def _catch_up(endpoint: str) -> Mapping[str, float]:
    with closing(a_client(endpoint)) as client:
        transport, clock = SdkTransport(client), FixedClock(NOON + timedelta(minutes=1))
        table, deliveries = create_table(client), create_table(client, "DeliveriesTable")
        connection, message = a_session(1), a_message()
        DynamoDBConnectionStore(transport, table).add(connection)
        DynamoDBDeliveries(transport, deliveries, clock=clock).claim(message, "everyone", until=NEVER)
        reads = _Reads(transport)
        courier, catch_ups, kept_for = FakeCourier(clock), FakeCatchUps(), timedelta(minutes=15)
        catch_up = CatchUpClient(
            DynamoDBConnectionTable(reads, table),
            DynamoDBDeliveries(reads, deliveries, clock=clock),
            DynamoDBHistory(reads, create_table(client, "HistoryTable"), clock=clock, kept_for=kept_for),
            courier,
            JsonNotices(),
            catch_ups,
            clock,
            Pace(CATCH_UP_RATE),
            kept_for=kept_for,
            index_lag=timedelta(seconds=5),
            grace=timedelta(seconds=30),
        )
        catch_up(CatchUp(ConnectionRef.of(connection), message.id), until=NEVER)
        calls_first = reads.calls
        [(second, _)] = catch_ups.requests
        catch_up(second, until=NEVER)
        [frame] = courier.frames[connection.id]
        return {
            "calls_first": calls_first,
            "calls_second": reads.calls - calls_first,
            "read": reads.units,
            "sent_bytes": len(frame),
        }
