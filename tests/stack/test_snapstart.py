"""The template with SnapStart on the local stack, which has versions and aliases, and takes no snapshot."""

from contextlib import ExitStack

import boto3
import pytest

from infra.clients import open_client
from infra.local import local_stack
from infra.process import find_uv
from tests.deadline import eventually
from tests.lanes import leave_out


def test_with_snapstart_the_routes_call_the_functions_by_their_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_uv() is None:
        leave_out("no uv on this machine")
    with ExitStack() as ending:
        stack = ending.enter_context(local_stack(parameters={"SnapStart": "true", "Release": "r1"}))
        for name, value in stack.environment.items():
            monkeypatch.setenv(name, value)
        region = stack.environment["AWS_REGION"]
        apis = boto3.session.Session(region_name=region).client("apigatewayv2")
        ending.callback(apis.close)
        [api] = apis.get_apis()["Items"]
        uris = [it["IntegrationUri"] for it in apis.get_integrations(ApiId=api["ApiId"])["Items"]]
        with open_client(stack.websocket_url, {"clientId": "dashboard-7"}):
            connected = [it.client_id for it in stack.connections()]

        assert sorted(uri.rpartition(":")[2] for uri in uris) == ["live/invocations"] * 2
        assert connected == ["dashboard-7"]
        eventually(lambda: stack.connections() == [])
