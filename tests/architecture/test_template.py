"""What infra/template.yaml promises, read from the CloudFormation that the SAM transform makes of it."""

import ast
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from app.domain.upkeep import LONGEST_CONNECTION
from app.entrypoints import changes, routes, sweeping
from app.settings import LONGEST_STORE_CALL, InvalidSetting, Settings, SweepSettings
from tests.template import PATH, source, transformed

API_GATEWAY_GIVES_UP = timedelta(seconds=29)

CONNECT, DISCONNECT = "ConnectFunction", "DisconnectFunction"
SWEEP, CHANGES = "SweepFunction", "ChangesFunction"
FUNCTIONS = {  # each with its callable, its role and its log
    CONNECT: ("connect", "ConnectRole", "ConnectLogGroup"),
    DISCONNECT: ("disconnect", "DisconnectRole", "DisconnectLogGroup"),
    SWEEP: ("sweep", "SweepRole", "SweepLogGroup"),
    CHANGES: ("on_change", "ChangesRole", "ChangesLogGroup"),
}
each_function = pytest.mark.parametrize("function", FUNCTIONS)
each_route_function = pytest.mark.parametrize("function", [CONNECT, DISCONNECT])

CONNECTIONS = {"Fn::GetAtt": ["ConnectionsTable", "Arn"]}
STREAM = {"Fn::GetAtt": ["ConnectionsTable", "StreamArn"]}
PRESENCE = {"Fn::GetAtt": ["PresenceTable", "Arn"]}

AWS_METRICS = {
    "AWS/Lambda": {
        "Errors",
        "Throttles",
        "Duration",
        "Invocations",
        "ConcurrentExecutions",
        "IteratorAge",  # of functions that a stream calls
    },
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible"},
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

# AWS's developer guide, 'Configure logging for WebSocket APIs': of its variables, those that carry nothing in
# which a client could send a token. Left out on purpose: authorizer.*, identity.apiKey, identity.userAgent (a
# header) and the texts of errors.
HARMLESS = {
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

# Filters whose metric is a figure of the sweep's record: the metric, the field that it is, the pattern.
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
}

# What else a filter asks for, beside its event.
FURTHER = {
    "ConnectionsOpenedFilter": " && $.repeated IS FALSE",
    "SweepsFinishedFilter": " && $.dryRun IS FALSE",
    "SweepsUnfinishedFilter": " && $.dryRun IS FALSE",
}

OURS = {"Fn::Sub": "Switchboard/${AWS::StackName}"}


def sum_of_ours(metric: str) -> dict[str, Any]:
    """A quarter of an hour's sum of one of our own metrics, as an alarm's expression takes it."""
    return {
        "MetricStat": {
            "Metric": {"Namespace": OURS, "MetricName": metric},
            "Period": 900,
            "Stat": "Sum",
        },
        "ReturnData": False,
    }


def one_fault(namespace: Any, metric: str, function: str = "") -> dict[str, Any]:
    """An alarm that a single fault raises, and silence doesn't."""
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


# All of each alarm but its text and its topic.
ALARMS: dict[str, dict[str, Any]] = {
    "ConnectErrorsAlarm": one_fault("AWS/Lambda", "Errors", CONNECT),
    "DisconnectErrorsAlarm": one_fault("AWS/Lambda", "Errors", DISCONNECT),
    "SweepErrorsAlarm": one_fault("AWS/Lambda", "Errors", SWEEP),
    "ChangesErrorsAlarm": one_fault("AWS/Lambda", "Errors", CHANGES),
    "ConnectThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", CONNECT),
    "DisconnectThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", DISCONNECT),
    "SweepThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", SWEEP),
    "ChangesThrottlesAlarm": one_fault("AWS/Lambda", "Throttles", CHANGES),
    "StoreUnavailableAlarm": one_fault(OURS, "StoreUnavailable"),
    "BugsAlarm": one_fault(OURS, "Bugs"),
    "SweepUnfinishedAlarm": one_fault(OURS, "SweepsUnfinished"),
    "SweepForbiddenAlarm": one_fault(OURS, "SweepQuestionsForbidden"),
    "ConnectionsExpiredAlarm": one_fault(OURS, "ConnectionsExpired"),
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
        "TreatMissingData": "breaching",  # what Lambda does not run has no metric
    },
    "SweepQuestionsUnansweredAlarm": {
        "Metrics": [
            {"Id": "unanswered", **sum_of_ours("SweepQuestionsUnanswered")},
            {"Id": "asked", **sum_of_ours("SweepQuestions")},
            {
                "Id": "share",
                "Label": "questions unanswered, %",
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
    "ChangesLostAlarm": {
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateNumberOfMessagesVisible",
        "Dimensions": [
            {"Name": "QueueName", "Value": {"Fn::GetAtt": ["FailedChangesQueue", "QueueName"]}},
        ],
        "Statistic": "Maximum",
        "Period": 300,
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
    },
}

# Of each widget: its statistic, its period in seconds, and what its lines are, by their labels. A metric of
# AWS's has what it is of behind it; a line of another statistic or on the right axis says so.
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
            "questions": "SweepQuestions, right",
            "unanswered": "SweepQuestionsUnanswered, right",
            "forbidden": "SweepQuestionsForbidden, right",
            "longest, ms": "Duration SweepFunction, Maximum, right",
        },
    ),
    "Visits per minute": (
        "Sum",
        60,
        {
            "joined": "PresenceJoined",
            "left": "PresenceLeft",
            "duplicates replaced": "ConnectionsReplaced",
            "duplicates not replaced": "ConnectionsNotReplaced",
            "dead rows brought back, removed": "ConnectionsRevived",
        },
    ),
    "Following the changes": (
        "Sum",
        60,
        {
            "behind, ms": "IteratorAge ChangesFunction, Maximum, right",
            "failed": "Errors ChangesFunction",
            "bugs of any function": "Bugs",
            "given up": "ApproximateNumberOfMessagesVisible FailedChangesQueue.QueueName, Maximum",
        },
    ),
}


class Asked(Mapping[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.asked_for: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked_for.add(name)
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def resources(kind: str, **parameters: str) -> dict[str, Any]:
    """The properties of every resource of the type AWS::*kind*, by logical name."""
    return {
        name: resource["Properties"]
        for name, resource in transformed(**parameters)["Resources"].items()
        if resource["Type"] == f"AWS::{kind}"
    }


def permissions(role: dict[str, Any]) -> list[tuple[str, Any]]:
    """Every action that *role* allows, with the resource that it is allowed on."""
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
    """What *function* finds in its environment: the template's variables, and Lambda's own for the region."""
    variables = resources("Lambda::Function", **parameters)[function]["Environment"]["Variables"]
    tables = resources("DynamoDB::Table", **parameters)
    known = {
        name: tables[value["Ref"]].get("TableName", "a-generated-name")
        if isinstance(value, dict)
        else str(value)
        for name, value in variables.items()
    }
    return known | {"AWS_REGION": "eu-central-1"}


def settings_of(function: str, **parameters: str) -> Settings:
    return Settings.from_environ(environment(function, **parameters))


def records(module: ModuleType) -> set[str]:
    """The event names that *module* writes into its log records: what in it looks like one."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {text for text in texts if isinstance(text, str) and re.fullmatch(r"[a-z]+\.[a-z_]+|bug", text)}


def events_in(pattern: str) -> list[str]:
    """The event names that a filter's *pattern* looks for."""
    return re.findall(r'\$\.event = "([^"]+)"', pattern)


def counted() -> set[tuple[str, str]]:
    """The event names that metric filters look for, each with the log group that they look in."""
    return {
        (event, metric_filter["LogGroupName"]["Ref"])
        for metric_filter in resources("Logs::MetricFilter").values()
        for event in events_in(metric_filter["FilterPattern"])
    }


def metrics() -> set[tuple[str, str]]:
    """The metrics that the filters make, each with its namespace."""
    return {
        (json.dumps(transformation["MetricNamespace"]), transformation["MetricName"])
        for metric_filter in resources("Logs::MetricFilter").values()
        for transformation in metric_filter["MetricTransformations"]
    }


def connections_api(method: str) -> dict[str, str]:
    """The resource of *method* of the ``@connections`` API, on this API's stage alone."""
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
    ],
)
def test_a_function_may_do_what_it_does_and_write_its_own_log(
    function: str, allowed: list[tuple[str, Any]]
) -> None:
    _, role, log_group = FUNCTIONS[function]
    own_log = [
        (f"logs:{it}", {"Fn::GetAtt": [log_group, "Arn"]}) for it in ("CreateLogStream", "PutLogEvents")
    ]

    assert resources("Lambda::Function")[function]["Role"] == {"Fn::GetAtt": [role, "Arn"]}
    assert sorted(permissions(resources("IAM::Role")[role]), key=repr) == sorted(allowed + own_log, key=repr)


def test_the_changes_function_may_close_connections_only_where_it_replaces_duplicates() -> None:
    keeps, replaces = (
        permissions(resources("IAM::Role", Duplicates=duplicates)["ChangesRole"])
        for duplicates in ("keep", "replace")
    )

    assert [it for it in replaces if it not in keeps] == [
        ("execute-api:ManageConnections", connections_api("DELETE"))
    ]
    assert len(replaces) == len(keeps) + 1


@each_function
def test_only_lambda_takes_a_functions_role_and_nothing_else_widens_it(function: str) -> None:
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
    as_written = [source()["Resources"][function] for function in FUNCTIONS]
    builds = [function["Metadata"] for function in as_written]
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
        (CONNECT, 25, {"TTL_HOURS": 24, "TRUSTED_PROXIES": "", "CLIENT_ATTRIBUTES": ""}),
        (DISCONNECT, 25, {}),
        (SWEEP, 240, {"SWEEP_EVERY_MINUTES": 5, "SWEEP_SEGMENTS": 1, "SWEEP_RATE": 1000}),
        (CHANGES, 120, {"PRESENCE_TABLE": {"Ref": "PresenceTable"}, "DUPLICATES": "keep"}),
    ],
)
def test_nothing_else_shapes_a_function(function: str, seconds: int, variables: dict[str, Any]) -> None:
    name, role, log_group = FUNCTIONS[function]
    properties = resources("Lambda::Function")[function]
    described = {key: properties.pop(key) for key in ("Code", "Description", "Tags")}

    assert all(described.values())
    assert properties == {
        "PackageType": "Image",
        "ImageConfig": {"Command": [f"app.entrypoints.aws_lambda.{name}"]},
        "Architectures": ["x86_64"],
        "MemorySize": 1769 if function == SWEEP else 512,
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
def test_a_functions_command_names_a_callable_that_starts_with_its_environment(
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
    module = importlib.util.module_from_spec(spec)  # not in sys.modules: what others import stays as it is
    spec.loader.exec_module(module)

    assert handler_name == name
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
def test_a_function_outlasts_its_store_call_and_ends_before_the_gateway_gives_up(function: str) -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[function]["Timeout"])
    integrations = resources("ApiGatewayV2::Integration").values()

    assert LONGEST_STORE_CALL < timeout < API_GATEWAY_GIVES_UP
    for integration in integrations:
        assert timeout < timedelta(milliseconds=integration["TimeoutInMillis"]) <= API_GATEWAY_GIVES_UP


@each_function
def test_a_functions_environment_makes_settings_which_are_the_defaults(function: str) -> None:
    presence = "a-generated-name" if function == CHANGES else ""

    assert settings_of(function) == Settings(
        table="IncidentWebSocketConnections", region="eu-central-1", presence_table=presence
    )


@each_function
def test_every_variable_that_is_set_is_one_that_the_settings_read(function: str) -> None:
    variables = Asked(environment(function))
    Settings.from_environ(variables)

    assert set(variables) <= variables.asked_for


@each_function
def test_another_stream_is_another_table(function: str) -> None:
    settings = settings_of(function, TableName="SecurityEventWebSocketConnections")

    assert settings.table == "SecurityEventWebSocketConnections"


def test_parameters_reach_the_settings_of_the_sweep() -> None:
    settings = settings_of(SWEEP, SweepMinutes="10", SweepSegments="4", SweepRate="2000")

    assert settings.sweep == SweepSettings(segments=4, every=timedelta(minutes=10), rate=2000)


@pytest.mark.parametrize(("duplicates", "replaced"), [("keep", False), ("replace", True)])
def test_what_becomes_of_duplicates_reaches_the_settings_of_the_changes_function(
    duplicates: str, *, replaced: bool
) -> None:
    assert settings_of(CHANGES, Duplicates=duplicates).replaces_duplicates is replaced


@pytest.mark.parametrize(
    ("minutes", "segments", "rate"),
    [
        ("MinValue", "MinValue", "MinValue"),
        ("MaxValue", "MinValue", "MaxValue"),
        ("Default", "MaxValue", "Default"),
    ],
)
def test_the_sweeps_settings_take_what_its_parameters_do(minutes: str, segments: str, rate: str) -> None:
    parameters = source()["Parameters"]
    every, of = parameters["SweepMinutes"][minutes], parameters["SweepSegments"][segments]
    per_second = parameters["SweepRate"][rate]
    settings = settings_of(SWEEP, SweepMinutes=str(every), SweepSegments=str(of), SweepRate=str(per_second))

    assert settings.sweep == SweepSettings(segments=of, every=timedelta(minutes=every), rate=per_second)


def test_segments_that_do_not_come_round_within_2_hours_are_refused_as_the_parameters_say() -> None:
    parameters = source()["Parameters"]
    longest = int(LONGEST_CONNECTION / timedelta(minutes=30))
    settings = settings_of(SWEEP, SweepMinutes="30", SweepSegments=str(longest))

    assert settings.sweep.segments * settings.sweep.every == LONGEST_CONNECTION
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
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    assert settings.attribute_names == ("fingerprint", "appVersion")


@pytest.mark.parametrize(
    ("parameter", "accepted", "refused"),
    [
        ("TableName", ["IncidentWebSocketConnections", "a.b-c_1"], ["", "ab", "a/b"]),
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
def test_a_wrong_parameter_is_refused_before_anything_is_deployed(
    parameter: str, accepted: list[str], refused: list[str]
) -> None:
    pattern = re.compile(source()["Parameters"][parameter]["AllowedPattern"])  # CloudFormation anchors it

    assert [value for value in accepted if not pattern.fullmatch(value)] == []
    assert [value for value in refused if pattern.fullmatch(value)] == []


def test_a_live_connection_does_not_expire() -> None:
    shortest_lifetime = timedelta(hours=source()["Parameters"]["TtlHours"]["MinValue"])

    assert shortest_lifetime > LONGEST_CONNECTION


def test_every_segment_is_swept_within_the_life_of_a_connection() -> None:
    parameters = source()["Parameters"]
    every = timedelta(minutes=parameters["SweepMinutes"]["Default"])

    assert parameters["SweepSegments"]["MaxValue"] * every <= LONGEST_CONNECTION


def test_the_schedule_starts_a_sweep_with_its_time_and_nothing_stops_it() -> None:
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


def test_a_sweep_that_failed_or_found_no_room_is_left_out() -> None:
    [config] = resources("Lambda::EventInvokeConfig").values()

    assert config == {
        "FunctionName": {"Ref": SWEEP},
        "Qualifier": "$LATEST",
        "MaximumRetryAttempts": 0,
        "MaximumEventAgeInSeconds": 60,
        "DestinationConfig": {},
    }


def test_a_schedule_needs_more_than_a_minute() -> None:
    assert source()["Parameters"]["SweepMinutes"]["MinValue"] > 1  # EventBridge Scheduler: 'rate(1 minute)'


def test_a_sweep_has_time_for_its_last_question_and_ends_before_the_next_begins() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[SWEEP]["Timeout"])
    every = timedelta(minutes=source()["Parameters"]["SweepMinutes"]["Default"])

    assert 2 * sweeping.RESERVE < timeout < every


def test_the_changes_function_has_time_for_more_than_one_change() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[CHANGES]["Timeout"])

    assert timeout > 2 * changes.RESERVE


def test_only_the_scheduler_of_this_account_takes_its_role_and_may_start_the_sweep_alone() -> None:
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


def test_the_tables_changes_are_followed_from_the_first_and_none_is_lost_without_a_word() -> None:
    [mapping] = resources("Lambda::EventSourceMapping").values()
    [(name, queue)] = resources("SQS::Queue").items()

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
        "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": [name, "Arn"]}}},
    }
    assert queue == {"MessageRetentionPeriod": 14 * 24 * 3600, "SqsManagedSseEnabled": True}


def test_a_change_that_always_fails_is_given_up_while_the_stream_still_has_it() -> None:
    [mapping] = resources("Lambda::EventSourceMapping").values()
    age = timedelta(seconds=mapping["MaximumRecordAgeInSeconds"])

    assert age < timedelta(hours=24)


def test_a_batch_of_changes_has_time_for_a_store_that_is_slow_once() -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[CHANGES]["Timeout"])
    [mapping] = resources("Lambda::EventSourceMapping").values()
    ordinary = mapping["BatchSize"] * timedelta(milliseconds=500)

    assert timeout > ordinary + LONGEST_STORE_CALL


def test_the_table_tells_of_its_changes_with_what_was_there_before() -> None:
    table = resources("DynamoDB::Table")["ConnectionsTable"]

    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_a_table_that_has_no_index_yet_can_be_given_one_at_a_time() -> None:
    table = resources("DynamoDB::Table", AccountIndex="false")["ConnectionsTable"]

    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == ["byClient"]
    attributes = {definition["AttributeName"] for definition in table["AttributeDefinitions"]}
    assert attributes == {"connectionId", "indexedClient"}


def test_connections_are_found_by_client_and_by_account_whole() -> None:
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


def test_presence_has_a_table_of_its_own_whose_name_is_nobodys_choice() -> None:
    assert resources("DynamoDB::Table")["PresenceTable"] == {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
        "SSESpecification": {"SSEEnabled": True},
    }


def test_the_table_forgets_expired_rows_and_nothing_else() -> None:
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
def test_what_others_depend_on_outlives_the_stack(resource: str) -> None:
    kept = transformed()["Resources"][resource]

    assert kept["DeletionPolicy"] == kept["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize(
    "resource",
    ["PresenceTable", "FailedChangesQueue", *(log for _, _, log in FUNCTIONS.values()), "AccessLogGroup"],
)
def test_what_nobody_else_reads_goes_with_the_stack(resource: str) -> None:
    gone = transformed()["Resources"][resource]

    assert gone["DeletionPolicy"] == gone["UpdateReplacePolicy"] == "Delete"


def test_every_record_is_counted_in_the_log_that_it_is_written_to() -> None:
    written = {
        *((event, log) for event in records(routes) for log in ("ConnectLogGroup", "DisconnectLogGroup")),
        *((event, "SweepLogGroup") for event in records(sweeping)),
        *((event, "ChangesLogGroup") for event in records(changes)),
    }
    one_route_only = {
        ("connection.opened", "DisconnectLogGroup"),
        ("handshake.rejected", "DisconnectLogGroup"),
        ("handshake.too_late", "DisconnectLogGroup"),
        ("connection.closed", "ConnectLogGroup"),
    }

    assert one_route_only < written
    assert counted() == written - one_route_only


def test_a_record_counts_once_in_its_streams_own_namespace_and_any_other_record_as_zero() -> None:
    for name, metric_filter in resources("Logs::MetricFilter").items():
        if name in FIGURES:
            continue
        [transformation] = metric_filter["MetricTransformations"]
        facts = {key: value for key, value in transformation.items() if key != "MetricName"}
        [event] = events_in(metric_filter["FilterPattern"])

        assert metric_filter["FilterPattern"] == f'{{ $.event = "{event}"{FURTHER.get(name, "")} }}', name
        assert facts == {
            "MetricNamespace": OURS,
            "MetricValue": "1",
            "DefaultValue": 0,
            "Unit": "Count",
        }, name


@pytest.mark.parametrize("name", FIGURES)
def test_a_sweeps_figure_is_a_field_of_its_record_that_the_filter_asks_for(name: str) -> None:
    metric_filter = resources("Logs::MetricFilter")[name]
    metric, field, pattern = FIGURES[name]
    written = Path(str(sweeping.__file__)).read_text(encoding="utf-8")
    by_segment = {  # CloudWatch Logs refuses a default beside dimensions
        "Dimensions": [
            {"Key": "Segment", "Value": "$.segment"},
            {"Key": "Segments", "Value": "$.segments"},
        ]
    }

    assert metric_filter["FilterPattern"] == pattern
    assert f"$.{field} = *" in pattern  # a record without it would be no number
    assert {it for it in re.findall(r"\$\.(\w+)", pattern) if f'"{it}":' not in written} == set()
    assert metric_filter["MetricTransformations"] == [
        {
            "MetricNamespace": OURS,
            "MetricName": metric,
            "MetricValue": f"$.{field}",
            "Unit": "Count",
        }
        | (by_segment if metric == "OpenConnections" else {"DefaultValue": 0})
    ]


def test_filters_make_one_metric_of_one_event_or_figure() -> None:
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


def watched(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """The metrics that *alarm* looks at, each with its namespace and dimensions."""
    if "Metrics" not in alarm:
        return [alarm]
    return [it["MetricStat"]["Metric"] for it in alarm["Metrics"] if "MetricStat" in it]


def test_every_alarm_is_one_of_the_table_and_as_it_stands_there() -> None:
    alarms = resources("CloudWatch::Alarm")
    judged = {
        name: {key: value for key, value in alarm.items() if key not in {"AlarmDescription", "AlarmActions"}}
        for name, alarm in alarms.items()
    }

    assert judged.keys() == ALARMS.keys()
    for name, alarm in judged.items():
        assert alarm == ALARMS[name], name


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_watches_metrics_that_exist(name: str) -> None:
    for metric in watched(ALARMS[name]):
        if metric["Namespace"] == OURS:
            assert (json.dumps(OURS), metric["MetricName"]) in metrics()
        else:
            assert metric["MetricName"] in AWS_METRICS[metric["Namespace"]]


def test_alarms_cover_what_can_fail() -> None:
    of_functions = {
        (alarm["MetricName"], alarm["Dimensions"][0]["Value"]["Ref"])
        for alarm in ALARMS.values()
        if alarm.get("Namespace") == "AWS/Lambda"
    }

    assert of_functions >= {
        (metric, function) for metric in ("Errors", "Throttles") for function in FUNCTIONS
    }


def test_a_sweep_that_does_not_come_raises_an_alarm_and_a_rare_one_does_not() -> None:
    alarm = resources("CloudWatch::Alarm")["SweepMissingAlarm"]
    looks_back = alarm["EvaluationPeriods"] * timedelta(seconds=alarm["Period"])
    rarest = timedelta(minutes=source()["Parameters"]["SweepMinutes"]["MaxValue"])

    assert looks_back - timedelta(seconds=alarm["Period"]) > rarest
    assert looks_back < LONGEST_CONNECTION


def test_changes_that_wait_raise_an_alarm_before_they_are_given_up() -> None:
    late = resources("CloudWatch::Alarm")["ChangesLateAlarm"]
    [mapping] = resources("Lambda::EventSourceMapping").values()
    after = timedelta(milliseconds=late["Threshold"]) + late["EvaluationPeriods"] * timedelta(
        seconds=late["Period"]
    )

    assert after < timedelta(seconds=mapping["MaximumRecordAgeInSeconds"])


def test_sweeps_without_answers_are_judged_by_about_three_of_them() -> None:
    unanswered, asked, _ = resources("CloudWatch::Alarm")["SweepQuestionsUnansweredAlarm"]["Metrics"]
    every = timedelta(minutes=source()["Parameters"]["SweepMinutes"]["Default"])
    periods = {timedelta(seconds=it["MetricStat"]["Period"]) for it in (unanswered, asked)}

    assert periods == {3 * every}


def dashboard() -> list[dict[str, Any]]:
    """The widgets of the dashboard; what is of a parameter or a resource is as the template has it."""
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
                    assert dimensions == {"QueueName": "${FailedChangesQueue.QueueName}"}
                case _:
                    assert (json.dumps({"Fn::Sub": namespace}), metric) in metrics()
                    assert dimensions == {}


def test_the_dashboard_shows_open_connections_as_the_sum_of_what_each_segment_had_last() -> None:
    [expression] = [
        metric[0]["expression"]
        for widget in dashboard()
        for metric in widget["properties"]["metrics"]
        if isinstance(metric[0], dict)
    ]
    schema = '{"Switchboard/${AWS::StackName}",Segment,Segments} MetricName="OpenConnections"'
    of_today = 'Segments="${SweepSegments}"'  # those of another number are parts of other sizes

    assert expression == f"SUM(FILL(SEARCH('{schema} {of_today}', 'Maximum', 300), REPEAT))"


def drawn(metric: list[Any]) -> tuple[str, str]:
    """The label of a widget's line, and what it is, in the words of ``DASHBOARD``."""
    *names, options = metric
    extras = {key: value for key, value in options.items() if key not in {"label", "id", "expression"}}
    assert extras.keys() <= {"stat", "yAxis"}
    of = [name[2:-1] for name in names[3::2]]  # ${ConnectFunction}
    what = " ".join([names[1], *of]) if names else "expression"
    return options["label"], ", ".join([what, *(extras[key] for key in ("stat", "yAxis") if key in extras)])


def test_the_dashboard_shows_each_figure_under_its_name() -> None:
    shown = {widget["properties"].pop("title"): widget["properties"] for widget in dashboard()}

    assert shown.keys() == DASHBOARD.keys()
    for title, (statistic, period, lines) in DASHBOARD.items():
        properties = shown[title]
        assert [drawn(metric) for metric in properties.pop("metrics")] == list(lines.items()), title
        assert properties == {"region": "${AWS::Region}", "stat": statistic, "period": period}, title


def test_what_is_per_minute_on_the_dashboard_is_summed_by_the_minute() -> None:
    for title, (statistic, period, _) in DASHBOARD.items():
        if "per minute" in title:
            assert (statistic, period) == ("Sum", 60), title


def test_every_metric_of_the_filters_is_on_the_dashboard() -> None:
    shown = {line.partition(",")[0] for _, _, lines in DASHBOARD.values() for line in lines.values()}

    assert {metric for _, metric in metrics()} - shown == {"OpenConnections"}  # it is in the expression


def test_the_dashboards_widgets_do_not_overlap() -> None:
    places = {(widget["x"], widget["y"]) for widget in dashboard()}

    assert len(places) == len(dashboard())
    assert {(widget["width"], widget["height"]) for widget in dashboard()} == {(12, 6)}
    assert all(x in {0, 12} and y % 6 == 0 for x, y in places)


def test_slow_handshakes_are_judged_by_the_slowest_hundredth() -> None:
    alarm = resources("CloudWatch::Alarm", SlowHandshakeMilliseconds="1500")["SlowHandshakesAlarm"]

    assert (alarm["MetricName"], alarm["ExtendedStatistic"]) == ("IntegrationLatency", "p99")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", "1500")


def test_every_alarm_says_what_to_do_first_and_goes_to_the_topic_where_there_is_one() -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:alarms"
    for name, alarm in resources("CloudWatch::Alarm", AlarmTopicArn=topic).items():
        assert re.search(r"\. First .+", alarm["AlarmDescription"]), name
        assert len(alarm["AlarmDescription"]) <= 1024, name  # CloudWatch's limit
        assert alarm["AlarmActions"] == {"Fn::If": ["HasAlarmTopic", [topic], {"Ref": "AWS::NoValue"}]}, name


def test_no_log_is_kept_for_ever() -> None:
    groups = resources("Logs::LogGroup", LogRetentionDays="7")

    assert {name: group["RetentionInDays"] for name, group in groups.items()} == {
        "AccessLogGroup": "7",
        "ConnectLogGroup": "7",
        "DisconnectLogGroup": "7",
        "SweepLogGroup": "7",
        "ChangesLogGroup": "7",
    }


def test_the_stage_is_throttled_and_measured_route_by_route() -> None:
    [stage] = resources("ApiGatewayV2::Stage", ThrottlingRateLimit="50", ThrottlingBurstLimit="20").values()

    assert stage["DefaultRouteSettings"] == {
        "DetailedMetricsEnabled": True,
        "ThrottlingRateLimit": "50",
        "ThrottlingBurstLimit": "20",
    }
    assert stage["RouteSettings"].keys() == {"$disconnect"}
    assert stage["RouteSettings"]["$disconnect"]["DetailedMetricsEnabled"] is True


def test_a_disconnect_is_not_throttled_before_a_connect() -> None:
    [stage] = resources("ApiGatewayV2::Stage").values()
    connect, disconnect = stage["DefaultRouteSettings"], stage["RouteSettings"]["$disconnect"]

    assert disconnect["ThrottlingRateLimit"] > connect["ThrottlingRateLimit"]
    assert disconnect["ThrottlingBurstLimit"] > connect["ThrottlingBurstLimit"]


def test_the_access_log_is_json_and_names_nothing_that_could_carry_a_token() -> None:
    [stage] = resources("ApiGatewayV2::Stage").values()
    text = stage["AccessLogSettings"]["Format"]
    variables = [value.removeprefix("$context.") for value in json.loads(text).values()]

    assert stage["AccessLogSettings"]["DestinationArn"] == {"Fn::GetAtt": ["AccessLogGroup", "Arn"]}
    assert "\n" not in text
    assert text.count("$") == len(variables)
    assert set(variables) <= HARMLESS


def test_the_stage_waits_for_the_role_that_writes_its_access_log() -> None:
    group = transformed()["Resources"]["AccessLogGroup"]  # the stage refers to it, and so waits for it
    account = resources("ApiGateway::Account")["ApiGatewayAccount"]
    condition, waits_for, _ = group["Metadata"]["Account"]["Fn::If"]

    assert condition == "SetsUpApiGatewayLogging"
    assert waits_for == {"Ref": "ApiGatewayAccount"}
    assert account["CloudWatchRoleArn"] == {"Fn::GetAtt": ["ApiGatewayLogRole", "Arn"]}


def test_the_role_that_writes_access_logs_is_api_gateways_and_may_do_only_that() -> None:
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
def test_every_parameter_reaches_something(parameter: str) -> None:
    value = "4242" if source()["Parameters"][parameter]["Type"] == "Number" else "a-value-of-its-own"
    ordinary, changed = transformed(), transformed(**{parameter: value})

    assert changed["Resources"] != ordinary["Resources"] or changed["Conditions"] != ordinary["Conditions"]


@pytest.mark.parametrize("resource", ["ApiGatewayAccount", "ApiGatewayLogRole"])
def test_an_account_that_has_a_role_for_access_logs_keeps_it(resource: str) -> None:
    template = transformed(SetUpApiGatewayLogging="false")

    assert template["Resources"][resource]["Condition"] == "SetsUpApiGatewayLogging"
    assert template["Conditions"]["SetsUpApiGatewayLogging"] == {"Fn::Equals": ["false", "true"]}


def test_several_streams_stand_side_by_side() -> None:
    named = {
        (key, json.dumps(value))
        for resource in source()["Resources"].values()
        for key, value in resource["Properties"].items()
        if key in {"Name", "TableName", "RoleName", "AlarmName", "FilterName", "QueueName", "DashboardName"}
        or (key == "FunctionName" and resource["Type"] == "AWS::Serverless::Function")
        or (key == "LogGroupName" and resource["Type"] == "AWS::Logs::LogGroup")
    }

    assert ("TableName", '{"Ref": "TableName"}') in named
    assert all("AWS::StackName" in name for key, name in named if key != "TableName")


def test_the_outputs_tell_where_to_connect_and_what_was_made() -> None:
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
    assert outputs["DashboardName"] == {"Ref": "Dashboard"}
