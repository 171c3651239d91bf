"""The JavaScript client on the local stack: what it missed while its network failed arrives."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from infra.local import local_stack
from infra.process import find_uv
from infra.stack import LocalStack, Record
from tests.deadline import eventually
from tests.follower import Follower, following
from tests.lanes import leave_out
from tests.wire import wire_to

ACCOUNT, REGION = "123456789012", "eu-central-1"
DASHBOARD = {"clientId": "wall-3", "account": ACCOUNT, "region": REGION}
WITHIN = timedelta(seconds=60)


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    if find_uv() is None:
        leave_out("no uv on this machine")
    with local_stack() as stack:
        yield stack


def an_incident(title: str) -> Record:
    audience = {"account": ACCOUNT, "region": REGION}
    return {"id": uuid4().hex, "type": "incident.opened", "audience": audience, "data": {"title": title}}


def titles(follower: Follower) -> list[str]:
    return [message["data"]["title"] for message in follower.messages]


def test_a_client_whose_network_fails_gets_what_it_missed(stack: LocalStack) -> None:
    with wire_to(stack.websocket_url) as wire, following(wire.url, query=DASHBOARD) as follower:
        eventually(lambda: follower.state == "live", within=WITHIN)
        stack.send(an_incident("seen"))
        eventually(lambda: titles(follower) == ["seen"], within=WITHIN)

        wire.cut()
        eventually(lambda: follower.state != "live", within=WITHIN)
        eventually(lambda: stack.connections() == [], within=WITHIN)
        reports = [stack.send(an_incident("missed first")), stack.send(an_incident("missed next"))]
        wire.mend()
        eventually(lambda: len(follower.messages) == 3, within=WITHIN)
        eventually(lambda: follower.state == "live", within=WITHIN)
        stack.send(an_incident("live again"))
        eventually(lambda: len(follower.messages) == 4, within=WITHIN)
        follower.close()
        status = follower.wait(WITHIN)

    assert status == 0
    assert [report["selected"] for report in reports] == [0, 0]
    assert titles(follower) == ["seen", "missed first", "missed next", "live again"]
    assert follower.gaps == []
