"""What infra/template.yaml creates that costs money by the month, for given parameters."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from samtranslator.yaml_helper import yaml_parse

_PATH = Path(__file__).parents[1] / "template.yaml"
_ROUTE_METRICS = 6  # that API Gateway has of a WebSocket route (its developer guide, 'CloudWatch metrics')
_MINUTES = 30 * 24 * 60  # of a month

type Parameters = Mapping[str, str]
type Resources = Mapping[str, Mapping[str, Any]]


class Fixed(NamedTuple):
    """Numbers of what a stack has.

    ``schedules`` are invocations in 30 days. ``reported`` are the functions of whose invocations
    Lambda writes its own log records.
    """

    metrics: int
    route_metrics: int
    alarms: int
    dashboards: int
    polled_queues: int
    schedules: float
    indexes: int
    access_log: str
    reported: frozenset[str]


class Template:
    """The template with *parameters*, the others at their defaults."""

    def __init__(self, parameters: Parameters) -> None:
        self._source = _source()
        declared = self._source["Parameters"]
        if unknown := sorted(set(parameters) - set(declared)):
            raise ValueError(f"The template has no parameter {', '.join(unknown)}.")
        for name, value in parameters.items():
            if problem := _problem(value, declared[name]):
                raise ValueError(f"{name} can't be {value!r}: it {problem}.")
        self.values = {name: str(it["Default"]) for name, it in declared.items()} | dict(parameters)

    def broken_rule(self) -> str | None:
        """Return what the template's rules have against these parameters together."""
        conditions = self._source["Conditions"]
        for rule in self._source["Rules"].values():
            if holds(rule["RuleCondition"], conditions, self.values):
                for assertion in rule["Assertions"]:
                    if not holds(assertion["Assert"], conditions, self.values):
                        return str(assertion["AssertDescription"])
        return None

    def fixed(self) -> Fixed:
        """Return what the stack has."""
        resources = {
            name: it
            for name, it in self._source["Resources"].items()
            if "Condition" not in it or self._holds(it["Condition"])
        }
        api = resources["WebSocketApi"]["Properties"]
        settings = [api["DefaultRouteSettings"], *api["RouteSettings"].values()]
        routes = sum(self._is_on(it.get("DetailedMetricsEnabled", False)) for it in settings)
        return Fixed(
            metrics=self._metrics(resources),
            route_metrics=routes * _ROUTE_METRICS,
            alarms=sum(_metrics_read(it) for it in _of(resources, "AWS::CloudWatch::Alarm")),
            dashboards=len(list(_of(resources, "AWS::CloudWatch::Dashboard"))),
            polled_queues=sum(map(_is_of_a_queue, _of(resources, "AWS::Lambda::EventSourceMapping"))),
            schedules=sum(self._runs(it) for it in _of(resources, "AWS::Scheduler::Schedule")),
            indexes=len(self._indexes(resources)),
            access_log=str(api["AccessLogSettings"]["Format"]),
            reported=frozenset(self._reported(resources)),
        )

    def _metrics(self, resources: Resources) -> int:
        """Return the number of metrics: several filters may count into one, and each segment has its own."""
        names = {}
        for properties in _of(resources, "AWS::Logs::MetricFilter"):
            [transformation] = properties["MetricTransformations"]
            dimensions = {it["Key"] for it in transformation.get("Dimensions", [])}
            names[transformation["MetricName"]] = (
                int(self.values["SweepSegments"]) if "Segment" in dimensions else 1
            )
        return sum(names.values())

    def _runs(self, schedule: Mapping[str, Any]) -> float:
        expression = schedule["ScheduleExpression"]
        text = expression if isinstance(expression, str) else expression["Fn::Sub"]
        text = re.sub(r"\$\{(\w+)\}", lambda found: self.values[found[1]], text)
        found = re.fullmatch(r"rate\((\d+) minutes\)", text)
        if found is None:
            raise NotImplementedError(text)
        return _MINUTES / int(found[1])

    def _indexes(self, resources: Resources) -> list[Any]:
        for indexes in self._included(
            [resources["ConnectionsTable"]["Properties"]["GlobalSecondaryIndexes"]]
        ):
            return list(self._included(indexes))
        return []

    def _reported(self, resources: Resources) -> Iterator[str]:
        usual = self._source["Globals"]["Function"]["LoggingConfig"]["SystemLogLevel"]
        for name, resource in resources.items():
            if resource["Type"] == "AWS::Serverless::Function":
                level = resource["Properties"]["LoggingConfig"].get("SystemLogLevel", usual)
                if (self.values[level["Ref"]] if isinstance(level, dict) else level) == "INFO":
                    yield name

    def _included(self, nodes: list[Any]) -> Iterator[Any]:
        for node in nodes:
            match node:
                case {"Fn::If": [condition, included, _]}:
                    if self._holds(condition):
                        yield included
                case _:
                    yield node

    def _is_on(self, value: Any) -> bool:
        return self.values[value["Ref"]] == "true" if isinstance(value, dict) else bool(value)

    def _holds(self, name: str) -> bool:
        return holds({"Condition": name}, self._source["Conditions"], self.values)


@cache
def _source() -> dict[str, Any]:
    source: dict[str, Any] = json.loads(json.dumps(yaml_parse(_PATH.read_text()), default=str))
    return source


def holds(condition: Any, conditions: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Return whether *condition* holds in a template with *conditions*, its parameters having *values*."""
    match condition:
        case {"Condition": str(name)}:
            return holds(conditions[name], conditions, values)
        case {"Fn::Equals": [{"Ref": str(parameter)}, value]}:
            return str(values[parameter]) == str(value)
        case {"Fn::Not": [child]}:
            return not holds(child, conditions, values)
        case {"Fn::And": children}:
            return all(holds(child, conditions, values) for child in children)
        case {"Fn::Or": children}:
            return any(holds(child, conditions, values) for child in children)
        case _:
            raise NotImplementedError(condition)


def _problem(value: str, declared: Mapping[str, Any]) -> str | None:
    """Return what CloudFormation has against *value* for a parameter that is *declared* so."""
    allowed = [str(it) for it in declared.get("AllowedValues", [])]
    if allowed and value not in allowed:
        return f"must be one of {', '.join(allowed)}"
    if "AllowedPattern" in declared and not re.fullmatch(declared["AllowedPattern"], value):
        return str(declared["ConstraintDescription"])
    if declared["Type"] == "Number":
        if not re.fullmatch(r"[0-9]{1,12}", value):
            return "must be a whole number"
        if int(value) < int(declared.get("MinValue", 0)):
            return f"must be {declared['MinValue']} or more"
        if int(value) > int(declared.get("MaxValue", value)):
            return f"must be {declared['MaxValue']} or less"
    return None


def _of(resources: Resources, kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield the properties of the resources of that *kind*."""
    return (resource["Properties"] for resource in resources.values() if resource["Type"] == kind)


def _metrics_read(alarm: Mapping[str, Any]) -> int:
    """Return the number of metrics that an alarm reads: it is charged for each."""
    return sum("MetricStat" in query for query in alarm.get("Metrics", [])) or 1


def _is_of_a_queue(mapping: Mapping[str, Any]) -> bool:
    match mapping["EventSourceArn"]:
        case {"Fn::GetAtt": [_, "Arn"]}:
            return True
    return False
