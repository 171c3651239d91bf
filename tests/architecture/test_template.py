"""infra/template.yaml, checked as the CloudFormation template that the SAM transform makes of it."""

import ast
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from socket import AF_INET6, inet_aton, inet_pton
from types import ModuleType
from typing import Any

import pytest

from app.domain import delivery
from app.domain.delivery import KEPT_FOR
from app.domain.lifecycle import MAX_CONNECTION_DURATION
from app.domain.model import Network
from app.domain.sweep import Outcome
from app.entrypoints import routes, send, stream, sweep
from app.settings import LONGEST_STORE_CALL, InvalidSetting, Settings, SweepSettings
from tests.template import PATH, source, transformed

API_GATEWAY_TIMEOUT = timedelta(seconds=29)

CONNECT, DISCONNECT = "ConnectFunction", "DisconnectFunction"
SWEEP, CHANGES, SEND = "SweepFunction", "ChangesFunction", "SendFunction"
FUNCTIONS = {  # each with its command, its role and its log
    CONNECT: ("aws_lambda.connect", "ConnectRole", "ConnectLogGroup"),
    DISCONNECT: ("aws_lambda.disconnect", "DisconnectRole", "DisconnectLogGroup"),
    SWEEP: ("aws_sweep.handler", "SweepRole", "SweepLogGroup"),
    CHANGES: ("aws_stream.handler", "ChangesRole", "ChangesLogGroup"),
    SEND: ("aws_send.handler", "SendRole", "SendLogGroup"),
}
each_function = pytest.mark.parametrize("function", FUNCTIONS)
each_route_function = pytest.mark.parametrize("function", [CONNECT, DISCONNECT])

CONNECTIONS = {"Fn::GetAtt": ["ConnectionsTable", "Arn"]}
STREAM = {"Fn::GetAtt": ["ConnectionsTable", "StreamArn"]}
PRESENCE = {"Fn::GetAtt": ["PresenceTable", "Arn"]}
DELIVERIES = {"Fn::GetAtt": ["DeliveriesTable", "Arn"]}
MESSAGES = {"Fn::GetAtt": ["MessageQueue", "Arn"]}
BY_CLIENT = {"Fn::Sub": "${ConnectionsTable.Arn}/index/byClient"}
BY_ACCOUNT = {"Fn::Sub": "${ConnectionsTable.Arn}/index/byAccount"}

AWS_METRICS = {
    "AWS/Lambda": {
        "Errors",
        "Throttles",
        "Duration",
        "Invocations",
        "ConcurrentExecutions",
        "IteratorAge",  # of functions that a stream calls
    },
    "AWS/SQS": {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesVisible",
    },
    # AWS's developer guide, 'Monitor WebSocket API execution with CloudWatch metrics'
    "AWS/ApiGateway": {
        "ConnectCount",
        "MessageCount",
        "IntegrationError",
        "ClientError",
        "ExecutionError",
        "IntegrationLatency",
    },
}

# The variables of an access log that can't contain a token sent by a client (AWS's developer guide,
# 'Configure logging for WebSocket APIs'). Not among them: authorizer.*, identity.apiKey, identity.userAgent
# (a header) and error messages.
SAFE_LOG_VARIABLES = {
    "connectionId",
    "error.responseType",
    "eventType",
    "extendedRequestId",
    "identity.sourceIp",
    "integrationLatency",
    "integrationStatus",
    "requestId",
    "requestTime",
    "routeKey",
    "stage",
    "status",
}

# Filters that take a number from the sweep's or a delivery's record: the metric, the field, the pattern.
_FINISHED = '$.event = "sweep.finished" && $.dryRun IS FALSE'
_SWEPT = '($.event = "sweep.finished" || $.event = "sweep.unfinished") && $.dryRun IS FALSE'
FIGURES = {
    "OpenConnectionsFilter": (
        "OpenConnections",
        "open",
        f"{{ {_FINISHED} && $.open = * && $.segment = * && $.segments = * }}",
    ),
    "MissedDisconnectsFilter": (
        "MissedDisconnects",
        "missedDisconnects",
        f"{{ {_SWEPT} && $.missedDisconnects = * }}",
    ),
    "SweepQuestionsFilter": ("SweepQuestions", "asked", f"{{ {_SWEPT} && $.asked = * }}"),
    "SweepQuestionsFailedFilter": ("SweepQuestionsUnanswered", "failed", f"{{ {_SWEPT} && $.failed = * }}"),
    "SweepQuestionsThrottledFilter": (
        "SweepQuestionsUnanswered",
        "throttled",
        f"{{ {_SWEPT} && $.throttled = * }}",
    ),
    "SweepQuestionsForbiddenFilter": (
        "SweepQuestionsForbidden",
        "forbidden",
        f"{{ {_SWEPT} && $.forbidden = * }}",
    ),
    **{
        f"{metric}Filter": (metric, field, f'{{ $.event = "delivery.finished" && $.{field} = * }}')
        for metric, field in {
            "RecipientsSelected": "selected",
            "RecipientsDelivered": "delivered",
            "RecipientsGone": "gone",
            "RecipientsThrottled": "throttled",
            "RecipientsForbidden": "forbidden",
            "RecipientsFailed": "failed",
            "RecipientsUnknown": "unknown",
            "DeliveryP99": "p99Ms",
        }.items()
    },
}

# A filter's conditions besides the event.
EXTRA_CONDITIONS = {
    "ConnectionsOpenedFilter": " && $.repeated IS FALSE",
    "SweepsFinishedFilter": " && $.dryRun IS FALSE",
    "SweepsUnfinishedFilter": " && $.dryRun IS FALSE",
}

NAMESPACE = {"Fn::Sub": "Switchboard/${AWS::StackName}"}


def own_sum(metric: str, period: int = 900) -> dict[str, Any]:
    """Return one of our own metrics, summed over *period* seconds, for an alarm's expression."""
    return {
        "MetricStat": {
            "Metric": {"Namespace": NAMESPACE, "MetricName": metric},
            "Period": period,
            "Stat": "Sum",
        },
        "ReturnData": False,
    }


def one_fault(namespace: Any, metric: str, function: str = "") -> dict[str, Any]:
    """Return an alarm that one fault raises and missing data does not."""
    dimensions = [{"Name": "FunctionName", "Value": {"Ref": function}}]
    return {
        "Namespace": namespace,
        "MetricName": metric,
        **({"Dimensions": dimensions} if function else {}),
        "Statistic": "Sum",
        "Period": 300,
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
    }


def one_message(queue: str) -> dict[str, Any]:
    """Return an alarm that one message in *queue* raises."""
    return {
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateNumberOfMessagesVisible",
        "Dimensions": [{"Name": "QueueName", "Value": {"Fn::GetAtt": [queue, "QueueName"]}}],
        "Statistic": "Maximum",
        "Period": 300,
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
    }


# Every alarm, without its description and its actions.
ALARMS: dict[str, dict[str, Any]] = {
    "ConnectErrorsAlarm": one_fault("AWS/Lambda", "Errors", CONNECT),
    "DisconnectErrorsAlarm": one_fault("AWS/Lambda", "Errors", DISCONNECT),
    "SweepErrorsAlarm": one_fault("AWS/Lambda", "Errors", SWEEP),
    "ChangesErrorsAlarm": one_fault("AWS/Lambda", "Errors", CHANGES),
    "SendErrorsAlarm": one_fault("AWS/Lambda", "Errors", SEND),
    "ConnectThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", CONNECT),
    "DisconnectThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", DISCONNECT),
    "SweepThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", SWEEP),
    "ChangesThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", CHANGES),
    "SendThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", SEND),
    "StoreUnavailableAlarm": one_fault(NAMESPACE, "StoreUnavailable"),
    "BugsAlarm": one_fault(NAMESPACE, "Bugs"),
    "SweepUnfinishedAlarm": one_fault(NAMESPACE, "SweepsUnfinished"),
    "SweepForbiddenAlarm": one_fault(NAMESPACE, "SweepQuestionsForbidden"),
    "ConnectionsExpiredAlarm": one_fault(NAMESPACE, "ConnectionsExpired"),
    "SendForbiddenAlarm": one_fault(NAMESPACE, "RecipientsForbidden"),
    "SlowHandshakesAlarm": {
        "Namespace": "AWS/ApiGateway",
        "MetricName": "IntegrationLatency",
        "Dimensions": [
            {"Name": "ApiId", "Value": {"Ref": "WebSocketApi"}},
            {"Name": "Stage", "Value": "prod"},
        ],
        "ExtendedStatistic": "p99",
        "Unit": "Milliseconds",
        "Period": 300,
        "EvaluationPeriods": 3,
        "Threshold": 3000,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    },
    "SweepMissingAlarm": {
        "Namespace": "AWS/Lambda",
        "MetricName": "Invocations",
        "Dimensions": [{"Name": "FunctionName", "Value": {"Ref": SWEEP}}],
        "Statistic": "Sum",
        "Period": 900,
        "EvaluationPeriods": 4,
        "Threshold": 1,
        "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "breaching",  # a function that is not invoked has no metric
    },
    "SweepQuestionsUnansweredAlarm": {
        "Metrics": [
            {"Id": "unanswered", **own_sum("SweepQuestionsUnanswered")},
            {"Id": "asked", **own_sum("SweepQuestions")},
            {
                "Id": "share",
                "Label": "probes unanswered, %",
                "Expression": "IF(asked > 0, 100 * unanswered / asked, 0)",
                "ReturnData": True,
            },
        ],
        "EvaluationPeriods": 1,
        "Threshold": 50,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
    },
    "ChangesLateAlarm": {
        "Namespace": "AWS/Lambda",
        "MetricName": "IteratorAge",
        "Dimensions": [{"Name": "FunctionName", "Value": {"Ref": CHANGES}}],
        "Statistic": "Maximum",
        "Period": 300,
        "EvaluationPeriods": 3,
        "Threshold": 300_000,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    },
    "ChangesLostAlarm": one_message("FailedChangesQueue"),
    "DeadMessagesAlarm": one_message("DeadMessagesQueue"),
    "MessagesLateAlarm": {
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateAgeOfOldestMessage",
        "Dimensions": [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["MessageQueue", "QueueName"]}}],
        "Statistic": "Maximum",
        "Period": 60,
        "EvaluationPeriods": 2,
        "Threshold": 60,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    },
    "SendFailedAlarm": {
        "Metrics": [
            {"Id": "failed", **own_sum("RecipientsFailed", 300)},
            {"Id": "unknown", **own_sum("RecipientsUnknown", 300)},
            {"Id": "selected", **own_sum("RecipientsSelected", 300)},
            {
                "Id": "share",
                "Label": "recipients failed or unknown, %",
                "Expression": "IF(selected > 0, 100 * (failed + unknown) / selected, 0)",
                "ReturnData": True,
            },
        ],
        "EvaluationPeriods": 1,
        "Threshold": 5,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    },
    "SendThrottledAlarm": {
        "Metrics": [
            {"Id": "throttled", **own_sum("RecipientsThrottled", 300)},
            {"Id": "selected", **own_sum("RecipientsSelected", 300)},
            {
                "Id": "share",
                "Label": "recipients throttled, %",
                "Expression": "IF(selected > 0, 100 * throttled / selected, 0)",
                "ReturnData": True,
            },
        ],
        "EvaluationPeriods": 1,
        "Threshold": 20,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    },
}

# Every widget by its title: the statistic, the period in seconds, and the lines by their labels. A line is a
# metric; after it, the dimensions of a metric of AWS, a statistic of its own, and 'right' for the right axis.
DASHBOARD = {
    "Open connections, as the sweeps last counted them": (
        "Maximum",
        300,
        {"open": "expression", "sweeps finished": "SweepsFinished, Sum, right"},
    ),
    "Opened and closed per minute": (
        "Sum",
        60,
        {"opened": "ConnectionsOpened", "closed": "ConnectionsClosed"},
    ),
    "Handshake latency, ms": (
        "p50",
        60,
        {
            "API Gateway waits, p50": "IntegrationLatency WebSocketApi StageName",
            "API Gateway waits, p99": "IntegrationLatency WebSocketApi StageName, p99",
            "connect runs, p50": "Duration ConnectFunction",
            "connect runs, p99": "Duration ConnectFunction, p99",
        },
    ),
    "Handshakes refused per minute": (
        "Sum",
        60,
        {
            "rejected (400)": "HandshakesRejected",
            "too late (410)": "HandshakesTooLate",
            "store unavailable, to any function": "StoreUnavailable",
            "throttled by Lambda": "Throttles ConnectFunction",
            "function failed": "Errors ConnectFunction",
            "by API Gateway (4xx), of both routes": "ClientError WebSocketApi StageName",
        },
    ),
    "Missed disconnects": (
        "Sum",
        300,
        {"found by the sweep": "MissedDisconnects", "found by no sweep, expired": "ConnectionsExpired"},
    ),
    "The sweep": (
        "Sum",
        300,
        {
            "finished": "SweepsFinished",
            "unfinished": "SweepsUnfinished",
            "failed": "Errors SweepFunction",
            "probes": "SweepQuestions, right",
            "unanswered": "SweepQuestionsUnanswered, right",
            "forbidden": "SweepQuestionsForbidden, right",
            "longest, ms": "Duration SweepFunction, Maximum, right",
        },
    ),
    "Sessions per minute": (
        "Sum",
        60,
        {
            "joined": "PresenceJoined",
            "left": "PresenceLeft",
            "duplicates replaced": "ConnectionsReplaced",
            "duplicates not replaced": "ConnectionsNotReplaced",
            "dead items brought back, deleted": "ConnectionsRevived",
        },
    ),
    "The stream": (
        "Sum",
        60,
        {
            "behind, ms": "IteratorAge ChangesFunction, Maximum, right",
            "failed": "Errors ChangesFunction",
            "bugs of any function": "Bugs",
            "given up": "ApproximateNumberOfMessagesVisible FailedChangesQueue.QueueName, Maximum",
        },
    ),
    "Recipients of messages per minute": (
        "Sum",
        60,
        {
            "selected": "RecipientsSelected",
            "delivered": "RecipientsDelivered",
            "gone": "RecipientsGone",
            "throttled": "RecipientsThrottled",
            "unknown": "RecipientsUnknown",
            "failed": "RecipientsFailed",
            "forbidden": "RecipientsForbidden",
        },
    ),
    "Delay of messages": (
        "Maximum",
        60,
        {
            "99 % of the recipients had it within, ms": "DeliveryP99",
            "the queue's oldest, s": "ApproximateAgeOfOldestMessage MessageQueue.QueueName, right",
        },
    ),
    "Deliveries per minute": (
        "Sum",
        60,
        {
            "finished": "DeliveriesFinished",
            "continued by another function": "DeliveriesContinued",
            "of a message delivered before": "DeliveriesRepeated",
            "under way elsewhere": "DeliveriesClaimed",
            "refused": "DeliveriesRefused",
            "function failed": "Errors SendFunction",
            "throttled by Lambda": "Throttles SendFunction",
        },
    ),
    "Messages in the queues": (
        "Maximum",
        60,
        {
            "waiting": "ApproximateNumberOfMessagesVisible MessageQueue.QueueName",
            "being delivered, or to be repeated": (
                "ApproximateNumberOfMessagesNotVisible MessageQueue.QueueName"
            ),
            "given up": "ApproximateNumberOfMessagesVisible DeadMessagesQueue.QueueName",
        },
    ),
}


class RecordingEnviron(Mapping[str, str]):
    """An environment that records which variables are read."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.names_read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names_read.add(name)
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def resources(kind: str, **parameters: str) -> dict[str, Any]:
    """Return the properties of every resource of the type AWS::*kind*, by logical name."""
    return {
        name: resource["Properties"]
        for name, resource in transformed(**parameters)["Resources"].items()
        if resource["Type"] == f"AWS::{kind}"
    }


def permissions(role: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return every action that *role* allows, with its resource."""
    allowed: list[tuple[str, Any]] = []
    for policy in role["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement.keys() == {"Effect", "Action", "Resource"}
            assert statement["Effect"] == "Allow"
            allowed += [
                (action, resource)
                for action in as_list(statement["Action"])
                for resource in as_list(statement["Resource"])
            ]
    return allowed


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def environment(function: str, **parameters: str) -> dict[str, str]:
    """Return the environment of *function*: the template's variables, and Lambda's own for the region."""
    variables = resources("Lambda::Function", **parameters)[function]["Environment"]["Variables"]
    known = {name: text_of(value, **parameters) for name, value in variables.items()}
    return known | {"AWS_REGION": "eu-central-1"}


def text_of(value: Any, **parameters: str) -> str:
    """Return *value* as it is in a stack named 'switchboard': a text, or the name of a table or a queue."""
    match value:
        case {"Ref": str(table)}:
            named = resources("DynamoDB::Table", **parameters)[table]
            return text_of(named.get("TableName", "a-generated-name"), **parameters)
        case {"Fn::GetAtt": [str(queue), "QueueName"]}:
            return text_of(resources("SQS::Queue", **parameters)[queue]["QueueName"], **parameters)
        case {"Fn::Sub": str(text)}:
            defaults = {name: it["Default"] for name, it in source()["Parameters"].items()}
            values = {"AWS::StackName": "switchboard"} | defaults | parameters
            return re.sub(r"\$\{([\w:]+)}", lambda found: str(values[found[1]]), text)
        case _:
            return str(value)


def settings_of(function: str, **parameters: str) -> Settings:
    return Settings.from_environ(environment(function, **parameters))


def event_names(module: ModuleType) -> set[str]:
    """Return the event names in the log records of *module*: its string literals of that form."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {text for text in texts if isinstance(text, str) and re.fullmatch(r"[a-z]+\.[a-z_]+|bug", text)}


def events_in(pattern: str) -> list[str]:
    """Return the event names in a filter's *pattern*."""
    return re.findall(r'\$\.event = "([^"]+)"', pattern)


def counted_events() -> set[tuple[str, str]]:
    """Return the event names that metric filters match, each with its log group."""
    return {
        (event, metric_filter["LogGroupName"]["Ref"])
        for metric_filter in resources("Logs::MetricFilter").values()
        for event in events_in(metric_filter["FilterPattern"])
    }


def metrics() -> set[tuple[str, str]]:
    """Return the metrics of the filters, each with its namespace."""
    return {
        (json.dumps(transformation["MetricNamespace"]), transformation["MetricName"])
        for metric_filter in resources("Logs::MetricFilter").values()
        for transformation in metric_filter["MetricTransformations"]
    }


def connections_api(method: str) -> dict[str, str]:
    """Return the ARN of *method* of the ``@connections`` API, for this API and stage."""
    api = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${WebSocketApi}"
    return {"Fn::Sub": f"{api}/${{StageName}}/{method}/@connections/*"}


@pytest.mark.parametrize(
    ("function", "allowed"),
    [
        (CONNECT, [("dynamodb:PutItem", CONNECTIONS)]),
        (DISCONNECT, [("dynamodb:DeleteItem", CONNECTIONS), ("dynamodb:PutItem", CONNECTIONS)]),
        (
            SWEEP,
            [
                ("dynamodb:DeleteItem", CONNECTIONS),
                ("dynamodb:Scan", CONNECTIONS),
                ("execute-api:ManageConnections", connections_api("GET")),
            ],
        ),
        (
            CHANGES,
            [
                ("dynamodb:DeleteItem", CONNECTIONS),
                ("dynamodb:DeleteItem", PRESENCE),
                ("dynamodb:DescribeStream", STREAM),
                ("dynamodb:GetItem", CONNECTIONS),
                ("dynamodb:GetItem", PRESENCE),
                ("dynamodb:GetRecords", STREAM),
                ("dynamodb:GetShardIterator", STREAM),
                ("dynamodb:ListStreams", {"Fn::Sub": "${ConnectionsTable.Arn}/stream/*"}),
                ("dynamodb:PutItem", PRESENCE),
                ("sqs:SendMessage", {"Fn::GetAtt": ["FailedChangesQueue", "Arn"]}),
            ],
        ),
        (
            SEND,
            [
                ("dynamodb:DeleteItem", CONNECTIONS),
                ("dynamodb:GetItem", CONNECTIONS),
                ("dynamodb:Query", BY_ACCOUNT),
                ("dynamodb:Query", BY_CLIENT),
                ("dynamodb:Scan", CONNECTIONS),
                ("dynamodb:UpdateItem", DELIVERIES),
                ("execute-api:ManageConnections", connections_api("POST")),
                ("sqs:DeleteMessage", MESSAGES),
                ("sqs:GetQueueAttributes", MESSAGES),
                ("sqs:GetQueueUrl", MESSAGES),
                ("sqs:ReceiveMessage", MESSAGES),
                ("sqs:SendMessage", MESSAGES),
            ],
        ),
    ],
)
def test_a_function_has_only_the_permissions_that_it_needs(
    function: str, allowed: list[tuple[str, Any]]
) -> None:
    _, role, log_group = FUNCTIONS[function]
    own_log = [
        (f"logs:{it}", {"Fn::GetAtt": [log_group, "Arn"]}) for it in ("CreateLogStream", "PutLogEvents")
    ]

    assert resources("Lambda::Function")[function]["Role"] == {"Fn::GetAtt": [role, "Arn"]}
    assert sorted(permissions(resources("IAM::Role")[role]), key=repr) == sorted(allowed + own_log, key=repr)


def test_the_changes_function_may_close_connections_only_if_it_replaces_duplicates() -> None:
    keeps, replaces = (
        permissions(resources("IAM::Role", Duplicates=duplicates)["ChangesRole"])
        for duplicates in ("keep", "replace")
    )

    assert [it for it in replaces if it not in keeps] == [
        ("execute-api:ManageConnections", connections_api("DELETE"))
    ]
    assert len(replaces) == len(keeps) + 1


def test_the_send_function_may_query_the_index_by_account_only_if_there_is_one() -> None:
    without, with_index = (
        permissions(resources("IAM::Role", AccountIndex=there_is_one)["SendRole"])
        for there_is_one in ("false", "true")
    )

    assert [it for it in with_index if it not in without] == [("dynamodb:Query", BY_ACCOUNT)]
    assert len(with_index) == len(without) + 1


@each_function
def test_only_lambda_assumes_a_functions_role_and_no_other_policy_extends_it(function: str) -> None:
    _, role, _ = FUNCTIONS[function]
    properties = resources("IAM::Role")[role]
    trust = properties["AssumeRolePolicyDocument"]["Statement"]
    policies_elsewhere = [resources(f"IAM::{kind}") for kind in ("Policy", "RolePolicy", "ManagedPolicy")]

    assert properties.keys() == {"AssumeRolePolicyDocument", "Policies"}
    assert trust == [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]
    assert not any(policies_elsewhere)


def test_the_functions_share_one_image_and_differ_by_their_command() -> None:
    written = [source()["Resources"][function] for function in FUNCTIONS]
    builds = [function["Metadata"] for function in written]
    functions = resources("Lambda::Function")
    context = PATH.parent / builds[0]["DockerContext"]

    assert functions.keys() == FUNCTIONS.keys()
    assert all(build == builds[0] for build in builds)
    assert (context / builds[0]["Dockerfile"]).is_file()
    assert {json.dumps(function["Code"]) for function in functions.values()} == {
        json.dumps(functions[CONNECT]["Code"])
    }


@pytest.mark.parametrize(
    ("function", "seconds", "variables"),
    [
        (
            CONNECT,
            25,
            {"TTL_HOURS": 24, "TRUSTED_PROXIES": "", "CLIENT_ATTRIBUTES": "", "UNSCOPED": "ignore"},
        ),
        (DISCONNECT, 25, {}),
        (SWEEP, 240, {"SWEEP_EVERY_MINUTES": 5, "SWEEP_SEGMENTS": 1, "SWEEP_RATE": 1000}),
        (CHANGES, 120, {"PRESENCE_TABLE": {"Ref": "PresenceTable"}, "DUPLICATES": "keep"}),
        (
            SEND,
            120,
            {
                "DELIVERIES_TABLE": {"Ref": "DeliveriesTable"},
                "MESSAGE_QUEUE": {"Fn::GetAtt": ["MessageQueue", "QueueName"]},
                "SEND_RATE": 5000,
                "UNSCOPED": "ignore",
                "ACCOUNT_INDEX": "true",
            },
        ),
    ],
)
def test_a_function_has_only_these_properties(function: str, seconds: int, variables: dict[str, Any]) -> None:
    name, role, log_group = FUNCTIONS[function]
    properties = resources("Lambda::Function")[function]
    described = {key: properties.pop(key) for key in ("Code", "Description", "Tags")}
    puts_its_messages_back = {"RecursiveLoop": "Allow"} if function == SEND else {}

    assert all(described.values())
    assert properties == puts_its_messages_back | {
        "PackageType": "Image",
        "ImageConfig": {"Command": [f"app.entrypoints.{name}"]},
        "Architectures": ["x86_64"],
        "MemorySize": 1769 if function in {SWEEP, SEND} else 512,
        "Timeout": seconds,
        "Role": {"Fn::GetAtt": [role, "Arn"]},
        "LoggingConfig": {
            "LogFormat": "JSON",
            "ApplicationLogLevel": "INFO",
            "LogGroup": {"Ref": log_group},
        },
        "Environment": {"Variables": {"CONNECTIONS_TABLE": {"Ref": "ConnectionsTable"}} | variables},
    }


@each_function
def test_a_functions_command_is_a_handler_that_loads_in_its_environment(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, _ = FUNCTIONS[function]
    [command] = resources("Lambda::Function")[function]["ImageConfig"]["Command"]
    module_name, _, handler_name = command.rpartition(".")
    for variable, value in (environment(function) | {"STORE": "memory"}).items():
        monkeypatch.setenv(variable, value)
    spec = importlib.util.find_spec(module_name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(
        spec
    )  # not in sys.modules, so that other tests keep their module
    spec.loader.exec_module(module)

    assert command == f"app.entrypoints.{name}"
    assert callable(getattr(module, handler_name))


@pytest.mark.parametrize(("route", "function"), [("$connect", CONNECT), ("$disconnect", DISCONNECT)])
def test_a_route_calls_its_function(route: str, function: str) -> None:
    [target] = [r["Target"] for r in resources("ApiGatewayV2::Route").values() if r["RouteKey"] == route]
    integration = resources("ApiGatewayV2::Integration")[target["Fn::Join"][1][1]["Ref"]]
    permitted = [
        permission["FunctionName"]
        for permission in resources("Lambda::Permission").values()
        if permission["SourceArn"]["Fn::Sub"][0].endswith(f"/{route}")
    ]

    assert integration["IntegrationType"] == "AWS_PROXY"
    assert integration["IntegrationUri"]["Fn::Sub"][1] == {"FunctionArn": {"Fn::GetAtt": [function, "Arn"]}}
    assert permitted == [{"Fn::GetAtt": [function, "Arn"]}]


@each_route_function
def test_a_function_times_out_after_the_longest_store_call_and_before_the_gateway(function: str) -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[function]["Timeout"])
    integrations = resources("ApiGatewayV2::Integration").values()

    assert LONGEST_STORE_CALL < timeout < API_GATEWAY_TIMEOUT
    for integration in integrations:
        assert timeout < timedelta(milliseconds=integration["TimeoutInMillis"]) <= API_GATEWAY_TIMEOUT


@each_function
def test_a_functions_environment_gives_the_default_settings(function: str) -> None:
    assert settings_of(function) == Settings(
        table="IncidentWebSocketConnections",
        region="eu-central-1",
        presence_table="a-generated-name" if function == CHANGES else "",
        deliveries_table="IncidentWebSocketConnectionsDeliveries" if function == SEND else "",
        message_queue="switchboard-messages" if function == SEND else "",
    )


@each_function
def test_the_settings_read_every_variable_of_a_function(function: str) -> None:
    variables = RecordingEnviron(environment(function))
    Settings.from_environ(variables)

    assert set(variables) <= variables.names_read


@each_function
def test_the_table_name_reaches_the_settings(function: str) -> None:
    settings = settings_of(function, TableName="SecurityEventWebSocketConnections")

    assert settings.table == "SecurityEventWebSocketConnections"


def test_parameters_reach_the_settings_of_the_sweep() -> None:
    settings = settings_of(SWEEP, SweepMinutes="10", SweepSegments="4", SweepRate="2000")

    assert settings.sweep == SweepSettings(segments=4, every=timedelta(minutes=10), rate=2000)


@pytest.mark.parametrize(("duplicates", "replaced"), [("keep", False), ("replace", True)])
def test_the_duplicates_parameter_reaches_the_settings_of_the_changes_function(
    duplicates: str, *, replaced: bool
) -> None:
    assert settings_of(CHANGES, Duplicates=duplicates).replaces_duplicates is replaced


def test_parameters_reach_the_settings_of_the_send_function() -> None:
    settings = settings_of(
        SEND,
        TableName="SecurityEventWebSocketConnections",
        SendRate="100",
        Unscoped="include",
        AccountIndex="false",
    )

    assert settings.deliveries_table == "SecurityEventWebSocketConnectionsDeliveries"
    assert settings.send_rate == 100
    assert settings.includes_unscoped
    assert not settings.has_account_index


@pytest.mark.parametrize("unscoped", ["ignore", "include"])
def test_connections_without_an_account_are_indexed_where_messages_go_to_them(unscoped: str) -> None:
    connects, sends = (settings_of(function, Unscoped=unscoped) for function in (CONNECT, SEND))

    assert source()["Parameters"]["Unscoped"]["AllowedValues"] == ["ignore", "include"]
    assert connects.includes_unscoped is sends.includes_unscoped is (unscoped == "include")


@pytest.mark.parametrize("limit", ["MinValue", "Default", "MaxValue"])
def test_the_settings_accept_the_limits_of_the_send_rate(limit: str) -> None:
    rate = source()["Parameters"]["SendRate"][limit]

    assert settings_of(SEND, SendRate=str(rate)).send_rate == rate


@pytest.mark.parametrize(
    ("minutes", "segments", "rate"),
    [
        ("MinValue", "MinValue", "MinValue"),
        ("MaxValue", "MinValue", "MaxValue"),
        ("Default", "MaxValue", "Default"),
    ],
)
def test_the_settings_accept_the_limits_of_the_sweeps_parameters(
    minutes: str, segments: str, rate: str
) -> None:
    parameters = source()["Parameters"]
    every, of = parameters["SweepMinutes"][minutes], parameters["SweepSegments"][segments]
    per_second = parameters["SweepRate"][rate]
    settings = settings_of(SWEEP, SweepMinutes=str(every), SweepSegments=str(of), SweepRate=str(per_second))

    assert settings.sweep == SweepSettings(segments=of, every=timedelta(minutes=every), rate=per_second)


def test_segments_that_take_more_than_2_hours_are_refused_and_the_parameters_say_so() -> None:
    parameters = source()["Parameters"]
    longest = int(MAX_CONNECTION_DURATION / timedelta(minutes=30))
    settings = settings_of(SWEEP, SweepMinutes="30", SweepSegments=str(longest))

    assert settings.sweep.segments * settings.sweep.every == MAX_CONNECTION_DURATION
    with pytest.raises(InvalidSetting):
        settings_of(SWEEP, SweepMinutes="30", SweepSegments=str(longest + 1))
    for name in ("SweepMinutes", "SweepSegments"):
        assert "SweepMinutes x SweepSegments may be 120 at most" in parameters[name]["Description"]


def test_parameters_reach_the_settings_of_the_connect_function() -> None:
    settings = Settings.from_environ(
        environment(
            CONNECT,
            TtlHours="48",
            TrustedProxies="10.0.0.0/8, 2001:db8::/32",
            ClientAttributes="fingerprint,appVersion",
        )
    )

    assert settings.lifetime == timedelta(hours=48)
    assert settings.trusted_proxies == (
        Network(inet_aton("10.0.0.0"), 8),
        Network(inet_pton(AF_INET6, "2001:db8::"), 32),
    )
    assert settings.attribute_names == ("fingerprint", "appVersion")


@pytest.mark.parametrize(
    ("parameter", "accepted", "refused"),
    [
        ("TableName", ["IncidentWebSocketConnections", "a.b-c_1", "t" * 245], ["", "ab", "a/b", "t" * 246]),
        ("StageName", ["prod", "blue-2"], ["", "a/b"]),
        ("TrustedProxies", ["", "10.0.0.0/8", "10.0.0.0/8, 2001:db8::/32"], ["proxy.example.org"]),
        (
            "ClientAttributes",
            ["", "fingerprint", "a,b,c,d,e,f,g,h", "regional,clientIds"],
            ["a,b,c,d,e,f,g,h,i", "clientId", "fingerprint, region", "a,account,b"],
        ),
        (
            "AlarmTopicArn",
            [
                "",
                "arn:aws:sns:eu-central-1:123456789012:alarms",
                "arn:aws-cn:sns:cn-north-1:123456789012:alarms",
            ],
            ["alarms", "arn:aws:sqs:eu-central-1:123456789012:alarms"],
        ),
    ],
)
def test_an_invalid_parameter_is_refused_before_the_deployment(
    parameter: str, accepted: list[str], refused: list[str]
) -> None:
    pattern = re.compile(source()["Parameters"][parameter]["AllowedPattern"])  # CloudFormation anchors it

    assert [value for value in accepted if not pattern.fullmatch(value)] == []
    assert [value for value in refused if pattern.fullmatch(value)] == []


def test_the_longest_table_name_leaves_room_for_that_of_the_deliveries() -> None:
    longest_name = 255  # DynamoDB's developer guide, 'Naming rules'
    name = text_of({"Ref": "DeliveriesTable"}, TableName="t" * 245)

    assert len(name) == longest_name


def test_a_live_connection_does_not_expire() -> None:
    shortest_lifetime = timedelta(hours=source()["Parameters"]["TtlHours"]["MinValue"])

    assert shortest_lifetime > MAX_CONNECTION_DURATION


def test_every_segment_is_swept_within_the_maximum_duration_of_a_connection() -> None:
    parameters = source()["Parameters"]
    every = timedelta(minutes=parameters["SweepMinutes"]["Default"])

    assert parameters["SweepSegments"]["MaxValue"] * every <= MAX_CONNECTION_DURATION


def test_the_schedule_has_no_end_and_passes_its_time_to_the_sweep() -> None:
    [schedule] = resources("Scheduler::Schedule").values()
    description = schedule.pop("Description")

    assert description
    assert schedule == {
        "ScheduleExpression": {"Fn::Sub": "rate(${SweepMinutes} minutes)"},
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {
            "Arn": {"Fn::GetAtt": [SWEEP, "Arn"]},
            "RoleArn": {"Fn::GetAtt": ["SweepScheduleRole", "Arn"]},
            "Input": '{"scheduledTime": "<aws.scheduler.scheduled-time>"}',
            "RetryPolicy": {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 60},
        },
    }


def test_a_failed_sweep_is_not_retried_and_a_throttled_one_waits_a_minute_at_most() -> None:
    [config] = resources("Lambda::EventInvokeConfig").values()

    assert config == {
        "FunctionName": {"Ref": SWEEP},
        "Qualifier": "$LATEST",
        "MaximumRetryAttempts": 0,
        "MaximumEventAgeInSeconds": 60,
        "DestinationConfig": {},
    }


def test_the_sweep_interval_is_more_than_one_minute() -> None:
    assert (
        source()["Parameters"]["SweepMinutes"]["MinValue"] > 1
    )  # EventBridge Scheduler rejects 'rate(1 minutes)'


def test_a_sweep_has_time_for_its_last_probe_and_times_out_before_the_next_sweep() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[SWEEP]["Timeout"])
    every = timedelta(minutes=source()["Parameters"]["SweepMinutes"]["Default"])

    assert 2 * sweep.RESERVE < timeout < every


def test_the_changes_function_has_time_for_more_than_one_change() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[CHANGES]["Timeout"])

    assert timeout > 2 * stream.RECORD_RESERVE


def test_only_this_accounts_scheduler_assumes_its_role_which_may_only_invoke_the_sweep() -> None:
    role = resources("IAM::Role")["SweepScheduleRole"]

    assert role.keys() == {"AssumeRolePolicyDocument", "Policies"}
    assert role["AssumeRolePolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "scheduler.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
        }
    ]
    assert permissions(role) == [("lambda:InvokeFunction", {"Fn::GetAtt": [SWEEP, "Arn"]})]


def test_the_stream_is_read_from_its_start_and_the_queue_gets_the_failed_records() -> None:
    mapping = resources("Lambda::EventSourceMapping")["ChangesMapping"]
    queue = resources("SQS::Queue")["FailedChangesQueue"]

    assert mapping == {
        "FunctionName": {"Fn::GetAtt": [CHANGES, "Arn"]},
        "EventSourceArn": STREAM,
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 100,
        "ParallelizationFactor": 10,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        "MaximumRecordAgeInSeconds": 6 * 3600,
        "MaximumRetryAttempts": 10_000,
        "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": ["FailedChangesQueue", "Arn"]}}},
    }
    assert queue == {"MessageRetentionPeriod": 14 * 24 * 3600, "SqsManagedSseEnabled": True}


def test_a_message_is_delivered_alone_and_a_parameter_limits_how_many_at_once() -> None:
    mappings = resources("Lambda::EventSourceMapping", SendConcurrency="7")
    parameter = source()["Parameters"]["SendConcurrency"]

    assert mappings.keys() == {"ChangesMapping", "SendMapping"}
    assert mappings["SendMapping"] == {
        "FunctionName": {"Fn::GetAtt": [SEND, "Arn"]},
        "EventSourceArn": MESSAGES,
        "BatchSize": 1,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ScalingConfig": {"MaximumConcurrency": "7"},
    }
    assert (parameter["Default"], parameter["MinValue"], parameter["MaxValue"]) == (2, 2, 1000)


def test_a_message_that_fails_five_times_goes_into_a_queue_of_its_own() -> None:
    queues = resources("SQS::Queue")

    assert queues.keys() == {"FailedChangesQueue", "MessageQueue", "DeadMessagesQueue"}
    assert queues["MessageQueue"] == {
        "QueueName": {"Fn::Sub": "${AWS::StackName}-messages"},
        "VisibilityTimeout": 130,
        "MessageRetentionPeriod": 24 * 3600,
        "SqsManagedSseEnabled": True,
        "RedrivePolicy": {
            "deadLetterTargetArn": {"Fn::GetAtt": ["DeadMessagesQueue", "Arn"]},
            "maxReceiveCount": 5,
        },
    }
    assert queues["DeadMessagesQueue"] == {
        "MessageRetentionPeriod": 14 * 24 * 3600,
        "SqsManagedSseEnabled": True,
    }


def test_only_this_accounts_rules_and_topics_may_put_messages_into_the_queue() -> None:
    policies = resources("SQS::QueuePolicy")

    assert policies == {
        "MessageQueuePolicy": {
            "Queues": [{"Ref": "MessageQueue"}],
            "PolicyDocument": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Service": ["events.amazonaws.com", "sns.amazonaws.com"]},
                        "Action": "sqs:SendMessage",
                        "Resource": MESSAGES,
                        "Condition": {
                            "ArnLike": {
                                "aws:SourceArn": [
                                    {
                                        "Fn::Sub": "arn:${AWS::Partition}:events:${AWS::Region}"
                                        ":${AWS::AccountId}:rule/*"
                                    },
                                    {"Fn::Sub": "arn:${AWS::Partition}:sns:*:${AWS::AccountId}:*"},
                                ]
                            }
                        },
                    }
                ],
            },
        }
    }


def test_a_message_comes_again_after_the_function_and_is_remembered_for_longer_than_it_is_kept() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[SEND]["Timeout"])
    queue = resources("SQS::Queue")["MessageQueue"]
    dead = resources("SQS::Queue")["DeadMessagesQueue"]

    assert timeout < timedelta(seconds=queue["VisibilityTimeout"])
    assert timedelta(seconds=queue["MessageRetentionPeriod"]) < KEPT_FOR
    assert timedelta(seconds=dead["MessageRetentionPeriod"]) < KEPT_FOR


def test_a_function_delivers_for_longer_than_it_waits_for_slow_calls() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[SEND]["Timeout"])

    assert timeout > 2 * send.RESERVE


def test_a_failing_record_is_given_up_before_the_stream_drops_it() -> None:
    mapping = resources("Lambda::EventSourceMapping")["ChangesMapping"]
    age = timedelta(seconds=mapping["MaximumRecordAgeInSeconds"])

    assert age < timedelta(hours=24)


def test_a_batch_of_changes_has_time_for_one_slow_store_call() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[CHANGES]["Timeout"])
    mapping = resources("Lambda::EventSourceMapping")["ChangesMapping"]
    normal = mapping["BatchSize"] * timedelta(milliseconds=500)

    assert timeout > normal + LONGEST_STORE_CALL


def test_the_tables_stream_has_the_new_and_the_old_image() -> None:
    table = resources("DynamoDB::Table")["ConnectionsTable"]

    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_the_indexes_can_be_created_one_per_deployment() -> None:
    table = resources("DynamoDB::Table", AccountIndex="false")["ConnectionsTable"]

    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == ["byClient"]
    attributes = {definition["AttributeName"] for definition in table["AttributeDefinitions"]}
    assert attributes == {"connectionId", "indexedClient"}


def test_the_indexes_by_client_and_by_account_have_whole_items() -> None:
    indexes = resources("DynamoDB::Table")["ConnectionsTable"]["GlobalSecondaryIndexes"]

    assert {index["IndexName"]: index["KeySchema"] for index in indexes} == {
        "byClient": [
            {"AttributeName": "indexedClient", "KeyType": "HASH"},
            {"AttributeName": "connectionId", "KeyType": "RANGE"},
        ],
        "byAccount": [
            {"AttributeName": "indexedAccount", "KeyType": "HASH"},
            {"AttributeName": "indexedRegion", "KeyType": "RANGE"},
        ],
    }
    assert all(index["Projection"] == {"ProjectionType": "ALL"} for index in indexes)


@pytest.mark.parametrize(
    ("table", "name"),
    [("PresenceTable", {}), ("DeliveriesTable", {"TableName": {"Fn::Sub": "${TableName}Deliveries"}})],
)
def test_the_presence_table_has_a_generated_name_and_the_deliveries_have_the_same_in_every_region(
    table: str, name: dict[str, Any]
) -> None:
    assert resources("DynamoDB::Table")[table] == name | {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
        "SSESpecification": {"SSEEnabled": True},
    }


def test_the_table_deletes_expired_items_and_is_protected_itself() -> None:
    table = resources("DynamoDB::Table")["ConnectionsTable"]

    assert table["KeySchema"] == [{"AttributeName": "connectionId", "KeyType": "HASH"}]
    assert {it["AttributeName"]: it["AttributeType"] for it in table["AttributeDefinitions"]} == {
        "connectionId": "S",
        "indexedClient": "S",
        "indexedAccount": "S",
        "indexedRegion": "S",
    }
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["DeletionProtectionEnabled"] is True
    assert table["BillingMode"] == "PAY_PER_REQUEST"


@pytest.mark.parametrize("resource", ["ConnectionsTable", "ApiGatewayAccount", "ApiGatewayLogRole"])
def test_shared_resources_outlive_the_stack(resource: str) -> None:
    retained = transformed()["Resources"][resource]

    assert retained["DeletionPolicy"] == retained["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize(
    "resource",
    [
        "PresenceTable",
        "DeliveriesTable",
        "FailedChangesQueue",
        "MessageQueue",
        "DeadMessagesQueue",
        *(log for _, _, log in FUNCTIONS.values()),
        "AccessLogGroup",
    ],
)
def test_private_resources_are_deleted_with_the_stack(resource: str) -> None:
    deleted = transformed()["Resources"][resource]

    assert deleted["DeletionPolicy"] == deleted["UpdateReplacePolicy"] == "Delete"


def test_every_record_is_counted_in_each_log_group_that_it_is_written_to() -> None:
    written = {
        *((event, log) for event in event_names(routes) for log in ("ConnectLogGroup", "DisconnectLogGroup")),
        *((event, "SweepLogGroup") for event in event_names(sweep)),
        *((event, "ChangesLogGroup") for event in event_names(stream)),
        *((event, "SendLogGroup") for event in event_names(send)),
    }
    other_route = {
        ("connection.opened", "DisconnectLogGroup"),
        ("handshake.rejected", "DisconnectLogGroup"),
        ("handshake.too_late", "DisconnectLogGroup"),
        ("connection.closed", "ConnectLogGroup"),
    }

    assert other_route < written
    assert counted_events() == written - other_route


def test_a_matching_record_counts_as_one_and_any_other_record_as_zero() -> None:
    for name, metric_filter in resources("Logs::MetricFilter").items():
        if name in FIGURES:
            continue
        [transformation] = metric_filter["MetricTransformations"]
        details = {key: value for key, value in transformation.items() if key != "MetricName"}
        [event] = events_in(metric_filter["FilterPattern"])

        assert (
            metric_filter["FilterPattern"] == f'{{ $.event = "{event}"{EXTRA_CONDITIONS.get(name, "")} }}'
        ), name
        assert details == {
            "MetricNamespace": NAMESPACE,
            "MetricValue": "1",
            "DefaultValue": 0,
            "Unit": "Count",
        }, name


@pytest.mark.parametrize("name", FIGURES)
def test_a_filter_takes_its_number_from_a_field_of_the_record(name: str) -> None:
    metric_filter = resources("Logs::MetricFilter")[name]
    metric, field, pattern = FIGURES[name]
    of_sweep = "sweep." in pattern
    handler = Path(str((sweep if of_sweep else send).__file__)).read_text(encoding="utf-8")
    outcomes = set(map(str, Outcome if of_sweep else delivery.Outcome))
    written = set(re.findall(r'"(\w+)"(?::|] = )', handler)) | outcomes
    by_segment = {  # CloudWatch Logs refuses a default beside dimensions
        "Dimensions": [
            {"Key": "Segment", "Value": "$.segment"},
            {"Key": "Segments", "Value": "$.segments"},
        ]
    }
    beside: dict[str, dict[str, Any]] = {
        "OpenConnections": by_segment | {"Unit": "Count"},
        "DeliveryP99": {"Unit": "Milliseconds"},  # a default of 0 would be a delivery within 0 ms
    }

    assert metric_filter["LogGroupName"] == {"Ref": "SweepLogGroup" if of_sweep else "SendLogGroup"}
    assert metric_filter["FilterPattern"] == pattern
    assert f"$.{field} = *" in pattern  # a record without the field has no number
    assert set(re.findall(r"\$\.(\w+)", pattern)) <= written
    assert metric_filter["MetricTransformations"] == [
        {"MetricNamespace": NAMESPACE, "MetricName": metric, "MetricValue": f"$.{field}"}
        | beside.get(metric, {"DefaultValue": 0, "Unit": "Count"})
    ]


def test_each_metric_counts_one_event_or_one_field() -> None:
    filters = {
        name: (f["FilterPattern"], f["MetricTransformations"][0]["MetricName"])
        for name, f in resources("Logs::MetricFilter").items()
    }
    pairs = {pair for name, pair in filters.items() if name not in FIGURES}
    figures = {(pattern, metric) for metric, _, pattern in FIGURES.values()}
    of_events, of_figures = {metric for _, metric in pairs}, {metric for _, metric in figures}

    assert len(pairs) == len({pattern for pattern, _ in pairs}) == len(of_events)
    assert len(figures) == len({pattern for pattern, _ in figures}) == len(FIGURES)
    assert of_events & of_figures == set()


def metrics_of(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the metrics of *alarm*, each with its namespace and dimensions."""
    if "Metrics" not in alarm:
        return [alarm]
    return [it["MetricStat"]["Metric"] for it in alarm["Metrics"] if "MetricStat" in it]


def test_the_alarms_are_as_listed() -> None:
    alarms = resources("CloudWatch::Alarm")
    defined = {
        name: {key: value for key, value in alarm.items() if key not in {"AlarmDescription", "AlarmActions"}}
        for name, alarm in alarms.items()
    }

    assert defined.keys() == ALARMS.keys()
    for name, alarm in defined.items():
        assert alarm == ALARMS[name], name


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_watches_metrics_that_exist(name: str) -> None:
    for metric in metrics_of(ALARMS[name]):
        if metric["Namespace"] == NAMESPACE:
            assert (json.dumps(NAMESPACE), metric["MetricName"]) in metrics()
        else:
            assert metric["MetricName"] in AWS_METRICS[metric["Namespace"]]


def test_every_function_has_alarms_for_errors_and_throttles() -> None:
    covered = {
        (alarm["MetricName"], alarm["Dimensions"][0]["Value"]["Ref"])
        for alarm in ALARMS.values()
        if alarm.get("Namespace") == "AWS/Lambda"
    }

    assert covered >= {(metric, function) for metric in ("Errors", "Throttles") for function in FUNCTIONS}


def test_a_missing_sweep_raises_an_alarm_and_a_long_interval_does_not() -> None:
    alarm = resources("CloudWatch::Alarm")["SweepMissingAlarm"]
    window = alarm["EvaluationPeriods"] * timedelta(seconds=alarm["Period"])
    longest_interval = timedelta(minutes=source()["Parameters"]["SweepMinutes"]["MaxValue"])

    assert window - timedelta(seconds=alarm["Period"]) > longest_interval
    assert window < MAX_CONNECTION_DURATION


def test_late_changes_raise_an_alarm_before_they_are_given_up() -> None:
    late = resources("CloudWatch::Alarm")["ChangesLateAlarm"]
    mapping = resources("Lambda::EventSourceMapping")["ChangesMapping"]
    delay = timedelta(milliseconds=late["Threshold"]) + late["EvaluationPeriods"] * timedelta(
        seconds=late["Period"]
    )

    assert delay < timedelta(seconds=mapping["MaximumRecordAgeInSeconds"])


def test_a_long_delivery_raises_no_alarm_on_late_messages() -> None:
    late = resources("CloudWatch::Alarm")["MessagesLateAlarm"]
    period, threshold = (timedelta(seconds=late[name]) for name in ("Period", "Threshold"))
    timeout = timedelta(seconds=resources("Lambda::Function")[SEND]["Timeout"])
    longest = timeout - send.RESERVE  # then what is left is a new message

    assert threshold < longest < threshold + (late["EvaluationPeriods"] - 1) * period


def test_late_messages_raise_an_alarm_before_they_are_given_up() -> None:
    late = resources("CloudWatch::Alarm")["MessagesLateAlarm"]
    queue = resources("SQS::Queue")["MessageQueue"]
    attempts = queue["RedrivePolicy"]["maxReceiveCount"] * timedelta(seconds=queue["VisibilityTimeout"])

    assert timedelta(seconds=late["Threshold"] + late["EvaluationPeriods"] * late["Period"]) < attempts


def test_unanswered_probes_are_summed_over_three_sweeps() -> None:
    unanswered, probes, _ = resources("CloudWatch::Alarm")["SweepQuestionsUnansweredAlarm"]["Metrics"]
    every = timedelta(minutes=source()["Parameters"]["SweepMinutes"]["Default"])
    periods = {timedelta(seconds=it["MetricStat"]["Period"]) for it in (unanswered, probes)}

    assert periods == {3 * every}


def dashboard() -> list[dict[str, Any]]:
    """Return the dashboard's widgets, with references to parameters and resources as in the template."""
    [board] = resources("CloudWatch::Dashboard").values()
    widgets: list[dict[str, Any]] = json.loads(board["DashboardBody"]["Fn::Sub"])["widgets"]
    return widgets


def test_the_dashboard_names_only_metrics_that_exist() -> None:
    named = {f"${{{name}}}" for name in transformed()["Resources"]}
    for widget in dashboard():
        for namespace, metric, *rest in [
            it for it in widget["properties"]["metrics"] if isinstance(it[0], str)
        ]:
            dimensions = dict(zip(rest[:-1:2], rest[1:-1:2], strict=True))

            match namespace:
                case "AWS/Lambda":
                    assert metric in AWS_METRICS[namespace]
                    assert dimensions.keys() == {"FunctionName"}
                    assert dimensions["FunctionName"] in named
                case "AWS/ApiGateway":
                    assert metric in AWS_METRICS[namespace]
                    assert dimensions == {"ApiId": "${WebSocketApi}", "Stage": "${StageName}"}
                case "AWS/SQS":
                    assert metric in AWS_METRICS[namespace]
                    assert dimensions.keys() == {"QueueName"}
                    assert dimensions["QueueName"] in {
                        f"${{{queue}.QueueName}}" for queue in resources("SQS::Queue")
                    }
                case _:
                    assert (json.dumps({"Fn::Sub": namespace}), metric) in metrics()
                    assert dimensions == {}


def test_the_dashboard_shows_open_connections_as_the_sum_of_each_segments_last_count() -> None:
    [expression] = [
        metric[0]["expression"]
        for widget in dashboard()
        for metric in widget["properties"]["metrics"]
        if isinstance(metric[0], dict)
    ]
    schema = '{"Switchboard/${AWS::StackName}",Segment,Segments} MetricName="OpenConnections"'
    current = 'Segments="${SweepSegments}"'  # other numbers of segments have other sizes

    assert expression == f"SUM(FILL(SEARCH('{schema} {current}', 'Maximum', 300), REPEAT))"


def described(metric: list[Any]) -> tuple[str, str]:
    """Return a line's label and its description in the form of ``DASHBOARD``."""
    *names, options = metric
    extras = {key: value for key, value in options.items() if key not in {"label", "id", "expression"}}
    assert extras.keys() <= {"stat", "yAxis"}
    dimensions = [name[2:-1] for name in names[3::2]]  # ${ConnectFunction}
    metric_name = " ".join([names[1], *dimensions]) if names else "expression"
    return options["label"], ", ".join(
        [metric_name, *(extras[key] for key in ("stat", "yAxis") if key in extras)]
    )


def test_the_widgets_of_the_dashboard_are_as_listed() -> None:
    shown = {widget["properties"].pop("title"): widget["properties"] for widget in dashboard()}

    assert shown.keys() == DASHBOARD.keys()
    for title, (statistic, period, lines) in DASHBOARD.items():
        properties = shown[title]
        assert [described(metric) for metric in properties.pop("metrics")] == list(lines.items()), title
        assert properties == {"region": "${AWS::Region}", "stat": statistic, "period": period}, title


def test_a_widget_with_figures_per_minute_sums_over_a_minute() -> None:
    for title, (statistic, period, _) in DASHBOARD.items():
        if "per minute" in title:
            assert (statistic, period) == ("Sum", 60), title


def test_every_metric_of_the_filters_is_on_the_dashboard() -> None:
    shown = {line.partition(",")[0] for _, _, lines in DASHBOARD.values() for line in lines.values()}

    assert {metric for _, metric in metrics()} - shown == {"OpenConnections"}  # the expression has it


def test_the_dashboards_widgets_do_not_overlap() -> None:
    places = {(widget["x"], widget["y"]) for widget in dashboard()}

    assert len(places) == len(dashboard())
    assert {(widget["width"], widget["height"]) for widget in dashboard()} == {(12, 6)}
    assert all(x in {0, 12} and y % 6 == 0 for x, y in places)


def test_the_slow_handshakes_alarm_uses_the_99th_percentile() -> None:
    alarm = resources("CloudWatch::Alarm", SlowHandshakeMilliseconds="1500")["SlowHandshakesAlarm"]

    assert (alarm["MetricName"], alarm["ExtendedStatistic"]) == ("IntegrationLatency", "p99")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", "1500")


def test_every_alarm_says_what_to_do_first_and_notifies_the_topic_if_there_is_one() -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:alarms"
    for name, alarm in resources("CloudWatch::Alarm", AlarmTopicArn=topic).items():
        assert re.search(r"\. First .+", alarm["AlarmDescription"]), name
        assert len(alarm["AlarmDescription"]) <= 1024, name  # CloudWatch's limit
        assert alarm["AlarmActions"] == {"Fn::If": ["HasAlarmTopic", [topic], {"Ref": "AWS::NoValue"}]}, name


def test_every_log_group_has_a_retention_period() -> None:
    groups = resources("Logs::LogGroup", LogRetentionDays="7")

    assert {name: group["RetentionInDays"] for name, group in groups.items()} == {
        "AccessLogGroup": "7",
        "ConnectLogGroup": "7",
        "DisconnectLogGroup": "7",
        "SweepLogGroup": "7",
        "ChangesLogGroup": "7",
        "SendLogGroup": "7",
    }


def test_the_stage_is_throttled_and_has_metrics_by_route() -> None:
    [stage] = resources("ApiGatewayV2::Stage", ThrottlingRateLimit="50", ThrottlingBurstLimit="20").values()

    assert stage["DefaultRouteSettings"] == {
        "DetailedMetricsEnabled": True,
        "ThrottlingRateLimit": "50",
        "ThrottlingBurstLimit": "20",
    }
    assert stage["RouteSettings"].keys() == {"$disconnect"}
    assert stage["RouteSettings"]["$disconnect"]["DetailedMetricsEnabled"] is True


def test_the_limits_of_disconnect_are_above_those_of_connect() -> None:
    [stage] = resources("ApiGatewayV2::Stage").values()
    connect, disconnect = stage["DefaultRouteSettings"], stage["RouteSettings"]["$disconnect"]

    assert disconnect["ThrottlingRateLimit"] > connect["ThrottlingRateLimit"]
    assert disconnect["ThrottlingBurstLimit"] > connect["ThrottlingBurstLimit"]


def test_the_access_log_is_json_and_has_no_field_that_could_contain_a_token() -> None:
    [stage] = resources("ApiGatewayV2::Stage").values()
    text = stage["AccessLogSettings"]["Format"]
    variables = [value.removeprefix("$context.") for value in json.loads(text).values()]

    assert stage["AccessLogSettings"]["DestinationArn"] == {"Fn::GetAtt": ["AccessLogGroup", "Arn"]}
    assert "\n" not in text
    assert text.count("$") == len(variables)
    assert set(variables) <= SAFE_LOG_VARIABLES


def test_the_stage_is_created_after_the_role_that_writes_its_access_log() -> None:
    group = transformed()["Resources"]["AccessLogGroup"]  # the stage refers to it, and so waits for it
    account = resources("ApiGateway::Account")["ApiGatewayAccount"]
    condition, waits_for, _ = group["Metadata"]["Account"]["Fn::If"]

    assert condition == "SetsUpApiGatewayLogging"
    assert waits_for == {"Ref": "ApiGatewayAccount"}
    assert account["CloudWatchRoleArn"] == {"Fn::GetAtt": ["ApiGatewayLogRole", "Arn"]}


def test_only_api_gateway_assumes_the_access_log_role_which_may_only_write_logs() -> None:
    role = resources("IAM::Role")["ApiGatewayLogRole"]
    policy = "arn:${AWS::Partition}:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"

    assert role.keys() == {"AssumeRolePolicyDocument", "ManagedPolicyArns"}
    assert role["ManagedPolicyArns"] == [{"Fn::Sub": policy}]
    assert role["AssumeRolePolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "apigateway.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ]


@pytest.mark.parametrize("parameter", source()["Parameters"])
def test_every_parameter_has_an_effect(parameter: str) -> None:
    value = "4242" if source()["Parameters"][parameter]["Type"] == "Number" else "a-value-of-its-own"
    default, changed = transformed(), transformed(**{parameter: value})

    assert changed["Resources"] != default["Resources"] or changed["Conditions"] != default["Conditions"]


def test_every_parameter_is_in_one_group_of_the_interface() -> None:
    groups = source()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]

    assert sorted(grouped) == sorted(source()["Parameters"])


@pytest.mark.parametrize("resource", ["ApiGatewayAccount", "ApiGatewayLogRole"])
def test_an_account_can_keep_its_own_role_for_access_logs(resource: str) -> None:
    template = transformed(SetUpApiGatewayLogging="false")

    assert template["Resources"][resource]["Condition"] == "SetsUpApiGatewayLogging"
    assert template["Conditions"]["SetsUpApiGatewayLogging"] == {"Fn::Equals": ["false", "true"]}


def test_several_stacks_can_share_an_account() -> None:
    named = {
        (key, json.dumps(value))
        for resource in source()["Resources"].values()
        for key, value in resource["Properties"].items()
        if key in {"Name", "TableName", "RoleName", "AlarmName", "FilterName", "QueueName", "DashboardName"}
        or (key == "FunctionName" and resource["Type"] == "AWS::Serverless::Function")
        or (key == "LogGroupName" and resource["Type"] == "AWS::Logs::LogGroup")
    }

    assert {name for key, name in named if key == "TableName"} == {
        '{"Ref": "TableName"}',
        '{"Fn::Sub": "${TableName}Deliveries"}',
    }
    assert all("AWS::StackName" in name for key, name in named if key != "TableName")


def test_the_outputs_have_the_url_and_the_names_of_the_resources() -> None:
    outputs = {name: output["Value"] for name, output in source()["Outputs"].items()}

    assert outputs["WebSocketUrl"]["Fn::Sub"].startswith("wss://${WebSocketApi}.execute-api.")
    assert outputs["WebSocketUrl"]["Fn::Sub"].endswith("/${StageName}")
    assert outputs["TableName"] == {"Ref": "ConnectionsTable"}
    assert outputs["ConnectFunctionName"] == {"Ref": CONNECT}
    assert outputs["DisconnectFunctionName"] == {"Ref": DISCONNECT}
    assert outputs["SweepFunctionName"] == {"Ref": SWEEP}
    assert outputs["ChangesFunctionName"] == {"Ref": CHANGES}
    assert outputs["PresenceTableName"] == {"Ref": "PresenceTable"}
    assert outputs["FailedChangesQueueUrl"] == {"Ref": "FailedChangesQueue"}
    assert outputs["SendFunctionName"] == {"Ref": SEND}
    assert outputs["MessageQueueName"] == {"Fn::GetAtt": ["MessageQueue", "QueueName"]}
    assert outputs["MessageQueueUrl"] == {"Ref": "MessageQueue"}
    assert outputs["MessageQueueArn"] == MESSAGES
    assert outputs["DeadMessagesQueueUrl"] == {"Ref": "DeadMessagesQueue"}
    assert outputs["DeliveriesTableName"] == {"Ref": "DeliveriesTable"}
    assert outputs["DashboardName"] == {"Ref": "Dashboard"}


def test_the_readme_has_every_setting_record_and_alarm_of_the_template() -> None:
    readme = (PATH.parent.parent / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in readme.splitlines() if line.startswith("|")]
    named = {name for first_column in rows for name in re.findall(r"`([^`]+)`", first_column)}
    variables = {variable for function in FUNCTIONS for variable in environment(function)}
    alarms = {alarm.removesuffix("Alarm") for alarm in ALARMS}

    assert variables | alarms | {event for event, _ in counted_events()} <= named
