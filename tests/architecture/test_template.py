"""infra/template.yaml, checked as the CloudFormation template that the SAM transform makes of it."""

import ast
import importlib.util
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from itertools import product
from pathlib import Path
from socket import AF_INET6, inet_aton, inet_pton
from types import ModuleType
from typing import Any

import pytest

from app.adapters.eventbridge import SOURCE
from app.adapters.tokens.issuer import HttpsIssuer
from app.domain import delivery, events
from app.domain.admission import Reason
from app.domain.catching_up import LONGEST_LOOK
from app.domain.delivery import KEPT_FOR
from app.domain.keys import GOOD_FOR, REFRESH_EVERY
from app.domain.lifecycle import MAX_CONNECTION_DURATION
from app.domain.model import Network
from app.domain.sweep import Outcome
from app.entrypoints import catch_up, keys, records, routes, send, stream, sweep
from app.entrypoints.deadline import LONGEST_GATEWAY_CALL
from app.settings import (
    KEPT_ALIVE_WITHIN,
    LONGEST_STORE_CALL,
    LONGEST_SWEEP,
    InvalidSetting,
    Settings,
    SweepSettings,
)
from app.settings.tokens import jwks_url, token_algorithm, token_issuer
from tests.template import PATH, conditions, failed_rules, source, transformed
from tests.tokens import REASONS, TokenSettings, token_settings

API_GATEWAY_TIMEOUT = timedelta(seconds=29)

CONNECT, DISCONNECT = "ConnectFunction", "DisconnectFunction"
SWEEP, CHANGES, SEND = "SweepFunction", "ChangesFunction", "SendFunction"
PUBLISH = "PresenceFunction"
KEYS = "KeysFunction"
CATCH_UP = "CatchUpFunction"
FUNCTIONS = {  # each with its command, its role and its log
    CONNECT: ("aws_lambda.connect", "ConnectRole", "ConnectLogGroup"),
    DISCONNECT: ("aws_lambda.disconnect", "DisconnectRole", "DisconnectLogGroup"),
    SWEEP: ("aws_sweep.handler", "SweepRole", "SweepLogGroup"),
    CHANGES: ("aws_stream.handler", "ChangesRole", "ChangesLogGroup"),
    PUBLISH: ("aws_presence.handler", "PresenceRole", "PresenceLogGroup"),
    SEND: ("aws_send.handler", "SendRole", "SendLogGroup"),
    CATCH_UP: ("aws_catch_up.handler", "CatchUpRole", "CatchUpLogGroup"),
    KEYS: ("aws_keys.handler", "KeysRole", "KeysLogGroup"),
}
each_function = pytest.mark.parametrize("function", FUNCTIONS)
each_route_function = pytest.mark.parametrize("function", [CONNECT, DISCONNECT])
each_version = pytest.mark.parametrize(
    ("name", "function"), [("Connect", CONNECT), ("Disconnect", DISCONNECT)]
)

CONNECTIONS = {"Fn::GetAtt": ["ConnectionsTable", "Arn"]}
STREAM = {"Fn::GetAtt": ["ConnectionsTable", "StreamArn"]}
PRESENCE = {"Fn::GetAtt": ["PresenceTable", "Arn"]}
PRESENCE_STREAM = {"Fn::GetAtt": ["PresenceTable", "StreamArn"]}
FAILED_CHANGES = {"Fn::GetAtt": ["FailedChangesQueue", "Arn"]}
DELIVERIES = {"Fn::GetAtt": ["DeliveriesTable", "Arn"]}
HISTORY = {"Fn::GetAtt": ["HistoryTable", "Arn"]}
KEYS_TABLE = {"Fn::GetAtt": ["KeysTable", "Arn"]}
TICKETS_TABLE = {"Fn::GetAtt": ["TicketsTable", "Arn"]}
MESSAGES = {"Fn::GetAtt": ["MessageQueue", "Arn"]}
CATCH_UPS = {"Fn::GetAtt": ["CatchUpQueue", "Arn"]}
BY_CLIENT = {"Fn::Sub": "${ConnectionsTable.Arn}/index/byClient"}
BY_ACCOUNT = {"Fn::Sub": "${ConnectionsTable.Arn}/index/byAccount"}

# What admits with tokens, and everything that is only there then, with tickets, or if anything may be denied.
TOKENS = {"Admission": "token", "TokenIssuer": "https://idp.example.com/", "TokenAudience": "switchboard"}
OF_TOKENS = {
    "KeysTable",
    "KeysFunction",
    "KeysFunctionEventInvokeConfig",
    "KeysSchedule",
    "KeysRole",
    "KeysScheduleRole",
    "KeysLogGroup",
    "KeysUnavailableFilter",
    "KeysRefreshedFilter",
    "KeysNotRefreshedFilter",
    "ConnectionsEndedFilter",
    "KeysErrorsAlarm",
    "KeysThrottlesAlarm",
    "KeysStaleAlarm",
    "KeysUnavailableAlarm",
    "UnknownKeysAlarm",
}
OF_TICKETS = {"TicketsTable"}
OF_DENIALS = {"HandshakesDeniedFilter", "HandshakesDeniedByReasonFilter", "HandshakesDeniedAlarm"}

# Everything that is only there if messages are kept for clients that come back.
OF_HISTORY = {
    "HistoryTable",
    "CatchUpFunction",
    "CatchUpMapping",
    "CatchUpQueue",
    "DeadCatchUpsQueue",
    "CatchUpRole",
    "CatchUpLogGroup",
    "CatchUpsFinishedFilter",
    "CatchUpsContinuedFilter",
    "CatchUpsEndedFilter",
    "CatchUpsFailedFilter",
    "GapsFilter",
    "MessagesCaughtUpFilter",
    "CatchUpStoreUnavailableFilter",
    "CatchUpBugsFilter",
    "CatchUpErrorsAlarm",
    "CatchUpThrottlesAlarm",
    "CatchUpsLateAlarm",
    "DeadCatchUpsAlarm",
}

# What is only there if presence goes onto a bus.
OF_THE_BUS = {"PresenceBusRule"}
# What is only there if the handshakes start from a snapshot.
SNAPSHOTS = {"SnapStart": "true", "Release": "2026-11-29.1"}
OF_SNAPSHOTS = {"ConnectVersion", "ConnectAlias", "DisconnectVersion", "DisconnectAlias"}
# Too long for the description of a version.
NEED_A_RELEASE = {
    "TableName",
    "ClientAttributes",
    "TrustedProxies",
    "AllowedOrigins",
    "TokenIssuer",
    "TokenAudience",
    "ClientsClaim",
    "AccountsClaim",
    "RegionsClaim",
}
BUS = {"Fn::Sub": "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/${PresenceBus}"}

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

# Filters that take a number from a sweep's, a delivery's or a catch-up's record: the metric, the field, the
# pattern.
_FINISHED = '$.event = "sweep.finished" && $.dryRun IS FALSE'
_SWEPT = '($.event = "sweep.finished" || $.event = "sweep.unfinished") && $.dryRun IS FALSE'
_LOOKED = '($.event = "catch_up.finished" || $.event = "catch_up.continued")'
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
    "MessagesCaughtUpFilter": ("MessagesCaughtUp", "missed", f"{{ {_LOOKED} && $.missed = * }}"),
}

# The filter that counts the records of two events.
GAPS = ("GapsFilter", f"{{ {_LOOKED} && $.gap IS TRUE }}")

# A filter's conditions besides the event.
EXTRA_CONDITIONS = {
    "ConnectionsOpenedFilter": " && $.repeated IS FALSE",
    "SweepsFinishedFilter": " && $.dryRun IS FALSE",
    "SweepsUnfinishedFilter": " && $.dryRun IS FALSE",
    "HandshakesDeniedByReasonFilter": " && $.reason = *",
    "CatchUpsFinishedFilter": " && $.caughtUp IS TRUE",
}

NAMESPACE = {"Fn::Sub": "Switchboard/${AWS::StackName}"}


def own_sum(metric: str, period: int = 900, **dimensions: str) -> dict[str, Any]:
    """Return one of our own metrics, summed over *period* seconds, for an alarm's expression."""
    of = {"Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()]}
    return {
        "MetricStat": {
            "Metric": {"Namespace": NAMESPACE, "MetricName": metric} | (of if dimensions else {}),
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


def late_records(function: str) -> dict[str, Any]:
    """The alarm for records of a stream that waited for *function* for too long."""
    return {
        "Namespace": "AWS/Lambda",
        "MetricName": "IteratorAge",
        "Dimensions": [{"Name": "FunctionName", "Value": {"Ref": function}}],
        "Statistic": "Maximum",
        "Period": 300,
        "EvaluationPeriods": 3,
        "Threshold": 300_000,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }


# Every alarm, without its description and its actions.
ALARMS: dict[str, dict[str, Any]] = {
    "ConnectErrorsAlarm": one_fault("AWS/Lambda", "Errors", CONNECT),
    "DisconnectErrorsAlarm": one_fault("AWS/Lambda", "Errors", DISCONNECT),
    "SweepErrorsAlarm": one_fault("AWS/Lambda", "Errors", SWEEP),
    "ChangesErrorsAlarm": one_fault("AWS/Lambda", "Errors", CHANGES),
    "PresenceErrorsAlarm": one_fault("AWS/Lambda", "Errors", PUBLISH),
    "SendErrorsAlarm": one_fault("AWS/Lambda", "Errors", SEND),
    "KeysErrorsAlarm": one_fault("AWS/Lambda", "Errors", KEYS),
    "CatchUpErrorsAlarm": one_fault("AWS/Lambda", "Errors", CATCH_UP),
    "ConnectThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", CONNECT),
    "DisconnectThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", DISCONNECT),
    "SweepThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", SWEEP),
    "ChangesThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", CHANGES),
    "PresenceThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", PUBLISH),
    "SendThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", SEND),
    "KeysThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", KEYS),
    "CatchUpThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", CATCH_UP),
    "StoreUnavailableAlarm": one_fault(NAMESPACE, "StoreUnavailable"),
    "BugsAlarm": one_fault(NAMESPACE, "Bugs"),
    "SweepUnfinishedAlarm": one_fault(NAMESPACE, "SweepsUnfinished"),
    "SweepForbiddenAlarm": one_fault(NAMESPACE, "SweepQuestionsForbidden"),
    "ConnectionsExpiredAlarm": one_fault(NAMESPACE, "ConnectionsExpired"),
    "SendForbiddenAlarm": one_fault(NAMESPACE, "RecipientsForbidden"),
    "KeysUnavailableAlarm": one_fault(NAMESPACE, "KeysUnavailable"),
    "KeysStaleAlarm": {
        "Namespace": NAMESPACE,
        "MetricName": "KeysRefreshed",
        "Statistic": "Sum",
        "Period": 300,
        "EvaluationPeriods": 3,
        "Threshold": 1,
        "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "breaching",  # a function that does not run has no records
    },
    "HandshakesDeniedAlarm": {
        "Metrics": [
            {"Id": "denied", **own_sum("HandshakesDenied")},
            {"Id": "opened", **own_sum("ConnectionsOpened")},
            {
                "Id": "share",
                "Label": "handshakes denied, %",
                "Expression": "IF(denied >= 10, 100 * denied / (denied + opened), 0)",
                "ReturnData": True,
            },
        ],
        "EvaluationPeriods": 1,
        "Threshold": 20,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    },
    "UnknownKeysAlarm": {
        "Metrics": [
            {"Id": "unknown", **own_sum("HandshakesDeniedByReason", Reason=Reason.UNKNOWN_KEY)},
            {"Id": "denied", **own_sum("HandshakesDenied")},
            {
                "Id": "share",
                "Label": "denied for an unknown key, %",
                "Expression": "IF(denied >= 10, 100 * unknown / denied, 0)",
                "ReturnData": True,
            },
        ],
        "EvaluationPeriods": 1,
        "Threshold": 50,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    },
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
    "ChangesLateAlarm": late_records(CHANGES),
    "PresenceLateAlarm": late_records(PUBLISH),
    "ChangesLostAlarm": one_message("FailedChangesQueue"),
    "DeadMessagesAlarm": one_message("DeadMessagesQueue"),
    "DeadCatchUpsAlarm": one_message("DeadCatchUpsQueue"),
    "CatchUpsLateAlarm": {
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateAgeOfOldestMessage",
        "Dimensions": [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["CatchUpQueue", "QueueName"]}}],
        "Statistic": "Maximum",
        "Period": 60,
        "EvaluationPeriods": 2,
        "Threshold": 180,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    },
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
            "denied (401, 403)": "HandshakesDenied",
            "too late (410)": "HandshakesTooLate",
            "no keys (503)": "KeysUnavailable",
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
            "presence behind, ms": "IteratorAge PresenceFunction, Maximum, right",
            "failed": "Errors ChangesFunction",
            "presence failed": "Errors PresenceFunction",
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
    "Handshakes denied per minute, by reason": ("Sum", 60, {"": "expression"}),  # each line has its reason
    "Tokens": (
        "Sum",
        300,
        {
            "keys fetched": "KeysRefreshed",
            "keys not fetched": "KeysNotRefreshed",
            "connections ended, their token had run out": "ConnectionsEnded",
        },
    ),
    "Clients that came back, per minute": (
        "Sum",
        60,
        {
            "caught up": "CatchUpsFinished",
            "away for longer than the history": "Gaps",
            "left before": "CatchUpsEnded",
            "continued by another function": "CatchUpsContinued",
            "failed, to be repeated": "CatchUpsFailed",
            "messages sent to them": "MessagesCaughtUp, right",
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


def present(**parameters: str) -> set[str]:
    """Return the resources of a stack with *parameters*: those without a condition that does not hold."""
    holds = conditions(**parameters)
    return {
        name
        for name, resource in transformed(**parameters)["Resources"].items()
        if "Condition" not in resource or holds[resource["Condition"]]
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
        case {"Fn::If": [str(condition), included, other]}:
            return text_of(included if conditions(**parameters)[condition] else other, **parameters)
        case {"Ref": str(table)}:
            named = resources("DynamoDB::Table", **parameters)[table]
            return text_of(named.get("TableName", "a-generated-name"), **parameters)
        case {"Fn::GetAtt": [str(queue), "QueueName"]}:
            named = resources("SQS::Queue", **parameters)[queue]
            return text_of(named.get("QueueName", "a-generated-name"), **parameters)
        case {"Fn::Sub": str(text)}:
            defaults = {name: it["Default"] for name, it in source()["Parameters"].items()}
            values = {"AWS::StackName": "switchboard"} | defaults | parameters
            return re.sub(r"\$\{([\w:]+)}", lambda found: str(values[found[1]]), text)
        case _:
            return str(value)


def settings_of(function: str, **parameters: str) -> Settings:
    return Settings.from_environ(environment(function, **parameters))


def token_settings_of(function: str, **parameters: str) -> TokenSettings:
    return token_settings(environment(function, **(TOKENS | parameters)))


def event_names(module: ModuleType) -> set[str]:
    """Return the event names in the log records of *module*: its string literals of that form."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {text for text in texts if isinstance(text, str) and re.fullmatch(r"[a-z_]+\.[a-z_]+|bug", text)}


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
                ("dynamodb:Query", PRESENCE),
                ("sqs:GetQueueUrl", CATCH_UPS),
                ("sqs:SendMessage", CATCH_UPS),
                ("sqs:SendMessage", FAILED_CHANGES),
            ],
        ),
        (
            PUBLISH,
            [
                ("dynamodb:DescribeStream", PRESENCE_STREAM),
                ("dynamodb:GetRecords", PRESENCE_STREAM),
                ("dynamodb:GetShardIterator", PRESENCE_STREAM),
                ("dynamodb:ListStreams", {"Fn::Sub": "${PresenceTable.Arn}/stream/*"}),
                ("sqs:SendMessage", FAILED_CHANGES),
            ],
        ),
        (
            SEND,
            [
                ("dynamodb:DeleteItem", CONNECTIONS),
                ("dynamodb:DeleteItem", HISTORY),
                ("dynamodb:GetItem", CONNECTIONS),
                ("dynamodb:PutItem", HISTORY),
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
        (
            CATCH_UP,
            [
                ("dynamodb:GetItem", CONNECTIONS),
                ("dynamodb:GetItem", DELIVERIES),
                ("dynamodb:Query", HISTORY),
                ("execute-api:ManageConnections", connections_api("POST")),
                ("sqs:DeleteMessage", CATCH_UPS),
                ("sqs:GetQueueAttributes", CATCH_UPS),
                ("sqs:GetQueueUrl", CATCH_UPS),
                ("sqs:ReceiveMessage", CATCH_UPS),
                ("sqs:SendMessage", CATCH_UPS),
            ],
        ),
        (KEYS, [("dynamodb:PutItem", KEYS_TABLE)]),
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


@pytest.mark.parametrize("kept", ["1", "5"])
def test_the_changes_function_may_close_connections_only_if_a_client_may_not_have_any_number(
    kept: str,
) -> None:
    any_number, limited = (
        permissions(resources("IAM::Role", ConnectionsPerClient=most)["ChangesRole"]) for most in ("0", kept)
    )

    assert [it for it in limited if it not in any_number] == [
        ("execute-api:ManageConnections", connections_api("DELETE"))
    ]
    assert len(limited) == len(any_number) + 1


@pytest.mark.parametrize("admission", [{}, TOKENS])
def test_the_sweep_may_send_to_connections_only_if_it_keeps_them_alive(admission: dict[str, str]) -> None:
    probes, keeps_alive = (
        [
            (role, *it)
            for role, properties in resources("IAM::Role", KeepAlive=value, **admission).items()
            if "Policies" in properties
            for it in permissions(properties)
        ]
        for value in ("false", "true")
    )

    assert [it for it in keeps_alive if it not in probes] == [
        ("SweepRole", "execute-api:ManageConnections", connections_api("POST"))
    ]
    assert len(keeps_alive) == len(probes) + 1
    assert present(KeepAlive="true") == present()


READ_KEYS = ("ConnectRole", "dynamodb:GetItem", KEYS_TABLE)
REDEEM_TICKETS = ("ConnectRole", "dynamodb:DeleteItem", TICKETS_TABLE)
END_CONNECTIONS = ("SweepRole", "execute-api:ManageConnections", connections_api("DELETE"))


@pytest.mark.parametrize("origins", ["", "https://app.example.com"])
@pytest.mark.parametrize(
    ("admission", "tickets", "added", "allowed"),
    [
        ("open", "false", set(), []),
        ("open", "true", set(), []),
        ("token", "false", OF_TOKENS | OF_DENIALS, [READ_KEYS, END_CONNECTIONS]),
        ("token", "true", OF_TOKENS | OF_TICKETS | OF_DENIALS, [READ_KEYS, REDEEM_TICKETS, END_CONNECTIONS]),
        ("ticket", "false", OF_TICKETS | OF_DENIALS, [REDEEM_TICKETS]),
        ("ticket", "true", OF_TICKETS | OF_DENIALS, [REDEEM_TICKETS]),
    ],
)
def test_a_stack_has_the_resources_and_the_permissions_of_its_admission_alone(
    admission: str, tickets: str, origins: str, added: set[str], allowed: list[tuple[str, str, Any]]
) -> None:
    chosen = {**TOKENS, "Admission": admission, "Tickets": tickets, "AllowedOrigins": origins}
    ordinary, there = present(), present(**chosen)
    roles, ordinary_roles = resources("IAM::Role", **chosen), resources("IAM::Role")
    before, after = (
        [(name, *it) for name in ordinary if "Policies" in of.get(name, {}) for it in permissions(of[name])]
        for of in (ordinary_roles, roles)
    )

    assert ordinary <= there
    assert there - ordinary == added | (OF_DENIALS if origins else set())
    assert [it for it in before if it not in after] == []
    assert sorted((it for it in after if it not in before), key=repr) == sorted(allowed, key=repr)


def allowed_to_all(**parameters: str) -> list[tuple[str, str, Any]]:
    """Return what a stack with *parameters* allows: the role, the action and the resource."""
    roles, there = resources("IAM::Role", **parameters), present(**parameters)
    return [
        (name, *it)
        for name, role in roles.items()
        if name in there and "Policies" in role
        for it in permissions(role)
    ]


def test_a_stack_without_a_history_has_no_resource_and_no_permission_of_it() -> None:
    kept, none = allowed_to_all(), allowed_to_all(HistoryMinutes="0")
    of_its_own_role = [it for it in kept if it[0] == "CatchUpRole"]

    assert present() - present(HistoryMinutes="0") == OF_HISTORY
    assert present(HistoryMinutes="0") < present() == present(HistoryMinutes="1440")
    assert [it for it in none if it not in kept] == []
    assert of_its_own_role
    assert sorted((it for it in kept if it not in none), key=repr) == sorted(
        [
            *of_its_own_role,
            ("ChangesRole", "sqs:GetQueueUrl", CATCH_UPS),
            ("ChangesRole", "sqs:SendMessage", CATCH_UPS),
            ("SendRole", "dynamodb:DeleteItem", HISTORY),
            ("SendRole", "dynamodb:PutItem", HISTORY),
        ],
        key=repr,
    )


def test_a_stack_without_a_bus_has_no_resource_and_no_permission_of_it() -> None:
    with_a_bus = {"PresenceBus": "presence"}
    without, with_bus = allowed_to_all(), allowed_to_all(**with_a_bus)

    assert present(**with_a_bus) - present() == OF_THE_BUS
    assert present() < present(**with_a_bus)
    assert [it for it in without if it not in with_bus] == []
    assert [it for it in with_bus if it not in without] == [
        ("ChangesRole", "events:PutEvents", BUS),
        ("PresenceRole", "events:PutEvents", BUS),
    ]
    assert not any(action.startswith("events:") for _, action, _ in without)


@pytest.mark.parametrize("function", [CHANGES, PUBLISH])
def test_the_name_of_the_bus_reaches_the_settings_of_the_functions_that_publish(function: str) -> None:
    assert settings_of(function).events == "none"
    assert settings_of(function, PresenceBus="presence").presence_bus == "presence"


def test_a_rule_that_does_nothing_refuses_a_bus_that_does_not_exist() -> None:
    [rule] = resources("Events::Rule", PresenceBus="presence").values()

    assert (rule["EventBusName"], rule["State"]) == ("presence", "DISABLED")
    assert "Targets" not in rule
    assert rule["EventPattern"]["source"] == [SOURCE]


@pytest.mark.parametrize(
    ("minutes", "history", "catch_ups"),
    [("0", "none", "none"), ("1", "kept", "queue"), ("15", "kept", "queue"), ("1440", "kept", "queue")],
)
def test_the_minutes_of_the_history_reach_the_functions_and_0_is_none(
    minutes: str, history: str, catch_ups: str
) -> None:
    sends, follows, catches_up = (
        settings_of(function, HistoryMinutes=minutes) for function in (SEND, CHANGES, CATCH_UP)
    )

    assert (sends.history, follows.catch_ups) == (history, catch_ups)
    assert sends.history_kept_for == catches_up.history_kept_for == timedelta(minutes=int(minutes))


@pytest.mark.parametrize("limit", ["MinValue", "Default", "MaxValue"])
def test_the_settings_accept_the_limits_of_the_history(limit: str) -> None:
    parameters = source()["Parameters"]
    minutes, seconds = (parameters[name][limit] for name in ("HistoryMinutes", "IndexLagSeconds"))
    settings = settings_of(CATCH_UP, HistoryMinutes=str(minutes), IndexLagSeconds=str(seconds))

    assert settings.history_kept_for == timedelta(minutes=minutes)
    assert settings.index_lag == timedelta(seconds=seconds)


def test_parameters_reach_the_settings_of_the_catch_up_function() -> None:
    settings = settings_of(CATCH_UP, TableName="SecurityEventWebSocketConnections", Unscoped="include")

    assert settings.history_table == "SecurityEventWebSocketConnectionsHistory"
    assert settings.deliveries_table == "SecurityEventWebSocketConnectionsDeliveries"
    assert settings.includes_unscoped


@pytest.mark.parametrize("tickets", ["false", "true"])
@pytest.mark.parametrize("admission", ["open", "token", "ticket"])
def test_the_connect_function_has_the_tables_of_its_admission(admission: str, tickets: str) -> None:
    settings = settings_of(CONNECT, **(TOKENS | {"Admission": admission, "Tickets": tickets}))

    assert bool(settings.keys_table) is ("token" in settings.admission_rule)
    assert bool(settings.tickets_table) is ("ticket" in settings.admission_rule)


def test_a_stack_with_the_default_parameters_admits_everyone_and_has_nothing_of_admission() -> None:
    assert settings_of(CONNECT).admission_rule == "open"
    assert present() & (OF_TOKENS | OF_TICKETS | OF_DENIALS) == set()
    assert set(transformed()["Resources"]) - present() == (
        OF_TOKENS | OF_TICKETS | OF_DENIALS | OF_THE_BUS | OF_SNAPSHOTS
    )


@pytest.mark.parametrize(
    ("parameters", "rule"),
    [
        ({}, "open"),
        ({"AllowedOrigins": "https://app.example.com"}, "origin"),
        (TOKENS, "token"),
        (TOKENS | {"Tickets": "true"}, "token_or_ticket"),
        ({"Admission": "ticket"}, "ticket"),
    ],
)
def test_the_parameters_choose_who_may_come_in(parameters: dict[str, str], rule: str) -> None:
    assert failed_rules(**parameters) == []
    assert settings_of(CONNECT, **parameters).admission_rule == rule


@pytest.mark.parametrize(
    ("parameters", "sentences"),
    [
        (
            {"Admission": "token"},
            ["Admission=token needs TokenIssuer.", "Admission=token needs TokenAudience."],
        ),
        (TOKENS | {"TokenIssuer": ""}, ["Admission=token needs TokenIssuer."]),
        (TOKENS | {"TokenAudience": ""}, ["Admission=token needs TokenAudience."]),
    ],
)
def test_tokens_without_their_issuer_or_audience_are_refused_before_the_deployment_and_at_a_start(
    parameters: dict[str, str], sentences: list[str]
) -> None:
    assert failed_rules(**parameters) == sentences
    with pytest.raises(InvalidSetting):
        token_settings(environment(CONNECT, **parameters))


@pytest.mark.parametrize(
    ("parameters", "sentences"),
    [
        ({}, []),
        (TOKENS, ["AuthType=AWS_IAM needs Admission=open."]),
        ({"Admission": "ticket"}, ["AuthType=AWS_IAM needs Admission=open."]),
    ],
)
def test_connect_alone_can_be_left_to_iam_if_admission_is_open(
    parameters: dict[str, str], sentences: list[str]
) -> None:
    routes = resources("ApiGatewayV2::Route", AuthType="AWS_IAM", **parameters)

    assert source()["Parameters"]["AuthType"]["AllowedValues"] == ["NONE", "AWS_IAM"]
    assert failed_rules(AuthType="AWS_IAM", **parameters) == sentences
    assert {route["RouteKey"]: route.get("AuthorizationType") for route in routes.values()} == {
        "$connect": "AWS_IAM",
        "$disconnect": None,
    }


def test_api_gateway_lets_anybody_through_by_default() -> None:
    routes = resources("ApiGatewayV2::Route").values()

    assert {route.get("AuthorizationType", "NONE") for route in routes} == {"NONE"}
    assert resources("ApiGatewayV2::Authorizer") == {}


@pytest.mark.parametrize(("parameter", "index"), [("ClientIndex", BY_CLIENT), ("AccountIndex", BY_ACCOUNT)])
def test_the_send_function_may_query_an_index_only_if_there_is_one(
    parameter: str, index: dict[str, str]
) -> None:
    without, with_index = (
        permissions(resources("IAM::Role", **{parameter: there_is_one})["SendRole"])
        for there_is_one in ("false", "true")
    )

    assert [it for it in with_index if it not in without] == [("dynamodb:Query", index)]
    assert len(with_index) == len(without) + 1


def test_without_an_index_the_send_function_queries_nothing() -> None:
    role = resources("IAM::Role", ClientIndex="false", AccountIndex="false")["SendRole"]

    assert "dynamodb:Query" not in {action for action, _ in permissions(role)}


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
            {
                "TTL_HOURS": 24,
                "TRUSTED_PROXIES": "",
                "CLIENT_ATTRIBUTES": "",
                "UNSCOPED": "ignore",
                "ADMISSION": "open",
                "ALLOWED_ORIGINS": "",
                "TOKEN_ISSUER": "",
                "TOKEN_AUDIENCE": "",
                "TOKEN_ALGORITHM": "RS256",
                "TOKEN_TYPE": "access",
                "TOKEN_MAX_HOURS": 24,
                "CLIENTS_CLAIM": "",
                "ACCOUNTS_CLAIM": "",
                "REGIONS_CLAIM": "",
                "KEYS_TABLE": {"Fn::If": ["UsesTokens", {"Ref": "KeysTable"}, ""]},
                "TICKETS_TABLE": {"Fn::If": ["UsesTickets", {"Ref": "TicketsTable"}, ""]},
            },
        ),
        (DISCONNECT, 25, {}),
        (
            SWEEP,
            240,
            {"SWEEP_EVERY_MINUTES": 5, "SWEEP_SEGMENTS": 1, "SWEEP_RATE": 1000, "KEEP_ALIVE": "false"},
        ),
        (
            CHANGES,
            120,
            {
                "PRESENCE_TABLE": {"Ref": "PresenceTable"},
                "CONNECTIONS_PER_CLIENT": {"Fn::If": ["LimitsConnections", 0, ""]},
                "CATCH_UP_QUEUE": {
                    "Fn::If": ["KeepsHistory", {"Fn::GetAtt": ["CatchUpQueue", "QueueName"]}, ""]
                },
                "PRESENCE_BUS": "",
            },
        ),
        (PUBLISH, 60, {"PRESENCE_BUS": ""}),
        (
            KEYS,
            40,
            {
                "KEYS_TABLE": {"Ref": "KeysTable"},
                "TOKEN_ISSUER": "",
                "TOKEN_ALGORITHM": "RS256",
                "JWKS_URL": "",
            },
        ),
        (
            SEND,
            120,
            {
                "DELIVERIES_TABLE": {"Ref": "DeliveriesTable"},
                "MESSAGE_QUEUE": {"Fn::GetAtt": ["MessageQueue", "QueueName"]},
                "SEND_RATE": 5000,
                "UNSCOPED": "ignore",
                "CLIENT_INDEX": "true",
                "ACCOUNT_INDEX": "true",
                "HISTORY_TABLE": {"Fn::If": ["KeepsHistory", {"Ref": "HistoryTable"}, ""]},
                "HISTORY_MINUTES": 15,
            },
        ),
        (
            CATCH_UP,
            60,
            {
                "DELIVERIES_TABLE": {"Ref": "DeliveriesTable"},
                "HISTORY_TABLE": {"Ref": "HistoryTable"},
                "HISTORY_MINUTES": 15,
                "CATCH_UP_QUEUE": {"Fn::GetAtt": ["CatchUpQueue", "QueueName"]},
                "INDEX_LAG_SECONDS": 5,
                "UNSCOPED": "ignore",
            },
        ),
    ],
)
def test_a_function_has_only_these_properties(function: str, seconds: int, variables: dict[str, Any]) -> None:
    name, role, log_group = FUNCTIONS[function]
    properties = resources("Lambda::Function")[function]
    described = {key: properties.pop(key) for key in ("Code", "Description", "Tags")}
    puts_messages_back = {"RecursiveLoop": "Allow"} if function in {SEND, CATCH_UP} else {}

    assert all(described.values())
    assert properties == puts_messages_back | {
        "PackageType": "Image",
        "ImageConfig": {"Command": [f"app.entrypoints.{name}"]},
        "Architectures": ["x86_64"],
        "MemorySize": {SWEEP: 1769, SEND: 1769, KEYS: 256}.get(function, 512),
        "Timeout": seconds,
        "Role": {"Fn::GetAtt": [role, "Arn"]},
        "LoggingConfig": {
            "LogFormat": "JSON",
            "ApplicationLogLevel": "INFO",
            "SystemLogLevel": "WARN" if function in {CHANGES, PUBLISH} else "INFO",
            "LogGroup": {"Ref": log_group},
        },
        "Environment": {"Variables": {"CONNECTIONS_TABLE": {"Ref": "ConnectionsTable"}} | variables},
    }


def test_lambdas_own_records_have_one_level_for_the_streams_functions_and_one_for_the_others() -> None:
    functions = resources("Lambda::Function", SystemLogLevel="WARN", StreamsSystemLogLevel="INFO")
    levels = {name: it["LoggingConfig"]["SystemLogLevel"] for name, it in functions.items()}

    assert levels == {name: "INFO" if name in {CHANGES, PUBLISH} else "WARN" for name in FUNCTIONS}


@each_function
def test_a_functions_command_is_a_handler_that_loads_in_its_environment(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, _ = FUNCTIONS[function]
    [command] = resources("Lambda::Function")[function]["ImageConfig"]["Command"]
    module_name, _, handler_name = command.rpartition(".")
    nobody_listens = {"STORE": "memory", "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9"}
    of_tokens = TOKENS if function == KEYS else {}
    for variable, value in (environment(function, **of_tokens) | nobody_listens).items():
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


@pytest.mark.parametrize(
    ("parameters", "connect", "disconnect"),
    [
        ({}, {"Fn::GetAtt": [CONNECT, "Arn"]}, {"Fn::GetAtt": [DISCONNECT, "Arn"]}),
        (SNAPSHOTS, {"Ref": "ConnectAlias"}, {"Ref": "DisconnectAlias"}),
    ],
)
def test_a_route_calls_its_function(parameters: dict[str, str], connect: Any, disconnect: Any) -> None:
    assert called_by("$connect", **parameters) == connect
    assert called_by("$disconnect", **parameters) == disconnect


def called_by(route: str, **parameters: str) -> Any:
    """Return what API Gateway calls for *route*, and may call."""
    holds = conditions(**parameters)
    [target] = [r["Target"] for r in resources("ApiGatewayV2::Route").values() if r["RouteKey"] == route]
    integration = resources("ApiGatewayV2::Integration")[target["Fn::Join"][1][1]["Ref"]]
    permitted = [
        permission["FunctionName"]
        for permission in resources("Lambda::Permission").values()
        if permission["SourceArn"]["Fn::Sub"][0].endswith(f"/{route}")
    ]

    assert integration["IntegrationType"] == "AWS_PROXY"
    assert [integration["IntegrationUri"]["Fn::Sub"][1]["FunctionArn"]] == permitted
    condition, included, other = permitted[0]["Fn::If"]
    return included if holds[condition] else other


# ---- SnapStart


def test_without_snapstart_the_stack_has_no_version_and_no_alias() -> None:
    assert present() & OF_SNAPSHOTS == set()
    assert present(**SNAPSHOTS) - present() == OF_SNAPSHOTS
    assert allowed_to_all(**SNAPSHOTS) == allowed_to_all()


@each_version
def test_with_snapstart_each_release_is_a_version_of_a_changed_function(name: str, function: str) -> None:
    functions = resources("Lambda::Function", **SNAPSHOTS)
    plain = resources("Lambda::Function")[function]
    plain["Environment"]["Variables"]["RELEASE"] = SNAPSHOTS["Release"]

    assert functions[function] == plain | {"SnapStart": {"ApplyOn": "PublishedVersions"}}
    assert version(name, {})["FunctionName"] == {"Ref": function}
    assert resources("Lambda::Alias", **SNAPSHOTS)[f"{name}Alias"] == {
        "Name": "live",
        "FunctionName": {"Ref": function},
        "FunctionVersion": {"Fn::GetAtt": [f"{name}Version", "Version"]},
    }
    assert [name for name, it in functions.items() if "SnapStart" in it] == [CONNECT, DISCONNECT]


@each_version
@pytest.mark.parametrize("base", [{}, TOKENS], ids=["open", "tokens"])
def test_what_changes_a_function_and_nothing_else_is_a_new_version(
    name: str, function: str, base: dict[str, str]
) -> None:
    parameters = source()["Parameters"]
    others = {
        it: base | {it: other_value(parameters[it], base.get(it))} for it in parameters if it != "SnapStart"
    }

    def what_changes(of: Callable[[dict[str, str]], Any]) -> set[str]:
        before = of(base)
        return {it for it, other in others.items() if of(other) != before}

    changed = what_changes(partial(as_called, function))
    published = what_changes(partial(version, name))

    # Lambda publishes no version of a function that has not changed
    assert published == changed - NEED_A_RELEASE
    assert {"Release", "MemorySize", "Architecture"} <= published
    assert all(it in parameters["Release"]["Description"] for it in NEED_A_RELEASE)


def version(name: str, parameters: dict[str, str]) -> Any:
    """Return the version of the function *name*, as CloudFormation compares it with the former one."""
    return resources("Lambda::Version", **SNAPSHOTS | parameters)[f"{name}Version"]


def as_called(function: str, parameters: dict[str, str]) -> Any:
    """Return the configuration of *function* in a stack."""
    properties = resources("Lambda::Function", **SNAPSHOTS | parameters)[function]
    return properties | {"Environment": environment(function, **SNAPSHOTS | parameters)}


def other_value(parameter: dict[str, Any], value: str | None) -> str:
    """Return a value of *parameter* that is neither *value* nor, if that is ``None``, its default."""
    limits = (parameter[it] for it in ("MinValue", "MaxValue") if it in parameter)
    values = parameter.get("AllowedValues") or [*limits, "another", "one-more"]
    return next(str(it) for it in values if str(it) != str(value or parameter["Default"]))


@pytest.mark.parametrize("name", ["Connect", "Disconnect"])
def test_lambda_takes_the_longest_description_of_a_version(name: str) -> None:
    longest = {
        it: max(map(str, parameter.get("AllowedValues") or [parameter.get("MaxValue", "")]), key=len)
        for it, parameter in source()["Parameters"].items()
    }
    separator, parts = version(name, longest | {"Release": "r" * 64, "Tickets": "true"} | TOKENS)[
        "Description"
    ]["Fn::Join"]

    assert len(separator.join(map(str, parts))) <= 256  # Lambda's API reference, 'PublishVersion'


@pytest.mark.parametrize("name", ["Connect", "Disconnect"])
def test_the_former_version_stays_since_lambda_may_still_call_it(name: str) -> None:
    written = source()["Resources"][f"{name}Version"]

    assert (written["UpdateReplacePolicy"], written["DeletionPolicy"]) == ("Retain", "Delete")


def test_a_snapshot_without_a_release_is_refused_before_the_deployment() -> None:
    assert failed_rules(**SNAPSHOTS) == []
    assert failed_rules(SnapStart="true") == ["SnapStart=true needs Release."]


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
        deliveries_table="IncidentWebSocketConnectionsDeliveries" if function in {SEND, CATCH_UP} else "",
        message_queue="switchboard-messages" if function == SEND else "",
        history_table="IncidentWebSocketConnectionsHistory" if function in {SEND, CATCH_UP} else "",
        catch_up_queue="a-generated-name" if function in {CHANGES, CATCH_UP} else "",
        keys_table="a-generated-name" if function == KEYS else "",
    )


@each_function
def test_the_settings_read_every_variable_of_a_function(function: str) -> None:
    variables = RecordingEnviron(environment(function, **TOKENS))
    Settings.from_environ(variables)
    if function == CONNECT:
        token_settings(variables)
    if function == KEYS:
        for read in (token_issuer, token_algorithm, jwks_url):
            read(variables)

    assert set(variables) <= variables.names_read


@each_function
def test_the_table_name_reaches_the_settings(function: str) -> None:
    settings = settings_of(function, TableName="SecurityEventWebSocketConnections")

    assert settings.table == "SecurityEventWebSocketConnections"


def test_parameters_reach_the_settings_of_the_sweep() -> None:
    settings = settings_of(SWEEP, SweepMinutes="10", SweepSegments="4", SweepRate="2000")

    assert settings.sweep == SweepSettings(segments=4, every=timedelta(minutes=10), rate=2000)


def test_only_the_sweep_is_told_to_keep_connections_alive() -> None:
    told = {name for name in FUNCTIONS if "KEEP_ALIVE" in environment(name, KeepAlive="true")}

    assert told == {SWEEP}
    assert settings_of(SWEEP, KeepAlive="true").sweep == SweepSettings(keep_alive=True)


def test_keep_alive_is_refused_before_the_deployment_wherever_the_sweep_would_not_start() -> None:
    parameters = source()["Parameters"]
    minutes, segments = (
        range(parameters[name]["MinValue"], parameters[name]["MaxValue"] + 1)
        for name in ("SweepMinutes", "SweepSegments")
    )
    accepted = set()
    for chosen in product(minutes, segments):
        numbers = dict(zip(("SweepMinutes", "SweepSegments"), map(str, chosen), strict=True))
        sweep_settings = SweepSettings(every=timedelta(minutes=chosen[0]), segments=chosen[1])
        refusals = failed_rules(KeepAlive="true", **numbers)
        if sweep_settings.longest_wait <= KEPT_ALIVE_WITHIN:
            accepted.add(chosen)
            assert refusals == []
            assert settings_of(SWEEP, KeepAlive="true", **numbers).sweep.keep_alive
        else:
            assert refusals == ["KeepAlive=true needs SweepMinutes x SweepSegments to be 5 at most."]
        assert failed_rules(**numbers) == []

    assert accepted == {(2, 1), (3, 1), (4, 1), (5, 1), (2, 2)}
    assert "SweepMinutes x SweepSegments may be 5 at most" in parameters["KeepAlive"]["Description"]
    with pytest.raises(InvalidSetting, match="KEEP_ALIVE=true"):
        settings_of(SWEEP, KeepAlive="true", SweepMinutes="5", SweepSegments="2")


@pytest.mark.parametrize(("parameter", "setting"), [("0", None), ("1", 1), ("1000", 1000)])
def test_the_connections_per_client_reach_the_settings_of_the_changes_function(
    parameter: str, setting: int | None
) -> None:
    limits = source()["Parameters"]["ConnectionsPerClient"]

    assert (limits["Default"], limits["MinValue"], limits["MaxValue"]) == (0, 0, 1000)
    assert settings_of(CHANGES, ConnectionsPerClient=parameter).connections_per_client == setting


def test_parameters_reach_the_settings_of_admission() -> None:
    issuer = {"TokenIssuer": "https://idp.example.com/", "TokenAlgorithm": "ES256"}
    audience = {"TokenAudience": "switchboard, wall", "TokenType": "id", "TokenMaxHours": "2"}
    claims = {"ClientsClaim": "walls", "AccountsClaim": "custom:accounts", "RegionsClaim": "regions"}
    origins = {"AllowedOrigins": "https://app.example.com, https://*.example.org:8443"}
    chosen = {"Admission": "token", "Tickets": "true", **issuer, **audience, **claims, **origins}
    connects, fetches = (settings_of(function, **chosen) for function in (CONNECT, KEYS))
    connects_by = token_settings_of(CONNECT, **chosen)
    fetching = environment(KEYS, JwksUrl="https://idp.example.com/keys", **chosen)

    assert connects.admission_rule == "token_or_ticket"
    assert connects.allowed_origins == ("https://app.example.com", "https://*.example.org:8443")
    assert connects_by.algorithm == "ES256"
    assert connects_by.rules == {
        "issuer": "https://idp.example.com/",
        "audiences": ("switchboard", "wall"),
        "type": "id",
        "max_lifetime": timedelta(hours=2),
        "clients_claim": "walls",
        "accounts_claim": "custom:accounts",
        "regions_claim": "regions",
        "unscoped_sees_all": False,
    }
    assert (token_issuer(fetching), token_algorithm(fetching)) == ("https://idp.example.com/", "ES256")
    assert jwks_url(fetching) == "https://idp.example.com/keys"
    assert connects.keys_table == fetches.keys_table != ""


@pytest.mark.parametrize("limit", ["MinValue", "Default", "MaxValue"])
def test_the_settings_accept_the_limits_of_a_tokens_lifetime(limit: str) -> None:
    hours = source()["Parameters"]["TokenMaxHours"][limit]

    assert token_settings_of(CONNECT, TokenMaxHours=str(hours)).rules["max_lifetime"] == timedelta(
        hours=hours
    )


def test_the_default_settings_of_tokens_are_those_of_the_parameters() -> None:
    needed = {"TOKEN_ISSUER": TOKENS["TokenIssuer"], "TOKEN_AUDIENCE": TOKENS["TokenAudience"]}

    assert token_settings_of(CONNECT) == token_settings(needed)
    assert token_algorithm(environment(KEYS, **TOKENS)) == token_algorithm({})


@pytest.mark.parametrize("parameter", ["Admission", "TokenAlgorithm", "TokenType"])
def test_the_settings_accept_each_value_of_a_choice(parameter: str) -> None:
    for value in source()["Parameters"][parameter]["AllowedValues"]:
        chosen = TOKENS | {parameter: value}
        settings, of_tokens = settings_of(CONNECT, **chosen), token_settings_of(CONNECT, **chosen)

        assert value in {settings.admission, of_tokens.algorithm, of_tokens.rules["type"]}


ORIGINS = (
    [
        "https://app.example.com",
        "http://localhost:3000",
        "https://*.example.com:8443",
        "https://[::1]:80",
    ],
    [
        "*",
        "app.example.com",
        "https://app.example.com/",
        "https://app.example.com/wall",
        "https://*",
        "https://app.*.com",
        "https://*.*.example.com",
        "https://app.example.com:port",
        "https://app.example.com https://other.example.com",
        "wss://app.example.com",
        "null",
    ],
)
URLS = (
    ["https://idp.example.com", "https://idp.example.com:8443/realms/wall/", "https://a.example/?p=b_1"],
    [
        "idp.example.com",
        "http://idp.example.com",
        "https://",
        "https:///keys",
        "https://idp.example.com:port",
        "https://user@idp.example.com",
        "https://idp.example.com/with a space",
        "https://idp.example.com?p=b_1",
    ],
)


@pytest.mark.parametrize(
    ("parameter", "read", "accepted", "refused"),
    [
        ("AllowedOrigins", Settings.from_environ, [*ORIGINS[0], ", ".join(ORIGINS[0])], ORIGINS[1]),
        ("AllowedOrigins", Settings.from_environ, [""], [f"https://a.example,{it}" for it in ORIGINS[1]]),
        ("TokenIssuer", token_settings, *URLS),
        ("JwksUrl", jwks_url, ["", *URLS[0]], URLS[1]),
    ],
)
def test_the_template_and_the_settings_agree_on_what_is_valid(
    parameter: str, read: Callable[[Mapping[str, str]], object], accepted: list[str], refused: list[str]
) -> None:
    pattern = re.compile(source()["Parameters"][parameter]["AllowedPattern"])
    function = KEYS if parameter == "JwksUrl" else CONNECT
    variables = environment(function, **(TOKENS | {parameter: "the value"}))
    [name] = [name for name, value in variables.items() if value == "the value"]

    assert [value for value in accepted if not pattern.fullmatch(value)] == []
    assert [value for value in refused if pattern.fullmatch(value)] == []
    for value in accepted:
        read(variables | {name: value})
    for value in refused:
        with pytest.raises(InvalidSetting):
            read(variables | {name: value})


def test_parameters_reach_the_settings_of_the_send_function() -> None:
    settings = settings_of(
        SEND,
        TableName="SecurityEventWebSocketConnections",
        SendRate="100",
        Unscoped="include",
        ClientIndex="false",
        AccountIndex="false",
    )

    assert settings.deliveries_table == "SecurityEventWebSocketConnectionsDeliveries"
    assert settings.send_rate == 100
    assert settings.includes_unscoped
    assert (settings.has_client_index, settings.has_account_index) == (False, False)


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
        ("PresenceBus", ["", "default", "my.bus_2-b", "b" * 256], ["aws.partner/a.example/b", "b" * 257]),
        ("TrustedProxies", ["", "10.0.0.0/8", "10.0.0.0/8, 2001:db8::/32"], ["proxy.example.org"]),
        ("TokenAudience", ["", "switchboard", "https://a.example/api, 4f1c-2"], [" ", ",", "a,,b", "a b"]),
        ("AccountsClaim", ["", "custom:accounts", "https://example.com/accounts"], [" ", "accounts "]),
        (
            "ClientAttributes",
            ["", "fingerprint", "a,b,c,d,e,f,g,h", "regional,clientIds,sinceWhen"],
            ["a,b,c,d,e,f,g,h,i", "clientId", "fingerprint, region", "a,account,b", "a, since"],
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


def test_the_longest_table_name_leaves_room_for_the_names_of_the_other_tables() -> None:
    longest_name = 255  # DynamoDB's developer guide, 'Naming rules'
    deliveries, history = (
        text_of({"Ref": table}, TableName="t" * 245) for table in ("DeliveriesTable", "HistoryTable")
    )

    assert len(history) < len(deliveries) == longest_name


def test_a_live_connection_does_not_expire() -> None:
    shortest_lifetime = timedelta(hours=source()["Parameters"]["TtlHours"]["MinValue"])

    assert shortest_lifetime > MAX_CONNECTION_DURATION


def test_every_segment_is_swept_within_the_maximum_duration_of_a_connection() -> None:
    parameters = source()["Parameters"]
    every = timedelta(minutes=parameters["SweepMinutes"]["Default"])

    assert parameters["SweepSegments"]["MaxValue"] * every <= MAX_CONNECTION_DURATION


@pytest.mark.parametrize(
    ("schedule", "rate", "function", "event"),
    [
        (
            "SweepSchedule",
            {"Fn::Sub": "rate(${SweepMinutes} minutes)"},
            SWEEP,
            {"Input": '{"scheduledTime": "<aws.scheduler.scheduled-time>"}'},
        ),
        ("KeysSchedule", "rate(5 minutes)", KEYS, {}),
    ],
)
def test_a_schedule_has_no_end_and_that_of_the_sweep_passes_its_time(
    schedule: str, rate: Any, function: str, event: dict[str, str]
) -> None:
    schedules = resources("Scheduler::Schedule")
    description = schedules[schedule].pop("Description")

    assert schedules.keys() == {"SweepSchedule", "KeysSchedule"}
    assert description
    assert schedules[schedule] == {
        "ScheduleExpression": rate,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": event
        | {
            "Arn": {"Fn::GetAtt": [function, "Arn"]},
            "RoleArn": {"Fn::GetAtt": [f"{schedule}Role", "Arn"]},
            "RetryPolicy": {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 60},
        },
    }


def test_the_keys_are_fetched_as_often_as_handshakes_expect() -> None:
    schedule = resources("Scheduler::Schedule")["KeysSchedule"]

    assert schedule["ScheduleExpression"] == f"rate({REFRESH_EVERY // timedelta(minutes=1)} minutes)"


def test_the_keys_function_has_time_for_two_requests_to_the_issuer_and_one_slow_store_call() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[KEYS]["Timeout"])
    request: timedelta = inspect.signature(HttpsIssuer).parameters["timeout"].default

    assert 2 * request + LONGEST_STORE_CALL < timeout < REFRESH_EVERY


@pytest.mark.parametrize("function", [SWEEP, KEYS])
def test_what_failed_on_a_schedule_is_not_retried_and_what_is_throttled_waits_a_minute_at_most(
    function: str,
) -> None:
    configs = resources("Lambda::EventInvokeConfig")

    assert configs.keys() == {f"{SWEEP}EventInvokeConfig", f"{KEYS}EventInvokeConfig"}
    assert configs[f"{function}EventInvokeConfig"] == {
        "FunctionName": {"Ref": function},
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


def test_a_turn_in_a_sweep_comes_late_by_no_more_than_the_settings_assume() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[SWEEP]["Timeout"])
    idle_limit, precision = timedelta(minutes=10), timedelta(minutes=1)

    assert timeout - sweep.RESERVE + LONGEST_GATEWAY_CALL < LONGEST_SWEEP
    assert KEPT_ALIVE_WITHIN + precision <= idle_limit


def test_the_changes_function_has_time_for_more_than_one_change() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[CHANGES]["Timeout"])

    assert timeout > 2 * stream.RECORD_RESERVE


@pytest.mark.parametrize(
    ("schedule_role", "function"), [("SweepScheduleRole", SWEEP), ("KeysScheduleRole", KEYS)]
)
def test_only_this_accounts_scheduler_assumes_a_schedules_role_which_may_only_invoke_its_function(
    schedule_role: str, function: str
) -> None:
    role = resources("IAM::Role")[schedule_role]

    assert role.keys() == {"AssumeRolePolicyDocument", "Policies"}
    assert role["AssumeRolePolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "scheduler.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
        }
    ]
    assert permissions(role) == [("lambda:InvokeFunction", {"Fn::GetAtt": [function, "Arn"]})]


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ("ChangesMapping", {"FunctionName": {"Fn::GetAtt": [CHANGES, "Arn"]}, "EventSourceArn": STREAM}),
        (
            "PresenceMapping",
            {
                "FunctionName": {"Fn::GetAtt": [PUBLISH, "Arn"]},
                "EventSourceArn": PRESENCE_STREAM,
                "FilterCriteria": {
                    "Filters": [{"Pattern": '{"dynamodb": {"Keys": {"part": {"S": ["presence"]}}}}'}]
                },
            },
        ),
    ],
)
def test_a_stream_is_read_from_its_start_and_the_queue_gets_the_failed_records(
    mapping: str, expected: dict[str, Any]
) -> None:
    queue = resources("SQS::Queue")["FailedChangesQueue"]

    assert resources("Lambda::EventSourceMapping")[mapping] == expected | {
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 100,
        "ParallelizationFactor": 10,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        "MaximumRecordAgeInSeconds": 6 * 3600,
        "MaximumRetryAttempts": 10_000,
        "DestinationConfig": {"OnFailure": {"Destination": FAILED_CHANGES}},
    }
    assert queue == {"MessageRetentionPeriod": 14 * 24 * 3600, "SqsManagedSseEnabled": True}


def test_a_message_is_delivered_alone_and_a_parameter_limits_how_many_at_once() -> None:
    mappings = resources("Lambda::EventSourceMapping", SendConcurrency="7")
    parameter = source()["Parameters"]["SendConcurrency"]

    assert mappings.keys() == {"ChangesMapping", "PresenceMapping", "SendMapping", "CatchUpMapping"}
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

    assert queues.keys() == {
        "FailedChangesQueue",
        "MessageQueue",
        "DeadMessagesQueue",
        "CatchUpQueue",
        "DeadCatchUpsQueue",
    }
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


def test_the_sending_function_delivers_for_longer_than_it_waits_for_slow_calls() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[SEND]["Timeout"])

    assert timeout > 2 * send.RESERVE


def test_the_catching_up_function_has_time_for_a_whole_look() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[CATCH_UP]["Timeout"])

    assert timeout > catch_up.RESERVE + LONGEST_LOOK


def test_ten_clients_that_come_back_are_caught_up_at_once_by_each_of_ten_functions() -> None:
    mapping = resources("Lambda::EventSourceMapping")["CatchUpMapping"]

    assert mapping == {
        "FunctionName": {"Fn::GetAtt": [CATCH_UP, "Arn"]},
        "EventSourceArn": CATCH_UPS,
        "BatchSize": 10,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ScalingConfig": {"MaximumConcurrency": 10},
    }


def test_a_client_whose_catch_up_fails_five_times_is_put_into_a_queue_of_its_own() -> None:
    queues = resources("SQS::Queue")

    assert queues["CatchUpQueue"] == {
        "VisibilityTimeout": 70,
        "MessageRetentionPeriod": 2 * 3600,
        "SqsManagedSseEnabled": True,
        "RedrivePolicy": {
            "deadLetterTargetArn": {"Fn::GetAtt": ["DeadCatchUpsQueue", "Arn"]},
            "maxReceiveCount": 5,
        },
    }
    assert queues["DeadCatchUpsQueue"] == {
        "MessageRetentionPeriod": 24 * 3600,
        "SqsManagedSseEnabled": True,
    }


def test_a_catch_up_comes_again_after_the_function_and_is_kept_as_long_as_a_connection_can_last() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[CATCH_UP]["Timeout"])
    queue, dead = (resources("SQS::Queue")[name] for name in ("CatchUpQueue", "DeadCatchUpsQueue"))
    again, kept = (timedelta(seconds=queue[it]) for it in ("VisibilityTimeout", "MessageRetentionPeriod"))

    assert timeout < again
    assert queue["RedrivePolicy"]["maxReceiveCount"] * again < kept  # else SQS drops it before that
    assert kept == MAX_CONNECTION_DURATION
    assert kept < timedelta(seconds=dead["MessageRetentionPeriod"])  # counted from when it was sent


@pytest.mark.parametrize("mapping", ["ChangesMapping", "PresenceMapping"])
def test_a_failing_record_is_given_up_before_the_stream_drops_it(mapping: str) -> None:
    properties = resources("Lambda::EventSourceMapping")[mapping]
    age = timedelta(seconds=properties["MaximumRecordAgeInSeconds"])

    assert age < timedelta(hours=24)


@pytest.mark.parametrize(
    ("function", "mapping", "milliseconds"),
    [(CHANGES, "ChangesMapping", 500), (PUBLISH, "PresenceMapping", 250)],
)
def test_a_batch_of_records_has_time_for_one_slow_call(
    function: str, mapping: str, milliseconds: int
) -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[function]["Timeout"])
    batch_size = resources("Lambda::EventSourceMapping")[mapping]["BatchSize"]
    normal = batch_size * timedelta(milliseconds=milliseconds)

    assert timeout > normal + LONGEST_STORE_CALL


def test_the_tables_stream_has_the_new_and_the_old_image() -> None:
    table = resources("DynamoDB::Table")["ConnectionsTable"]

    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


@pytest.mark.parametrize(
    ("parameters", "indexes", "indexed"),
    [
        ({"AccountIndex": "false"}, ["byClient"], {"indexedClient"}),
        ({"ClientIndex": "false"}, ["byAccount"], {"indexedAccount", "indexedRegion"}),
        ({"ClientIndex": "false", "AccountIndex": "false"}, [], set()),
    ],
)
def test_the_indexes_can_be_created_one_per_deployment(
    parameters: dict[str, str], indexes: list[str], indexed: set[str]
) -> None:
    table = resources("DynamoDB::Table", **parameters)["ConnectionsTable"]

    assert [index["IndexName"] for index in table.get("GlobalSecondaryIndexes", [])] == indexes
    attributes = {definition["AttributeName"] for definition in table["AttributeDefinitions"]}
    assert attributes == {"connectionId"} | indexed
    assert table.get("GlobalSecondaryIndexes") != []  # DynamoDB refuses an empty list


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
    [
        ("TicketsTable", {}),
        ("DeliveriesTable", {"TableName": {"Fn::Sub": "${TableName}Deliveries"}}),
    ],
)
def test_tickets_have_a_generated_name_and_the_deliveries_have_the_same_in_every_region(
    table: str, name: dict[str, Any]
) -> None:
    assert resources("DynamoDB::Table")[table] == name | {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
        "SSESpecification": {"SSEEnabled": True},
    }


def test_presence_has_a_stream_and_a_generated_name() -> None:
    assert resources("DynamoDB::Table")["PresenceTable"] == {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "part", "AttributeType": "S"},
        ],
        "KeySchema": [
            {"AttributeName": "id", "KeyType": "HASH"},
            {"AttributeName": "part", "KeyType": "RANGE"},
        ],
        "StreamSpecification": {"StreamViewType": "NEW_AND_OLD_IMAGES"},
        "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
        "SSESpecification": {"SSEEnabled": True},
    }


def test_the_history_has_its_messages_by_scope_and_in_order_and_forgets_them() -> None:
    assert resources("DynamoDB::Table")["HistoryTable"] == {
        "TableName": {"Fn::Sub": "${TableName}History"},
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": "scope", "AttributeType": "S"},
            {"AttributeName": "position", "AttributeType": "S"},
        ],
        "KeySchema": [
            {"AttributeName": "scope", "KeyType": "HASH"},
            {"AttributeName": "position", "KeyType": "RANGE"},
        ],
        "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
        "SSESpecification": {"SSEEnabled": True},
    }


def test_the_keys_table_has_one_item_per_issuer_and_none_expires() -> None:
    assert resources("DynamoDB::Table")["KeysTable"] == {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "issuer", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "issuer", "KeyType": "HASH"}],
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


@pytest.mark.parametrize("addresses", ["ipv4", "dualstack"])
def test_clients_connect_by_ipv4_alone_unless_a_parameter_says_otherwise(addresses: str) -> None:
    api = transformed(IpAddressType=addresses)["Resources"]["WebSocketApi"]["Properties"]

    assert transformed()["Resources"]["WebSocketApi"]["Properties"] == api | {"IpAddressType": "ipv4"}
    assert api["IpAddressType"] == addresses


@pytest.mark.parametrize("resource", ["ConnectionsTable", "ApiGatewayAccount", "ApiGatewayLogRole"])
def test_shared_resources_outlive_the_stack(resource: str) -> None:
    retained = transformed()["Resources"][resource]

    assert retained["DeletionPolicy"] == retained["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize(
    "resource",
    [
        "PresenceTable",
        "DeliveriesTable",
        "HistoryTable",
        "KeysTable",
        "TicketsTable",
        "FailedChangesQueue",
        "MessageQueue",
        "DeadMessagesQueue",
        "CatchUpQueue",
        "DeadCatchUpsQueue",
        *(log for _, _, log in FUNCTIONS.values()),
        "AccessLogGroup",
    ],
)
def test_private_resources_are_deleted_with_the_stack(resource: str) -> None:
    deleted = transformed()["Resources"][resource]

    assert deleted["DeletionPolicy"] == deleted["UpdateReplacePolicy"] == "Delete"


PUBLISHED_IN = {
    "connection.ended": "SweepLogGroup",
    "presence.joined": "PresenceLogGroup",
    "presence.left": "PresenceLogGroup",
}


def test_every_record_is_counted_in_each_log_group_that_it_is_written_to() -> None:
    written = {
        *((event, log) for event in event_names(routes) for log in ("ConnectLogGroup", "DisconnectLogGroup")),
        *((event, "SweepLogGroup") for event in event_names(sweep)),
        *((event, log) for event in event_names(records) for log in ("ChangesLogGroup", "PresenceLogGroup")),
        *((event, "SendLogGroup") for event in event_names(send)),
        *((event, "CatchUpLogGroup") for event in event_names(catch_up)),
        *((event, "KeysLogGroup") for event in event_names(keys)),
        *((event, PUBLISHED_IN.get(event, "ChangesLogGroup")) for event in event_names(events)),
    }
    other_route = {
        ("handshake.denied", "DisconnectLogGroup"),
        ("keys.unavailable", "DisconnectLogGroup"),
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
        event, *others = events_in(metric_filter["FilterPattern"])
        of_one_event = f'{{ $.event = "{event}"{EXTRA_CONDITIONS.get(name, "")} }}'

        assert (name, metric_filter["FilterPattern"]) in {(name, of_one_event), GAPS}
        assert bool(others) is (name == "GapsFilter")
        # CloudWatch Logs refuses a default beside dimensions
        by_reason = {"Dimensions": [{"Key": "Reason", "Value": "$.reason"}]}
        beside = by_reason if name == "HandshakesDeniedByReasonFilter" else {"DefaultValue": 0}
        assert details == beside | {
            "MetricNamespace": NAMESPACE,
            "MetricValue": "1",
            "Unit": "Count",
        }, name


RECORDS: dict[str, tuple[ModuleType, str, Iterable[str]]] = {  # who writes them, where, and their outcomes
    "sweep": (sweep, "SweepLogGroup", Outcome),
    "delivery": (send, "SendLogGroup", delivery.Outcome),
    "catch_up": (catch_up, "CatchUpLogGroup", ()),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_filter_takes_its_number_from_a_field_of_the_record(name: str) -> None:
    metric_filter = resources("Logs::MetricFilter")[name]
    metric, field, pattern = FIGURES[name]
    module, log_group, outcomes = RECORDS[events_in(pattern)[0].partition(".")[0]]
    handler = Path(str(module.__file__)).read_text(encoding="utf-8")
    written = set(re.findall(r'"(\w+)"(?::|] = )', handler)) | set(map(str, outcomes))
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

    assert metric_filter["LogGroupName"] == {"Ref": log_group}
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


def test_keys_that_are_not_fetched_raise_an_alarm_long_before_they_are_refused() -> None:
    alarm = resources("CloudWatch::Alarm")["KeysStaleAlarm"]
    period = timedelta(seconds=alarm["Period"])

    assert period == REFRESH_EVERY  # one run
    assert 2 * alarm["EvaluationPeriods"] * period <= GOOD_FOR


@pytest.mark.parametrize("stage", ["Changes", "Presence"])
def test_late_records_raise_an_alarm_before_they_are_given_up(stage: str) -> None:
    late = resources("CloudWatch::Alarm")[f"{stage}LateAlarm"]
    mapping = resources("Lambda::EventSourceMapping")[f"{stage}Mapping"]
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


def test_a_second_look_raises_no_alarm_on_late_catch_ups_and_a_client_that_waits_too_long_does() -> None:
    late = resources("CloudWatch::Alarm")["CatchUpsLateAlarm"]
    queue = resources("SQS::Queue")["CatchUpQueue"]
    period, threshold = (timedelta(seconds=late[name]) for name in ("Period", "Threshold"))
    delay = timedelta(seconds=source()["Parameters"]["IndexLagSeconds"]["MaxValue"])
    timeout = timedelta(seconds=resources("Lambda::Function")[CATCH_UP]["Timeout"])
    longest = delay + timeout - catch_up.RESERVE  # then what is left is a new request
    attempts = queue["RedrivePolicy"]["maxReceiveCount"] * timedelta(seconds=queue["VisibilityTimeout"])

    assert delay < threshold
    assert longest < threshold + (late["EvaluationPeriods"] - 1) * period
    assert threshold + late["EvaluationPeriods"] * period < attempts  # before it is given up


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


def expressions() -> dict[str, str]:
    """Return the expressions of the dashboard by their ids."""
    return {
        metric[0]["id"]: metric[0]["expression"]
        for widget in dashboard()
        for metric in widget["properties"]["metrics"]
        if isinstance(metric[0], dict)
    }


def test_the_dashboard_shows_denied_handshakes_by_each_reason() -> None:
    schema = '{"Switchboard/${AWS::StackName}",Reason} MetricName="HandshakesDeniedByReason"'

    assert expressions()["denied"] == f"SEARCH('{schema}', 'Sum', 60)"


def test_the_dashboard_shows_open_connections_as_the_sum_of_each_segments_last_count() -> None:
    schema = '{"Switchboard/${AWS::StackName}",Segment,Segments} MetricName="OpenConnections"'
    current = 'Segments="${SweepSegments}"'  # other numbers of segments have other sizes

    assert expressions().keys() == {"open", "denied"}
    assert expressions()["open"] == f"SUM(FILL(SEARCH('{schema} {current}', 'Maximum', 300), REPEAT))"


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

    of_expressions = {"OpenConnections", "HandshakesDeniedByReason"}
    assert {metric for _, metric in metrics()} - shown == of_expressions


@pytest.mark.parametrize("parameters", [{}, TOKENS, {"HistoryMinutes": "0"}])
def test_without_a_dashboard_there_are_the_metrics_that_alarms_read_and_no_others(
    parameters: dict[str, str],
) -> None:
    there, there_without = present(**parameters), present(**parameters, CreateDashboard="false")
    filters, alarms = resources("Logs::MetricFilter"), resources("CloudWatch::Alarm")
    read = {
        metric["MetricName"]
        for name, alarm in alarms.items()
        if name in there
        for metric in metrics_of(alarm)
        if metric["Namespace"] == NAMESPACE
    }
    left_out = there - there_without
    kept = {filters[name]["MetricTransformations"][0]["MetricName"] for name in there_without & set(filters)}

    assert kept == read
    assert left_out - set(filters) == {"Dashboard"}


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
        assert alarm["AlarmActions"] == [topic], name


def test_every_log_group_has_a_retention_period() -> None:
    groups = resources("Logs::LogGroup", LogRetentionDays="7")

    assert {name: group["RetentionInDays"] for name, group in groups.items()} == {
        "AccessLogGroup": "7",
        "ConnectLogGroup": "7",
        "DisconnectLogGroup": "7",
        "SweepLogGroup": "7",
        "ChangesLogGroup": "7",
        "PresenceLogGroup": "7",
        "SendLogGroup": "7",
        "CatchUpLogGroup": "7",
        "KeysLogGroup": "7",
    }


def test_the_stage_is_throttled() -> None:
    [stage] = resources("ApiGatewayV2::Stage", ThrottlingRateLimit="50", ThrottlingBurstLimit="20").values()

    assert stage["DefaultRouteSettings"] == {
        "DetailedMetricsEnabled": "false",
        "ThrottlingRateLimit": "50",
        "ThrottlingBurstLimit": "20",
    }
    assert stage["RouteSettings"].keys() == {"$disconnect"}


@pytest.mark.parametrize("wanted", ["true", "false"])
def test_each_route_has_metrics_of_its_own_if_they_are_wanted(wanted: str) -> None:
    [stage] = resources("ApiGatewayV2::Stage", RouteMetrics=wanted).values()

    assert stage["DefaultRouteSettings"]["DetailedMetricsEnabled"] == wanted
    assert stage["RouteSettings"]["$disconnect"]["DetailedMetricsEnabled"] == wanted


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
    described = source()["Parameters"][parameter]
    text = "4242" if described["Type"] == "Number" else "a-value-of-its-own"
    others = [it for it in described.get("AllowedValues", [text]) if it != described["Default"]]
    value = str(others[0])
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
        if resource["Type"] != "AWS::Lambda::Alias"  # its name belongs to its function
        if key in {"Name", "TableName", "RoleName", "AlarmName", "FilterName", "QueueName", "DashboardName"}
        or (key == "FunctionName" and resource["Type"] == "AWS::Serverless::Function")
        or (key == "LogGroupName" and resource["Type"] == "AWS::Logs::LogGroup")
    }

    assert {name for key, name in named if key == "TableName"} == {
        '{"Ref": "TableName"}',
        '{"Fn::Sub": "${TableName}Deliveries"}',
        '{"Fn::Sub": "${TableName}History"}',
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
    assert outputs["PresenceFunctionName"] == {"Ref": PUBLISH}
    assert outputs["PresenceTableName"] == {"Ref": "PresenceTable"}
    assert outputs["FailedChangesQueueUrl"] == {"Ref": "FailedChangesQueue"}
    assert outputs["SendFunctionName"] == {"Ref": SEND}
    assert outputs["MessageQueueName"] == {"Fn::GetAtt": ["MessageQueue", "QueueName"]}
    assert outputs["MessageQueueUrl"] == {"Ref": "MessageQueue"}
    assert outputs["MessageQueueArn"] == MESSAGES
    assert outputs["DeadMessagesQueueUrl"] == {"Ref": "DeadMessagesQueue"}
    assert outputs["DeliveriesTableName"] == {"Ref": "DeliveriesTable"}
    assert outputs["CatchUpFunctionName"] == {"Ref": CATCH_UP}
    assert outputs["HistoryTableName"] == {"Ref": "HistoryTable"}
    assert outputs["DashboardName"] == {"Ref": "Dashboard"}
    assert outputs["KeysTableName"] == {"Ref": "KeysTable"}
    assert outputs["KeysFunctionName"] == {"Ref": KEYS}
    assert outputs["TicketsTableName"] == {"Ref": "TicketsTable"}


def test_an_output_of_a_resource_has_its_condition() -> None:
    outputs, written = source()["Outputs"], source()["Resources"]
    named = {name: output["Value"].get("Ref") for name, output in outputs.items()}

    assert {name: output["Condition"] for name, output in outputs.items() if "Condition" in output} == {
        name: written[resource]["Condition"]
        for name, resource in named.items()
        if "Condition" in written.get(resource, {})
    }


def test_the_documents_have_every_setting_record_and_alarm_of_the_template() -> None:
    rows = [line.split("|")[1] for line in documented("settings", "operating") if line.startswith("|")]
    named = {name for first_column in rows for name in re.findall(r"`([^`]+)`", first_column)}
    variables = {variable for function in FUNCTIONS for variable in environment(function)}
    alarms = {alarm.removesuffix("Alarm") for alarm in ALARMS}

    assert variables | alarms | {event for event, _ in counted_events()} <= named


def test_the_documents_have_every_reason_of_a_denied_handshake() -> None:
    [row] = [line for line in documented("operating") if line.startswith("| `handshake.denied` |")]

    assert set(REASONS) <= set(re.findall(r"`([^`]+)`", row))


def documented(*pages: str) -> list[str]:
    """Return the lines of those pages of infra/docs."""
    folder = PATH.parent / "docs"
    return [line for page in pages for line in (folder / f"{page}.md").read_text("utf-8").splitlines()]
