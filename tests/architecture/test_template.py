"""What infra/template.yaml promises, read from the CloudFormation that the SAM transform makes of it."""

import ast
import importlib.util
import json
import re
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from app.entrypoints import routes
from app.settings import LONGEST_STORE_CALL, Settings
from tests.template import PATH, source, transformed

API_GATEWAY_GIVES_UP = timedelta(seconds=29)

CONNECT, DISCONNECT = "ConnectFunction", "DisconnectFunction"
each_function = pytest.mark.parametrize("function", [CONNECT, DISCONNECT])

AWS_METRICS = {
    "AWS/Lambda": {"Errors", "Throttles", "Duration", "Invocations", "ConcurrentExecutions"},
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
    table = resources("DynamoDB::Table", **parameters)["ConnectionsTable"]["TableName"]
    known = {
        name: table if value == {"Ref": "ConnectionsTable"} else str(value)
        for name, value in variables.items()
    }
    return known | {"AWS_REGION": "eu-central-1"}


def records() -> set[str]:
    """The event names that the routes write into their log records."""
    tree = ast.parse(Path(routes.__file__).read_text(encoding="utf-8"))
    return {
        value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "event"
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }


def counted() -> set[tuple[str, str]]:
    """The event names that metric filters look for, each with the log group that they look in."""
    counted: set[tuple[str, str]] = set()
    for name, metric_filter in resources("Logs::MetricFilter").items():
        match = re.fullmatch(
            r'\{ \$\.event = "([^"]+)"(?: && \$\.repeated IS FALSE)? \}', metric_filter["FilterPattern"]
        )
        assert match, name
        counted.add((match[1], metric_filter["LogGroupName"]["Ref"]))
    return counted


def metrics() -> set[tuple[str, str]]:
    """The metrics that the filters make, each with its namespace."""
    return {
        (json.dumps(transformation["MetricNamespace"]), transformation["MetricName"])
        for metric_filter in resources("Logs::MetricFilter").values()
        for transformation in metric_filter["MetricTransformations"]
    }


@pytest.mark.parametrize(
    ("function", "role", "action", "log_group"),
    [
        (CONNECT, "ConnectRole", "dynamodb:PutItem", "ConnectLogGroup"),
        (DISCONNECT, "DisconnectRole", "dynamodb:DeleteItem", "DisconnectLogGroup"),
    ],
)
def test_a_function_may_do_its_one_thing_to_the_one_table_and_write_its_own_log(
    function: str, role: str, action: str, log_group: str
) -> None:
    roles = resources("IAM::Role")

    assert resources("Lambda::Function")[function]["Role"] == {"Fn::GetAtt": [role, "Arn"]}
    assert sorted(permissions(roles[role]), key=repr) == [
        (action, {"Fn::GetAtt": ["ConnectionsTable", "Arn"]}),
        ("logs:CreateLogStream", {"Fn::GetAtt": [log_group, "Arn"]}),
        ("logs:PutLogEvents", {"Fn::GetAtt": [log_group, "Arn"]}),
    ]


@pytest.mark.parametrize("role", ["ConnectRole", "DisconnectRole"])
def test_only_lambda_takes_a_functions_role_and_nothing_else_widens_it(role: str) -> None:
    properties = resources("IAM::Role")[role]
    trust = properties["AssumeRolePolicyDocument"]["Statement"]
    policies_elsewhere = [resources(f"IAM::{kind}") for kind in ("Policy", "RolePolicy", "ManagedPolicy")]

    assert properties.keys() == {"AssumeRolePolicyDocument", "Policies"}
    assert trust == [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]
    assert not any(policies_elsewhere)


def test_the_functions_share_one_image_and_differ_by_their_command() -> None:
    as_written = [source()["Resources"][function] for function in (CONNECT, DISCONNECT)]
    builds = [function["Metadata"] for function in as_written]
    functions = resources("Lambda::Function")
    context = PATH.parent / builds[0]["DockerContext"]

    assert functions.keys() == {CONNECT, DISCONNECT}
    assert builds[0] == builds[1]
    assert (context / builds[0]["Dockerfile"]).is_file()
    assert {function["PackageType"] for function in functions.values()} == {"Image"}
    assert len({json.dumps(function["ImageConfig"]) for function in functions.values()}) == len(functions)


@pytest.mark.parametrize(("function", "name"), [(CONNECT, "connect"), (DISCONNECT, "disconnect")])
def test_a_functions_command_names_a_callable_that_starts_with_its_environment(
    function: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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


@each_function
def test_a_function_outlasts_its_store_call_and_ends_before_the_gateway_gives_up(function: str) -> None:
    timeout = timedelta(seconds=resources("Lambda::Function")[function]["Timeout"])
    integrations = resources("ApiGatewayV2::Integration").values()

    assert LONGEST_STORE_CALL < timeout < API_GATEWAY_GIVES_UP
    for integration in integrations:
        assert timeout < timedelta(milliseconds=integration["TimeoutInMillis"]) <= API_GATEWAY_GIVES_UP


@each_function
def test_a_functions_environment_makes_settings(function: str) -> None:
    settings = Settings.from_environ(environment(function))

    assert settings == Settings(table="IncidentWebSocketConnections", region="eu-central-1")


@each_function
def test_another_stream_is_another_table(function: str) -> None:
    settings = Settings.from_environ(environment(function, TableName="SecurityEventWebSocketConnections"))

    assert settings.table == "SecurityEventWebSocketConnections"


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
    longest_connection = timedelta(hours=2)  # API Gateway's quota for WebSocket APIs
    shortest_lifetime = timedelta(hours=source()["Parameters"]["TtlHours"]["MinValue"])

    assert shortest_lifetime > longest_connection


def test_the_table_forgets_expired_rows_and_nothing_else() -> None:
    table = resources("DynamoDB::Table")["ConnectionsTable"]

    assert table["KeySchema"] == [{"AttributeName": "connectionId", "KeyType": "HASH"}]
    assert table["AttributeDefinitions"] == [{"AttributeName": "connectionId", "AttributeType": "S"}]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["DeletionProtectionEnabled"] is True
    assert table["BillingMode"] == "PAY_PER_REQUEST"


@pytest.mark.parametrize("resource", ["ConnectionsTable", "ApiGatewayAccount", "ApiGatewayLogRole"])
def test_what_others_depend_on_outlives_the_stack(resource: str) -> None:
    kept = transformed()["Resources"][resource]

    assert kept["DeletionPolicy"] == kept["UpdateReplacePolicy"] == "Retain"


def test_every_record_is_counted_in_the_log_that_it_is_written_to() -> None:
    assert {event for event, _ in counted()} == records()
    assert counted() == {
        ("connection.opened", "ConnectLogGroup"),
        ("connection.closed", "DisconnectLogGroup"),
        ("handshake.rejected", "ConnectLogGroup"),
        ("store.unavailable", "ConnectLogGroup"),
        ("store.unavailable", "DisconnectLogGroup"),
        ("bug", "ConnectLogGroup"),
        ("bug", "DisconnectLogGroup"),
    }


def test_a_record_counts_once_in_its_streams_own_namespace_and_any_other_record_as_zero() -> None:
    for name, metric_filter in resources("Logs::MetricFilter").items():
        [transformation] = metric_filter["MetricTransformations"]
        facts = {key: value for key, value in transformation.items() if key != "MetricName"}

        assert facts == {
            "MetricNamespace": {"Fn::Sub": "Switchboard/${AWS::StackName}"},
            "MetricValue": "1",
            "DefaultValue": 0,
            "Unit": "Count",
        }, name


def test_filters_make_one_metric_of_one_event() -> None:
    filters = resources("Logs::MetricFilter").values()
    pairs = {(f["FilterPattern"], f["MetricTransformations"][0]["MetricName"]) for f in filters}

    assert len(pairs) == len({pattern for pattern, _ in pairs}) == len({metric for _, metric in pairs})


def test_every_alarm_watches_a_metric_that_exists() -> None:
    functions = resources("Lambda::Function")
    for name, alarm in resources("CloudWatch::Alarm").items():
        namespace, metric = alarm["Namespace"], alarm["MetricName"]
        dimensions = {dimension["Name"]: dimension["Value"] for dimension in alarm.get("Dimensions", [])}

        match namespace:
            case "AWS/Lambda":
                assert metric in AWS_METRICS[namespace], name
                assert dimensions.keys() == {"FunctionName"}, name
                assert dimensions["FunctionName"]["Ref"] in functions, name
            case "AWS/ApiGateway":
                assert metric in AWS_METRICS[namespace], name
                assert dimensions == {"ApiId": {"Ref": "WebSocketApi"}, "Stage": "prod"}, name
            case _:
                assert (json.dumps(namespace), metric) in metrics(), name
                assert dimensions == {}, name


def test_alarms_cover_errors_throttles_store_failures_bugs_and_slow_handshakes() -> None:
    alarms = resources("CloudWatch::Alarm").values()
    watched = {
        (alarm["MetricName"], dimension["Value"]["Ref"])
        for alarm in alarms
        if alarm["Namespace"] == "AWS/Lambda"
        for dimension in alarm["Dimensions"]
    } | {(alarm["MetricName"], "") for alarm in alarms if alarm["Namespace"] != "AWS/Lambda"}

    assert watched == {
        ("Errors", CONNECT),
        ("Errors", DISCONNECT),
        ("Throttles", CONNECT),
        ("Throttles", DISCONNECT),
        ("StoreUnavailable", ""),
        ("Bugs", ""),
        ("IntegrationLatency", ""),
    }


def test_one_fault_raises_an_alarm_and_silence_raises_none() -> None:
    for name, alarm in resources("CloudWatch::Alarm").items():
        assert alarm["TreatMissingData"] == "notBreaching", name
        if alarm["MetricName"] != "IntegrationLatency":
            assert alarm["Statistic"] == "Sum", name
            assert alarm["EvaluationPeriods"] == 1, name
            assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold", name
            assert alarm["Threshold"] == 1, name


def test_slow_handshakes_are_judged_by_the_slowest_hundredth() -> None:
    alarm = resources("CloudWatch::Alarm", SlowHandshakeMilliseconds="1500")["SlowHandshakesAlarm"]

    assert (alarm["MetricName"], alarm["ExtendedStatistic"]) == ("IntegrationLatency", "p99")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", "1500")


def test_every_alarm_says_what_to_do_first_and_goes_to_the_topic_where_there_is_one() -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:alarms"
    for name, alarm in resources("CloudWatch::Alarm", AlarmTopicArn=topic).items():
        assert re.search(r"\. First .+", alarm["AlarmDescription"]), name
        assert alarm["AlarmActions"] == {"Fn::If": ["HasAlarmTopic", [topic], {"Ref": "AWS::NoValue"}]}, name


@pytest.mark.parametrize(
    ("function", "log_group"), [(CONNECT, "ConnectLogGroup"), (DISCONNECT, "DisconnectLogGroup")]
)
def test_a_function_writes_json_to_its_own_log_group(function: str, log_group: str) -> None:
    assert resources("Lambda::Function")[function]["LoggingConfig"] == {
        "LogFormat": "JSON",
        "ApplicationLogLevel": "INFO",
        "LogGroup": {"Ref": log_group},
    }


def test_no_log_is_kept_for_ever() -> None:
    groups = resources("Logs::LogGroup", LogRetentionDays="7")

    assert {name: group["RetentionInDays"] for name, group in groups.items()} == {
        "AccessLogGroup": "7",
        "ConnectLogGroup": "7",
        "DisconnectLogGroup": "7",
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
        if key in {"Name", "TableName", "FunctionName", "RoleName", "AlarmName", "FilterName"}
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
