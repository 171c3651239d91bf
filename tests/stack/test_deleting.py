"""A stack is deleted and made anew by the commands of infra/docs/deleting.md, on MiniStack."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from infra.deploy import deploy
from infra.process import ministack
from tests.deadline import eventually
from tests.recipes import Call, calls

TABLE = "IncidentWebSocketConnections"
STACK = "switchboard"  # as infra/deploy.py names it
NEW = "incidents"
LOG_OF_CHANGES = f"/switchboard/{STACK}/changes"
ITEM = {"connectionId": {"S": "c-1"}}


class Account:
    """An empty account on the emulator at *endpoint*."""

    def __init__(self, endpoint: str, clients: ExitStack) -> None:
        self.endpoint = endpoint
        self._session: Any = boto3.session.Session("test", "test", region_name="us-east-1")
        self._clients = clients

    def __getitem__(self, service: str) -> Any:
        client = self._session.client(service, endpoint_url=self.endpoint, config=Config(proxies={}))
        return self._clients.enter_context(closing(client))

    def run(self, call: Call) -> None:
        """Do what the AWS command line does for *call*."""
        client = self[call.service]
        if call.waiter is None:
            getattr(client, call.operation.replace("-", "_"))(**call.arguments)
        else:
            waiter = client.get_waiter(call.waiter.replace("-", "_"))
            waiter.wait(**call.arguments, WaiterConfig={"Delay": 1})


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    """An account whose stack has been deleted; its table had an item."""
    with ministack(tmp_path) as endpoint, ExitStack() as clients:
        account = Account(endpoint, clients)
        cloudformation = account["cloudformation"]
        deploy(cloudformation, account["s3"], endpoint, tmp_path, parameters={}, authorities=None)
        account["dynamodb"].put_item(TableName=TABLE, Item=ITEM)
        logs = account["logs"]  # a function that ends later would make its log group anew
        eventually(lambda: bool(logs.filter_log_events(logGroupName=LOG_OF_CHANGES)["events"]))
        template = cloudformation.get_template(StackName=STACK, TemplateStage="Original")["TemplateBody"]
        account["s3"].create_bucket(Bucket="templates")
        body = template if isinstance(template, str) else json.dumps(template)
        account["s3"].put_object(Bucket="templates", Key="packaged", Body=body)
        cloudformation.delete_stack(StackName=STACK)
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})
        yield account


def test_only_the_table_and_the_role_of_the_access_logs_outlive_a_stack(account: Account) -> None:
    assert account["dynamodb"].list_tables()["TableNames"] == [TABLE]
    assert account["sqs"].list_queues().get("QueueUrls", []) == []
    assert account["logs"].describe_log_groups()["logGroups"] == []
    [role] = account["iam"].list_roles()["Roles"]
    assert account["apigateway"].get_account()["cloudwatchRoleArn"] == role["Arn"]


def test_a_new_stack_takes_the_table_over_and_another_deployment_adds_the_rest(account: Account) -> None:
    cloudformation = account["cloudformation"]
    for call in calls("deleting"):
        if call.service == "cloudformation":
            account.run(call)
    cloudformation.update_stack(  # as the deployment that follows
        StackName=NEW,
        TemplateURL=f"{account.endpoint}/templates/packaged",
        Parameters=[{"ParameterKey": "IpAddressType", "ParameterValue": "dualstack"}],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    cloudformation.get_waiter("stack_update_complete").wait(StackName=NEW, WaiterConfig={"Delay": 1})

    [stack] = cloudformation.describe_stacks(StackName=NEW)["Stacks"]
    outputs = {it["OutputKey"]: it["OutputValue"] for it in stack["Outputs"]}
    assert outputs["TableName"] == TABLE
    assert account["dynamodb"].scan(TableName=TABLE)["Items"] == [ITEM]
    [mapping] = account["lambda"].list_event_source_mappings(FunctionName=outputs["ChangesFunctionName"])[
        "EventSourceMappings"
    ]
    table = account["dynamodb"].describe_table(TableName=TABLE)["Table"]
    assert mapping["EventSourceArn"] == table["LatestStreamArn"]


def test_the_table_is_deleted_once_its_protection_is_off(account: Account) -> None:
    switch_off, delete = (call for call in calls("deleting") if call.service == "dynamodb")
    with pytest.raises(account["dynamodb"].exceptions.ClientError, match="protect"):
        account.run(delete)

    account.run(switch_off)
    account.run(delete)

    assert account["dynamodb"].list_tables()["TableNames"] == []
