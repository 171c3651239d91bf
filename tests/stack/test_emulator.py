"""What our launcher mends in MiniStack, on a stand-in for MiniStack's module."""

import sys
from collections.abc import Callable
from itertools import count
from types import ModuleType
from typing import Any

import pytest

from infra.emulator import MOST_CONNECTIONS, keep_connected_at

NAME = "ministack.services.apigateway"

type RequestContext = Callable[..., dict[str, Any]]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module with no more than a name, where MiniStack's would be."""
    module = ModuleType(NAME)
    for name in ("ministack", "ministack.services"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, NAME, module)
    return module


@pytest.fixture
def request_context(gateway: ModuleType) -> RequestContext:
    """MiniStack's function once it is mended; before, it gives each event a time of its own."""
    now = count(1)

    def theirs(connection_id: str, event_type: str) -> dict[str, Any]:
        return {"connectionId": connection_id, "eventType": event_type, "connectedAt": next(now)}

    vars(gateway)["_ws_request_context"] = theirs
    keep_connected_at()
    mended: RequestContext = vars(gateway)["_ws_request_context"]
    return mended


def test_all_events_of_a_connection_have_the_time_of_the_first(request_context: RequestContext) -> None:
    events = [request_context("c-1", event) for event in ("CONNECT", "MESSAGE", "DISCONNECT")]

    assert [event["connectedAt"] for event in events] == [1, 1, 1]


def test_another_connection_has_its_own(request_context: RequestContext) -> None:
    request_context("c-1", "CONNECT")
    request_context("c-2", "CONNECT")

    assert request_context("c-2", "DISCONNECT")["connectedAt"] == 2
    assert request_context("c-1", "DISCONNECT")["connectedAt"] == 1


def test_an_id_that_comes_again_begins_anew(request_context: RequestContext) -> None:
    request_context("c-1", "CONNECT")
    request_context("c-1", "DISCONNECT")

    assert request_context("c-1", "CONNECT")["connectedAt"] == 3


def test_of_too_many_connections_the_oldest_are_forgotten(request_context: RequestContext) -> None:
    for number in range(MOST_CONNECTIONS + 1):
        request_context(f"c-{number}", "CONNECT")

    assert request_context("c-1", "DISCONNECT")["connectedAt"] == 2
    assert request_context("c-0", "DISCONNECT")["connectedAt"] == MOST_CONNECTIONS + 3


def test_a_ministack_without_the_function_does_not_start(gateway: ModuleType) -> None:
    with pytest.raises(AttributeError, match="_ws_request_context"):
        keep_connected_at()
