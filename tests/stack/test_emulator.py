"""The launcher's patch of MiniStack, applied to a fake of MiniStack's module."""

import sys
from collections.abc import Callable
from itertools import count
from types import ModuleType
from typing import Any

import pytest

from infra.emulator import MAX_CONNECTIONS, keep_connected_at

NAME = "ministack.services.apigateway"

type RequestContext = Callable[..., dict[str, Any]]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An empty module in place of MiniStack's."""
    module = ModuleType(NAME)
    for name in ("ministack", "ministack.services"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, NAME, module)
    return module


@pytest.fixture
def request_context(gateway: ModuleType) -> RequestContext:
    """MiniStack's patched function. Without the patch, each event has a time of its own."""
    now = count(1)

    def original(connection_id: str, event_type: str) -> dict[str, Any]:
        return {"connectionId": connection_id, "eventType": event_type, "connectedAt": next(now)}

    vars(gateway)["_ws_request_context"] = original
    keep_connected_at()
    patched: RequestContext = vars(gateway)["_ws_request_context"]
    return patched


def test_all_events_of_a_connection_have_the_time_of_its_connect(request_context: RequestContext) -> None:
    events = [request_context("c-1", event) for event in ("CONNECT", "MESSAGE", "DISCONNECT")]

    assert [event["connectedAt"] for event in events] == [1, 1, 1]


def test_each_connection_has_its_own_time(request_context: RequestContext) -> None:
    request_context("c-1", "CONNECT")
    request_context("c-2", "CONNECT")

    assert request_context("c-2", "DISCONNECT")["connectedAt"] == 2
    assert request_context("c-1", "DISCONNECT")["connectedAt"] == 1


def test_a_reused_id_has_a_new_time(request_context: RequestContext) -> None:
    request_context("c-1", "CONNECT")
    request_context("c-1", "DISCONNECT")

    assert request_context("c-1", "CONNECT")["connectedAt"] == 3


def test_the_oldest_connections_are_dropped_above_the_maximum(request_context: RequestContext) -> None:
    for number in range(MAX_CONNECTIONS + 1):
        request_context(f"c-{number}", "CONNECT")

    assert request_context("c-1", "DISCONNECT")["connectedAt"] == 2
    assert request_context("c-0", "DISCONNECT")["connectedAt"] == MAX_CONNECTIONS + 3


def test_patching_a_ministack_without_the_function_fails(gateway: ModuleType) -> None:
    with pytest.raises(AttributeError, match="_ws_request_context"):
        keep_connected_at()
