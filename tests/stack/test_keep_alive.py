"""Idle clients on the local stack, where a connection is closed after seconds without a message."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from websockets.sync.client import ClientConnection

from app.domain.history import moment
from app.domain.model import Connection
from infra.clients import messages_of, open_client
from infra.deploy import GRACE
from infra.local import local_stack
from infra.process import find_uv
from infra.stack import LocalStack, Record
from tests.deadline import eventually
from tests.lanes import leave_out

IDLE_LIMIT = timedelta(seconds=12)
"""Six times the grace, within which a sweep leaves a connection alone: a busy machine sweeps late."""
LONG = timedelta(minutes=2)


@contextmanager
def stack_with(keep_alive: str) -> Iterator[LocalStack]:
    if find_uv() is None:
        leave_out("no uv on this machine")
    with local_stack(parameters={"KeepAlive": keep_alive}, idle_limit=IDLE_LIMIT) as stack:
        stack.sweep()  # the function's first start takes seconds
        yield stack


def end_as_idle(stack: LocalStack, client: ClientConnection, connection: Connection) -> Record:
    """The record of $disconnect, once *client* has been disconnected for being idle."""

    def records() -> list[Record]:
        return [it for it in stack.records("connection.closed") if it["connectionId"] == connection.id]

    eventually(lambda: bool(records()))
    [record] = records()
    assert (client.close_code, client.close_reason) == (1001, "Going away")
    assert (record["disconnectStatusCode"], record["disconnectReason"]) == (1001, "Going away")
    assert stack.connections() == []
    return record


def test_an_idle_client_stays_connected_while_sweeps_keep_it_alive() -> None:
    assert 2 * GRACE < IDLE_LIMIT
    with stack_with("true") as stack, open_client(stack.websocket_url, {}) as client:
        [connection] = stack.connections()
        opened = time.monotonic()
        reports: list[Record] = []

        def long_after_the_limit() -> bool:
            reports.append(stack.sweep())
            return time.monotonic() - opened > 1.5 * IDLE_LIMIT.total_seconds()

        eventually(long_after_the_limit, within=LONG)

        assert client.close_code is None
        assert stack.connections() == [connection]
        assert {report["open"] for report in reports} == {1}
        sent: int = sum(report["alive"] for report in reports)
        assert sent > 1
        received: list[Record] = []

        def all_received() -> bool:
            received.extend(messages_of(client))
            return len(received) >= sent

        eventually(all_received)
        assert [frame["type"] for frame in received] == ["keepalive"] * sent
        positions = [moment(frame["since"]) for frame in received]
        assert positions == sorted(it for it in positions if it is not None)

        assert stack.invoke("Sweep", {"dryRun": True})["alive"] == 1  # by a probe
        eventually(lambda: client.close_code is not None, within=LONG)
        assert list(client) == []
        assert end_as_idle(stack, client, connection)["found"] is True


def test_without_keep_alive_an_idle_client_is_disconnected_although_sweeps_find_it_alive() -> None:
    with stack_with("false") as stack, open_client(stack.websocket_url, {}) as client:
        [connection] = stack.connections()
        reports: list[Record] = []

        def is_closed() -> bool:
            reports.append(stack.sweep())
            return client.close_code is not None

        eventually(is_closed, within=LONG)

        assert sum(report["alive"] for report in reports) > 0
        end_as_idle(stack, client, connection)  # a sweep may have been the first to delete its item
