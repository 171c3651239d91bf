"""infra/asyncapi.yaml is valid AsyncAPI, and says what the template and the platform have."""

import json
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from app.domain.delivery import MAX_FRAME
from app.domain.lifecycle import MAX_CONNECTION_DURATION
from infra.emulator import _GOING_AWAY
from infra.process import IDLE_LIMIT
from tests import template
from tests.asyncapi import PARSER, PATH, ROOT, document, parsed, part
from tests.builders import an_event

CONNECTION = part("channels/connection")


def test_asyncapis_parser_finds_no_error_and_no_warning() -> None:
    [result] = parsed(PATH.read_text())

    assert [it for it in result["found"] if it["severity"] <= 1] == []
    assert {(action, message) for action, message in result["messages"]} == {
        *(("send", name) for name in ("message", "keepAlive", "gap", "caughtUp")),
        *(("receive", name) for name in ("ownMessage", "awsEvent", "snsEnvelope")),
        *(("send", name) for name in ("presenceJoined", "presenceLeft", "connectionExpired")),
    }


WRONG = {
    "a key twice": ("    action: receive\n", "    action: receive\n    action: send\n"),
    "an unknown reference": ("#/components/schemas/gap", "#/components/schemas/gaps"),
    "an unknown method": ("method: GET", "method: PUT"),
    "a message of another channel": ("#/channels/messages/messages/", "#/channels/presence/messages/"),
}


def test_asyncapis_parser_finds_what_is_wrong() -> None:
    right = PATH.read_text()
    results = parsed(*(right.replace(part, wrong) for part, wrong in WRONG.values()))

    found = {
        kind: [it["severity"] for it in result["found"]] for kind, result in zip(WRONG, results, strict=True)
    }
    assert [kind for kind, severities in found.items() if 0 not in severities] == []


def test_every_package_of_the_parser_has_a_checksum_and_no_address_of_a_registry() -> None:
    lock = json.loads((PARSER / "package-lock.json").read_text())
    [own, *packages] = lock["packages"].values()

    assert own["dependencies"] == json.loads((PARSER / "package.json").read_text())["dependencies"]
    assert all(it["integrity"].startswith("sha512-") for it in packages)
    assert not [it for it in packages if "resolved" in it]


def test_nothing_is_without_a_value_but_a_senders_null() -> None:
    assert list(empty_places(document())) == ["components/messages/message/examples/2/payload/data"]


def empty_places(node: Any, place: str = "") -> Iterator[str]:
    """Yield the places of nulls: one that nobody meant is the rest of a text with a comma."""
    if node is None:
        yield place
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield from empty_places(child, f"{place}/{name}".removeprefix("/"))


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert part("info/version") == project["version"]


def test_the_limits_are_those_that_the_code_has() -> None:
    limits = CONNECTION["x-limits"]
    [integration] = {
        route["IntegrationTimeout"]
        for route in template.source()["Resources"]["WebSocketApi"]["Properties"]["Routes"].values()
    }

    assert limits["messageBytes"] == MAX_FRAME
    assert timedelta(seconds=limits["idleSeconds"]) == IDLE_LIMIT
    assert timedelta(seconds=limits["durationSeconds"]) == MAX_CONNECTION_DURATION
    assert timedelta(seconds=limits["handshakeSeconds"]) == timedelta(milliseconds=integration)


def test_a_client_has_nothing_to_send() -> None:
    routes = template.source()["Resources"]["WebSocketApi"]["Properties"]["Routes"]
    received = [
        it["channel"]["$ref"] for it in document()["operations"].values() if it["action"] == "receive"
    ]

    assert set(routes) == {"$connect", "$disconnect"}
    assert received == ["#/channels/messages"]


@pytest.mark.parametrize(
    "event",
    ["disconnect_client_closed_1005", "disconnect_idle_1001", "disconnect_tab_closed_1001_empty_reason"],
)
def test_the_close_code_of_each_captured_disconnect_is_there(event: str) -> None:
    codes = {it.get("code") for it in CONNECTION["x-close-codes"]}

    assert an_event(event)["requestContext"]["disconnectStatusCode"] in codes
    assert {_GOING_AWAY["code"], None} < codes


def test_the_server_is_where_the_template_says() -> None:
    parameters = template.source()["Parameters"]
    kinds = {it["$ref"].removeprefix("#/servers/") for it in CONNECTION["servers"]}
    servers = [part(f"servers/{it}") for it in kinds]
    url = template.source()["Outputs"]["WebSocketUrl"]["Value"]["Fn::Sub"]

    assert url == "wss://${WebSocketApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}/${StageName}"
    assert {(it["protocol"], it["host"], it["pathname"]) for it in servers} == {
        ("wss", "{apiId}.execute-api.{awsRegion}.amazonaws.com", "/{stage}")
    }
    assert part("components/serverVariables/stage/default") == parameters["StageName"]["Default"]
    assert set(parameters["Admission"]["AllowedValues"]) < kinds
    assert parameters["AuthType"]["AllowedValues"] == ["NONE", "AWS_IAM"]


def test_the_queue_is_the_templates() -> None:
    resources = template.source()["Resources"]
    queue, dead = (resources[it]["Properties"] for it in ("MessageQueue", "DeadMessagesQueue"))
    described = part("channels/messages/bindings/sqs")

    assert (
        queue["QueueName"]["Fn::Sub"].replace("${AWS::StackName}", "{stackName}")
        == (described["queue"]["name"])
    )
    assert part("channels/messages/address") == described["queue"]["name"]
    assert described["queue"]["visibilityTimeout"] == queue["VisibilityTimeout"]
    assert described["queue"]["messageRetentionPeriod"] == queue["MessageRetentionPeriod"]
    assert described["queue"]["redrivePolicy"]["maxReceiveCount"] == queue["RedrivePolicy"]["maxReceiveCount"]
    assert described["deadLetterQueue"]["messageRetentionPeriod"] == dead["MessageRetentionPeriod"]
    assert not described["queue"]["fifoQueue"]
    assert "FifoQueue" not in queue | dead
